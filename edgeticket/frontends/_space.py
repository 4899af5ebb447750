"""Handlers for operations that change the size in space: pools, means, resizes. Importing this registers them."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch.nn.functional as F
from torch.fx import Node

from edgeticket.frontends._builder import Builder, Value
from edgeticket.frontends._operations import each, handles, require_directions
from edgeticket.frontends._source import operation, unsupported
from edgeticket.ops import AveragePool, MaxPool, Op, Resize, Shape


def _layer(b: Builder, node: Node, op: Op, x: Value) -> Value:
    return b.value(node, b.add(node, op, [b.tensor(x)]))


def _window(
    node: Node, x: Value, n: int, kernel: Any, stride: Any, pad: Any, to_end: bool
) -> tuple[Shape, Shape, Shape]:
    """Kernel, stride and pad in ONNX's order. `to_end` (ceil_mode): a last window that begins in the input or its padding
    at the front, and reaches beyond the end, counts (torch/_refs, pooling_output_shape)."""
    require_directions(node, x, n)
    kernel = each(kernel, n)
    steps = each(stride, n) if stride else kernel
    begins, ends = each(pad, n), list(each(pad, n))
    for i, size in enumerate(x.shape[2:] if to_end else ()):
        out = ceil((size + 2 * begins[i] - kernel[i]) / steps[i]) + 1
        out -= (out - 1) * steps[i] >= size + begins[i]
        ends[i] = max(ends[i], (out - 1) * steps[i] + kernel[i] - size - begins[i])
    return kernel, steps, (*begins, *ends)


@handles("max_pool1d.default", "max_pool2d.default", "max_pool2d_with_indices.default")
def _max_pool(b: Builder, node: Node, x: Value, kernel: Any, stride: Any, pad: Any, dilation: Any, to_end: bool) -> Any:
    n = 1 if "1d" in str(node.target) else 2
    if max(each(dilation, n)) != 1:
        raise unsupported(node, f"{operation(node)} with dilation {dilation} is not supported", "use dilation 1")
    made = _layer(b, node, MaxPool(*_window(node, x, n, kernel, stride, pad, to_end)), x)
    return (made, None) if "indices" in str(node.target) else made


@handles("avg_pool1d.default", "avg_pool2d.default")
def _average_pool(
    b: Builder,
    node: Node,
    x: Value,
    kernel: Any,
    stride: Any,
    pad: Any,
    to_end: bool,
    count_pad: bool,
    divisor: Any = None,
) -> Value:
    n = 1 if "1d" in str(node.target) else 2
    if divisor is not None:
        raise unsupported(node, f"{operation(node)} with divisor_override is not supported", "leave it out")
    kernel, steps, around = _window(node, x, n, kernel, stride, pad, to_end)
    pad = each(pad, n)
    if count_pad and any(pad):  # zeros that count are zeros of the input; those that ceil_mode adds never count
        x = b.move(node, x, lambda i: F.pad(i, [p for one in reversed(pad) for p in (one, one)], value=-1))
        around = (*(0 for _ in pad), *(end - p for end, p in zip(around[n:], pad, strict=True)))
    return _layer(b, node, AveragePool(kernel, steps, around), x)


def _whole(x: Value, out: Shape) -> Shape | None:
    """The kernel (and stride) of windows that cut `x` into `out` equal parts."""
    if any(size % parts for size, parts in zip(x.shape[2:], out, strict=True)):
        return None
    return tuple(size // parts for size, parts in zip(x.shape[2:], out, strict=True))


@handles("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default")
def _adaptive_average(b: Builder, node: Node, x: Value, size: Sequence[int]) -> Value:
    out = tuple(size)
    require_directions(node, x, len(out))
    kernel = _whole(x, out)
    if out == x.shape[2:]:
        return x
    return _layer(b, node, AveragePool(kernel, kernel, (0,) * 2 * len(out)) if kernel else Resize(out, "area"), x)


@handles("adaptive_max_pool1d.default", "adaptive_max_pool2d.default")
def _adaptive_max(b: Builder, node: Node, x: Value, size: Sequence[int]) -> tuple[Value, None]:
    out = tuple(size)
    require_directions(node, x, len(out))
    kernel = _whole(x, out)
    if kernel is None:
        problem = f"{operation(node)} from {x.shape[2:]} to {out} is not supported"
        raise unsupported(node, problem, "let the output divide the input, or use an average")
    return _layer(b, node, MaxPool(kernel, kernel, (0,) * 2 * len(out)), x), None


@handles("mean.dim")
def _mean(b: Builder, node: Node, x: Value, axes: Any, keep: bool, dtype: Any) -> Value:
    return _over(b, node, AveragePool, x, axes, keep)


@handles("amax.default")
def _amax(b: Builder, node: Node, x: Value, axes: Any, keep: bool) -> Value:
    return _over(b, node, MaxPool, x, axes, keep)


@handles("max.dim")
def _max(b: Builder, node: Node, x: Value, axis: int, keep: bool) -> tuple[Value, None]:
    return _over(b, node, MaxPool, x, [axis], keep), None


def _over(b: Builder, node: Node, kind: type, x: Value, axes: Sequence[int] | None, keep: bool) -> Value:
    """One value of all along these directions in space."""
    rank = len(x.shape)
    chosen = {axis % rank for axis in axes or range(rank)}
    if min(chosen) < 2:
        problem = f"{operation(node)} over the {'batch' if 0 in chosen else 'channels'} is not supported"
        raise unsupported(node, problem, "take it over directions in space")
    kernel = tuple(x.shape[axis] if axis in chosen else 1 for axis in range(2, rank))
    made = _layer(b, node, kind(kernel, kernel, (0,) * 2 * len(kernel)), x)
    return made if keep else b.move(node, made, lambda i: i.squeeze(tuple(chosen)))


@handles("upsample_nearest1d.vec", "upsample_nearest2d.vec")
def _nearest(b: Builder, node: Node, x: Value, size: Any, factors: Any) -> Value:
    return _resize(b, node, x, size, factors, "nearest")


@handles("upsample_linear1d.vec", "upsample_bilinear2d.vec")
def _linear(b: Builder, node: Node, x: Value, size: Any, align: bool, factors: Any) -> Value:
    return _resize(b, node, x, size, factors, "align_corners" if align else "linear")


def _resize(b: Builder, node: Node, x: Value, size: Any, factors: Any, mode: str) -> Value:
    """Without a size, PyTorch computes with the factors as they are given, which need not be output / input."""
    out = tuple(size or node.meta["val"].shape[2:])
    if not size and mode != "align_corners":
        for before, factor in zip(x.shape[2:], factors, strict=True):
            if before * factor % 1:
                problem = f"{operation(node)} of {before} values by {factor} is not supported"
                raise unsupported(node, problem, "give size=, or recompute_scale_factor=True")
    return x if out == x.shape[2:] else _layer(b, node, Resize(out, mode), x)
