"""The person detector of MLPerf Tiny (Banbury et al. 2021): MobileNet v1 at a quarter of its width: `mobilenet-v1-025:8`."""

from edgeticket.architectures._layers import chosen, same, separable, shrink
from edgeticket.ops import GlobalAveragePool, Layer, Linear, Shape
from edgeticket.plan import Plan

INPUT = (3, 96, 96)
CLASSES = 2
DEFAULT = (8,)
# Of each separable block: its width in widths of the stem, its stride.
BLOCKS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1))


def plan(*widths: int, input: Shape, classes: int) -> Plan:
    """One width, of the stem: the blocks are 2 to 32 times as wide. 1-D or 2-D by the input."""
    (first,), size = chosen("mobilenet-v1-025", widths, DEFAULT), input[1:]
    layers = [Layer("stem", same(first, 3, 2, size), ("input",))]
    last, channels, size = "stem", first, shrink(size, 2)
    for i, (times, stride) in enumerate(BLOCKS):
        layers += separable(f"block{i + 1}", last, channels, times * first, size, stride)
        last, channels, size = layers[-1].name, times * first, shrink(size, stride)
    layers += [Layer("pool", GlobalAveragePool(), (last,)), Layer("head", Linear(classes), ("pool",))]
    return Plan({"input": input}, tuple(layers), ("head",))
