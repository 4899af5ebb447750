"""Four lossless ways to store small integer weights in an ONNX graph of plain operations.

Each gives, per layer, a float32 tensor that is bit for bit `Model.weight(name)`, for a ConvTranspose with the first two axes
swapped. Everything that computes one reads constants alone, so ONNX Runtime folds it when it loads the file. DequantizeLinear
is not used: with it ONNX Runtime keeps the integers for an int8 fusion that never comes, and dequantises at every inference.
"""

import logging
from collections.abc import Mapping
from math import prod

import numpy as np
from onnx import TensorProto

from edgeticket.errors import UsageError
from edgeticket.model import Float, Model, Signs
from edgeticket.ops import ConvTranspose
from exporters.graph import Graph
from exporters.sign_bits import layer_signs, unpack_bits

LOG = logging.getLogger("edgeticket.export")
STORAGES = ("fp32", "cast8", "trit5", "seed")
_POWERS_OF_3 = 3 ** np.arange(5, dtype=np.int32)


def store(graph: Graph, model: Model, storage: str) -> dict[str, str]:
    """Add the weights of every layer; layer name -> tensor name. Raises UsageError for an unknown storage.

    cast8: int8, cast. trit5: five values of {-1, 0, 1} in a byte. seed: the mask in bits, the signs computed from the seed
    again. A layer that does not fit its storage takes the next one that does: seed or trit5, cast8, fp32.
    """
    if storage not in STORAGES:
        raise UsageError(f"weights {storage!r}: take one of {', '.join(STORAGES)}")
    integer = {name: weights.values for name, weights in model.weights.items() if not isinstance(weights, Float)}
    special: dict[str, str] = {}
    if storage == "trit5":
        special = _trits(graph, {name: values for name, values in integer.items() if np.abs(values).max() <= 1})
    elif storage == "seed":
        special = _seeded(graph, {name: w for name, w in model.weights.items() if isinstance(w, Signs)})
    for name in integer if storage in ("trit5", "seed") else ():
        if name not in special and isinstance(model.weights[name], Signs):
            LOG.warning("layer %s holds weights beyond -1, 0, 1: stored as cast8, not %s", name, storage)
    stored = {}
    for name in model.weights:
        if storage == "fp32" or name not in integer:
            weight = model.weight(name)
            weight = weight.swapaxes(0, 1) if _inputs_first(model, name) else weight
            stored[name] = graph.constant(weight, f"{name}_weight")
            continue
        small = special.get(name) or graph.constant(integer[name].astype(np.int8), f"{name}_integers")
        stored[name] = _scaled(graph, model, name, small)
    return stored


def _inputs_first(model: Model, name: str) -> bool:
    """Whether ONNX wants the weights as [inputs, filters, *kernel]."""
    return isinstance(model.plan[name].op, ConvTranspose)


def _scaled(graph: Graph, model: Model, name: str, integers: str) -> str:
    """float32(integer) * scale of the filter: one rounding, the same as `Model.weight`."""
    dimensions = model.weights[name].values.ndim
    scale = model.scale[name].astype(np.float32).reshape(-1, *[1] * (dimensions - 1))
    factors = graph.node("Cast", integers, to=TensorProto.FLOAT), graph.constant(scale, f"{name}_scale")
    if not _inputs_first(model, name):
        return graph.node("Mul", *factors, name=f"{name}_weight")
    order = [1, 0, *range(2, dimensions)]
    return graph.node("Transpose", graph.node("Mul", *factors), perm=order, name=f"{name}_weight")


def _trits(graph: Graph, values: Mapping[str, np.ndarray]) -> dict[str, str]:
    """One decoding for the whole model, then a slice a layer."""
    if not values:
        return {}
    trits = np.concatenate([array.reshape(-1) for array in values.values()]).astype(np.int32) + 1
    trits = np.pad(trits, (0, -len(trits) % 5)).reshape(-1, 5)
    packed = graph.constant((trits @ _POWERS_OF_3).astype(np.uint8)[:, None], "trits")
    digits = graph.node("Div", graph.node("Cast", packed, to=TensorProto.INT32), graph.constant(_POWERS_OF_3[None]))
    digits = graph.node("Mod", digits, graph.constant(np.int32(3)))
    flat = graph.node("Reshape", graph.node("Sub", digits, graph.constant(np.int32(1))), graph.sizes(-1))
    shapes = {name: array.shape for name, array in values.items()}
    return _slices(graph, flat, shapes)


def _seeded(graph: Graph, layers: Mapping[str, Signs]) -> dict[str, str]:
    """Sum over edges of sign * mask, int32 [filters, inputs, *kernel]."""
    if not layers:
        return {}
    masks = _slices(graph, *unpack_bits(graph, {name: weights.mask for name, weights in layers.items()}, "masks"))
    flipped = {name: weights.flips & weights.mask for name, weights in layers.items() if weights.flips is not None}
    flips = _slices(graph, *unpack_bits(graph, flipped, "flips")) if flipped else {}
    stored = {}
    for name, signs in layer_signs(graph, layers).items():
        keep = masks[name]
        if name in flips:
            keep = graph.node("Sub", keep, graph.node("Add", flips[name], flips[name]))
        edges = graph.node("Mul", graph.node("Reshape", signs, graph.sizes(*layers[name].mask.shape)), keep)
        stored[name] = _sum_of_edges(graph, edges, layers[name])
    return stored


def _sum_of_edges(graph: Graph, edges: str, weights: Signs) -> str:
    filters, count, *rest = weights.mask.shape
    if count == 1:
        return graph.node("Reshape", edges, graph.sizes(filters, *rest))
    return graph.node("ReduceSum", edges, graph.sizes(1), keepdims=0)


def _slices(graph: Graph, flat: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Cut a vector into tensors, one after the other."""
    parts, start = {}, 0
    for name, shape in shapes.items():
        end = start + prod(shape)
        part = graph.node("Slice", flat, graph.sizes(start), graph.sizes(end))
        parts[name] = graph.node("Reshape", part, graph.sizes(*shape))
        start = end
    return parts
