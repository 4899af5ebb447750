"""Fully connected layers with ReLU, then a linear classifier: `mlp:128,64`."""

from edgeticket.ops import Flatten, Layer, Linear, Shape
from edgeticket.plan import Plan

DEFAULT = (128, 64)


def plan(*widths: int, input: Shape, classes: int) -> Plan:
    """Any input; more than one dimension is flattened first."""
    layers, last = [], "input"
    if len(input) > 1:
        layers.append(Layer("flatten", Flatten(), (last,)))
        last = "flatten"
    for i, width in enumerate(widths or DEFAULT):
        layers.append(Layer(f"linear{i + 1}", Linear(width, norm=True, activation="relu"), (last,)))
        last = f"linear{i + 1}"
    layers.append(Layer("head", Linear(classes), (last,)))
    return Plan({"input": input}, tuple(layers), ("head",))
