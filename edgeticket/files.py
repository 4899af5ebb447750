"""Writing files so that a reader, a power cut or a full disk sees the old file or the new one, never a third state."""

import glob
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgeticket.errors import EdgeTicketError, UsageError

ASIDE = "aside"  # ends the name of a file that is being written


def check_free(path: Path, overwrite: bool, *, folder: bool | None = False) -> None:
    """Raise UsageError when `path` exists and may not be replaced, or cannot be what will be written: no search for nothing.

    `folder`: a file will be written (False), a folder (True), or either (None). Links are followed.
    """
    require_folder(path)
    wrong = _wrong_kind(path, folder)
    if wrong:
        raise UsageError(f"{path} is {wrong}: name another output")
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} exists already: name another output, or add --overwrite to replace it")


def require_folder(path: Path) -> None:
    """Raise UsageError where there is no folder for `path` to be in."""
    if not os.path.isdir(path.parent):  # never raises, unlike Path.is_dir
        raise UsageError(f"{path}: {path.parent} is not a folder: make it first")


def _wrong_kind(path: Path, folder: bool | None) -> str | None:
    """What stands at `path` and is never replaced, or None."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"not to be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "a folder, and a file is to be written" if folder is False else None
    if stat.S_ISREG(mode):
        return "a file, and a folder is to be written" if folder else None
    return "not a regular file but a device, pipe or socket"


def write_atomic(path: Path, content: bytes) -> None:
    """Write aside, sync, rename, sync the folder. On any error `path` is as it was and nothing is left beside it.

    Except where the folder alone cannot be synced: then the whole new file is there, and the error says so. Where `path` is a
    link, the file that it leads to is replaced. Nothing but a regular file ever is: UsageError.
    """
    real = Path(os.path.realpath(path))
    if os.path.lexists(real) and not os.path.isfile(real):
        raise UsageError(f"cannot write {path}: it is not a regular file; nothing was changed: name another output")
    try:
        with _aside(real) as (descriptor, temporary):
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, real)
    except OSError as error:
        raise _unwritten(path, error) from error
    _sync_parent(path, real)


def _unwritten(path: Path, error: OSError) -> EdgeTicketError:
    return EdgeTicketError(
        f"cannot write {path}: {error.strerror or error}; nothing was changed: "
        "free some space or choose another folder, then run it again"
    )


def _sync_parent(path: Path, real: Path) -> None:
    try:
        _sync_folder(real.parent)
    except OSError as error:
        raise EdgeTicketError(
            f"{path} is written, but its folder cannot be synced ({error.strerror or error}): "
            "a power cut could still bring the old file back: check the disk"
        ) from error


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make `path` a folder of these files, by their paths in it, and of nothing else: as `write_atomic`, for a folder.

    Only for whoever alone may write it now. A folder that was there is lost with all that is in it.
    """
    real = Path(os.path.realpath(path))
    aside = None
    try:
        aside = Path(tempfile.mkdtemp(f".{ASIDE}", f".{real.name}.", real.parent))
        aside.chmod(0o777 & ~_umask())
        for name, content in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            with (aside / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for folder in (aside, *filter(Path.is_dir, aside.rglob("*"))):
            _sync_folder(folder)
        put_in_place(aside, real)
    except BaseException as error:
        if aside:
            shutil.rmtree(aside, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise _unwritten(path, error) from error


def put_in_place(partial: Path, target: Path) -> None:
    """Make the folder `partial` be `target`, and sync the folder that they are in.

    A folder that is there leaves last, so there is always a whole one, except between two renames: then it is beside it, under a
    name that `remove_aside` leaves alone until there is a `target`. Raises EdgeTicketError where all is done but the sync.
    """
    old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old.{ASIDE}")
    if target.exists():
        target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        if os.path.lexists(old):
            old.rename(target)
        raise
    _sync_parent(target, target)
    remove(old)


@contextmanager
def _aside(path: Path) -> Iterator[tuple[int, str]]:
    descriptor, temporary = tempfile.mkstemp(f".{ASIDE}", f".{path.name}.", path.parent)
    try:
        yield descriptor, temporary
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_aside(path: Path) -> None:
    """Remove what processes that were killed left of writing `path`; only for whoever alone may write it now.

    Not an old folder while there is none at `path`: it may be all that is left.
    """
    for end in (ASIDE, f"old.{ASIDE}")[: 1 + os.path.lexists(path)]:
        for left in path.parent.glob(f".{glob.escape(path.name)}.????????.{end}"):
            remove(left)


def remove(left: Path) -> None:
    """A file, a link, or a folder with all that is in it."""
    if left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
