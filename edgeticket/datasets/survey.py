"""What a look at the three parts shows before a search: each channel's spread, and what makes a result doubtful."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeticket.datasets.arrays import Part, blocks

FEW = 5
FEW_VALUES = 20
MAX_LISTED = 5


def channels(x: np.ndarray) -> dict[str, list[float]]:
    """`mean` and `spread` (standard deviation) of every channel or feature of x [n, c, ...], raw."""
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axes, dtype=np.float64)
    centre = mean.reshape(-1, *[1] * (x.ndim - 2))
    squares = sum(((block - centre) ** 2).sum(axes) for block in blocks(x))
    return {"mean": mean.tolist(), "spread": np.sqrt(squares * len(mean) / x.size).tolist()}


def labels(parts: Mapping[str, Part], classes: tuple[str, ...], task: str) -> dict[str, Any]:
    """Examples of each class in each part, or mean and spread of each target in train."""
    if task == "regression":
        y = parts["train"][1]
        return {"targets": {"names": list(classes), **channels(y.reshape(len(y), -1))}}
    counts = [np.bincount(y, minlength=len(classes)).tolist() for _, y in parts.values()]
    return {"classes": dict(zip(classes, map(list, zip(*counts, strict=True)), strict=True))}


def warnings(parts: Mapping[str, Part], classes: tuple[str, ...], task: str) -> list[str]:
    """Sentences; none where there is nothing to say. `parts` are train, select and certify."""
    found = [*_copies(parts["train"][0], parts["certify"][0])]
    if task == "regression":
        return found + _whole(parts["train"][1]) + _constant(parts["train"][0])
    for name, (_, y) in parts.items():
        kinds = classes[:1] if task == "anomaly" and name == "train" else classes  # train has no anomalies
        found += _few(name, np.bincount(y, minlength=len(kinds)), kinds)
    return found + _constant(parts["train"][0])


def _copies(train: np.ndarray, certify: np.ndarray) -> list[str]:
    seen = set(map(_digest, train))
    count = sum(_digest(example) in seen for example in certify)
    if not count:
        return []
    return [
        f"{count} of {len(certify)} examples of certify have an identical one in train: what is learned by heart would "
        "count as skill: drop the copies, or give them one number in `groups`"
    ]


def _digest(example: np.ndarray) -> bytes:
    return hashlib.sha256(example.tobytes()).digest()


def _few(part: str, counts: np.ndarray, classes: tuple[str, ...]) -> list[str]:
    few = np.flatnonzero(counts < FEW)
    if not len(few):
        return []
    listed = ", ".join(f"{classes[label]} ({counts[label]})" for label in few[:MAX_LISTED])
    more = f" and {len(few) - MAX_LISTED} more" if len(few) > MAX_LISTED else ""
    return [f"fewer than {FEW} examples of a class in {part}: {listed}{more}: add some"]


def _whole(y: np.ndarray) -> list[str]:
    """Classes that were stored as floats would be learned as numbers."""
    values = np.unique(y)
    if len(values) > FEW_VALUES or (values != np.rint(values)).any():
        return []
    return [
        f"the targets are {len(values)} whole numbers: they are learned as quantities; if they are classes, store y as integers"
    ]


def _constant(x: np.ndarray) -> list[str]:
    axes = (0, *range(2, x.ndim))
    constant = np.flatnonzero(x.min(axes) == x.max(axes))
    if not len(constant):
        return []
    listed = ", ".join(map(str, constant[:MAX_LISTED])) + (", ..." if len(constant) > MAX_LISTED else "")
    word = "feature" if x.ndim == 2 else "channel"
    return [
        f"{len(constant)} of {x.shape[1]} {word}s never change in train (number {listed}): nothing can be learned from "
        "them: leave them out, or check the sensor"
    ]
