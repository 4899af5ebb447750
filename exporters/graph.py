"""A small builder over onnx.helper: same calls, same bytes."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 13  # with IR 7: any ONNX Runtime since 1.6 loads it
IR_VERSION = 7
PRODUCER = "edgeticket"
BATCH = "N"

Value = tuple[str, type | np.dtype, Sequence[int]]  # name, numpy type, shape without the batch


class Graph:
    """Collects nodes and initializers in the order of the calls; names are unique and depend on that order alone."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._taken: set[str] = set()
        self._used: Counter[str] = Counter()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def fresh(self, hint: str) -> str:
        """A name that nothing has yet: the hint, its odd characters replaced, with a number where it is taken."""
        stem = name = re.sub(r"[^A-Za-z0-9_.]", "_", hint) or "_"
        while name in self._taken:
            self._used[stem] += 1
            name = f"{stem}_{self._used[stem]}"
        self._taken.add(name)
        return name

    def constant(self, values: Any, hint: str = "c") -> str:
        """The initializer that holds `values` (an array, or a numpy scalar); equal content is stored once."""
        array = np.array(values, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.fresh(hint)
            self.initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def sizes(self, *values: int) -> str:
        """An int64 vector, as Reshape, Slice, Expand and the like take it."""
        return self.constant(np.array(values, np.int64), "i")

    def node(self, op: str, *inputs: str, name: str = "", output: str = "", **attributes: Any) -> str:
        """Add one node and return its only output.

        `output` is a name that `fresh` gave before; else `name` is a hint. Without either, the node stays nameless and its
        output gets a short name, so that long chains stay small.
        """
        named = bool(name or output)
        output = output or self.fresh(name or "t")
        self.nodes.append(helper.make_node(op, inputs, [output], name=output if named else None, **attributes))
        return output

    def model(
        self,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        *,
        name: str = "network",
        metadata: Mapping[str, str] | None = None,
    ) -> onnx.ModelProto:
        """The model of everything added; the batch is the dynamic dimension `N`."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [_value(*value) for value in inputs],
            [_value(*value) for value in outputs],
            self.initializers,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name=PRODUCER
        )
        helper.set_model_props(model, dict(sorted((metadata or {}).items())))
        return model


def _value(name: str, dtype: type | np.dtype, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [BATCH, *shape])


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Equal models give equal bytes."""
    return bytes(model.SerializeToString(deterministic=True))
