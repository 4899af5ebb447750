"""The old file or the new one, never a third state."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.files import check_free, put_in_place, remove_aside, write_atomic, write_folder
from edgeticket.lock import alone

OLD, NEW = b"old content", b"new content " * 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(OLD)
    return tmp_path / "file"


def test_new_and_replaced(path: Path) -> None:
    write_atomic(path, NEW)
    assert path.read_bytes() == NEW
    write_atomic(path.with_name("other"), b"")
    assert path.with_name("other").read_bytes() == b""
    assert sorted(file.name for file in path.parent.iterdir()) == ["file", "other"]


def test_mode_is_what_the_umask_gives(path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(path, NEW)
        assert path.stat().st_mode & 0o777 == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_content_is_synced_before_the_rename_and_the_folder_after(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else os.fstat(descriptor).st_size
        calls.append(("sync", kind))
        sync(descriptor)

    def rename(source: str, target: Path) -> None:
        calls.append(("rename", os.stat(source).st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    write_atomic(path, NEW)
    assert calls == [("sync", len(NEW)), ("rename", len(NEW)), ("sync", "folder")]


class FullFile:
    """A file on a disk that holds `room` more bytes."""

    def __init__(self, file: object, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> "FullFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def write(self, content: bytes) -> None:
        self.file.write(content[: self.room])  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, "No space left on device")


def fail(code: int) -> Callable[..., None]:
    def raise_it(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return raise_it


def at_write(monkeypatch: pytest.MonkeyPatch) -> None:
    open_ = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *args: FullFile(open_(*args), 100))


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "full at write": at_write,
    "full at sync": lambda patch: patch.setattr(os, "fsync", fail(errno.ENOSPC)),
    "broken disk at sync": lambda patch: patch.setattr(os, "fsync", fail(errno.EIO)),
    "full at rename": lambda patch: patch.setattr(os, "replace", fail(errno.ENOSPC)),
    "refused at rename": lambda patch: patch.setattr(os, "replace", fail(errno.EACCES)),
    "refused at mode": lambda patch: patch.setattr(os, "fchmod", fail(errno.EPERM)),
    "read-only folder": lambda patch: patch.setattr("tempfile.mkstemp", fail(errno.EROFS)),
    "no rights in the folder": lambda patch: patch.setattr("tempfile.mkstemp", fail(errno.EACCES)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("existing", [True, False])
def test_a_fault_leaves_everything_as_it_was(
    fault: str, existing: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = path if existing else path.with_name("new")
    descriptors = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        FAULTS[fault](patch)
        with pytest.raises(EdgeTicketError, match=rf"cannot write {target}: .*nothing was changed.*again"):
            write_atomic(target, NEW)
    assert path.read_bytes() == OLD
    assert [file.name for file in path.parent.iterdir()] == ["file"]
    assert len(os.listdir("/proc/self/fd")) == descriptors


FOLDER_FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "full at sync": FAULTS["full at sync"],
    "full at the second sync": lambda patch: patch.setattr(os, "fsync", second(os.fsync, fail(errno.ENOSPC))),
    "no rights in the folder": lambda patch: patch.setattr("tempfile.mkdtemp", fail(errno.EACCES)),
    "refused at rename": lambda patch: patch.setattr(Path, "rename", fail(errno.EACCES)),
    "refused at the second rename": lambda patch: patch.setattr(
        Path, "rename", second(Path.rename, fail(errno.EACCES), once=True)
    ),
}


def second(real: Callable[..., object], then: Callable[..., object], once: bool = False) -> Callable[..., object]:
    """`real`, and from the second call on, or for that one alone, `then`."""
    calls = list[object]()

    def act(*arguments: object) -> object:
        calls.append(arguments)
        return (then if len(calls) == 2 or (len(calls) > 2 and not once) else real)(*arguments)

    return act


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_folder_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    folder, before = tmp_path / "folder", os.umask(0o027)
    try:
        for files in ({"a": OLD, "below/b": OLD, "gone": OLD}, {"a": NEW, "below/c": NEW}):
            write_folder(folder, files)
            assert contents(folder) == files
            assert [folder.stat().st_mode & 0o777, (folder / "a").stat().st_mode & 0o777] == [0o750, 0o640]
        (tmp_path / "link").symlink_to(folder)
        write_folder(tmp_path / "link", {"a": OLD})
        assert (tmp_path / "link").is_symlink()
        assert contents(folder) == {"a": OLD}
    finally:
        os.umask(before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
@pytest.mark.parametrize("existing", [True, False])
def test_a_fault_leaves_a_folder_as_it_was(
    fault: str, existing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, old = tmp_path / "folder", {"a": OLD, "b": OLD}
    if existing:
        write_folder(folder, old)
    elif "second rename" in fault:
        return
    with monkeypatch.context() as patch:
        FOLDER_FAULTS[fault](patch)
        with pytest.raises(EdgeTicketError, match=rf"cannot write {folder}: .*nothing was changed.*again"):
            write_folder(folder, {"a": NEW, "c": NEW})
    assert contents(tmp_path) == ({f"folder/{name}": content for name, content in old.items()} if existing else {})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"] * existing


def test_folders_are_synced_before_the_rename_and_the_old_one_leaves_after_its_parent_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "folder", {"a": OLD})
    calls, sync, rename, remove = list[tuple[str, str]](), os.fsync, Path.rename, shutil.rmtree

    def told(path: object) -> str:  # aside or old stand for what is random in their names
        short = os.path.relpath(str(path), tmp_path).split("/")
        ends = {".old.aside": "OLD", ".aside": "NEW"}
        return "/".join([next((kind for end, kind in ends.items() if short[0].endswith(end)), short[0]), *short[1:]])

    def fsync(descriptor: int) -> None:
        calls.append(("sync", told(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    def renamed(path: Path, to: Path) -> Path:
        calls.append((told(path), told(to)))
        return rename(path, to)

    def removed(path: Path, **options: bool) -> None:
        calls.append(("remove", told(path)))
        remove(path, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(shutil, "rmtree", removed)
    write_folder(tmp_path / "folder", {"a": NEW, "b/c/d": NEW})
    ends = [("folder", "OLD"), ("NEW", "folder"), ("sync", "."), ("remove", "OLD")]
    assert calls[-4:] == ends
    assert sorted(calls[:-4]) == [("sync", f"NEW{name}") for name in ("", "/a", "/b", "/b/c", "/b/c/d")]


def test_a_folder_that_cannot_be_synced_keeps_the_old_one_until_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    write_folder(folder, {"a": OLD})
    sync = os.fsync

    def not_the_parent(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path):
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", not_the_parent)
        with pytest.raises(EdgeTicketError, match="folder is written, but its folder cannot be synced"):
            write_folder(folder, {"a": NEW})
    assert contents(folder) == {"a": NEW}
    assert sorted(contents(tmp_path).values()) == sorted([OLD, NEW])
    with alone(folder):
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["folder"]


def test_a_folder_beside_it_with_a_name_like_an_old_ones_stays(tmp_path: Path) -> None:
    mine = tmp_path / ".folder.old"
    mine.mkdir()
    (mine / "mine").write_text("mine")
    for content in (OLD, NEW):
        write_folder(tmp_path / "folder", {"a": content})
        with alone(tmp_path / "folder"):
            pass
    assert contents(mine) == {"mine": b"mine"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".folder.old", "folder"]


def test_the_only_whole_folder_that_a_killed_run_left_stays_until_there_is_another(tmp_path: Path) -> None:
    folder, partial = tmp_path / "folder", tmp_path / "partial"
    write_folder(folder, {"a": OLD})
    partial.mkdir()
    code = """
import os, signal, sys
from pathlib import Path
from edgeticket.files import put_in_place
rename = Path.rename
Path.rename = lambda path, to: rename(path, to) if path.name == "folder" else os.kill(os.getpid(), signal.SIGKILL)
put_in_place(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(partial), str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not folder.exists()
    remove_aside(folder)
    assert list(contents(tmp_path).values()) == [OLD]
    put_in_place(partial, folder)
    remove_aside(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_a_killed_run_left_of_a_folder_is_removed(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from edgeticket.files import write_folder
os.fsync = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_folder(Path(sys.argv[1]), {"a": b"new"})
"""
    (tmp_path / ".folder.mine.aside").mkdir()
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "folder")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    with alone(tmp_path / "folder"):
        write_folder(tmp_path / "folder", {"a": NEW})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".folder.mine.aside", "folder"]


def test_interrupt_leaves_everything_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, NEW)
    assert path.read_bytes() == OLD
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_folder_that_cannot_be_synced_is_said_honestly(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rename has happened: the text must not claim that nothing changed."""
    sync = os.fsync

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    with pytest.raises(EdgeTicketError, match="is written, but its folder cannot be synced") as caught:
        write_atomic(path, NEW)
    assert "nothing was changed" not in str(caught.value)
    assert path.read_bytes() == NEW


def test_places_that_take_no_file(path: Path) -> None:
    for target in (path.parent, path / "below", path.parent / "no" / "folder"):
        with pytest.raises(EdgeTicketError, match="cannot write"):
            write_atomic(target, NEW)
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def other_kinds(folder: Path) -> list[Path]:
    """A pipe, a socket and a link to each: what stands for devices, which no test should risk."""
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket"))
    for name in ("pipe", "socket"):
        (folder / f"link to {name}").symlink_to(folder / name)
    (folder / "circle").symlink_to(folder / "circle")
    return sorted(folder.iterdir())


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    kinds = other_kinds(tmp_path)
    before = [path.lstat() for path in kinds]
    assert len(kinds) == 5
    for path in kinds:
        for overwrite in (False, True):
            with pytest.raises(UsageError, match=r"not a regular file|Too many levels") as caught:
                check_free(path, overwrite)
            assert "--overwrite" not in str(caught.value)
        with pytest.raises(UsageError, match=r"not a regular file; nothing was changed"):
            write_atomic(path, NEW)
    assert [path.lstat() for path in sorted(tmp_path.iterdir())] == before


def test_a_link_stays_and_its_file_is_replaced(path: Path) -> None:
    (path.parent / "below").mkdir()
    link, dangling = path.parent / "below" / "link", path.parent / "below" / "dangling"
    link.symlink_to(path)
    dangling.symlink_to(path.parent / "new")
    for one in (link, dangling):
        with pytest.raises(UsageError, match="--overwrite"):
            check_free(one, overwrite=False)
        check_free(one, overwrite=True)
        write_atomic(one, NEW)
        assert one.is_symlink()
    assert path.read_bytes() == (path.parent / "new").read_bytes() == NEW


def test_a_place_where_nothing_can_be_written_is_told_before_the_work(path: Path) -> None:
    for parent in (path.parent / "none", path):
        for folder in (False, True, None):
            with pytest.raises(UsageError, match=rf"{parent} is not a folder: make it first"):
                check_free(parent / "out", overwrite=True, folder=folder)


def test_a_folder_where_a_file_is_written_and_the_other_way_round(path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        check_free(path.parent, overwrite=True)
    with pytest.raises(UsageError, match="is a file"):
        check_free(path, overwrite=True, folder=True)
    check_free(path.parent, overwrite=True, folder=True)
    for either in (path, path.parent):
        check_free(either, overwrite=True, folder=None)


def test_nothing_is_overwritten_unasked(path: Path) -> None:
    with pytest.raises(UsageError, match="--overwrite"):
        check_free(path, overwrite=False)
    check_free(path, overwrite=True)
    check_free(path.with_name("new"), overwrite=False)


KILLED = """
import os, signal, sys
from pathlib import Path
from edgeticket import files
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
class Half:
    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *_): self.file.close()
    def __getattr__(self, name): return getattr(self.file, name)
    def write(self, content):
        self.file.write(content[: len(content) // 2]); self.file.flush(); kill()
moment, path = sys.argv[1], Path(sys.argv[2])
if moment == "write":
    open_ = os.fdopen
    os.fdopen = lambda *a: Half(open_(*a))
elif moment == "after rename":
    files._sync_folder = kill
else:
    setattr(os, moment, kill)
files.write_atomic(path, b"new content " * 1000)
"""


@pytest.mark.parametrize(
    ("moment", "left"), [("fchmod", OLD), ("write", OLD), ("fsync", OLD), ("replace", OLD), ("after rename", NEW)]
)
def test_kill_at_every_step(moment: str, left: bytes, path: Path) -> None:
    command = [sys.executable, "-c", KILLED, moment, str(path)]
    process = subprocess.run(command, cwd=Path(__file__).parent.parent, check=False)
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == left
    write_atomic(path, b"next")
    assert path.read_bytes() == b"next"
