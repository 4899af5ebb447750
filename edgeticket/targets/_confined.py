"""Foreign ONNX files, looked at and run in child processes with limits: this process parses none of them and runs none."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgeticket.errors import EdgeTicketError, UnsupportedError
from edgeticket.text import printable

FOLDER = Path(__file__).parent
CONFINE, CHECK, WORKER = (FOLDER / name for name in ("confine.py", "onnx_check.py", "ort_worker.py"))
MB = 10**6
MEMORY_MB, LEAST_MEMORY_MB = 4000, 300  # ONNX Runtime alone takes about 110
MAX_FILE_BYTES = 512 << 20
MAX_INPUT_ELEMENTS = 1 << 27
MAX_NODES, MAX_DEPTH = 100_000, 16  # of all graphs in a file together; of graphs inside graphs
BATCH = 64  # examples that are run at once
LAST_WORDS = 1 << 14  # bytes of stderr that are read
LONGEST_LINE = 500  # characters of it that are shown
OUT_OF_MEMORY = re.compile(
    r"MemoryError|bad_alloc|bad allocation|Failed to allocate memory|cannot allocate memory|Unable to allocate", re.I
)


@dataclass(frozen=True)
class Limits:
    """What a child may take: memory that it can write to, in MB of 10^6 bytes (None: any), and time."""

    memory_mb: int | None = MEMORY_MB
    timeout_s: float = 600


def ask(program: Path, request: Mapping[str, Any], what: str, limits: Limits) -> dict[str, Any]:
    """The answer of CHECK or WORKER. Raises EdgeTicketError, which names `what`, where it fails, crashes or exceeds its limits."""
    size = str((limits.memory_mb or 0) * MB)
    command = [sys.executable, "-P", str(CONFINE), str(os.getpid()), size, str(program)]
    with tempfile.TemporaryFile() as said:  # a foreign file decides how much that is
        try:
            done = subprocess.run(
                command,
                input=json.dumps(request).encode(),
                stdout=subprocess.PIPE,
                stderr=said,
                timeout=limits.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EdgeTicketError(
                f"{what}: not finished after {limits.timeout_s:g} s, and ended: it may never finish; if it would, ask for fewer "
                "runs, a shorter period, or a longer timeout"
            ) from error
        if done.returncode:
            raise EdgeTicketError(f"{what}: {_why(done.returncode, _last_words(said), limits)}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _why(code: int, words: str, limits: Limits) -> str:
    """A negative exit status is the number of the signal that ended the child."""
    last = _last_line(words)
    if limits.memory_mb and OUT_OF_MEMORY.search(words):
        return (
            f"needs more than {limits.memory_mb} MB of memory: allow more (bench --memory-mb) if you trust it: {last}"
        )
    if code == -9:
        return "it was killed (signal 9): where nobody did that, this machine has run out of memory: allow less (bench --memory-mb)"
    return f"ONNX Runtime crashed (signal {-code}): {last}" if code < 0 else f"ONNX Runtime cannot run it: {last}"


def _last_words(said: IO[bytes]) -> str:
    end = said.seek(0, os.SEEK_END)
    said.seek(max(0, end - LAST_WORDS))
    return said.read().decode(errors="replace")


def _last_line(text: str) -> str:
    line = next((line for line in reversed(text.splitlines()) if line.strip()), "(no message)")
    return printable(line[:LONGEST_LINE])


def check(paths: Sequence[Path], limits: Limits, *, sized: bool = False) -> list[dict[str, int]]:
    """How often each operation is in each file. `sized`: the sizes of its inputs have to be known.

    Raises UnsupportedError for a file that is not one graph, complete in itself, of operations that are known, of a size that is
    reasonable here; and what `ask` raises.
    """
    asked = {"files": [[str(path.resolve()), path.name] for path in paths], "most": _most(paths), "sized": sized}
    found: list[dict[str, int]] = _answer(CHECK, asked, ", ".join(path.name for path in paths), limits)["operations"]
    return found


def _most(paths: Sequence[Path]) -> dict[str, int]:
    """What a file may hold. Raises UnsupportedError for one that is too large to be read."""
    for path in paths:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise UnsupportedError(f"{path.name}: {size} bytes, more than the {MAX_FILE_BYTES} that are taken here")
    return {"nodes": MAX_NODES, "depth": MAX_DEPTH, "input_elements": MAX_INPUT_ELEMENTS}


def _answer(program: Path, request: Mapping[str, Any], what: str, limits: Limits) -> dict[str, Any]:
    answer = ask(program, request, what, limits)
    if "refused" in answer:
        raise UnsupportedError(answer["refused"])
    return answer


def outputs(
    paths: Sequence[Path], raw: np.ndarray, size: int, limits: Limits = Limits()
) -> list[tuple[np.ndarray, dict[str, int]]]:
    """Of each file its first output for raw sensor values [n, *shape], and how often each operation is in it; by one child.

    `size`: the values that it gives of an example. Raises UnsupportedError where it gives others, and what `check` raises.
    """
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as folder:
        given, made = Path(folder) / "given.npy", [Path(folder) / f"{i}.npy" for i in range(len(paths))]
        np.save(given, raw, allow_pickle=False)
        files = [[str(path.resolve()), path.name, str(own)] for path, own in zip(paths, made, strict=True)]
        asked = {"do": "infer", "files": files, "most": _most(paths), "given": str(given), "size": size, "batch": BATCH}
        answer = _answer(WORKER, asked, ", ".join(path.name for path in paths), limits)
        return [
            (np.load(own, allow_pickle=False), found) for own, found in zip(made, answer["operations"], strict=True)
        ]
