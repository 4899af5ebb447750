"""The nodes of operations without weights, the same in every precision.

Where opset 13 has several ways, the choice is what ONNX Runtime 1.32 runs fastest on one core of an AVX-512 CPU:
- Norm: BatchNormalization of mean 0 and variance 1, not Mul and Add: 13 against 18 us on 64x28x28 alone, and after a Concat
  or a sum of convolutions it becomes a convolution that keeps their blocked layout, activation included.
- Gather of channels that follow one another: Slice. Others, a shuffle too: Gather: 11 us on 116x28x28, the Reshape, Transpose,
  Reshape that some exporters write 17, and no difference beside convolutions.
- Resize: ONNX's where its float32 coordinates are exact enough; scales of 2 stay in the blocked layout. Else constant
  matrices: the sums are right to a rounding, and faster than Resize up to some 100 pixels.
"""

import numpy as np

from edgeticket.model import Model
from edgeticket.ops import (
    Add,
    AveragePool,
    Concat,
    DepthToSpace,
    Gather,
    GlobalAveragePool,
    Layer,
    Layout,
    Mul,
    Norm,
    Pad,
    Pool,
    PRelu,
    Reshape,
    Resize,
    Shape,
    SpaceToDepth,
)
from edgeticket.reference import resize_matrix
from exporters.graph import Graph
from exporters.nodes import Step, steps, window

COORDINATE_ERROR = 2e-6  # in two directions, between the largest value and its negative: 0.8 of reference.TOLERANCE
MAX_MATRIX = 1 << 20  # elements: larger ones would be most of the file

_MODES = {
    "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "linear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    "align_corners": {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
}


def operation(graph: Graph, model: Model, layer: Layer, inputs: list[str], **named: str) -> str:
    """Add the layer without its activation; the last node is `named` as in `Graph.node`."""
    op, shape = layer.op, model.plan.shapes[layer.inputs[0]]
    last, part = steps(graph, layer.name, **named)
    if isinstance(op, Add | Mul):
        total = inputs[0]
        for other in inputs[1:-1]:
            total = part(type(op).__name__, total, other)
        return last(type(op).__name__, total, inputs[-1])
    if isinstance(op, Concat):
        return last("Concat", *inputs, axis=1)
    (x,) = inputs
    if isinstance(op, Norm):
        return _norm(graph, model, layer.name, x, last)
    if isinstance(op, PRelu):
        slope = model.slope[layer.name].astype(np.float32).reshape(-1, *[1] * (len(shape) - 1))
        return last("PRelu", x, graph.constant(slope, f"{layer.name}_slope"))
    if isinstance(op, Pool):
        return last(type(op).__name__, x, **window(op))
    if isinstance(op, GlobalAveragePool):
        return last("Flatten", part("GlobalAveragePool", x) if len(shape) > 1 else x, axis=1)
    if isinstance(op, Resize):
        return _resize(graph, op, shape, x, last, part)
    if isinstance(op, Layout):
        return _layout(graph, op, model.plan.shapes[layer.name], x, last, part)
    return last("Identity", x)


def _norm(graph: Graph, model: Model, name: str, x: str, last: Step) -> str:
    scale, bias = (values[name].astype(np.float32) for values in (model.scale, model.bias))
    own = graph.constant(scale, f"{name}_scale"), graph.constant(bias, f"{name}_bias")
    mean, variance = (graph.constant(np.full(len(scale), n, np.float32), "statistic") for n in (0, 1))
    return last("BatchNormalization", x, *own, mean, variance, epsilon=0.0)


def _layout(graph: Graph, op: Layout, out: Shape, x: str, last: Step, part: Step) -> str:
    """`out`: the shape of the result."""
    if isinstance(op, Gather):
        first, count = op.channels[0], len(op.channels)
        if op.channels == tuple(range(first, first + count)):
            return last("Slice", x, graph.sizes(first), graph.sizes(first + count), graph.sizes(1))
        return last("Gather", x, graph.sizes(*op.channels), axis=1)
    if isinstance(op, Reshape):
        return last("Reshape", x, graph.sizes(0, *out))
    if isinstance(op, Pad):
        n = len(op.pad) // 2
        return last("Pad", x, graph.sizes(0, 0, *op.pad[:n], 0, 0, *op.pad[n:]))
    if isinstance(op, DepthToSpace):
        return last("DepthToSpace", x, blocksize=op.block, mode="CRD")
    if isinstance(op, SpaceToDepth):  # ONNX's own puts the channels in another order
        channels, height, width = out
        apart = part("Reshape", x, graph.sizes(0, channels // op.block**2, height, op.block, width, op.block))
        return last("Reshape", part("Transpose", apart, perm=[0, 1, 3, 5, 2, 4]), graph.sizes(0, *out))
    return last("Flatten", x, axis=1)


def _resize(graph: Graph, op: Resize, shape: Shape, x: str, last: Step, part: Step) -> str:
    pairs = list(zip(shape[1:], op.size, strict=True))
    if op.mode == "area" and all(size % out == 0 for size, out in pairs):
        kernel = tuple(size // out for size, out in pairs)
        return last("AveragePool", x, **window(AveragePool(kernel, kernel, (0,) * 2 * len(kernel))))
    changed = [(axis, size, out) for axis, (size, out) in enumerate(pairs, 2) if size != out]
    if op.mode in _MODES and all(_exact(op.mode, size, out) for size, out in pairs):
        scales = np.array([1, 1, *(_scale(size, out) for size, out in pairs)], np.float32)
        return last("Resize", x, "", graph.constant(scales, "scales"), **_MODES[op.mode])
    for i, (axis, size, out) in enumerate(changed, 1):
        matrix, step = resize_matrix(size, out, op.mode).astype(np.float32), last if i == len(changed) else part
        if op.mode == "nearest":
            x = step("Gather", x, graph.sizes(*matrix.argmax(1)), axis=axis)
        elif axis == len(shape):
            x = step("MatMul", x, graph.constant(matrix.T, "shares"))
        else:
            x = step("MatMul", graph.constant(matrix, "shares"), x)
    return x


def _scale(size: int, out: int) -> np.float32:
    """Near out / size, and with size * scale rounded down to `out`, as ONNX defines the size of a result."""
    scale = np.float32(out / size)
    return scale if float(scale) * size >= out else np.nextafter(scale, np.float32(np.inf))


def _exact(mode: str, size: int, out: int) -> bool:
    """Whether a Resize that computes its coordinates in float32 gives the shares of `resize_matrix`."""
    if mode == "nearest":
        return out % size == 0
    near = _coordinates(mode, size, out, _scale(size, out))
    off = np.abs(near - _coordinates(mode, size, out, np.float64(out / size))).max()
    return bool(off <= COORDINATE_ERROR) or size * out > MAX_MATRIX


def _coordinates(mode: str, size: int, out: int, scale: np.floating) -> np.ndarray:
    """Where ONNX finds each result, in steps of the input, computed in the type of `scale`."""
    i: np.ndarray = np.arange(out, dtype=scale.dtype)
    return i * (size - 1) / max(out - 1, 1) if mode == "align_corners" else (i + 0.5) / scale - 0.5
