"""What a network's C takes, counted before it is compiled: which kernels, how many bytes of constants and RAM, how much work.

The counts come from the exporter's own plan of the network (exporters/c_steps.py). What one of each is worth on a core is
measured: edgeticket/core_table.py.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

import numpy as np

from edgeticket.integer_layer import IntegerLayer
from edgeticket.model import Model, Signs
from edgeticket.ops import AveragePool, Conv, ConvTranspose, Layer, Linear, MaxPool
from edgeticket.wire import Wire
from edgeticket.wire_plan import INT8, SEED, edges
from exporters import c_conv
from exporters.c_layout import image
from exporters.c_network import Network

# exporters/c: positions of a tile, of a step of int8 products, and of a step without words; entries of a pass; places of a mask.
TILE, LANES, QUAD, PASS, WORD = 16, 8, 4, 128, 32
# Bytes of a number in a table of the C file; what is not here is int32_t or a pointer.
NUMBER = {"uint8_t": 1, "int8_t": 1, "uint16_t": 2, "int16_t": 2, "et_share": 2}
_CONSTANTS = re.compile(r"static const (\w+) \w+(\[\])? = (.*);", re.DOTALL)
_VARIABLES = re.compile(r"static (\w+) \w+\[(\d+)\];")

Counts = Iterator[tuple[str, int]]


@dataclass(frozen=True)
class Footprint:
    """Of `model` in its wire form, or of a stand-in for one (edgeticket/stand_in.py). `boot`: lists are made once, in RAM."""

    model: Model
    wire: Wire
    boot: bool = False

    @cached_property
    def network(self) -> Network:
        return Network(self.model, self.wire, "network", self.boot)

    @property
    def ram_bytes(self) -> int:
        """All but the stack: the arena, an array of words, and lists that are made once."""
        steps = self.network.steps
        size = {"et_offset": steps.offset_bytes, **NUMBER}
        found = [match.groups() for text in steps.tables if (match := _VARIABLES.fullmatch(text))]
        lists = sum(ceil(size[kind] * int(count) / 4) for kind, count in found) + bool(
            found
        )  # and whether they are made
        return 4 * (ceil(steps.arena / 4) + lists)

    @property
    def model_bytes(self) -> int:
        return len(self.wire.packet)

    @cached_property
    def table_bytes(self) -> int:
        """Of lists of sizes and places that kernels read, and of curves."""
        size = {"et_offset": self.network.steps.offset_bytes, **NUMBER}
        curves = {record.table.tobytes() for record in self.wire.integer.layers if record.table is not None}
        lists = (size.get(kind, 4) * (values.count(",") + 1) for kind, many, values in self._tables() if many)
        return sum(lists) + sum(map(len, curves))

    def _tables(self) -> Iterator[tuple[str, str, str]]:
        """Type, [] or nothing, content."""
        for text in self.network.steps.tables:
            match = _CONSTANTS.fullmatch(text)
            assert match or _VARIABLES.fullmatch(text), text
            if match:
                yield match[1], match[2] or "", match[3]

    @cached_property
    def code(self) -> Counter[str]:
        """What code there is: files of exporters/c, parts of them that are needed, calls, and what describes a layer to them."""
        steps = self.network.steps
        found = Counter(dict.fromkeys(("core.h", *steps.fragments, *steps.kernels), 1))
        for line in self.network.settings():
            if match := re.fullmatch(r"#define (ET_\w+)", line):
                found[match[1]] = 1
        if any(edges(self.model, name) > 1 for name in self._masked):
            found["edges"] = 1
        if steps.offset_bytes == 4:
            found["far"] = 1
        for call in steps.calls:
            found.update(f"{name}()" for name in re.findall(r"\b(et_\w+|memcpy|memset)\(", call.text))
        found.update(kind for kind, many, _ in self._tables() if not many)
        return found

    @cached_property
    def stack(self) -> Counter[str]:
        """What may be on the stack: what code there is, and the generator's keys of every edge while lists are made."""
        found = Counter({what: 1 for what in self.code if not what.endswith("()")})
        most = max((edges(self.model, name) for name in self._masked), default=0)
        for kind in ("CONV", "LINEAR"):
            if any(what.startswith(f"ET_MASKED_{kind}") for what in self.code) and not self.boot:
                found[f"keys of {kind}"] = most
        return found

    @cached_property
    def work(self) -> Counter[str]:
        """How often an inference does what takes instructions."""
        plan, found = self.model.plan, Counter[str]({"once": 1})
        found["elements taken in"] += sum(prod(plan.shapes[name]) for name in plan.inputs)
        for record in self.wire.integer.layers:
            found["layers"] += 1
            for what, count in self._layer(record):
                found[what] += count
        return +found

    @cached_property
    def _features(self) -> set[str]:
        return self.wire.features

    @cached_property
    def _masked(self) -> frozenset[str]:
        return frozenset(name for name, coding in self.wire.codings.items() if coding != INT8)

    def _layer(self, record: IntegerLayer) -> Counts:
        op, layer, shapes = record.layer.op, record.layer, self.model.plan.shapes
        if isinstance(op, Conv):
            for run in self._runs(layer):
                yield from self._conv(record, *run)
        elif isinstance(op, Linear):
            yield from self._linear(record)
        else:
            window = prod(op.kernel) if isinstance(op, MaxPool | AveragePool) else 1
            yield type(op).__name__, max(window * prod(shapes[layer.name]), *(prod(shapes[n]) for n in layer.inputs), 1)
        if isinstance(op, ConvTranspose):
            yield "transposed products", self.model.plan.macs()[layer.name]
            if layer.name in self._masked:
                yield from self._decode(record)

    def _runs(self, layer: Layer) -> list[tuple[int, int, int]]:
        """Of each call of a convolution the rows and columns that it makes, and what lies between two rows of what it reads."""
        steps, (_, height, width) = self.network.steps, image(self.model.plan.shapes[layer.name])
        pitch = steps.wanted(layer).pitch
        for name, bands in steps.bands.items():
            if name == layer.name:
                return [(part.count, width, lies.pitch) for _, part, lies in c_conv.cut(steps, layer, bands)]
            if self.model.plan[name].inputs == (layer.name,):
                return [(read.count, width, pitch) for read, *_ in c_conv.cut(steps, self.model.plan[name], bands)]
        return [(height, width, pitch)]

    def _conv(self, record: IntegerLayer, height: int, width: int, pitch: int) -> Counts:
        layer, steps = record.layer, self.network.steps
        filters, inputs, *kernel = self.model.plan.weight_shape(layer)
        kind, masked = steps.suffix(layer.inputs[0]), layer.name in self._masked
        run = (height - 1) * pitch + width
        tiles, last = ceil(run / TILE), (run - 1) % TILE + 1
        slow = self._slow(record)
        yield "filters", filters
        yield "tiles", filters * tiles
        yield "rows", filters * height
        yield "codes", (filters - slow) * height * width
        yield "slow codes", slow * height * width
        if not masked:
            every = filters * inputs * prod(kernel)
            yield "weights", every
            for size, word in ((LANES, ""), (QUAD, " by 4")):
                yield f"products{word} {kind}", every * ceil(run / size)
                yield f"planes{word} {kind}", filters * inputs * ceil(run / size)
                yield f"steps{word} {kind}", filters * ceil(run / size)
            return
        yield from self._decode(record)
        sides = self._sides(record)
        half = steps.half_tiles and last <= TILE // 2
        yield f"adds {kind}", int(sides.sum()) * (tiles - half)
        yield f"half adds {kind}", int(sides.sum()) * half
        yield f"adds by 4 {kind}", int(sides.sum()) * ceil(run / QUAD)
        yield f"passes {kind}", tiles * int(np.ceil(sides / PASS).max(0).sum())

    @staticmethod
    def _slow(record: IntegerLayer) -> int:
        """Filters whose sums become codes by the general way: exporters/c/rescale.h."""
        assert record.shift is not None
        if record.table is not None or record.below is not None:
            return len(record.shift)
        return int(((record.shift < 16) | (record.shift > 32)).sum())

    def _linear(self, record: IntegerLayer) -> Counts:
        filters, inputs = self.model.plan.weight_shape(record.layer)
        yield "outputs", filters
        if record.layer.name in self._masked:
            yield from self._decode(record)
            yield "single adds", int(self._sides(record).sum())
        else:
            yield "single products", filters * inputs

    def _sides(self, record: IntegerLayer) -> np.ndarray:
        """Entries of the plus and of the minus list of each filter, [2, filters]."""
        assert record.values is not None
        values = record.values.reshape(len(record.values), -1).astype(np.int32)
        total, size = values.sum(1), np.abs(values).sum(1)
        return np.stack([size + total, size - total]) // 2

    def _left(self, record: IntegerLayer) -> int:
        """Weights that are not 0."""
        assert record.values is not None
        return int(np.count_nonzero(record.values))

    def _decode(self, record: IntegerLayer) -> Counts:
        """What it takes to make a layer's lists."""
        if self.boot and isinstance(record.layer.op, Conv | Linear):
            return
        name = record.layer.name
        filters, *rest = self.model.plan.weight_shape(record.layer)
        words, left = filters * ceil(prod(rest) / WORD), self._left(record)
        count, seed = edges(self.model, name), self.wire.codings[name] == SEED
        yield "places", prod(rest)
        yield "mask words", words
        yield "entries", int(self._sides(record).sum())
        yield "sign words", words * count * seed
        if count > 1 or not seed:
            yield "sided", left
            yield "further", int(self._sides(record).sum()) - left
            yield "edges of sided", left * count * seed
        if "RICE" in self._features:
            yield "gaps", left
        own = self.model.weights[name]
        assert isinstance(own, Signs)
        if seed and (own.columns != np.arange(len(own.columns))).any():
            yield "mapped", filters * (int(own.columns.max()) + 1)
            yield "mapped words", filters * max(rest[0], ceil(prod(rest) / WORD)) * count
