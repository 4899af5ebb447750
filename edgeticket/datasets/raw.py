"""What a source gives before it is checked, and the bounds on what is read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeticket.errors import DataError

MAX_BYTES = 1 << 32  # arrays of one source together, in memory
REQUIRED = ("x_train", "y_train")
KEYS = (*REQUIRED, "x_test", "y_test", "groups", "classes")


@dataclass(frozen=True)
class Raw:
    """`arrays` by the names of KEYS, as stored; `layout` is what "auto" means for this source."""

    arrays: Mapping[str, Any]
    note: str
    layout: str = "auto"


def read_file(path: Path, limit: int) -> bytes:
    """The whole file. Raises DataError where it is not a readable plain file of at most `limit` bytes."""
    try:
        if not path.is_file():  # a pipe or a device could block or never end
            raise DataError(f"{path} is not a file: check the path")
        if path.stat().st_size > limit:
            raise DataError(f"{path} is larger than {limit} bytes: split it, or make it smaller")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): check the path and its permissions") from error


def require_sha256(content: bytes, expected: str, what: str, remedy: str) -> None:
    """Raise DataError where `content` is not the pinned one."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(f"{what} is not the known file (SHA-256 {found}, expected {expected}): {remedy}")
