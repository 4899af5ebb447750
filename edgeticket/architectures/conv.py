"""3x3 convolutions with stride 1, 2, 2, ... then global average pool and a linear classifier: `conv:16,32,32`."""

from edgeticket.ops import GlobalAveragePool, Layer, Linear, Shape, conv
from edgeticket.plan import Plan

DEFAULT = (16, 32, 32)


def plan(*widths: int, input: Shape, classes: int) -> Plan:
    """1-D or 2-D by the input: (channels, length) or (channels, height, width)."""
    layers, last = [], "input"
    for i, width in enumerate(widths or DEFAULT):
        layers.append(Layer(f"conv{i + 1}", conv(width, stride=1 if i == 0 else 2, dims=len(input) - 1), (last,)))
        last = f"conv{i + 1}"
    layers += [Layer("pool", GlobalAveragePool(), (last,)), Layer("head", Linear(classes), ("pool",))]
    return Plan({"input": input}, tuple(layers), ("head",))
