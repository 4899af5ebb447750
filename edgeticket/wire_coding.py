"""The weights of a layer as a device reads them: kind, kept ids, mask, values (docs/packet.md)."""

from math import prod

import numpy as np

from edgeticket.codes import pack_mask, raw_bits
from edgeticket.integer_layer import IntegerLayer
from edgeticket.model import Model, Signs
from edgeticket.wire_plan import INT8, LISTS, SEED, SIGNS

RAW_MAP = 255  # first byte of a mask that is not Rice coded


def coded(model: Model, record: IntegerLayer, coding: int) -> bytes:
    assert record.values is not None
    if coding == INT8:
        return bytes([INT8]) + record.values.astype(np.int8).tobytes()
    if coding == LISTS:
        return bytes([LISTS])
    own = model.weights[record.layer.name]
    assert isinstance(own, Signs)
    head = bytes([coding, own.mask.shape[1]])
    if coding == SEED:
        taps = prod(own.mask.shape[3:])
        head += _ids(own.rows, 1) + _ids(own.columns, _repeat(own.columns, taps))
    bits = pack_mask(record.values != 0)
    values = raw_bits(_value_bits(own, record.values, coding))
    return head + leb128(len(bits)) + bits + leb128(len(values)) + values


def _value_bits(own: Signs, values: np.ndarray, coding: int) -> np.ndarray:
    """bool: of each weight that is not 0, its side (1: minus) where both are possible, then a 1 for each further edge, and a
    0 behind them if there could be one more."""
    edges = own.mask.shape[1]
    signs = Signs(own.seed, own.layer, own.mask, own.rows, own.columns).edge_signs()
    minus = (signs < 0).sum(1).reshape(-1)
    bits: list[bool] = []
    for i in np.flatnonzero(values.reshape(-1)).tolist():
        value, below = int(values.reshape(-1)[i]), int(minus[i])
        room = edges if coding == SIGNS else below if value < 0 else edges - below
        if coding == SIGNS or 0 < below < edges:
            bits.append(value < 0)
        bits += [abs(value) > edge for edge in range(1, min(abs(value) + 1, room))]
    return np.array(bits, bool)


def _repeat(columns: np.ndarray, taps: int) -> int:
    """How many inputs in a row each kept id stands for: more than one where channels were flattened."""
    if taps > 1 or len(columns) < 2 or (columns == np.arange(len(columns))).all():
        return 1
    breaks = np.flatnonzero(np.diff(columns) > 1) + 1
    runs = np.diff(np.concatenate([[0], breaks, [len(columns)]]))
    starts = columns[np.concatenate([[0], breaks])]
    return int(np.gcd.reduce(np.concatenate([runs, starts])))


def _ids(ids: np.ndarray, repeat: int) -> bytes:
    """Size and bitmap of kept wide ids, each standing for `repeat` in a row; size 0: the first ones."""
    if (ids == np.arange(len(ids))).all():
        return leb128(0)
    own = ids[::repeat] // repeat
    bits = np.zeros(int(own.max()) + 1, bool)
    bits[own] = True
    code = raw_bits(bits)
    return leb128(len(code)) + leb128(repeat) + code


def leb128(count: int) -> bytes:
    """LEB128: seven bits a byte, lowest first, the highest bit says that more follow."""
    code = bytearray()
    while count > 127:
        code.append(count & 127 | 128)
        count >>= 7
    return bytes([*code, count])


def map_of(section: bytes) -> bytes:
    """What follows the ids of a masked layer: its mask."""
    at = 2
    for _ in range(2 if section[0] == SEED else 0):
        size, at = _size_at(section, at)
        if size:
            at = _size_at(section, at)[1] + size
    size, at = _size_at(section, at)
    return section[at : at + size]


def _size_at(code: bytes, at: int) -> tuple[int, int]:
    """A size, and where it ends."""
    value = shift = 0
    while True:
        value |= (code[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if code[at - 1] < 128:
            return value, at
