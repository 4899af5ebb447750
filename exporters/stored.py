"""What a float32 or int8 file of ours stores of each layer with weights: read back, not run."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from edgeticket.errors import UnsupportedError
from edgeticket.ops import ConvTranspose
from edgeticket.plan import Plan

WEIGHTED = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class Stored:
    """`values` [filters, inputs, *kernel]: float32, or int8 codes, of which a step is `scale` [filters], else None."""

    values: np.ndarray
    scale: np.ndarray | None


def stored(content: bytes, plan: Plan) -> dict[str, Stored]:
    """Of each layer of `plan`, whatever its widths in the file. Raises UnsupportedError for a file of another network."""
    try:
        graph = onnx.load_from_string(content).graph
    except DecodeError as error:
        raise UnsupportedError("not an ONNX file, or cut short") from error
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    nodes = [node for node in graph.node if node.op_type in WEIGHTED]
    layers = list(plan.weighted())
    if len(nodes) != len(layers):
        raise UnsupportedError(f"the file has {len(nodes)} layers with weights, the network {len(layers)}")
    found = {}
    for layer, node in zip(layers, nodes, strict=True):
        own = _weights(node.input[1], constants, made)
        values = own.values.swapaxes(0, 1) if isinstance(layer.op, ConvTranspose) else own.values
        found[layer.name] = Stored(values, own.scale)
    return found


def _weights(name: str, constants: Mapping[str, np.ndarray], made: Mapping[str, onnx.NodeProto]) -> Stored:
    if name in constants:
        return Stored(constants[name], None)
    node = made.get(name)
    parts = [constants.get(part) for part in node.input] if node is not None else []
    if node is None or node.op_type != "DequantizeLinear" or len(parts) != 3 or any(part is None for part in parts):
        raise UnsupportedError(f"the weights {name} are computed, not stored as float32 or int8")
    codes, scale, zero = parts
    assert codes is not None
    assert zero is not None
    return Stored((codes.astype(np.int16) - np.int16(zero.flat[0])).astype(np.int8), scale)
