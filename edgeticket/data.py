"""Data for a search: three parts that never mix, raw as the sensor gives them, and the map to the network's input.

`train` is learned from, `select` chooses, `certify` is touched by neither and backs every claim. With a test set, certify is
all of it and select 20 % of the training set; without, certify is 20 % too. Which part an example goes to is a hash of its
index: the same on every machine, and unchanged when examples are appended. Where groups (a part, a lot) are given, each goes
whole to one part (datasets/split.py). Nothing here touches a network.

A task says what y is. classification: int64 classes. regression: float32 targets in their own units, which the network
gives too. anomaly: int64, 0 = normal, 1 = anomalous; train holds normal examples only, select and certify both kinds.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.datasets import (
    digits,
    fashion_mnist,
    folder,
    function,
    npz,
    plaid,
    shuttle,
    synthetic_bearing,
    synthetic_surface,
)
from edgeticket.datasets.arrays import Arrays, Part, blocks, check
from edgeticket.datasets.forms import FORMS, LAYOUT_HELP, LAYOUT_LINES, LAYOUTS, TASK_HELP, TASK_LINES, TASKS
from edgeticket.datasets.raw import Raw
from edgeticket.datasets.split import MIN_PART, split
from edgeticket.datasets.survey import channels, labels, warnings
from edgeticket.errors import DataError, InsufficientDataError, UsageError
from edgeticket.ticket import FLOAT32_MAX, FLOAT32_TINY, Input

__all__ = [
    "FORMS",
    "LAYOUTS",
    "LAYOUT_HELP",
    "LAYOUT_LINES",
    "TASKS",
    "TASK_HELP",
    "TASK_LINES",
    "Data",
    "load",
    "names",
    "summary",
]

PARTS = ("train", "select", "certify")
SMALLEST_SPREAD, LARGEST_SPREAD = 1 / FLOAT32_MAX, 1 / FLOAT32_TINY  # 1 / spread is a step, a float32
_NAMED = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "plaid": plaid,
    "shuttle": shuttle,
    "synthetic-bearing": synthetic_bearing,
    "synthetic-surface": synthetic_surface,
}


@dataclass(frozen=True)
class Data:
    """Each part is (x, y): x raw, uint8, int16 or float32, [n, c, h, w], [n, c, length] or [n, features]; y by task.

    y is int64 [n], or float32 [n] or [n, targets] for regression: what was given, never scaled. A search may learn
    (y - target_offset) * target_step, as long as the network that it gives out answers in y's own units.
    """

    name: str
    train: Part
    select: Part
    certify: Part
    input: Input
    task: str  # "classification" | "regression" | "anomaly"
    classes: tuple[str, ...]  # or the targets' names
    digest: str  # SHA-256 over the arrays of the three parts, before `images` cut the training part
    note: str  # licence and source
    target_offset: tuple[float, ...] = ()  # regression: float32 mean of each target over train ...
    target_step: tuple[float, ...] = ()  # ... and 1 / its standard deviation
    left_out: int = 0  # anomaly: examples that would be in train but are not normal


def names() -> list[tuple[str, str]]:
    """(name, one line) of every data set that is known by name."""
    return [(name, module.LINE) for name, module in _NAMED.items()]


def load(
    source: str | os.PathLike[str], *, layout: str = "auto", images: int | None = None, task: str = "auto"
) -> Data:
    """Data by name, from an .npz, a folder of images or `file.py:function`.

    `layout` (one of LAYOUTS) says how arrays are stored, `task` (one of TASKS) what y means; `images` keeps the first so many
    of the training part, the rest stays unused. Raises DataError for anything missing, damaged or unfit, UsageError for
    options that fit nothing, InsufficientDataError where a part gets too few examples or one kind of them, or a target never
    changes.
    """
    source = os.fspath(source)
    if images is not None and images < 1:
        raise UsageError(f"images = {images}: use at least 1, or leave it out")
    try:
        raw = _read(source)
        arrays = check(raw, layout, task)
        parts = split(arrays)
        train = (parts["train"][0][:images], parts["train"][1][:images])
        _require(train, arrays)
        input_map = _input(train[0])
        target_offset, target_step = _targets(train[1]) if arrays.task == "regression" else ((), ())
    except (DataError, InsufficientDataError) as error:
        raise type(error)(f"data {source}: {error}") from error
    except OSError as error:
        raise DataError(
            f"data {source}: cannot be read ({error.strerror}): check the path and its permissions"
        ) from error
    name = source if source in _NAMED else Path(source).name  # no path: a ticket records the name
    return Data(
        name=name,
        train=train,
        select=parts["select"],
        certify=parts["certify"],
        input=input_map,
        task=arrays.task,
        classes=arrays.classes,
        digest=_digest(parts),
        note=raw.note,
        target_offset=target_offset,
        target_step=target_step,
        left_out=arrays.count - sum(len(y) for _, y in parts.values()),
    )


def summary(data: Data) -> dict[str, Any]:
    """What `edgeticket data check` shows, ready for JSON. `classes`: name -> examples in train, select, certify.

    `channels`: `mean` and `spread` of each over train, as the sensor gives them; regression has the same of its `targets` in
    the place of `classes`. `warnings`: what makes a result doubtful.
    """
    parts = {part: getattr(data, part) for part in PARTS}
    return {
        "name": data.name,
        "task": data.task,
        "shape": list(data.train[0].shape[1:]),
        "sizes": {part: len(y) for part, (_, y) in parts.items()},
        **labels(parts, data.classes, data.task),
        "left_out": data.left_out,
        "input": {"dtype": data.input.dtype, "offset": list(data.input.offset), "step": list(data.input.step)},
        "channels": channels(data.train[0]),
        "warnings": warnings(parts, data.classes, data.task),
        "digest": data.digest,
        "note": data.note,
    }


def _read(source: str) -> Raw:
    path = Path(source)
    if source in _NAMED:
        return _NAMED[source].read()
    if source.rpartition(":")[0].endswith(".py"):
        return function.read(source)
    if path.suffix == ".npz":
        return npz.read(path)
    if source and os.path.isdir(source):  # never raises, unlike Path.is_dir
        return folder.read(path)
    raise DataError(f"no such data: known names are {', '.join(_NAMED)}; otherwise give {', '.join(FORMS)}")


def _require(train: Part, arrays: Arrays) -> None:
    """Raise unless there is something to learn from: two examples, two classes, targets that change."""
    y = train[1].reshape(len(train[1]), -1)
    if len(y) < MIN_PART:
        raise DataError(f"{len(y)} training example is too few: raise the number of images")
    constant = np.flatnonzero(y.min(0) == y.max(0))
    if arrays.task == "classification" and len(constant):
        raise DataError(
            f"the first {len(y)} training examples are of one class: raise the number of images, or mix them"
        )
    if arrays.task == "regression" and len(constant):
        raise InsufficientDataError(
            f"{arrays.classes[constant[0]]} is {y[0, constant[0]]} in all {len(y)} training examples: give examples in "
            "which it changes, or leave it out"
        )


def _targets(y: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """float32 mean and 1 / standard deviation of each target."""
    wide = y.reshape(len(y), -1).astype(np.float64)
    spreads = wide.std(0)
    if not ((spreads >= SMALLEST_SPREAD) & (spreads <= LARGEST_SPREAD)).all():
        raise DataError(
            f"the targets spread by {spreads.min():g} to {spreads.max():g}, beyond float32: change the unit"
        )
    return tuple(map(_float32, wide.mean(0))), tuple(map(_float32, 1 / spreads))


def _float32(value: float) -> float:
    return float(np.float32(value))


def _input(x: np.ndarray) -> Input:
    """Mean 0, deviation 1 over the training part: of every channel of floats, of integers as a whole.

    Integers get ONE integer offset and one step, so padding and folding stay exact.
    """
    if x.dtype == np.float32:
        offset = list(map(_float32, x.mean((0, *range(2, x.ndim)), dtype=np.float64)))
        spreads, whole = _spreads(x, offset)
    else:
        mean, whole = _moments(x)
        offset, spreads = [float(round(mean))] * x.shape[1], [whole] * x.shape[1]
    for spread in (whole, *spreads):
        if not SMALLEST_SPREAD <= spread <= LARGEST_SPREAD:
            raise DataError(
                f"the training part's values spread by {spread}: all equal, or beyond what float32 can scale"
            )
    return Input(x.dtype.name, tuple(offset), tuple(_float32(1 / spread) for spread in spreads))


def _spreads(x: np.ndarray, offset: list[float]) -> tuple[list[float], float]:
    """Standard deviation of floats about their channel's offset: by channel, and of all channels together.

    A channel that never changes gets what is largest: its own magnitude or the deviation of all. If it moves on a device, by
    how much nobody knows, it can't drown the others, be it a dark pixel among bright ones or a pressure among voltages.
    """
    axes, centre = (0, *range(2, x.ndim)), np.reshape(np.array(offset), (-1, *[1] * (x.ndim - 2)))
    variance = sum(((block - centre) ** 2).sum(axes) for block in blocks(x)) * len(offset) / x.size
    whole = sqrt(variance.mean())
    own = np.sqrt(variance)
    return np.where(own < SMALLEST_SPREAD, np.maximum(whole, np.abs(offset)), own).tolist(), whole


def _moments(x: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of integers, from exact sums: alike on every machine."""
    total = squares = 0
    for block in blocks(x):
        wide = block.astype(np.int64).ravel()
        total += int(wide.sum())
        squares += int(wide @ wide)
    return total / x.size, sqrt((squares * x.size - total * total) / x.size**2)


def _digest(parts: Mapping[str, Part]) -> str:
    """Over part, type, shape and little-endian bytes of every array."""
    found = hashlib.sha256()
    for part in PARTS:
        for array in parts[part]:
            plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            found.update(f"{part} {array.dtype.name} {array.shape}\n".encode())
            found.update(plain.reshape(-1).view(np.uint8).data)
    return found.hexdigest()
