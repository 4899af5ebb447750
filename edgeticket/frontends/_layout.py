"""Which operations of a plan move a tensor's values in a given way.

An index array says it: its element is the number of the value, in C order, of the tensor that it is taken from, -1 is a 0.
Both without the batch.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import prod

import numpy as np

from edgeticket.ops import (
    DepthToSpace,
    Flatten,
    Gather,
    MaxPool,
    Op,
    Pad,
    Reshape,
    Resize,
    Shape,
    SpaceToDepth,
)

MAX_GATHER = 1 << 15  # values in any order, one number each in the plan


def classify(shape: Shape, index: np.ndarray) -> list[Op] | None:
    """The operations, in order, that make `index` of a tensor of `shape`; None where no combination known does.

    Gather, Pad, steps or nearest Resize, then Flatten, Reshape or DepthToSpace; or SpaceToDepth before them.
    """
    goal = index.shape
    for inner in _before_reshape(shape, index):
        ops = _window(shape, index.reshape(inner))
        if ops is not None:
            return ops + _reshape(inner, goal)
    for block in _blocks(shape, goal):
        ops = _window(shape, _space_to_depth(index, block))
        if ops is not None:
            return [*ops, DepthToSpace(block)]
    for block in _blocks(goal, shape):
        number = np.empty(prod(shape), np.int64)
        made = _space_to_depth(np.arange(prod(shape)).reshape(shape), block)
        number[made.reshape(-1)] = np.arange(made.size)
        ops = _window(made.shape, np.where(index < 0, -1, number[index]))
        if ops is not None:
            return [SpaceToDepth(block), *ops]
    return None


def any_order(shape: Shape, index: np.ndarray) -> list[Op] | None:
    """The last resort, of small tensors without zeros: every value by its number."""
    if index.min() < 0 or max(index.size, prod(shape)) > MAX_GATHER:
        return None
    flat: list[Op] = [Flatten()] if len(shape) > 1 else []
    return [*flat, Gather(tuple(index.reshape(-1).tolist())), *_reshape((index.size,), index.shape)]


def _before_reshape(shape: Shape, index: np.ndarray) -> Iterator[Shape]:
    """Shapes with as many directions as `shape` that `index` may have had before its values were only counted anew."""
    if len(shape) == index.ndim:
        yield index.shape
    if index.min() >= 0:
        values, sizes = index.reshape(-1), [index.size]
        for axis in range(1, len(shape)):  # how many values in a row are of the first channel, of its first row
            sizes.append(_run(values // prod(shape[axis:])))
        if all(outer % inner == 0 for outer, inner in pairwise(sizes)):
            yield tuple(outer // inner for outer, inner in zip(sizes, [*sizes[1:], 1], strict=True))


def _run(values: np.ndarray) -> int:
    """How many of `values` equal the first before another one comes."""
    other = values != values[0]
    return int(other.argmax()) or len(values)


def _reshape(shape: Shape, goal: Shape) -> list[Op]:
    """The values of `shape` in the same order, counted as `goal`."""
    if shape == goal:
        return []
    if len(shape) > 1 and len(goal) > 1 and shape[0] == goal[0]:
        return [Reshape(goal[1:])]
    flat: list[Op] = [Flatten()] if len(shape) > 1 else []
    return [*flat, Reshape(goal[1:])] if len(goal) > 1 else flat


def _window(shape: Shape, index: np.ndarray) -> list[Op] | None:
    """Channels in some order; each direction cropped, padded with 0, in steps, or resized."""
    zero, axes = index < 0, range(index.ndim)
    found = np.unravel_index(np.maximum(index, 0), shape)
    channels, *space = (
        np.where(zero, -1, found[axis]).max(axis=tuple(a for a in axes if a != axis)).astype(np.int64) for axis in axes
    )
    if channels.min() < 0:
        return None
    lines = [_line(positions) for positions in space]
    if None not in lines:
        space = [first + step * np.arange(len(p)) for (first, step), p in zip(lines, space, strict=True)]  # type: ignore[misc]
    if not np.array_equal(_numbers(shape, [channels, *space]), index):
        return None
    order = channels.tolist()
    gather: list[Op] = [] if order == list(range(shape[0])) else [Gather(tuple(order))]
    if None not in lines:
        return gather + _crop(shape[1:], index.shape[1:], lines)  # type: ignore[arg-type]
    sizes = index.shape[1:]
    if all(np.array_equal(p, np.arange(len(p)) * size // len(p)) for p, size in zip(space, shape[1:], strict=True)):
        return [*gather, Resize(sizes, "nearest")]
    return None


def _line(positions: np.ndarray) -> tuple[int, int] | None:
    """First and step (1 or more) of `positions`; -1 there is out of reach, wherever it is."""
    (real,) = np.nonzero(positions >= 0)
    if not len(real):
        return None
    step = int(positions[real[1]] - positions[real[0]]) if len(real) > 1 else 1
    return (int(positions[real[0]] - step * real[0]), step) if step >= 1 else None


def _numbers(shape: Shape, places: list[np.ndarray]) -> np.ndarray:
    """Number of the value at each combination of `places`, one array a direction; -1 where any is outside."""
    grid = np.ix_(*places)
    inside = np.array(True)
    for at, size in zip(grid, shape, strict=True):
        inside = inside & (at >= 0) & (at < size)
    return np.where(inside, np.ravel_multi_index(grid, shape, mode="clip"), -1)


def _crop(shape: Shape, goal: Shape, lines: list[tuple[int, int]]) -> list[Op]:
    """Of the directions in space: each from a first position, by a step, to as many as `goal` says."""
    begins, ends = [-first for first, _ in lines], []
    for size, begin, out, (_, step) in zip(shape, begins, goal, lines, strict=True):
        last = (out - 1) * step + 1  # the size that gives just as many
        enough = (size + begin - 1) // step + 1 == out
        ends.append(0 if enough else last - size - begin)
    steps = tuple(step for _, step in lines)
    n = len(steps)
    ops: list[Op] = [Pad((*begins, *ends))] if any(begins + ends) else []
    return ops + ([MaxPool((1,) * n, steps, (0,) * 2 * n)] if max(steps, default=1) > 1 else [])


def _blocks(small: Shape, large: Shape) -> Iterator[int]:
    """The block that makes an image of shape `small` one of shape `large`, if there is one."""
    if len(small) == len(large) == 3:
        block, rest = divmod(large[1], small[1])
        if block > 1 and not rest and small[2] * block == large[2]:
            yield block


def _space_to_depth(values: np.ndarray, block: int) -> np.ndarray:
    channels, height, width = values.shape
    apart = values.reshape(channels, height // block, block, width // block, block).transpose(0, 2, 4, 1, 3)
    return apart.reshape(channels * block**2, height // block, width // block)
