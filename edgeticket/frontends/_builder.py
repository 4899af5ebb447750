"""A plan under construction: layers as the operations of a traced module ask for them, and values that only moved.

A chain of views, slices, shuffles and pads is one lazy value: an index array (see `_layout`), made by running PyTorch's own
operation on the numbers of the values. Only what consumes it turns it into layers, so that views cancel out.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from edgeticket.errors import UnsupportedError
from edgeticket.frontends._layout import any_order, classify
from edgeticket.frontends._source import is_torch_module, module_path, operation, place_of, unsupported
from edgeticket.model import Float, Model
from edgeticket.ops import AveragePool, Conv, Flatten, GlobalAveragePool, Layer, Op, Pad, Shape, Weighted, out_shape
from edgeticket.plan import Plan
from edgeticket.ticket import Input

BATCH = 2  # of the traced network: one example would not show where examples are mixed
Move = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Constant:
    """What does not depend on the input, and the parameters that it is computed from."""

    tensor: Tensor
    parameters: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Value:
    """The plan's tensor `base`, its values moved as `index` [batch, ...] says; None: as they are."""

    base: str
    shape: Shape  # with the batch
    node: Node
    index: Tensor | None = None
    before: "Value | None" = None  # what `move` made this one of
    move: Move | None = None


class Builder:
    def __init__(self, inputs: Mapping[str, Shape]) -> None:
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.shapes: dict[str, Shape] = dict(self.inputs)
        self.layers: dict[str, Layer] = {}
        self.weights: dict[str, Float] = {}
        self.scale: dict[str, np.ndarray] = {}
        self.bias: dict[str, np.ndarray] = {}
        self.slope: dict[str, np.ndarray] = {}
        self._claims: dict[str, Node] = {}  # parameter -> the node whose weights it is
        self._holders: dict[str, list[Node]] = {}  # nodes of the graph whose value has this base
        self._laid_out: dict[tuple[str, Shape, bytes], str] = {}

    def model(self, outputs: list[str]) -> Model:
        """Raises UnsupportedError where the plan is too large."""
        plan = Plan(self.inputs, tuple(self.layers.values()), tuple(outputs))
        maps = {name: Input("float32", (0.0,) * s[0], (1.0,) * s[0]) for name, s in self.inputs.items()}
        scale, bias, slope = (
            {name: values.astype(np.float32) for name, values in all_values.items()}
            for all_values in (self.scale, self.bias, self.slope)
        )
        return Model(plan=plan, weights=self.weights, scale=scale, bias=bias, slope=slope, inputs=maps, quant={})

    # layers

    def add(self, node: Node, op: Op, inputs: list[str], name: str = "") -> str:
        """A layer for `node`, named after its module or operation where `name` does not say. The name of its output."""
        try:
            shape = out_shape(op, [self.shapes[one] for one in inputs])
        except UnsupportedError as error:
            advice = "no layer of a plan does this: change the sizes"
            raise unsupported(node, f"{operation(node)}: {error}", advice) from error
        name = self._unique(name or _name(node, op))
        self.layers[name] = Layer(name, op, tuple(inputs))
        self.shapes[name] = shape
        return name

    def add_weighted(self, node: Node, op: Weighted, x: str, name: str, weight: np.ndarray, bias: Any) -> str:
        """`weight` [filters, inputs, *kernel]; `bias` per filter, or None."""
        name = self.add(node, op, [x], name)
        self.weights[name] = Float(np.array(weight, np.float32, order="C"))
        self.scale[name] = np.ones(len(weight))
        self.bias[name] = np.zeros(len(weight)) if bias is None else bias
        return name

    def claim(self, node: Node, parameters: frozenset[str]) -> None:
        """Each parameter is one layer's weights: a plan has no layers that share them."""
        for name in parameters:
            if name in self._claims:
                problem = f"{operation(node)} has the weights {name} of the {operation(node)} in {place_of(self._claims[name])}"
                raise unsupported(node, problem, "give each layer its own")
            self._claims[name] = node

    def value(self, node: Node, name: str) -> Value:
        return Value(name, (BATCH, *self.shapes[name]), node)

    def replace(self, name: str, op: Op) -> None:
        """Change a layer; only where `sole` says that nothing else has read it."""
        layer = self.layers[name] = replace(self.layers[name], op=op)
        self.shapes[name] = out_shape(op, [self.shapes[one] for one in layer.inputs])

    def hold(self, node: Node, values: list[Value]) -> None:
        """Note that the graph's `node` gives these."""
        for value in values:
            self._holders.setdefault(value.base, []).append(node)

    def sole(self, name: str) -> bool:
        """The layer has one reader in the graph, by way of views or directly."""
        return name in self.layers and all(len(node.users) == 1 for node in self._holders.get(name, []))

    def _unique(self, name: str) -> str:
        names = (name if i == 1 else f"{name}_{i}" for i in range(1, len(self.shapes) + 2))
        return next(one for one in names if one not in self.shapes)

    # values that only moved

    def move(self, node: Node, value: Value, move: Move) -> Any:
        """The Value, or tuple of them, that `move` makes when it is given `value`."""
        made = move(_numbers(value.shape) if value.index is None else value.index)
        if isinstance(made, Tensor):
            return self._absorbed(Value(value.base, tuple(made.shape), node, made, value, move))
        return tuple(
            Value(value.base, tuple(part.shape), node, part, value, partial(_part, move, i))
            for i, part in enumerate(made)
        )

    def _absorbed(self, value: Value) -> Value:
        """Into the layer that makes it: a crop into a Conv's padding, a Flatten into an average over everything."""
        layer = self.layers.get(value.base)
        if layer is None or not isinstance(layer.op, Conv | AveragePool) or not self.sole(layer.name):
            return value
        ops = self._moves(value)
        if not ops or len(ops) > 1:
            return value
        op, move, shape = layer.op, ops[0], self.shapes[layer.name]
        if isinstance(op, AveragePool) and isinstance(move, Flatten) and prod(shape[1:]) == 1:
            if op.kernel == self.shapes[layer.inputs[0]][1:] and not any(op.pad):
                self.replace(layer.name, GlobalAveragePool())
                return self.value(value.node, layer.name)
        elif isinstance(op, Conv) and isinstance(move, Pad):
            pad = tuple(p + move.pad[i] * op.stride[i % len(op.stride)] for i, p in enumerate(op.pad))
            if max(move.pad) <= 0 <= min(pad):
                self.replace(layer.name, replace(op, pad=pad))
                return self.value(value.node, layer.name)
        return value

    def tensor(self, value: Value) -> str:
        """The plan's tensor with these values, layers added as needed. Raises UnsupportedError where none do it."""
        if value.index is None:
            return value.base
        digest = hashlib.sha256(value.index.numpy().tobytes()).digest()
        key = (value.base, value.shape, digest)
        if key not in self._laid_out:
            name, ops = self.source(value)
            self._laid_out[key] = self.add_moves(value.node, name, ops)
        return self._laid_out[key]

    def add_moves(self, node: Node, name: str, ops: list[Op]) -> str:
        for op in ops:
            name = self.add(node, op, [name])
        return name

    def source(self, value: Value) -> tuple[str, list[Op]]:
        """A tensor of the plan, and the operations that are still to be done to it."""
        ops = self._moves(value)
        if ops is None and value.index is not None and self._is_tensor(value):
            ops = any_order(self.shapes[value.base], value.index[0].numpy())
        if ops is not None:
            return value.base, ops
        size = "x".join(map(str, value.shape[1:])) or "nothing"
        problem, advice = f"moves values to {size} in a way that no layer does", "keep channels whole"
        if 0 in value.shape:
            problem, advice = "leaves nothing", "change the sizes"
        elif not self._apart(value):
            problem, advice = "mixes the examples of a batch", "keep the batch in front: x.flatten(1)"
        elif not self._is_tensor(value):
            problem, advice = f"leaves {len(value.shape) - 1} directions beside the batch", "leave 1 to 3 of them"
        raise unsupported(value.node, f"{operation(value.node)} {problem}", advice)

    def _moves(self, value: Value) -> list[Op] | None:
        """What makes `value` of its base, as a whole or else step by step; None where nothing does."""
        if value.index is None:
            return []
        if not self._is_tensor(value):
            return None
        shape = self.shapes[value.base]
        ops = classify(shape, value.index[0].numpy())
        if ops is None and value.move is not None and value.before is not None and value.before.index is not None:
            ops = self._moves(value.before)
            for op in ops or ():
                shape = out_shape(op, [shape])
            last = None if ops is None else classify(shape, value.move(_numbers((BATCH, *shape)))[0].numpy())
            ops = None if ops is None or last is None else ops + last
        return ops

    def _is_tensor(self, value: Value) -> bool:
        """It can be one of a plan."""
        return len(value.shape) in (2, 3, 4) and self._apart(value)

    def _apart(self, value: Value) -> bool:
        """Every example reads itself alone, all in the same way."""
        index, size = value.index, prod(self.shapes[value.base])
        if index is None or not index.numel() or len(index) != BATCH:
            return index is None
        first = index[0]
        return bool(first.max() < size) and torch.equal(torch.where(first < 0, -1, first + size), index[1])


def _part(move: Move, i: int, index: Tensor) -> Tensor:
    return move(index)[i]


def _numbers(shape: Shape) -> Tensor:
    return torch.arange(prod(shape)).view(shape)


def _name(node: Node, op: Op) -> str:
    path = module_path(node)
    if path and is_torch_module(node):
        return path
    word = type(op).__name__.lower()
    return f"{path}.{word}" if path else word
