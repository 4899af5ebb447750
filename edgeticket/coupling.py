"""Which channels live or die together: residual sums, depthwise and grouped filters, concatenations, flattened maps."""

from collections.abc import Mapping, Sequence
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

    `fixed` names what forbids removing any, or is empty. `tied`: layers that make several channels of one tensor one id.
    """

    ids: np.ndarray
    fixed: str = ""
    tied: tuple[str, ...] = ()


def couple(
    layers: Sequence[Layer], shapes: Mapping[str, Shape], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, Group]]:
    """Id of every channel of every tensor, equal where channels are one; and the groups of ids, by their first maker."""
    find = _UnionFind()
    ids: dict[str, np.ndarray] = {name: find.fresh(name, shapes[name][0]) for name in inputs}
    tied: list[tuple[str, np.ndarray]] = []
    for layer in layers:
        ids[layer.name], together = _couple(layer, shapes, [ids[name] for name in layer.inputs], find)
        tied += [(layer.name, block) for block in together]
    root = find.roots()
    channels = {name: root[tensor] for name, tensor in ids.items()}
    fixed = [(name, "input of the network") for name in inputs] + [(name, "output of the network") for name in outputs]
    reasons = {int(i): reason for name, reason in reversed(fixed) for i in channels[name]}
    tiers: dict[int, dict[str, None]] = {}
    for name, block in tied:
        for i in np.unique(root[block]).tolist():
            tiers.setdefault(i, {})[name] = None
    groups = {}
    for name, first, size in find.made:
        own = np.arange(first, first + size)
        own = own[root[own] == own]
        if len(own):
            reason = next((reasons[i] for i in own.tolist() if i in reasons), "")
            groups[name] = Group(own, reason, tuple(dict.fromkeys(n for i in own.tolist() for n in tiers.get(i, ()))))
    return channels, groups


class _UnionFind:
    """Channel ids, joined in pairs; the smallest id of a set is its root."""

    def __init__(self) -> None:
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
        a, b = self.root(a), self.root(b)
        self.parent[max(a, b)] = min(a, b)

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
