"""How a tensor lies in memory for the convolution that reads it: padded, and split by the phases of its stride.

Where two taps of a filter read, they lie as far apart for every output: so a filter is one list of distances, and one run over
neighbouring positions makes a whole plane. A row's right padding is the next row's left one, a plane's bottom the next one's top.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

from edgeticket.ops import Conv, Shape
from exporters.c_site import two

Phase = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Elements of a tensor (channels, height, width). `at`: the place of each phase (y, x) that something reads in a plane."""

    shape: tuple[int, int, int]
    stride: Phase
    before: Phase  # rows above, columns to the left
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

    def steps(self, row: int = 0) -> tuple[list[list[int]], int, int]:
        """Of a direct layout: places of the first two rows from `row` and columns, how far two rows, two columns are apart."""
        first = [[self.place(row + y, x) for x in (0, 1)] for y in (0, 1)]
        return first, self.place(2, 0) - self.place(0, 0), self.place(0, 2) - self.place(0, 0)


def image(shape: Shape) -> tuple[int, int, int]:
    """Channels, height, width: of (channels, length) with a height of 1, of (channels,) with a width of 1 too."""
    channels, *space = shape
    height, width = (1, 1, *space)[-2:]
    return channels, height, width


def dense(shape: Shape) -> Layout:
    channels, height, width = image(shape)
    plane = height * width
    return Layout((channels, height, width), (1, 1), (0, 0), width, {(0, 0): 0}, plane, channels * plane)


@lru_cache(maxsize=4096)  # a search asks for the same ones over and over
def packed(op: Conv, source: Shape, target: Shape) -> Layout:
    """What `op` reads `source` from, to make `target`."""
    channels, height, width = image(source)
    _, out_height, out_width = image(target)
    kernel, stride, dilation = (two(values, 1) for values in (op.kernel, op.stride, op.dilation))
    n = len(op.kernel)
    before = two(op.pad[:n], 0)
    ys, xs = ([k * d for k in range(size)] for size, d in zip(kernel, dilation, strict=True))
    columns = [_Extent(xs, phase, stride[1], out_width, before[1], width) for phase in {x % stride[1] for x in xs}]
    need = max(max(extent.need, extent.real) for extent in columns)
    pitch = max(out_width, need - min(min(need - own.real, own.before) for own in columns))
    beyond = need - pitch
    at, end, bottom = {}, 0, 0
    for y in sorted({y % stride[0] for y in ys}):
        rows = _Extent(ys, y, stride[0], out_height, before[0], height)
        for x in sorted({x % stride[1] for x in xs}):
            at[y, x] = end
            end += max(rows.need, rows.real) * pitch + beyond
        bottom = max(rows.need - rows.real, 0)
    over = beyond + min(bottom, before[0]) * pitch if stride == (1, 1) else 0
    plane = end - over
    taps = tuple(at[y % stride[0], x % stride[1]] + y // stride[0] * pitch + x // stride[1] for y, x in product(ys, xs))
    shape = (channels, height, width)
    return Layout(shape, stride, before, pitch, at, plane, channels * plane + over, taps)


class _Extent:
    """Of a phase along one direction: places that its taps need, where its real values end, how much padding is before them."""

    def __init__(self, taps: list[int], phase: int, stride: int, out: int, before: int, size: int) -> None:
        self.need = out + max(tap // stride for tap in taps if tap % stride == phase)
        self.real = -(-(before + size - phase) // stride)
        self.before = max(-(-(before - phase) // stride), 0)
