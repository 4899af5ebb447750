"""One run at a time on what it writes: a second one is refused, and told who is there. The lock ends with its process."""

import fcntl
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeticket.errors import EdgeTicketError, UsageError
from edgeticket.files import remove_aside, require_folder

LOG = logging.getLogger("edgeticket.lock")
LONGEST = 300  # bytes of what a holder says of itself


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold `path`, a file or folder that need not be there yet, until the block ends, or the process, whatever ends it.

    The lock, flock(2), is on the file `.NAME.lock` beside it, which holds the holder's process, host and start; a process that
    is killed leaves that file, which then hinders nobody. What such a process left half-written of `path` is removed. Raises
    UsageError where another run holds `path`. On a file system without locks that is logged, and the block runs.
    """
    require_folder(path)
    real = Path(os.path.realpath(path))
    mark = real.with_name(f".{real.name}.lock")
    try:
        descriptor = _hold(mark, path)
    except OSError as error:
        raise EdgeTicketError(
            f"cannot write {mark}: {error.strerror or error}; nothing was changed: choose another folder"
        ) from error
    try:
        remove_aside(real)
        yield
    finally:
        with suppress(OSError):  # before the lock ends: whoever takes it then makes a new file
            mark.unlink()
        os.close(descriptor)


def _hold(mark: Path, path: Path) -> int:
    while True:
        descriptor, own = _open(mark)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, LONGEST, 0).decode(errors="replace").strip() or "it has just begun"
            os.close(descriptor)
            raise UsageError(
                f"{path}: another run is at work on it ({holder}): wait until that ends, or name another place for this one"
            ) from None
        except OSError as error:
            LOG.warning(
                "%s: its file system has no locks (%s): see that no second run works on it", path, error.strerror
            )
            return descriptor
        stands = _names(mark, descriptor)
        if stands and own:
            with suppress(OSError):  # a full disk: the run itself will say so
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, _self().encode()[:LONGEST], 0)
            return descriptor
        try:
            if stands:
                mark.unlink()  # else its holder has removed it since: take the one that stands there now, or a new one
        finally:
            os.close(descriptor)


def _open(mark: Path) -> tuple[int, bool]:
    """Its descriptor, and whether it can be written: another user's cannot, and can be locked all the same."""
    try:
        return os.open(mark, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), True
    except PermissionError:
        return os.open(mark, os.O_RDONLY | os.O_NOFOLLOW), False


def _names(mark: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(mark), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _self() -> str:
    return f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
