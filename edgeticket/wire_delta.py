"""The difference of two packets: what a device needs to make the second from the first (docs/packet.md, NAME_patch).

`ETD1`, the checksum of the base, length and checksum of the result (each its last four bytes); then, as LEB128, numbers of bytes
to copy from the base, to skip there and to put in, with these after them, until the result is whole.
"""

import zlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from edgeticket.wire_bytes import CHECKSUM, CUT, DAMAGED, FOREIGN, MALFORMED, PacketError
from edgeticket.wire_coding import leb128

MAGIC = b"ETD1"
HEADER = 16
_GRAM = 6  # bytes that are equal by chance once in 2^48, and are worth three numbers


def delta(base: bytes, packet: bytes) -> bytes:
    """The bytes that make `packet` of `base`."""
    runs = (leb128(copy) + leb128(skip) + leb128(len(put)) + put for copy, skip, put in _runs(base, packet))
    return MAGIC + _crc(base) + len(packet).to_bytes(4, "little") + _crc(packet) + b"".join(runs)


def patch(base: bytes, difference: bytes) -> bytes:
    """The packet. Raises PacketError for a damaged difference, or one of another base."""
    if len(difference) < HEADER or difference[:4] != MAGIC:
        raise PacketError(CUT, "not a difference of two packets")
    if len(base) < CHECKSUM or _crc(base) != difference[4:8]:
        raise PacketError(FOREIGN, "made for another base")
    length, made, start, at = int.from_bytes(difference[8:12], "little"), bytearray(), 0, HEADER
    while len(made) < length:
        sizes = []
        for _ in range(3):
            size, at = _size(difference, at)
            sizes.append(size)
        copy, skip, put = sizes
        left = length - len(made)
        if copy > len(base) - start or copy > left or skip > len(base) - start - copy:
            raise PacketError(MALFORMED, "copies more than there is")
        if put > left - copy or put > len(difference) - at:
            raise PacketError(MALFORMED, "puts in more than there is")
        made += base[start : start + copy] + difference[at : at + put]
        start, at = start + copy + skip, at + put
    if length < CHECKSUM or at < len(difference):
        raise PacketError(MALFORMED, f"{len(difference) - at} bytes are left over")
    if not _crc(bytes(made)) == made[-CHECKSUM:] == difference[12:16]:
        raise PacketError(DAMAGED, "the result's checksum is wrong")
    return bytes(made)


def _crc(packet: bytes) -> bytes:
    return zlib.crc32(packet[:-CHECKSUM]).to_bytes(4, "little")


def _size(code: bytes, at: int) -> tuple[int, int]:
    """A number of at most four bytes, and where it ends."""
    value = 0
    for shift in range(0, 28, 7):
        if at == len(code):
            break
        value |= (code[at] & 127) << shift
        at += 1
        if code[at - 1] < 128:
            return value, at
    raise PacketError(MALFORMED, "a size is cut short")


def _runs(base: bytes, packet: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Bytes to copy, to skip and to put in; greedy, forwards in both."""
    places = defaultdict(list)
    for i in range(len(base) - _GRAM + 1):
        places[base[i : i + _GRAM]].append(i)
    i = j = 0
    while j < len(packet):
        copy = _equal(base, packet, i, j)
        i, j = i + copy, j + copy
        first = j
        while j < len(packet):
            found = places.get(packet[j : j + _GRAM], [])
            next_place = bisect_left(found, i)
            if next_place < len(found):
                break
            j += 1
        skip = found[next_place] - i if j < len(packet) else 0
        yield copy, skip, packet[first:j]
        i += skip


def _equal(base: bytes, packet: bytes, i: int, j: int) -> int:
    count = 0
    while i + count < len(base) and j + count < len(packet) and base[i + count] == packet[j + count]:
        count += 1
    return count
