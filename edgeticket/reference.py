"""The slow, obvious network in numpy float64: what every other implementation is compared with."""

from collections.abc import Callable, Iterator, Mapping
from math import prod

import numpy as np

from edgeticket.errors import DataError, EquivalenceError
from edgeticket.model import Model
from edgeticket.ops import (
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv,
    Flatten,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool,
    Mul,
    Shape,
)
from edgeticket.plan import Plan

Tensors = Mapping[str, np.ndarray]
TOLERANCE = 1e-5  # of the largest output, for float32 against this
BATCH_ELEMENTS = 1 << 24  # of a batch at work: 128 MiB of float64


def activate(kind: str, x: np.ndarray) -> np.ndarray:
    """The activations of `plan.ACTIVATIONS`."""
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "relu6":
        return np.clip(x, 0, 6)
    if kind == "leaky_relu":
        return np.where(x > 0, x, 0.01 * x)
    if kind == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if kind == "tanh":
        return np.tanh(x)
    return x


def windows(x: np.ndarray, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape, fill: float) -> np.ndarray:
    """[batch, channels, *out, *kernel]: what each output of a sliding operation reads; padding reads as `fill`."""
    n = len(kernel)
    x = np.pad(x, [(0, 0), (0, 0), *((pad[i], pad[n + i]) for i in range(n))], constant_values=fill)
    span = tuple(dilation[i] * (kernel[i] - 1) + 1 for i in range(n))
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=tuple(range(2, 2 + n)))
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in (*stride, *dilation)))
    return view[steps]


def multiply(op: Conv | Linear, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The sums of a Conv or Linear without scale and bias; `x` is what padding-by-zero leaves right."""
    if isinstance(op, Linear):
        return x @ weight.T
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


def _per_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.astype(np.float64).reshape(-1, *[1] * (x.ndim - 2))


def _step(model: Model, layer: Layer, inputs: list[np.ndarray]) -> np.ndarray:
    op, x = layer.op, inputs[0]
    if isinstance(op, Conv | Linear):
        y = multiply(op, model.weights[layer.name].values.astype(np.float64), x)
        y = y * _per_channel(model.scale[layer.name], y) + _per_channel(model.bias[layer.name], y)
        return activate(op.activation, y)
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
    if isinstance(op, GlobalAveragePool):
        return x.reshape(*x.shape[:2], -1).mean(-1)
    assert isinstance(op, Flatten)
    return x.reshape(len(x), -1)


def pool(op: MaxPool | AveragePool, x: np.ndarray, reduce: Callable[..., np.ndarray], fill: float = 0) -> np.ndarray:
    """[batch, channels, *out]: `reduce` (np.max, np.sum) of each window of `x`; padding reads as `fill`."""
    n = len(op.kernel)
    return reduce(windows(x, op.kernel, op.stride, op.pad, (1,) * n, fill), axis=tuple(range(-n, 0)))


def check_raw(plan: Plan, raw: np.ndarray) -> None:
    """Raise DataError unless `raw` is a batch for the plan's input."""
    (shape,) = plan.inputs.values()
    if raw.shape[1:] != tuple(shape):
        raise DataError(
            f"data of shape {'x'.join(map(str, raw.shape[1:]))} for a network that reads {'x'.join(map(str, shape))}: "
            "choose the data or the network to fit"
        )


def run_all(model: Model, raw: np.ndarray, gates: Tensors | None = None) -> dict[str, np.ndarray]:
    """Every tensor for raw sensor values [batch, *input shape]; `gates`: bool per channel, False makes a channel 0."""
    check_raw(model.plan, raw)
    tensors = {name: model.input.apply(raw, np.float64) for name in model.plan.inputs}
    for layer in model.plan.layers:
        y = _step(model, layer, [tensors[name] for name in layer.inputs])
        tensors[layer.name] = y * _per_channel(gates[layer.name], y) if gates else y
    return tensors


def batches(plan: Plan, raw: np.ndarray) -> Iterator[np.ndarray]:
    """`raw` in parts whose tensors and largest window array have at most BATCH_ELEMENTS elements, or of one example each."""
    views = (prod(plan.weight_shape(layer)[1:]) * plan.positions(layer.name) for layer in plan.weighted())
    each = sum(map(prod, plan.shapes.values())) + max(views, default=0)
    size = max(1, BATCH_ELEMENTS // each)
    return (raw[i : i + size] for i in range(0, len(raw), size))


def run(model: Model, raw: np.ndarray, *, gates: Tensors | None = None) -> np.ndarray:
    """The first output, float64 [len(raw), ...], a batch at a time."""
    name = model.plan.outputs[0]
    return np.concatenate([run_all(model, part, gates)[name] for part in batches(model.plan, raw)])


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference as a fraction of the largest magnitude of `b`, the reference."""
    return float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-30))


def require_equal(what: str, a: np.ndarray, b: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """The difference; raises EquivalenceError when it is above `tolerance` or not a number."""
    off = difference(a, b)
    if not off <= tolerance:
        raise EquivalenceError(f"{what}: outputs differ by {off:.2g} of the largest, {tolerance:.0e} is allowed")
    return off
