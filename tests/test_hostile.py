"""Damaged files, wrong data, full disks and wrong requests, through the command line: a sentence, a code, nothing lost."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cases import CASES
from click.testing import CliRunner, Result

from edgeticket.cli import main
from edgeticket.data import load
from edgeticket.export import export
from edgeticket.settings import Settings

ROOT = Path(__file__).parent.parent
CASE = CASES["plain"]
OLD = b"the old file"
BITS, CUTS = 150, 20  # a command


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good.ticket, good.onnx and good.npz: uint8 pictures 1 x 8 x 8 of 4 classes."""
    folder = tmp_path_factory.mktemp("hostile")
    raw = CASE.raw(200)
    labels = np.arange(200) % 4
    np.savez(folder / "good.npz", x_train=raw, y_train=labels, x_test=raw[:20], y_test=labels[:20])
    digest = load(str(folder / "good.npz")).digest
    replace(CASE.ticket(), provenance={"data_digest": digest}).write(folder / "good.ticket")
    export(CASE.ticket(), "onnx", folder / "good.onnx")
    return folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def require_sentence(done: Result, code: int, *words: object) -> None:
    """One line on stderr, with the words, and nothing on stdout."""
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("Error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr, done.stderr  # that is what a bug looks like
    for word in words:
        assert str(word) in done.stderr


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# damaged tickets

READERS: dict[str, Callable[[Path, Path], list[object]]] = {
    "show": lambda place, ticket: ["show", ticket],
    "compact": lambda place, ticket: ["compact", ticket],
    "export": lambda place, ticket: ["export", ticket, "-o", ticket.with_name("out.onnx")],
    "verify": lambda place, ticket: ["verify", ticket, place / "good.onnx", "-d", place / "good.npz"],
    "requantize": lambda place, ticket: [
        *["requantize", ticket, "-d", place / "good.npz"],
        *["-o", ticket.with_name("out.ticket")],
    ],
}


def damaged(content: bytes, command: str) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(sorted(READERS).index(command))
    for bit in rng.choice(8 * len(content), BITS, replace=False).tolist():
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(altered)
    cuts = {0, 1, 7, 8, 9, len(content) - 1, *rng.integers(0, len(content), CUTS).tolist()}
    yield from ((f"cut at {cut}", content[:cut]) for cut in sorted(cuts))
    yield from ((f"{byte} appended", content + bytes([byte])) for byte in (0, 10, 32, 255))


@pytest.mark.parametrize("command", READERS)
def test_a_damaged_ticket_is_refused_by_name(command: str, place: Path, tmp_path: Path) -> None:
    ticket = tmp_path / "bad.ticket"
    for what, content in damaged((place / "good.ticket").read_bytes(), command):
        ticket.write_bytes(content)
        done = invoke(*READERS[command](place, ticket))
        try:
            require_sentence(done, 1, ticket)
        except AssertionError as error:
            raise AssertionError(what) from error
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ticket"]


@pytest.mark.parametrize("command", READERS)
def test_the_undamaged_ticket_is_taken(command: str, place: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.ticket").write_bytes((place / "good.ticket").read_bytes())
    done = invoke(*READERS[command](place, tmp_path / "bad.ticket"))
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("command", READERS)
def test_what_is_not_a_ticket_at_all(command: str, place: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.ticket").mkdir()
    for path in (tmp_path / "none.ticket", tmp_path / "folder.ticket", place / "good.npz", place / "good.onnx"):
        require_sentence(invoke(*READERS[command](place, path)), 1, path)


# wrong data


def arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    raw, labels = CASE.raw(60), np.arange(60) % 4
    return {"x_train": raw, "y_train": labels, "x_test": raw[:12], "y_test": labels[:12], **changes}


def with_nan() -> dict[str, np.ndarray]:
    x = CASE.raw(60).astype(np.float32)
    x[17, 0, 3, 3] = np.nan
    return arrays(x_train=x, x_test=x[20:32])


BAD_DATA: dict[str, tuple[Callable[[], dict[str, np.ndarray]], tuple[str, ...]]] = {
    "NaN": (with_nan, ("x_train", "17")),
    "infinity in the test set": (
        lambda: arrays(x_train=CASE.raw(60).astype(np.float32), x_test=np.full((12, 1, 8, 8), np.inf, np.float32)),
        ("x_test",),
    ),
    "a negative label": (lambda: arrays(y_train=np.arange(60) % 4 - 1), ("y_train[0] is -1",)),
    "an enormous label": (lambda: arrays(y_train=np.arange(60) * 10**6), ("y_train[1] is 1000000",)),
    "a label that training never sees": (lambda: arrays(y_test=np.full(12, 9)), ("y_test", "9")),
    "fractions as labels": (lambda: arrays(y_train=np.linspace(0, 3, 60)), ("y_train", "integers")),
    "one class": (lambda: arrays(y_train=np.zeros(60, int), y_test=np.zeros(12, int)), ("only one class",)),
    "labels for fewer examples": (lambda: arrays(y_train=np.arange(59) % 4), ("y_train", "60 examples")),
    "all pixels equal": (lambda: arrays(x_train=np.zeros((60, 1, 8, 8), np.uint8)), ("all equal",)),
    "nothing at all": (
        lambda: arrays(x_train=np.zeros((0, 1, 8, 8), np.uint8), y_train=np.zeros(0, int)),
        ("x_train",),
    ),
    "Python objects": (lambda: arrays(x_train=np.array([{}] * 60)), ("Python objects",)),
    "no labels": (lambda: {"x_train": CASE.raw(60)}, ("y_train",)),
}


def users(place: Path, data: Path, out: Path) -> Iterator[list[object]]:
    """Every command that reads data."""
    yield ["data", "check", data]
    yield ["verify", place / "good.ticket", "-d", data]
    yield ["compact", place / "good.ticket", "-d", data]
    yield ["requantize", place / "good.ticket", "-d", data, "-o", out / "out.ticket"]
    if torch_is_here():
        yield ["find", "-m", "conv:8,8", "-d", data, "--batch", 8, "--epochs", 1, "-o", out / "out.ticket"]


def torch_is_here() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_are_named_and_nothing_is_written(case: str, place: Path, tmp_path: Path) -> None:
    make, words = BAD_DATA[case]
    np.savez(tmp_path / "bad.npz", **make())
    for arguments in users(place, tmp_path / "bad.npz", tmp_path):
        require_sentence(invoke(*arguments), 1, tmp_path / "bad.npz", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.npz"]


def test_data_that_cannot_be_read(place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.npz").write_bytes((place / "good.npz").read_bytes()[:-30])
    (tmp_path / "noise.npz").write_bytes(np.random.default_rng(0).bytes(999))
    os.mkfifo(tmp_path / "pipe.npz")
    before = sorted(path.name for path in tmp_path.iterdir())
    for name in ("none.npz", "none", "empty", "cut.npz", "noise.npz", "pipe.npz", "none.py:get"):
        for arguments in users(place, tmp_path / name, tmp_path):
            require_sentence(invoke(*arguments), 1, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="root reads everything")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    """As an ordinary user: root may read everything."""
    locked = tmp_path / "locked"
    (locked / "a").mkdir(parents=True)
    tmp_path.chmod(0o755)
    for parent in takewhile(lambda folder: not folder.stat().st_mode & 0o001, tmp_path.parents):  # pytest's own
        parent.chmod(0o755)
    locked.chmod(0)
    drop = ["setpriv", "--reuid", "65534", "--clear-groups"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, "-B", "-m", "edgeticket", "data", "check", str(locked)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    finally:
        locked.chmod(0o755)
    if "PermissionError" in done.stderr and "edgeticket" not in done.stderr:
        pytest.skip("an ordinary user cannot read this checkout")
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"Error: data {locked}: ")
    assert "ermission" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"x_train": np.tile(CASE.raw(60), (1, 2, 1, 1)), "x_test": np.tile(CASE.raw(12), (1, 2, 1, 1))}, "2x8x8"),
        ({"x_train": CASE.raw(60)[..., :7], "x_test": CASE.raw(12)[..., :7]}, "1x8x7"),
        ({"x_train": CASE.raw(60).reshape(60, 64), "x_test": CASE.raw(12).reshape(12, 64)}, "64"),
    ],
)
def test_data_of_another_shape_than_the_tickets(
    change: dict[str, np.ndarray], word: str, place: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "other.npz", **arrays(**change))
    layout = ["--layout", "channels-first"] if change["x_train"].ndim == 4 else []
    out = tmp_path / "out.ticket"
    commands: list[list[object]] = [
        ["verify", place / "good.ticket", place / "good.onnx", "-d", tmp_path / "other.npz", *layout],
        ["requantize", place / "good.ticket", "-d", tmp_path / "other.npz", "-o", out, *layout],
    ]
    for arguments in commands:
        require_sentence(invoke(*arguments), 1, word, "1x8x8")
    assert not out.exists()


# outputs that exist


def writers(place: Path, output: Path) -> dict[str, list[object]]:
    """Every command that writes one file, but find."""
    return {
        "export": ["export", place / "good.ticket", "-o", output],
        "export int8": ["export", place / "good.ticket", "--precision", "int8", "-o", output],
        "requantize": ["requantize", place / "good.ticket", "-d", place / "good.npz", "-o", output],
        "unpack": ["unpack", place / "good.onnx", "-o", output],
    }


WRITERS = sorted(writers(Path(), Path()))
FIND = ["find", "-m", "conv:8,8", "--batch", "16", "--epochs", "1"]


def find(place: Path, output: Path, *more: object) -> list[object]:
    pytest.importorskip("torch")
    return [*FIND, "-d", place / "good.npz", "-o", output, *more]


@pytest.mark.parametrize("command", [*WRITERS, "find"])
def test_an_existing_output_stays_without_overwrite(command: str, place: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.write_bytes(OLD)
    arguments = find(place, output) if command == "find" else writers(place, output)[command]
    require_sentence(invoke(*arguments), 2, output, "--overwrite")
    assert listing(tmp_path) == {"out": OLD}
    done = invoke(*arguments, "--overwrite")
    assert done.exit_code == 0, done.output
    made = listing(tmp_path)
    assert list(made) == ["out"]
    assert made["out"] != OLD


@pytest.mark.parametrize("command", WRITERS)
def test_an_output_that_cannot_be(command: str, place: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(OLD)
    require_sentence(
        invoke(*writers(place, tmp_path / "none" / "out")[command]), 2, tmp_path / "none" / "out", "make it first"
    )
    require_sentence(invoke(*writers(place, tmp_path / "folder")[command], "--overwrite"), 2, tmp_path / "folder")
    require_sentence(invoke(*writers(place, tmp_path / "file" / "out")[command]), 2, tmp_path / "file" / "out")
    assert listing(tmp_path) == {"file": OLD}


# a full disk in mid-write


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to make any file of this process larger (EFBIG; Python ignores the signal)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = bytecode


@pytest.mark.parametrize("size", [0, 1000])
@pytest.mark.parametrize("old", [None, OLD])
@pytest.mark.parametrize("command", [*WRITERS, "find"])
def test_a_file_that_cannot_grow_leaves_the_old_one(
    command: str, old: bytes | None, size: int, place: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    if old is not None:
        output.write_bytes(old)
    arguments = find(place, output) if command == "find" else writers(place, output)[command]
    with files_of_at_most(size):
        done = invoke(*arguments, "--overwrite")
    require_sentence(done, 1, "cannot write")
    assert listing(tmp_path) == ({} if old is None else {"out": old})
    assert invoke(*arguments, "--overwrite").exit_code == 0  # the same again, with space


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many kilobytes, where this is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kilobytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            pytest.skip(f"no mount: {error}")
        if done.returncode:
            pytest.skip(f"no tmpfs here: {done.stderr.strip()}")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("command", [*WRITERS, "find"])
def test_a_full_disk_leaves_the_old_file(
    command: str, place: Path, small_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    disk = small_disk(16)
    (disk / "out").write_bytes(OLD)
    (disk / "ballast").write_bytes(b"." * 2 * 4096)  # a page is left for the first of the new file
    arguments = find(place, disk / "out") if command == "find" else writers(place, disk / "out")[command]
    if command == "requantize":
        (disk / "ballast").write_bytes(b"." * 3 * 4096)
    before = listing(disk)
    done = invoke(*arguments, "--overwrite")
    require_sentence(done, 1, f"cannot write {disk}/out", os.strerror(errno.ENOSPC))
    assert listing(disk) == before


def config_for(place: Path, folder: Path) -> Path:
    find = {"epochs": 1, "batch": 16}
    made = {"name": "tiny", "model": "conv:8,8", "data": str(place / "good.npz"), "find": find, "bench": {"runs": 3}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(made))
    return folder / "tiny.yaml"


def test_a_run_on_a_disk_that_fills_up_at_any_point(
    place: Path, small_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    """First nothing fits, then a step more each time, and what was done is not done again."""
    pytest.importorskip("torch")
    config, disk = config_for(place, tmp_path), small_disk(4096)
    (disk / "tiny").mkdir()
    (disk / "tiny" / "mine").write_bytes(OLD)
    told = set()
    for kilobytes in (8, 16, 24, 48, 64, 80, 96, 120):
        command = ["mount", "-o", f"remount,size={kilobytes}k", str(disk)]
        subprocess.run(command, check=True, capture_output=True)
        done = invoke("run", config, "--folder", disk, "--overwrite")
        if done.exit_code == 0:
            break
        assert done.exit_code == 1, done.output
        assert done.stderr.startswith("Error: cannot write "), done.stderr
        assert done.stderr.count("\n") == 1
        assert (disk / "tiny" / "mine").read_bytes() == OLD
        assert {path.name for path in disk.iterdir()} <= {"tiny", "tiny.partial"}
        assert not [path for path in disk.rglob(".*")]  # nothing written aside is left
        told.add(done.stderr.split()[3])
    assert done.exit_code == 0, done.output
    assert len(told) > 1  # it did stop at different points
    assert [path.name for path in disk.iterdir()] == ["tiny"]
    assert "tiny.ticket" in listing(disk / "tiny")


@pytest.mark.parametrize("size", [0, 700, 5000])
def test_a_run_whose_files_cannot_grow(size: int, place: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config = config_for(place, tmp_path)
    assert invoke("run", config, "--dry-run").exit_code == 0  # loads what the run needs
    with files_of_at_most(size):
        done = invoke("run", config, "--folder", tmp_path / "runs")
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith("Error: cannot write "), done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs" / "tiny").exists()
    assert invoke("run", config, "--folder", tmp_path / "runs").exit_code == 0


def test_a_search_whose_ticket_does_not_fit_is_not_lost(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, move = tmp_path / "out.ticket", os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target) == output:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        move(source, target)

    arguments = find(place, output)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        require_sentence(invoke(*arguments), 1, f"cannot write {output}")
    assert list(listing(tmp_path)) == ["out.ticket.checkpoint"]
    assert invoke(*arguments, "--resume").exit_code == 0
    assert list(listing(tmp_path)) == ["out.ticket"]
    invoke(*find(place, tmp_path / "again.ticket"))
    assert output.read_bytes() == (tmp_path / "again.ticket").read_bytes()


# wrong requests to find

WRONG_FINDS: dict[str, tuple[list[str], int, str]] = {
    "unknown architecture": (["-m", "transformer"], 2, "conv"),
    "widths that are no numbers": (["-m", "conv:a,b"], 2, "conv:32,64,64"),
    "a width of 0": (["-m", "conv:0,8"], 2, "at least 1"),
    "widths of a plug-in that are no numbers": (["-m", "none.py:8,b"], 2, "NAME[:WIDTH,...]"),
    "a missing plug-in": (["-m", "none.py:8"], 1, "none.py: there is no such file"),
    "a missing module": (["-m", "none.py:Net"], 2, "there is no file none.py"),
    "density in words": (["--density", "high"], 2, "'high' is not a number"),
    "density 0": (["--density", "0"], 2, "--density"),
    "density 2": (["--density", "2"], 2, "--density"),
    "density NaN": (["--density", "nan"], 2, "--density"),
    "density of no layer": (["--density", "0.1,conv9=0.5"], 2, "conv9"),
    "keep 0": (["--keep", "0"], 2, "--keep"),
    "keep 2": (["--keep", "2"], 2, "--keep"),
    "keep NaN": (["--keep", "nan"], 2, "--keep"),
    "edges 0": (["--edges", "0"], 2, "--edges"),
    "a negative seed": (["--seed", "-1"], 2, "--seed"),
    "a seed of 65 bits": (["--seed", str(1 << 64)], 2, "--seed"),
    "no epochs": (["--epochs", "0"], 2, "--epochs"),
    "batch 1": (["--batch", "1"], 2, "--batch"),
    "a batch of more than there is": (["--batch", "100000"], 6, "--batch"),
    "no threads": (["--threads", "0"], 2, "--threads"),
    "no images": (["--images", "0"], 2, "images"),
    "learn what is not there": (["--learn", "conv9"], 2, "conv9"),
    "an unknown method": (["--method", "magic"], 2, "edge_popup"),
    "an unknown device": (["--device", "tpu"], 2, "--device"),
    "an infinite step": (["--score-step", "inf"], 2, "step size"),
    "a step that is no number": (["--weight-step", "nan"], 2, "step size"),
    "unknown layout": (["--layout", "sideways"], 2, "sideways"),
}


@pytest.mark.parametrize("case", WRONG_FINDS)
def test_a_wrong_request_to_find(case: str, place: Path, tmp_path: Path) -> None:
    more, code, word = WRONG_FINDS[case]
    require_sentence(invoke(*find(place, tmp_path / "out.ticket", *more)), code, word)
    assert not (tmp_path / "out.ticket").exists()


def test_cuda_without_a_gpu(place: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = invoke(*find(place, tmp_path / "out.ticket", "--device", "cuda"))
    require_sentence(done, 1, "--device cuda", "--device cpu")
    assert not listing(tmp_path)


def test_where_find_may_write(place: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    require_sentence(invoke(*find(place, tmp_path / "none" / "out.ticket")), 2, tmp_path / "none", "make it first")
    require_sentence(invoke(*find(place, tmp_path / "folder")), 2, tmp_path / "folder")
    require_sentence(invoke(*find(place, tmp_path / "folder", "--overwrite")), 2, "is a folder")
    assert not listing(tmp_path)


def test_checkpoints_are_neither_ignored_nor_guessed(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.ticket"
    require_sentence(invoke(*find(place, output, "--resume")), 2, "--resume", f"{output}.checkpoint")
    checkpoint = tmp_path / "out.ticket.checkpoint"
    checkpoint.write_bytes(b"of an interrupted search")
    require_sentence(invoke(*find(place, output)), 2, checkpoint, "--resume")
    assert listing(tmp_path) == {"out.ticket.checkpoint": b"of an interrupted search"}


def test_a_damaged_checkpoint_is_refused_and_stays(place: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    checkpoint = tmp_path / "out.ticket.checkpoint"
    torch.save({"other": 1}, tmp_path / "foreign")
    torch.save([1], tmp_path / "list")
    contents = [b"junk", b"", (tmp_path / "foreign").read_bytes(), (tmp_path / "list").read_bytes()]
    for content in contents:
        checkpoint.write_bytes(content)
        done = invoke(*find(place, tmp_path / "out.ticket", "--resume"))
        require_sentence(done, 1, checkpoint, "cannot be resumed")
        assert checkpoint.read_bytes() == content


def test_a_checkpoint_of_another_network_or_search_is_refused(place: Path, tmp_path: Path) -> None:
    arguments, output = find(place, tmp_path / "out.ticket"), tmp_path / "out.ticket"
    from edgeticket.find import find as search
    from edgeticket.network import network_plan

    data = load(str(place / "good.npz"))
    settings, path = Settings(epochs=1, batch=16), tmp_path / "out.ticket.checkpoint"
    search(network_plan("conv:8,16", data), data, settings, checkpoint=path)
    require_sentence(invoke(*arguments, "--resume"), 1, path, "other settings")
    assert invoke(*arguments, "-m", "conv:8,16", "--resume").exit_code == 0
    assert list(listing(tmp_path)) == [output.name]
