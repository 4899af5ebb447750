"""The integer network as an ONNX file: QuantizeLinear and DequantizeLinear around every operation (opset 13, IR 7).

The constants are those of `edgeticket.integer`: uint8 activations, weights as the small integers they are with one scale per
filter, int32 biases. ONNX Runtime fuses the pairs into QLinearConv and its like, which requantise in float: at most one code
per layer beside the specification on equal inputs (`compare`). Weights beyond +-64 are stored as uint8 with zero point 128:
CPUs with AVX2 and without VNNI add two products of uint8 * int8 in 16 bits and would saturate, silently.

A uint8 sensor with one offset is read as it is. ONNX has no code for any other sensor's exact integers: these are quantised
by the input's range first, as in `integerise(quantise=...)`.

Layers that keep codes stand between pairs of equal constants: ONNX Runtime drops these around all of them but Pad.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from edgeticket.errors import UnsupportedError
from edgeticket.integer import IntegerModel, input_codes, integerise, run_layer
from edgeticket.integer_layer import Codes, IntegerLayer
from edgeticket.model import Model, Raw
from edgeticket.ops import Activation, ConvTranspose, GlobalAveragePool, Layer, Linear, Norm, Weighted
from edgeticket.reference import batches
from exporters import fold
from exporters.graph import Graph, Value, to_bytes
from exporters.nodes import activation, in_units, map_input, metadata, window
from exporters.operations import operation

NO_SATURATION = 64  # 2 * 255 * 64 < 2^15
SMALLEST_SCALE = 1e-20  # keeps a float32 bias scale above 0; such a filter's sums never reach half a code


def build(model: Model) -> onnx.ModelProto:
    """Raw sensor values in, dequantised float32 outputs. Raises UnsupportedError, naming the layer, where one does not fit."""
    return _emit(model, prepare(model)).proto()


def prepare(model: Model) -> IntegerModel:
    """The integer network that the file computes."""
    exact = integerise(model)
    codes = {name: exact.tensors[name] for name in exact.exact}
    others = [name for name, own in codes.items() if not (own.low <= 0 and own.high - own.low == 255)]
    return integerise(model, quantise=others) if others else exact


def compare(model: Model, raw: Raw) -> dict[str, int]:
    """Largest difference of codes of each tensor between ONNX Runtime and the specification.

    Both read the codes that ONNX Runtime made for the layer before.
    """
    spec = prepare(model)
    emitter = _emit(model, spec)
    names = [name for name in model.plan.shapes if emitter.codes[name] != emitter.raw.get(name)]
    session = fold.session(to_bytes(emitter.proto([emitter.codes[name] for name in names])))
    off = dict.fromkeys(model.plan.shapes, 0)
    for part in batches(model.plan, raw):
        codes = dict(zip(names, fold.run(session, part)[len(model.plan.outputs) :], strict=True))
        off = {name: max(off[name], worst) for name, worst in _differences(spec, part, codes).items()}
    return off


def _differences(spec: IntegerModel, raw: Mapping[str, np.ndarray], made: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Of each tensor's codes, the largest; `made`: ONNX Runtime's, of every tensor but an input that it reads as it is."""
    codes = {name: array.astype(np.int16) + spec.tensors[name].low for name, array in made.items()}
    off = {}
    for name in spec.plan.inputs:
        own = input_codes(spec, name, raw[name])
        off[name] = int(np.abs(own - codes.setdefault(name, own.astype(np.int16))).max())
    for record in spec.layers:
        own = run_layer(spec, record, [codes[name] for name in record.layer.inputs])
        off[record.layer.name] = int(np.abs(own.astype(np.int16) - codes[record.layer.name]).max())
    return off


def _emit(model: Model, spec: IntegerModel) -> "_Emitter":
    emitter = _Emitter(spec, _rounded(model, spec), model.digest)
    for name in spec.plan.inputs:
        emitter.raw[name] = emitter.graph.fresh(name)
    for name in spec.plan.inputs:
        emitter.read(name)
    for record in spec.layers:
        emitter.add(record)
    return emitter


def _rounded(model: Model, spec: IntegerModel) -> Model:
    """The model with the scale and bias of every Norm as the specification rounds them."""
    scale, bias = dict(model.scale), dict(model.bias)
    for record in spec.layers:
        layer = record.layer
        if isinstance(layer.op, Norm):
            assert record.values is not None
            assert record.bias is not None
            assert record.unit is not None
            unit = record.unit.reshape(-1)
            scale[layer.name] = record.values * unit / spec.tensors[layer.inputs[0]].scale
            bias[layer.name] = record.bias * unit
    return replace(model, scale=scale, bias=bias)


@dataclass
class _Emitter:
    """`raw`: what each sensor gives; `codes`: the uint8 value of each tensor; `real`: what follows its DequantizeLinear."""

    spec: IntegerModel
    model: Model
    digest: str
    graph: Graph = field(default_factory=Graph)
    raw: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    real: dict[str, str] = field(default_factory=dict)

    def proto(self, exposed: list[str] | None = None) -> onnx.ModelProto:
        plan, sensors = self.spec.plan, self.spec.inputs
        inputs: list[Value] = [(self.raw[n], np.dtype(sensors[n].dtype), shape) for n, shape in plan.inputs.items()]
        outputs = in_units(self.graph, self.model, self.real)
        shapes = {self.codes[name]: shape for name, shape in plan.shapes.items()}
        outputs += [(name, np.uint8, shapes[name]) for name in exposed or []]
        return self.graph.model(inputs, outputs, metadata=metadata(self.digest, "int8"))

    def read(self, name: str) -> None:
        """A sensor's values as codes."""
        if name in self.spec.exact:
            self.codes[name] = self.raw[name]
            self.real[name] = self.dequantise(name, f"{name}_real")
        else:
            shape = self.spec.plan.inputs[name]
            self.quantise(name, map_input(self.graph, self.spec.inputs[name], name, shape, self.raw[name]))

    def add(self, record: IntegerLayer) -> None:
        layer = record.layer
        x = [self.real[name] for name in layer.inputs]
        y = self.weighted(record, x[0]) if isinstance(layer.op, Weighted) else self.plain(layer, x)
        self.quantise(layer.name, self.activate(record, y))

    def weighted(self, record: IntegerLayer, x: str) -> str:
        g, layer, op, name = self.graph, record.layer, record.layer.op, record.layer.name
        assert isinstance(op, Weighted)
        values, bias, scale = _signed(record, self.spec.tensors[layer.inputs[0]])
        zero = 128 if np.abs(values).max() > NO_SATURATION else 0
        dtype = np.uint8 if zero else np.int8
        axis = 1 if isinstance(op, ConvTranspose) else 0  # of the filters
        parts = []
        for part, array, step, point in (
            ("weight", (values + zero).astype(dtype).swapaxes(0, axis), scale, np.full(len(scale), zero, dtype)),
            (
                "bias",
                bias,
                scale * np.float32(self.spec.tensors[layer.inputs[0]].scale),
                np.zeros(len(scale), np.int32),
            ),
        ):
            constants = (
                g.constant(a, f"{name}_{part}_{what}")
                for a, what in ((array, "codes"), (step, "scale"), (point, "zero"))
            )
            parts.append(
                g.node("DequantizeLinear", *constants, axis=axis if part == "weight" else 0, name=f"{name}_{part}")
            )
        if isinstance(op, Linear):
            return g.node("Gemm", x, *parts, transB=1, name=f"{name}_gemm")
        return g.node(type(op).__name__, x, *parts, name=f"{name}_conv", **window(op))

    def plain(self, layer: Layer, x: list[str]) -> str:
        g, op, hint = self.graph, layer.op, f"{layer.name}_{type(layer.op).__name__.lower()}"
        if isinstance(op, Activation):
            return x[0]
        if isinstance(op, GlobalAveragePool) and len(self.spec.plan.shapes[layer.inputs[0]]) > 1:
            # Quantised before it is flattened, so that a runtime sees the pool between its pair.
            pooled = self.requantised(layer.name, g.node("GlobalAveragePool", x[0], name=hint))
            return g.node("Flatten", pooled, axis=1, name=f"{layer.name}_flat")
        return operation(g, self.model, layer, x, name=hint)

    def activate(self, record: IntegerLayer, y: str) -> str:
        """The activation, unless the codes of the output clamp just so."""
        kind, own = getattr(record.layer.op, "activation", "none"), self.spec.tensors[record.layer.name]
        clamped = kind in ("relu", "relu6") and own.zero_point == 0 and (kind == "relu" or record.high == 255)
        if kind == "none" or clamped:
            return y
        return activation(self.graph, kind, y, name=f"{record.layer.name}_{kind.partition(':')[0]}")

    def quantise(self, name: str, y: str) -> None:
        self.codes[name] = self.graph.node("QuantizeLinear", y, *self.constants(name), name=f"{name}_codes")
        self.real[name] = self.dequantise(name, name if name in self.spec.plan.outputs else f"{name}_real")

    def requantised(self, name: str, y: str) -> str:
        codes = self.graph.node("QuantizeLinear", y, *self.constants(name), name=f"{name}_pooled_codes")
        return self.graph.node("DequantizeLinear", codes, *self.constants(name), name=f"{name}_pooled")

    def dequantise(self, name: str, hint: str) -> str:
        return self.graph.node("DequantizeLinear", self.codes[name], *self.constants(name), name=hint)

    def constants(self, name: str) -> tuple[str, str]:
        own = self.spec.tensors[name]
        scale = self.graph.constant(np.float32(own.scale), f"{name}_scale")
        return scale, self.graph.constant(np.uint8(own.zero_point - own.low), f"{name}_zero")


def _signed(record: IntegerLayer, source: Codes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int16 values, int32 bias and float32 scale > 0 per filter: ONNX wants a negative scale's sign in the values."""
    assert record.values is not None
    assert record.bias is not None
    assert record.unit is not None
    unit = record.unit.reshape(-1)
    sign = np.where(unit < 0, -1, 1)
    values = record.values.astype(np.int16) * sign.reshape(-1, *[1] * (record.values.ndim - 1)).astype(np.int16)
    if values.max() > 127:
        raise UnsupportedError(
            f"layer {record.layer.name}: a weight of -128 under a negative scale: use weights from -127 to 127"
        )
    scale = np.maximum(np.abs(unit) / source.scale, SMALLEST_SCALE)
    return values, (record.bias * sign).astype(np.int32), scale.astype(np.float32)
