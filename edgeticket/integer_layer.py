"""The constants of one layer of the integer network, and the codes of a tensor: what edgeticket/integer.py specifies."""

from dataclasses import dataclass, replace
from functools import reduce
from math import floor, prod
from typing import Any

import numpy as np

from edgeticket.errors import UnsupportedError
from edgeticket.model import Float, Model
from edgeticket.ops import (
    SCALED,
    Activation,
    Add,
    AveragePool,
    Concat,
    GlobalAveragePool,
    Layer,
    Layout,
    MaxPool,
    Mul,
    Op,
    PRelu,
    Resize,
    leak,
)
from edgeticket.plan import Plan
from edgeticket.reference import activate, pool, resize_matrix
from edgeticket.ticket import Input

RESIDUALS = ("silu", "gelu", "hard_swish")  # near max(x, 0): the table holds the difference
TABLES = ("sigmoid", "tanh", "hard_sigmoid", *RESIDUALS)
TABLE_UNIT, TABLE_BITS = 2.0**-12, 14
TABLE_LIMITS = (2.0**-10, 2.0**-11)
NORM_STEPS = 256  # a Norm's bias is rounded to this part of a step of its input
RESIZE_BITS = 11
LIMIT = 1 << 31
SMALLEST_STEP = 2.0**-14 + 2.0**-24  # of an output, in units of acc: ratios stay under 2^14
SENSORS = {"uint8": (0, 255), "int16": (-32768, 32767)}


@dataclass(frozen=True)
class Codes:
    """The integers of a tensor: real = (code - zero_point) * scale, low <= code <= high."""

    scale: float
    zero_point: int
    low: int = 0
    high: int = 255

    @property
    def dtype(self) -> type:
        return np.uint8 if self.low >= 0 and self.high <= 255 else np.int16

    @property
    def reach(self) -> int:
        """Largest magnitude of code - zero_point."""
        return max(self.high - self.zero_point, self.zero_point - self.low)


@dataclass(frozen=True)
class IntegerLayer:
    """The constants of one layer, as a kernel reads them.

    Per channel: [channels, 1, ...]. AveragePool, and Resize of mode area: [1, *positions].
    """

    layer: Layer
    low: int = 0
    high: int = 255
    multiplier: np.ndarray | None = None  # int16; None: the codes are kept
    shift: np.ndarray | None = None  # uint8
    below: tuple[np.ndarray, np.ndarray] | None = None  # the same where acc < 0 (PRelu), or of the slope (leaky_relu)
    table: np.ndarray | None = None  # int16 [257, 513 or 1025]: T
    after: tuple[int, int] = (0, 1)  # m2, e2
    values: np.ndarray | None = None  # int8 [filters, inputs, *kernel]; of a Norm int16 [channels]
    bias: np.ndarray | None = None  # int32 [filters]
    factors: tuple[int, ...] = ()  # of an Add, one per input
    matrices: tuple[np.ndarray, ...] = ()  # of a Resize, int16 [out, size], one per direction
    unit: np.ndarray | None = None  # float64, real value of one step of acc
    sums: int = 0  # no |acc - bias| is larger


def keeps_codes(op: Op) -> bool:
    """Whether the output has the codes, and the quantisation, of the input."""
    return isinstance(op, MaxPool | Layout) or (isinstance(op, Resize) and op.mode == "nearest")


def quantised(model: Model, name: str) -> Codes:
    """The codes of a tensor by its calibrated range. Raises UnsupportedError where it has none."""
    if name not in model.quant:
        raise UnsupportedError(f"tensor {name}: its range is not known: calibrate the activations first")
    return Codes(model.quant[name].scale, model.quant[name].zero_point)


def sensor_codes(name: str, sensor: Input) -> Codes:
    """The exact values of input `name`, an integer sensor.

    Raises UnsupportedError for an offset that is no integer, or different steps.
    """
    if any(offset != int(offset) for offset in sensor.offset):
        raise UnsupportedError(
            f"input {name}: an offset of a {sensor.dtype} sensor is not an integer: round it, and search again"
        )
    if not sensor.one_step:
        raise UnsupportedError(
            f"input {name}: the channels of a {sensor.dtype} sensor have different steps: give them one, and search again"
        )
    low, high = SENSORS[sensor.dtype]
    low, high = low - int(max(sensor.offset)), high - int(min(sensor.offset))
    return Codes(sensor.step[0], 0, max(low, -32768), min(high, 32767))


def prepare(model: Model, layer: Layer, sources: list[Codes], target: Codes) -> IntegerLayer:
    """The constants of `layer` from the codes of its inputs to those of its output. Raises UnsupportedError, naming it."""
    op, kind = layer.op, getattr(layer.op, "activation", "none")
    if keeps_codes(op):
        return IntegerLayer(layer, target.low, target.high)
    step = TABLE_UNIT * 2.0 ** -_finer(target) if kind in TABLES else target.scale
    base = IntegerLayer(layer, *_clamp(kind, target), **_activation(model, layer, sources[0], target))
    if isinstance(op, Add):
        factors, shift, sums = _factors(layer.name, sources, step)
        unit, one = np.array([step * 2.0**-shift]), np.ones(1, np.int16)
        made = replace(base, multiplier=one, shift=np.array([shift], np.uint8), factors=factors, unit=unit, sums=sums)
    elif isinstance(op, SCALED):
        values, bias, unit, sums = _weighted(model, layer, sources[0], step)
        made = replace(base, values=values, bias=bias, unit=unit, sums=sums)
    else:
        unit, sums = _plain(model.plan, layer, sources)
        made = replace(base, matrices=_matrices(model.plan, layer, sources[0]), unit=unit, sums=sums)
    _check_sums(layer.name, made.sums)
    if made.multiplier is not None:
        return made
    multiplier, shifts = fixed_point(unit / step, layer.name)
    return replace(made, multiplier=multiplier, shift=shifts)


def target_codes(model: Model, layer: Layer, sources: list[Codes]) -> Codes:
    """The codes of the layer's output: of its calibrated range, or of the smallest one that multipliers can express.

    Raises UnsupportedError where the range is not known.
    """
    op, source = layer.op, sources[0]
    if keeps_codes(op):
        return source
    own = quantised(model, layer.name)
    if getattr(op, "activation", "none") in TABLES:
        return own
    if isinstance(op, SCALED):
        largest = source.scale * np.abs(weight_codes(model, layer.name)[1]).max()
    elif isinstance(op, PRelu):
        largest = source.scale * max(1, np.abs(model.slope[layer.name]).max())
    elif isinstance(op, Add):
        largest = max(one.scale for one in sources)
    else:
        largest = _plain(model.plan, layer, sources)[0].max()
    return replace(own, scale=max(own.scale, float(np.float32(largest * SMALLEST_STEP))))


def weight_codes(model: Model, name: str) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and float64 scale per filter, 0 where it has no values but 0; of a Norm its factors.

    Float weights are rounded to +-127 per filter.
    """
    scale = model.scale[name].astype(np.float64)
    if name not in model.weights:
        return np.full(len(scale), NORM_STEPS, np.int16), scale / NORM_STEPS
    weights = model.weights[name]
    largest = np.abs(weights.values.astype(np.float64)).reshape(len(scale), -1).max(1)
    if not isinstance(weights, Float):
        return weights.values, np.where(largest > 0, scale, 0)
    step = largest / 127
    column = np.where(step > 0, step, 1).reshape(-1, *[1] * (weights.values.ndim - 1))
    return np.floor(weights.values / column + 0.5).astype(np.int8), scale * step


def fixed_point(ratio: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """int16 m and uint8 e with m / 2^e = ratio; raises UnsupportedError for ratios of 2^14 and more."""
    fraction, exponent = np.frexp(np.abs(ratio))
    m = np.floor(fraction * 2**15 + 0.5)
    e = 15 - exponent - (m == 2**15)
    m = np.where(m == 2**15, 2**14, m)
    tiny = (e > 46) | (m == 0)
    m, e = np.where(tiny, 0, m), np.where(tiny, 1, e)
    if e.min() < 1:
        raise UnsupportedError(
            f"layer {name}: one step of its sums is {np.abs(ratio).max():.3g} steps of its output, more than 2^14: "
            "the range of its input is too large, or of its output too small: calibrate again"
        )
    return (np.copysign(m, ratio)).astype(np.int16), e.astype(np.uint8)


def _check_sums(name: str, bound: int) -> None:
    if bound >= LIMIT:
        raise UnsupportedError(
            f"layer {name}: its sums may pass 2^31: make it narrower, or the range of its input smaller"
        )


def _weighted(model: Model, layer: Layer, source: Codes, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """values, bias, unit and the bound of the sums."""
    values, scale = weight_codes(model, layer.name)
    unit, real = source.scale * scale, model.bias[layer.name].astype(np.float64)
    sums = np.abs(values.astype(np.int64)).reshape(len(values), -1).sum(1) * source.reach
    _check_sums(layer.name, int(sums.max()))
    with np.errstate(divide="ignore", invalid="ignore"):
        constant = ~(np.abs(real / unit) + sums < LIMIT - 1)
    if (np.abs(unit) * sums / step)[constant].max(initial=0) > 1:
        raise UnsupportedError(
            f"layer {layer.name}: a bias does not fit 31 bits beside the sums of its filter: train again"
        )
    values = np.where(constant.reshape(-1, *[1] * (values.ndim - 1)), values.dtype.type(0), values)
    unit = np.where(constant, step / 256, unit)
    bias = np.floor(real / unit + 0.5)
    bias = np.where(constant, np.clip(bias, -(2**30), 2**30), bias).astype(np.int32)
    return values, bias, _column(unit, model.plan, layer), int(np.where(constant, 0, sums).max())


def _matrices(plan: Plan, layer: Layer, source: Codes) -> tuple[np.ndarray, ...]:
    """Of a Resize, int16: what falls in (area), or shares in steps of 2^-b."""
    op, size = layer.op, plan.shapes[layer.inputs[0]][1:]
    if not isinstance(op, Resize):
        return ()
    shares = [resize_matrix(own, out, op.mode) for own, out in zip(size, op.size, strict=True)]
    if op.mode == "area":
        return tuple((share > 0).astype(np.int16) for share in shares)
    return tuple(_rounded(share, _resize_bits(len(size), source)) for share in shares)


def _resize_bits(directions: int, source: Codes) -> int:
    return min(RESIZE_BITS, (30 - source.reach.bit_length()) // directions)


def _rounded(share: np.ndarray, bits: int) -> np.ndarray:
    """int16 steps of 2^-bits; the first share of a row that is not 0 takes what the others leave of 1."""
    steps, rows = np.floor(share * 2.0**bits + 0.5).astype(np.int16), np.arange(len(share))
    steps[rows, (share > 0).argmax(1)] += (1 << bits) - steps.sum(1, dtype=np.int16)
    return steps


def _factors(name: str, sources: list[Codes], step: float) -> tuple[tuple[int, ...], int, int]:
    """The factors of an Add, its shift, and the bound of its sum."""
    ratios = np.array([own.scale / step for own in sources])
    shift = int(fixed_point(ratios.max(keepdims=True), name)[1][0])
    factors = tuple(int(f) for f in np.floor(ratios * 2.0**shift + 0.5))
    return factors, shift, sum(f * own.reach for f, own in zip(factors, sources, strict=True))


def _plain(plan: Plan, layer: Layer, sources: list[Codes]) -> tuple[np.ndarray, int]:
    """Unit and bound of the sums of an operation without constants of its own."""
    op, scale, reach = layer.op, sources[0].scale, sources[0].reach
    shape = plan.shapes[layer.inputs[0]]
    if isinstance(op, Mul):
        return np.array([prod(own.scale for own in sources)]), prod(own.reach for own in sources)
    if isinstance(op, Concat):
        unit = np.repeat([own.scale for own in sources], [plan.shapes[name][0] for name in layer.inputs])
        return _column(unit, plan, layer), max(own.reach for own in sources)
    if isinstance(op, AveragePool):
        counts = pool(op, np.ones((1, 1, *shape[1:])), np.sum)[0]  # [1, *positions]: what is not padding
        return scale / counts, int(counts.max()) * reach
    if isinstance(op, GlobalAveragePool):
        return np.array([scale / prod(shape[1:])]), prod(shape[1:]) * reach
    if isinstance(op, Resize) and op.mode == "area":
        counts = reduce(np.multiply.outer, [m.sum(1, dtype=np.int64) for m in _matrices(plan, layer, sources[0])])
        return scale / counts[None], int(counts.max()) * reach
    if isinstance(op, Resize):
        bits = _resize_bits(len(op.size), sources[0]) * len(op.size)
        return np.array([scale * 2.0**-bits]), reach << bits
    assert isinstance(op, Activation | PRelu)
    return np.array([scale]), reach


def _clamp(kind: str, target: Codes) -> tuple[int, int]:
    low = target.zero_point if kind in ("relu", "relu6") else 0
    six = floor(6 / target.scale + 0.5) + target.zero_point if kind == "relu6" else 255
    return low, min(six, 255)


def _activation(model: Model, layer: Layer, source: Codes, target: Codes) -> dict[str, Any]:
    """`below`, `table` and `after` of the layer, where it has them."""
    kind = getattr(layer.op, "activation", "none")
    slope = leak(kind)
    if isinstance(layer.op, PRelu):
        ratio = model.slope[layer.name].astype(np.float64) * source.scale / target.scale
        return {"below": fixed_point(_column(ratio, model.plan, layer), layer.name)}
    if slope is not None:
        m, e = fixed_point(np.array([slope]), layer.name)
        return {"below": (m, e) if e[0] <= 30 else (np.zeros_like(m), np.ones_like(e))}
    if kind not in TABLES:
        return {}
    k = _finer(target)
    bits = TABLE_BITS + (k if kind in RESIDUALS else 0)
    (m2,), (e2,) = fixed_point(np.array([2.0**-bits / target.scale]), layer.name)
    x = np.arange((256 << k) + 1) / (16 << k) - 8.0
    knots = activate(kind, x)
    if kind in RESIDUALS:
        knots -= np.maximum(x, 0)
        knots[[0, -1]] = 0
    return {"table": np.floor(knots * 2.0**bits + 0.5).astype(np.int16), "after": (int(m2), int(e2))}


def _finer(target: Codes) -> int:
    """How often the steps of a table are halved, for an output with small steps of its own."""
    return sum(target.scale < limit for limit in TABLE_LIMITS)


def _column(values: np.ndarray, plan: Plan, layer: Layer) -> np.ndarray:
    return values.reshape(-1, *[1] * (len(plan.shapes[layer.name]) - 1))
