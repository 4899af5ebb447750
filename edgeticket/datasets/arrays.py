"""Arrays as stored -> checked arrays: x uint8, int16 or float32 with channels first, y int64."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeticket.datasets.forms import LAYOUTS
from edgeticket.datasets.raw import KEYS, REQUIRED, Raw
from edgeticket.errors import DataError, UsageError

MAX_CLASSES = 10_000
Part = tuple[np.ndarray, np.ndarray]
_CHANNELS = (1, 3, 4)  # what a picture has; "auto" looks for them


@dataclass(frozen=True)
class Arrays:
    """x [n, c, h, w], [n, c, length] or [n, features]; y [n]; groups [n of train], the ids that must stay together."""

    train: Part
    test: Part | None
    groups: np.ndarray | None
    classes: tuple[str, ...]


def check(raw: Raw, layout: str) -> Arrays:
    """Raises DataError with the name of the first array that is unusable, UsageError for a layout that fits no source."""
    if layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout!r}: one of {', '.join(LAYOUTS)}")
    if raw.layout != "auto" and layout not in ("auto", "flat", raw.layout):
        raise UsageError(
            f"layout {layout} is for arrays: this source is {raw.layout} already; leave it out, or take flat"
        )
    layout = raw.layout if layout == "auto" else layout
    _require_keys(raw)
    train = _part(raw, "train", layout)
    test = _part(raw, "test", layout) if "x_test" in raw.arrays else None
    classes = _classes(raw, train[1])
    _require_no_gap(train[1], classes, named="classes" in raw.arrays)
    for name, part in (("y_train", train), ("y_test", test)):
        if part and part[1].max() >= len(classes):
            raise DataError(
                f"{name} holds label {part[1].max()}, classes are 0..{len(classes) - 1}: correct the labels"
            )
    if test and (test[0].shape[1:] != train[0].shape[1:] or test[0].dtype != train[0].dtype):
        raise DataError(
            f"x_test is {test[0].dtype} {test[0].shape[1:]} per example, x_train {train[0].dtype} {train[0].shape[1:]}: "
            "prepare both in the same way"
        )
    return Arrays(train, test, _groups(raw, len(train[1])), classes)


def _require_keys(raw: Raw) -> None:
    unknown = [key for key in raw.arrays if key not in KEYS]
    if unknown:
        raise DataError(f"array {unknown[0]!r} is unknown: known are {', '.join(KEYS)}; rename it or leave it out")
    missing = [key for key in REQUIRED if key not in raw.arrays]
    if ("x_test" in raw.arrays) != ("y_test" in raw.arrays):
        missing.append("y_test" if "x_test" in raw.arrays else "x_test")
    if missing:
        raise DataError(f"array {missing[0]!r} is missing (found: {', '.join(raw.arrays) or 'none'}): add it")


def _part(raw: Raw, part: str, layout: str) -> Part:
    x_name, y_name = f"x_{part}", f"y_{part}"
    stored = _array(x_name, raw.arrays[x_name])
    if not 2 <= stored.ndim <= 4 or stored.size == 0:
        raise DataError(f"{x_name} has shape {stored.shape}: give 2 to 4 axes, examples first, none empty")
    x = np.ascontiguousarray(arrange(x_name, _readings(x_name, stored), layout))
    return x, _labels(y_name, _array(y_name, raw.arrays[y_name]), len(x))


def _array(name: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise DataError(f"{name} is {type(value).__name__}: give a numpy array")
    if value.dtype.hasobject:
        raise DataError(f"{name} holds Python objects: store plain numbers (no dtype=object, no ragged rows)")
    return value


def _readings(name: str, x: np.ndarray) -> np.ndarray:
    """uint8, int16 or finite float32, in this machine's byte order."""
    native = x.dtype.newbyteorder("=")
    if native in (np.uint8, np.int16):
        return x.astype(native)
    if x.dtype.kind != "f":
        raise DataError(f"{name} is {x.dtype}: store what the sensor gives as uint8, int16 or floating point")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(1))
    if len(bad):
        raise DataError(
            f"{name} holds NaN, infinity or a value beyond float32 in {len(bad)} of {len(x)} examples, first in example "
            f"{bad[0]}: repair or drop them"
        )
    return x


def arrange(name: str, x: np.ndarray, layout: str) -> np.ndarray:
    """[n, c, h, w], [n, c, length] or [n, features]. "auto" never guesses between two readings: it raises DataError."""
    layout = _guess(name, x) if layout == "auto" else layout
    if layout == "flat":
        return x.reshape(len(x), -1)
    if (layout == "channels-first" and x.ndim > 2) or (layout == "series" and x.ndim == 3):
        return x
    if (layout == "channels-last" and x.ndim > 2) or (layout == "series-last" and x.ndim == 3):
        return np.moveaxis(x, -1, 1)
    if (layout == "series" and x.ndim == 2) or (layout == "grey" and x.ndim == 3):
        return x[:, None]
    raise DataError(f"{name} has shape {x.shape}, which is not {layout}: choose another layout of {', '.join(LAYOUTS)}")


def _guess(name: str, x: np.ndarray) -> str:
    if x.ndim == 2:
        return "flat"
    if x.ndim == 3 and x.dtype == np.uint8:
        return "grey"  # [n, h, w]
    if x.ndim == 4 and (x.shape[1] in _CHANNELS) != (x.shape[-1] in _CHANNELS):
        return "channels-first" if x.shape[1] in _CHANNELS else "channels-last"
    raise DataError(
        f"{name} has shape {x.shape} of {x.dtype}, which may be read in two ways: say which with the layout, channels-first "
        "[n, c, h, w], channels-last [n, h, w, c], series [n, channels, length], series-last [n, length, channels] or flat; "
        "grey pictures [n, h, w] need an axis more, x[:, None]"
    )


def _labels(name: str, y: np.ndarray, count: int) -> np.ndarray:
    if y.shape != (count,):
        raise DataError(f"{name} has shape {y.shape} for {count} examples: give one label for each")
    if y.dtype.kind not in "iu":
        raise DataError(f"{name} is {y.dtype}: number the classes 0, 1, 2 ... as integers")
    for bad in np.flatnonzero((y < 0) | (y >= MAX_CLASSES))[:1]:
        raise DataError(
            f"{name}[{bad}] is {y[bad]}: labels run from 0 to {MAX_CLASSES - 1}; number the classes 0, 1, 2 ..."
        )
    return y.astype(np.int64)


def _classes(raw: Raw, y: np.ndarray) -> tuple[str, ...]:
    """The classes' names: as given, otherwise their numbers."""
    if "classes" not in raw.arrays:
        return tuple(str(label) for label in range(int(y.max()) + 1))
    names = raw.arrays["classes"]
    names = names.tolist() if isinstance(names, np.ndarray) else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise DataError("classes is not a list of strings: give one name for each class")
    if len(set(names)) != len(names):
        raise DataError("classes holds one name twice: give each class its own")
    return tuple(names)


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


def blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of `x`, about a million values at a time, so that wide copies of them stay small."""
    rows = max(1, (len(x) << 20) // x.size)
    yield from (x[row : row + rows] for row in range(0, len(x), rows))


def _groups(raw: Raw, count: int) -> np.ndarray | None:
    if "groups" not in raw.arrays:
        return None
    groups = _array("groups", raw.arrays["groups"])
    if groups.shape != (count,) or groups.dtype.kind not in "iuU":
        raise DataError(
            f"groups is {groups.dtype} {groups.shape} for {count} training examples: give one integer or string for each"
        )
    return groups
