"""A layer as its C kernel sees it: operands, their element types, names of its tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from edgeticket.integer import IntegerModel
from edgeticket.integer_layer import IntegerLayer
from edgeticket.ops import Op, Shape
from edgeticket.wire_plan import held

T = TypeVar("T")


def table(values: Iterable[object]) -> str:
    """A C initialiser; what is iterable in `values` is one too."""
    return f"{{{', '.join(table(v) if isinstance(v, list | tuple) else str(v) for v in values)}}}"


@dataclass(frozen=True)
class Site:
    model: IntegerModel
    record: IntegerLayer
    tensors: Mapping[str, str]  # name -> C expression of a pointer

    @property
    def op(self) -> Op:
        return self.record.layer.op

    @property
    def shape(self) -> Shape:
        """Of the output."""
        return self.model.plan.shapes[self.record.layer.name]

    @property
    def shapes(self) -> list[Shape]:
        """Of the inputs."""
        return [self.model.plan.shapes[name] for name in self.record.layer.inputs]

    @property
    def xs(self) -> list[str]:
        return [self.tensors[name] for name in self.record.layer.inputs]

    @property
    def x(self) -> str:
        return self.xs[0]

    @property
    def y(self) -> str:
        return self.tensors[self.record.layer.name]

    @cached_property
    def kinds(self) -> list[str]:
        """Element types of the inputs, as templates name them."""
        dtypes = [held(self.model, name).dtype for name in self.record.layer.inputs]
        return ["u8" if dtype is np.uint8 else "i16" for dtype in dtypes]

    @property
    def kind(self) -> str:
        return self.kinds[0]

    @property
    def act(self) -> str:
        """C expression of the layer's et_activation."""
        return f"&ET_ACT_{self._tag}"

    @cached_property
    def _tag(self) -> str:
        return f"l{[layer.name for layer in self.model.plan.layers].index(self.record.layer.name)}"

    def name(self, what: str) -> str:
        """Of the layer's table of that."""
        return f"ET_{what.upper()}_{self._tag}"

    def table(self, struct: str, values: Iterable[object]) -> str:
        """Definition of the layer's table that has the name of its type `et_...`."""
        return f"static const {struct} {self.name(struct.removeprefix('et_'))} = {table(values)};"


def two(values: Sequence[T], one: T) -> tuple[T, T]:
    """Of height and width, where a value for the width alone has `one` beside it."""
    first, second = (one, *values)[-2:]
    return first, second
