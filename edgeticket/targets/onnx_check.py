"""What looks at foreign ONNX files before ONNX Runtime gets them: as a process, one JSON request on stdin, one JSON answer on stdout.

Run by its path, under limits: a file of a few megabytes can take gigabytes once it is parsed. It loads onnx and nothing of this
package. What it says of a file is short and printable, whatever the file holds.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

STANDARD = {"": "", "ai.onnx": "", "ai.onnx.ml": "ai.onnx.ml"}  # as a node may say it: as onnx knows it
CONTRIBUTED = frozenset(  # of com.microsoft: what onnxruntime.quantization and onnxruntime.transformers write for a CPU
    [
        "Attention",
        "BiasGelu",
        "DequantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "EmbedLayerNormalization",
        "FastGelu",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "GatherBlockQuantized",
        "Gelu",
        "GroupQueryAttention",
        "MatMulBnb4",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "MultiHeadAttention",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QLinearWhere",
        "QuantizeLinear",
        "QuickGelu",
        "RotaryEmbedding",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    ]
)
NUMBERS = frozenset(["FLOAT", "DOUBLE", "FLOAT16", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "BOOL"])
LONGEST_NAME = 80  # characters


class RefusedError(Exception):
    """Says of a file why it is not run."""


def look(content: bytes, name: str, most: Mapping[str, int], sized: bool) -> dict[str, int]:
    """How often each operation is in the file, as `domain.Operation`. `sized`: its inputs have known sizes, but for the batch.

    Raises RefusedError.
    """
    try:
        graph = _graph(onnx.load_from_string(content), most)
        found = Counter(_operation(node) for node in _nodes(graph, most))
        if sized:
            _require_sizes(graph, most)
    except DecodeError as error:  # for want of memory too
        raise RefusedError(f"{name}: not an ONNX file, cut short, or larger in memory than it may be") from error
    except RefusedError as error:
        raise RefusedError(f"{name}: {error}") from error
    return dict(found)


def _graph(model: onnx.ModelProto, most: Mapping[str, int]) -> onnx.GraphProto:
    if model.functions:
        raise RefusedError("holds local functions: inline them first (onnx.inliner.inline_local_functions)")
    if not model.graph.node:
        raise RefusedError("not an ONNX file, or one without any operation")
    return model.graph


def _nodes(graph: onnx.GraphProto, most: Mapping[str, int]) -> Iterator[onnx.NodeProto]:
    """Every node, of graphs inside nodes too. Raises RefusedError for too many, too deep, or tensors that are elsewhere."""
    left, nodes, tensors = [(graph, 1)], 0, 0
    while left:
        one, depth = left.pop()
        if depth > most["depth"]:
            raise RefusedError(f"graphs inside graphs, more than {most['depth']} deep")
        nodes, tensors = nodes + len(one.node), tensors + len(one.initializer) + len(one.sparse_initializer)
        if nodes > most["nodes"] or tensors > most["nodes"]:
            raise RefusedError(f"more than {most['nodes']} operations or stored tensors")
        if any(map(_elsewhere, _tensors(one))):
            raise RefusedError("its weights are in another file: save it as one file")
        left += [(inner, depth + 1) for node in one.node for inner in _inner(node)]
        yield from one.node


def _inner(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """What is stored in a graph and in the attributes of its nodes."""
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    yield from graph.initializer
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
    for sparse in (
        *graph.sparse_initializer,
        *(one for own in attributes for one in (own.sparse_tensor, *own.sparse_tensors)),
    ):
        yield from (sparse.values, sparse.indices)


def _elsewhere(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.external_data) or tensor.data_location == onnx.TensorProto.EXTERNAL


def _operation(node: onnx.NodeProto) -> str:
    """Raises RefusedError for an operation that is neither in the standard nor written by ONNX Runtime's own tools."""
    domain, kind = STANDARD.get(node.domain), node.op_type
    known = (
        kind in CONTRIBUTED if node.domain == "com.microsoft" else domain is not None and onnx.defs.has(kind, domain)
    )
    if not known:
        raise RefusedError(
            f"operation {_shown(kind)} of domain {_shown(node.domain or 'ai.onnx')} (node {_shown(node.name)}) is not run: only "
            f"those of ai.onnx and ai.onnx.ml that onnx {onnx.__version__} knows, and those of com.microsoft that ONNX Runtime's "
            "quantisation and transformer optimiser write: export the model without it"
        )
    return f"{node.domain}.{kind}" if domain != "" else kind


def _require_sizes(graph: onnx.GraphProto, most: Mapping[str, int]) -> None:
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if not inputs:
        raise RefusedError("the graph has no input")
    for value in inputs:
        kind, what = value.type.tensor_type, f"input {_shown(value.name)}"
        if value.type.WhichOneof("value") != "tensor_type" or _type(kind.elem_type) not in NUMBERS:
            raise RefusedError(f"{what}: no tensor of numbers: it is not known what to give it")
        sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
        if any(size < 1 for size in sizes[1:]):
            raise RefusedError(f"{what}: only the batch size may be open, the shape is {_shown(sizes)}")
        if prod(sizes[1:]) * max(1, *sizes[:1], 1) > most["input_elements"]:
            raise RefusedError(f"{what}: {_shown(sizes)} has more than {most['input_elements']} elements")


def _type(number: int) -> str:
    return onnx.TensorProto.DataType.Name(number) if number in onnx.TensorProto.DataType.values() else ""


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "..."


def serve() -> None:
    request = json.load(sys.stdin)
    try:
        found = [
            look(Path(path).read_bytes(), name, request["most"], request["sized"]) for path, name in request["files"]
        ]
        answer: dict[str, Any] = {"operations": found}
    except RefusedError as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    serve()
