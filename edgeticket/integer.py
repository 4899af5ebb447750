"""The integer network: the specification that every integer implementation computes bit for bit.

All arithmetic is on integers; `>>` is the arithmetic shift (it rounds down) and `round(t)` of a constant is floor(t + 1/2).
Every intermediate fits an int32, except acc * m, which takes 47 bits, p before it is clamped, and q * m2, which takes 46.

Tensors. A tensor holds codes: real = (code - zero_point) * scale, from the ticket's quantisation, codes 0..255 (uint8). Where
one step of its layer's acc (of an Add the largest s_i; PRelu: or slope times it) is 2^14 or more times its scale, as in a
tensor that calibration saw constant, the scale is raised to float32(step * (2^-14 + 2^-24)); not for tables (below).
Every operation reads values v = code - zero_point, so padding is v = 0. The exceptions:
- an integer sensor (uint8, int16) is not quantised: v = clamp(raw - offset[channel], -32768, 32767), scale = the input step
  that all channels have, zero_point = 0. Saturation is possible for int16 sensors with an offset only;
- a float sensor, or an input named in `quantise`: code = clamp(floor(x / scale + 1/2) + zero_point, 0, 255) where
  x = (raw - offset[channel]) * step[channel], in this order in IEEE double: the only floating point there is. The channels of
  a float sensor may have different steps: the device computes x in any case, and scale and zero_point are of x, for all;
- MaxPool, Flatten, Reshape, Gather, Pad, DepthToSpace, SpaceToDepth and Resize of mode nearest keep the codes, and so the
  quantisation, of what they read. Pad writes v = 0, which is the code zero_point; the padding of a MaxPool is never largest.

Sums. Each operation makes an int32 `acc` per output; one step of it is worth `unit` (a real number):
  Conv, ConvTranspose, Linear   acc = bias + sum of values * v   unit = s_x * scale[filter]
  Norm                acc = bias + 256 * v                  unit = s_x * scale[channel] / 256
  Add                 acc = sum of factor[i] * v_i          unit = s_p / 2^e (below)
  Mul                 acc = product of v_i                  unit = product of s_i
  Concat, Activation, PRelu   acc = v                       unit = s_i of the operand that the channel comes from
  AveragePool, GlobalAveragePool   acc = sum of v           unit = s_x / (elements in the window, padding not counted)
  Resize, area        acc = sum of v that fall in           unit = s_x / (their number)
  Resize, linear and align_corners   acc = sum of H[row, i] * W[column, j] * v[i, j]   unit = s_x / 2^(b * directions)
The operands of Add and Mul are broadcast over every direction, channels too, in which they have size 1.
H and W (one matrix of a 1-D tensor) hold round(share * 2^b) of the shares in `reference.resize_matrix`, at most two in a row;
the first of a row is 2^b less the other. b = 11, and 7 in two directions where the input is an int16 sensor read exactly.
bias = round(b / unit). |acc| < 2^31 is proven from the weights and the ranges when the network is prepared.
A filter whose bias does not fit beside its sums (scale 0 or nearly) can't be moved by them: it is constant, as is one whose
values are all 0. Its values (of a Norm the factor 256) are zero here (an exporter of masks drops the filter's mask),
unit = s_p / 256, bias = round(b / unit) within +-2^30.

Requantisation. p = (acc * m + 2^(e - 1)) >> e, with m, e per channel (AveragePool, Resize of mode area: per position) and
m / 2^e = unit / s_p: m is an int16 with 2^14 <= |m| < 2^15 and the sign of the scale, 1 <= e <= 46. Ratios under 2^-32 give
m = 0, e = 1, which is exact: no acc reaches half a code. Two bytes are enough: m is off by at most 2^-15, 0.008 code.
Add: the largest of s_i / s_p sets e, factor[i] = round(s_i / s_p * 2^e), m = 1.
PRelu: where acc < 0, m and e are those of slope[channel] * unit / s_p.

Activation and output, s_p = s_y except for tables:
  none, relu, relu6   code = clamp(zero_point + p, low, high): 0..255, relu from zero_point, relu6 to + round(6 / s_y)
  leaky_relu          p = clamp(p, -32768, 32767); if p < 0: p = (p * m3 + 2^(e3 - 1)) >> e3; then as none.
                      m3 / 2^e3 = slope, made as m and e are (0.01: 20972, 21), and m3 = 0, e3 = 1 where e3 would be over 30:
                      no p reaches half a code
  sigmoid, tanh, hard_sigmoid   s_p = 2^-(12 + k); q = h(p), in steps of 2^-14
  silu, gelu, hard_swish        s_p = 2^-(12 + k); p = min(p, 2^29 - 1); q = 4 * max(p, 0) + h(p), in steps of 2^-(14 + k)
                      code = clamp(zero_point + ((q * m2 + 2^(e2 - 1)) >> e2), 0, 255), m2 / 2^e2 = step of q / s_y, made as m
                      and e are. k = 0; 1 where s_y < 2^-10; 2 where s_y < 2^-11. h reads a table:
                      t = clamp(p, -2^(15 + k), 2^(15 + k) - 1) + 2^(15 + k); i = t >> 8; f = t & 255;
                      h(p) = (T[i] * (256 - f) + T[i + 1] * f + 128) >> 8
                      T[0..256 * 2^k] = round(r(i / 2^(4 + k) - 8) / step of q). r is the function; for silu, gelu and
                      hard_swish it is the function less max(x, 0), and 0 at both ends, as they are max(x, 0) beyond these.
                      Steps s_y under 2^-14 are finer than h: it may be off by more than a code
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from edgeticket.errors import DataError
from edgeticket.integer_layer import (
    RESIDUALS,
    SENSORS,
    Codes,
    IntegerLayer,
    keeps_codes,
    prepare,
    quantised,
    sensor_codes,
    target_codes,
)
from edgeticket.model import Model, Raw
from edgeticket.ops import (
    Add,
    AveragePool,
    Concat,
    GlobalAveragePool,
    Layout,
    MaxPool,
    Mul,
    Norm,
    PRelu,
    Resize,
    Weighted,
)
from edgeticket.plan import Plan
from edgeticket.reference import along, batches, feed, multiply, pool, rearrange, resize_matrix
from edgeticket.ticket import Input

P_MAX = (1 << 29) - 1  # of silu, gelu and hard_swish


@dataclass(frozen=True)
class IntegerModel:
    """`exact`: the inputs whose integers are read as the sensor gives them."""

    plan: Plan
    inputs: Mapping[str, Input]
    tensors: dict[str, Codes]
    layers: tuple[IntegerLayer, ...]
    exact: frozenset[str]


def integerise(model: Model, *, quantise: Collection[str] = ()) -> IntegerModel:
    """Prepare every constant; `quantise`: inputs of integer sensors that are not read exactly.

    Raises UnsupportedError, naming the layer, where a constant leaves its range.
    """
    exact = frozenset(n for n, sensor in model.inputs.items() if sensor.dtype in SENSORS and n not in quantise)
    tensors = {n: sensor_codes(n, model.inputs[n]) if n in exact else quantised(model, n) for n in model.plan.inputs}
    layers = []
    for layer in model.plan.layers:
        sources = [tensors[name] for name in layer.inputs]
        tensors[layer.name] = target_codes(model, layer, sources)
        layers.append(prepare(model, layer, sources, tensors[layer.name]))
    return IntegerModel(model.plan, model.inputs, tensors, tuple(layers), exact)


def run_outputs(model: IntegerModel, raw: Raw) -> list[np.ndarray]:
    """Codes of every output for raw sensor values [batch, *shape] of each input, a batch at a time."""
    names, parts = model.plan.outputs, []
    for part in batches(model.plan, raw):
        made = run_all(model, part)
        parts.append([made[name] for name in names])
    return [np.concatenate(output) for output in zip(*parts, strict=True)]


def run(model: IntegerModel, raw: Raw) -> np.ndarray:
    """Codes of the first output."""
    return run_outputs(model, raw)[0]


def run_all(model: IntegerModel, raw: Raw) -> dict[str, np.ndarray]:
    """Codes of every tensor. Raises DataError for values that the sensor can't give."""
    tensors = {name: input_codes(model, name, values) for name, values in feed(model.plan, raw).items()}
    for record in model.layers:
        tensors[record.layer.name] = run_layer(model, record, [tensors[name] for name in record.layer.inputs])
    return tensors


def dequantise(model: IntegerModel, name: str, codes: np.ndarray) -> np.ndarray:
    """float64 values of the codes of tensor `name`."""
    own = model.tensors[name]
    return (codes.astype(np.float64) - own.zero_point) * own.scale


def input_codes(model: IntegerModel, name: str, raw: np.ndarray) -> np.ndarray:
    """What the layers that read input `name` get. Raises DataError for values that its sensor can't give."""
    own, sensor = model.tensors[name], model.inputs[name]
    if sensor.dtype in SENSORS:
        low, high = SENSORS[sensor.dtype]
        if not np.issubdtype(raw.dtype, np.integer) or (raw.size and (raw.min() < low or raw.max() > high)):
            raise DataError(
                f"input {name}: {raw.dtype} values for a {sensor.dtype} sensor: give its raw integers, {low} to {high}"
            )
    elif not np.isfinite(raw).all():
        raise DataError(f"input {name}: the data hold a value that is not finite: remove it or fill it in")
    if name in model.exact:
        x = raw.astype(np.float64) - np.array(sensor.offset).reshape(-1, *[1] * (raw.ndim - 2))
    else:
        x = np.floor(sensor.apply(raw, np.float64) / own.scale + 0.5) + own.zero_point
    return np.clip(x, own.low, own.high).astype(own.dtype)


def run_layer(model: IntegerModel, record: IntegerLayer, inputs: list[np.ndarray]) -> np.ndarray:
    """Codes of one layer for the codes of its inputs."""
    target = model.tensors[record.layer.name]
    if keeps_codes(record.layer.op):
        return _moved(record, inputs[0], target)
    # Every sum stays below 2^24 or 2^53, so floating point holds it exactly, in any order.
    exact = np.float32 if record.sums < 1 << 24 else np.float64
    sources = [model.tensors[name] for name in record.layer.inputs]
    values = [
        codes.astype(exact) - np.asarray(own.zero_point, exact) for codes, own in zip(inputs, sources, strict=True)
    ]
    return _finish(record, _sums(record, values).astype(np.float64), target.zero_point)


def _moved(record: IntegerLayer, codes: np.ndarray, target: Codes) -> np.ndarray:
    """The codes of an operation that keeps them."""
    op = record.layer.op
    if isinstance(op, MaxPool):
        return pool(op, codes, np.max, target.low)
    if isinstance(op, Resize):
        for axis, (size, out) in enumerate(zip(codes.shape[2:], op.size, strict=True), 2):
            codes = codes.take(resize_matrix(size, out, op.mode).argmax(1), axis)
        return codes
    assert isinstance(op, Layout)
    return rearrange(op, codes, target.zero_point)


def _sums(record: IntegerLayer, values: list[np.ndarray]) -> np.ndarray:
    """acc without the bias."""
    op, v = record.layer.op, values[0]
    if isinstance(op, Weighted | Norm):
        assert record.values is not None
        own = record.values.astype(v.dtype)
        return v * _per_channel(own, v) if isinstance(op, Norm) else multiply(op, own, v)
    if isinstance(op, Add):
        parts = [x * v.dtype.type(f) for x, f in zip(values, record.factors, strict=True)]
        return sum(parts[1:], parts[0])
    if isinstance(op, Mul):
        return np.prod(np.broadcast_arrays(*values), axis=0)
    if isinstance(op, Concat):
        return np.concatenate(values, 1)
    if isinstance(op, AveragePool):
        return pool(op, v, np.sum)
    if isinstance(op, Resize):
        return along([matrix.astype(v.dtype) for matrix in record.matrices], v)
    return v.reshape(*v.shape[:2], -1).sum(-1) if isinstance(op, GlobalAveragePool) else v


def _per_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *[1] * (x.ndim - 2))


def _finish(record: IntegerLayer, acc: np.ndarray, zero_point: int) -> np.ndarray:
    """Bias, requantisation, activation and clamp, uint8. acc * m has 47 bits, so float64 is exact here; overwrites `acc`."""
    assert record.multiplier is not None
    assert record.shift is not None
    if record.bias is not None:
        acc += _per_channel(record.bias, acc)
    ratio, below = _ratio(record.multiplier, record.shift), _ratio(*record.below) if record.below else np.ones(1)
    acc *= np.where(acc < 0, below, ratio) if isinstance(record.layer.op, PRelu) else ratio
    acc += 0.5
    p = np.floor(acc, out=acc)
    if record.table is not None:
        p = _curve(record, record.table, p)
    elif record.below and not isinstance(record.layer.op, PRelu):
        p = np.clip(p, -32768, 32767)
        p = np.where(p < 0, np.floor(p * below + 0.5), p)
    p += zero_point
    return np.clip(p, record.low, record.high, out=p).astype(np.uint8)


def _ratio(multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return multiplier * 2.0 ** -shift.astype(np.float64)


def _curve(record: IntegerLayer, table: np.ndarray, p: np.ndarray) -> np.ndarray:
    """An activation by its table, in steps of the output."""
    half = 128 * (len(table) - 1)
    t = (np.clip(p, -half, half - 1) + half).astype(np.int64)
    i, f, knots, (m, e) = t >> 8, t & 255, table.astype(np.int64), record.after
    q = (knots[i] * (256 - f) + knots[i + 1] * f + 128) >> 8
    if getattr(record.layer.op, "activation", "") in RESIDUALS:
        q += 4 * np.clip(p, 0, P_MAX).astype(np.int64)
    return ((q * m + (1 << (e - 1))) >> e).astype(np.float64)
