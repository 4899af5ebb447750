"""A board at the end of a serial line that runs an exported folder's serial.c: the vectors bit for bit, then latency by its clock.

The text protocol is that of MLPerf Tiny's runner (mlcommons/tiny, benchmark/api): a command ends in %, an answer in m-ready.
"""

import os
import re
import select
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.budget import Artifact, Cost, Report
from edgeticket.errors import EdgeTicketError, EquivalenceError, UnsupportedError, UsageError
from edgeticket.targets import _build

FORMATS = ("c",)
ADDRESS = "serial:DEVICE[@baud]"
BAUD = 115200
BYTES_A_COMMAND = 31  # as MLPerf Tiny's runner: the board's buffer holds 80 characters
ANSWER_S = 2.0  # to a command that runs nothing
SILENCE_S = 0.2
TRIES = 5  # opening the line resets many boards


def missing() -> str | None:
    """Nothing: the line is opened by the standard library."""
    return None


class Line:
    """An open serial line. `what`: for errors."""

    def __init__(self, descriptor: int, what: str):
        self.descriptor, self.what = descriptor, what
        self.unread = b""

    def ask(self, command: str, timeout_s: float = ANSWER_S) -> list[str]:
        """The lines of the answer. Raises EdgeTicketError when none comes in time, or one that is an error."""
        os.write(self.descriptor, f"{command}%".encode("ascii"))
        lines = self._answer(command, time.monotonic() + timeout_s)
        if error := next((line for line in lines if line.startswith("e-[")), None):
            raise EdgeTicketError(f"{self.what}: {command.split()[0]}: the board says {error[3:-1]!r}")
        return lines

    def settle(self) -> None:
        """Wait for the board to say its name, after whatever it says when it starts. Raises EdgeTicketError when it does not."""
        for attempt in range(TRIES):
            os.write(self.descriptor, b"name%")
            end = time.monotonic() + ANSWER_S
            try:
                while not any(line.startswith("m-name-") for line in self._answer("name", end)):
                    pass
                break
            except EdgeTicketError:
                if attempt == TRIES - 1:
                    raise
        while select.select([self.descriptor], [], [], SILENCE_S)[0]:  # answers to earlier tries
            os.read(self.descriptor, 4096)
        self.unread = b""

    def _answer(self, command: str, end: float) -> list[str]:
        lines: list[str] = []
        while (line := self._line(end, command)) != "m-ready":
            lines.append(line)
        return lines

    def _line(self, end: float, command: str) -> str:
        while b"\n" not in self.unread:
            ready, _, _ = select.select([self.descriptor], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                hint = "is it on, does it run serial.c, is the baud rate right?"
                raise EdgeTicketError(f"{self.what}: no answer to {command.split()[0]!r}: {hint}")
            self.unread += os.read(self.descriptor, 4096)
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode("ascii", "replace").strip()


@contextmanager
def opened(address: str) -> Iterator[Line]:
    """The line as raw bytes, 8N1. Raises UsageError for an address that is none, EdgeTicketError when it cannot be opened."""
    device, _, baud = address.partition("@")
    speed = getattr(termios, f"B{baud or BAUD}", None)
    if speed is None or not device.startswith("/"):
        raise UsageError(f"serial:{address}: write {ADDRESS}, as serial:/dev/ttyACM0@115200, with a usual baud rate")
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        raise EdgeTicketError(
            f"serial:{device}: {error.strerror}: is it plugged in, and are you in its group?"
        ) from error
    try:
        _set_raw(descriptor, speed, device)
        yield Line(descriptor, f"serial:{device}")
    finally:
        os.close(descriptor)


def _set_raw(descriptor: int, speed: int, device: str) -> None:
    try:
        tty.setraw(descriptor)
        mode = termios.tcgetattr(descriptor)
        mode[2] |= termios.CLOCAL | termios.CREAD
        mode[4] = mode[5] = speed
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, mode)
    except termios.error as error:
        raise EdgeTicketError(f"serial:{device}: not a serial line ({error})") from error


def measure(
    artifacts: Sequence[Artifact],
    *,
    address: str,
    threads: int,
    runs: int,
    warmup: int,
    period_ms: float | None,
    timeout_s: float,
    **_: Any,
) -> list[Report]:
    """One report, of the folder that the board was built from.

    Raises UsageError for more than one folder or a wrong address, EquivalenceError when the board holds another network or gives
    a code that differs, EdgeTicketError when it does not answer or `timeout_s` is over.
    """
    _build.check_plain("serial", threads, period_ms)
    if len(artifacts) != 1:
        raise UsageError("a board holds one network: give one folder, the one that it was built from")
    (artifact,) = artifacts
    name = _build.network_name(artifact)
    files = {
        path: content.decode()
        for path, content in artifact.contents
        if path in (f"{name}.h", f"{name}{_build.SELFTEST}")
    }
    end = time.monotonic() + timeout_s
    with opened(address) as line:
        environment = _introduced(line, artifact.path, files[f"{name}.h"])
        vectors = _check(line, artifact.path, files[f"{name}{_build.SELFTEST}"], end)
        wall = [_infer(line, warmup if i == 0 else 0, end)[0] for i in range(runs)]
    if not max(wall):
        raise EdgeTicketError(
            f"{line.what}: its clock counts microseconds and says that none went by: no latency is known"
        )
    details = {
        "selftest": "passed",
        "vectors": vectors,
        "warmup": warmup,
        "resolution_ms": 1e-3,
        "energy": "not measured",
    }
    cost = Cost(line.what, "measured", latency_ms=float(np.median(wall)))
    return [Report(str(artifact.path), artifact.sha256, line.what, cost, {"wall_ms": wall}, environment, details)]


def _introduced(line: Line, path: Path, header: str) -> dict[str, Any]:
    """What the board says that it is. Raises EquivalenceError when it holds another network."""
    line.settle()
    said = line.ask("name") + line.ask("profile")
    facts = {match[1]: match[2] for text in said if (match := re.fullmatch(r"m-(\w+)-(?:dut-)?\[(.*)\]", text))}
    own = re.search(r'^#define \w+_DIGEST "(\w*)"', header, re.MULTILINE)
    if own and facts.get("digest") != own[1]:
        told = facts.get("digest", "not told")
        raise EquivalenceError(f"{path}: the board holds another network (digest {told}, not {own[1]}): flash this one")
    return {"threads": 1, **facts}


def _check(line: Line, path: Path, selftest: str, end: float) -> int:
    """How many vectors gave every code that they must. Raises EquivalenceError at the first that does not."""
    inputs, outputs = arrays(selftest, "in"), arrays(selftest, "expected")
    if not inputs or not outputs:
        raise UnsupportedError(f"{path}: its self-test holds no vectors: export it again")
    for i in range(len(inputs[0])):
        _load(line, b"".join(values[i].tobytes() for values in inputs))
        codes = _infer(line, 0, end)[1]
        expected = [int(code) for values in outputs for code in values[i]]
        if codes != expected:
            wrong = sum(a != b for a, b in zip(codes, expected, strict=False)) + abs(len(codes) - len(expected))
            raise EquivalenceError(
                f"{path} on {line.what}: vector {i}: {wrong} of {len(expected)} codes wrong: rebuild it there"
            )
    return len(inputs[0])


def arrays(selftest: str, what: str) -> list[np.ndarray]:
    """Every et_`what`N of a self-test's text: [vectors, numbers], little-endian as on the board."""
    pattern = rf"static const (u?int\d+)_t et_{what}\d+\[(\d+)\]\[(\d+)\] = \{{(.*?)\}};"
    found = re.findall(pattern, selftest, re.DOTALL)
    return [
        np.array(re.findall(r"-?\d+", numbers), np.int64)
        .reshape(int(rows), int(columns))
        .astype(np.dtype(kind).newbyteorder("<"))
        for kind, rows, columns, numbers in found
    ]


def _load(line: Line, content: bytes) -> None:
    line.ask(f"db load {len(content)}")
    for at in range(0, len(content), BYTES_A_COMMAND):
        line.ask(f"db {content[at : at + BYTES_A_COMMAND].hex()}")


def _infer(line: Line, warmup: int, end: float) -> tuple[float, list[int]]:
    """Milliseconds of one inference by the board's clock, and the codes of its outputs."""
    said = line.ask(f"infer 1 {warmup}", max(0.0, end - time.monotonic()))
    laps = [int(text.removeprefix("m-lap-us-")) for text in said if text.startswith("m-lap-us-")]
    results = [text for text in said if text.startswith("m-results-[")]
    if len(laps) != 2 or len(results) != 1:
        raise EdgeTicketError(f"{line.what}: infer: not the answer of this protocol: {said}")
    return (laps[1] - laps[0]) % (1 << 32) / 1e3, [int(code) for code in re.findall(r"-?\d+", results[0])]
