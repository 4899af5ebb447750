"""Reading a packet as a device does: every count, code and bound is checked before a number is believed.

exporters/c/load.h makes the same checks in the same order; the two give one verdict on every packet (tests/test_load.py).
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgeticket.codes import unpack_mask
from edgeticket.errors import TicketError
from edgeticket.model import Signs
from edgeticket.prng import LIMIT
from edgeticket.wire import EXPLICIT, GRIDS, MAGIC, NARROW, NARROW_LIMIT, bias_of, ratio_of
from edgeticket.wire_plan import (
    BELOW,
    BIAS,
    COUNTS,
    FACTORS,
    FILTERS,
    HEADER,
    INT8,
    NONE,
    PRODUCT,
    RATIO,
    SEED,
    Firmware,
    Section,
)

CHECKSUM = 4  # bytes
SUMS_LIMIT = 1 << 31
MOST_SHIFT = 46
CUT, DAMAGED, FOREIGN, MALFORMED = 1, 2, 3, 4  # what NAME_load answers
AGAIN = {
    CUT: "fetch it again, whole",
    DAMAGED: "fetch it again",
    FOREIGN: "pack the ticket that this firmware was exported from, or export a firmware for this ticket",
    MALFORMED: "pack it again with this version",
}


class PacketError(TicketError):
    """`code`: CUT, DAMAGED, FOREIGN or MALFORMED, as NAME_load answers."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(f"packet: {what}: {AGAIN[code]}")
        self.code = code


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


@dataclass
class _Bytes:
    """A packet from `at` to `end`; `parts` counts what was taken for what."""

    packet: bytes
    at: int
    end: int
    parts: dict[str, int] = field(default_factory=dict)
    where: str = ""

    def take(self, count: int, part: str) -> bytes:
        if count > self.end - self.at:
            raise self.wrong("ends too early")
        self.at += count
        self.parts[part] = self.parts.get(part, 0) + count
        return self.packet[self.at - count : self.at]

    def size(self, part: str) -> int:
        """LEB128 of at most four bytes."""
        value = 0
        for shift in range(0, 28, 7):
            (byte,) = self.take(1, part)
            value |= (byte & 127) << shift
            if byte < 128:
                break
        return value

    def wrong(self, what: str) -> PacketError:
        return PacketError(MALFORMED, f"{self.where}: {what}")

    def check(self, good: bool, what: str) -> None:
        if not good:
            raise self.wrong(what)


def read(packet: bytes, device: Firmware) -> Contents:
    """What is in a packet for `device`. Raises PacketError, a TicketError, for one that a device refuses."""
    _check_frame(packet, device)
    reader = _Bytes(packet, HEADER, len(packet) - CHECKSUM, {"header": HEADER, "checksum": CHECKSUM})
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


def _section(reader: _Bytes, device: Firmware, section: Section) -> Numbers:
    reader.where = section.name
    raw = reader.take(section.raw, "zero points and offsets")
    if not section.head:
        return Numbers(raw)
    zero, low, high, flags = reader.take(4, "heads")
    reader.check(low <= high, f"lowest code {low} above highest {high}")
    reader.check(flags <= (NARROW if section.form == FILTERS else 0), f"flags {flags}")
    after = _ratio(reader, "heads") if section.head > 4 else None
    numbers = Numbers(raw, (zero, low, high, flags), after, **_form(reader, section))
    values = _weights(reader, device, section, int.from_bytes(reader.packet[8:16], "little"))
    limit = NARROW_LIMIT if flags else SUMS_LIMIT
    bound = _bound(reader.packet, device, section, numbers, values)
    reader.check(bound < limit, f"its sums may reach {limit}")
    return Numbers(**(numbers.__dict__ | {"values": values}))


def _ratio(reader: _Bytes, part: str) -> tuple[int, int]:
    code = reader.take(3, part)
    reader.check(1 <= code[2] <= MOST_SHIFT, f"a shift of {code[2]}")
    return int.from_bytes(code[:2], "little", signed=True), code[2]


def _form(reader: _Bytes, section: Section) -> dict:
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


def _rows(reader: _Bytes, section: Section, form: int) -> dict:
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


def _grids(reader: _Bytes, section: Section) -> dict:
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
    sums = np.full(section.rows, section.sums) if values is None else _sizes(values)
    bias = 0 if numbers.bias is None else np.abs(numbers.bias.astype(np.int64))
    return int((sums * reaches[0] + bias).max())


def _sensor(packet: bytes, device: Firmware, number: int) -> int:
    """Largest |raw - offset| of a sensor, as int16."""
    own = device.sensors[number]
    offsets = np.frombuffer(packet, "<i2", own.channels, own.at).astype(np.int64)
    return min(int(max(np.abs(own.low - offsets).max(), np.abs(own.high - offsets).max())), 1 << 15)


def _sizes(values: np.ndarray) -> np.ndarray:
    return np.abs(values.astype(np.int64)).reshape(len(values), -1).sum(1)


# weights


def _weights(reader: _Bytes, device: Firmware, section: Section, seed: int) -> np.ndarray | None:
    if section.coding == NONE:
        return None
    shape = (section.rows, section.inputs, section.taps)
    (coding,) = reader.take(1, "kinds")
    reader.check(coding == section.coding, f"weights of kind {coding}, not {section.coding}")
    if coding == INT8:
        return np.frombuffer(reader.take(int(np.prod(shape)), "int8"), np.int8).reshape(shape)
    (edges,) = reader.take(1, "kinds")
    reader.check(edges == section.edges, f"{edges} edges, not {section.edges}")
    minus = _minus(reader, section, seed) if coding == SEED else None
    code = reader.take(reader.size("sizes"), "masks")
    mask = _mask(reader, code, int(np.prod(shape)))
    values = _values(reader, section, mask, minus).reshape(shape)
    reader.check(int(_sizes(values).max()) <= device.most, f"a filter of more than {device.most} edges")
    return values


def _mask(reader: _Bytes, code: bytes, size: int) -> np.ndarray:
    try:
        return unpack_mask(code, size)
    except TicketError as error:
        raise reader.wrong(str(error).rpartition(":")[0]) from error


def _minus(reader: _Bytes, section: Section, seed: int) -> np.ndarray:
    """Edges of each connection that the seed made negative; flat."""
    rows = _ids(reader, section.rows, 1, 1)
    columns = _ids(reader, section.inputs, section.taps, 0)
    unused = np.zeros((section.rows, section.edges, section.inputs, section.taps), bool)
    signs = Signs(seed, section.layer, unused, rows, columns).edge_signs()
    return (signs < 0).sum(1).reshape(-1)


def _ids(reader: _Bytes, count: int, taps: int, repeat: int) -> np.ndarray:
    """Wide ids of `count` channels; `repeat`: how often each may stand in a row, 0: often.

    No word of signs beyond the generator's counter (edgeticket/prng.py): ids * taps are below 2^21, or, of filters, below 2^16.
    """
    size = reader.size("sizes")
    if not size:
        return np.arange(count)
    times = reader.size("sizes")
    reader.check(times > 0 and repeat in (0, times) and count % times == 0, f"each id stands for {times} of {count}")
    code = reader.take(size, "kept ids")
    own = np.flatnonzero(np.unpackbits(np.frombuffer(code, np.uint8), bitorder="little"))
    reader.check(len(own) == count // times and code[-1] > 0, f"{len(own)} ids, not {count // times}")
    most = LIMIT if repeat else 32 * LIMIT
    reader.check((int(own[-1]) + 1) * taps * times <= most, f"id {own[-1]} is too large")
    return (own[:, None] * times + np.arange(times)).reshape(-1)


def _values(reader: _Bytes, section: Section, mask: np.ndarray, minus: np.ndarray | None) -> np.ndarray:
    """Flat int8: of each weight in the mask its side, where both are possible, then a 1 for each further edge."""
    code = reader.take(reader.size("sizes"), "values")
    bits = np.unpackbits(np.frombuffer(code, np.uint8), bitorder="little").tolist()
    values, at = np.zeros(len(mask), np.int8), 0
    for place in np.flatnonzero(mask).tolist():
        room, below = section.edges, 0
        under = -1 if minus is None else int(minus[place])
        if under in (0, room):
            below = int(under > 0)
        else:
            reader.check(at < len(bits), "its values are cut short")
            below, at = bits[at], at + 1
            room = room if minus is None else under if below else room - under
        more = 1
        while more < room:
            reader.check(at < len(bits), "its values are cut short")
            at += 1
            if not bits[at - 1]:
                break
            more += 1
        values[place] = -more if below else more
    reader.check(len(code) == (at + 7) // 8 and not any(bits[at:]), "its values have bytes left over")
    return values
