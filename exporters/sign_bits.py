"""The generator of edgeticket/prng.py as ONNX operations on int32, every intermediate below 2^31.

A 32-bit word is two tensors of 16-bit halves. Only operations that every runtime takes are used, and no shift, no XOR and
no int64: a runtime that computes int64 in int32 gives wrong signs without an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto

from edgeticket import prng
from edgeticket.model import Signs
from exporters.graph import Graph

_HALF = 1 << 16


@dataclass(frozen=True)
class Integers:
    """An int32 tensor of a graph; arithmetic adds nodes. Divisions are of numbers that are not negative."""

    graph: Graph
    name: str

    def _with(self, op: str, other: "Integers | int") -> "Integers":
        operand = other.name if isinstance(other, Integers) else self.graph.constant(np.int32(other))
        return Integers(self.graph, self.graph.node(op, self.name, operand))

    def __add__(self, other: "Integers | int") -> "Integers":
        return self._with("Add", other)

    def __mul__(self, other: "Integers | int") -> "Integers":
        return self._with("Mul", other)

    def __floordiv__(self, other: "Integers | int") -> "Integers":
        return self._with("Div", other)

    def __mod__(self, other: "Integers | int") -> "Integers":
        return self._with("Mod", other)


def permute_halves(high: Any, low: Any, keys: Any) -> tuple[Any, Any]:
    """`prng.permute` of `counter + keys[0]`, all in 16-bit halves; `keys` = ((high, low), ...).

    x (2x + 1) = x + 2 low^2 + 4 high low 2^16 (mod 2^32), where the last needs 14 bits of each factor, and low^2 is taken
    through its bytes. Works on anything that has + * // %: the tests run it on numpy and look at every intermediate.
    """
    high, low = _add(high, low, *keys[0])
    for key in keys[1:]:
        upper, lower = low // 256, low % 256
        down = lower * (upper * 1024 + lower * 2) + low
        up = (high % 16384) * (low * 4 % _HALF) + upper * upper * 2 + high + down // _HALF
        high, low = _add(down % _HALF, up % _HALF, *key)
    return high, low


def _add(high: Any, low: Any, key_high: Any, key_low: Any) -> tuple[Any, Any]:
    low = low + key_low
    return (high + key_high + low // _HALF) % _HALF, low % _HALF


def unpack_bits(graph: Graph, bits: Mapping[str, np.ndarray], name: str) -> tuple[str, dict[str, tuple[int, ...]]]:
    """int32 vector of 0 and 1, all arrays one after the other in C order from packed bytes; and their shapes."""
    packed = np.packbits(np.concatenate([array.reshape(-1) for array in bits.values()]), bitorder="little")
    byte = graph.node("Cast", graph.constant(packed[:, None], name), to=TensorProto.INT32)
    bit = Integers(graph, byte) // Integers(graph, graph.constant(1 << np.arange(8, dtype=np.int32)[None])) % 2
    return graph.node("Reshape", bit.name, graph.sizes(-1)), {key: array.shape for key, array in bits.items()}


def layer_signs(graph: Graph, layers: Mapping[str, Signs]) -> dict[str, str]:
    """int32 [filters * edges, inputs * taps] of -1 and 1 per layer: one hash chain for them all, then a gather a layer."""
    counters = [_counters(graph, weights) for weights in layers.values()]
    high, low, keys = (graph.node("Concat", *parts, axis=0) for parts in zip(*counters, strict=True))
    column = [
        Integers(graph, graph.node("Gather", keys, graph.constant(np.int64(i)), axis=1))
        for i in range(2 * prng.ROUNDS + 2)
    ]
    pairs = list(zip(column[::2], column[1::2], strict=True))
    high_words, low_words = permute_halves(Integers(graph, high), Integers(graph, low), pairs)
    halves = [graph.node("Reshape", half.name, graph.sizes(-1, 1)) for half in (low_words, high_words)]
    powers = graph.constant(1 << np.arange(16, dtype=np.int32)[None])
    bits = [(Integers(graph, half) // Integers(graph, powers)) % 2 for half in halves]
    signs = Integers(graph, graph.node("Concat", *(bit.name for bit in bits), axis=1)) * -2 + 1
    stored, start = {}, 0
    for name, weights in layers.items():
        end = start + prod(_counter_shape(weights))
        stored[name] = _pick(graph, signs.name, weights, start, end)
        start = end
    return stored


def _counter_shape(weights: Signs) -> tuple[int, int, int]:
    """(filters, edges, words): every word up to the last that a kept column reaches, so that a position finds its own."""
    last = (int(weights.columns.max()) + 1) * prod(weights.mask.shape[3:]) - 1
    return len(weights.rows), weights.mask.shape[1], last // 32 + 1


def _counters(graph: Graph, weights: Signs) -> tuple[str, str, str]:
    """Halves of the counters and their keys, int32 [words] and [words, keys]."""
    shape = _counter_shape(weights)
    rows = graph.node("Reshape", _indices(graph, weights.rows), graph.sizes(-1, 1, 1))
    words = _indices(graph, np.arange(shape[2]))
    halves = [
        divmod(key, _HALF) for edge in range(shape[1]) for key in prng.layer_keys(weights.seed, weights.layer, edge)
    ]
    keys = graph.constant(np.array(halves, np.int32).reshape(1, shape[1], 1, -1), "keys")
    flat = graph.sizes(-1)
    return (
        graph.node("Reshape", graph.node("Expand", rows, graph.sizes(*shape)), flat),
        graph.node("Reshape", graph.node("Expand", words, graph.sizes(*shape)), flat),
        graph.node("Reshape", graph.node("Expand", keys, graph.sizes(*shape, 1)), graph.sizes(-1, 2 * prng.ROUNDS + 2)),
    )


def _pick(graph: Graph, signs: str, weights: Signs, start: int, end: int) -> str:
    """Of the signs [all words, 32], this layer's, at the positions of its kept columns."""
    filters, edges, words = _counter_shape(weights)
    taps = prod(weights.mask.shape[3:])
    columns = graph.node("Reshape", _indices(graph, weights.columns), graph.sizes(-1, 1))
    tap = Integers(graph, graph.constant(np.arange(taps, dtype=np.int32)[None]))
    positions = graph.node("Reshape", (Integers(graph, columns) * taps + tap).name, graph.sizes(-1))
    own = graph.node("Slice", signs, graph.sizes(start), graph.sizes(end))
    own = graph.node("Reshape", own, graph.sizes(filters * edges, words * 32))
    return graph.node("Gather", own, positions, axis=1)


def _indices(graph: Graph, values: np.ndarray) -> str:
    """int32 vector, stored in 16 bits where it fits."""
    narrow = np.uint16 if values.max() < _HALF else np.int32
    return graph.node("Cast", graph.constant(values.astype(narrow), "indices"), to=TensorProto.INT32)
