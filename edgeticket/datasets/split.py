"""Which part an example goes to: by the hash of its index, or with its whole group in the order of the groups' hashes.

The same on every machine. By index nothing moves when examples are appended; by groups a few may, near the borders, since
whole groups are counted out until a part has its share.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from edgeticket.datasets.arrays import Arrays, Part
from edgeticket.errors import InsufficientDataError

FIFTHS = {"certify": 1, "select": 1, "train": 3}
FIFTHS_WITH_TEST = {"select": 1, "train": 4}
MIN_PART = 2
MAX_EXCHANGED = 256  # of the largest groups: small ones fill up to the last percent by themselves


def split(arrays: Arrays) -> Mapping[str, Part]:
    """train, select and certify, copied; for anomalies train holds normal examples only.

    Raises InsufficientDataError where a part stays empty, or a class in train, or a kind in select or certify.
    """
    x, y = arrays.train
    fifths = FIFTHS if arrays.test is None else FIFTHS_WITH_TEST
    if arrays.groups is None:
        number = np.searchsorted(np.cumsum(list(fifths.values()))[:-1] / 5, places(np.arange(len(y))), side="right")
    else:
        number = _by_groups(arrays.groups, fifths)
    parts = {part: (x[number == index], y[number == index]) for index, part in enumerate(fifths)}
    parts |= {} if arrays.test is None else {"certify": arrays.test}
    if arrays.task == "anomaly":
        x, y = parts["train"]
        parts["train"] = x[y == 0], y[y == 0]
    _require(parts, arrays)
    return parts


def places(ids: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each of `ids` from its SHA-256."""
    hashes = [hashlib.sha256(str(name).encode()).digest()[:8] for name in ids.tolist()]
    return np.array([int.from_bytes(h, "big") / 2**64 for h in hashes])


def _by_groups(groups: np.ndarray, fifths: Mapping[str, int]) -> np.ndarray:
    """The number of its part for every example."""
    unique, where, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(unique) < len(fifths):
        raise InsufficientDataError(
            f"{len(unique)} group(s) cannot fill the parts {', '.join(fifths)}: a group stays whole, so give "
            f"{len(fifths)} or more, or leave `groups` out"
        )
    order = np.argsort(places(unique), kind="stable")
    numbers = np.empty(len(unique), np.int64)
    numbers[order] = allot(sizes[order], tuple(fifths.values()))
    return numbers[where]


def allot(sizes: np.ndarray, fifths: Sequence[int]) -> np.ndarray:
    """The number of its part for each group of so many examples: none stays empty, examples come close to the fifths.

    Groups are taken in their order, those that are too large for a part are passed over for the last part, which gets the
    rest. While a part is more than 1 % of all examples off, the move or exchange of groups that helps most is made.
    """
    last = len(fifths) - 1
    goals = np.array(fifths) * sizes.sum()  # in fifths of examples, so that everything is exact
    numbers = np.full(len(sizes), last)
    for number, goal in enumerate(goals[:-1].tolist()):
        left = np.flatnonzero(numbers == last)
        numbers[left[_fill(5 * sizes[left], goal, len(left) - (last - number))]] = number
    while _exchange(5 * sizes, goals, numbers):
        pass
    return numbers


def _fill(sizes: np.ndarray, goal: int, most: int) -> list[int]:
    """Which groups bring the sum closer to `goal`, one after the other: at least one, at most `most`."""
    taken: list[int] = []
    total = 0
    for index, size in enumerate(sizes.tolist()):
        if len(taken) < most and size < 2 * (goal - total):
            taken.append(index)
            total += size
    return taken or [int(np.argmin(sizes))]


def _exchange(sizes: np.ndarray, goals: np.ndarray, numbers: np.ndarray) -> bool:
    """Exchange the two groups, or move the one, that lowers the sum of squared excesses most, if that is worth it."""
    parts = np.arange(len(goals))
    excess = np.bincount(numbers, sizes, len(goals)).astype(np.int64) - goals
    if abs(excess).max() * 100 <= goals.sum():
        return False
    groups = np.argsort(-sizes, kind="stable")[:MAX_EXCHANGED]
    other = np.append(numbers[groups], parts)  # last, for each part, "for nothing": the group just moves there
    own = numbers[groups][:, None]
    less = sizes[groups][:, None] - np.append(sizes[groups], 0 * parts)  # what the one part loses and the other gains
    change = np.where(own == other, 0, less * (excess[other] - excess[own] + less))
    change[:, len(groups) :][np.bincount(numbers)[own[:, 0]] == 1] = 0  # its part would be empty
    one, two = np.unravel_index(np.argmin(change), change.shape)
    if change[one, two] >= 0:
        return False
    if two < len(groups):
        numbers[groups[two]] = own[one, 0]
    numbers[groups[one]] = other[two]
    return True


def _require(parts: Mapping[str, Part], arrays: Arrays) -> None:
    for name, (_, y) in parts.items():
        if len(y) < MIN_PART:
            raise InsufficientDataError(
                f"only {len(y)} example(s) fall into the part {name}: give more examples, or larger groups"
            )
    needed = {"classification": ("train",), "anomaly": ("select", "certify"), "regression": ()}[arrays.task]
    for name in needed:
        counts = np.bincount(parts[name][1], minlength=len(arrays.classes))
        least = MIN_PART if arrays.task == "anomaly" else 1  # one anomaly alone has no spread
        for few in np.flatnonzero(counts < least)[:1]:
            raise InsufficientDataError(
                f"{'only one' if counts[few] else 'no'} example of class {few} ({arrays.classes[few]}) falls into the part "
                f"{name}: add more of them to "
                f"{'x_test' if name == 'certify' and arrays.test else 'x_train'}, and in more groups where there are any"
            )
