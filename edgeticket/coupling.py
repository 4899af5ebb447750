"""Which channels live or die together: residual sums, depthwise and grouped filters, concatenations, flattened maps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from edgeticket.ops import (
    Add,
    Concat,
    Conv,
    DepthToSpace,
    Flatten,
    Gather,
    Layer,
    Mul,
    Reshape,
    Shape,
    SpaceToDepth,
    Weighted,
)


@dataclass(frozen=True)
class Group:
    """Channels that one layer makes, each with an id of its own; an id may be many channels of many tensors.

    `fixed` names what forbids removing any, or is empty; `by`: layers that joined channels to those that are fixed, the
    nearest to these first. `tied`: layers that make several channels of one tensor one id.
    """

    ids: np.ndarray
    fixed: str = ""
    by: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()


def couple(
    layers: Sequence[Layer], shapes: Mapping[str, Shape], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, Group]]:
    """Id of every channel of every tensor, equal where channels are one; and the groups of ids, by their first maker."""
    find = _UnionFind()
    ids: dict[str, np.ndarray] = {name: find.fresh(name, shapes[name][0]) for name in inputs}
    tiers: list[tuple[str, np.ndarray]] = []
    for layer in layers:
        find.layer = layer.name
        ids[layer.name], together = _couple(layer, shapes, [ids[name] for name in layer.inputs], find)
        tiers += [(layer.name, block) for block in together]
    root = find.roots()
    tied = _names((i, name) for name, block in tiers for i in np.unique(root[block]).tolist())
    reasons: dict[int, str] = {}
    by: dict[int, tuple[str, ...]] = {}
    ends = (("input of the network", inputs, find.joins), ("output of the network", outputs, find.joins[::-1]))
    for reason, names, joins in ends:
        fixed = np.concatenate([ids[name] for name in names])
        by = _names((int(root[i]), name) for name, i in _joined(fixed, joins, len(root))) | by
        reasons = dict.fromkeys(root[fixed].tolist(), reason) | reasons
    groups = {}
    for name, first, size in find.made:
        own = [i for i in range(first, first + size) if root[i] == i]
        if own:
            reason = next((reasons[i] for i in own if i in reasons), "")
            groups[name] = Group(np.array(own), reason, _of(by, own), _of(tied, own))
    return {name: root[tensor] for name, tensor in ids.items()}, groups


def _joined(fixed: np.ndarray, joins: Iterable[tuple[str, int, int]], size: int) -> Iterator[tuple[str, int]]:
    """Of `joins` (layer, channel, channel), taken in turn, those that joined channels to the `fixed`: layer, a channel."""
    find = _UnionFind()
    find.join_rows(find.fresh("", size)[None, fixed])
    for name, a, b in joins:
        if find.root(a) != find.root(b) and find.root(fixed[0]) in (find.root(a), find.root(b)):
            yield name, a
        find.join(a, b)


def _names(pairs: Iterable[tuple[int, str]]) -> dict[int, tuple[str, ...]]:
    names: dict[int, dict[str, None]] = {}
    for i, name in pairs:
        names.setdefault(i, {})[name] = None
    return {i: tuple(each) for i, each in names.items()}


def _of(names: Mapping[int, tuple[str, ...]], ids: Iterable[int]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for i in ids for name in names.get(i, ())))


class _UnionFind:
    """Channel ids, joined in pairs; the smallest id of a set is its root. `joins`: layer and pair of each that joined two sets."""

    def __init__(self) -> None:
        self.layer = ""  # that joins
        self.joins: list[tuple[str, int, int]] = []
        self.made: list[tuple[str, int, int]] = []
        self.parent: list[int] = []

    def fresh(self, name: str, size: int) -> np.ndarray:
        first = len(self.parent)
        self.made.append((name, first, size))
        self.parent.extend(range(first, first + size))
        return np.arange(first, first + size)

    def root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, a: int, b: int) -> None:
        low, high = sorted((self.root(a), self.root(b)))
        if low != high:
            self.joins.append((self.layer, a, b))
            self.parent[high] = low

    def join_rows(self, ids: np.ndarray) -> np.ndarray:
        """Join each row of `ids`, which are returned."""
        for first, *others in ids.tolist():
            for other in others:
                self.join(first, other)
        return ids

    def roots(self) -> np.ndarray:
        return np.array([self.root(i) for i in range(len(self.parent))])


def _couple(
    layer: Layer, shapes: Mapping[str, Shape], inputs: list[np.ndarray], find: _UnionFind
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Channel ids of the layer's output, and arrays of ids in whose rows several channels of one tensor became one."""
    op, ids = layer.op, inputs[0]
    if isinstance(op, Conv) and 1 < op.groups == len(ids):  # depthwise
        return np.repeat(ids, op.out // op.groups), []
    if isinstance(op, Weighted):
        made = find.fresh(layer.name, op.out)
        if not isinstance(op, Conv) or op.groups == 1:
            return made, []
        # What leaves one convolution group leaves all of them, so that they stay alike.
        return made, [find.join_rows(tensor.reshape(op.groups, -1).T) for tensor in (ids, made)]
    if isinstance(op, Concat):
        return np.concatenate(inputs), []
    if isinstance(op, Gather):
        return ids[list(op.channels)], []
    if isinstance(op, Flatten | SpaceToDepth):
        return np.repeat(ids, prod(shapes[layer.inputs[0]][1:]) if isinstance(op, Flatten) else op.block**2), []
    if isinstance(op, DepthToSpace) or (isinstance(op, Reshape) and len(shapes[layer.inputs[0]]) == 1):
        blocks = ids.reshape(shapes[layer.name][0], -1)
        return blocks[:, 0], [find.join_rows(blocks)] if blocks.shape[1] > 1 else []
    if isinstance(op, Add | Mul):
        whole = [other for other in inputs if len(other) == shapes[layer.name][0]]
        find.join_rows(np.stack(whole, 1))
        return whole[0], []
    return ids, []
