"""The integer network: the specification that every integer implementation computes bit for bit.

All arithmetic is on integers; `>>` is the arithmetic shift (it rounds down) and `round(t)` of a constant is floor(t + 1/2).

Tensors. A tensor holds codes: real = (code - zero_point) * scale, from the ticket's quantisation, codes 0..255 (uint8).
Every operation reads values v = code - zero_point, so padding is v = 0. The exceptions:
- an integer sensor (uint8, int16) is not quantised: v = clamp(raw - offset[channel], -32768, 32767), scale = the input step
  that all channels have, zero_point = 0. Saturation is possible for int16 sensors with an offset only;
- a float sensor, or any with `quantise_input`: code = clamp(floor(x / scale + 1/2) + zero_point, 0, 255) where
  x = (raw - offset[channel]) * step[channel], in this order in IEEE double: the only floating point there is. The channels of
  a float sensor may have different steps: the device computes x in any case, and scale and zero_point are of x, for all;
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

import numpy as np

from edgeticket.errors import DataError
from edgeticket.integer_layer import COPIES, SENSORS, Codes, IntegerLayer, prepare, quantised, sensor_codes
from edgeticket.model import Model
from edgeticket.ops import Add, AveragePool, Concat, Conv, Flatten, GlobalAveragePool, Linear, MaxPool, Mul
from edgeticket.plan import Plan
from edgeticket.reference import batches, check_raw, multiply, pool
from edgeticket.ticket import Input

LEAK, LEAK_SHIFT = 20972, 21


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
    tensors = {name: sensor_codes(model.input) if exact else quantised(model, name) for name in model.plan.inputs}
    layers = []
    for layer in model.plan.layers:
        sources = [tensors[name] for name in layer.inputs]
        tensors[layer.name] = sources[0] if isinstance(layer.op, COPIES) else quantised(model, layer.name)
        layers.append(prepare(model, layer, sources, tensors[layer.name]))
    return IntegerModel(model.plan, model.input, tensors, tuple(layers), exact)


def run(model: IntegerModel, raw: np.ndarray) -> np.ndarray:
    """Codes of the first output for raw sensor values [batch, *input shape], a batch at a time."""
    name = model.plan.outputs[0]
    return np.concatenate([run_all(model, part)[name] for part in batches(model.plan, raw)])


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
    if model.exact_input:
        x = raw.astype(np.float64) - np.array(sensor.offset).reshape(-1, *[1] * (raw.ndim - 2))
    else:
        x = np.floor(sensor.apply(raw, np.float64) / own.scale + 0.5) + own.zero_point
    return np.clip(x, own.low, own.high).astype(own.dtype)


def run_layer(model: IntegerModel, record: IntegerLayer, inputs: list[np.ndarray]) -> np.ndarray:
    """Codes of one layer for the codes of its inputs."""
    op, target = record.layer.op, model.tensors[record.layer.name]
    if isinstance(op, Flatten):
        return inputs[0].reshape(len(inputs[0]), -1)
    if isinstance(op, MaxPool):
        return pool(op, inputs[0], np.max, target.low)
    # Every sum stays below 2^24 or 2^53, so floating point holds it exactly, in any order.
    exact = np.float32 if record.sums < 1 << 24 else np.float64
    sources = [model.tensors[name] for name in record.layer.inputs]
    values = [
        codes.astype(exact) - np.asarray(own.zero_point, exact) for codes, own in zip(inputs, sources, strict=True)
    ]
    return _finish(record, _sums(record, values).astype(np.float64), target.zero_point)


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
        return pool(op, v, np.sum)
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
