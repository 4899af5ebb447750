"""Reports of one device that leave it once each, whatever is killed when: numbered, on disk before they leave, kept until they arrived.

    outbox = Outbox(Path("line-7.json"), "line-7")
    outbox.add(digest, trial.take().to_json())     # edgeticket/trial.py
    lines = outbox.waiting()
    if post(lines):                                # the server answered 200
        outbox.acknowledge(lines)

A number is used up on disk before its report can leave, so it may be lost but never comes back with other content. A report that
was not acknowledged is sent again with the same bytes, and counts once (edgeticket/rollout/replay.py).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.files import remove_aside, write_atomic

FORMAT = "edgeticket-outbox 1"
MOST = 1440  # reports that are kept: a day of one a minute


class Outbox:
    """Reports of `device` in the file `path`, which is made with the first one. One process and one thread at a time.

    Where nobody takes reports, the oldest of more than MOST are dropped. Raises UsageError where the file is another device's,
    EdgeTicketError where it is damaged: this cannot come of a crash.
    """

    def __init__(self, path: Path, device: str) -> None:
        self._path, self._device = path, device
        remove_aside(path)
        self._next, self._lines = _read(path, device)
        self._saved = True

    def add(self, model: str, counts: Mapping[str, Any]) -> bytes:
        """Number and keep a report on the model of this digest; returns its line, which may leave once this has returned.

        Raises EdgeTicketError where it cannot be written. It is kept in memory then, and `waiting` tries again.
        """
        whole = {"device": self._device, "model": model, "sequence": self._next, **counts}
        line = json.dumps(whole, allow_nan=False).encode()
        self._next += 1
        self._lines = [*self._lines, line][-MOST:]
        self._save()
        return line

    def waiting(self) -> list[bytes]:
        """What was not acknowledged, oldest first; all of it is on disk. Raises EdgeTicketError where that fails."""
        if not self._saved:
            self._save()
        return list(self._lines)

    def acknowledge(self, lines: Sequence[bytes]) -> None:
        """Forget these. Raises EdgeTicketError where that cannot be written: they may be sent again after a restart."""
        gone = set(lines)
        self._lines = [line for line in self._lines if line not in gone]
        self._save()

    def _save(self) -> None:
        self._saved = False
        lines = [line.decode() for line in self._lines]
        whole = {"format": FORMAT, "device": self._device, "next": self._next, "waiting": lines}
        write_atomic(self._path, json.dumps(whole).encode())
        self._saved = True


def _read(path: Path, device: str) -> tuple[int, list[bytes]]:
    """The next number and the lines that wait."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return 0, []
    except OSError as error:
        raise EdgeTicketError(f"cannot read {path}: {error.strerror or error}: check the disk") from error
    try:
        whole = json.loads(content)
        found = whole["format"], whole["device"], whole["next"], [line.encode() for line in whole["waiting"]]
        numbers = [json.loads(line)["sequence"] for line in found[3]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _damaged(path) from None
    if found[0] != FORMAT or not all(type(number) is int for number in [found[2], *numbers]):
        raise _damaged(path)
    if sorted({*numbers, found[2]}) != [*numbers, found[2]]:
        raise _damaged(path)
    if found[1] != device:
        raise UsageError(f"{path} holds the reports of {found[1]}, not of {device}: name another file")
    return found[2], found[3]


def _damaged(path: Path) -> EdgeTicketError:
    return EdgeTicketError(
        f"{path} is damaged: remove it, and take the device out of the fleet and add it again, as its numbers begin anew"
    )
