"""The C of operations that move through space or channels: pools, resizes, layouts, transposed convolutions."""

from collections.abc import Callable
from functools import reduce
from math import prod

import numpy as np

from edgeticket.errors import UnsupportedError
from edgeticket.ops import (
    AveragePool,
    ConvTranspose,
    DepthToSpace,
    Gather,
    GlobalAveragePool,
    MaxPool,
    Pad,
    Resize,
    SpaceToDepth,
)
from edgeticket.reference import pool
from exporters.c_kernel import Kernel
from exporters.c_layout import image
from exporters.c_site import Site, table, two
from exporters.c_text import ELEMENTS

WORD = 1 << 16  # indices in tables are uint16_t
BYTES = {"u8": 1, "i16": 2}


def _pool(site: Site) -> Kernel:
    op, kind = site.op, site.kind
    assert isinstance(op, MaxPool | AveragePool)
    n = len(op.kernel)
    sides = [two(op.kernel, 1), two(op.stride, 1), two(op.pad[:n], 0)]
    window = site.table("et_window", [*image(site.shapes[0]), *image(site.shape)[1:], *sides])
    at = f"{site.x}, {site.y}, &{site.name('window')}"
    if isinstance(op, MaxPool):
        span = (site.shape[-1] - 1) * op.stride[-1] + op.kernel[-1]
        call = f"et_max_pool_{kind}({at}, ({ELEMENTS[kind]} *)(void *)scratch, {span});"
        return Kernel(("ops_window.h", f"ops_max_pool.h:{kind}"), (window,), call, span * BYTES[kind])
    fragments = (*_mean(kind), "ops_window.h", f"ops_average_pool.h:{kind}")
    counts = _counts(site, pool(op, np.ones((1, 1, *site.shapes[0][1:])), np.sum))
    return Kernel(fragments, (window, counts), f"et_average_pool_{kind}({at}, {site.name('counts')}, k);")


def _mean(kind: str) -> tuple[str, ...]:
    """What means of any number of elements need."""
    return "ops_shift.h", "ops_mean.h", f"ops_sum.h:{kind}"


def _counts(site: Site, counts: np.ndarray) -> str:
    """Definition of the table of the numbers that there are, ascending as the layer's rows of constants."""
    return f"static const int32_t {site.name('counts')}[] = {table(np.unique(counts).astype(int).tolist())};"


def _global_average_pool(site: Site) -> Kernel:
    kind, (channels, *size) = site.kind, site.shapes[0]
    call = f"et_global_average_pool_{kind}({site.x}, {site.y}, {channels}, {prod(size)}, k);"
    return Kernel((f"ops_global_average_pool.h:{kind}",), (), call)


def _resize(site: Site) -> Kernel:
    op, kind = site.op, site.kind
    assert isinstance(op, Resize)
    sizes = site.table("et_resize", [*image(site.shapes[0]), *image(site.shape)[1:]])
    at, fragments = f"{site.x}, {site.y}, &{site.name('resize')}", ("ops_resize.h",)
    if op.mode == "nearest":
        return Kernel((*fragments, f"ops_nearest.h:{kind}"), (sizes,), f"et_nearest_{kind}({at});")
    if op.mode == "area":
        counts = _counts(site, reduce(np.multiply.outer, [m.sum(1, dtype=int) for m in site.record.matrices]))
        call = f"et_area_{kind}({at}, {site.name('counts')}, k);"
        return Kernel((*fragments, *_mean(kind), f"ops_area.h:{kind}"), (sizes, counts), call)
    rows, columns = two([_shares(site, m) for m in site.record.matrices], [[0, 0]])
    bits = int(site.record.matrices[0][0].sum()).bit_length() - 1
    tables = [
        f"static const et_share {site.name(w)}[] = {table(t)};" for w, t in (("rows", rows), ("columns", columns))
    ]
    shares = f"{site.name('rows')}, {bits if len(op.size) > 1 else 0}, {site.name('columns')}, {bits}"
    call = f"et_interpolate_{kind}({at}, {shares}, k);"
    return Kernel(("ops_shift.h", "ops_narrow.h", *fragments, f"ops_interpolate.h:{kind}"), (sizes, *tables), call)


def _shares(site: Site, matrix: np.ndarray) -> list[list[int]]:
    """Of each result, the first element that it is made of and the share of the next. Raises UnsupportedError."""
    _check(site, matrix.shape[1])
    at = (matrix != 0).argmax(1)
    following = np.minimum(at + 1, matrix.shape[1] - 1)
    shares = np.where(following > at, matrix[np.arange(len(at)), following], 0)
    return np.stack([at, shares], 1).tolist()


def _check(site: Site, size: int) -> None:
    """Raises UnsupportedError where tables don't hold the indices of so many."""
    if size > WORD:
        name, op = site.record.layer.name, type(site.op).__name__
        raise UnsupportedError(f"layer {name} ({op}): reads by index among {size}, C holds {WORD}: make it smaller")


def _gather(site: Site) -> Kernel:
    op = site.op
    assert isinstance(op, Gather)
    first, count = op.channels[0], len(op.channels)
    size = prod(site.shape[1:]) * BYTES[site.kind]
    if op.channels == tuple(range(first, first + count)):
        return Kernel((), (), f"memcpy({site.y}, {site.x} + {first * prod(site.shape[1:])}, {count * size});")
    _check(site, site.shapes[0][0])
    channels = f"static const uint16_t {site.name('channels')}[] = {table(op.channels)};"
    at = f"(const uint8_t *){site.x}, (uint8_t *){site.y}"
    return Kernel(("ops_gather.h",), (channels,), f"et_gather({at}, {site.name('channels')}, {count}, {size});")


def _pad(site: Site) -> Kernel:
    """In bytes: what is left of a row goes to its place in a filled frame."""
    op, size = site.op, BYTES[site.kind]
    assert isinstance(op, Pad)
    n = len(op.pad) // 2
    (above, left), (below, right) = two(op.pad[:n], 0), two(op.pad[n:], 0)
    (channels, height, width), (_, out_height, out_width) = image(site.shapes[0]), image(site.shape)
    rows, columns = height + min(above, 0) + min(below, 0), width + min(left, 0) + min(right, 0)
    first = (max(-above, 0) * width + max(-left, 0)) * size
    out_first = (max(above, 0) * out_width + max(left, 0)) * size
    source = [height * width * size, width * size, first, rows, columns * size]
    frame = site.table("et_frame", [channels, *source, out_height * out_width * size, out_width * size, out_first])
    call = f"et_pad((const uint8_t *){site.x}, (uint8_t *){site.y}, &{site.name('frame')}, k[0]);"
    return Kernel(("ops_pad.h",), (frame,), call)


def _blocks(site: Site) -> Kernel:
    op, inverse = site.op, isinstance(site.op, SpaceToDepth)
    assert isinstance(op, DepthToSpace | SpaceToDepth)
    (channels, *_), (_, height, width) = (site.shapes[0], site.shape) if inverse else (site.shape, site.shapes[0])
    sizes = f"{channels}, {height}, {width}, {op.block}, {int(inverse)}"
    return Kernel((f"ops_blocks.h:{site.kind}",), (), f"et_blocks_{site.kind}({site.x}, {site.y}, {sizes});")


def _conv_transpose(site: Site) -> Kernel:
    """Scratch: a row of sums before the padding is cut off, then the filter's weights."""
    op, kind = site.op, site.kind
    assert isinstance(op, ConvTranspose)
    n = len(op.kernel)
    inputs, height, width = image(site.shapes[0])
    _, out_height, out_width = image(site.shape)
    whole = (width - 1) * op.stride[-1] + op.kernel[-1] + op.out_pad[-1]
    sides = [two(op.kernel, 1), two(op.stride, 1), two(op.pad[:n], 0)]
    spread = site.table("et_spread", [inputs, height, width, out_height, out_width, *sides, whole])
    sums, row = "(int32_t *)(void *)scratch", f"k + 1 + ET_HEAD({site.act}) + 7 * filter"
    places = f"{site.x}, {site.y} + filter * {out_height * out_width}, (const int8_t *)(scratch + {4 * whole}), {sums}"
    call = f"et_conv_transpose_{kind}({places}, &{site.name('spread')}, k[0], {site.act}, k + 1, {row});"
    fragments = "ops_shift.h", "ops_narrow.h", "ops_spread.h", f"ops_conv_transpose.h:{kind}"
    return Kernel(fragments, (spread,), call, 4 * whole + inputs * prod(op.kernel), 4 * whole)


KERNELS: dict[type, Callable[[Site], Kernel]] = {
    AveragePool: _pool,
    ConvTranspose: _conv_transpose,
    DepthToSpace: _blocks,
    Gather: _gather,
    GlobalAveragePool: _global_average_pool,
    MaxPool: _pool,
    Pad: _pad,
    Resize: _resize,
    SpaceToDepth: _blocks,
}
