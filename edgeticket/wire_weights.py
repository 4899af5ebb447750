"""The weights of a section, read as a device reads them: kinds, kept ids, mask, values."""

import numpy as np

from edgeticket.codes import unpack_mask
from edgeticket.errors import TicketError
from edgeticket.model import Signs
from edgeticket.prng import LIMIT
from edgeticket.wire_bytes import Bytes
from edgeticket.wire_plan import INT8, NONE, SEED, Firmware, Section


def weights(reader: Bytes, device: Firmware, section: Section, seed: int) -> np.ndarray | None:
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
    reader.check(int(sizes(values).max()) <= device.most, f"a filter of more than {device.most} edges")
    return values


def _mask(reader: Bytes, code: bytes, size: int) -> np.ndarray:
    try:
        return unpack_mask(code, size)
    except TicketError as error:
        raise reader.wrong(str(error).rpartition(":")[0]) from error


def _minus(reader: Bytes, section: Section, seed: int) -> np.ndarray:
    """Edges of each connection that the seed made negative; flat."""
    rows = _ids(reader, section.rows, 1, 1)
    columns = _ids(reader, section.inputs, section.taps, 0)
    unused = np.zeros((section.rows, section.edges, section.inputs, section.taps), bool)
    signs = Signs(seed, section.layer, unused, rows, columns).edge_signs()
    return (signs < 0).sum(1).reshape(-1)


def _ids(reader: Bytes, count: int, taps: int, repeat: int) -> np.ndarray:
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


def _values(reader: Bytes, section: Section, mask: np.ndarray, minus: np.ndarray | None) -> np.ndarray:
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


def sizes(values: np.ndarray) -> np.ndarray:
    return np.abs(values.astype(np.int64)).reshape(len(values), -1).sum(1)
