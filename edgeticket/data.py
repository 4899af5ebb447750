"""Data for a search: three parts that never mix, raw as the sensor gives them, and the map to the network's input.

`train` is learned from, `select` chooses, `certify` is touched by neither and backs every claim. With a test set, certify is
all of it and select 20 % of the training set; without, certify is 20 % too. Which part an example goes to is a hash of its
index, or of its group (a part, a lot) where groups are given: the same on every machine, and unchanged when examples are
appended. Nothing here touches a network.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.datasets import digits, fashion_mnist, folder, function, npz
from edgeticket.datasets.arrays import LAYOUTS, Arrays, Part, check
from edgeticket.datasets.raw import Raw
from edgeticket.errors import DataError, UsageError
from edgeticket.ticket import Input

__all__ = ["LAYOUTS", "Data", "load", "names", "summary"]

SHARE = 0.2
MIN_PART = 2
PARTS = ("train", "select", "certify")
_NAMED = {"digits": digits, "fashion-mnist": fashion_mnist}
_FORMS = "FILE.npz, a folder with a sub-folder of images per class, or FILE.py:FUNCTION"


@dataclass(frozen=True)
class Data:
    """Each part is (x, y): x raw, uint8, int16 or float32, [n, c, h, w], [n, c, length] or [n, features]; y int64 [n]."""

    name: str
    train: Part
    select: Part
    certify: Part
    input: Input
    task: str
    classes: tuple[str, ...]
    digest: str  # SHA-256 over the arrays of the three parts, before `images` cut the training part
    note: str  # licence and source


def names() -> list[tuple[str, str]]:
    """(name, one line) of every data set that is known by name."""
    return [(name, module.LINE) for name, module in _NAMED.items()]


def load(source: str, *, layout: str = "auto", images: int | None = None) -> Data:
    """Data by name, from an .npz, a folder of images or `file.py:function`.

    `layout` (one of LAYOUTS) says how arrays are stored; `images` keeps the first so many of the training part, the rest stays
    unused. Raises DataError for anything missing, damaged or unfit, UsageError for options that fit nothing.
    """
    if images is not None and images < 1:
        raise UsageError(f"images = {images}: use at least 1, or leave it out")
    try:
        raw = _read(source)
        arrays = check(raw, layout)
        parts = _split(arrays)
        _require(parts, arrays.classes)
        train = (parts["train"][0][:images], parts["train"][1][:images])
        _require_two(train)
        input_map = _input(train[0])
    except DataError as error:
        raise DataError(f"data {source}: {error}") from error
    except OSError as error:
        raise DataError(
            f"data {source}: cannot be read ({error.strerror}): check the path and its permissions"
        ) from error
    name = source if source in _NAMED else Path(source).name  # no path: a ticket records the name
    digest = _digest(parts)
    return Data(
        name, train, parts["select"], parts["certify"], input_map, "classification", arrays.classes, digest, raw.note
    )


def summary(data: Data) -> dict[str, Any]:
    """What `edgeticket data check` shows, ready for JSON. `classes`: name -> examples in train, select, certify."""
    counts = [np.bincount(getattr(data, part)[1], minlength=len(data.classes)).tolist() for part in PARTS]
    return {
        "name": data.name,
        "task": data.task,
        "shape": list(data.train[0].shape[1:]),
        "sizes": {part: len(getattr(data, part)[1]) for part in PARTS},
        "classes": dict(zip(data.classes, map(list, zip(*counts, strict=True)), strict=True)),
        "input": {"dtype": data.input.dtype, "offset": list(data.input.offset), "step": data.input.step},
        "digest": data.digest,
        "note": data.note,
    }


def _read(source: str) -> Raw:
    path = Path(source)
    if source in _NAMED:
        return _NAMED[source].read()
    if source.rpartition(":")[0].endswith(".py"):
        return function.read(source)
    if path.suffix == ".npz":
        return npz.read(path)
    if source and os.path.isdir(source):  # never raises, unlike Path.is_dir
        return folder.read(path)
    raise DataError(f"no such data: known names are {', '.join(_NAMED)}; otherwise give {_FORMS}")


def _split(arrays: Arrays) -> Mapping[str, Part]:
    """The three parts, copied."""
    x, y = arrays.train
    place = _places(np.arange(len(y)) if arrays.groups is None else arrays.groups)
    cut = 0.0 if arrays.test else SHARE
    chosen = {"train": place >= cut + SHARE, "select": (place >= cut) & (place < cut + SHARE), "certify": place < cut}
    parts = {part: (x[mask], y[mask]) for part, mask in chosen.items()}
    return parts if arrays.test is None else parts | {"certify": arrays.test}


def _places(ids: np.ndarray) -> np.ndarray:
    """A number in [0, 1) per id from its SHA-256, equal ids alike."""
    unique, where = np.unique(ids, return_inverse=True)
    hashes = [hashlib.sha256(str(name).encode()).digest()[:8] for name in unique.tolist()]
    return np.array([int.from_bytes(h, "big") / 2**64 for h in hashes])[where]


def _require(parts: Mapping[str, Part], classes: tuple[str, ...]) -> None:
    for name, (_, y) in parts.items():
        if len(y) < MIN_PART:
            raise DataError(f"only {len(y)} examples (or groups of them) fall into the part {name}: give more of them")
    counts = np.bincount(parts["train"][1], minlength=len(classes))
    if (counts > 0).sum() < 2:
        raise DataError("the training part holds only one class: classification needs two or more")
    for empty in np.flatnonzero(counts == 0)[:1]:
        raise DataError(
            f"class {empty} ({classes[empty]}) has no example in the training part: number the classes from 0 without gaps, "
            "or add examples of it"
        )


def _require_two(train: Part) -> None:
    if len(train[1]) < MIN_PART or len(np.unique(train[1])) < 2:
        raise DataError(
            f"the first {len(train[1])} training examples are of one class: raise the number of images, or mix them"
        )


def _input(x: np.ndarray) -> Input:
    """Mean 0, deviation 1 over the training part; integers get ONE integer offset, so padding and folding stay exact."""
    if x.dtype == np.float32:
        offset = [float(np.float32(mean)) for mean in x.mean((0, *range(2, x.ndim)), dtype=np.float64)]
        deviation = _deviation(x, offset)
    else:
        mean, deviation = _moments(x)
        offset = [float(round(mean))] * x.shape[1]
    step = float(np.float32(1 / deviation)) if deviation > 0 else 0.0
    if not (step > 0 and isfinite(step)):
        raise DataError(
            f"the training part's values spread by {deviation}: all equal, or beyond what float32 can scale"
        )
    return Input(x.dtype.name, tuple(offset), step)


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of `x`, about a million values at a time, so that wide copies of them stay small."""
    rows = max(1, (len(x) << 20) // x.size)
    yield from (x[row : row + rows] for row in range(0, len(x), rows))


def _deviation(x: np.ndarray, offset: list[float]) -> float:
    """Standard deviation of floats about their channel's offset, over everything."""
    centre = np.reshape(np.array(offset), (-1, *[1] * (x.ndim - 2)))
    return sqrt(sum(float(((block - centre) ** 2).sum()) for block in _blocks(x)) / x.size)


def _moments(x: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of integers, from exact sums: alike on every machine."""
    total = squares = 0
    for block in _blocks(x):
        wide = block.astype(np.int64).ravel()
        total += int(wide.sum())
        squares += int(wide @ wide)
    return total / x.size, sqrt((squares * x.size - total * total) / x.size**2)


def _digest(parts: Mapping[str, Part]) -> str:
    """Over part, type, shape and little-endian bytes of every array."""
    found = hashlib.sha256()
    for part in PARTS:
        for array in parts[part]:
            plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            found.update(f"{part} {array.dtype.name} {array.shape}\n".encode())
            found.update(plain.reshape(-1).view(np.uint8).data)
    return found.hexdigest()
