"""Random networks, as plans: every operation of `ops` beside every other, over one to three inputs, each small."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from cases import Case

from edgeticket.errors import UnsupportedError
from edgeticket.ops import (
    ACTIVATIONS,
    RESIZE_MODES,
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    DepthToSpace,
    Flatten,
    Gather,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool,
    Mul,
    Norm,
    Op,
    Pad,
    PRelu,
    Reshape,
    Resize,
    Shape,
    SpaceToDepth,
    out_shape,
)
from edgeticket.plan import Plan

MAX_CHANNELS, MAX_SIDE, MAX_FLAT = 24, 16, 160
KINDS = (*ACTIVATIONS, "leaky_relu:0.2")


def case(seed: int) -> Case:
    """A random network, and how its random ticket is made."""
    rng = np.random.default_rng([seed, 1])
    return Case(
        network(seed),
        dtype=("uint8", "int16", "float32")[seed % 3],
        edges=1 + seed % 2 * int(rng.integers(3)),
        flips=bool(rng.integers(2)),
        learned=bool(rng.integers(2)),
        keep=float(rng.choice([0.2, 0.5, 0.8])),
        density=float(rng.choice([0.1, 0.5, 0.9])),
        seed=seed,
    )


def network(seed: int) -> Plan:
    net = _Network(np.random.default_rng(seed))
    for name in net.inputs:
        net.attempt(_linear if len(net.shapes[name]) == 1 else _conv, name)
    count = len(net.layers) + int(net.rng.integers(6, 16))
    while len(net.layers) < count:
        net.grow()
    return net.finish()


class _Network:
    """Layers so far. `add` refuses, with UnsupportedError, what does not fit or is too large."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.inputs: dict[str, Shape] = {}
        for i in range(int(rng.choice([1, 1, 2, 3]))):
            shape = ((2, 8, 8), (3, 7, 9), (4, 6, 10), (3, 12), (2, 9), (7,))[rng.integers(6 if i else 5)]
            self.inputs[f"x{i}"] = shape
        self.shapes = dict(self.inputs)
        self.layers: list[Layer] = []

    def grow(self) -> None:
        """One more operation, or a few, on a tensor that is likely to be recent."""
        names = list(self.shapes)
        self.attempt(self.pick(_MAKERS), names[-min(int(self.rng.geometric(0.75)), len(names))])

    def attempt(self, make: "_Maker", name: str) -> None:
        before = len(self.layers)
        try:
            make(self, name)
        except UnsupportedError:
            for layer in self.layers[before:]:
                del self.shapes[layer.name]
            del self.layers[before:]

    def add(self, op: Op, *inputs: str) -> str:
        shape = out_shape(op, [self.shapes[name] for name in inputs])
        channels, *size = shape
        if min(shape) < 1 or channels > (MAX_CHANNELS if size else MAX_FLAT) or max(size, default=0) > MAX_SIDE:
            raise UnsupportedError("too large for a quick test, or nothing left")
        name = f"{type(op).__name__.lower()}{len(self.layers)}"
        self.layers.append(Layer(name, op, inputs))
        self.shapes[name] = shape
        return name

    def finish(self) -> Plan:
        """Most ends get a head; of more than two, the earlier are summed up. A tensor within may be an output too."""
        read = {name for layer in self.layers for name in layer.inputs}
        ends = [name for name in self.shapes if name not in read]
        if len(ends) > 2:
            ends = [self.add(Add("tanh"), *(self.add(Linear(9), self.flat(name)) for name in ends[:-1])), ends[-1]]
        ends = [name if name not in self.inputs and self.chance(0.2) else self.head(name) for name in ends]
        if self.layers and self.chance(0.2):
            ends.append(self.pick([layer.name for layer in self.layers]))
        return Plan(self.inputs, tuple(self.layers), tuple(dict.fromkeys(ends)))

    def head(self, name: str) -> str:
        n = len(self.shapes[name]) - 1
        if n and self.chance(0.3):
            return self.add(Conv(2, (1,) * n, (1,) * n, (0,) * 2 * n, (1,) * n, norm=False), name)
        return self.add(Linear(4), self.flat(name))

    def flat(self, name: str) -> str:
        """`name` as a vector."""
        if len(self.shapes[name]) == 1:
            return name
        small = prod(self.shapes[name]) <= MAX_FLAT
        return self.add(Flatten() if small and self.chance(0.7) else GlobalAveragePool(), name)

    # choices

    def pick(self, values: Sequence[Any]) -> Any:
        return values[self.rng.integers(len(values))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def ints(self, low: int, high: int | Sequence[int], n: int) -> Shape:
        """`n` of low <= value <= high, or <= high[i % len(high)]."""
        highs = [high] if isinstance(high, int) else high
        return tuple(int(self.rng.integers(low, highs[i % len(highs)] + 1)) for i in range(n))

    def strides(self, n: int) -> Shape:
        return self.ints(1, 2, n) if self.chance(0.3) else (1,) * n

    def activation(self) -> str:
        return self.pick(KINDS)

    def beside(self, name: str) -> str:
        """A tensor that can be broadcast with `name`, or that `name` can: found, or made of it."""
        shape = self.shapes[name]
        found = [other for other, has in self.shapes.items() if len(has) == len(shape) and _broadcast(has, shape)]
        if len(found) > 1 and self.chance(0.5):
            return self.pick(found)
        channels, n = 1 if self.chance(0.2) else shape[0], len(shape) - 1
        kind = self.pick(["sigmoid", "tanh", "hard_sigmoid"])
        if not n:
            return self.add(Linear(channels, activation=kind), name)
        if self.chance(0.25):
            gate = self.add(Linear(channels, activation=kind), self.add(GlobalAveragePool(), name))
            return self.add(Reshape((1,) * n), gate)
        gate = self.add(Conv(channels, (1,) * n, (1,) * n, (0,) * 2 * n, (1,) * n, activation=kind), name)
        window = tuple(size if self.chance(0.5) else 1 for size in shape[1:])
        return gate if max(window) == 1 else self.add(AveragePool(window, window, (0,) * 2 * n), gate)


def _broadcast(a: Shape, b: Shape) -> bool:
    return all(x == y or 1 in (x, y) for x, y in zip(a, b, strict=True))


def _conv(net: _Network, x: str) -> None:
    channels, n = net.shapes[x][0], len(net.shapes[x]) - 1
    between = [g for g in range(2, channels) if channels % g == 0]
    groups = net.pick([1, 1, channels, net.pick(between or [1])])
    out = net.pick([5, 8, 12]) if groups == 1 else groups * net.pick([1, 2] if groups > 3 else [2, 3, 4])
    kernel, dilation = net.ints(1, 3, n), net.ints(1, 2, n)
    span = [dilation[i] * (kernel[i] - 1) for i in range(n)]
    pad = net.ints(0, span, 2 * n) if n else ()
    net.add(Conv(out, kernel, net.strides(n), pad, dilation, groups, net.chance(0.5), net.activation()), x)


def _conv_transpose(net: _Network, x: str) -> None:
    n = len(net.shapes[x]) - 1
    kernel, stride = net.ints(1, 4, n), net.ints(1, 3, n)
    pad, out_pad = net.ints(0, [k - 1 for k in kernel], 2 * n), net.ints(0, [s - 1 for s in stride], n)
    net.add(ConvTranspose(net.pick([2, 4, 7]), kernel, stride, pad, out_pad, activation=net.activation()), x)


def _linear(net: _Network, x: str) -> None:
    net.add(Linear(net.pick([4, 8, 12, 18]), net.chance(0.5), net.activation()), x)


def _join(net: _Network, x: str) -> None:
    others = [net.beside(x) for _ in range(net.pick([1, 1, 2]))]
    op = Mul() if net.chance(0.5) else Add(net.activation())
    net.add(op, *([x, *others] if net.chance(0.5) else [*others, x]))


def _concat(net: _Network, x: str) -> None:
    fits = [name for name, shape in net.shapes.items() if shape[1:] == net.shapes[x][1:]]
    net.add(Concat(), x, *(net.pick(fits) for _ in range(net.pick([1, 1, 2]))))


def _gather(net: _Network, x: str) -> None:
    channels = net.shapes[x][0]
    first = int(net.rng.integers(channels))
    kinds = [
        list(range(first, channels)),
        list(range(first, channels, 2)),
        net.rng.permutation(channels).tolist(),
        net.rng.integers(channels, size=net.rng.integers(1, channels + 1)).tolist(),
        np.arange(channels // 2 * 2).reshape(2, -1).T.reshape(-1).tolist(),  # a shuffle of two groups
    ]
    net.add(Gather(tuple(net.pick(kinds))), x)


def _blocks(net: _Network, x: str) -> None:
    """Depth to space, of a layer that makes enough channels; or the inverse, of few channels and even sides."""
    if len(net.shapes[x]) != 3:
        raise UnsupportedError("not an image")
    channels, height, width = net.shapes[x]
    down = net.chance(0.4)
    if channels > 6 if down else channels % 4:
        out = 5 if down else net.pick([4, 8, 12])
        x = net.add(Conv(out, (1, 1), (1, 1), (0,) * 4, (1, 1), activation=net.activation()), x)
    if down and (height % 2 or width % 2):
        x = net.add(Pad((0, 0, height % 2, width % 2)), x)
    net.add(SpaceToDepth(2) if down else DepthToSpace(2), x)


def _pool(net: _Network, x: str) -> None:
    n = len(net.shapes[x]) - 1
    kernel = net.ints(1, 3, n)
    op = net.pick([MaxPool, AveragePool])
    net.add(op(kernel, net.strides(n), net.ints(0, [k - 1 for k in kernel], 2 * n)), x)


def _reshape(net: _Network, x: str) -> None:
    """A vector to a map, of a layer that makes enough values; the directions of a map in another order or number."""
    size = net.shapes[x][1:]
    if size:
        net.add(Reshape(net.pick([size[::-1], (prod(size),), (1, prod(size)), (prod(size), 1)])), x)
        return
    size = net.pick([(1,), (4,), (1, 1), (2, 3), (3, 2), (4, 4)])
    net.add(Reshape(size), net.add(Linear(int(net.rng.integers(1, 6)) * prod(size), activation=net.activation()), x))


def _resize(net: _Network, x: str) -> None:
    net.add(Resize(net.ints(1, 11, len(net.shapes[x]) - 1), net.pick(RESIZE_MODES)), x)


def _pad(net: _Network, x: str) -> None:
    net.add(Pad(net.ints(-2, 2, 2 * len(net.shapes[x]) - 2)), x)


_Maker = Callable[[_Network, str], object]
_MAKERS: list[_Maker] = [
    *[_conv] * 5,
    *[_conv_transpose] * 2,
    *[_linear] * 2,
    *[_join] * 3,
    *[_concat] * 2,
    *[_gather] * 2,
    *[_blocks] * 3,
    *[_pool] * 2,
    *[_reshape] * 2,
    *[_resize] * 2,
    _pad,
    lambda net, x: net.add(Norm(net.activation()), x),
    lambda net, x: net.add(PRelu(), x),
    lambda net, x: net.add(Activation(net.activation()), x),
    lambda net, x: net.flat(x),
]
