"""What a source gives before it is checked, and the bounds on what is read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.errors import DataError

MAX_BYTES = 1 << 32  # arrays of one source together, in memory
MAX_PACKAGE_FILE = 1 << 25
REQUIRED = ("x_train", "y_train")
KEYS = (*REQUIRED, "x_test", "y_test", "groups", "classes")


@dataclass(frozen=True)
class Raw:
    """`arrays` by the names of KEYS, as stored; `layout` and `task` are what "auto" means for this source."""

    arrays: Mapping[str, Any]
    note: str
    layout: str = "auto"
    task: str = "auto"

    def plain(self, name: str) -> np.ndarray:
        """The array, which holds plain values. Raises DataError."""
        value = self.arrays[name]
        if not isinstance(value, np.ndarray):
            raise DataError(f"{name} is {type(value).__name__}: give a numpy array")
        if value.dtype.hasobject:
            raise DataError(f"{name} holds Python objects: store plain numbers (no dtype=object, no ragged rows)")
        return value


def finite(name: str, values: np.ndarray) -> np.ndarray:
    """float32 of `values` [n, ...]. Raises DataError where one is not finite."""
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(1))
    if len(bad):
        raise DataError(
            f"{name} holds NaN, infinity or a value beyond float32 in {len(bad)} of {len(found)} examples, first in example "
            f"{bad[0]}: repair or drop them"
        )
    return found


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


def package_file(package: str, version: str, name: str, sha256: str) -> bytes:
    """The pinned file `name` of an installed package, which is not imported. Raises DataError with the command to run."""
    remedy = f"run `pip install --no-deps --force-reinstall {package}=={version}`"
    try:
        path = Path(str(distribution(package).locate_file(name)))
    except PackageNotFoundError as error:
        raise DataError(
            f"package {package} is not installed: run `pip install --no-deps {package}=={version}`"
        ) from error
    if not path.is_file():
        raise DataError(f"{path} is not there: {remedy}")
    content = read_file(path, MAX_PACKAGE_FILE)
    require_sha256(content, sha256, str(path), remedy)
    return content
