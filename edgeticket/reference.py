"""The slow, obvious network in numpy float64: what every other implementation is compared with."""

from collections.abc import Callable, Iterator, Mapping
from math import ceil, erf, prod

import numpy as np

from edgeticket.errors import DataError, EquivalenceError
from edgeticket.model import Model, Raw
from edgeticket.ops import (
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
    Layout,
    Linear,
    MaxPool,
    Mul,
    Norm,
    Pad,
    Pool,
    PRelu,
    Reshape,
    Resize,
    Shape,
    Weighted,
    leak,
)
from edgeticket.plan import Plan

Tensors = Mapping[str, np.ndarray]
TOLERANCE = 1e-5  # of the largest output, for float32 against this
BATCH_ELEMENTS = 1 << 24  # of a batch at work: 128 MiB of float64

_ERF = np.frompyfunc(erf, 1, 1)
_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": lambda x: _sigmoid(x),
    "tanh": np.tanh,
    "gelu": lambda x: x * (0.5 + 0.5 * _ERF(x / np.sqrt(2)).astype(x.dtype)),
}


def activate(kind: str, x: np.ndarray) -> np.ndarray:
    """The activations of `ops.ACTIVATIONS`; gelu is the exact one (Hendrycks and Gimpel, arXiv 1606.08415)."""
    slope = leak(kind)
    return _ACTIVATIONS[kind](x) if slope is None else np.where(x > 0, x, slope * x)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def padded(x: np.ndarray, pad: Shape, fill: float = 0) -> np.ndarray:
    """[batch, channels, *size] with `fill` around, in ONNX's order; negative: cut off."""
    n = len(pad) // 2
    x = np.pad(x, [(0, 0), (0, 0), *((max(pad[i], 0), max(pad[n + i], 0)) for i in range(n))], constant_values=fill)
    cuts = (slice(max(-pad[i], 0), x.shape[2 + i] - max(-pad[n + i], 0)) for i in range(n))
    return x[(slice(None), slice(None), *cuts)]


def windows(x: np.ndarray, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape, fill: float) -> np.ndarray:
    """[batch, channels, *out, *kernel]: what each output of a sliding operation reads; padding reads as `fill`."""
    n = len(kernel)
    span = tuple(dilation[i] * (kernel[i] - 1) + 1 for i in range(n))
    view = np.lib.stride_tricks.sliding_window_view(padded(x, pad, fill), span, axis=tuple(range(2, 2 + n)))
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in (*stride, *dilation)))
    return view[steps]


def multiply(op: Weighted, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The sums of a weighted layer without scale and bias; `x` is what padding-by-zero leaves right."""
    if isinstance(op, Linear):
        return x @ weight.T
    if isinstance(op, ConvTranspose):
        return _transposed(op, weight, x)
    n, groups = len(op.kernel), op.groups
    view = windows(x, op.kernel, op.stride, op.pad, op.dilation, 0)
    batch, channels, *out = view.shape[: 2 + n]
    axes = (0, *range(2, 2 + n), 1, *range(2 + n, 2 + 2 * n))
    parts = []
    for g in range(groups):
        own = view[:, g * channels // groups : (g + 1) * channels // groups].transpose(axes)
        filters = weight[g * op.out // groups : (g + 1) * op.out // groups]
        parts.append(own.reshape(batch, *out, -1) @ filters.reshape(len(filters), -1).T)
    return np.moveaxis(np.concatenate(parts, -1), -1, 1)


def _transposed(op: ConvTranspose, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A convolution of the input with stride - 1 zeros between its values, by the mirrored kernel."""
    n = len(op.kernel)
    spread = np.zeros(
        (*x.shape[:2], *(s * (size - 1) + 1 for s, size in zip(op.stride, x.shape[2:], strict=True))), x.dtype
    )
    spread[(slice(None), slice(None), *(slice(None, None, s) for s in op.stride))] = x
    around = [op.kernel[i] - 1 - op.pad[i] for i in range(n)]
    around += [op.kernel[i] - 1 - op.pad[n + i] + op.out_pad[i] for i in range(n)]
    plain = Conv(op.out, op.kernel, (1,) * n, (0,) * 2 * n, (1,) * n)
    return multiply(plain, np.flip(weight, tuple(range(2, 2 + n))), padded(spread, tuple(around)))


def resize_matrix(size: int, out: int, mode: str) -> np.ndarray:
    """float64 [out, size]: how much of each value each result of a Resize along one direction is."""
    matrix, rows = np.zeros((out, size)), np.arange(out)
    if mode == "area":
        for i in rows.tolist():
            first, last = i * size // out, ceil((i + 1) * size / out)
            matrix[i, first:last] = 1 / (last - first)
        return matrix
    if mode == "nearest":
        matrix[rows, rows * size // out] = 1
        return matrix
    at = (
        rows * (size - 1) / max(out - 1, 1)
        if mode == "align_corners"
        else np.maximum((rows + 0.5) * size / out - 0.5, 0)
    )
    low = np.minimum(np.floor(at).astype(int), size - 1)
    np.add.at(matrix, (rows, low), 1 - (at - low))
    np.add.at(matrix, (rows, np.minimum(low + 1, size - 1)), at - low)
    return matrix


def along(matrices: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """`x` [batch, channels, *size] with a matrix applied in each direction."""
    for axis, matrix in enumerate(matrices, 2):
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ matrix.T, -1, axis)
    return x


def rearrange(op: Layout, x: np.ndarray, fill: float = 0) -> np.ndarray:
    """An operation that moves values and changes none; padding reads as `fill`."""
    if isinstance(op, Gather):
        return x[:, list(op.channels)]
    if isinstance(op, Flatten):
        return x.reshape(len(x), -1)
    if isinstance(op, Reshape):
        return x.reshape(len(x), -1, *op.spatial)
    if isinstance(op, Pad):
        return padded(x, op.pad, fill)
    batch, channels, height, width = x.shape
    b = op.block
    if isinstance(op, DepthToSpace):
        apart = x.reshape(batch, channels // b**2, b, b, height, width)
        return apart.transpose(0, 1, 4, 2, 5, 3).reshape(batch, channels // b**2, height * b, width * b)
    apart = x.reshape(batch, channels, height // b, b, width // b, b)
    return apart.transpose(0, 1, 3, 5, 2, 4).reshape(batch, channels * b**2, height // b, width // b)


def _per_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.astype(np.float64).reshape(-1, *[1] * (x.ndim - 2))


def _step(model: Model, layer: Layer, inputs: list[np.ndarray]) -> np.ndarray:
    op, x = layer.op, inputs[0]
    if isinstance(op, Weighted | Norm):
        y = x if isinstance(op, Norm) else multiply(op, model.weights[layer.name].values.astype(np.float64), x)
        y = y * _per_channel(model.scale[layer.name], y) + _per_channel(model.bias[layer.name], y)
        return activate(op.activation, y)
    if isinstance(op, PRelu):
        return np.where(x > 0, x, x * _per_channel(model.slope[layer.name], x))
    if isinstance(op, Add):
        return activate(op.activation, sum(inputs[1:], x))
    if isinstance(op, Mul):
        return np.prod(np.broadcast_arrays(*inputs), axis=0)
    if isinstance(op, Concat):
        return np.concatenate(inputs, 1)
    if isinstance(op, Activation):
        return activate(op.activation, x)
    if isinstance(op, MaxPool):
        return pool(op, x, np.max, -np.inf)
    if isinstance(op, AveragePool):
        return pool(op, x, np.sum) / pool(op, np.ones_like(x[:1]), np.sum)
    if isinstance(op, Resize):
        return along([resize_matrix(size, out, op.mode) for size, out in zip(x.shape[2:], op.size, strict=True)], x)
    return x.reshape(*x.shape[:2], -1).mean(-1) if isinstance(op, GlobalAveragePool) else rearrange(op, x)


def pool(op: Pool, x: np.ndarray, reduce: Callable[..., np.ndarray], fill: float = 0) -> np.ndarray:
    """[batch, channels, *out]: `reduce` (np.max, np.sum) of each window of `x`; padding reads as `fill`."""
    n = len(op.kernel)
    return reduce(windows(x, op.kernel, op.stride, op.pad, (1,) * n, fill), axis=tuple(range(-n, 0)))


def feed(plan: Plan, raw: Raw) -> dict[str, np.ndarray]:
    """`raw` by the plan's inputs. Raises DataError unless it is a batch for each of them."""
    given = raw if isinstance(raw, Mapping) else dict(zip(plan.inputs, [raw], strict=False))
    if set(given) != set(plan.inputs) or len({len(values) for values in given.values()}) != 1:
        raise DataError(
            f"data {', '.join(given)} for a network that reads {', '.join(plan.inputs)}: give as many of each"
        )
    for name, shape in plan.inputs.items():
        if given[name].shape[1:] != tuple(shape):
            raise DataError(
                f"data of shape {'x'.join(map(str, given[name].shape[1:]))} for a network that reads "
                f"{'x'.join(map(str, shape))}: choose the data or the network to fit"
            )
    return {name: given[name] for name in plan.inputs}


def run_all(model: Model, raw: Raw, gates: Tensors | None = None) -> dict[str, np.ndarray]:
    """Every tensor for raw sensor values [batch, *input shape]; `gates`: bool per channel, False makes a channel 0."""
    tensors = {name: model.inputs[name].apply(values, np.float64) for name, values in feed(model.plan, raw).items()}
    for layer in model.plan.layers:
        y = _step(model, layer, [tensors[name] for name in layer.inputs])
        tensors[layer.name] = y * _per_channel(gates[layer.name], y) if gates else y
    return tensors


def batches(plan: Plan, raw: Raw) -> Iterator[dict[str, np.ndarray]]:
    """`raw` in parts whose tensors and largest window array have at most BATCH_ELEMENTS elements, or of one example each."""
    given = feed(plan, raw)
    views = (prod(plan.weight_shape(layer)[1:]) * prod(plan.shapes[layer.name][1:]) for layer in plan.weighted())
    each = sum(map(prod, plan.shapes.values())) + max(views, default=0)
    size = max(1, BATCH_ELEMENTS // each)
    count = len(next(iter(given.values())))
    return ({name: values[i : i + size] for name, values in given.items()} for i in range(0, count, size))


def run_outputs(model: Model, raw: Raw, *, gates: Tensors | None = None) -> list[np.ndarray]:
    """Every output, float64 [batch, ...], computed a batch at a time; a regression's in the units of its targets."""
    parts = []
    for part in batches(model.plan, raw):
        made = run_all(model, part, gates)
        parts.append([made[name] for name in model.plan.outputs])
    first, *others = (np.concatenate(output) for output in zip(*parts, strict=True))
    return [model.in_units(first), *others]


def run(model: Model, raw: Raw, *, gates: Tensors | None = None) -> np.ndarray:
    """The first output."""
    return run_outputs(model, raw, gates=gates)[0]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference as a fraction of the largest magnitude of `b`, the reference."""
    return float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-30))


def require_equal(what: str, a: np.ndarray, b: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """The difference; raises EquivalenceError when it is above `tolerance` or not a number."""
    off = difference(a, b)
    if not off <= tolerance:
        raise EquivalenceError(f"{what}: outputs differ by {off:.2g} of the largest, {tolerance:.0e} is allowed")
    return off
