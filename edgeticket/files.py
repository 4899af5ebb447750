"""Writing files so that a reader, a power cut or a full disk sees the old file or the new one, never a third state."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeticket.errors import EdgeTicketError, UsageError


def check_free(path: Path, overwrite: bool) -> None:
    """Raise UsageError when `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already: name another output, or add --overwrite to replace it")


def write_atomic(path: Path, content: bytes) -> None:
    """Write aside, sync, rename, sync the folder. On any error `path` is as it was and nothing is left beside it.

    Except where the folder alone cannot be synced: then the whole new file is there, and the error says so.
    """
    try:
        with _aside(path) as (descriptor, temporary):
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:
        raise EdgeTicketError(
            f"cannot write {path}: {error.strerror or error}; nothing was changed: "
            "free some space or choose another folder, then run it again"
        ) from error
    try:
        _sync_folder(path.parent)
    except OSError as error:
        raise EdgeTicketError(
            f"{path} is written, but its folder cannot be synced ({error.strerror or error}): "
            "a power cut could still bring the old file back: check the disk"
        ) from error


@contextmanager
def _aside(path: Path) -> Iterator[tuple[int, str]]:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        yield descriptor, temporary
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
