"""The keyword spotter of MLPerf Tiny (Banbury et al. 2021; arXiv 1711.07128): a stem, four separable blocks: `ds-cnn:64`."""

from edgeticket.architectures._layers import chosen, same, separable, shrink
from edgeticket.ops import GlobalAveragePool, Layer, Linear, Shape
from edgeticket.plan import Plan

INPUT = (1, 49, 10)  # frames, coefficients
CLASSES = 12
DEFAULT = (64,)
BLOCKS = 4


def plan(*widths: int, input: Shape, classes: int) -> Plan:
    """One width, of every layer. 1-D or 2-D by the input: the first direction is time, with a kernel of 10, the second has 4."""
    (width,), size = chosen("ds-cnn", widths, DEFAULT), input[1:]
    layers, last = [Layer("stem", same(width, (10, 4)[: len(size)], 2, size), ("input",))], "stem"
    for i in range(BLOCKS):
        layers += separable(f"block{i + 1}", last, width, width, shrink(size, 2))
        last = layers[-1].name
    layers += [Layer("pool", GlobalAveragePool(), (last,)), Layer("head", Linear(classes), ("pool",))]
    return Plan({"input": input}, tuple(layers), ("head",))
