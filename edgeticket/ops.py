"""The operations of a plan: a small closed set, with ONNX's names and attributes, and the shape that each one makes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import prod
from typing import Any, get_args

from edgeticket.errors import UnsupportedError

Shape = tuple[int, ...]
MAX_ELEMENTS = 1 << 26  # of one tensor, its padding included
ACTIVATIONS = (
    "none",
    "relu",
    "relu6",
    "leaky_relu",
    "hard_swish",
    "hard_sigmoid",
    "silu",
    "sigmoid",
    "tanh",
    "gelu",
)
LEAKY_RELU = 0.01  # slope; "leaky_relu:0.2" has another
RESIZE_MODES = ("nearest", "linear", "align_corners", "area")


@dataclass(frozen=True)
class Conv:
    """1-D or 2-D convolution; `pad` in ONNX's order: all begins, then all ends. `groups` = input channels: depthwise."""

    out: int
    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape
    groups: int = 1
    norm: bool = True
    activation: str = "none"


@dataclass(frozen=True)
class ConvTranspose:
    """`out_pad`: outputs more at the end of each direction (ONNX output_padding)."""

    out: int
    kernel: Shape
    stride: Shape
    pad: Shape
    out_pad: Shape
    norm: bool = True
    activation: str = "none"


@dataclass(frozen=True)
class Linear:
    out: int
    norm: bool = False
    activation: str = "none"


@dataclass(frozen=True)
class Norm:
    """x * scale + bias per channel: a batch norm that no Conv or Linear directly precedes."""

    activation: str = "none"


@dataclass(frozen=True)
class PRelu:
    """x where it is positive, else x * slope, a slope per channel."""


@dataclass(frozen=True)
class Add:
    """Operands are broadcast as those of Mul."""

    activation: str = "none"


@dataclass(frozen=True)
class Mul:
    """Elementwise product; an operand of size 1 in any direction, channels too, is broadcast (squeeze-and-excite)."""


@dataclass(frozen=True)
class Concat:
    """Along channels."""


@dataclass(frozen=True)
class Gather:
    """These channels in this order: a slice, a split, a channel shuffle."""

    channels: Shape


@dataclass(frozen=True)
class Activation:
    activation: str


@dataclass(frozen=True)
class MaxPool:
    kernel: Shape
    stride: Shape
    pad: Shape


@dataclass(frozen=True)
class AveragePool:
    """Padding is not counted (ONNX count_include_pad = 0)."""

    kernel: Shape
    stride: Shape
    pad: Shape


@dataclass(frozen=True)
class GlobalAveragePool:
    """(channels, ...) -> (channels,)."""


@dataclass(frozen=True)
class Flatten:
    """(channels, ...) -> (channels * ...,), channel by channel."""


@dataclass(frozen=True)
class Reshape:
    """Other directions for the values of a channel; a flat input becomes channels of prod(spatial) values each."""

    spatial: Shape


@dataclass(frozen=True)
class Pad:
    """Zeros around, in ONNX's order; negative: that much is cut off."""

    pad: Shape


@dataclass(frozen=True)
class Resize:
    """To `size` in space. nearest, linear (half-pixel) and align_corners (linear) as ONNX's Resize; area: mean of what falls in."""

    size: Shape
    mode: str


@dataclass(frozen=True)
class DepthToSpace:
    """(c * block^2, h, w) -> (c, h * block, w * block), ONNX's mode CRD: a pixel shuffle."""

    block: int


@dataclass(frozen=True)
class SpaceToDepth:
    """The inverse of DepthToSpace."""

    block: int


Weighted = Conv | ConvTranspose | Linear
Join = Add | Mul | Concat
Pool = MaxPool | AveragePool
Layout = Gather | Flatten | Reshape | Pad | DepthToSpace | SpaceToDepth  # values move, none changes
Op = Weighted | Norm | PRelu | Join | Activation | Pool | GlobalAveragePool | Resize | Layout
WEIGHTED = get_args(Weighted)
SCALED = (*WEIGHTED, Norm)  # have a scale and a bias per channel
OPS: dict[str, type] = {op.__name__: op for op in get_args(Op)}


def conv(
    out: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    dims: int = 2,
    groups: int = 1,
    norm: bool = True,
    activation: str = "relu",
) -> Conv:
    """The usual convolution: the same kernel and stride in every direction, padded by kernel // 2."""
    every = (1,) * dims
    return Conv(out, (kernel,) * dims, (stride,) * dims, (kernel // 2,) * 2 * dims, every, groups, norm, activation)


@dataclass(frozen=True)
class Layer:
    """One operation; its output is the tensor of the same name."""

    name: str
    op: Op
    inputs: tuple[str, ...]

    def wider(self, by: int) -> "Layer":
        """With so many more filters; layers without weights stay as they are."""
        return replace(self, op=replace(self.op, out=self.op.out + by)) if isinstance(self.op, WEIGHTED) else self


def op_to_json(op: Op) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(op).items()}


def op_from_json(row: Mapping[str, Any]) -> Op:
    if row["op"] not in OPS:
        raise UnsupportedError(f"layer {row['name']}: operation {row['op']!r} is not one of {', '.join(OPS)}")
    kind = OPS[row["op"]]
    given = {key: value for key, value in row.items() if key not in ("name", "op", "inputs")}
    if set(given) != {field.name for field in fields(kind)}:
        raise UnsupportedError(f"layer {row['name']} ({row['op']}): fields {', '.join(given)} are not the operation's")
    for key, value in given.items():
        want = {"out": int, "groups": int, "block": int, "norm": bool, "activation": str, "mode": str}.get(key, list)
        if type(value) is not want:
            raise UnsupportedError(f"layer {row['name']} ({row['op']}): {key} is {value!r}")
    low = -(1 << 31) if kind is Pad else 0
    return kind(**{key: sizes(value, low) if isinstance(value, list) else value for key, value in given.items()})


def sizes(values: Any, low: int = 0) -> Shape:
    if type(values) is not list or not all(type(value) is int and low <= value < 1 << 31 for value in values):
        raise UnsupportedError(f"plan: {values!r} is not a list of sizes")
    return tuple(values)


def leak(activation: str) -> float | None:
    """The slope of a leaky_relu below 0; None for other activations."""
    kind, _, slope = activation.partition(":")
    return (float(slope) if slope else LEAKY_RELU) if kind == "leaky_relu" else None


def out_shape(op: Op, inputs: list[Shape]) -> Shape:
    """Raises UnsupportedError where `op` does not fit `inputs`."""
    _check_activation(getattr(op, "activation", "none"))
    if isinstance(op, Join):
        return _join_shape(op, inputs)
    if len(inputs) != 1:
        raise UnsupportedError(f"takes one input, got {len(inputs)}")
    (shape,) = inputs
    if isinstance(op, Weighted):
        return (op.out, *_weighted_shape(op, shape))
    if isinstance(op, Pool):
        return (shape[0], *_window_shape(shape[1:], op.kernel, op.stride, op.pad, (1,) * len(op.kernel)))
    if isinstance(op, GlobalAveragePool):
        return (shape[0],)
    if isinstance(op, Resize):
        if op.mode not in RESIZE_MODES or len(op.size) != len(shape) - 1 or not op.size:
            raise UnsupportedError(
                f"resize to {_x(op.size)}, {op.mode}: one size a direction, {', '.join(RESIZE_MODES)}"
            )
        if any(size * out > MAX_ELEMENTS for size, out in zip(shape[1:], op.size, strict=True)):
            raise UnsupportedError(
                f"from {_x(shape[1:])} to {_x(op.size)}: more than {MAX_ELEMENTS} pairs of positions"
            )
        return (shape[0], *op.size)
    return _layout_shape(op, shape) if isinstance(op, Layout) else shape


def _check_activation(activation: str) -> None:
    kind, colon, slope = activation.partition(":")
    try:
        good = kind in ACTIVATIONS and (not colon or (kind == "leaky_relu" and repr(float(slope)) == slope))
    except ValueError:
        good = False
    if not good or not 0 <= (leak(activation) or 0) <= 1:
        raise UnsupportedError(
            f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)} or leaky_relu:SLOPE up to 1"
        )


def _weighted_shape(op: Weighted, shape: Shape) -> Shape:
    """Without the channels."""
    if op.out < 1:
        raise UnsupportedError("needs at least one output")
    if isinstance(op, Linear):
        if len(shape) != 1:
            raise UnsupportedError("needs a flat input: put a Flatten or a global pool before it")
        return ()
    if isinstance(op, Conv):
        if op.groups < 1 or shape[0] % op.groups or op.out % op.groups:
            raise UnsupportedError(f"{op.out} filters in {op.groups} groups do not divide {shape[0]} channels")
        return _window_shape(shape[1:], op.kernel, op.stride, op.pad, op.dilation)
    n = len(shape) - 1
    if n not in (1, 2) or not len(op.kernel) == len(op.stride) == len(op.out_pad) == n or len(op.pad) != 2 * n:
        raise UnsupportedError(f"a kernel of {len(op.kernel)} dimensions over an input of {n}")
    if min(*op.kernel, *op.stride) < 1 or any(not 0 <= op.out_pad[i] < op.stride[i] for i in range(n)):
        raise UnsupportedError("kernel and stride are at least 1, out_pad is smaller than the stride")
    whole = tuple((shape[1 + i] - 1) * op.stride[i] + op.kernel[i] + op.out_pad[i] for i in range(n))
    if min(op.pad) < 0 or prod(whole) > MAX_ELEMENTS:
        raise UnsupportedError(f"pad is at least 0, and what it is cut from has at most {MAX_ELEMENTS} elements")
    return tuple(size - op.pad[i] - op.pad[n + i] for i, size in enumerate(whole))


def _layout_shape(op: Layout, shape: Shape) -> Shape:
    channels, *space = shape
    if isinstance(op, Gather):
        strange = [channel for channel in op.channels if not 0 <= channel < channels]
        if strange or not op.channels:
            raise UnsupportedError(f"reads channel {strange[0] if strange else '(none)'} of {channels}")
        return (len(op.channels), *space)
    if isinstance(op, Flatten):
        return (prod(shape),)
    if isinstance(op, Reshape):
        values = prod(op.spatial)
        if values < 1 or (prod(space) != values if space else channels % values):
            raise UnsupportedError(f"{_x(shape)} values do not become channels of {_x(op.spatial)}")
        return (channels if space else channels // values, *op.spatial)
    if isinstance(op, Pad):
        n = len(space)
        if not n or len(op.pad) != 2 * n:
            raise UnsupportedError(f"{len(op.pad)} sizes for {n} directions: two each")
        if any(space[i] + min(op.pad[i], 0) + min(op.pad[n + i], 0) < 1 for i in range(n)):
            raise UnsupportedError("cuts off all that there is")
        return (channels, *(space[i] + op.pad[i] + op.pad[n + i] for i in range(n)))
    if op.block < 1 or len(space) != 2:
        raise UnsupportedError("needs an image, and a block of at least 1")
    height, width = space
    if isinstance(op, DepthToSpace):
        if channels % op.block**2:
            raise UnsupportedError(f"{channels} channels are not a multiple of {op.block} x {op.block}")
        return (channels // op.block**2, height * op.block, width * op.block)
    if height % op.block or width % op.block:
        raise UnsupportedError(f"{_x(tuple(space))} is not a multiple of {op.block}")
    return (channels * op.block**2, height // op.block, width // op.block)


def _window_shape(size: Shape, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape) -> Shape:
    n = len(size)
    if n not in (1, 2) or not len(kernel) == len(stride) == len(dilation) == n or len(pad) != 2 * n:
        raise UnsupportedError(
            f"a kernel of {len(kernel)} dimensions over an input of {n}: flat features need mlp, series and images the right --layout"
        )
    if min(kernel) < 1 or min(stride) < 1 or min(dilation) < 1 or min(pad) < 0:
        raise UnsupportedError("kernel, stride and dilation are at least 1, pad at least 0")
    span = tuple(dilation[i] * (kernel[i] - 1) + 1 for i in range(n))
    if any(pad[i] >= span[i % n] for i in range(2 * n)):
        raise UnsupportedError(
            f"pad {'x'.join(map(str, pad))} is not smaller than the kernel: some outputs would read nothing"
        )
    padded = tuple(size[i] + pad[i] + pad[n + i] for i in range(n))
    if prod(padded) > MAX_ELEMENTS:
        raise UnsupportedError(f"the padded input is larger than {MAX_ELEMENTS} elements")
    out = tuple((padded[i] - span[i]) // stride[i] + 1 for i in range(n))
    if min(out) < 1:
        raise UnsupportedError(f"kernel {'x'.join(map(str, kernel))} is larger than the padded input")
    return out


def _join_shape(op: Join, inputs: list[Shape]) -> Shape:
    if len(inputs) < 2:
        raise UnsupportedError("takes at least two inputs")
    if isinstance(op, Concat):
        if len({shape[1:] for shape in inputs}) != 1:
            raise UnsupportedError("inputs differ in more than their channels")
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])
    if len({len(shape) for shape in inputs}) != 1:
        raise UnsupportedError("inputs differ in the number of their dimensions")
    largest = tuple(map(max, *inputs))
    if any(size not in (1, most) for shape in inputs for size, most in zip(shape, largest, strict=True)):
        raise UnsupportedError("inputs differ in shape, and not by a size of 1")
    return largest


def _x(sizes: Shape) -> str:
    return "x".join(map(str, sizes)) or "(nothing)"
