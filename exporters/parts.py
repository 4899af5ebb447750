"""A file as ONNX Runtime runs it on this CPU, operation by operation, each as a model of its own that can be timed.

What runs is not what the file says: activations and sums move into convolutions, and images are laid out in blocks of channels
(16 with AVX-512, 8 with AVX2), with nodes that reorder them in between. The graph that ONNX Runtime has optimised says it all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeticket.errors import UnsupportedError
from exporters.fold import optimised
from exporters.graph import IR_VERSION

RUNTIME = str(onnxruntime.__version__)
VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity"})  # cost a call and move nothing
SHOWN = 16  # sizes of an integer constant (Slice, Resize) that a signature spells out
MOST_COPIES, WORK, BYTES = 12, 4_000_000, 1 << 19  # of a part in one model, and multiplies and bytes of them together


@dataclass(frozen=True)
class Part:
    """One operation. `names`: its own and its tensors'. `signature`: parts of one signature take the same time."""

    names: tuple[str, ...]
    signature: str
    node: onnx.NodeProto
    tensors: Mapping[str, np.ndarray | TensorProto]  # of each input: an example, or the constant
    opsets: Sequence[onnx.OperatorSetIdProto]
    copies: int  # that are timed at once

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """An example of each tensor that it reads and that is no constant."""
        return {name: tensor for name, tensor in self.tensors.items() if isinstance(tensor, np.ndarray)}


def parts(content: bytes) -> list[Part]:
    """In order of execution, for one example. Raises UnsupportedError where ONNX Runtime refuses the file."""
    model = optimised(content)
    tensors = {**_examples(model), **{tensor.name: tensor for tensor in model.graph.initializer}}
    return [_part(node, tensors, model.opset_import) for node in model.graph.node]


def _part(node: onnx.NodeProto, tensors: Mapping[str, Any], opsets: Sequence[onnx.OperatorSetIdProto]) -> Part:
    names = (*node.output, node.name, *node.input)
    if node.op_type in VIEWS:
        node = helper.make_node("Flatten", ["x"], ["y"])
        tensors = {"x": np.zeros((1, 1), np.float32), "y": np.zeros((1, 1), np.float32)}
    own = {name: tensors[name] for name in node.input if name}
    attributes = sorted(str(helper.printable_attribute(attribute)) for attribute in node.attribute)
    operation = " ".join([f"{node.domain}.{node.op_type}".removeprefix("."), *attributes])
    signature = " | ".join([operation, *(_describe(own[name]) if name else "-" for name in node.input)])
    return Part(names, signature, node, own, opsets, _copies(own, tensors[node.output[0]]))


def _describe(tensor: np.ndarray | TensorProto) -> str:
    if isinstance(tensor, np.ndarray):
        return f"{tensor.dtype} {'x'.join(map(str, tensor.shape))}"
    sizes = "x".join(map(str, tensor.dims)) or "1"
    if tensor.data_type == TensorProto.INT64 and prod(tensor.dims) <= SHOWN:
        return f"constant {numpy_helper.to_array(tensor).reshape(-1).tolist()}"
    return f"constant {sizes}"


def _copies(tensors: Mapping[str, np.ndarray | TensorProto], output: np.ndarray) -> int:
    """As many as tell a small part's time from a call's, as few as leave what they read in the cache."""
    constants = [tuple(tensor.dims) for tensor in tensors.values() if isinstance(tensor, TensorProto)]
    weights = max(map(prod, constants), default=0)
    filters = max((dims[0] for dims in constants if len(dims) > 1), default=1)
    work = max(output.size, weights * output.size // filters)
    return max(2, min(MOST_COPIES, WORK // max(1, work), BYTES // (4 * (weights + output.size))))


def _examples(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every tensor of one inference on zeros: nothing else knows the sizes of blocked tensors."""
    whole, known = onnx.ModelProto(), {value.name for value in model.graph.output}
    whole.CopyFrom(model)
    made = [name for node in model.graph.node for name in node.output if name and name not in known]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    session = _as_written(whole.SerializeToString())
    feeds = {value.name: _zeros(value) for value in model.graph.input}
    outputs = session.run(None, feeds)
    return feeds | {value.name: made for value, made in zip(session.get_outputs(), outputs, strict=True)}


def _zeros(value: onnx.ValueInfoProto) -> np.ndarray:
    kind = value.type.tensor_type
    shape = [dim.dim_value or 1 for dim in kind.shape.dim]
    return np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind.elem_type))


def _as_written(content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the binding raises its own types, which have no common parent
        raise UnsupportedError(f"ONNX Runtime {RUNTIME} does not load what it has optimised: {error}") from error


# models that are timed, to be run as written: optimised again, copies would become one


def repeated(part: Part) -> bytes:
    """`part.copies` of the part side by side, which nothing reads, each with its own constants."""
    inputs = part.inputs
    nodes, constants = [], []
    for i in range(part.copies):
        names = {name: f"in_{name}" if name in inputs else f"copy{i}_{name}" for name in part.tensors}
        node = onnx.NodeProto()
        node.CopyFrom(part.node)
        del node.input[:], node.output[:]
        node.name = f"copy{i}"
        node.input.extend(names.get(name, "") for name in part.node.input)
        node.output.extend(f"copy{i}_out{j}" for j in range(len(part.node.output)))
        nodes.append(node)
        constants += [_named(tensor, names[name]) for name, tensor in part.tensors.items() if name not in inputs]
    return _model(nodes, [_value(f"in_{name}", tensor) for name, tensor in inputs.items()], constants, part.opsets)


def call(copies: int, inputs: int) -> bytes:
    """`copies` of the smallest operation, and `inputs` of one number: tells what a model that times a part costs without it."""
    values = [_value(f"in{i}", np.ones((1, 1), np.float32)) for i in range(inputs)]
    nodes = [helper.make_node("Relu", ["in0"], [f"copy{i}"]) for i in range(copies)]
    return _model(nodes, values, [], [helper.make_opsetid("", 13)])


def _named(tensor: Any, name: str) -> TensorProto:
    constant = TensorProto()
    constant.CopyFrom(tensor)
    constant.name = name
    return constant


def _value(name: str, example: np.ndarray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(example.dtype), example.shape)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    constants: list[TensorProto],
    opsets: Sequence[onnx.OperatorSetIdProto],
) -> bytes:
    one = np.ones((1, 1), np.float32)  # the output is a constant, however large the results are
    last, out = helper.make_node("Identity", ["one"], ["out"]), _value("out", one)
    graph = helper.make_graph([*nodes, last], "part", inputs, [out], [*constants, numpy_helper.from_array(one, "one")])
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString())
