"""What is constant in an ONNX graph: computing it once, and finding what ONNX Runtime left to be computed every time."""

import tempfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from edgeticket.errors import EdgeTicketError, UnsupportedError
from edgeticket.model import Raw
from exporters.graph import Graph

KEPT_BY_DESIGN = frozenset({"DequantizeLinear", "QuantizeLinear"})  # int8 runtimes want them beside the weights


def session(content: bytes, *, optimised: Path | None = None) -> Any:
    """An ONNX Runtime session of one thread; `optimised`: where it writes the graph that it will run.

    Raises UnsupportedError when ONNX Runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # writing an optimised graph warns that it is for this machine: so it is
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if optimised:
        options.optimized_model_filepath = str(optimised)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the binding raises its own types, which have no common parent
        raise UnsupportedError(f"ONNX Runtime {onnxruntime.__version__} does not load the file: {error}") from error


def run(loaded: Any, raw: Raw) -> list[np.ndarray]:
    """Every output of a session for the values of its inputs. Raises UnsupportedError when ONNX Runtime refuses them.

    Names of inputs are the plan's; the file's come from them, in the plan's order.
    """
    names = Graph()
    try:
        if isinstance(raw, Mapping):
            feeds = {names.fresh(name): values for name, values in raw.items()}
        else:
            feeds = {loaded.get_inputs()[0].name: raw}
        return [np.asarray(output) for output in loaded.run(None, feeds)]
    except Exception as error:  # as above
        raise UnsupportedError(f"ONNX Runtime {onnxruntime.__version__} does not run the file: {error}") from error


def optimised(content: bytes) -> onnx.ModelProto:
    """The graph that ONNX Runtime makes of a model, fused and laid out for this machine."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        try:
            session(content, optimised=path)
        except UnsupportedError as error:
            session(content)  # raises where the model is at fault, and not the disk
            raise EdgeTicketError(
                f"cannot write to {folder}: {error}: free some space there, or name another folder in TMPDIR"
            ) from error
        return onnx.load(path)


def unfolded(model: onnx.ModelProto, allowed: Set[str] = frozenset()) -> list[str]:
    """Nodes that read constants alone, as `op_type output`: everything that could have been folded."""
    part = _constant_part(model, allowed)
    return [f"{node.op_type} {node.output[0]}" for node in part if node.op_type != "Constant"]


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with every constant part computed and stored as initializers, under the names it had."""
    outer, inner = onnx.ModelProto(), _constant_part(model, KEPT_BY_DESIGN)
    outer.CopyFrom(model)
    made = {name for node in inner for name in node.output}
    del outer.graph.node[:], outer.graph.initializer[:]
    outer.graph.node.extend(node for node in model.graph.node if made.isdisjoint(node.output))
    read = {name for node in outer.graph.node for name in node.input} | {value.name for value in outer.graph.output}
    outer.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    outer.graph.initializer.extend(
        _compute(model, inner, [name for node in inner for name in node.output if name in read])
    )
    return outer


def _constant_part(model: onnx.ModelProto, without: Set[str]) -> list[onnx.NodeProto]:
    """Nodes that read constants, or what these make, alone; none of the operations `without`."""
    known = {tensor.name for tensor in model.graph.initializer}
    part = []
    for node in model.graph.node:
        if node.op_type not in without and all(name in known for name in node.input if name):
            known.update(node.output)
            part.append(node)
    return part


def _compute(model: onnx.ModelProto, nodes: list[onnx.NodeProto], names: list[str]) -> list[onnx.TensorProto]:
    if not names:
        return []
    read = {name for node in nodes for name in node.input}
    initializers = [tensor for tensor in model.graph.initializer if tensor.name in read]
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    graph = helper.make_graph(nodes, "constants", [], outputs, initializers)
    inferred = onnx.shape_inference.infer_shapes(_like(model, graph), strict_mode=True, data_prop=True)
    values = session(inferred.SerializeToString()).run(names, {})
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in zip(names, values, strict=True)]


def _like(model: onnx.ModelProto, graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
