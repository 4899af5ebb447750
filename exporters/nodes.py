"""What every precision writes in the same way: the input map, attributes of windows, activations, the file's metadata."""

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Any

import numpy as np
from onnx import TensorProto

from edgeticket.model import Model
from edgeticket.ops import Conv, ConvTranspose, MaxPool, Pool, Shape, leak
from edgeticket.ticket import Input
from exporters.graph import Graph, Value

Step = Callable[..., str]  # adds a node: its operation, inputs and attributes -> its output
_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def map_input(graph: Graph, sensor: Input, name: str, shape: Shape, raw: str) -> str:
    """(raw - offset) * step in float32, as `Input.apply`; `shape` of the input `name`."""
    offset, step = np.array([sensor.offset, sensor.step], np.float32).reshape(2, -1, *[1] * (len(shape) - 1))
    x = raw if sensor.dtype == "float32" else graph.node("Cast", raw, to=TensorProto.FLOAT, name=f"{name}_float")
    if offset.any():
        x = graph.node("Sub", x, graph.constant(offset, f"{name}_offset"), name=f"{name}_centred")
    factor = np.float32(sensor.step[0]) if sensor.one_step else step
    return graph.node("Mul", x, graph.constant(factor, f"{name}_step"), name=f"{name}_scaled")


def in_units(graph: Graph, model: Model, names: Mapping[str, str]) -> list[Value]:
    """The outputs; the first of a regression becomes its targets, as `ticket.Target.apply`."""
    outputs: list[Value] = [(names[name], np.float32, model.plan.shapes[name]) for name in model.plan.outputs]
    if model.target:
        name, kind, shape = outputs[0]
        offset, step = np.array([model.target.offset, model.target.step], np.float32)
        spread = graph.node("Div", name, graph.constant(step, f"{name}_step"), name=f"{name}_spread")
        outputs[0] = (graph.node("Add", spread, graph.constant(offset, f"{name}_offset"), name="target"), kind, shape)
    return outputs


def window(op: Conv | ConvTranspose | Pool) -> dict[str, Any]:
    """The attributes of a sliding operation."""
    attributes: dict[str, Any] = {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.pad}
    if isinstance(op, Conv):
        return attributes | {"dilations": op.dilation, "group": op.groups}
    if isinstance(op, ConvTranspose):
        return attributes | {"output_padding": op.out_pad}
    return attributes if isinstance(op, MaxPool) else attributes | {"count_include_pad": 0}


def steps(graph: Graph, stem: str, **named: str) -> tuple[Step, Step]:
    """What adds the last node of a layer, `named` as `Graph.node` does, and what adds those before it."""

    def last(op: str, *inputs: str, **attributes: Any) -> str:
        return graph.node(op, *inputs, **named, **attributes)

    def part(op: str, *inputs: str, **attributes: Any) -> str:
        return graph.node(op, *inputs, name=f"{stem}_part", **attributes)

    return last, part


def activation(graph: Graph, kind: str, x: str, *, name: str = "", output: str = "") -> str:
    """The nodes of an activation other than none, the last named as `Graph.node` does."""
    last, part = steps(graph, name or output, name=name, output=output)

    def number(value: float) -> str:
        return graph.constant(np.float32(value), "limit")

    slope = leak(kind)
    if slope is not None:
        return last("LeakyRelu", x, alpha=slope)
    if kind == "relu6":
        return last("Clip", x, number(0), number(6))
    if kind == "hard_sigmoid":
        return last("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    if kind == "hard_swish":  # an operation of its own from opset 14 on
        return last("Mul", x, part("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    if kind == "silu":
        return last("Mul", x, part("Sigmoid", x))
    if kind == "gelu":  # in the order that ONNX Runtime fuses to one node
        whole = part("Add", part("Erf", part("Div", x, number(sqrt(2)))), number(1))
        return last("Mul", part("Mul", x, whole), number(0.5))
    return last(_ACTIVATIONS[kind], x)


def metadata(digest: str, precision: str) -> dict[str, str]:
    """What a file says of itself: the digest of its model, and what it computes in."""
    return {"edgeticket.model": digest, "edgeticket.precision": precision}
