"""How a tensor lies in memory for the convolution that reads it: padded, and split by the phases of its stride.

Where two taps of a filter read, they lie as far apart for every output: so a filter is one list of distances, and one run over
neighbouring positions makes a whole plane. A row's right padding is the next row's left one, a plane's bottom the next one's top.
"""

from dataclasses import dataclass
from itertools import product
from math import prod

from edgeticket.ops import Conv, Shape

Phase = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Elements of a tensor (channels, height, width). `at`: the place of each phase (y, x) that something reads in a plane."""

    shape: tuple[int, int, int]
    stride: Phase
    before: Phase  # rows above, columns to the left
    rows: int  # of a phase
    pitch: int
    at: dict[Phase, int]
    plane: int
    size: int  # elements of all planes, and what the last one needs beyond its plane
    taps: tuple[int, ...] = (0,)

    @property
    def dense(self) -> bool:
        """Nothing but the tensor's elements in C order."""
        return self.size == prod(self.shape) and self.stride == (1, 1) and self.before == (0, 0)

    @property
    def direct(self) -> bool:
        """Whether the layer that makes the tensor can write it so: every element has a place, in two phases at most."""
        return max(self.stride) <= 2 and len(self.at) == prod(self.stride)

    def place(self, y: int, x: int) -> int:
        """Where in a plane element (y, x) lies."""
        (sy, sx), (y, x) = self.stride, (y + self.before[0], x + self.before[1])
        return self.at[y % sy, x % sx] + y // sy * self.pitch + x // sx

    def steps(self) -> tuple[list[list[int]], int, int]:
        """Of a direct layout: places of the first even and odd rows and columns, and how far two rows, two columns are apart."""
        first = [[self.place(y, x) for x in (0, 1)] for y in (0, 1)]
        return first, self.place(2, 0) - self.place(0, 0), self.place(0, 2) - self.place(0, 0)


def image(shape: Shape) -> tuple[int, int, int]:
    """A shape as (channels, height, width)."""
    channels, *space = shape
    height, width = (1, 1, *space)[-2:]
    return channels, height, width


def dense(shape: Shape) -> Layout:
    channels, height, width = image(shape)
    plane = height * width
    return Layout((channels, height, width), (1, 1), (0, 0), height, width, {(0, 0): 0}, plane, channels * plane)


def packed(op: Conv, source: Shape, target: Shape) -> Layout:
    """What `op` reads `source` from, to make `target`."""
    channels, height, width = image(source)
    _, out_height, out_width = image(target)
    kernel, stride, dilation = (_two(values, 1) for values in (op.kernel, op.stride, op.dilation))
    n = len(op.kernel)
    before = _two(op.pad[:n], 0)
    ys, xs = ([k * d for k in range(size)] for size, d in zip(kernel, dilation, strict=True))
    rows, bottom, _ = _extent(ys, stride[0], out_height, before[0], height)
    need, _, shared = _extent(xs, stride[1], out_width, before[1], width)
    pitch = max(out_width, need - shared)
    beyond = need - pitch
    phases = sorted({(y % stride[0], x % stride[1]) for y, x in product(ys, xs)})
    region = rows * pitch + beyond
    at = {phase: i * region for i, phase in enumerate(phases)}
    over = beyond + min(bottom, before[0]) * pitch if stride == (1, 1) else 0
    plane = len(phases) * region - over
    taps = tuple(at[y % stride[0], x % stride[1]] + y // stride[0] * pitch + x // stride[1] for y, x in product(ys, xs))
    shape = (channels, height, width)
    return Layout(shape, stride, before, rows, pitch, at, plane, channels * plane + over, taps)


def _extent(taps: list[int], stride: int, out: int, before: int, size: int) -> tuple[int, int, int]:
    """Along one direction: places that a phase needs, how many of them are padding behind, how many a neighbour's padding before
    can stand for."""
    need = max(out + tap // stride for tap in taps)
    phases = {tap % stride for tap in taps}
    real = max(-(-(before + size - phase) // stride) for phase in phases)
    whole = max(need, real)
    ends = [(-(-(before + size - phase) // stride), -(-(before - phase) // stride)) for phase in phases]
    shared = min(min(whole - end, max(start, 0)) for end, start in ends)
    return whole, max(need - (before + size), 0) if stride == 1 else 0, shared


def _two(values: Shape, one: int) -> Phase:
    height, width = (one, *values)[-2:]
    return height, width
