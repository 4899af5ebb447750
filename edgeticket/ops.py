"""The operations of a plan: a small closed set, with ONNX's names and attributes, and the shape that each one makes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import prod
from typing import Any, get_args

from edgeticket.errors import UnsupportedError

Shape = tuple[int, ...]
MAX_ELEMENTS = 1 << 26  # of one tensor, its padding included
ACTIVATIONS = ("none", "relu", "relu6", "leaky_relu", "sigmoid", "tanh")


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
class Linear:
    out: int
    norm: bool = False
    activation: str = "none"


@dataclass(frozen=True)
class Add:
    activation: str = "none"


@dataclass(frozen=True)
class Mul:
    """Elementwise product; an operand with spatial size 1 is broadcast (squeeze-and-excite)."""


@dataclass(frozen=True)
class Concat:
    """Along channels."""


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


Op = Conv | Linear | Add | Mul | Concat | Activation | MaxPool | AveragePool | GlobalAveragePool | Flatten
WEIGHTED = (Conv, Linear)
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
        want = {"out": int, "groups": int, "norm": bool, "activation": str}.get(key, list)
        if type(value) is not want:
            raise UnsupportedError(f"layer {row['name']} ({row['op']}): {key} is {value!r}")
    return kind(**{key: sizes(value) if isinstance(value, list) else value for key, value in given.items()})


def sizes(values: Any) -> Shape:
    if type(values) is not list or not all(type(value) is int and 0 <= value < 1 << 31 for value in values):
        raise UnsupportedError(f"plan: {values!r} is not a list of sizes")
    return tuple(values)


def out_shape(op: Op, inputs: list[Shape]) -> Shape:
    if getattr(op, "activation", "none") not in ACTIVATIONS:
        raise UnsupportedError(f"activation {op.activation!r} is not one of {', '.join(ACTIVATIONS)}")  # type: ignore[union-attr]
    if isinstance(op, Add | Mul | Concat):
        return _join_shape(op, inputs)
    if len(inputs) != 1:
        raise UnsupportedError(f"takes one input, got {len(inputs)}")
    shape = inputs[0]
    if isinstance(op, Conv):
        if op.out < 1 or op.groups < 1 or shape[0] % op.groups or op.out % op.groups:
            raise UnsupportedError(f"{op.out} filters in {op.groups} groups do not divide {shape[0]} channels")
        return (op.out, *_window_shape(shape[1:], op.kernel, op.stride, op.pad, op.dilation))
    if isinstance(op, Linear):
        if len(shape) != 1 or op.out < 1:
            raise UnsupportedError(
                "needs at least one output and a flat input: put a Flatten or a global pool before it"
            )
        return (op.out,)
    if isinstance(op, MaxPool | AveragePool):
        return (shape[0], *_window_shape(shape[1:], op.kernel, op.stride, op.pad, (1,) * len(op.kernel)))
    if isinstance(op, GlobalAveragePool):
        return (shape[0],)
    return (prod(shape),) if isinstance(op, Flatten) else shape


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


def _join_shape(op: Add | Mul | Concat, inputs: list[Shape]) -> Shape:
    if len(inputs) < 2:
        raise UnsupportedError("takes at least two inputs")
    if isinstance(op, Concat):
        if len({shape[1:] for shape in inputs}) != 1:
            raise UnsupportedError("inputs differ in more than their channels")
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])
    largest = max(inputs, key=prod)
    for shape in inputs:
        flat = isinstance(op, Mul) and shape == (largest[0], *(1,) * (len(largest) - 1))
        if shape != largest and not flat:
            raise UnsupportedError("inputs differ in shape")
    return largest
