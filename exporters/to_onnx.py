"""ONNX: one file, built node by node, opset 13, IR 7; same model, same bytes.

The input is the sensor's raw values in the sensor's own type. Nodes and tensors carry the names of the plan's layers.
"""

from pathlib import Path

import numpy as np
import onnx

from edgeticket import reference
from edgeticket.errors import EquivalenceError, UnsupportedError, UsageError
from edgeticket.files import write_atomic
from edgeticket.model import Model
from edgeticket.ops import Activation, Add, AveragePool, Concat, Conv, GlobalAveragePool, Layer, Linear, MaxPool, Mul
from edgeticket.reference import require_equal
from exporters import fold
from exporters.graph import Graph, Value, to_bytes
from exporters.nodes import activation, map_input, metadata, window
from exporters.weights import store

SUFFIX = ".onnx"
PRECISIONS = ("float", "int8")
RUN_EXAMPLES = 64  # at once


def export(model: Model, path: Path, *, precision: str = "float", weights: str = "fp32") -> None:
    """Write the model, after the full checker, strict shape inference and a load in ONNX Runtime that folds every weight.

    Raises UsageError for options that do not exist, UnsupportedError where a check fails; then nothing is written.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r}: take one of {', '.join(PRECISIONS)}")
    if precision == "int8":
        from exporters import qdq

        if weights != "fp32":
            raise UsageError(
                f"weights {weights!r} with precision int8: its weights are int8 already, leave --weights out"
            )
        content = to_bytes(qdq.build(model))
    else:
        content = to_bytes(build(model, weights))
    check(content)
    write_atomic(path, content)


def prove(model: Model, path: Path, raw: np.ndarray, *, precision: str = "float", weights: str = "fp32") -> None:
    """Raise EquivalenceError unless the written file computes the model on raw sensor values [batch, *input shape].

    float: the reference to 1e-5 of the largest output. int8: the integer specification, at most one code beside it in every
    layer, as ONNX Runtime requantises in float.
    """
    if precision == "float":
        require_equal(f"{path.name} ({weights}) against the reference", run(path, raw), reference.run(model, raw))
        return
    from exporters import qdq

    off = qdq.compare(model, raw)["codes"]
    layer = max(off, key=off.__getitem__)
    if off[layer] > 1:
        raise EquivalenceError(
            f"{path.name}: layer {layer} is {off[layer]} codes off the integer network, 1 is allowed"
        )


def run(path: Path, raw: np.ndarray) -> np.ndarray:
    """The first output for raw sensor values [batch, *input shape], as a device's ONNX Runtime computes it."""
    return run_bytes(path.read_bytes(), raw)


def run_bytes(content: bytes, raw: np.ndarray) -> np.ndarray:
    """`run` for a file's content. Raises UnsupportedError when ONNX Runtime refuses the file or the input."""
    loaded = fold.session(content)
    starts = range(0, len(raw), RUN_EXAMPLES)
    return np.concatenate([fold.run(loaded, raw[i : i + RUN_EXAMPLES])[0] for i in starts])


def is_int8(content: bytes) -> bool:
    """Whether a file computes in int8, by its operations."""
    return any(node.op_type == "QuantizeLinear" for node in onnx.load_from_string(content).graph.node)


def check(content: bytes) -> None:
    """Raise UnsupportedError unless the file is valid, its shapes are known, and ONNX Runtime folds all weights."""
    try:
        onnx.checker.check_model(content, full_check=True)
        onnx.shape_inference.infer_shapes(content, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnsupportedError(f"the ONNX file is not valid: {error}: please report it with the ticket") from error
    left = fold.unfolded(fold.optimised(content), fold.KEPT_BY_DESIGN)
    if left:
        raise UnsupportedError(
            f"ONNX Runtime would compute weights at every inference ({', '.join(left[:3])}): export with --weights fp32"
        )


def build(model: Model, weights: str = "fp32") -> onnx.ModelProto:
    """The float network, with one of the storages of exporters/weights.py."""
    graph = Graph()
    tensors = {name: graph.fresh(name) for name in model.plan.shapes}
    stored = store(graph, model, weights)
    reals = {
        name: map_input(graph, model.input, name, shape, tensors[name]) for name, shape in model.plan.inputs.items()
    }
    names = tensors | reals
    for layer in model.plan.layers:
        add_layer(
            graph, model, layer, [names[name] for name in layer.inputs], stored.get(layer.name, ""), tensors[layer.name]
        )
    return graph.model(*values(model, tensors), metadata=metadata(model.digest, "float"))


def values(model: Model, names: dict[str, str]) -> tuple[list[Value], list[Value]]:
    """Inputs and outputs of the graph."""
    shapes = model.plan.shapes
    inputs: list[Value] = [(names[name], np.dtype(model.input.dtype), shapes[name]) for name in model.plan.inputs]
    return inputs, [(names[name], np.float32, shapes[name]) for name in model.plan.outputs]


def add_layer(graph: Graph, model: Model, layer: Layer, inputs: list[str], weight: str, output: str) -> None:
    """The nodes of one layer, the last of which makes `output`."""
    op = layer.op
    kind = op.activation if isinstance(op, Conv | Linear | Add | Activation) else "none"
    if kind == "none":
        _operation(graph, model, layer, inputs, weight, output)
        return
    before = inputs[0]
    if not isinstance(op, Activation):
        before = _operation(graph, model, layer, inputs, weight, graph.fresh(f"{layer.name}_sum"))
    activation(graph, kind, before, output=output)


def _operation(graph: Graph, model: Model, layer: Layer, inputs: list[str], weight: str, output: str) -> str:
    """The layer without its activation."""
    op = layer.op
    if isinstance(op, Conv | Linear):
        bias = graph.constant(model.bias[layer.name].astype(np.float32), f"{layer.name}_bias")
        if isinstance(op, Linear):
            return graph.node("Gemm", inputs[0], weight, bias, transB=1, output=output)
        return graph.node("Conv", inputs[0], weight, bias, output=output, **window(op))
    if isinstance(op, MaxPool | AveragePool):
        return graph.node(type(op).__name__, inputs[0], output=output, **window(op))
    if isinstance(op, Concat):
        return graph.node("Concat", *inputs, axis=1, output=output)
    if isinstance(op, Add | Mul):
        return _chain(graph, type(op).__name__, inputs, output, layer.name)
    if isinstance(op, Activation):
        return graph.node("Identity", inputs[0], output=output)
    pooled = inputs[0]
    if isinstance(op, GlobalAveragePool) and len(model.plan.shapes[layer.inputs[0]]) > 1:
        pooled = graph.node("GlobalAveragePool", pooled, name=f"{layer.name}_mean")
    return graph.node("Flatten", pooled, axis=1, output=output)


def _chain(graph: Graph, op: str, inputs: list[str], output: str, name: str) -> str:
    total = inputs[0]
    for other in inputs[1:-1]:
        total = graph.node(op, total, other, name=f"{name}_part")
    return graph.node(op, total, inputs[-1], output=output)
