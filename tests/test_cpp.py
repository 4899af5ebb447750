"""The C++ example, built and run as its users do: its labels are the integer network's, its statuses the guard's."""

import csv
import io
import re
import shutil
import subprocess
import time
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import tiny_c

from edgeticket.compact import compact
from edgeticket.data import Data
from edgeticket.export import export
from edgeticket.guard import Guard, Status
from edgeticket.integer import integerise, run
from edgeticket.ticket import read_ticket
from exporters import to_onnx
from exporters.graph import to_bytes

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "cpp"
TICKET = ROOT / "sample_models" / "digits.ticket"
FAULTS = (Status.RANGE, Status.CONSTANT, Status.STUCK)
PATIENCE_S = 60


def fitted(digits: Data) -> Guard:
    return Guard.fit(digits, to_onnx.answers(to_bytes(to_onnx.build(compact(read_ticket(TICKET))))))


@pytest.fixture(scope="module")
def right(digits: Data) -> list[str]:
    """Labels by the specification."""
    return list(map(str, run(integerise(compact(read_ticket(TICKET))), digits.certify[0]).argmax(1)))


@pytest.fixture(scope="module")
def folder(digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported network with its guard."""
    tiny_c.need("cc", "g++", "make")
    return export(read_ticket(TICKET), "c", tmp_path_factory.mktemp("exported") / "digits", guard=fitted(digits)).path


def make(folder: Path, build: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", f"MODEL={folder}", f"BUILD={build}"]
    return subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, timeout=PATIENCE_S)


def built(folder: Path, build: Path) -> Path:
    made = make(folder, build)
    assert made.returncode == 0, made.stderr
    return build / "inspect"


@pytest.fixture(scope="module")
def guarded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(folder, tmp_path_factory.mktemp("guarded"))


def inspect(program: Path, *words: object, frames: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([program, *map(str, words)], input=frames, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == code, done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_every_label_is_the_integer_networks(folder: Path, digits: Data, right: list[str], tmp_path: Path) -> None:
    """Without a guard nothing is withheld: all of the certify part, from a file."""
    plain = shutil.copytree(folder, tmp_path / "plain", ignore=shutil.ignore_patterns("*_guard.*"))
    (tmp_path / "frames").write_bytes(digits.certify[0].tobytes())
    found = rows(inspect(built(plain, tmp_path / "build"), tmp_path / "frames", "--good", 3, "--good", 7))
    assert [row["label"] for row in found] == right
    assert [row["verdict"] for row in found] == ["pass" if label in ("3", "7") else "reject" for label in right]
    assert {row["status"] for row in found} == {"unchecked"}
    assert [row["frame"] for row in found] == list(map(str, range(len(right))))


def test_every_status_is_the_guards_and_a_fault_has_no_label(guarded: Path, digits: Data, right: list[str]) -> None:
    x = digits.certify[0]
    order = [*range(60), *[5] * 6, *range(60, len(x))]  # stuck; and in the end what no sensor of this kind gives
    odd = np.stack([np.zeros_like(x[0]), np.full_like(x[0], 255), np.eye(8, dtype=x.dtype)[None] * 16])
    stream, labels = np.concatenate([x[order], odd]), [right[i] for i in order]
    labels += list(map(str, run(integerise(compact(read_ticket(TICKET))), odd).argmax(1)))
    guard = fitted(digits)
    statuses = [guard.judge(frame, int(label)) for frame, label in zip(stream, labels, strict=True)]
    found = rows(inspect(guarded, "-", "--good", 3, frames=stream.tobytes()))
    assert [row["status"] for row in found] == list(map(str, statuses))
    for row, status, label in zip(found, statuses, labels, strict=True):
        assert row["label"] == ("" if status in FAULTS else label)
        unsure = status in (*FAULTS, Status.UNFAMILIAR)
        assert row["verdict"] == ("check" if unsure else "pass" if label == "3" else "reject")
    assert {Status.OK, Status.STUCK, Status.CONSTANT, Status.RANGE, Status.UNFAMILIAR} <= set(statuses)


def test_a_frame_cut_off_is_told_after_the_verdicts_of_the_others(guarded: Path, digits: Data) -> None:
    done = inspect(guarded, "-", "--good", 3, frames=digits.certify[0][:3].tobytes()[:-1], code=1)
    assert len(rows(done)) == 2
    assert done.stderr == "inspect: frame 2: cut off after 63 of 64 bytes\n"


def test_no_frames(guarded: Path) -> None:
    done = inspect(guarded, "-", "--good", 3)
    assert (rows(done), done.stderr) == ([], "0 frames\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "source"),
        ("-", "--good"),
        ("--good 3", "source"),
        ("- --good", "--good: its value is missing"),
        ("- --good 10", "0 to 9"),
        ("- --good -1", "0 to 9"),
        ("- --good 3x", "0 to 9"),
        ("- --good 99999999999999999999", "0 to 9"),
        ("- - --good 3", "second source"),
        ("--fast - --good 3", "--fast"),
        ("- --good 3 --period-ms", "--period-ms: its value is missing"),
        ("- --good 3 --period-ms 0", "above 0"),
        ("- --good 3 --period-ms nan", "above 0"),
        ("- --good 3 --period-ms 1e9", "at most"),
        ("- --good 3 --period-ms 5s", "above 0"),
    ],
)
def test_wrong_options_are_told_with_the_usage(guarded: Path, words: str, told: str) -> None:
    done = inspect(guarded, *words.split(), code=2)
    assert told in done.stderr.splitlines()[0]
    assert "usage: inspect" in done.stderr
    assert not done.stdout


def test_sources_that_cannot_be_read_and_outputs_that_are_full(guarded: Path, digits: Data, tmp_path: Path) -> None:
    assert "cannot be opened" in inspect(guarded, tmp_path / "none", "--good", 3, code=1).stderr
    assert "cannot be read" in inspect(guarded, tmp_path, "--good", 3, code=1).stderr
    with open("/dev/full", "w") as full:
        frames = digits.certify[0][:2].tobytes()
        done = subprocess.run([guarded, "-", "--good", "3"], input=frames, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, b"cannot be written" in done.stderr) == (1, True)


def test_latencies_and_misses(guarded: Path, digits: Data) -> None:
    frames = digits.certify[0][:157].tobytes()
    hurried = inspect(guarded, "-", "--good", 3, "--period-ms", "0.0000001", frames=frames)
    ms = sorted((row["ms"] for row in rows(hurried)), key=float)
    ranks = [ms[ceil(share * len(ms)) - 1] for share in (0.5, 0.99, 1)]
    told = re.search(r"157 frames; p50 (\S+) ms, p99 (\S+) ms, max (\S+) ms; 157 late of", hurried.stderr)
    assert told is not None
    assert list(told.groups()) == ranks
    assert {row["late"] for row in rows(hurried)} == {"yes"}
    calm = inspect(guarded, "-", "--good", 3, "--period-ms", 3_600_000, frames=frames[:64])
    assert "; 0 late of" in calm.stderr
    assert [row["late"] for row in rows(calm)] == ["no"]


def test_a_frame_is_taken_every_period(guarded: Path, digits: Data) -> None:
    before = time.monotonic()
    inspect(guarded, "-", "--good", 3, "--period-ms", 30, frames=digits.certify[0][:5].tobytes())
    assert time.monotonic() - before >= 4 * 0.030


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("#define digits_OUT 10", "#define digits_OUT 10\n#define digits_IN_SCALE 0.5f", "a float sensor: convert"),
        ("in[64],", "in[64], const uint8_t more[64],", "one input and one output"),
    ],
)
def test_networks_that_it_is_not_for_do_not_build(folder: Path, tmp_path: Path, old: str, new: str, told: str) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    header = (other / "digits.h").read_text()
    assert old in header
    (other / "digits.h").write_text(header.replace(old, new))
    sources = ["-c", str(EXAMPLE / "main.cpp"), "-o", str(tmp_path / "x.o")]
    command = ["g++", "-std=c++17", "-DNAME=digits", "-iquote", str(other), *sources]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode
    assert told in done.stderr


def test_a_folder_that_holds_no_network_is_told(tmp_path: Path) -> None:
    tiny_c.need("make")
    assert "edgeticket export --to c" in make(tmp_path, tmp_path / "build").stderr
