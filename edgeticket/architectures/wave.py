"""A network of our own for vibration and current: a wide stem, then strided 1-D convolutions: `wave:16,32,64,64`."""

from edgeticket.architectures._layers import same, shrink
from edgeticket.ops import GlobalAveragePool, Layer, Linear, Shape
from edgeticket.plan import Plan

INPUT = (1, 1024)  # axes, samples: 34,048 weights and 884,992 multiply-accumulates
CLASSES = 4
DEFAULT = (16, 32, 64, 64)
# A first kernel of some tens of samples averages noise away and shrinks at once what later layers must hold (WDCNN: Zhang et
# al., Sensors 17(2), 2017: kernel 64, stride 16 on 2048 samples); theirs is four strides wide as well.
STEM_KERNEL, STEM_STRIDE = (32,), 8
KERNEL, STRIDE = (5,), 2


def plan(*widths: int, input: Shape, classes: int) -> Plan:
    """The stem's width, then one a convolution; the stem leaves an eighth of the samples, every other one half."""
    first, *rest = widths or DEFAULT
    layers, last = [Layer("stem", same(first, STEM_KERNEL, STEM_STRIDE, input[1:]), ("input",))], "stem"
    size = shrink(input[1:], STEM_STRIDE)
    for i, width in enumerate(rest):
        layers.append(Layer(f"conv{i + 1}", same(width, KERNEL, STRIDE, size), (last,)))
        last, size = f"conv{i + 1}", shrink(size, STRIDE)
    layers += [Layer("pool", GlobalAveragePool(), (last,)), Layer("head", Linear(classes), ("pool",))]
    return Plan({"input": input}, tuple(layers), ("head",))
