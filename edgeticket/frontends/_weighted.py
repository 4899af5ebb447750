"""Handlers for layers with parameters. Importing this registers them."""

from dataclasses import replace
from typing import Any

import numpy as np
from torch.fx import Node

from edgeticket.frontends._builder import Builder, Value
from edgeticket.frontends._operations import each, handles, require_directions
from edgeticket.frontends._source import operation, unsupported
from edgeticket.ops import WEIGHTED, Conv, ConvTranspose, Linear, Norm, Pad, PRelu, Shape


def _parameters(b: Builder, node: Node, weight: Any, bias: Any) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Weight, bias, and the weight's path in the module where it is one parameter."""
    for values in (weight, bias):
        if isinstance(values, Value):
            raise unsupported(
                node, f"{operation(node)} with weights that depend on the input is not supported", "use fixed weights"
            )
    b.claim(node, weight.parameters)
    name = next(iter(weight.parameters)).removesuffix(".weight") if len(weight.parameters) == 1 else ""
    return weight.tensor.numpy(), None if bias is None else bias.tensor.numpy(), name


@handles("conv1d.default", "conv2d.default", "conv1d.padding", "conv2d.padding")
def _conv(
    b: Builder, node: Node, x: Value, weight: Any, bias: Any, stride: Any, pad: Any, dilation: Any, groups: int
) -> Value:
    weights, biases, name = _parameters(b, node, weight, bias)
    out, _, *kernel = weights.shape
    n = len(kernel)
    require_directions(node, x, n)
    steps, spread = each(stride, n), each(dilation, n)
    spans = [d * (k - 1) + 1 for d, k in zip(spread, kernel, strict=True)]
    if pad == "same":
        around = (*((span - 1) // 2 for span in spans), *(span // 2 for span in spans))
    else:
        around = (0,) * 2 * n if pad == "valid" else each(pad, n) * 2
    read, around = _padded(b, node, x, around, spans)
    op = Conv(out, tuple(kernel), steps, around, spread, groups, norm=False)
    return b.value(node, b.add_weighted(node, op, read, name, weights, biases))


def _padded(b: Builder, node: Node, x: Value, pad: Shape, spans: list[int]) -> tuple[str, Shape]:
    """What a Conv reads and pads by itself: zeros around are its own where they are less than the kernel spans."""
    n = len(spans)
    name, ops = b.source(x)
    if ops and isinstance(ops[-1], Pad) and min(ops[-1].pad) >= 0:
        both = tuple(p + q for p, q in zip(pad, ops[-1].pad, strict=True))
        if all(p < spans[i % n] for i, p in enumerate(both)):
            return b.add_moves(x.node, name, ops[:-1]), both
    name = b.tensor(x)
    if any(p >= spans[i % n] for i, p in enumerate(pad)):
        return b.add(node, Pad(pad), [name]), (0,) * 2 * n
    return name, pad


@handles("conv_transpose1d.default", "conv_transpose2d.input")
def _conv_transpose(
    b: Builder,
    node: Node,
    x: Value,
    weight: Any,
    bias: Any,
    stride: Any,
    pad: Any,
    out_pad: Any,
    groups: int,
    dilation: Any,
) -> Value:
    weights, biases, name = _parameters(b, node, weight, bias)
    _, out, *kernel = weights.shape
    n = len(kernel)
    require_directions(node, x, n)
    if groups != 1 or max(each(dilation, n)) != 1:
        problem = f"{operation(node)} with groups={groups}, dilation={dilation} is not supported"
        raise unsupported(node, problem, "use 1 for both, or a Resize and a convolution")
    op = ConvTranspose(out, tuple(kernel), each(stride, n), each(pad, n) * 2, each(out_pad, n), norm=False)
    return b.value(node, b.add_weighted(node, op, b.tensor(x), name, weights.swapaxes(0, 1), biases))


@handles("linear.default")
def _linear(b: Builder, node: Node, x: Value, weight: Any, bias: Any) -> Value:
    weights, biases, name = _parameters(b, node, weight, bias)
    if len(x.shape) != 2:
        problem = f"linear over the last of {len(x.shape) - 1} directions is not supported"
        raise unsupported(node, problem, "flatten before it, or use a convolution with kernel 1 over the channels")
    op = Linear(len(weights), norm=False)
    return b.value(node, b.add_weighted(node, op, b.tensor(x), name, weights, biases))


def _double(given: Any, default: np.ndarray) -> np.ndarray:
    return default if given is None else given.tensor.double().numpy()


@handles("_native_batch_norm_legit_no_training.default")
def _batch_norm(
    b: Builder, node: Node, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, _: float, epsilon: float
) -> tuple[Value, None, None]:
    ones, zeros = np.ones(len(mean.tensor)), np.zeros(len(mean.tensor))
    gain = _double(weight, ones) / np.sqrt(_double(variance, ones) + epsilon)
    shift = _double(bias, zeros) - _double(mean, zeros) * gain
    b.claim(node, frozenset().union(*(one.parameters for one in (weight, bias, mean, variance) if one is not None)))
    name = b.tensor(x)
    op = b.layers[name].op if name in b.layers else None
    if isinstance(op, WEIGHTED) and not op.norm and op.activation == "none" and b.sole(name):
        b.replace(name, replace(op, norm=True))
        b.scale[name], b.bias[name] = gain, shift + b.bias[name] * gain
    else:
        name = b.add(node, Norm(), [name])
        b.scale[name], b.bias[name] = gain, shift
    return b.value(node, name), None, None


@handles("prelu.default")
def _prelu(b: Builder, node: Node, x: Value, weight: Any) -> Value:
    b.claim(node, weight.parameters)
    name = b.add(node, PRelu(), [b.tensor(x)])
    b.slope[name] = np.broadcast_to(weight.tensor.numpy(), b.shapes[name][:1])
    return b.value(node, name)
