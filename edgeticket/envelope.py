"""ETU1, the envelope in which a packet goes to a device: who may take it, in which order, and a signature over all of it.

Little-endian; exporters/c/port/slots.c reads the same bytes.

    0  ETU1      8 class: 16 bytes of SHA-256 of its word     28 firmware, as in the packet   40 SHA-256 of the packet
    4  length   24 sequence                                   36 length of the packet         72 signature    136 packet
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from edgeticket.errors import BundleError
from edgeticket.signing import NO_SIGNATURE, require_signed, sign

MAGIC, CONTEXT = b"ETU1", b"edgeticket-update 1\n"
SIGNED, HEADER = 72, 136  # bytes before the signature, and before the packet
FIRMWARE = slice(16, 24)  # of a packet
LAST_SEQUENCE = (1 << 32) - 1
MAX_PACKET = 1 << 24
JUMP = 1000  # most by which a sequence may be above the last one: a forged last number would stop all updates


@dataclass(frozen=True)
class Envelope:
    target_class: bytes  # 16 bytes
    sequence: int
    firmware: bytes  # 8 bytes
    packet: bytes
    signed: bytes  # what the signature is over
    signature: bytes


def class_digest(target_class: str) -> bytes:
    return hashlib.sha256(target_class.encode()).digest()[:16]


def pack(packet: bytes, target_class: str, sequence: int, private: bytes | None = None) -> bytes:
    """The envelope; `private`, a key in PEM, signs it, and without one no device takes it. Raises BundleError for what does not fit."""
    if not 1 <= sequence <= LAST_SEQUENCE:
        raise BundleError("sequence", f"sequence {sequence} is not within 1 and {LAST_SEQUENCE}")
    if not FIRMWARE.stop <= len(packet) <= MAX_PACKET:
        raise BundleError("size", f"a packet of {len(packet)} bytes")
    fields = (
        MAGIC,
        _u32(HEADER + len(packet)),
        class_digest(target_class),
        _u32(sequence),
        packet[FIRMWARE],
        _u32(len(packet)),
        hashlib.sha256(packet).digest(),
    )
    signed = b"".join(fields)
    return signed + (sign(private, CONTEXT, signed) if private else NO_SIGNATURE) + packet


def parse(content: bytes) -> Envelope:
    """Its fields, after every length and digest. Raises BundleError; the signature is `check`'s."""
    if len(content) < HEADER + FIRMWARE.stop or content[:4] != MAGIC:
        raise BundleError("cut", "not an update envelope, or not all of one")
    length, packet = _number(content, 4), content[HEADER:]
    if length != len(content) or _number(content, 36) != len(packet):
        raise BundleError("cut", f"an envelope of {len(content)} bytes says it has {length}")
    if content[40:SIGNED] != hashlib.sha256(packet).digest():
        raise BundleError("digest", "the packet is not the one that the envelope names")
    if content[28:36] != packet[FIRMWARE]:
        raise BundleError("manifest", "the envelope names another firmware than its packet")
    return Envelope(
        content[8:24], _number(content, 24), content[28:36], packet, content[:SIGNED], content[SIGNED:HEADER]
    )


def check(
    content: bytes, keys: Sequence[bytes], *, target_class: str, firmware: bytes, after: int, jump: int = JUMP
) -> bytes:
    """The packet, where a device would take it: signed by one of `keys`, for it, newer than `after`. Else BundleError.

    `content` is all that is looked at, and the packet is part of it: nothing is read twice. `jump` of 0 allows any.
    """
    found = parse(content)
    require_signed(keys, found.signature, CONTEXT, found.signed)
    if found.target_class != class_digest(target_class):
        raise BundleError("class", f"the update is not for {target_class}")
    if found.firmware != firmware:
        raise BundleError("firmware", f"the update is for firmware {found.firmware.hex()}, not {firmware.hex()}")
    require_newer(found.sequence, after, jump)
    return found.packet


def require_newer(sequence: int, after: int, jump: int = JUMP) -> None:
    """Raise BundleError unless `sequence` is above `after`, by at most `jump`; 0: by any number."""
    if sequence <= after:
        raise BundleError("sequence", f"sequence {sequence} is not above {after}")
    if jump and sequence - after > jump:
        raise BundleError("jump", f"sequence {sequence} is {sequence - after:,} above {after}, {jump:,} are allowed")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _number(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 4], "little")
