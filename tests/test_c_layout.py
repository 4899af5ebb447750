"""Where tensors lie: every distance of a filter's list reads what the convolution reads, and no two living buffers overlap."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeticket.arena import ALIGN, Buffer, allocate, peak
from edgeticket.errors import UnsupportedError
from edgeticket.ops import Conv, out_shape
from edgeticket.reference import multiply
from exporters.c_layout import Layout, dense, image, packed

FILL = 7


@st.composite
def convolutions(draw):
    n = draw(st.integers(1, 2))
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(n))  # noqa: E731
    kernel, stride, dilation = each(1, 4), each(1, 3), each(1, 2)
    span = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    pad = tuple(draw(st.integers(0, span[i % n])) for i in range(2 * n))
    return Conv(3, kernel, stride, pad, dilation, norm=False), (2, *each(1, 9))


def fill(layout: Layout, x: np.ndarray) -> np.ndarray:
    """The memory of a tensor: FILL wherever no element is, and random values where a run may read beyond it."""
    memory = np.full(layout.size, FILL)
    for (c, y, x_), value in np.ndenumerate(x.reshape(layout.shape)):
        memory[c * layout.plane + layout.place(y, x_)] = value
    return memory


@given(convolutions())
@settings(max_examples=300, deadline=None)
def test_a_run_over_distances_is_the_convolution(drawn):
    op, shape = drawn
    try:
        target = out_shape(op, [shape])
    except UnsupportedError:
        return
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, shape)
    layout = packed(op, shape, target)
    if any(phase not in layout.at for phase in product(*map(range, layout.stride))):
        return  # elements that nothing reads have no place
    weights = rng.integers(-3, 4, (3, 2, *op.kernel))
    right = multiply(op, weights.astype(float), (x - FILL)[None].astype(float))[0]
    memory, (_, height, width) = fill(layout, x), image(target)
    for f, y, j in product(range(3), range(height), range(width)):
        at = y * layout.pitch + j
        places = [at + c * layout.plane + tap for c in range(2) for tap in layout.taps]
        assert max(places) < layout.size
        made = int(((memory[places] - FILL) * weights[f].reshape(-1)).sum())
        assert made == right.reshape(3, height, width)[f, y, j]


@given(convolutions())
@settings(max_examples=200, deadline=None)
def test_every_element_has_a_place_of_its_own(drawn):
    op, shape = drawn
    try:
        layout = packed(op, shape, out_shape(op, [shape]))
    except UnsupportedError:
        return
    channels, height, width = layout.shape
    places = [
        c * layout.plane + layout.place(y, x)
        for c, y, x in product(range(channels), range(height), range(width))
        if ((y + layout.before[0]) % layout.stride[0], (x + layout.before[1]) % layout.stride[1]) in layout.at
    ]
    assert len(set(places)) == len(places)
    assert not places or max(places) < layout.size
    if layout.direct:
        first, row, column = layout.steps()
        for y, x in product(range(height), range(width)):
            assert layout.place(y, x) == first[y % 2][x % 2] + y // 2 * row + x // 2 * column


def test_a_kernel_without_padding_reads_the_tensor_as_it_is():
    assert packed(Conv(4, (3, 3), (1, 1), (0,) * 4, (1, 1)), (2, 6, 5), (4, 4, 3)) == Layout(
        **{**vars(dense((2, 6, 5))), "taps": (0, 1, 2, 5, 6, 7, 10, 11, 12)}
    )


def test_padding_is_shared_between_rows_and_planes():
    layout = packed(Conv(4, (3, 3), (1, 1), (1,) * 4, (1, 1)), (8, 28, 28), (4, 28, 28))
    assert (layout.pitch, layout.plane) == (29, 29 * 29)
    assert layout.size == 8 * 29 * 29 + 29 + 1  # the last plane's bottom row and last corner


buffers = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 9), st.integers(0, 4)).map(lambda t: Buffer(t[0], t[1], t[1] + t[2])),
    max_size=14,
)


@given(buffers)
@settings(max_examples=300, deadline=None)
def test_living_buffers_do_not_overlap(made):
    places, total = allocate(made)
    assert all(place % ALIGN == 0 for place in places)
    assert total >= peak(made)
    assert all(place + buffer.size <= total for place, buffer in zip(places, made, strict=True))
    for i, a in enumerate(made):
        for j in range(i):
            b = made[j]
            apart = places[i] + a.size <= places[j] or places[j] + b.size <= places[i]
            assert apart or not a.meets(b) or not a.size or not b.size


def test_a_chain_needs_no_more_than_its_two_largest_neighbours():
    chain = [Buffer(size, i, i + 1) for i, size in enumerate((100, 400, 300, 40, 8))]
    assert allocate(chain)[1] == peak(chain) == 700


@pytest.mark.parametrize("seed", range(5))
def test_random_lives_cost_little_over_the_bound(seed):
    rng = np.random.default_rng(seed)
    made = [Buffer(int(rng.integers(1, 500)), i, int(i + rng.integers(1, 4))) for i in range(20)]
    assert allocate(made)[1] <= 1.25 * peak(made)
