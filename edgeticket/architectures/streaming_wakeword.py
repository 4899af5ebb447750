"""The streaming wake-word network of MLPerf Tiny v1.3 (1-D, separable, without padding): `streaming-wakeword:128,128,128,32`."""

from edgeticket.architectures._layers import chosen
from edgeticket.ops import Conv, Flatten, Layer, Linear, Shape, conv
from edgeticket.plan import Plan

INPUT = (40, 30)  # mel bands, frames
CLASSES = 3
DEFAULT = (128, 128, 128, 32)
KERNELS = (3, 5, 10, 15)  # together they read 30 frames


def plan(*widths: int, input: Shape, classes: int) -> Plan:
    """One width a block, at most four. A longer series has more positions for the head to read, a shorter one does not fit."""
    layers, last, channels = [], "input", input[0]
    for i, (width, kernel) in enumerate(zip(chosen("streaming-wakeword", widths, DEFAULT), KERNELS, strict=False)):
        depthwise, block = Conv(channels, (kernel,), (1,), (0, 0), (1,), channels, norm=False), f"block{i + 1}"
        layers.append(Layer(f"{block}_depthwise", depthwise, (last,)))
        layers.append(Layer(f"{block}_pointwise", conv(width, 1, dims=1), (f"{block}_depthwise",)))
        last, channels = f"{block}_pointwise", width
    layers += [Layer("flatten", Flatten(), (last,)), Layer("head", Linear(classes), ("flatten",))]
    return Plan({"input": input}, tuple(layers), ("head",))
