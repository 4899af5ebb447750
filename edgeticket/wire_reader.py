"""Reading a packet as a device does: every count, code and bound is checked before a number is believed.

exporters/c/load.h makes the same checks in the same order; the two give one verdict on every packet (tests/test_load.py).
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeticket.wire import EXPLICIT, GRIDS, MAGIC, NARROW, NARROW_LIMIT, bias_of, ratio_of
from edgeticket.wire_bytes import CHECKSUM, CUT, DAMAGED, FOREIGN, Bytes, PacketError
from edgeticket.wire_plan import (
    BELOW,
    BIAS,
    COUNTS,
    FACTORS,
    FILTERS,
    HEADER,
    PRODUCT,
    RATIO,
    Firmware,
    Section,
)
from edgeticket.wire_weights import sizes, weights

SUMS_LIMIT = 1 << 31
MOST_SHIFT = 46


@dataclass(frozen=True)
class Numbers:
    """The constants of a section, as edgeticket/integer_layer.py names them; `after`: m2 and e2, or those of a slope.

    `shift` of an Add is one number. Of an input that a device holds as int16, `raw` are its offsets and all else is empty.
    """

    raw: bytes  # zero points of what is read
    head: tuple[int, int, int, int] = (0, 0, 255, 0)  # zero point, low, high, flags
    after: tuple[int, int] | None = None
    grids: bool = False  # whether filters have codes of scale and bias
    factors: tuple[int, ...] = ()
    bias: np.ndarray | None = None  # int32
    counts: np.ndarray | None = None  # bool, of a Norm
    multiplier: np.ndarray | None = None  # int16
    shift: np.ndarray | None = None  # uint8
    below: tuple[np.ndarray, np.ndarray] | None = None
    values: np.ndarray | None = None  # int8 [filters, inputs, taps]


@dataclass(frozen=True)
class Contents:
    """`parts`: bytes by what they are for."""

    seed: int
    model: bytes  # first 8 bytes of its digest
    numbers: dict[str, Numbers]
    parts: Mapping[str, int]


def read(packet: bytes, device: Firmware) -> Contents:
    """What is in a packet for `device`. Raises PacketError, a TicketError, for one that a device refuses."""
    _check_frame(packet, device)
    reader = Bytes(packet, HEADER, len(packet) - CHECKSUM, {"header": HEADER, "checksum": CHECKSUM})
    numbers = {section.name: _section(reader, device, section) for section in device.sections}
    reader.check(reader.at == reader.end, f"{reader.end - reader.at} bytes are left over")
    return Contents(int.from_bytes(packet[8:16], "little"), packet[24:32], numbers, reader.parts)


def _check_frame(packet: bytes, device: Firmware) -> None:
    if len(packet) < HEADER + CHECKSUM or packet[:4] != MAGIC:
        raise PacketError(CUT, "not a packet of edgeticket")
    length, checksum = int.from_bytes(packet[4:8], "little"), int.from_bytes(packet[-CHECKSUM:], "little")
    if length != len(packet):
        raise PacketError(CUT, f"{len(packet)} bytes of {length}")
    if zlib.crc32(packet[:-CHECKSUM]) != checksum:
        raise PacketError(DAMAGED, "its checksum is wrong")
    if packet[16:24] != device.digest:
        raise PacketError(FOREIGN, f"made for firmware {packet[16:24].hex()}, not {device.digest.hex()}")


def _section(reader: Bytes, device: Firmware, section: Section) -> Numbers:
    reader.where = section.name
    raw = reader.take(section.raw, "zero points and offsets")
    if not section.head:
        return Numbers(raw)
    zero, low, high, flags = reader.take(4, "heads")
    reader.check(low <= high, f"lowest code {low} above highest {high}")
    reader.check(flags <= (NARROW if section.form == FILTERS else 0), f"flags {flags}")
    after = _ratio(reader, "heads") if section.head > 4 else None
    numbers = Numbers(raw, (zero, low, high, flags), after, **_form(reader, section))
    values = weights(reader, device, section, int.from_bytes(reader.packet[8:16], "little"))
    limit = NARROW_LIMIT if flags else SUMS_LIMIT
    bound = _bound(reader.packet, device, section, numbers, values)
    reader.check(bound < limit, f"its sums may reach {limit}")
    return Numbers(**(numbers.__dict__ | {"values": values}))


def _ratio(reader: Bytes, part: str) -> tuple[int, int]:
    code = reader.take(3, part)
    reader.check(1 <= code[2] <= MOST_SHIFT, f"a shift of {code[2]}")
    return int.from_bytes(code[:2], "little", signed=True), code[2]


def _form(reader: Bytes, section: Section) -> dict:
    if section.form == FACTORS:
        factors = [int.from_bytes(reader.take(4, "rows"), "little", signed=True) for _ in range(section.rows)]
        reader.check(all(0 <= factor <= 1 << 15 for factor in factors), "a factor beyond 0 to 32768")
        (shift,) = reader.take(1, "rows")
        reader.check(1 <= shift <= MOST_SHIFT, f"a shift of {shift}")
        return {"factors": tuple(factors), "shift": np.array([shift], np.uint8)}
    if section.form != FILTERS:
        return _rows(reader, section, section.form)
    (tag,) = reader.take(1, "rows")
    reader.check(tag in (EXPLICIT, GRIDS), f"constants of filters of kind {tag}")
    return _rows(reader, section, BIAS | RATIO) if tag == EXPLICIT else _grids(reader, section)


def _rows(reader: Bytes, section: Section, form: int) -> dict:
    bias, counts, pairs, below = [], [], [], []
    for _ in range(section.rows):
        if form & BIAS:
            bias.append(int.from_bytes(reader.take(4, "rows"), "little", signed=True))
        if form & COUNTS:
            counts.append(reader.take(1, "rows")[0])
            reader.check(counts[-1] <= 1, f"flag {counts[-1]} of a row")
        pairs.append(_ratio(reader, "rows"))
        if form & BELOW:
            below.append(_ratio(reader, "rows"))
    made: dict = dict(zip(("multiplier", "shift"), _arrays(pairs), strict=True))
    if form & BIAS:
        made["bias"] = np.array(bias, np.int32)
    if form & COUNTS:
        made["counts"] = np.array(counts, bool)
    if form & BELOW:
        made["below"] = _arrays(below)
    return made


def _arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    multipliers, shifts = zip(*pairs, strict=True)
    return np.array(multipliers, np.int16), np.array(shifts, np.uint8)


def _grids(reader: Bytes, section: Section) -> dict:
    steps = reader.take(8, "rows")
    ratio, unit = (int.from_bytes(steps[i : i + 3], "little") for i in (0, 4))
    reader.check(1 <= steps[7] <= 31, f"exponent {steps[7]} of its biases")
    scales, biases = (np.frombuffer(reader.take(section.rows, "rows"), np.int8).tolist() for _ in range(2))
    reader.check(0 not in scales, "a scale of 0")
    pairs = [ratio_of(ratio, steps[3], scale) for scale in scales]
    reader.check(all(1 <= e <= MOST_SHIFT for _, e in pairs), "a shift beyond 1 to 46")
    made = [bias_of(unit, steps[7], scale, bias) for scale, bias in zip(scales, biases, strict=True)]
    multipliers, shifts = _arrays(pairs)
    return {"grids": True, "bias": np.array(made, np.int32), "multiplier": multipliers, "shift": shifts}


# bounds


def _bound(packet: bytes, device: Firmware, section: Section, numbers: Numbers, values: np.ndarray | None) -> int:
    """No |acc| of the layer is larger, in any order of its additions."""
    zeros = zip(numbers.raw, section.sensors, strict=True)
    reaches = [zero + (255 if i is None else _sensor(packet, device, i)) for zero, i in zeros]
    if section.form == FACTORS:
        return sum(factor * reach for factor, reach in zip(numbers.factors, reaches, strict=True))
    if section.form & PRODUCT:
        return int(np.prod(np.array(reaches, object)))
    sums = np.full(section.rows, section.sums) if values is None else sizes(values)
    bias = 0 if numbers.bias is None else np.abs(numbers.bias.astype(np.int64))
    return int((sums * reaches[0] + bias).max())


def _sensor(packet: bytes, device: Firmware, number: int) -> int:
    """Largest |raw - offset| of a sensor, as int16."""
    own = device.sensors[number]
    offsets = np.frombuffer(packet, "<i2", own.channels, own.at).astype(np.int64)
    return min(int(max(np.abs(own.low - offsets).max(), np.abs(own.high - offsets).max())), 1 << 15)
