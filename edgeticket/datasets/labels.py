"""What y holds, by task: classes 0, 1, 2 ...; targets in their own units; 0 for normal and 1 for anomalous."""

from collections.abc import Mapping

import numpy as np

from edgeticket.datasets.forms import TASKS
from edgeticket.datasets.raw import Raw, finite
from edgeticket.errors import DataError, UsageError

MAX_CLASSES = 10_000
NORMAL = ("normal", "ok", "good")  # what the class that is no anomaly may be named
ANOMALY = ("normal", "anomaly")


def choose(raw: Raw, task: str) -> str:
    """The task that "auto" means here. Raises UsageError for an unknown one, DataError where y_train and y_test disagree."""
    if task not in TASKS:
        raise UsageError(f"unknown task {task!r}: one of {', '.join(TASKS)}")
    task = raw.task if task == "auto" else task
    if task != "auto":
        return task
    stored = {name: raw.plain(name).dtype for name in ("y_train", "y_test") if name in raw.arrays}
    floats = [dtype.kind == "f" for dtype in stored.values()]
    if any(floats) and not all(floats):
        both = " and ".join(f"{name} is {dtype}" for name, dtype in stored.items())
        raise DataError(f"{both}: give both as integers for classification, or both as floating point for regression")
    return "regression" if all(floats) else "classification"


def read(raw: Raw, task: str, counts: Mapping[str, int]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """y of each part of `counts` (part -> examples), and the names of the classes or targets. Raises DataError."""
    take = {"classification": _label, "regression": _target, "anomaly": _whole}[task]
    y = {part: take(f"y_{part}", raw.plain(f"y_{part}"), count) for part, count in counts.items()}
    names = _names(raw)
    if task == "regression":
        return y, _targets(y, names)
    if task == "anomaly":
        normal = 0 if names is None else _normal(names)
        return {part: (labels != normal).astype(np.int64) for part, labels in y.items()}, ANOMALY
    return y, _classes(y, names)


def _whole(name: str, y: np.ndarray, count: int) -> np.ndarray:
    if y.shape != (count,):
        raise DataError(f"{name} has shape {y.shape} for {count} examples: give one label for each")
    if y.dtype.kind not in "iu":
        raise DataError(f"{name} is {y.dtype}: number the classes 0, 1, 2 ... as integers")
    return y


def _label(name: str, y: np.ndarray, count: int) -> np.ndarray:
    y = _whole(name, y, count)
    for bad in np.flatnonzero((y < 0) | (y >= MAX_CLASSES))[:1]:
        raise DataError(
            f"{name}[{bad}] is {y[bad]}: labels run from 0 to {MAX_CLASSES - 1}; number the classes 0, 1, 2 ..."
        )
    return y.astype(np.int64)


def _target(name: str, y: np.ndarray, count: int) -> np.ndarray:
    if y.ndim not in (1, 2) or len(y) != count or y.size == 0 or y.shape[1:] > (MAX_CLASSES,):
        raise DataError(f"{name} has shape {y.shape} for {count} examples: give one number, or a row of them, for each")
    if y.dtype.kind not in "fiu":
        raise DataError(f"{name} is {y.dtype}: targets are numbers")
    return finite(name, y)


def _names(raw: Raw) -> tuple[str, ...] | None:
    if "classes" not in raw.arrays:
        return None
    names = raw.arrays["classes"]
    names = names.tolist() if isinstance(names, np.ndarray) else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise DataError("classes is not a list of strings: give one name for each class")
    if len(set(names)) != len(names):
        raise DataError("classes holds one name twice: give each class its own")
    return tuple(names)


def _normal(names: tuple[str, ...]) -> int:
    found = [index for index, name in enumerate(names) if name.lower() in NORMAL]
    if len(found) != 1:
        raise DataError(f"which of the classes {', '.join(names)} is normal? Name one of them {', '.join(NORMAL)}")
    return found[0]


def _targets(y: Mapping[str, np.ndarray], names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The targets' names: as given, otherwise numbered."""
    train = y["train"]
    count = train.shape[1] if train.ndim == 2 else 1
    for part, values in y.items():
        if values.shape[1:] != train.shape[1:]:
            raise DataError(f"y_{part} has rows of {values.shape[1:]}, y_train of {train.shape[1:]}: give both alike")
    if names is not None and len(names) != count:
        raise DataError(f"classes has {len(names)} names for {count} target(s): name each of them, or none")
    return names or (("target",) if count == 1 else tuple(f"target {index}" for index in range(count)))


def _classes(y: Mapping[str, np.ndarray], names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The classes' names: as given, otherwise their numbers."""
    found = tuple(map(str, range(int(y["train"].max()) + 1))) if names is None else names
    _require_no_gap(y["train"], found, named=names is not None)
    for part, labels in y.items():
        if labels.max() >= len(found):
            raise DataError(f"y_{part} holds label {labels.max()}, classes are 0..{len(found) - 1}: correct the labels")
    return found


def _require_no_gap(y: np.ndarray, classes: tuple[str, ...], named: bool) -> None:
    counts = np.bincount(y, minlength=len(classes))
    if (counts > 0).sum() < 2:
        raise DataError("y_train holds only one class: classification needs two or more")
    for empty in np.flatnonzero(counts[: len(classes)] == 0)[:1]:
        if named:
            raise DataError(f"class {empty} ({classes[empty]}) has no training example: add some, or drop the class")
        raise DataError(
            f"y_train's labels run to {y.max()} but class {empty} has none: number them from 0 without gaps"
        )
