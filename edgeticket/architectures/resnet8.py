"""The image classifier of MLPerf Tiny (Banbury et al. 2021): a stem and three residual blocks: `resnet8:16,32,64`."""

from edgeticket.architectures._layers import same, shrink
from edgeticket.ops import Add, GlobalAveragePool, Layer, Linear, Shape
from edgeticket.plan import Plan

INPUT = (3, 32, 32)
CLASSES = 10
DEFAULT = (16, 32, 64)


def plan(*widths: int, input: Shape, classes: int) -> Plan:
    """One residual block a width; a block that changes shape has a 1x1 convolution, without norm, beside it. 1-D or 2-D by the input."""
    widths, size = widths or DEFAULT, input[1:]
    layers = [Layer("stem", same(widths[0], 3, 1, size), ("input",))]
    last, channels = "stem", widths[0]
    for i, width in enumerate(widths):
        stride, block, before = 1 if i == 0 else 2, f"block{i + 1}", size
        size = shrink(before, stride)
        layers.append(Layer(f"{block}_conv1", same(width, 3, stride, before), (last,)))
        layers.append(Layer(f"{block}_conv2", same(width, 3, 1, size, activation="none"), (f"{block}_conv1",)))
        if stride != 1 or width != channels:
            shortcut = same(width, 1, stride, before, norm=False, activation="none")
            layers.append(Layer(f"{block}_shortcut", shortcut, (last,)))
            last = f"{block}_shortcut"
        layers.append(Layer(f"{block}_add", Add("relu"), (f"{block}_conv2", last)))
        last, channels = f"{block}_add", width
    layers += [Layer("pool", GlobalAveragePool(), (last,)), Layer("head", Linear(classes), ("pool",))]
    return Plan({"input": input}, tuple(layers), ("head",))
