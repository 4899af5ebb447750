"""Ticket -> packet: the model as data for a firmware that `edgeticket export --to c` made of a ticket of the same plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeticket.compact import align as align_channels
from edgeticket.compact import compact
from edgeticket.errors import EdgeTicketError, EquivalenceError, UnsupportedError, UsageError
from edgeticket.files import check_free, write_atomic
from edgeticket.integer_layer import IntegerLayer
from edgeticket.model import Model
from edgeticket.packet import packed_bytes
from edgeticket.ticket import Ticket
from edgeticket.wire import Wire, pack
from edgeticket.wire_bytes import PacketError
from edgeticket.wire_delta import delta, patch
from edgeticket.wire_plan import FILTERS, INT8, NONE, rows
from edgeticket.wire_reader import Contents, Numbers, read
from exporters.c_network import Network

FORMS = ("seed", "signs", "dense")
_FIRST_STEPS = 1 + 8  # bytes before the codes of filters on grids: their kind and what a step is worth


@dataclass(frozen=True)
class Packed:
    """`parts`: bytes of the packet by what they are for; `entropy`: the same, bytes that no code of these symbols goes under.

    `counted`: bytes of the ticket by edgeticket/packet.py, with range codes that a device does not read. `written`: of the
    file, which is the packet or what differs from another one.
    """

    path: Path
    written: int
    firmware: str
    parts: Mapping[str, int]
    entropy: Mapping[str, float]
    counted: int


def pack_ticket(
    source: Ticket | Model,
    path: str | Path,
    *,
    form: str = "seed",
    align: int = 1,
    against: str | Path | None = None,
    overwrite: bool = False,
) -> Packed:
    """Write the packet of `source` to `path`; with `against`, an older packet, what makes the new one of that.

    `form` and `align` as the firmware was exported with. Raises UsageError for another form, UnsupportedError for what has no
    C form, PacketError for a packet `against` of another firmware, EquivalenceError where the packet does not hold the model.
    """
    path = Path(path)
    check_free(path, overwrite)
    if form not in FORMS:
        raise UsageError(f"form {form!r}: take one of {', '.join(FORMS)}")
    model = compact(source) if isinstance(source, Ticket) else source
    model = align_channels(model, align) if align > 1 else model
    wire = pack(model, form)
    Network(model, wire, "network")  # refuses what has no C form
    contents = proven(wire)
    content = wire.packet if against is None else _difference(Path(against), wire)
    write_atomic(path, content)
    counted = sum(packed_bytes(model).values())
    return Packed(path, len(content), wire.firmware.digest.hex(), contents.parts, entropy(wire, contents), counted)


def proven(wire: Wire) -> Contents:
    """What a device reads in the packet. Raises EquivalenceError where that is not the integer network."""
    try:
        contents = read(wire.packet, wire.firmware)
    except PacketError as error:
        raise UnsupportedError(f"a device would not take this model: {error}") from error
    for record in wire.integer.layers:
        own = contents.numbers.get(record.layer.name)
        if own and own.head and record.multiplier is not None:
            zero = wire.integer.tensors[record.layer.name].zero_point
            same = own.head[:3] == (zero, record.low, record.high) and own.factors == record.factors
            wanted = {"bias": record.bias, "values": record.values, "shift": record.shift}
            wanted |= {} if record.factors else {"multiplier": record.multiplier}
            if not same or not all(_same(wire, record, own, what, right) for what, right in wanted.items()):
                raise EquivalenceError(f"layer {record.layer.name}: its packet holds other constants: please report it")
    return contents


def _same(wire: Wire, record: IntegerLayer, own: Numbers, what: str, right: np.ndarray | None) -> bool:
    made = getattr(own, what)
    if made is None or right is None or (what == "values" and record.layer.name not in wire.codings):
        return made is None or right is not None
    flat = right.reshape(-1)
    if what != "values" and flat.size > 1:
        flat = flat[rows(wire.integer.plan, record)]
    return bool((made.reshape(-1) == flat).all())


def entropy(wire: Wire, contents: Contents) -> dict[str, float]:
    """Bytes: of each mask n * H2(share of weights in it), of int8 layers the order-0 entropy of their values; values,
    constants of filters, ids, offsets and the frame as they are; nothing for kinds, sizes, heads and steps of grids."""
    found = {part: float(count) for part, count in contents.parts.items()}
    found |= dict.fromkeys(("heads", "sizes", "kinds", "masks", "int8") & contents.parts.keys(), 0.0)
    for section in wire.firmware.sections:
        if section.form == FILTERS:
            found["rows"] -= _FIRST_STEPS if contents.numbers[section.name].grids else 1
        values = contents.numbers[section.name].values
        if section.coding == INT8:
            assert values is not None
            found["int8"] += _order_0(values)
        elif section.coding != NONE:
            assert values is not None
            found["masks"] += _order_0(values != 0)
    return found


def _order_0(symbols: np.ndarray) -> float:
    """Bytes."""
    counts = np.unique(symbols, return_counts=True)[1]
    return float((counts * np.log2(symbols.size / counts)).sum() / 8)


def _difference(against: Path, wire: Wire) -> bytes:
    try:
        base = against.read_bytes()
    except OSError as error:
        raise EdgeTicketError(f"{against}: cannot be read ({error.strerror}): check the path") from error
    read(base, wire.firmware)
    difference = delta(base, wire.packet)
    if patch(base, difference) != wire.packet:
        raise EquivalenceError(f"{against}: the difference does not give the packet: please report it")
    return difference
