"""Encoders of what a ticket and its competitors consist of, each with its decoder: every count is of something real.

The first byte of a code says which it is. A layer of more than 2^18 symbols is not range coded: that takes some microseconds each.
Rice code: R. F. Rice, "Some practical universal noiseless coding techniques", JPL 79-22, 1979.
"""

import numpy as np

from edgeticket.errors import TicketError
from edgeticket.range_coder import HALF, Decoder, encode
from edgeticket.rounding import grid_unit

_PARAMETERS = 24  # Rice: gaps are below 2^23 in any layer of at least one kept weight in 8 million
_RANGE, _RAW = 254, 255
MOST_SYMBOLS = 1 << 18


def raw_bits(bits: np.ndarray) -> bytes:
    """One bit each, in C order, first bit lowest in the byte."""
    return np.packbits(bits.reshape(-1), bitorder="little").tobytes()


def rice(bits: np.ndarray) -> bytes:
    """The distances between set bits, the last one to the end: quotient in unary, remainder in the parameter's bits.

    The first byte is the parameter, the one that gives the shortest code.
    """
    flat = bits.reshape(-1)
    gaps = np.diff(np.concatenate([[-1], np.flatnonzero(flat), [flat.size]])) - 1
    parameter = int(np.argmin([(gaps >> k).sum() + len(gaps) * (1 + k) for k in range(_PARAMETERS)]))
    quotients = gaps >> parameter
    ends = np.cumsum(quotients + 1 + parameter)
    stops = ends - 1 - parameter
    code = np.ones(int(ends[-1]), bool)
    code[stops] = False
    for i in range(parameter):
        code[stops + 1 + i] = gaps >> i & 1
    return bytes([parameter]) + raw_bits(code)


def unrice(code: bytes, size: int) -> np.ndarray:
    """bool [size], the inverse of `rice`. Raises TicketError where `code` is not one of `size` bits."""
    bits = np.zeros(size, bool)
    if not code or code[0] >= _PARAMETERS:
        raise TicketError("mask: no Rice parameter: fetch the packet again")
    parameter, stream = code[0], np.unpackbits(np.frombuffer(code, np.uint8, offset=1), bitorder="little").tobytes()
    position, at = -1, 0
    while position < size:
        stop = stream.find(0, at)
        at_next = stop + 1 + parameter
        if stop < 0 or at_next > len(stream):
            raise TicketError("mask: the code is cut short: fetch the packet again")
        remainder = sum(stream[stop + 1 + i] << i for i in range(parameter))
        position += 1 + ((stop - at) << parameter) + remainder
        at = at_next
        if position < size:
            bits[position] = True
    if position > size or len(stream) - at > 7 or any(stream[at:]):
        raise TicketError(f"mask: the code is not one of {size} bits: fetch the packet again")
    return bits


def pack_mask(bits: np.ndarray) -> bytes:
    """The shorter of Rice code and raw bits, told apart by the first byte."""
    coded, plain = rice(bits), bytes([_RAW]) + raw_bits(bits)
    return coded if len(coded) < len(plain) else plain


def unpack_mask(code: bytes, size: int) -> np.ndarray:
    """bool [size], the inverse of `pack_mask`. Raises TicketError."""
    if code[:1] != bytes([_RAW]):
        return unrice(code, size)
    bits = np.unpackbits(np.frombuffer(code, np.uint8, offset=1), bitorder="little").astype(bool)
    if len(code) - 1 != (size + 7) // 8 or bits[size:].any():
        raise TicketError(f"mask: not {size} bits: fetch the packet again")
    return bits[:size]


# integer weights of connections with random edges


def pack_sums(values: np.ndarray, plus: np.ndarray, minus: np.ndarray) -> bytes:
    """Integers [connections], each from -minus to plus, which the decoder knows: how many random signs a connection has of each.

    In turn: is it 0, its side if both are possible, and one bit for each further edge, if there is one.
    """
    bits: list[int] = []
    contexts: list[int] = []
    for value, above, under in zip(values.tolist(), plus.tolist(), minus.tolist(), strict=True):
        first = above * _STEPS  # `under` follows from it: all connections of a layer have as many edges
        bits.append(int(value != 0))
        contexts.append(first)
        if value == 0:
            continue
        if above and under:
            bits.append(int(value < 0))
            contexts.append(first + 1)
        size = abs(value)
        for edge in range(1, min(size + 1, under if value < 0 else above)):
            bits.append(int(size > edge))
            contexts.append(first + 1 + edge)
    return bytes([_RANGE]) + encode(bits, contexts, _CONTEXTS)


def unpack_sums(code: bytes, plus: np.ndarray, minus: np.ndarray) -> np.ndarray:
    """int8, the inverse of `pack_sums`. Raises TicketError where `code` is no such code."""
    decoder, values = Decoder(code[1:], _CONTEXTS), np.zeros(len(plus), np.int8)
    for i, (above, under) in enumerate(zip(plus.tolist(), minus.tolist(), strict=True)):
        first = above * _STEPS
        if not decoder.bit(first):
            continue
        below = decoder.bit(first + 1) if above and under else above == 0
        size, most = 1, under if below else above
        while size < most and decoder.bit(first + 1 + size):
            size += 1
        values[i] = -size if below else size
    if code[:1] != bytes([_RANGE]) or pack_sums(values, plus, minus) != code:
        raise TicketError(f"weights: not the code of {len(plus)} sums: fetch the packet again")
    return values


_ROOM, _STEPS = 17, 17  # edges of one sign, at most 16 and none; a zero flag, a side and 15 further edges
_CONTEXTS = _ROOM * _STEPS


def sums_of(mask: np.ndarray, flips: np.ndarray | None, signs: np.ndarray) -> np.ndarray | None:
    """int8 [filters, inputs, *kernel], of which `edges_of` makes these again; None if it makes others.

    `mask`, `flips` and the seed's `signs`: [filters, edges, inputs, *kernel].
    """
    values = (mask * (signs if flips is None else np.where(flips, -signs, signs))).sum(1, dtype=np.int8)
    again = edges_of(values, signs, flips is not None)
    same = (again[0] == mask).all() and (flips is None or (again[1] == flips).all())
    return values if same else None


def edges_of(values: np.ndarray, signs: np.ndarray, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mask and flips of the first |value| edges of each connection that are on its side, or may be turned to it (`signed`)."""
    side = np.sign(values)[:, None]
    serves = np.ones(signs.shape, bool) if signed else signs == side
    mask = serves & (np.cumsum(serves, 1) <= np.abs(values.astype(np.int16))[:, None])
    return mask, mask & (signs != side)


def room(signs: np.ndarray, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Edges that can make each connection positive, and negative; flat."""
    plus, minus = ((signs == side).sum(1).reshape(-1) for side in (1, -1))
    return (plus + minus, plus + minus) if signed else (plus, minus)


# int8 weights


def pack_int8(values: np.ndarray) -> bytes:
    """The shorter of one byte each and a range code: how many bits |value| has (adaptive), its side, the bits below the first."""
    plain = bytes([_RAW]) + values.astype(np.int8).tobytes()
    if values.size > MOST_SYMBOLS:
        return plain
    bits, contexts = [], []
    for value in values.reshape(-1).tolist():
        length = abs(value).bit_length()
        node = 1
        for place in (3, 2, 1, 0):
            bits.append(length >> place & 1)
            contexts.append(node)
            node = node * 2 + bits[-1]
        below = [int(value < 0), *(abs(value) >> place & 1 for place in range(length - 2, -1, -1))] if value else []
        bits += below
        contexts += [HALF] * len(below)
    coded = bytes([_RANGE]) + encode(bits, contexts, _LENGTHS)
    return min(coded, plain, key=len)


def unpack_int8(code: bytes, size: int) -> np.ndarray:
    """int8 [size], the inverse of `pack_int8`. Raises TicketError."""
    if code[:1] == bytes([_RAW]) and len(code) == size + 1:
        return np.frombuffer(code, np.int8, offset=1)
    decoder, values = Decoder(code[1:], _LENGTHS), np.zeros(size, np.int16)
    for i in range(size):
        node = 1
        for _ in range(4):
            node = node * 2 + decoder.bit(node)
        length = node - 16
        if length:
            sign = -1 if decoder.bit(HALF) else 1
            number = 1
            for _ in range(length - 1):
                number = number * 2 + decoder.bit(HALF)
            values[i] = sign * min(number, 256)
    if np.abs(values).max(initial=0) > 128 or pack_int8(values.astype(np.int8)) != code:
        raise TicketError(f"weights: not the code of {size} int8 values: fetch the packet again")
    return values.astype(np.int8)


_LENGTHS = 16


# values per channel


def pack_parameters(values: np.ndarray) -> bytes:
    """float32 values: one byte each and the unit they are multiples of, where rounding.py made them so; else four bytes each."""
    unit = grid_unit(values)
    if unit is None:
        return bytes([_RAW]) + values.astype("<f4").tobytes()
    codes = np.round(values / unit) if unit else np.zeros(len(values))
    return bytes([_RANGE]) + np.float32(unit).astype("<f4").tobytes() + codes.astype(np.int8).tobytes()


def unpack_parameters(code: bytes, size: int) -> np.ndarray:
    """float32 [size], the inverse of `pack_parameters`. Raises TicketError."""
    if code[:1] == bytes([_RAW]) and len(code) == 1 + 4 * size:
        return np.frombuffer(code, "<f4", offset=1)
    if code[:1] != bytes([_RANGE]) or len(code) != 5 + size:
        raise TicketError(f"parameters: not {size} values: fetch the packet again")
    return np.frombuffer(code, np.int8, offset=5) * np.frombuffer(code, "<f4", count=1, offset=1)
