"""Handlers for activations and for operations that join tensors or change none. Importing this registers them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.fx import Node

from edgeticket.frontends._builder import Builder, Constant, Value
from edgeticket.frontends._operations import WRITTEN_OUT, handles
from edgeticket.frontends._source import operation, unsupported
from edgeticket.ops import LEAKY_RELU, WEIGHTED, Activation, Add, Concat, Mul, Norm, Op

FUSING = (*WEIGHTED, Norm, Add)  # have a field for the activation


def _activate(b: Builder, node: Node, x: Value, activation: str) -> Value:
    """As a field of the layer before it, where that has one and nothing else reads it."""
    name = b.tensor(x)
    op = b.layers[name].op if name in b.layers else None
    if isinstance(op, FUSING) and op.activation == "none" and b.sole(name):
        b.replace(name, replace(op, activation=activation))
    else:
        name = b.add(node, Activation(activation), [name])
    return b.value(node, name)


for _aten, _word in {
    "relu": "relu",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "silu": "silu",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
}.items():
    handles(f"{_aten}.default")(lambda b, node, x, word=_word: _activate(b, node, x, word))


@handles("hardtanh.default", "clamp.default", "clip.default", "clamp_min.default")
def _clamp(b: Builder, node: Node, x: Value, low: Any, high: Any = None) -> Value:
    kind = {(0, 6): "relu6", (0, None): "relu"}.get((low, high))
    if kind is None:
        raise unsupported(
            node,
            f"{operation(node)} from {low} to {high} is not supported",
            "from 0 (relu) or 0 to 6 (relu6) is possible",
        )
    return _activate(b, node, x, kind)


@handles("leaky_relu.default")
def _leaky_relu(b: Builder, node: Node, x: Value, slope: float) -> Value:
    if not 0 <= slope <= 1:
        raise unsupported(node, f"leaky_relu with slope {slope} is not supported", "0 to 1 is possible")
    return _activate(b, node, x, "leaky_relu" if slope == LEAKY_RELU else f"leaky_relu:{float(slope)!r}")


@handles("gelu.default")
def _gelu(b: Builder, node: Node, x: Value, approximate: str) -> Value:
    if approximate != "none":
        raise unsupported(node, f"gelu(approximate={approximate!r}) is not supported", "use approximate='none'")
    return _activate(b, node, x, "gelu")


def _joined(b: Builder, node: Node, op: Op, operands: Sequence[Any]) -> Value:
    """Elementwise, with operands that were only expanded to the other's size as they were before."""
    for one in operands:
        if isinstance(one, Constant):
            names = ", ".join(sorted(one.parameters))
            problem = (
                f"{operation(node)} with " + (f"the parameter {names}" if names else "a constant") + " is not supported"
            )
            raise unsupported(node, problem, "put it into a convolution or a batch norm")
        if not isinstance(one, Value):
            raise unsupported(node, f"{operation(node)} with the number {one} is not supported", WRITTEN_OUT)
    values = list(operands)
    if len({len(value.shape) for value in values}) > 1:
        raise unsupported(
            node,
            f"{operation(node)} of tensors with different directions is not supported",
            "give both the same number",
        )
    for i, value in enumerate(values):
        for axis in range(1, len(value.shape)):
            rest = [other.shape[axis] for j, other in enumerate(values) if j != i]
            if value.index is not None and 1 < value.shape[axis] == max(rest):
                once = value.index.narrow(axis, 0, 1)
                if torch.equal(once.expand_as(value.index), value.index):
                    value = values[i] = b.move(node, value, partial(torch.narrow, dim=axis, start=0, length=1))
    return b.value(node, b.add(node, op, [b.tensor(value) for value in values]))


@handles("add.Tensor")
def _add(b: Builder, node: Node, x: Any, y: Any, alpha: Any) -> Value:
    if alpha != 1:
        raise unsupported(node, f"add with alpha={alpha} is not supported", WRITTEN_OUT)
    return _joined(b, node, Add(), [x, y])


@handles("mul.Tensor", "multiply.Tensor")
def _mul(b: Builder, node: Node, x: Any, y: Any) -> Value:
    return _joined(b, node, Mul(), [x, y])


@handles("cat.default", "concat.default", "concatenate.default")
def _cat(b: Builder, node: Node, values: Sequence[Any], axis: int) -> Value:
    for one in values:
        if isinstance(one, Constant):
            raise unsupported(node, f"{operation(node)} with a constant is not supported", "join computed tensors only")
    if axis % len(values[0].shape) != 1:
        problem = f"{operation(node)} along direction {axis} is not supported"
        raise unsupported(node, problem, "join along the channels, direction 1")
    names = [b.tensor(value) for value in values]
    return b.value(node, b.add(node, Concat(), names) if len(names) > 1 else names[0])


@handles("stack.default")
def _stack(b: Builder, node: Node, values: Sequence[Any], axis: int) -> Value:
    """Joined along the channels, then seen with one direction more."""
    size = tuple(values[0].shape)
    joined = _cat(b, node, values, 1)
    apart = b.move(node, joined, lambda x: x.view(size[0], len(values), *size[1:]))
    return b.move(node, apart, lambda x: x.movedim(1, axis))


@handles("pad.default", "constant_pad_nd.default")
def _pad(b: Builder, node: Node, x: Value, pad: Sequence[int], mode: Any = "constant", fill: Any = None) -> Value:
    if not isinstance(mode, str):  # constant_pad_nd has no mode
        mode, fill = "constant", mode
    if mode != "constant" or fill:
        problem = f"pad with {fill if mode == 'constant' else mode} is not supported"
        raise unsupported(node, problem, "pad with zeros: padding_mode='zeros', value=0")
    return b.move(node, x, lambda i: F.pad(i, list(pad), value=-1))


@handles("dropout.default", "feature_dropout.default", "alpha_dropout.default", "native_dropout.default")
def _dropout(b: Builder, node: Node, x: Value, rate: float, training: Any) -> Any:
    if training is not False and rate:
        raise unsupported(
            node, f"{operation(node)} outside of training is not supported", "use nn.Dropout, or training=self.training"
        )
    return (x, None) if "native" in str(node.target) else x


@handles("_to_copy.default", "to.dtype", "type_as.default")
def _same_type(b: Builder, node: Node, x: Value, *_: Any) -> Value:
    return x
