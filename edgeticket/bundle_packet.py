"""The packet of a bundle and what differs from an older one: made for the firmware of a folder of C, and checked against the ticket."""

import hashlib
import re
from collections.abc import Iterator, Sequence

from edgeticket import envelope
from edgeticket.bundle_file import Bundle
from edgeticket.compact import align, compact
from edgeticket.errors import BundleError, UnsupportedError, UsageError
from edgeticket.model import Model
from edgeticket.packing import FORMS
from edgeticket.signing import NO_SIGNATURE, require_signed
from edgeticket.ticket import Ticket
from edgeticket.wire import Wire, pack
from edgeticket.wire_bytes import PacketError
from edgeticket.wire_delta import HEADER, MAGIC, delta, patch
from edgeticket.wire_reader import read

ALIGNED = (8, 2, 4, 16, 32)  # multiples of channels that exports are made with
Files = dict[str, tuple[str, bytes]]  # path -> role, content


def make(
    ticket: Ticket, files: Files, target_class: str, sequence: int, private: bytes | None, old: bytes | None
) -> Files:
    """The packet for the firmware of the C, in its envelope where there is a key, and what differs from `old`.

    Nothing without a firmware that takes updates. Raises UsageError for an `old` of another firmware.
    """
    wire = for_firmware(ticket, files)
    stem = next(name for name, (role, _) in files.items() if role == "ticket").partition(".")[0]
    if wire is None:
        if old is not None:
            raise UsageError("a difference is of packets, and there is none: give a folder of C that takes updates")
        return {}
    packet = wire.packet
    whole = packet if private is None else envelope.pack(packet, target_class, sequence, private)
    found: Files = {f"{stem}.{'packet' if private is None else 'update'}": ("packet", whole)}
    if old is not None:
        try:
            read(old, wire.firmware)
        except PacketError as error:
            raise UsageError(f"what the difference is to be of is none for this firmware: {error}") from error
        found[f"{stem}.delta"] = ("delta", delta(old, packet))
    return found


def for_firmware(ticket: Ticket, files: Files) -> Wire | None:
    """By the header of the C: the digest of its model and of its firmware. None where it takes no updates, or there is no C."""
    for name, (role, content) in files.items():
        if role == "c" and (found := re.search(rb'_DIGEST "([0-9a-f]{64})"', content)):
            plan = re.search(rb"_PLAN_DIGEST \{((?:0x[0-9A-F]{2}(?:, )?){8})\}", content)
            if plan is None:
                return None
            firmware = bytes(int(byte, 16) for byte in plan[1].split(b","))
            wire = wire_for(aligned(ticket), firmware, found[1].decode())
            if wire is None:
                raise UnsupportedError(f"{name}: no packet of this ticket is for its firmware: export it again")
            read(wire.packet, wire.firmware)
            return wire
    return None


def wire_for(models: Sequence[Model], firmware: bytes, digest: str) -> Wire | None:
    """The wire form of the model with this digest (or its first digits) that a firmware takes, or None."""
    for model in models:
        if model.digest.startswith(digest):
            found = (wire for wire in _wires(model) if wire.firmware.digest == firmware)
            return next(found, None)
    return None


def aligned(ticket: Ticket) -> list[Model]:
    """The compacted network, plain first, then with channels rounded up as exports have them."""
    model = compact(ticket)
    return [model, *(align(model, multiple) for multiple in ALIGNED)]


def _wires(model: Model) -> Iterator[Wire]:
    for form in FORMS:
        try:
            yield pack(model, form)
        except UnsupportedError:
            return


def bare(content: bytes) -> bytes:
    """A packet, out of its envelope if it is in one."""
    return envelope.parse(content).packet if content[:4] == envelope.MAGIC else content


def check(bundle: Bundle, keys: Sequence[bytes], models: Sequence[Model]) -> bytes | None:
    """The packet, out of its envelope, or None."""
    content, told = bundle.one("packet"), bundle.manifest
    if content is None:
        return None
    packet = content
    if content[:4] == envelope.MAGIC:
        found = envelope.parse(content)
        if (found.target_class, found.sequence) != (envelope.class_digest(told["class"]), told["sequence"]):
            raise BundleError("packet", "its update is for another class or of another sequence than the bundle")
        if keys:
            require_signed(keys, found.signature, envelope.CONTEXT, found.signed)
        elif (found.signature == NO_SIGNATURE) != (not bundle.signer):
            raise BundleError("packet", "of bundle and update one is signed and the other is not")
        packet = found.packet
    wire = wire_for(models, packet[envelope.FIRMWARE], packet[24:32].hex())
    if wire is None or wire.packet != packet:
        raise BundleError("packet", "its packet is not what the ticket gives")
    read(packet, wire.firmware)
    return packet


def check_difference(bundle: Bundle, against: bytes, packet: bytes | None) -> str:
    delta, base = bundle.one("delta"), bare(against)
    if delta is None:
        raise BundleError("precursor", "there is no difference in the bundle")
    if hashlib.sha256(base).hexdigest() != bundle.manifest["precursor"]:
        raise BundleError("precursor", "its difference is against another packet than the given one")
    if patch(base, delta) != packet:
        raise BundleError("packet", "its difference does not give its packet")
    return "the difference: it makes the packet of the one that was given"


def check_head(bundle: Bundle, packet: bytes | None) -> None:
    """Of a difference without what it is against: whether its result could be the packet."""
    delta = bundle.one("delta") or b""
    if packet is None or len(delta) < HEADER or delta[:4] != MAGIC:
        raise BundleError("packet", "its difference is none, or there is no packet")
    if delta[8:12] != len(packet).to_bytes(4, "little") or delta[12:16] != packet[-4:]:
        raise BundleError("packet", "its difference gives another packet")
