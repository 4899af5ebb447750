"""What a rival's file says of its size, from the weights that it holds."""

from dataclasses import replace
from typing import Any

from edgeticket.data import Data
from edgeticket.model import Float, Int8, Model, Weights
from edgeticket.ops import Conv, Gather, Layer, Norm, PRelu, Weighted
from edgeticket.packet import packed_bytes
from edgeticket.plan import Plan
from edgeticket.ticket import Target
from exporters.stored import Stored, stored


def size(onnx: bytes, plan: Plan, data: Data) -> dict[str, Any]:
    """`widths` and `macs` of a narrower form of `plan`, and `bytes` where the file tells them.

    It does not where an int8 file rounds what is packed as it is (Norm, PRelu), or a filter is constant, whose weights it drops.
    Raises UnsupportedError for a file of another network.
    """
    layers = stored(onnx, plan)
    found: dict[str, Any] = {
        "widths": {name: len(own.values) for name, own in layers.items()},
        "macs": sum(own.values.size * plan.positions(name) for name, own in layers.items()),
    }
    whole = all(own.scale is None for own in layers.values())
    if not any(isinstance(layer.op, Gather) for layer in plan.layers) and (whole or _is_packed_as_stored(plan, layers)):
        found["bytes"] = sum(packed_bytes(_model(plan, layers, data)).values())
    return found


def _is_packed_as_stored(plan: Plan, layers: dict[str, Stored]) -> bool:
    rounded = any(isinstance(layer.op, Norm | PRelu) for layer in plan.layers)
    return not rounded and all(own.values.reshape(len(own.values), -1).any(1).all() for own in layers.values())


def _model(plan: Plan, layers: dict[str, Stored], data: Data) -> Model:
    """Of the same size as the network in the file: biases that a grid holds count alike, whatever they are."""
    narrow = _narrow(plan, {name: len(own.values) for name, own in layers.items()})
    weights: dict[str, Weights] = {
        name: Float(own.values) if own.scale is None else Int8(own.values) for name, own in layers.items()
    }
    scale = {name: own.scale for name, own in layers.items() if own.scale is not None}
    target = Target(data.target_offset, data.target_step) if data.task == "regression" else None
    (sensor,) = plan.inputs
    return Model(narrow, weights, scale, {}, {sensor: data.input}, {}, data.task, {}, target)


def _narrow(plan: Plan, widths: dict[str, int]) -> Plan:
    """The plan at other widths; a depthwise convolution has a group for each channel that it reads."""
    made: list[Layer] = []
    for layer in plan.layers:
        op = layer.op
        if isinstance(op, Weighted):
            op = replace(op, out=widths[layer.name])
        if isinstance(op, Conv) and plan.depthwise(layer):
            channels = Plan(plan.inputs, tuple(made), (layer.inputs[0],)).shapes[layer.inputs[0]][0]
            op = replace(op, groups=channels)
        made.append(replace(layer, op=op))
    return Plan(plan.inputs, tuple(made), plan.outputs)
