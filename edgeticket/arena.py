"""Where in one block of memory each tensor lies: those alive at the same time apart, all others over one another."""

from collections.abc import Sequence
from dataclasses import dataclass

ALIGN = 4


@dataclass(frozen=True)
class Buffer:
    """`size` bytes from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int

    def meets(self, other: "Buffer") -> bool:
        return self.first <= other.last and other.first <= self.last


def allocate(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """The place of each buffer, and the bytes of all: the best of a few orders in which each takes the lowest free place.

    Greedy by size is that of Pisarchyk and Lee, "Efficient memory management for deep neural net inference", arXiv 2001.03288.
    """
    indices = range(len(buffers))
    orders = [
        sorted(indices, key=lambda i: (-buffers[i].size, buffers[i].first)),
        sorted(indices, key=lambda i: (buffers[i].first, -buffers[i].size)),
        sorted(indices, key=lambda i: (-buffers[i].last, -buffers[i].size)),
        sorted(indices, key=lambda i: (buffers[i].first - buffers[i].last, -buffers[i].size)),
    ]
    return min((_place(buffers, order) for order in orders), key=lambda made: made[1])


def peak(buffers: Sequence[Buffer]) -> int:
    """The most bytes alive at one step: no plan needs fewer."""
    steps = {buffer.first for buffer in buffers}
    return max((sum(_rounded(b.size) for b in buffers if b.first <= step <= b.last) for step in steps), default=0)


def _place(buffers: Sequence[Buffer], order: Sequence[int]) -> tuple[list[int], int]:
    places: dict[int, int] = {}
    for i in order:
        taken = sorted(
            (places[j], places[j] + _rounded(buffers[j].size)) for j in places if buffers[j].meets(buffers[i])
        )
        at = 0
        for start, end in taken:
            if at + _rounded(buffers[i].size) <= start:
                break
            at = max(at, end)
        places[i] = at
    total = max((places[i] + _rounded(buffers[i].size) for i in places), default=0)
    return [places[i] for i in range(len(buffers))], total


def _rounded(size: int) -> int:
    return -(-size // ALIGN) * ALIGN
