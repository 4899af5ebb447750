"""`sweep` and `poc`, the real commands, killed again and again: in the end what they leave is an undisturbed run's."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_pool import runs, wait_until

pytest.importorskip("torch")

# A worker reads this file too. Kills fall into saves, and between them: every 0.1 s, not every 30.
SAVING_OFTEN = """
from edgeticket.search._training import Checkpoint
Checkpoint.__init__.__defaults__ = (0.1,)
if __name__ == "__main__":
    from edgeticket.cli import main
    main(prog_name="edgeticket")
"""
MEASURED = {  # with a clock, or a machine's memory; and the seal over them
    *("cpu_seconds", "wall_seconds", "run_wall_seconds", "search_cpu_seconds", "total_cpu_seconds", "device_seconds"),
    *(
        "per_success",
        "latency_ms",
        "first_ms",
        "init_ms",
        "percentiles",
        "samples_ms",
        "peak_rss_bytes",
        "joules",
        "seal",
    ),
}
SWEEP = ["sweep", "-d", "digits", "-m", "conv:8,8", "-m", "conv:16,16", "--density", "0.5", "--seeds", "0,1"]
SWEEP += ["--epochs", "6", "-o", "made.jsonl"]
POC = ["poc", "-d", "digits", "-m", "conv:8,8", "--density", "0.2,conv1=0.5", "--epochs", "2", "--seeds", "2"]
POC += ["--success", "accuracy >= float - 0.3", "--probability", "0.1", "-o", "made"]


def lasting(value: Any) -> Any:
    """A record or row without what is measured."""
    if isinstance(value, dict):
        return {key: lasting(each) for key, each in value.items() if key not in MEASURED}
    return [lasting(each) for each in value] if isinstance(value, list) else value


def rows(path: Path) -> list[str]:
    """In an order that does not depend on which worker was first."""
    return sorted(json.dumps(lasting(json.loads(line)), sort_keys=True) for line in path.read_text().splitlines())


def made(folder: Path) -> dict[str, Any]:
    """All that lies in a folder: bytes, but for JSON that holds measured values."""
    special: dict[str, Callable[[Path], Any]] = {
        ".jsonl": rows,
        "poc.json": lambda path: lasting(json.loads(path.read_text())),
    }
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): special.get(path.name, special.get(path.suffix, Path.read_bytes))(path)
        for path in files
    }


def parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            yield int(entry.name), int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue


def descendants(pid: int) -> list[int]:
    known, found = list(parents()), [pid]
    for one in found:
        found += [child for child, parent in known if parent == one]
    return found[1:]


@dataclass
class Command:
    """A command in a folder of its own. `target`: what is there when it is done; `orphans`: processes of runs that were killed."""

    folder: Path
    words: list[str]
    target: Path
    orphans: list[int] = field(default_factory=list)

    @staticmethod
    def of(folder: Path, words: list[str]) -> "Command":
        folder.mkdir()
        (folder.parent / "often.py").write_text(SAVING_OFTEN)
        return Command(folder, words, folder / words[words.index("-o") + 1])

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XDG_CACHE_HOME": str(self.folder.parent)}
        command = [sys.executable, str(self.folder.parent / "often.py"), *self.words]
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def works(self, process: subprocess.Popen[bytes], start_ns: int) -> bool:
        """Whether it holds its place and has saved something itself, or has ended."""
        mark = self.target.with_name(f".{self.target.name}.lock")
        try:
            holds = f"process {process.pid} " in mark.read_text()
            saved = holds and any(path.stat().st_mtime_ns > start_ns for path in self.saved())
        except FileNotFoundError:
            saved = False
        return process.poll() is not None or saved

    def saved(self) -> list[Path]:
        patterns = ("made.jsonl", "made.partial/rows.jsonl", "**/*.checkpoint")
        return [path for pattern in patterns for path in self.folder.glob(pattern)]

    def begin(self, waits: bool = True) -> subprocess.Popen[bytes]:
        """`waits`: until it works."""
        start_ns = time.time_ns()
        process = self.start()
        if waits:
            wait_until(lambda: self.works(process, start_ns))
        return process

    def undisturbed(self) -> tuple[float, float]:
        """Seconds until it works, and from there to its end."""
        start = time.monotonic()
        process = self.begin()
        begin = time.monotonic()
        assert process.wait() == 0, process.stderr.read().decode()
        return begin - start, time.monotonic() - begin

    def kill(self, process: subprocess.Popen[bytes], with_workers: bool) -> None:
        """The parent alone, or its workers at the same moment."""
        below = descendants(process.pid)
        for pid in (process.pid, *(below if with_workers else ())):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        self.orphans += below


def survive(command: Command, moments: Sequence[float], seconds: tuple[float, float], same: Callable[[], None]) -> None:
    """Start, kill, start again at once; when it is done, see that all is the `same`, and begin anew until all kills have hit.

    `moments`: of each kill, in parts of the time from what a run saves first to its end; of each fourth, from its start.
    """
    hits, gone_on, (start, work) = 0, 0, seconds
    while hits < len(moments) or not command.target.exists():
        gone_on += bool(command.saved())
        kills, late = hits < len(moments), hits % 4 < 3
        process = command.begin(waits=kills and late)
        try:
            process.wait((work if late else start + work) * moments[hits] if kills else None)
        except subprocess.TimeoutExpired:
            command.kill(process, with_workers=hits % 2 == 0)
            hits += process.returncode != 0  # 0: it was done at that moment
        assert process.stderr is not None
        assert process.returncode in (0, -signal.SIGKILL), process.stderr.read().decode()
        if process.returncode == 0 or (command.words[0] == "poc" and command.target.exists()):
            same()
            if hits < len(moments):
                shutil.rmtree(command.folder)
                command.folder.mkdir()
    assert gone_on
    wait_until(lambda: not any(map(runs, command.orphans)))


OFTEN = np.random.default_rng(0).random(30).tolist()


@pytest.mark.parametrize(
    ("words", "workers", "moments"),
    [
        pytest.param(SWEEP, 2, [0.2, 0.1], marks=pytest.mark.slow, id="sweep on two"),
        pytest.param(POC, 2, [0.1, 0.2], marks=pytest.mark.slow, id="poc on two"),
        pytest.param(SWEEP, 1, OFTEN, marks=pytest.mark.soak, id="sweep, often"),
        pytest.param(SWEEP, 2, OFTEN, marks=pytest.mark.soak, id="sweep on two, often"),
        pytest.param(POC, 1, OFTEN, marks=pytest.mark.soak, id="poc, often"),
        pytest.param(POC, 2, OFTEN, marks=pytest.mark.soak, id="poc on two, often"),
    ],
)
def test_killed_again_and_again_it_ends_as_if_undisturbed(
    words: list[str], workers: int, moments: list[float], tmp_path: Path
) -> None:
    cut = Command.of(tmp_path / "cut", [*words, "--workers", str(workers)])
    of_whole = workers if words is POC else 1  # a poc's record says how many; rows are the same for one
    whole = Command.of(tmp_path / "whole", [*words, "--workers", str(of_whole)])
    seconds, begin = whole.undisturbed(), time.monotonic()

    def same() -> None:
        found, right = made(cut.folder), made(whole.folder)
        assert found.keys() == right.keys()  # no checkpoint, no lock, nothing half-written
        assert [name for name in right if found[name] != right[name]] == []

    survive(cut, moments, seconds, same)
    print(
        f"{len(moments)} kills in {time.monotonic() - begin:.0f} s; undisturbed {seconds[0]:.1f} + {seconds[1]:.1f} s"
    )


@pytest.mark.slow
def test_a_signal_ends_find_within_two_seconds_and_it_can_go_on(tmp_path: Path) -> None:
    words = ["find", "-d", "digits", "-m", "conv:32,64,64", "--epochs", "100000", "-o", "made"]
    command, saved = Command.of(tmp_path / "cut", words), b""
    checkpoint = command.folder / "made.checkpoint"
    for number in (signal.SIGTERM, signal.SIGINT):
        process = command.start()
        wait_until(lambda saved=saved: checkpoint.exists() and checkpoint.read_bytes() != saved)  # type: ignore[misc]
        spent = cpu_seconds(process.pid)
        process.send_signal(number)
        before = os.times()
        told = process.communicate()[1].decode()
        after = os.times()
        whole = after.children_user + after.children_system - before.children_user - before.children_system
        assert whole - spent < 2  # of CPU: on a busy machine the clock says nothing
        assert process.returncode == 130
        assert "find --resume" in told
        saved = checkpoint.read_bytes()
        command.words = [*words, "--resume"]
    assert list(command.folder.iterdir()) == [checkpoint]


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
