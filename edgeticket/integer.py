"""The integer network: the specification that every integer implementation computes bit for bit.

All arithmetic is on integers; `>>` is the arithmetic shift (it rounds down) and `round(t)` of a constant is floor(t + 1/2).

Tensors. A tensor holds codes: real = (code - zero_point) * scale, from the ticket's quantisation, codes 0..255 (uint8).
Every operation reads values v = code - zero_point, so padding is v = 0. The exceptions:
- an integer sensor (uint8, int16) is not quantised: v = clamp(raw - offset[channel], -32768, 32767), scale = input step,
  zero_point = 0. Saturation is possible for int16 sensors with an offset only;
- a float sensor, or any with `quantise_input`: code = clamp(floor(x / scale + 1/2) + zero_point, 0, 255) where
  x = (raw - offset[channel]) * step, in this order in IEEE double: the only floating point there is;
- MaxPool and Flatten keep the codes, and so the quantisation, of what they read.

Sums. Each operation makes an int32 `acc` per output; one step of it is worth `unit` (a real number):
  Conv, Linear        acc = bias + sum of values * v        unit = s_x * scale[filter]
  Add                 acc = sum of factor[i] * v_i          unit = s_p / 2^e (below)
  Mul                 acc = product of v_i                  unit = product of s_i
  Concat, Activation  acc = v                               unit = s_i of the operand that the channel comes from
  AveragePool, GlobalAveragePool   acc = sum of v           unit = s_x / (elements in the window, padding not counted)
bias = round(b / unit). |acc| < 2^31 is proven from the weights and the ranges when the network is prepared.
A filter whose bias does not fit beside its sums (scale 0 or nearly) can't be moved by them: it is constant. Its values are
zero here (an exporter of masks drops the filter's mask), unit = s_p / 256, bias = round(b / unit) within +-2^30.
Float weights (trained controls) are first rounded per filter to round(w * 127 / max|w|).

Requantisation. p = (acc * m + 2^(e - 1)) >> e, with m, e per channel (AveragePool: per position) and m / 2^e = unit / s_p:
m is an int16 with 2^14 <= |m| < 2^15 and the sign of the scale, 1 <= e <= 46, acc * m takes 47 bits. Ratios under 2^-32 give
m = 0, e = 1, which is exact: no acc reaches half a code. Two bytes are enough: m is off by at most 2^-15, 0.008 code.
Add: the largest of s_i / s_p sets e, factor[i] = round(s_i / s_p * 2^e), m = 1.

Activation and output, s_p = s_y except for tables:
  none, relu, relu6   code = clamp(zero_point + p, low, high): 0..255, relu from zero_point, relu6 to + round(6 / s_y)
  leaky_relu          p = clamp(p, -32768, 32767); if p < 0: p = (p * 20972 + 2^20) >> 21; then as none
  sigmoid, tanh       s_p = 2^-12; t = clamp(p, -32768, 32767) + 32768; i = t >> 8; f = t & 255;
                      h = (T[i] * (256 - f) + T[i + 1] * f + 128) >> 8, T[0..256] = round(function(i / 16 - 8) * 2^14);
                      code = clamp(zero_point + ((h * m2 + 2^(e2 - 1)) >> e2), 0, 255) with m2 / 2^e2 = 2^-14 / s_y
"""

from dataclasses import dataclass
from math import floor, prod

import numpy as np

from edgeticket.errors import DataError, UnsupportedError
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
    Shape,
)
from edgeticket.plan import Plan
from edgeticket.reference import activate, check_raw, multiply, windows
from edgeticket.ticket import Input

COPIES = (MaxPool, Flatten)  # they keep codes as they are
TABLES = ("sigmoid", "tanh")
TABLE_UNIT, TABLE_BITS = 2.0**-12, 14
LEAK, LEAK_SHIFT = 20972, 21
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


@dataclass(frozen=True)
class IntegerModel:
    plan: Plan
    input: Input
    tensors: dict[str, Codes]
    layers: tuple[IntegerLayer, ...]
    exact_input: bool  # the first layers read the sensor's integers


def integerise(model: Model, *, quantise_input: bool = False) -> IntegerModel:
    """Prepare every constant. Raises UnsupportedError, naming the layer, where one leaves its range."""
    exact = model.input.dtype in SENSORS and not quantise_input
    tensors = {name: _sensor(model.input) if exact else _quantised(model, name) for name in model.plan.inputs}
    layers = []
    for layer in model.plan.layers:
        sources = [tensors[name] for name in layer.inputs]
        tensors[layer.name] = sources[0] if isinstance(layer.op, COPIES) else _quantised(model, layer.name)
        layers.append(_prepare(model, layer, sources, tensors[layer.name]))
    return IntegerModel(model.plan, model.input, tensors, tuple(layers), exact)


def run(model: IntegerModel, raw: np.ndarray, *, batch: int = 256) -> np.ndarray:
    """Codes of the first output for raw sensor values [batch, *input shape], a batch at a time."""
    name = model.plan.outputs[0]
    return np.concatenate([run_all(model, raw[i : i + batch])[name] for i in range(0, len(raw), batch)])


def run_all(model: IntegerModel, raw: np.ndarray) -> dict[str, np.ndarray]:
    """Codes of every tensor. Raises DataError for values that the sensor can't give."""
    check_raw(model.plan, raw)
    tensors = {name: input_codes(model, raw) for name in model.plan.inputs}
    for record in model.layers:
        tensors[record.layer.name] = run_layer(model, record, [tensors[name] for name in record.layer.inputs])
    return tensors


def dequantise(model: IntegerModel, name: str, codes: np.ndarray) -> np.ndarray:
    """float64 values of the codes of tensor `name`."""
    own = model.tensors[name]
    return (codes.astype(np.float64) - own.zero_point) * own.scale


def input_codes(model: IntegerModel, raw: np.ndarray) -> np.ndarray:
    """What the first layers read."""
    own, sensor = model.tensors[next(iter(model.plan.inputs))], model.input
    if sensor.dtype in SENSORS:
        low, high = SENSORS[sensor.dtype]
        if not np.issubdtype(raw.dtype, np.integer) or (raw.size and (raw.min() < low or raw.max() > high)):
            raise DataError(f"{raw.dtype} values for a {sensor.dtype} sensor: give its raw integers, {low} to {high}")
    elif not np.isfinite(raw).all():
        raise DataError("the data hold a value that is not finite: remove it or fill it in")
    x = raw.astype(np.float64) - np.array(sensor.offset).reshape(-1, *[1] * (raw.ndim - 2))
    if not model.exact_input:
        x = np.floor(x * sensor.step / own.scale + 0.5) + own.zero_point
    return np.clip(x, own.low, own.high).astype(own.dtype)


def run_layer(model: IntegerModel, record: IntegerLayer, inputs: list[np.ndarray]) -> np.ndarray:
    """Codes of one layer for the codes of its inputs."""
    op, target = record.layer.op, model.tensors[record.layer.name]
    if isinstance(op, Flatten):
        return inputs[0].reshape(len(inputs[0]), -1)
    if isinstance(op, MaxPool):
        one = (1,) * len(op.kernel)
        axes = tuple(range(-len(op.kernel), 0))
        return windows(inputs[0], op.kernel, op.stride, op.pad, one, target.low).max(axes)
    # Every sum stays below 2^24 or 2^53, so floating point holds it exactly, in any order.
    exact = np.float32 if record.sums < 1 << 24 else np.float64
    sources = [model.tensors[name] for name in record.layer.inputs]
    values = [
        codes.astype(exact) - np.asarray(own.zero_point, exact) for codes, own in zip(inputs, sources, strict=True)
    ]
    return _finish(record, _sums(record, values).astype(np.float64), target.zero_point)


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


def _quantised(model: Model, name: str) -> Codes:
    if name not in model.quant:
        raise UnsupportedError(f"tensor {name}: its range is not known: calibrate the activations first")
    return Codes(model.quant[name].scale, model.quant[name].zero_point)


def _sensor(sensor: Input) -> Codes:
    if any(offset != int(offset) for offset in sensor.offset):
        raise UnsupportedError(
            f"input: an offset of a {sensor.dtype} sensor is not an integer: round it, and search again"
        )
    low, high = SENSORS[sensor.dtype]
    low, high = low - int(max(sensor.offset)), high - int(min(sensor.offset))
    return Codes(sensor.step, 0, max(low, -32768), min(high, 32767))


def _prepare(model: Model, layer: Layer, sources: list[Codes], target: Codes) -> IntegerLayer:
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
        counts = pool_counts(op, shape)
        return scale / counts, int(counts.max()) * reach
    if isinstance(op, GlobalAveragePool):
        return np.array([scale / prod(shape[1:])]), prod(shape[1:]) * reach
    assert isinstance(op, Activation)
    return np.array([scale]), reach


def pool_counts(op: AveragePool, shape: Shape) -> np.ndarray:
    """[1, *positions]: elements in each window that are not padding."""
    axes, one = tuple(range(-len(op.kernel), 0)), (1,) * len(op.kernel)
    counts = windows(np.ones((1, 1, *shape[1:])), op.kernel, op.stride, op.pad, one, 0).sum(axes)[0]
    if counts.min() < 1:
        raise UnsupportedError(
            f"AveragePool {op.kernel} with pad {op.pad}: a window holds nothing but padding: pad less"
        )
    return counts


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


def _sums(record: IntegerLayer, values: list[np.ndarray]) -> np.ndarray:
    """acc without the bias."""
    op, v = record.layer.op, values[0]
    if isinstance(op, Conv | Linear):
        assert record.values is not None
        return multiply(op, record.values.astype(v.dtype), v)
    if isinstance(op, Add):
        return np.sum([x * v.dtype.type(f) for x, f in zip(values, record.factors, strict=True)], axis=0)
    if isinstance(op, Mul):
        return np.prod(np.broadcast_arrays(*values), axis=0)
    if isinstance(op, Concat):
        return np.concatenate(values, 1)
    if isinstance(op, AveragePool):
        view = windows(v, op.kernel, op.stride, op.pad, (1,) * len(op.kernel), 0)
        return view.sum(tuple(range(-len(op.kernel), 0)))
    return v.reshape(*v.shape[:2], -1).sum(-1) if isinstance(op, GlobalAveragePool) else v


def _finish(record: IntegerLayer, acc: np.ndarray, zero_point: int) -> np.ndarray:
    """Bias, requantisation, activation and clamp, uint8. acc * m has 47 bits, so float64 is exact here; overwrites `acc`."""
    assert record.multiplier is not None
    assert record.shift is not None
    if record.bias is not None:
        acc += record.bias.reshape(-1, *[1] * (acc.ndim - 2))
    acc *= record.multiplier * 2.0 ** -record.shift.astype(np.float64)
    acc += 0.5
    p = np.floor(acc, out=acc)
    if record.table is not None:
        t = (np.clip(p, -32768, 32767) + 32768).astype(np.int32)
        i, f, table, (m, e) = t >> 8, t & 255, record.table.astype(np.int32), record.after
        h = (table[i] * (256 - f) + table[i + 1] * f + 128) >> 8
        p = ((h.astype(np.int64) * m + (1 << (e - 1))) >> e).astype(np.float64)
    if getattr(record.layer.op, "activation", "none") == "leaky_relu":
        p = np.clip(p, -32768, 32767)
        p = np.where(p < 0, np.floor(p * (LEAK * 2.0**-LEAK_SHIFT) + 0.5), p)
    p += zero_point
    return np.clip(p, record.low, record.high, out=p).astype(np.uint8)
