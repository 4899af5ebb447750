"""Which channels live or die together: residual sums, depthwise filters, concatenations, flattened maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from edgeticket.ops import WEIGHTED, Add, Concat, Conv, Flatten, Layer, Mul, Shape


@dataclass(frozen=True)
class Group:
    """Channels that live or die together, index by index. `fixed` names what forbids removing any, or is empty."""

    ids: np.ndarray
    fixed: str = ""


def couple(
    layers: Sequence[Layer], shapes: Mapping[str, Shape], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, Group]]:
    """Id of every channel of every tensor, equal where channels are one; and the groups of ids, by their first maker."""
    find = _UnionFind()
    ids: dict[str, np.ndarray] = {name: find.fresh(name, shapes[name][0]) for name in inputs}
    fixed: list[tuple[str, str]] = [(name, "input of the network") for name in inputs]
    for layer in layers:
        ids[layer.name], reason = _couple(layer, shapes, [ids[name] for name in layer.inputs], find)
        if reason:
            fixed += [(name, reason) for name in (layer.name, *layer.inputs)]
    fixed += [(name, "output of the network") for name in outputs]
    root = find.roots()
    channels = {name: root[tensor] for name, tensor in ids.items()}
    reasons = {int(i): reason for name, reason in reversed(fixed) for i in channels[name]}
    groups = {}
    for name, first, size in find.made:
        own = np.arange(first, first + size)
        own = own[root[own] == own]
        if len(own):
            groups[name] = Group(own, next((reasons[i] for i in own.tolist() if i in reasons), ""))
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

    def roots(self) -> np.ndarray:
        return np.array([self.root(i) for i in range(len(self.parent))])


def _couple(
    layer: Layer, shapes: Mapping[str, Shape], inputs: list[np.ndarray], find: _UnionFind
) -> tuple[np.ndarray, str]:
    """Channel ids of the layer's output, and what forbids removing channels around it, if anything does."""
    op = layer.op
    if isinstance(op, Conv) and op.groups > 1:
        if op.groups == len(inputs[0]):
            return np.repeat(inputs[0], op.out // op.groups), ""
        return find.fresh(layer.name, op.out), f"{layer.name}: Conv with {op.groups} groups"
    if isinstance(op, WEIGHTED):
        return find.fresh(layer.name, op.out), ""
    if isinstance(op, Concat):
        return np.concatenate(inputs), ""
    if isinstance(op, Flatten):
        return np.repeat(inputs[0], prod(shapes[layer.inputs[0]][1:])), ""
    if isinstance(op, Add | Mul):
        for other in inputs[1:]:
            for a, b in zip(inputs[0].tolist(), other.tolist(), strict=True):
                find.join(a, b)
    return inputs[0], ""
