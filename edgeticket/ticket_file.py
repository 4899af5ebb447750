"""The bytes of a ticket: a safetensors file with a seal.

That is a little-endian u64 length, that many bytes of JSON, then tensors. Its only metadata key, `edgeticket`, holds one
canonical JSON object (sorted keys, no spaces). `seal` in it is the SHA-256 of the same file with an empty seal. Bitmaps are
little-endian in the byte; unused bits are 0.
"""

import hashlib
import json
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgeticket.errors import TicketError
from edgeticket.plan import MAX_LAYERS

KEY = "edgeticket"
MAX_FILE = 1 << 28
MAX_HEADER = 1 << 22
MAX_TENSORS = 6 * MAX_LAYERS
MAX_DEPTH = 16  # of the JSON

Tensors = dict[str, np.ndarray]


def encode(header: dict[str, Any], tensors: Tensors) -> bytes:
    """The file with its seal. Raises TicketError where it would be larger than `decode` takes."""
    digest = hashlib.sha256(_save(header | {"seal": ""}, tensors)).hexdigest()
    content = _save(header | {"seal": digest}, tensors)
    if len(tensors) > MAX_TENSORS or _header_length(content) > MAX_HEADER or len(content) > MAX_FILE:
        raise TicketError(
            f"a ticket of {len(content)} bytes, {_header_length(content)} of them header, in {len(tensors)} tensors could not "
            f"be read again ({MAX_FILE}, {MAX_HEADER}, {MAX_TENSORS} can): use fewer layers or edges, or shorter names"
        )
    return content


def decode(content: bytes) -> tuple[dict[str, Any], Tensors]:
    """Header and tensors. Raises TicketError for other files; the seal is for the caller, who encodes what it read again."""
    length = _header_length(content)
    if len(content) < 8 or length > min(MAX_HEADER, len(content) - 8):
        raise TicketError("cut short, or not a ticket")
    try:
        outer = json.loads(content[8 : 8 + length])
        if len(outer) > MAX_TENSORS + 1:
            raise TicketError(f"more than {MAX_TENSORS} tensors")
        header = json.loads(outer["__metadata__"][KEY])
        tensors = load(content)
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise TicketError("damaged, or not a ticket") from error
    if not isinstance(header, dict) or not _shallow(header, MAX_DEPTH):
        raise TicketError("damaged, or not a ticket")
    return header, tensors


def pack(bits: np.ndarray) -> np.ndarray:
    """uint8 bitmap of `bits` in C order."""
    return np.packbits(bits.reshape(-1), bitorder="little")


def unpack(packed: np.ndarray, count: int) -> np.ndarray:
    """bool [count], the inverse of `pack`. Raises ValueError for a bitmap of another size."""
    if packed.dtype != np.uint8 or packed.shape != ((count + 7) // 8,):
        raise ValueError(f"bitmap of {packed.shape} bytes for {count} bits")
    return np.unpackbits(packed, count=count, bitorder="little").astype(bool)


def _header_length(content: bytes) -> int:
    return int.from_bytes(content[:8], "little")


def _shallow(value: Any, room: int) -> bool:
    """Nothing is nested so deeply that code which walks it could run out of stack."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return room > 0 and all(_shallow(child, room - 1) for child in inner)


def _save(header: dict[str, Any], tensors: Tensors) -> bytes:
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return save(tensors, metadata={KEY: text})
