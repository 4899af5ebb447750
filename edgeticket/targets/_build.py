"""Exported C: its folder copied to a place of its own, built there by its own Makefile, and what the tools say when they fail."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeticket.budget import Artifact
from edgeticket.errors import EdgeTicketError, EquivalenceError, UnsupportedError, UsageError
from edgeticket.text import printable

SELFTEST = "_selftest.c"
BUILT = "build"  # where the Makefile puts what it makes: never copied
DEBIAN = {
    "make": "make",
    "cc": "gcc",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
    "ssh": "openssh-client",
    "scp": "openssh-client",
}
_LINES = 15


class ToolError(EdgeTicketError):
    """A command failed; `output` is all that it printed."""

    def __init__(self, message: str, output: str):
        super().__init__(message)
        self.output = output


@dataclass(frozen=True)
class Workplace:
    """A copy of an exported folder that a target may build in. `what`: the folder's name, for errors."""

    folder: Path
    name: str
    what: str

    def make(self, *arguments: str, timeout_s: float) -> str:
        """Output of `make`. Raises ToolError."""
        return run(["make", "-s", "--no-print-directory", *arguments], self.what, timeout_s, self.folder)

    @property
    def model_bytes(self) -> int | None:
        """What the header says that the network's constants take; None where it does not."""
        found = re.search(r"^#define \w+_MODEL_BYTES (\d+)", (self.folder / f"{self.name}.h").read_text(), re.MULTILINE)
        return int(found[1]) if found else None


def missing(*tools: str) -> str | None:
    """Which Debian packages would bring the tools that are not here, or None."""
    absent = [tool for tool in tools if shutil.which(tool) is None]
    packages = " ".join(dict.fromkeys(DEBIAN[tool] for tool in absent))
    return f"no {', '.join(absent)}: apt-get install {packages}" if absent else None


def check_plain(target: str, threads: int, period_ms: float | None) -> None:
    """Raise UsageError for what only a runtime on an operating system can do."""
    if threads != 1 or period_ms is not None:
        raise UsageError(f"target {target} runs one thread, back to back: leave out --threads and --period-ms")


@contextmanager
def workplace(artifact: Artifact) -> Iterator[Workplace]:
    """The files as they were hashed, in a temporary folder. Raises UnsupportedError unless they are what `export --to c` writes."""
    name = network_name(artifact)
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as folder:
        for path, content in sources(artifact):
            place = Path(folder, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        yield Workplace(Path(folder), name, artifact.path.name)


def sources(artifact: Artifact) -> list[tuple[str, bytes]]:
    """(name, content) of the files, without what an earlier `make` left."""
    return [(path, content) for path, content in artifact.contents if Path(path).parts[0] != BUILT]


def network_name(artifact: Artifact) -> str:
    """NAME of NAME_selftest.c. Raises UnsupportedError when the folder is not what `export --to c` writes."""
    files = {path for path, _ in artifact.contents}
    # An identifier and nothing else: the name becomes part of command lines.
    names = [
        match[1] for path in files if (match := re.fullmatch(rf"([A-Za-z_]\w*){re.escape(SELFTEST)}", path, re.ASCII))
    ]
    needed = (
        {f"{names[0]}.c", f"{names[0]}.h", "port.c", "cortex-m.ld", "Makefile"}
        if len(names) == 1
        else {f"NAME{SELFTEST}"}
    )
    if absent := sorted(needed - files):
        raise UnsupportedError(
            f"{artifact.path}: not a folder of C as `edgeticket export --to c` writes it: no {', '.join(absent)}: export it again"
        )
    return names[0]


def run(command: Sequence[str], what: str, timeout_s: float, folder: Path | None = None, stdin: str = "") -> str:
    """What a command prints, both streams; it and its children end with the timeout. Raises ToolError."""
    # Options of a `make` around this program, and another language in the tools' words, would change what is read.
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment | {"LC_ALL": "C"},
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(stdin, timeout=timeout_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            output = process.communicate()[0]
            text = f"{what}: {command[0]} not finished after {timeout_s:g} s: allow more with --timeout-s"
            raise ToolError(text, output) from error
    if process.returncode:
        raise ToolError(f"{what}: {command[0]} failed (status {process.returncode}):\n{tail(output)}", output)
    return output


def tail(output: str) -> str:
    """The last lines, for an error text."""
    return "\n".join(f"  {printable(line.expandtabs())}" for line in output.strip().splitlines()[-_LINES:])


def version(tool: str) -> str:
    """The first line that a tool prints about itself."""
    return run([tool, "--version"], tool, 60).partition("\n")[0]


def check_passed(output: str, where: str) -> None:
    """Raise EquivalenceError unless a self-test printed that every code is right."""
    if re.search(r"^self-test: \d+ vectors, 0 codes wrong: passed$", output, re.MULTILINE):
        return
    said = next((line for line in output.splitlines() if line.startswith("self-test:")), "the self-test said nothing")
    raise EquivalenceError(
        f"{where}: {said.strip()}: the C code does not compute what the exported network computes here"
    )


def numbers(output: str) -> Mapping[str, list[int]]:
    """Lines of a word and whole numbers, by their word."""
    rows = (line.split() for line in output.splitlines() if re.fullmatch(r"[a-z_]+( -?\d+)+", line))
    return {word: [int(value) for value in values] for word, *values in rows}
