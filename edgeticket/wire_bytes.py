"""A packet as a device reads it, byte by byte, and what it answers when something is wrong."""

from dataclasses import dataclass, field

from edgeticket.errors import TicketError

CHECKSUM = 4  # bytes
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


@dataclass
class Bytes:
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
