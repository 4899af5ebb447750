"""The constants of one layer of the integer network, and the codes of a tensor: what edgeticket/integer.py specifies."""

from dataclasses import dataclass
from math import floor, prod

import numpy as np

from edgeticket.errors import UnsupportedError
from edgeticket.model import Float, Model
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
)
from edgeticket.plan import Plan
from edgeticket.reference import activate, pool
from edgeticket.ticket import Input

COPIES = (MaxPool, Flatten)  # they keep codes as they are
TABLES = ("sigmoid", "tanh")
TABLE_UNIT, TABLE_BITS = 2.0**-12, 14
LIMIT = 1 << 31
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
    """The constants of one layer, as a kernel reads them. Per channel: [channels, 1, ...]; AveragePool: [1, *positions]."""

    layer: Layer
    low: int = 0
    high: int = 255
    multiplier: np.ndarray | None = None  # int16; None: the codes are kept
    shift: np.ndarray | None = None  # uint8
    table: np.ndarray | None = None  # int16 [257]: T of sigmoid or tanh
    after: tuple[int, int] = (0, 1)  # m2, e2
    values: np.ndarray | None = None  # int8 [filters, inputs, *kernel]
    bias: np.ndarray | None = None  # int32 [filters]
    factors: tuple[int, ...] = ()  # of an Add, one per input
    unit: np.ndarray | None = None  # float64, real value of one step of acc
    sums: int = 0  # no |acc - bias| is larger


def quantised(model: Model, name: str) -> Codes:
    """The codes of a tensor by its calibrated range. Raises UnsupportedError where it has none."""
    if name not in model.quant:
        raise UnsupportedError(f"tensor {name}: its range is not known: calibrate the activations first")
    return Codes(model.quant[name].scale, model.quant[name].zero_point)


def sensor_codes(sensor: Input) -> Codes:
    """The exact values of an integer sensor. Raises UnsupportedError for an offset that is no integer, or different steps."""
    if any(offset != int(offset) for offset in sensor.offset):
        raise UnsupportedError(
            f"input: an offset of a {sensor.dtype} sensor is not an integer: round it, and search again"
        )
    if not sensor.one_step:
        raise UnsupportedError(
            f"input: the channels of a {sensor.dtype} sensor have different steps: give them one, and search again"
        )
    low, high = SENSORS[sensor.dtype]
    low, high = low - int(max(sensor.offset)), high - int(min(sensor.offset))
    return Codes(sensor.step[0], 0, max(low, -32768), min(high, 32767))


def prepare(model: Model, layer: Layer, sources: list[Codes], target: Codes) -> IntegerLayer:
    """The constants of `layer` from the codes of its inputs to those of its output. Raises UnsupportedError, naming it."""
    op, kind = layer.op, getattr(layer.op, "activation", "none")
    if isinstance(op, COPIES):
        return IntegerLayer(layer, target.low, target.high)
    step = TABLE_UNIT if kind in TABLES else target.scale
    low, high = _clamp(kind, target)
    table, after = _table(kind, target, layer.name)
    if isinstance(op, Add):
        factors, shift, sums = _factors(layer.name, sources, step)
        _check_sums(layer.name, sums)
        one, unit = np.ones(1, np.int16), np.array([step * 2.0**-shift])
        return IntegerLayer(
            layer, low, high, one, np.array([shift], np.uint8), table, after, None, None, factors, unit, sums
        )
    values = bias = None
    if isinstance(op, Conv | Linear):
        values, bias, unit, sums = _weighted(model, layer, sources[0], step)
        _check_sums(layer.name, sums + int(np.abs(bias.astype(np.int64)).max()))
    else:
        unit, sums = _plain(model.plan, layer, sources)
        _check_sums(layer.name, sums)
    multiplier, shifts = fixed_point(unit / step, layer.name)
    return IntegerLayer(layer, low, high, multiplier, shifts, table, after, values, bias, (), unit, sums)


def weight_codes(model: Model, name: str) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and float64 scale per filter; float weights are rounded to +-127 per filter."""
    weights, scale = model.weights[name], model.scale[name].astype(np.float64)
    if not isinstance(weights, Float):
        return weights.values, scale
    step = np.abs(weights.values.astype(np.float64)).reshape(len(scale), -1).max(1) / 127
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
            f"layer {name}: one step of its sums is {np.abs(ratio).max():.3g} codes of its output, more than 2^14: "
            "its activation range is too small, calibrate again"
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
    values = np.where(constant.reshape(-1, *[1] * (values.ndim - 1)), np.int8(0), values)
    unit = np.where(constant, step / 256, unit)
    bias = np.floor(real / unit + 0.5)
    bias = np.where(constant, np.clip(bias, -(2**30), 2**30), bias).astype(np.int32)
    return values, bias, _column(unit, model.plan, layer), int(np.where(constant, 0, sums).max())


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
    assert isinstance(op, Activation)
    return np.array([scale]), reach


def _clamp(kind: str, target: Codes) -> tuple[int, int]:
    low = target.zero_point if kind in ("relu", "relu6") else 0
    six = floor(6 / target.scale + 0.5) + target.zero_point if kind == "relu6" else 255
    return low, min(six, 255)


def _table(kind: str, target: Codes, name: str) -> tuple[np.ndarray | None, tuple[int, int]]:
    if kind not in TABLES:
        return None, (0, 1)
    (m,), (e,) = fixed_point(np.array([2.0**-TABLE_BITS / target.scale]), name)
    knots = activate(kind, np.arange(257) / 16 - 8.0)
    return np.floor(knots * 2.0**TABLE_BITS + 0.5).astype(np.int16), (int(m), int(e))


def _column(values: np.ndarray, plan: Plan, layer: Layer) -> np.ndarray:
    return values.reshape(-1, *[1] * (len(plan.shapes[layer.name]) - 1))
