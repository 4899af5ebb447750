"""Data for a search: three parts that never mix, raw as the sensor gives them, and the map to the network's input.

`train` is learned from, `select` chooses, `certify` is touched by neither and backs every claim. With a test set, certify is
all of it and select 20 % of the training set; without, certify is 20 % too. Which part an example goes to is a hash of its
index: the same on every machine, and unchanged when examples are appended. Where groups (a part, a lot) are given, each goes
whole to one part (datasets/split.py). Nothing here touches a network.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from edgeticket.datasets import digits, fashion_mnist, folder, function, npz
from edgeticket.datasets.arrays import Part, blocks, check
from edgeticket.datasets.forms import FORMS, LAYOUT_HELP, LAYOUT_LINES, LAYOUTS
from edgeticket.datasets.raw import Raw
from edgeticket.datasets.split import MIN_PART, split
from edgeticket.datasets.survey import channels, warnings
from edgeticket.errors import DataError, InsufficientDataError, UsageError
from edgeticket.ticket import FLOAT32_MAX, FLOAT32_TINY, Input

__all__ = ["FORMS", "LAYOUTS", "LAYOUT_HELP", "LAYOUT_LINES", "Data", "load", "names", "summary"]

PARTS = ("train", "select", "certify")
SMALLEST_SPREAD, LARGEST_SPREAD = 1 / FLOAT32_MAX, 1 / FLOAT32_TINY  # 1 / spread is a step, a float32
_NAMED = {"digits": digits, "fashion-mnist": fashion_mnist}


@dataclass(frozen=True)
class Data:
    """Each part is (x, y): x raw, uint8, int16 or float32, [n, c, h, w], [n, c, length] or [n, features]; y int64 [n]."""

    name: str
    train: Part
    select: Part
    certify: Part
    input: Input
    task: str
    classes: tuple[str, ...]
    digest: str  # SHA-256 over the arrays of the three parts, before `images` cut the training part
    note: str  # licence and source


def names() -> list[tuple[str, str]]:
    """(name, one line) of every data set that is known by name."""
    return [(name, module.LINE) for name, module in _NAMED.items()]


def load(source: str | os.PathLike[str], *, layout: str = "auto", images: int | None = None) -> Data:
    """Data by name, from an .npz, a folder of images or `file.py:function`.

    `layout` (one of LAYOUTS) says how arrays are stored; `images` keeps the first so many of the training part, the rest stays
    unused. Raises DataError for anything missing, damaged or unfit, InsufficientDataError where a part gets too few examples,
    UsageError for options that fit nothing.
    """
    source = os.fspath(source)
    if images is not None and images < 1:
        raise UsageError(f"images = {images}: use at least 1, or leave it out")
    try:
        raw = _read(source)
        arrays = check(raw, layout)
        parts = split(arrays)
        train = (parts["train"][0][:images], parts["train"][1][:images])
        _require_two(train)
        input_map = _input(train[0])
    except (DataError, InsufficientDataError) as error:
        raise type(error)(f"data {source}: {error}") from error
    except OSError as error:
        raise DataError(
            f"data {source}: cannot be read ({error.strerror}): check the path and its permissions"
        ) from error
    name = source if source in _NAMED else Path(source).name  # no path: a ticket records the name
    digest = _digest(parts)
    return Data(
        name, train, parts["select"], parts["certify"], input_map, "classification", arrays.classes, digest, raw.note
    )


def summary(data: Data) -> dict[str, Any]:
    """What `edgeticket data check` shows, ready for JSON. `classes`: name -> examples in train, select, certify.

    `channels`: `mean` and `spread` of each over train, as the sensor gives them. `warnings`: what makes a result doubtful.
    """
    parts = {part: getattr(data, part) for part in PARTS}
    counts = [np.bincount(y, minlength=len(data.classes)).tolist() for _, y in parts.values()]
    return {
        "name": data.name,
        "task": data.task,
        "shape": list(data.train[0].shape[1:]),
        "sizes": {part: len(y) for part, (_, y) in parts.items()},
        "classes": dict(zip(data.classes, map(list, zip(*counts, strict=True)), strict=True)),
        "input": {"dtype": data.input.dtype, "offset": list(data.input.offset), "step": list(data.input.step)},
        "channels": channels(data.train[0]),
        "warnings": warnings(parts, data.classes),
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


def _require_two(train: Part) -> None:
    if len(train[1]) < MIN_PART or len(np.unique(train[1])) < 2:
        raise DataError(
            f"the first {len(train[1])} training examples are of one class: raise the number of images, or mix them"
        )


def _input(x: np.ndarray) -> Input:
    """Mean 0, deviation 1 over the training part: of every channel of floats, of integers as a whole.

    Integers get ONE integer offset and one step, so padding and folding stay exact.
    """
    if x.dtype == np.float32:
        offset = [float(np.float32(mean)) for mean in x.mean((0, *range(2, x.ndim)), dtype=np.float64)]
        spreads, whole = _spreads(x, offset)
    else:
        mean, whole = _moments(x)
        offset, spreads = [float(round(mean))] * x.shape[1], [whole] * x.shape[1]
    for spread in (whole, *spreads):
        if not SMALLEST_SPREAD <= spread <= LARGEST_SPREAD:
            raise DataError(
                f"the training part's values spread by {spread}: all equal, or beyond what float32 can scale"
            )
    return Input(x.dtype.name, tuple(offset), tuple(float(np.float32(1 / spread)) for spread in spreads))


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
