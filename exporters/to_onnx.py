"""ONNX: one file, built node by node, opset 13, IR 7; same model, same bytes.

Each input is a sensor's raw values in the sensor's own type. Nodes and tensors carry the names of the plan's layers.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx

from edgeticket import reference
from edgeticket.errors import EquivalenceError, UnsupportedError, UsageError
from edgeticket.files import write_atomic
from edgeticket.model import Model, Raw
from edgeticket.ops import Activation, Layer, Linear, Weighted
from edgeticket.reference import require_equal
from exporters import fold
from exporters.graph import Graph, Value, to_bytes
from exporters.nodes import activation, in_units, map_input, metadata, window
from exporters.operations import operation
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


def prove(model: Model, path: Path, raw: Raw, *, precision: str = "float", weights: str = "fp32") -> None:
    """Raise EquivalenceError unless the written file computes the model on raw sensor values [batch, *shape] of each input.

    float: every output is the reference's to 1e-5 of its largest value. int8: at most one code beside the integer
    specification in every layer, as ONNX Runtime requantises in float.
    """
    if precision == "float":
        pairs = zip(model.plan.outputs, run_outputs(path, raw), reference.run_outputs(model, raw), strict=True)
        for name, made, right in pairs:
            require_equal(f"{path.name} ({weights}), output {name}, against the reference", made, right)
        return
    from exporters import qdq

    off = qdq.compare(model, raw)
    layer = max(off, key=off.__getitem__)
    if off[layer] > 1:
        raise EquivalenceError(
            f"{path.name}: layer {layer} is {off[layer]} codes off the integer network, 1 is allowed"
        )


def run_outputs(file: Path | bytes, raw: Raw) -> list[np.ndarray]:
    """Every output for raw sensor values [batch, *shape] of each input, as a device's ONNX Runtime computes them.

    `file`: its path or its content. Raises UnsupportedError when ONNX Runtime refuses the file or the input.
    """
    loaded = fold.session(file if isinstance(file, bytes) else file.read_bytes())
    parts = [fold.run(loaded, part) for part in _parts(raw)]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]


def _parts(raw: Raw) -> Iterator[Raw]:
    given = raw if isinstance(raw, Mapping) else {"": raw}
    for i in range(0, len(next(iter(given.values()))), RUN_EXAMPLES):
        part = {name: values[i : i + RUN_EXAMPLES] for name, values in given.items()}
        yield part if isinstance(raw, Mapping) else part[""]


def run(path: Path, raw: Raw) -> np.ndarray:
    """The first output."""
    return run_outputs(path, raw)[0]


def run_bytes(content: bytes, raw: Raw) -> np.ndarray:
    """The first output of a file's content."""
    return run_outputs(content, raw)[0]


def answers(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """The classes, int [n], that a file's content gives to raw frames [n, ...]."""
    return lambda raw: run_bytes(content, raw).argmax(1)


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
        name: map_input(graph, model.inputs[name], name, shape, tensors[name])
        for name, shape in model.plan.inputs.items()
    }
    names = tensors | reals
    for layer in model.plan.layers:
        add_layer(
            graph, model, layer, [names[name] for name in layer.inputs], stored.get(layer.name, ""), tensors[layer.name]
        )
    shapes, sensors = model.plan.shapes, model.inputs
    inputs: list[Value] = [(tensors[name], np.dtype(sensors[name].dtype), shapes[name]) for name in model.plan.inputs]
    outputs = in_units(graph, model, names)
    return graph.model(inputs, outputs, metadata=metadata(model.digest, "float"))


def add_layer(graph: Graph, model: Model, layer: Layer, inputs: list[str], weight: str, output: str) -> None:
    """The nodes of one layer, the last of which makes `output`."""
    op, kind = layer.op, getattr(layer.op, "activation", "none")
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
    if not isinstance(op, Weighted):
        return operation(graph, model, layer, inputs, output=output)
    bias = graph.constant(model.bias[layer.name].astype(np.float32), f"{layer.name}_bias")
    if isinstance(op, Linear):
        return graph.node("Gemm", inputs[0], weight, bias, transB=1, output=output)
    return graph.node(type(op).__name__, inputs[0], weight, bias, output=output, **window(op))
