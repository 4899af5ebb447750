"""Arrays as stored -> checked arrays: x uint8, int16 or float32 with channels first, y as datasets/labels.py has it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeticket.datasets import labels
from edgeticket.datasets.forms import LAYOUTS
from edgeticket.datasets.raw import KEYS, REQUIRED, Raw, finite
from edgeticket.errors import DataError, UsageError

Part = tuple[np.ndarray, np.ndarray]
_CHANNELS = (1, 3, 4)  # what a picture has; "auto" looks for them


@dataclass(frozen=True)
class Arrays:
    """x [n, c, h, w], [n, c, length] or [n, features]; y by task; groups [n of train], the ids that must stay together."""

    train: Part
    test: Part | None
    groups: np.ndarray | None
    classes: tuple[str, ...]  # or the targets' names
    task: str

    @property
    def count(self) -> int:
        return len(self.train[1]) + (len(self.test[1]) if self.test else 0)


def check(raw: Raw, layout: str, task: str) -> Arrays:
    """Raises DataError with the name of the first array that is unusable, UsageError for options that fit no source."""
    if layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout!r}: one of {', '.join(LAYOUTS)}")
    if raw.layout != "auto" and layout not in ("auto", "flat", raw.layout):
        raise UsageError(
            f"layout {layout} is for arrays: this source is {raw.layout} already; leave it out, or take flat"
        )
    layout = raw.layout if layout == "auto" else layout
    _require_keys(raw)
    x = {part: _x(raw, f"x_{part}", layout) for part in ("train", "test") if f"x_{part}" in raw.arrays}
    task = labels.choose(raw, task)
    y, classes = labels.read(raw, task, {part: len(values) for part, values in x.items()})
    train, test = x["train"], x.get("test")
    if test is not None and (test.shape[1:] != train.shape[1:] or test.dtype != train.dtype):
        raise DataError(
            f"x_test is {test.dtype} {test.shape[1:]} per example, x_train {train.dtype} {train.shape[1:]}: "
            "prepare both in the same way"
        )
    groups = _groups(raw, len(train))
    return Arrays((train, y["train"]), None if test is None else (test, y["test"]), groups, classes, task)


def _require_keys(raw: Raw) -> None:
    unknown = [key for key in raw.arrays if key not in KEYS]
    if unknown:
        raise DataError(f"array {unknown[0]!r} is unknown: known are {', '.join(KEYS)}; rename it or leave it out")
    missing = [key for key in REQUIRED if key not in raw.arrays]
    if ("x_test" in raw.arrays) != ("y_test" in raw.arrays):
        missing.append("y_test" if "x_test" in raw.arrays else "x_test")
    if missing:
        raise DataError(f"array {missing[0]!r} is missing (found: {', '.join(raw.arrays) or 'none'}): add it")


def _x(raw: Raw, name: str, layout: str) -> np.ndarray:
    stored = raw.plain(name)
    if not 2 <= stored.ndim <= 4 or stored.size == 0:
        raise DataError(f"{name} has shape {stored.shape}: give 2 to 4 axes, examples first, none empty")
    return np.ascontiguousarray(arrange(name, _readings(name, stored), layout))


def _readings(name: str, x: np.ndarray) -> np.ndarray:
    """uint8, int16 or finite float32, in this machine's byte order."""
    native = x.dtype.newbyteorder("=")
    if native in (np.uint8, np.int16):
        return x.astype(native)
    if x.dtype.kind != "f":
        raise DataError(f"{name} is {x.dtype}: store what the sensor gives as uint8, int16 or floating point")
    return finite(name, x)


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


def blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of `x`, about a million values at a time, so that wide copies of them stay small."""
    rows = max(1, (len(x) << 20) // x.size)
    yield from (x[row : row + rows] for row in range(0, len(x), rows))


def _groups(raw: Raw, count: int) -> np.ndarray | None:
    if "groups" not in raw.arrays:
        return None
    groups = raw.plain("groups")
    if groups.shape != (count,) or groups.dtype.kind not in "iuU":
        raise DataError(
            f"groups is {groups.dtype} {groups.shape} for {count} training examples: give one integer or string for each"
        )
    return groups
