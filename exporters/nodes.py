"""What every precision writes in the same way: the input map, attributes of windows, activations, the file's metadata."""

from typing import Any

import numpy as np
from onnx import TensorProto

from edgeticket.ops import AveragePool, Conv, MaxPool, Shape
from edgeticket.ticket import Input
from exporters.graph import Graph

_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def map_input(graph: Graph, sensor: Input, name: str, shape: Shape, raw: str) -> str:
    """(raw - offset) * step in float32, as `Input.apply`; `shape` of the input `name`."""
    offset, step = np.array([sensor.offset, sensor.step], np.float32).reshape(2, -1, *[1] * (len(shape) - 1))
    x = raw if sensor.dtype == "float32" else graph.node("Cast", raw, to=TensorProto.FLOAT, name=f"{name}_float")
    if offset.any():
        x = graph.node("Sub", x, graph.constant(offset, f"{name}_offset"), name=f"{name}_centred")
    factor = np.float32(sensor.step[0]) if sensor.one_step else step
    return graph.node("Mul", x, graph.constant(factor, f"{name}_step"), name=f"{name}_scaled")


def window(op: Conv | MaxPool | AveragePool) -> dict[str, Any]:
    """The attributes of a sliding operation."""
    attributes: dict[str, Any] = {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.pad}
    if isinstance(op, Conv):
        attributes |= {"dilations": op.dilation, "group": op.groups}
    if isinstance(op, AveragePool):
        attributes["count_include_pad"] = 0
    return attributes


def activation(graph: Graph, kind: str, x: str, *, name: str = "", output: str = "") -> str:
    """The node of an activation other than none, named as `Graph.node` does."""
    if kind == "relu6":
        limits = [graph.constant(np.float32(limit), "limit") for limit in (0, 6)]
        return graph.node("Clip", x, *limits, name=name, output=output)
    if kind == "leaky_relu":
        return graph.node("LeakyRelu", x, alpha=0.01, name=name, output=output)
    return graph.node(_ACTIVATIONS[kind], x, name=name, output=output)


def metadata(digest: str, precision: str) -> dict[str, str]:
    """What a file says of itself: the digest of its model, and what it computes in."""
    return {"edgeticket.model": digest, "edgeticket.precision": precision}
