"""What several of the networks share: layers padded as TensorFlow's "same", where what is odd goes to the end."""

from edgeticket.errors import UsageError
from edgeticket.ops import Conv, Layer, Shape


def same(
    out: int,
    kernel: int | Shape,
    stride: int,
    size: Shape,
    *,
    groups: int = 1,
    norm: bool = True,
    activation: str = "relu",
) -> Conv:
    """A convolution that makes ceil(size / stride) of `size`: the input's, without its channels. One number: in every direction."""
    n = len(size)
    kernel = (kernel,) * n if isinstance(kernel, int) else kernel
    pads = [max(0, (length - 1) // stride * stride + k - length) for length, k in zip(size, kernel, strict=False)]
    pad = (*(total // 2 for total in pads), *(total - total // 2 for total in pads))
    return Conv(out, kernel, (stride,) * n, pad, (1,) * n, groups, norm, activation)


def shrink(size: Shape, stride: int) -> Shape:
    """What `same` makes of `size`."""
    return tuple(-(-length // stride) for length in size)


def separable(name: str, source: str, channels: int, out: int, size: Shape, stride: int = 1) -> tuple[Layer, Layer]:
    """A convolution over 3 of each channel of `source`, then one over 1 across the channels: `name`_depthwise, `name`_pointwise."""
    depthwise = same(channels, 3, stride, size, groups=channels)
    pointwise = same(out, 1, 1, shrink(size, stride))
    return (
        Layer(f"{name}_depthwise", depthwise, (source,)),
        Layer(f"{name}_pointwise", pointwise, (f"{name}_depthwise",)),
    )


def chosen(name: str, widths: Shape, default: Shape) -> Shape:
    """`widths`, the default ones if there are none. Raises UsageError where there are more."""
    if len(widths) > len(default):
        example = ",".join(map(str, default))
        raise UsageError(f"network {name} takes at most {len(default)} width(s), for example {name}:{example}")
    return widths or default
