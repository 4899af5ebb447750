"""The shape of a network: layers in topological order, no weights.

Shapes leave the batch out: (channels, height, width), (channels, length) or (features,). Operations carry ONNX's names and
attributes. A norm or an activation that directly follows a Conv or Linear is a field of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from edgeticket.errors import UnsupportedError

Shape = tuple[int, ...]
ACTIVATIONS = ("none", "relu", "relu6", "leaky_relu", "sigmoid", "tanh")

# Checked before anything is allocated, so that a hostile file cannot ask for more memory or time than a large plan needs.
MAX_LAYERS = 4096
MAX_ELEMENTS = 1 << 26  # of one tensor
MAX_CHANNELS = 1 << 19  # that all layers together read and make
MAX_WEIGHTS = 1 << 27


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
OPS: dict[str, type] = {
    op.__name__: op
    for op in (Conv, Linear, Add, Mul, Concat, Activation, MaxPool, AveragePool, GlobalAveragePool, Flatten)
}


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


@dataclass(frozen=True)
class Group:
    """Channels that live or die together, index by index. `fixed` names what forbids removing any, or is empty."""

    ids: np.ndarray
    fixed: str = ""


Kept = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """`inputs`: tensor name -> shape. Raises UnsupportedError where a layer does not fit its inputs."""

    inputs: Mapping[str, Shape]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in (*self.inputs, *(layer.name for layer in self.layers)):
            if not name or not name.isprintable():
                raise UnsupportedError(f"plan: {name!r} cannot name a tensor: use printable characters")
        missing = [name for name in self.outputs if name not in self.shapes]
        if missing or not self.outputs:
            raise UnsupportedError(
                f"plan: output {', '.join(map(repr, missing)) or '(none)'} is not the name of a layer"
            )
        if sum(self.weights().values()) > MAX_WEIGHTS:
            raise UnsupportedError(f"plan: more than {MAX_WEIGHTS} weights: use a narrower one")

    # shapes and costs

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every tensor, inputs first."""
        if len(self.layers) > MAX_LAYERS:
            raise UnsupportedError(f"plan: more than {MAX_LAYERS} layers")
        shapes = {name: _check_size(f"input {name}", tuple(shape)) for name, shape in self.inputs.items()}
        channels = 0
        for layer in self.layers:
            if layer.name in shapes:
                raise UnsupportedError(f"plan: two tensors are named {layer.name!r}")
            try:
                inputs = [shapes[name] for name in layer.inputs]
                shapes[layer.name] = _check_size("output", _out_shape(layer.op, inputs))
                channels += shapes[layer.name][0] + sum(shape[0] for shape in inputs)
                if channels > MAX_CHANNELS:
                    raise UnsupportedError(f"more than {MAX_CHANNELS} channels up to here: use a narrower plan")
            except KeyError as error:
                raise UnsupportedError(f"layer {layer.name}: reads {error}, which no earlier layer makes") from error
            except UnsupportedError as error:
                got = ", ".join("x".join(map(str, shapes[name])) for name in layer.inputs)
                raise UnsupportedError(
                    f"layer {layer.name} ({type(layer.op).__name__}, input {got}): {error}"
                ) from error
        return shapes

    def __getitem__(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    def weighted(self) -> Iterator[Layer]:
        """The layers that have weights, in order."""
        return (layer for layer in self.layers if isinstance(layer.op, WEIGHTED))

    def weight_shape(self, layer: Layer) -> Shape:
        """(filters, input channels of one filter, *kernel)."""
        channels = self.shapes[layer.inputs[0]][0]
        if isinstance(layer.op, Conv):
            return (layer.op.out, channels // layer.op.groups, *layer.op.kernel)
        assert isinstance(layer.op, Linear)
        return (layer.op.out, channels)

    def widths(self) -> dict[str, int]:
        """Filters of each weighted layer."""
        return {layer.name: self.shapes[layer.name][0] for layer in self.weighted()}

    def weights(self) -> dict[str, int]:
        return {layer.name: prod(self.weight_shape(layer)) for layer in self.weighted()}

    def macs(self) -> dict[str, int]:
        """Multiply-accumulates of one inference by layer, padding counted as work."""
        return {name: count * self.positions(name) for name, count in self.weights().items()}

    def positions(self, name: str) -> int:
        """Outputs of one filter of layer `name`."""
        return prod(self.shapes[name][1:])

    def peak_activations(self) -> int:
        """Largest number of elements alive at once, each tensor from its layer to its last reader (no in-place reuse)."""
        last = {name: len(self.layers) for name in self.outputs}
        for i in reversed(range(len(self.layers))):
            for name in self.layers[i].inputs:
                last.setdefault(name, i)
        live, peak = set(self.inputs), 0
        for i, layer in enumerate(self.layers):
            live.add(layer.name)
            peak = max(peak, sum(prod(self.shapes[name]) for name in live))
            live = {name for name in live if last.get(name, -1) > i}
        return peak

    def stem(self) -> list[str]:
        """Weighted layers that read an input, directly or through layers without weights."""
        raw, stem = set(self.inputs), []
        for layer in self.layers:
            if not raw.isdisjoint(layer.inputs):
                if isinstance(layer.op, WEIGHTED):
                    stem.append(layer.name)
                else:
                    raw.add(layer.name)
        return stem

    def head(self) -> list[str]:
        """Weighted layers that make an output, directly or through layers without weights."""
        final, head = set(self.outputs), []  # type: set[str], list[str]
        for layer in reversed(self.layers):
            if layer.name in final and isinstance(layer.op, WEIGHTED):
                head.insert(0, layer.name)
            elif layer.name in final:
                final.update(layer.inputs)
        return head

    # coupled channels

    @cached_property
    def _coupling(self) -> tuple[dict[str, np.ndarray], dict[str, Group]]:
        find = _UnionFind()
        ids: dict[str, np.ndarray] = {name: find.fresh(name, shape[0]) for name, shape in self.inputs.items()}
        fixed: list[tuple[str, str]] = [(name, "input of the network") for name in self.inputs]
        for layer in self.layers:
            ids[layer.name], reason = _couple(layer, self.shapes, [ids[name] for name in layer.inputs], find)
            if reason:
                fixed += [(name, reason) for name in (layer.name, *layer.inputs)]
        fixed += [(name, "output of the network") for name in self.outputs]
        root = find.roots()
        channels = {name: root[tensor] for name, tensor in ids.items()}
        reasons = {int(i): reason for name, reason in reversed(fixed) for i in channels[name]}
        groups = {}
        for name, first, size in find.made:
            own = np.arange(first, first + size)
            own = own[root[own] == own]
            if len(own):
                groups[name] = Group(own, next((reasons[i] for i in own.tolist() if i in reasons), ""))
        return channels, groups

    @property
    def channels(self) -> dict[str, np.ndarray]:
        """Id of every channel of every tensor; channels with one id live or die together (residual, depthwise, concat)."""
        return self._coupling[0]

    @property
    def groups(self) -> dict[str, Group]:
        """Every channel id in one group, named after the first layer that makes it. Inputs included, as fixed."""
        return self._coupling[1]

    def alive(self, kept: Kept) -> dict[str, np.ndarray]:
        """bool per channel of every tensor."""
        flat = np.ones(1 + max(int(ids.max()) for ids in self.channels.values()), bool)
        for name, mask in kept.items():
            flat[self.groups[name].ids] = mask
        return {name: flat[ids] for name, ids in self.channels.items()}

    def narrow(self, kept: Kept) -> "Plan":
        """The plan without the channels that left."""
        alive = self.alive(kept)
        layers = []
        for layer in self.layers:
            op = layer.op
            if isinstance(op, WEIGHTED):
                op = replace(op, out=int(alive[layer.name].sum()))
            if isinstance(op, Conv) and op.groups == self.shapes[layer.inputs[0]][0]:
                op = replace(op, groups=int(alive[layer.inputs[0]].sum()))
            layers.append(replace(layer, op=op))
        return Plan(self.inputs, tuple(layers), self.outputs)

    def rows_columns(self, layer: Layer, kept: Kept) -> tuple[np.ndarray, np.ndarray]:
        """Which filters of a weighted layer, and which input channels of each filter, are left."""
        alive = self.alive(kept)
        rows = np.flatnonzero(alive[layer.name])
        if isinstance(layer.op, Conv) and layer.op.groups > 1:
            return rows, np.arange(self.weight_shape(layer)[1])
        return rows, np.flatnonzero(alive[layer.inputs[0]])

    # JSON

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "layers": [
                {
                    "name": layer.name,
                    "op": type(layer.op).__name__,
                    "inputs": list(layer.inputs),
                    **_op_to_json(layer.op),
                }
                for layer in self.layers
            ],
            "outputs": list(self.outputs),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Plan":
        """Inverse of `to_json`. Raises UnsupportedError for an unknown operation or a wrong field."""
        try:
            layers = tuple(
                Layer(_names([row["name"]])[0], _op_from_json(row), _names(row["inputs"])) for row in data["layers"]
            )
            inputs = {name: _shape(shape) for name, shape in data["inputs"].items()}
            return Plan(inputs, layers, _names(data["outputs"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnsupportedError(f"plan: malformed field {error}") from error


def _names(values: Any) -> tuple[str, ...]:
    if type(values) is not list or not all(type(value) is str for value in values):
        raise UnsupportedError(f"plan: {values!r} is not a list of names")
    return tuple(values)


def _shape(values: Any) -> Shape:
    if type(values) is not list or not all(type(value) is int and 0 <= value < 1 << 31 for value in values):
        raise UnsupportedError(f"plan: {values!r} is not a list of sizes")
    return tuple(values)


def _op_to_json(op: Op) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(op).items()}


def _op_from_json(row: Mapping[str, Any]) -> Op:
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
    return kind(**{key: _shape(value) if isinstance(value, list) else value for key, value in given.items()})


def _check_size(what: str, shape: Shape) -> Shape:
    """`shape` of a tensor; its dimensions are multiplied only as far as they stay small."""
    elements = 1
    for size in shape:
        elements *= size
        if not 1 <= elements <= MAX_ELEMENTS:
            raise UnsupportedError(f"{what} of {size} in one direction: a tensor has 1 to {MAX_ELEMENTS} elements")
    if len(shape) not in (1, 2, 3):
        raise UnsupportedError(f"{what} has {len(shape)} dimensions: 1 to 3 are possible")
    return shape


def _out_shape(op: Op, inputs: list[Shape]) -> Shape:
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
        raise UnsupportedError(f"a kernel of {len(kernel)} dimensions over an input of {n}")
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


class _UnionFind:
    """Channel ids, joined in pairs; the smallest id of a set is its root."""

    def __init__(self) -> None:
        self.made: list[tuple[str, int, int]] = []
        self.parent: list[int] = []

    def fresh(self, name: str, size: int) -> np.ndarray:
        first = len(self.parent)
        self.made.append((name, first, size))
        self.parent.extend(range(first, first + size))
        return np.arange(first, first + size)

    def root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, a: int, b: int) -> None:
        a, b = self.root(a), self.root(b)
        self.parent[max(a, b)] = min(a, b)

    def roots(self) -> np.ndarray:
        return np.array([self.root(i) for i in range(len(self.parent))])


def _couple(
    layer: Layer, shapes: Mapping[str, Shape], inputs: list[np.ndarray], find: _UnionFind
) -> tuple[np.ndarray, str]:
    """Channel ids of the layer's output, and what forbids removing channels around it, if anything does."""
    op = layer.op
    if isinstance(op, Conv) and op.groups > 1:
        if op.groups == len(inputs[0]):
            return np.repeat(inputs[0], op.out // op.groups), ""
        return find.fresh(layer.name, op.out), f"{layer.name}: Conv with {op.groups} groups"
    if isinstance(op, WEIGHTED):
        return find.fresh(layer.name, op.out), ""
    if isinstance(op, Concat):
        return np.concatenate(inputs), ""
    if isinstance(op, Flatten):
        return np.repeat(inputs[0], prod(shapes[layer.inputs[0]][1:])), ""
    if isinstance(op, Add | Mul):
        for other in inputs[1:]:
            for a, b in zip(inputs[0].tolist(), other.tolist(), strict=True):
                find.join(a, b)
    return inputs[0], ""
