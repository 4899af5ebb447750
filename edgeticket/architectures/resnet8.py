"""The ResNet of MLPerf Tiny's image classification (Banbury et al. 2021): a stem and three residual blocks: `resnet8:16,32,64`."""

from edgeticket.ops import Add, GlobalAveragePool, Layer, Linear, Shape, conv
from edgeticket.plan import Plan

DEFAULT = (16, 32, 64)


def plan(*widths: int, input: Shape, classes: int) -> Plan:
    """One residual block a width; a block that changes shape has a 1x1 convolution beside it."""
    widths, dims = widths or DEFAULT, len(input) - 1
    layers = [Layer("stem", conv(widths[0], dims=dims), ("input",))]
    last, channels = "stem", widths[0]
    for i, width in enumerate(widths):
        stride, block = 1 if i == 0 else 2, f"block{i + 1}"
        layers.append(Layer(f"{block}_conv1", conv(width, stride=stride, dims=dims), (last,)))
        layers.append(Layer(f"{block}_conv2", conv(width, dims=dims, activation="none"), (f"{block}_conv1",)))
        if stride != 1 or width != channels:
            layers.append(
                Layer(f"{block}_shortcut", conv(width, 1, stride=stride, dims=dims, activation="none"), (last,))
            )
            last = f"{block}_shortcut"
        layers.append(Layer(f"{block}_add", Add("relu"), (f"{block}_conv2", last)))
        last, channels = f"{block}_add", width
    layers.append(Layer("pool", GlobalAveragePool(), (last,)))
    layers.append(Layer("head", Linear(classes), ("pool",)))
    return Plan({"input": input}, tuple(layers), ("head",))
