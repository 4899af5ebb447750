"""The file of a construction: an .npz from which all that it claims is derived again.

`certificate`: JSON as uint8; the target's arrays (edgeticket.relu_network); kept1, kept2, ...: for each layer of the target a bitmap
[outputs, 2 n inputs] of what stays of the second random layer, lowest bit first. The random weights follow from the seed.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr
from typing import Any

import numpy as np

from edgeticket.certificate import FORMAT, certified
from edgeticket.construct import Construction, Settings
from edgeticket.data import Data
from edgeticket.datasets import npz
from edgeticket.errors import EdgeTicketError, EquivalenceError, TicketError
from edgeticket.prng import GENERATOR
from edgeticket.relu_network import parse

SAME, TINY = 1e-9, 1e-12  # relative, absolute: two machines may add floats in different orders


def to_bytes(construction: Construction, certificate: Mapping[str, Any]) -> bytes:
    text = json.dumps(certificate, sort_keys=True).encode()
    bitmaps = {f"kept{i}": np.packbits(mask, bitorder="little") for i, mask in enumerate(construction.masks, 1)}
    stream = io.BytesIO()
    arrays: dict[str, Any] = {"certificate": np.frombuffer(text, np.uint8), **construction.target.arrays(), **bitmaps}
    np.savez(stream, **arrays)
    return stream.getvalue()


def read(path: Path) -> tuple[Construction, dict[str, Any]]:
    """A construction and the certificate that its file claims. Raises TicketError where it is none."""
    arrays = dict(npz.read(path).arrays)
    try:
        if "certificate" not in arrays:
            raise TicketError("it holds no certificate")
        claimed = json.loads(arrays.pop("certificate").tobytes())
        if claimed["format"] != FORMAT or claimed["generator"] != GENERATOR:
            raise TicketError(
                f"it is of {claimed['format']!r}, {claimed['generator']!r}; this program reads {FORMAT!r}, {GENERATOR!r}"
            )
        bitmaps = {name: arrays.pop(name) for name in list(arrays) if name.startswith("kept")}
        target = parse(arrays)
        settings = Settings(float(claimed["eps"]), int(claimed["n"]), int(claimed["k"]), int(claimed["seed"]))
        construction = Construction(target, settings, ())
        masks = tuple(
            _mask(bitmaps.pop(f"kept{i}"), pair.second.shape) for i, (_, pair) in enumerate(construction.pairs, 1)
        )
        if bitmaps:
            raise TicketError(f"it holds {', '.join(bitmaps)}, which belongs to no layer")
        return Construction(target, settings, masks), claimed
    except (EdgeTicketError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise TicketError(f"{path} is not a construction: {error}: construct it again") from error


def _mask(bitmap: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    size = shape[0] * shape[1]
    if bitmap.dtype != np.uint8 or bitmap.shape != (-(-size // 8),):
        raise TicketError(f"a bitmap is {bitmap.dtype} {bitmap.shape}, for {size} weights")
    bits = np.unpackbits(bitmap, bitorder="little")
    if bits[size:].any():
        raise TicketError("a bitmap has bits beyond its last weight")
    return bits[:size].reshape(shape).astype(bool)


def check(path: Path, data: Data | None = None) -> dict[str, Any]:
    """The certificate of a file, derived again. Raises TicketError where it is none, EquivalenceError where it differs.

    What the file claims of data is derived again where `data` are the same.
    """
    construction, claimed = read(path)
    seen, found = claimed.pop("observed", None), certified(construction, data)
    again = found.get("observed")
    _require_same(claimed, {name: value for name, value in found.items() if name != "observed"})
    if isinstance(seen, dict) and again and seen.get("digest") == again["digest"]:
        _require_same(seen, again, "observed")
    return found


def _require_same(claimed: Any, found: Any, where: str = "certificate") -> None:
    """Raise EquivalenceError at the first value of a claimed certificate that was not found again."""
    if isinstance(found, dict) and isinstance(claimed, dict) and found.keys() == claimed.keys():
        for key in found:
            _require_same(claimed[key], found[key], f"{where}.{key}")
    elif isinstance(found, list) and isinstance(claimed, list) and len(found) == len(claimed):
        for i, pair in enumerate(zip(claimed, found, strict=True)):
            _require_same(*pair, f"{where}[{i}]")
    elif type(found) is not type(claimed) or not _same(claimed, found):
        raise EquivalenceError(
            f"{where} is {repr(claimed)} in the file, {repr(found)} when derived again: do not trust it"
        )


def _same(claimed: Any, found: Any) -> bool:
    if isinstance(found, float):
        return abs(claimed - found) <= SAME * abs(found) + TINY
    return bool(claimed == found)
