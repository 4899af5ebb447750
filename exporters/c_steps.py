"""A network as steps over one arena: which kernel makes which tensor, where tensors lie, and what tables the kernels read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from edgeticket.arena import Buffer, allocate
from edgeticket.errors import UnsupportedError
from edgeticket.integer_layer import Codes, IntegerLayer
from edgeticket.model import Model
from edgeticket.ops import Conv, Flatten, Layer, Linear, Reshape
from edgeticket.wire import Wire, numbers
from edgeticket.wire_plan import INT8, LISTS, SEED, held
from exporters import c_conv, c_place
from exporters.c_layout import Layout, dense, image, packed
from exporters.c_lists import stored
from exporters.c_operations import operation
from exporters.c_text import ELEMENTS, number_type

MOST = 0xFFFF
BANDED_ROWS = 2  # of a band, at least
TILE = 16  # positions, as in exporters/c/tile.h
SLACK = 32  # bytes behind the arena that the last positions of a run may read
Alias = Flatten | Reshape  # the same bytes
Key = str | tuple[str, str | int]


@dataclass(frozen=True)
class Step:
    """A call; `@3@` in the text stands for the place of buffer 3."""

    text: str
    remark: str


class Steps:
    """`fragments`: files of exporters/c in the order of their need, NAME:u8 and the like where a file is a template."""

    def __init__(self, model: Model, wire: Wire, bands: Mapping[str, int] | None = None, boot: bool = False) -> None:
        self.bands, self.boot = bands or {}, boot
        self.plan, self.model, self.wire = model.plan, model, wire
        self.held: dict[str, Codes] = {name: held(wire.integer, name) for name in model.plan.shapes}
        self.roots = _roots(model)
        self.layouts = {name: self._layout(name) for name in self.plan.shapes if self.roots[name] == name}
        self.calls: list[Step] = []
        self._tables: dict[tuple[str, str], str] = {}
        self.fragments: dict[str, None] = {}
        self.kernels: dict[str, None] = {}  # fragments too, behind all others
        self.tables: list[str] = []
        self.defines: set[str] = set()
        self._buffers: list[Buffer] = []
        self._numbers: dict[Key, int] = {}  # tensor, or what else -> buffer
        self.booted: list[str] = []  # calls that decode lists into RAM
        self._walk()
        self.places, total = allocate(self._buffers)
        self.arena = total + SLACK

    def text(self, text: str) -> str:
        """With the places of its buffers."""
        return re.sub(r"@(\d+)@", lambda match: str(self.places[int(match[1])]), text)

    def signature(self, name: str) -> str:
        """What a caller gives and gets."""
        given = [f"const {self.raw_type(n)} {self.port('in', n)}[{prod(s)}]" for n, s in self.plan.inputs.items()]
        made = [
            f"{number_type(self.held[n].dtype)} {self.port('out', n)}[{prod(self.plan.shapes[n])}]"
            for n in self.plan.outputs
        ]
        return f"int {name}_predict({', '.join([*given, *made])})"

    def raw_type(self, name: str) -> str:
        """Of an input: the sensor's own type, where its values are read exactly, else that of codes."""
        return f"{self.model.inputs[name].dtype}_t" if name in self.wire.integer.exact else "uint8_t"

    def port(self, word: str, name: str) -> str:
        names = list(self.plan.inputs) if word == "in" else list(self.plan.outputs)
        return word if len(names) == 1 else f"{word}{names.index(name)}"

    # layouts

    def _layout(self, name: str) -> Layout:
        """As its only reader, a convolution, wants it, if what makes it can write it so; else dense."""
        readers = [layer for layer in self.plan.layers for n in layer.inputs if self.roots[n] == name]
        readers = [layer for layer in readers if not isinstance(layer.op, Alias)]
        given = name in self.plan.inputs
        if len(readers) == 1 and readers[0].inputs == (name,) and isinstance(readers[0].op, Conv):
            wanted = self.wanted(readers[0])
            made = given or (isinstance(self.plan[name].op, Conv) and wanted.direct)
            if made and name not in {self.roots[output] for output in self.plan.outputs}:
                return wanted
        return dense(self.plan.shapes[name])

    def wanted(self, layer: Layer) -> Layout:
        assert isinstance(layer.op, Conv)
        return packed(layer.op, self.plan.shapes[layer.inputs[0]], self.plan.shapes[layer.name])

    @cached_property
    def offset_bytes(self) -> int:
        """Of a distance within a tensor."""
        sizes = [layout.size for layout in self.layouts.values()]
        sizes += [self.wanted(layer).size for layer in self.plan.layers if isinstance(layer.op, Conv)]
        return 2 if max(sizes) < 0xFFFF else 4

    @property
    def list_entries(self) -> int:
        """The longest list of a filter of any ticket that has as many edges left."""
        return self.wire.firmware.most

    @cached_property
    def half_tiles(self) -> bool:
        """Whether a way to sum up half a tile, some 250 bytes, saves more than a twelfth of the additions."""
        work = saved = 0
        for record in self.wire.integer.layers:
            if isinstance(record.layer.op, Conv) and self.wire.codings[record.layer.name] != INT8:
                assert record.values is not None
                _, height, width = image(self.plan.shapes[record.layer.name])
                run = (height - 1) * self.wanted(record.layer).pitch + width
                entries = int(np.abs(record.values.astype(np.int64)).sum())
                work += entries * 2 * -(-run // TILE)
                saved += entries * (0 < run % TILE <= TILE // 2)
        return 12 * saved > work

    # buffers

    def make(self, name: Key, size: int) -> str:
        """A buffer that the next call makes."""
        self._numbers[name] = len(self._buffers)
        self._buffers.append(Buffer(size, len(self.calls), len(self.calls)))
        return f"@{self._numbers[name]}@"

    def use(self, name: Key) -> str:
        """The buffer of a tensor, which the next call reads."""
        number = self._numbers[self.roots.get(name, name) if isinstance(name, str) else name]
        self._buffers[number] = replace(self._buffers[number], last=len(self.calls))
        return f"@{number}@"

    def bytes(self, name: str) -> int:
        return np.dtype(self.held[name].dtype).itemsize

    def suffix(self, name: str) -> str:
        return "u8" if self.bytes(name) == 1 else "i16"

    def tensor(self, name: str) -> str:
        return self.make(name, self.layouts[name].size * self.bytes(name))

    def _pointer(self, name: str, place: str) -> str:
        return f"({ELEMENTS[self.suffix(name)]} *)(void *)(arena + {place})"

    # calls

    def _walk(self) -> None:
        for layer in self.plan.weighted():
            self._check_sizes(layer)
        for i, name in enumerate(self.plan.inputs):
            c_place.take(self, i, name)
        for index, record in enumerate(self.wire.integer.layers):
            op = record.layer.op
            if isinstance(op, Conv):
                self._conv(index, record.layer)
            elif isinstance(op, Linear):
                self._linear(index, record)
            elif not isinstance(op, Alias):
                self._operation(index, record)
        for name in self.plan.outputs:
            size = prod(self.plan.shapes[name]) * self.bytes(name)
            self.call(f"memcpy({self.port('out', name)}, arena + {self.use(name)}, {size});", f"output {name}")

    def call(self, text: str, remark: str) -> None:
        self.calls.append(Step(text, re.sub(r"[^\w .,:()-]", "_", remark, flags=re.ASCII)))

    def _check_sizes(self, layer: Layer) -> None:
        """Raise UnsupportedError for what does not fit the 16-bit fields of the kernels' tables."""
        filters, inputs, *kernel = self.plan.weight_shape(layer)
        sizes = [filters, inputs, prod(kernel), self.list_entries, *self.plan.shapes[layer.name]]
        sizes += [self.wanted(layer).pitch] if isinstance(layer.op, Conv) else []
        if max(sizes) > MOST:
            raise UnsupportedError(
                f"layer {layer.name}: {max(sizes)} in one direction: the C form takes at most {MOST}"
            )

    def need(self, *fragments: str) -> None:
        self.fragments |= dict.fromkeys(fragments)

    def _conv(self, index: int, layer: Layer) -> None:
        if layer.name in self.bands:
            c_conv.banded(self, index, layer, self.bands[layer.name])
        elif not any(self.plan[name].inputs == (layer.name,) for name in self.bands):
            c_conv.whole(self, index, layer)

    def _linear(self, index: int, record: IntegerLayer) -> None:
        layer, (source,) = record.layer, record.layer.inputs
        place, out = self.use(source), self.tensor(layer.name)
        filters, inputs = self.plan.weight_shape(layer)
        fields = [
            f"{{{inputs}, 1, 1, 0}}, {place}, {out}, 0, 0",
            f"{filters}, {filters}, {self.wide_index(layer)}, 1, 1, 1, {{{{0, 0}}, {{0, 0}}}}, 0, 0, &ET_ACT_l{index}{stored(self, index, layer, None)}",
        ]
        suffix = self.suffix(source)
        self.need_weights("LINEAR", self.wire.codings[layer.name] != INT8, suffix)
        self.kernels[f"linear_run.h:{suffix}"] = None
        name = self.table(f"static const et_conv et_{index} = {{{', '.join(fields)}}};")
        self.call(f"k = et_linear_{suffix}(&{name}, arena, {self.list(layer)}, model + 8, k);", layer.name)

    def need_weights(self, kernel: str, masked: bool, suffix: str, *fragments: str) -> None:
        self.defines.add(f"ET_{'MASKED' if masked else 'DENSE'}_{kernel}_{suffix}")
        self.need("filters.h", "fan.h", "conv.h", *self._term_fragments(masked), *fragments)

    @property
    def stores_lists(self) -> bool:
        return self.boot or LISTS in self.wire.codings.values()

    def _term_fragments(self, masked: bool) -> list[str]:
        if not masked or not self.stores_lists:
            return [*self._mask_fragments(masked), *["terms.h"] * masked]
        return (
            [*self._mask_fragments(True), "places.h", "stored.h", "boot.h"] if self.boot else ["places.h", "stored.h"]
        )

    def table(self, text: str) -> str:
        """The name of a table of this content, which is made unless there is one."""
        head, _, content = text.partition(" = ")
        name = head.removesuffix("[]").rpartition(" ")[2]
        found = self._tables.setdefault((head.replace(name, ""), content), name)
        if found == name:
            self.tables.append(text)
        return found

    def _mask_fragments(self, masked: bool) -> list[str]:
        return ["signs.h"] * (masked and SEED in self.wire.codings.values()) + ["masks.h"] * masked

    def list(self, layer: Layer) -> str:
        """Scratch for a filter's list; for a convolution also for where each weight reads. Calls of one step share it."""
        if self.wire.codings[layer.name] in (INT8, LISTS):
            return "0"
        places = prod(self.plan.weight_shape(layer)[1:]) if isinstance(layer.op, Conv) else 0
        size = (self.list_entries + places) * self.offset_bytes
        key = ("list of step", len(self.calls))
        if key not in self._numbers:
            self.make(key, size)
        number = self._numbers[key]
        self._buffers[number] = replace(self._buffers[number], size=max(size, self._buffers[number].size))
        return f"(et_offset *)(void *)(arena + @{number}@)"

    def wide_index(self, layer: Layer) -> int:
        return getattr(self.model.weights[layer.name], "layer", 0)

    def _operation(self, index: int, record: IntegerLayer) -> None:
        layer = record.layer
        places = {name: self.use(name) for name in layer.inputs}
        places[layer.name] = self.tensor(layer.name)
        kernel = operation(self.wire.integer, record, {name: self._pointer(name, at) for name, at in places.items()})
        self.need(*kernel.fragments)
        self.tables += kernel.tables
        scratch = ""
        if kernel.scratch:
            place = self.make(("scratch", layer.name), kernel.scratch)
            scratch = f"uint8_t *scratch = arena + {place};\n"
        constants = len(numbers(self.model, self.wire.integer, record))
        if kernel.row is None:
            self.call(f"{{\n{scratch}{kernel.call}\n  }}\n  k += {constants};", layer.name)
        else:
            loop = self._filters(index, layer, kernel.call, f"scratch + {kernel.row}", constants)
            self.call(f"{{\n{scratch}{loop}\n}}", layer.name)

    def _filters(self, index: int, layer: Layer, call: str, row: str, constants: int) -> str:
        """`call` for every filter, its int8 weights before it in `row`; they follow so many bytes of constants."""
        filters, inputs, *kernel = self.plan.weight_shape(layer)
        size = inputs * prod(kernel)
        weights = f"const uint8_t *weights = k + {constants};"
        if self.wire.codings[layer.name] == INT8:
            fill = f"memcpy({row}, weights + 1 + filter * {size}, {size});"
            return self._loop(filters, weights, fill, call, f"weights + {1 + filters * size}")
        self.need("fan.h", *self._mask_fragments(True), "row.h")
        self.tables.append(f"static const et_fan et_fan_{index} = {{{inputs}, {prod(kernel)}, 0, 0}};")
        opened = f"et_masks masks;\n{weights}\nweights = et_masks_open(&masks, weights, model + 8, {self.wide_index(layer)});"
        fill = f"et_row(&masks, &et_fan_{index}, {self.list(layer)}, (int8_t *)({row}));"
        return self._loop(filters, opened, fill, call, "weights")

    def _loop(self, filters: int, opened: str, fill: str, call: str, end: str) -> str:
        return f"{opened}\nfor (int32_t filter = 0; filter < {filters}; filter++) {{\n{fill}\n{call}\n}}\nk = {end};"


def steps(model: Model, wire: Wire, boot: bool = False, most_bands: int = 2) -> Steps:
    """In two bands of rows where that spares a twelfth of the arena; in more, if they may be, as long as each spares a fortieth:
    it costs a convolution's lists once more, and a few rows twice."""
    best = Steps(model, wire, boot=boot)
    larger = sorted(model.plan.layers, key=lambda layer: -prod(model.plan.shapes[layer.inputs[0]]))
    for layer in larger:
        taken = {name for own in best.bands for name in (own, best.plan[own].inputs[0])}
        if best.stores_lists or not taken.isdisjoint((layer.name, *layer.inputs)) or not c_conv.may_band(best, layer):
            continue
        for bands in range(2, min(most_bands, image(model.plan.shapes[layer.name])[1] // BANDED_ROWS) + 1):
            tried = Steps(model, wire, {**best.bands, layer.name: bands})
            if tried.arena >= best.arena * (1 - 1 / (12 if bands == 2 else 40)):
                break
            best = tried
    return best


def _roots(model: Model) -> dict[str, str]:
    """Tensor -> the tensor whose bytes it is."""
    roots = {name: name for name in model.plan.inputs}
    for layer in model.plan.layers:
        roots[layer.name] = roots[layer.inputs[0]] if isinstance(layer.op, Alias) else layer.name
    return roots
