"""A network as steps over one arena: which kernel makes which tensor, where tensors lie, and what tables the kernels read."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from edgeticket.arena import Buffer, allocate
from edgeticket.integer_layer import Codes, IntegerLayer
from edgeticket.model import Model
from edgeticket.ops import Conv, ConvTranspose, Flatten, Layer, Linear, Reshape
from edgeticket.wire import INT8, SEED, Wire, held, numbers
from exporters.c_layout import Layout, dense, image, packed
from exporters.c_operations import operation
from exporters.c_text import array, number_type

TILE = 16  # positions, as in exporters/c/tile.h
SLACK = 32  # bytes behind the arena that the last positions of a run may read
Alias = Flatten | Reshape  # the same bytes
ELEMENTS = {"u8": "uint8_t", "i16": "int16_t"}


@dataclass(frozen=True)
class Step:
    """A call; `@3@` in the text stands for the place of buffer 3."""

    text: str
    remark: str


class Steps:
    """`fragments`: files of exporters/c in the order of their need, NAME:u8 and the like where a file is a template."""

    def __init__(self, model: Model, wire: Wire) -> None:
        self.plan, self.model, self.wire = model.plan, model, wire
        self.held: dict[str, Codes] = {name: held(wire.integer, name) for name in model.plan.shapes}
        self.roots = _roots(model)
        self.layouts = {name: self._layout(name) for name in self.plan.shapes if self.roots[name] == name}
        self.calls: list[Step] = []
        self.fragments: dict[str, None] = {}
        self.kernels: dict[str, None] = {}  # fragments too, behind all others
        self.tables: list[str] = []
        self.defines: set[str] = set()
        self._buffers: list[Buffer] = []
        self._numbers: dict[str, int] = {}  # tensor -> buffer
        self._walk()
        self.places, total = allocate(self._buffers)
        self.arena = total + SLACK

    def text(self, text: str) -> str:
        """With the places of its buffers."""
        return re.sub(r"@(\d+)@", lambda match: str(self.places[int(match[1])]), text)

    def signature(self, name: str) -> str:
        """What a caller gives and gets."""
        given = [f"const {self.raw_type(n)} {self._port('in', n)}[{prod(s)}]" for n, s in self.plan.inputs.items()]
        made = [
            f"{number_type(self.held[n].dtype)} {self._port('out', n)}[{prod(self.plan.shapes[n])}]"
            for n in self.plan.outputs
        ]
        return f"int {name}_predict({', '.join([*given, *made])})"

    def raw_type(self, name: str) -> str:
        """Of an input: the sensor's own type, where its values are read exactly, else that of codes."""
        return f"{self.model.inputs[name].dtype}_t" if name in self.wire.integer.exact else "uint8_t"

    def _port(self, word: str, name: str) -> str:
        names = list(self.plan.inputs) if word == "in" else list(self.plan.outputs)
        return word if len(names) == 1 else f"{word}{names.index(name)}"

    # layouts

    def _layout(self, name: str) -> Layout:
        """As its only reader, a convolution, wants it, if what makes it can write it so; else dense."""
        readers = [layer for layer in self.plan.layers for n in layer.inputs if self.roots[n] == name]
        readers = [layer for layer in readers if not isinstance(layer.op, Alias)]
        given = name in self.plan.inputs
        if len(readers) == 1 and readers[0].inputs == (name,) and isinstance(readers[0].op, Conv):
            wanted = self._wanted(readers[0])
            made = given or (isinstance(self.plan[name].op, Conv) and wanted.direct)
            if made and name not in {self.roots[output] for output in self.plan.outputs}:
                return wanted
        return dense(self.plan.shapes[name])

    def _wanted(self, layer: Layer) -> Layout:
        assert isinstance(layer.op, Conv)
        return packed(layer.op, self.plan.shapes[layer.inputs[0]], self.plan.shapes[layer.name])

    @cached_property
    def offset_bytes(self) -> int:
        """Of a distance within a tensor."""
        sizes = [layout.size for layout in self.layouts.values()]
        sizes += [self._wanted(layer).size for layer in self.plan.layers if isinstance(layer.op, Conv)]
        return 2 if max(sizes) < 0xFFFF else 4

    @cached_property
    def list_entries(self) -> int:
        """The longest list of a filter."""
        longest = 1
        for record in self.wire.integer.layers:
            if self.wire.codings.get(record.layer.name, INT8) != INT8:
                assert record.values is not None
                sums = np.abs(record.values.astype(np.int64)).reshape(len(record.values), -1).sum(1)
                longest = max(longest, int(sums.max()))
        return longest

    @cached_property
    def half_tiles(self) -> bool:
        """Whether a way to sum up half a tile, some 250 bytes, saves more than a twelfth of the additions."""
        work = saved = 0
        for record in self.wire.integer.layers:
            if isinstance(record.layer.op, Conv) and self.wire.codings[record.layer.name] != INT8:
                assert record.values is not None
                _, height, width = image(self.plan.shapes[record.layer.name])
                run = (height - 1) * self._wanted(record.layer).pitch + width
                entries = int(np.abs(record.values.astype(np.int64)).sum())
                work += entries * 2 * -(-run // TILE)
                saved += entries * (0 < run % TILE <= TILE // 2)
        return 12 * saved > work

    # buffers

    def _make(self, name: str, size: int) -> str:
        """A buffer that the next call makes."""
        self._numbers[name] = len(self._buffers)
        self._buffers.append(Buffer(size, len(self.calls), len(self.calls)))
        return f"@{self._numbers[name]}@"

    def _use(self, name: str) -> str:
        """The buffer of a tensor, which the next call reads."""
        number = self._numbers[self.roots.get(name, name)]
        self._buffers[number] = replace(self._buffers[number], last=len(self.calls))
        return f"@{number}@"

    def _bytes(self, name: str) -> int:
        return np.dtype(self.held[name].dtype).itemsize

    def _suffix(self, name: str) -> str:
        return "u8" if self._bytes(name) == 1 else "i16"

    def _tensor(self, name: str) -> str:
        return self._make(name, self.layouts[name].size * self._bytes(name))

    def _pointer(self, name: str, place: str) -> str:
        return f"({ELEMENTS[self._suffix(name)]} *)(void *)(arena + {place})"

    # calls

    def _walk(self) -> None:
        for name in self.plan.inputs:
            self._take(name)
        for index, record in enumerate(self.wire.integer.layers):
            op = record.layer.op
            if isinstance(op, Conv):
                self._conv(index, record)
            elif isinstance(op, Linear):
                self._linear(index, record)
            elif not isinstance(op, Alias):
                self._operation(index, record)
        for name in self.plan.outputs:
            size = prod(self.plan.shapes[name]) * self._bytes(name)
            self._call(f"memcpy({self._port('out', name)}, arena + {self._use(name)}, {size});", f"output {name}")

    def _call(self, text: str, remark: str) -> None:
        self.calls.append(Step(text, remark))

    def _need(self, *fragments: str) -> None:
        self.fragments |= dict.fromkeys(fragments)

    def _take(self, name: str) -> None:
        """The caller's values into the arena."""
        source, layout, place, suffix = (
            self._port("in", name),
            self.layouts[name],
            self._tensor(name),
            self._suffix(name),
        )
        if suffix == "u8" and layout.dense:
            text = f"memcpy(arena + {place}, {source}, {layout.size});"
        else:
            raw = self.raw_type(name).removesuffix("_t")
            offsets, fill = ("0", "k[0]") if suffix == "u8" else ("k", "0")
            text = self._placed(
                f"in{list(self.plan.inputs).index(name)}", layout, source, place, raw, suffix, fill, offsets
            )
        constants = 1 if suffix == "u8" else 2 * layout.shape[0]
        self._call(f"{text}\n  k += {constants};", f"input {name}")

    def _placed(
        self, label: str, layout: Layout, source: str, place: str, raw: str, suffix: str, fill: str, offsets: str
    ) -> str:
        """Clear and fill a packed tensor from a dense one."""
        self._need("place.h", f"place_run.h:{suffix}:{raw}")
        sy, sx = layout.stride
        phases = [layout.at.get((a, b)) for a in range(sy) for b in range(sx)]
        at = ", ".join("ET_NONE" if place is None else str(place) for place in phases)
        fields = (*layout.shape, *layout.before, sy, sx, layout.pitch, layout.plane)
        self.tables.append(f"static const et_offset et_at_{label}[] = {{{at}}};")
        self.tables.append(
            f"static const et_place et_place_{label} = {{{', '.join(map(str, fields))}, et_at_{label}}};"
        )
        size = layout.size * (1 if suffix == "u8" else 2)
        target = f"({ELEMENTS[suffix]} *)(void *)(arena + {place})"
        return (
            f"memset(arena + {place}, {fill}, {size});\n  "
            f"et_place_{raw}_{suffix}(&et_place_{label}, {source}, {target}, {offsets});"
        )

    def _conv(self, index: int, record: IntegerLayer) -> None:
        layer, (source,), op = record.layer, record.layer.inputs, record.layer.op
        assert isinstance(op, Conv)
        wanted, suffix, place = self._wanted(layer), self._suffix(source), self._use(source)
        own = self.layouts[self.roots[source]]
        if own != wanted and not (own.dense and wanted.dense):
            made = self._make(f"{layer.name} packed", wanted.size * self._bytes(source))
            element, fill = ELEMENTS[suffix], "k[0]" if suffix == "u8" else "0"
            raw, pointer = element.removesuffix("_t"), f"(const {element} *)(const void *)(arena + {place})"
            self._call(
                self._placed(str(index), wanted, pointer, made, raw, suffix, fill, "0"), f"{layer.name}: padding"
            )
            place = self._use(f"{layer.name} packed")
        target, out = self.layouts[layer.name], self._tensor(layer.name)
        ((a, b), (c, d)), row, column = target.steps()
        _, height, width = image(self.plan.shapes[layer.name])
        filters, inputs, *kernel = self.plan.weight_shape(layer)
        filled = 0 if target.dense else target.size
        self.tables.append(f"static const et_offset et_tap_{index}[] = {array(wanted.taps)};")
        fields = [
            f"{{{inputs}, {prod(kernel)}, {wanted.plane}, et_tap_{index}}}, {place}, {out}",
            f"{inputs * wanted.plane}, {target.plane}, {out}, {filled}",
            f"{filters}, {filters // op.groups}, {self._wide_index(layer)}, {width}, {height}, {wanted.pitch}",
            f"{{{{{a}, {b}}}, {{{c}, {d}}}}}, {row}, {column}, &ET_ACT_l{index}",
        ]
        self._weights("conv", index, layer, suffix, fields)

    def _linear(self, index: int, record: IntegerLayer) -> None:
        layer, (source,) = record.layer, record.layer.inputs
        place, out = self._use(source), self._tensor(layer.name)
        filters, inputs = self.plan.weight_shape(layer)
        fields = [
            f"{{{inputs}, 1, 1, 0}}, {place}, {out}, 0, 0, 0, 0",
            f"{filters}, {filters}, {self._wide_index(layer)}, 1, 1, 1, {{{{0, 0}}, {{0, 0}}}}, 0, 0, &ET_ACT_l{index}",
        ]
        self._weights("linear", index, layer, self._suffix(source), fields)

    def _weights(self, kernel: str, index: int, layer: Layer, suffix: str, fields: list[str]) -> None:
        masked = self.wire.codings[layer.name] != INT8
        self.defines.add(f"ET_{'MASKED' if masked else 'DENSE'}_{kernel.upper()}_{suffix}")
        self._need("filters.h", "fan.h", "conv.h", *self._mask_fragments(masked))
        if kernel == "conv":
            sums = ["sums.h"] * (suffix == "u8") + [f"sums_plain.h:{suffix}"]
            self._need("rescale.h", "tile.h", *(["places.h", *sums] if masked else [f"dots.h:{suffix}"]))
        self.kernels[f"{kernel}_run.h:{suffix}"] = None
        scratch = self._list(layer) if masked else "0"
        self.tables.append(f"static const et_conv et_{index} = {{{', '.join(fields)}}};")
        self._call(f"k = et_{kernel}_{suffix}(&et_{index}, arena, {scratch}, model + 8, k);", layer.name)

    def _mask_fragments(self, masked: bool) -> list[str]:
        return ["signs.h"] * (masked and SEED in self.wire.codings.values()) + ["masks.h"] * masked

    def _list(self, layer: Layer) -> str:
        """Scratch for a filter's list; for a convolution also for where each weight reads."""
        places = prod(self.plan.weight_shape(layer)[1:]) if isinstance(layer.op, Conv) else 0
        place = self._make(f"{layer.name} list", (self.list_entries + places) * self.offset_bytes)
        return f"(et_offset *)(void *)(arena + {place})"

    def _wide_index(self, layer: Layer) -> int:
        return getattr(self.model.weights[layer.name], "layer", 0)

    def _operation(self, index: int, record: IntegerLayer) -> None:
        layer = record.layer
        places = {name: self._use(name) for name in layer.inputs}
        places[layer.name] = self._tensor(layer.name)
        kernel = operation(self.wire.integer, record, {name: self._pointer(name, at) for name, at in places.items()})
        self._need(*kernel.fragments)
        self.tables += kernel.tables
        scratch = ""
        if kernel.scratch:
            place = self._make(f"{layer.name} scratch", kernel.scratch)
            scratch = f"uint8_t *scratch = arena + {place};\n"
        constants = len(numbers(self.model, self.wire.integer, record))
        if kernel.row is None:
            self._call(f"{{\n{scratch}{kernel.call}\n  }}\n  k += {constants};", layer.name)
        else:
            loop = self._filters(index, layer, kernel.call, f"scratch + {kernel.row}", constants)
            self._call(f"{{\n{scratch}{loop}\n}}", layer.name)

    def _filters(self, index: int, layer: Layer, call: str, row: str, constants: int) -> str:
        """`call` for every filter, its int8 weights before it in `row`; they follow so many bytes of constants."""
        filters, inputs, *kernel = self.plan.weight_shape(layer)
        size = inputs * prod(kernel)
        weights = f"const uint8_t *weights = k + {constants};"
        if self.wire.codings[layer.name] == INT8:
            fill = f"memcpy({row}, weights + 1 + filter * {size}, {size});"
            return self._loop(filters, weights, fill, call, f"weights + {1 + filters * size}")
        self._need("fan.h", *self._mask_fragments(True), "row.h")
        self.tables.append(f"static const et_fan et_fan_{index} = {{{inputs}, {prod(kernel)}, 0, 0}};")
        opened = f"et_masks masks;\n{weights}\nweights = et_masks_open(&masks, weights, model + 8, {self._wide_index(layer)});"
        fill = f"et_row(&masks, &et_fan_{index}, {self._list(layer)}, (int8_t *)({row}));"
        return self._loop(filters, opened, fill, call, "weights")

    def _loop(self, filters: int, opened: str, fill: str, call: str, end: str) -> str:
        return f"{opened}\nfor (int32_t filter = 0; filter < {filters}; filter++) {{\n{fill}\n{call}\n}}\nk = {end};"


def _roots(model: Model) -> dict[str, str]:
    """Tensor -> the tensor whose bytes it is."""
    roots = {name: name for name in model.plan.inputs}
    for layer in model.plan.layers:
        roots[layer.name] = roots[layer.inputs[0]] if isinstance(layer.op, Alias) else layer.name
    return roots
