"""Two runs on one place refuse each other; the lock goes with its process, whatever ends that."""

import errno
import fcntl
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_pool import runs

from edgeticket.cli import main
from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.lock import alone

HELD = (
    r"another run is at work on it \(process {} on .+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\): wait until that ends"
)
HOLD = """
import subprocess, sys, time
from pathlib import Path
from edgeticket.lock import alone
with alone(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "600"])
    print(child.pid, flush=True)
    time.sleep(600)
"""


def holder(path: Path) -> tuple[subprocess.Popen[str], int]:
    """A process that holds `path`, and one that it has started."""
    started = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    return started, int(started.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_second_run_is_refused_until_the_first_has_ended_in_any_way(number: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    first, child = holder(path)
    try:
        with pytest.raises(UsageError, match=HELD.format(first.pid)), alone(path):
            pass
        with alone(tmp_path / "b.ticket"), alone(tmp_path / "a"):  # others are no concern
            pass
        first.send_signal(number)
        first.wait()
        assert runs(child)  # which has not kept the lock
        with alone(path):
            assert f"process {os.getpid()} on" in (tmp_path / ".a.ticket.lock").read_text()
    finally:
        os.kill(child, signal.SIGKILL)
        first.kill()
        first.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_link_and_what_it_leads_to_are_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").symlink_to("real/x")
    with alone(tmp_path / "real" / "x"):
        for same in ("link/x", "file", "real/../real/x"):
            with pytest.raises(UsageError, match=HELD.format(os.getpid())), alone(tmp_path / same):
                pass


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    for name in (".a.abcd_123.aside", ".a.b.abcd_123.aside", ".a.aside", "a.abcd_123.aside"):
        (tmp_path / name).touch()
    with alone(tmp_path / "a"):
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            ".a.aside",
            ".a.b.abcd_123.aside",
            ".a.lock",
            "a.abcd_123.aside",
        ]


def test_whoever_waited_while_the_file_was_removed_holds_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, mark = fcntl.flock, tmp_path / ".a.lock"

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        mark.unlink()  # the holder before ends just now
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with alone(tmp_path / "a"):
        assert mark.exists()
        with pytest.raises(UsageError, match="another run"), alone(tmp_path / "a"):
            pass


def test_another_users_file_is_obeyed_while_it_is_held_and_replaced_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, opened = tmp_path / ".a.lock", os.open
    mark.write_text("process 7 on press")

    def not_to_be_written(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR and mark.exists() and "press" in mark.read_text():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", not_to_be_written)
    with mark.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(UsageError, match=r"another run is at work on it \(process 7 on press\)"),
            alone(tmp_path / "a"),
        ):
            pass
    with alone(tmp_path / "a"):
        assert f"process {os.getpid()} on" in mark.read_text()
        with pytest.raises(UsageError, match=HELD.format(os.getpid())), alone(tmp_path / "a"):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_it_is_said_and_the_work_is_done(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none)
    with caplog.at_level(logging.WARNING, "edgeticket.lock"), alone(tmp_path / "a"):
        pass
    assert (
        f"{tmp_path / 'a'}: its file system has no locks ({os.strerror(code)}): see that no second run" in caplog.text
    )
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is not a folder: make it first"), alone(tmp_path / "no" / "a"):
        pass
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / ".a.lock").symlink_to(other)  # never followed
    with (
        pytest.raises(EdgeTicketError, match=r"cannot write .*\.a\.lock: .*nothing was changed"),
        alone(tmp_path / "a"),
    ):
        pass
    assert other.read_text() == "precious"


def words(command: str, folder: Path) -> list[str]:
    common = ["-d", "digits", "-m", "conv:4,8", "--epochs", "1"]
    config = folder / "own.yaml"
    config.write_text("{name: own, model: 'conv:4,8', data: digits, find: {epochs: 1}}")
    return {
        "find": ["find", *common, "-o", str(folder / "out")],
        "sweep": ["sweep", *common, "--seeds", "0", "-o", str(folder / "out")],
        "poc": ["poc", *common, "--seeds", "1", "--probability", "0.1", "-o", str(folder / "out")],
        "benchmark": ["benchmark", "--folder", str(folder / "out"), "-o", str(folder / "record.json")],
        "benchmark's record": ["benchmark", "--folder", str(folder / "other"), "-o", str(folder / "out")],
        "run": ["run", str(config), "--folder", str(folder)],
    }[command]


@pytest.mark.parametrize("command", ["find", "sweep", "poc", "benchmark", "benchmark's record", "run"])
def test_every_long_command_refuses_where_another_is_at_work(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr("edgeticket.poc.suite.poc", None)  # else a benchmark that is not refused takes an hour
    target = tmp_path / ("own" if command == "run" else "out")
    asked = words(command, tmp_path)
    before = sorted(tmp_path.iterdir())
    with alone(target):
        done = CliRunner().invoke(main, asked)
    assert done.exit_code == 2, done.output
    assert re.search(rf"Error: {re.escape(str(target))}: " + HELD.format(os.getpid()), done.stderr)
    assert sorted(tmp_path.iterdir()) == before
