"""The wire form of a model: what a device reads, from its own flash or as an update (docs/packet.md has every byte).

Little-endian, no alignment. A header, the sections of the inputs, a section per layer with constants in the plan's order, a
checksum. A firmware knows the plan; the packet names it by digest and holds nothing that the plan tells.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import frexp, ldexp

import numpy as np

from edgeticket.errors import UnsupportedError
from edgeticket.integer import IntegerModel, integerise
from edgeticket.integer_layer import RESIDUALS, TABLE_UNIT, TABLES, IntegerLayer, keeps_codes
from edgeticket.model import Float, Model, Signs
from edgeticket.ops import Conv, Layer, Linear, Norm, Pad, PRelu, leak
from edgeticket.rounding import grid_unit
from edgeticket.wire_coding import RAW_MAP, coded, map_of
from edgeticket.wire_plan import HEADER, INT8, LISTS, SEED, SIGNS, Firmware, firmware, held, reach, rows

MAGIC = b"ETP1"
_NO_IDS = bytes(2)
EXPLICIT, GRIDS = 0, 1  # how the constants of filters are stored
MANTISSA = 24  # bits
NARROW = 1  # flag of a convolution's head: no |acc| reaches 2^23
NARROW_LIMIT = 1 << 23


@dataclass(frozen=True)
class Wire:
    """A model in its wire form, and the integers that it holds."""

    packet: bytes
    integer: IntegerModel
    codings: Mapping[str, int]  # layer with weights -> INT8, SEED or SIGNS
    weights: Mapping[str, bytes]  # layer -> its section of weights
    firmware: Firmware

    @property
    def features(self) -> set[str]:
        """What of a reader this packet needs: RICE masks, IDS of kept channels, ANY ratio of a convolution (not only the usual)."""
        found = set()
        for layer in self.integer.plan.weighted():
            section = self.weights[layer.name]
            if section[0] == SEED and section[2:4] != _NO_IDS:
                found.add("IDS")
            if section[0] in (SEED, SIGNS) and map_of(section)[0] != RAW_MAP:
                found.add("RICE")
        if not all(_usual(self.integer, record) for record in self.integer.layers):
            found.add("ANY")
        return found


def pack(model: Model, form: str = "seed") -> Wire:
    """`form`: seed (signs by the generator wherever they are the seed's), signs (stored), dense (all as int8) or lists.

    Raises UnsupportedError where the integer network of `model` does not exist, or has sums too large for codes.
    """
    integer = integerise(model)
    codings = {layer.name: _coding(model, layer, form) for layer in model.plan.weighted()}
    sections = [_input(integer, name) for name in model.plan.inputs]
    weights = {}
    for record in integer.layers:
        name = record.layer.name
        _check_sums(integer, record)
        sections.append(numbers(model, integer, record))
        if name in codings:
            weights[name] = coded(model, record, codings[name])
            sections.append(weights[name])
    body = b"".join(sections)
    seeds = {own.seed for own in model.weights.values() if isinstance(own, Signs)} or {0}
    length = HEADER + len(body) + 4
    head = MAGIC + length.to_bytes(4, "little") + min(seeds).to_bytes(8, "little")
    device = firmware(model, integer, codings)
    head += device.digest + bytes.fromhex(model.digest)[:8]
    return Wire(sealed(head + body), integer, codings, weights, device)


def _check_sums(integer: IntegerModel, record: IntegerLayer) -> None:
    """A device sums up codes and takes the zero points off the sum, which then may be larger than integer.py's."""
    if record.values is not None and record.bias is not None and not isinstance(record.layer.op, Norm):
        rows = np.abs(record.values.astype(np.int64)).reshape(len(record.values), -1).sum(1)
        most = rows * reach(integer, record.layer.inputs[0]) + np.abs(record.bias.astype(np.int64))
        if most.max() >= 1 << 31:
            raise UnsupportedError(
                f"layer {record.layer.name}: its sums of codes may pass 2^31 on a device: make it narrower"
            )


def sealed(content: bytes) -> bytes:
    """With its CRC-32 (ISO-HDLC, as zlib's) behind it."""
    return content + zlib.crc32(content).to_bytes(4, "little")


def _coding(model: Model, layer: Layer, form: str) -> int:
    own = model.weights[layer.name]
    if form == "dense" or not isinstance(own, Signs):
        return INT8
    if form == "lists" and isinstance(layer.op, Conv | Linear):
        return LISTS
    return SIGNS if form == "signs" or own.flips is not None else SEED


# numbers


def numbers(model: Model, integer: IntegerModel, record: IntegerLayer) -> bytes:
    """The constants of a layer but its weights: zero points of its inputs, head, rows (docs/packet.md)."""
    layer = record.layer
    zeros = bytes(held(integer, name).zero_point for name in layer.inputs)
    if keeps_codes(layer.op):
        return zeros if isinstance(layer.op, Pad) else b""
    assert record.multiplier is not None
    assert record.shift is not None
    zero_point = integer.tensors[layer.name].zero_point
    flags = NARROW if _narrow(integer, record) else 0
    parts = [zeros, bytes([zero_point, record.low, record.high, flags]), _curve(record)]
    for factor in record.factors:
        parts.append(factor.to_bytes(4, "little"))
    if record.factors:
        return b"".join([*parts, record.shift.astype(np.uint8).tobytes()])
    if isinstance(layer.op, Conv | Linear):
        return b"".join([*parts, _grids(model, integer, record) or _explicit(record)])
    for i in rows(integer.plan, record):
        if record.bias is not None:
            parts.append(int(record.bias[i]).to_bytes(4, "little", signed=True))
        if isinstance(layer.op, Norm):
            assert record.values is not None
            parts.append(bytes([int(record.values.reshape(-1)[i]) != 0]))
        parts.append(_ratio(record.multiplier, record.shift, i))
        if isinstance(layer.op, PRelu):
            assert record.below is not None
            parts.append(_ratio(*record.below, i))
    return b"".join(parts)


def _constants(record: IntegerLayer) -> list[tuple[int, int, int]]:
    """Bias, m and e of each filter."""
    assert record.bias is not None
    assert record.multiplier is not None
    assert record.shift is not None
    every = (np.broadcast_to(v.reshape(-1), record.bias.shape) for v in (record.bias, record.multiplier, record.shift))
    return list(zip(*(values.tolist() for values in every), strict=True))


def _explicit(record: IntegerLayer) -> bytes:
    rows = (
        b.to_bytes(4, "little", signed=True) + m.to_bytes(2, "little", signed=True) + bytes([e])
        for b, m, e in _constants(record)
    )
    return bytes([EXPLICIT]) + b"".join(rows)


def _grids(model: Model, integer: IntegerModel, record: IntegerLayer) -> bytes | None:
    """Two bytes a filter: the codes of scale and bias on their grids, and what one step of each is worth.

    None where these do not give every constant of the record again: `ratio_of` and `bias_of` are what a device computes.
    """
    name, own = record.layer.name, model.weights[record.layer.name]
    scale, bias = model.scale[name].astype(np.float64), model.bias[name].astype(np.float64)
    scale_unit, bias_unit = grid_unit(model.scale[name]), grid_unit(model.bias[name])
    if isinstance(own, Float) or not scale_unit or bias_unit is None:
        return None
    codes = np.stack([np.round(scale / scale_unit), np.round(bias / (bias_unit or 1))]).astype(int)
    if (codes[0] == 0).any():
        return None
    source, target = integer.tensors[record.layer.inputs[0]], integer.tensors[name]
    step = target.scale if record.table is None else TABLE_UNIT * 256 / (len(record.table) - 1)
    unit = source.scale * scale_unit
    rows = [(a, b, *row) for a, b, row in zip(*codes.tolist(), _constants(record), strict=True)]
    ratio = _pair(unit / step, 63, lambda k: all(ratio_of(*k, a) == (m, e) for a, _, _, m, e in rows))
    shift = _pair(bias_unit / unit, 31, lambda k: all(bias_of(*k, a, b) == right for a, b, right, *_ in rows))
    if ratio is None or shift is None:
        return None
    return (
        bytes([GRIDS])
        + b"".join(mantissa.to_bytes(3, "little") + bytes([exponent]) for mantissa, exponent in (ratio, shift))
        + codes.astype(np.int8).tobytes()
    )


def _pair(value: float, most: int, right: Callable[[tuple[int, int]], bool]) -> tuple[int, int] | None:
    """24-bit mantissa and exponent, value = mantissa / 2^exponent, near enough to be `right`."""
    exponent = min(MANTISSA - frexp(value)[1], most) if value else 1
    if exponent < 1:
        return None
    first = round(ldexp(value, exponent))
    tried = (first + side * away for away in range(9) for side in (1, -1))
    return next(((k, exponent) for k in tried if 0 <= k < 1 << MANTISSA and right((k, exponent))), None)


def ratio_of(mantissa: int, exponent: int, code: int) -> tuple[int, int]:
    """m and e of code * mantissa / 2^exponent, as a device works them out in 32 bits."""
    product = mantissa * abs(code)
    shift = max(product.bit_length() - 15, 1)
    m = (product + (1 << (shift - 1))) >> shift
    if m == 1 << 15:
        m, shift = m >> 1, shift + 1
    return (m if code > 0 else -m), exponent - shift


def bias_of(mantissa: int, exponent: int, scale: int, bias: int) -> int:
    """The bias in steps of the sum, |bias / scale| * mantissa / 2^exponent, as a device works it out in 32 bits."""
    size = (mantissa * abs(bias) // abs(scale) + (1 << (exponent - 1))) >> exponent
    return size if (bias < 0) == (scale < 0) else -size


def _narrow(integer: IntegerModel, record: IntegerLayer) -> bool:
    if not isinstance(record.layer.op, Conv):
        return False
    assert record.values is not None
    assert record.bias is not None
    sums = np.abs(record.values.astype(np.int64)).reshape(len(record.values), -1).sum(1)
    most = sums * reach(integer, record.layer.inputs[0]) + np.abs(record.bias.astype(np.int64))
    return bool(most.max() < NARROW_LIMIT)


def _usual(integer: IntegerModel, record: IntegerLayer) -> bool:
    """Whether a convolution's sums become codes by one 32-bit multiplication each."""
    if not isinstance(record.layer.op, Conv):
        return True
    assert record.shift is not None
    plain = record.table is None and record.below is None
    return bool(plain and _narrow(integer, record) and record.shift.min() >= 16 and record.shift.max() <= 32)


def _curve(record: IntegerLayer) -> bytes:
    kind = getattr(record.layer.op, "activation", "none")
    if kind in TABLES:
        m, e = record.after
        return m.to_bytes(2, "little", signed=True) + bytes([e])
    if leak(kind) is not None:
        assert record.below is not None
        return _ratio(*record.below, 0)
    return b""


def residual(record: IntegerLayer) -> bool:
    """Whether the layer's table is of what its activation is less max(x, 0)."""
    return getattr(record.layer.op, "activation", "none") in RESIDUALS


def _ratio(multiplier: np.ndarray, shift: np.ndarray, i: int) -> bytes:
    """int16 and uint8; a single pair serves every row."""
    m, e = (values.reshape(-1)[i if values.size > 1 else 0] for values in (multiplier, shift))
    return int(m).to_bytes(2, "little", signed=True) + bytes([int(e)])


def _input(integer: IntegerModel, name: str) -> bytes:
    """int16 offset per channel of a sensor that is read exactly but not held raw; the zero point of codes."""
    own, sensor = held(integer, name), integer.inputs[name]
    if own.dtype is np.uint8:
        return bytes([own.zero_point])
    return np.array(sensor.offset).astype("<i2").tobytes()
