"""Convolutions as C: their tables and calls, whole or, to spare memory, with the one before them a band of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from edgeticket.ops import Conv, Layer
from edgeticket.wire_plan import INT8
from exporters.c_layout import Layout, image, packed
from exporters.c_lists import stored
from exporters.c_place import placed
from exporters.c_text import array

if TYPE_CHECKING:
    from exporters.c_steps import Steps


@dataclass(frozen=True)
class Part:
    """Rows of a convolution's output: from `read` on in what it reads from, from `write` on in what it writes to, so many."""

    read: int
    write: int
    count: int


@dataclass(frozen=True)
class Held:
    """A tensor, or a band of it: how it lies, and from where on."""

    layout: Layout
    place: str


def whole(steps: Steps, index: int, layer: Layer) -> None:
    """All of it in one call."""
    source = _source(steps, index, layer)
    target = Held(steps.layouts[layer.name], steps.tensor(layer.name))
    call = _run(steps, index, layer, source, target, Part(0, 0, target.layout.shape[1]), "k")
    steps.call(f"k = {call};", layer.name)


def banded(steps: Steps, index: int, layer: Layer, bands: int) -> None:
    """With the convolution before it, whose output is never there as a whole: rows between two bands are made twice."""
    before = steps.plan[layer.inputs[0]]
    first = steps.plan.layers.index(before)
    source, target = _source(steps, first, before), Held(steps.layouts[layer.name], steps.tensor(layer.name))
    cuts = list(cut(steps, layer, bands))
    between = steps.make(before.name, max(layout.size for *_, layout in cuts) * steps.bytes(before.name))
    lines = ["const uint8_t *first = k, *second;"]
    for i, (read, part, layout) in enumerate(cuts):
        band = Held(layout, between)
        call = _run(steps, first, before, source, band, read, "first", f"_{i}")
        lines.append(f"second = {call};")
        call = _run(steps, index, layer, band, target, part, "second", f"_{i}")
        lines.append(f"{'k = ' * (i == len(cuts) - 1) or '(void)'}{call};")
    steps.call("{\n" + "\n".join(lines) + "\n  }", f"{before.name}, {layer.name}: {bands} bands of rows")


def cut(steps: Steps, layer: Layer, bands: int) -> list[tuple[Part, Part, Layout]]:
    """For each band: the rows of the convolution before, those of the layer, and how what is between them lies."""
    op, shapes = layer.op, steps.plan.shapes
    assert isinstance(op, Conv)
    channels, height, width = image(shapes[layer.inputs[0]])
    filters, rows, columns = image(shapes[layer.name])
    stride, span, top = op.stride[0], (op.kernel[0] - 1) * op.dilation[0] + 1, op.pad[0]
    parts = []
    for band in range(bands):
        start, end = rows * band // bands, rows * (band + 1) // bands
        low = max(start * stride - top, 0)
        high = min((end - 1) * stride - top + span, height)
        inner = replace(op, pad=(max(top - start * stride, 0), *op.pad[1:]))
        layout = packed(inner, (channels, high - low, width), (filters, end - start, columns))
        parts.append((Part(low, 0, high - low), Part(0, start, end - start), layout))
    return parts


def may_band(steps: Steps, layer: Layer) -> bool:
    """Whether the layer is a convolution over rows that the layer before it, a convolution, makes for it alone.

    Their constants are read together, so nothing may lie between the two.
    """
    if not isinstance(layer.op, Conv) or len(layer.op.kernel) != 2 or layer.inputs[0] in steps.plan.inputs:
        return False
    before, layers = steps.plan[layer.inputs[0]], steps.plan.layers
    if layers.index(before) + 1 != layers.index(layer):
        return False
    alone = steps.layouts.get(before.name) == steps.wanted(layer) and before.name not in steps.plan.outputs
    return alone and isinstance(before.op, Conv) and not steps.wanted(layer).dense and steps.bytes(before.name) == 1


def _source(steps: Steps, index: int, layer: Layer) -> Held:
    """The layer's input as it wants it; copied there, if need be."""
    (name,) = layer.inputs
    wanted, own, place = steps.wanted(layer), steps.layouts[steps.roots[name]], steps.use(name)
    if own == wanted or (own.dense and wanted.dense):
        return Held(wanted, place)
    key = ("packed", layer.name)
    made = steps.make(key, wanted.size * steps.bytes(name))
    raw = "uint8" if steps.suffix(name) == "u8" else "int16"
    pointer = f"(const {raw}_t *)(const void *)(arena + {place})"
    text = placed(steps, str(index), wanted, (pointer, raw), made, steps.suffix(name))
    steps.call(text, f"{layer.name}: padding")
    return Held(wanted, steps.use(key))


def _run(
    steps: Steps, index: int, layer: Layer, source: Held, target: Held, part: Part, constants: str, label: str = ""
) -> str:
    """Tables and the call that makes `part` of the layer."""
    wanted, written = source.layout, target.layout
    ((a, b), (c, d)), row, column = written.steps(part.write)
    filters, inputs, *kernel = steps.plan.weight_shape(layer)
    assert isinstance(layer.op, Conv)
    suffix, moved = steps.suffix(layer.inputs[0]), part.read * wanted.pitch * steps.bytes(layer.inputs[0])
    filled = 0 if written.dense or part.write else written.size
    taps = steps.table(f"static const et_offset et_tap_{index}{label}[] = {array(wanted.taps)};")
    fields = [
        f"{{{inputs}, {prod(kernel)}, {wanted.plane}, {taps}}}, {source.place}{f' + {moved}' * bool(moved)}, {target.place}",
        f"{written.plane}, {filled}",
        f"{filters}, {filters // layer.op.groups}, {steps.wide_index(layer)}, {written.shape[2]}, {part.count}, {wanted.pitch}",
        f"{{{{{a}, {b}}}, {{{c}, {d}}}}}, {row}, {column}, &ET_ACT_l{index}{stored(steps, index, layer, _places(inputs, wanted))}",
    ]
    masked = steps.wire.codings[layer.name] != INT8
    sums = ["sums.h"] * (suffix == "u8") + [f"sums_plain.h:{suffix}"]
    steps.need_weights(
        "CONV",
        masked,
        suffix,
        "clear.h",
        "rescale.h",
        "tile.h",
        *(["places.h", *sums] if masked else [f"dots.h:{suffix}"]),
    )
    steps.kernels[f"conv_run.h:{suffix}"] = None
    name = steps.table(f"static const et_conv et_{index}{label} = {{{', '.join(fields)}}};")
    return f"et_conv_{suffix}(&{name}, arena, {steps.list(layer)}, model + 8, {constants})"


def _places(inputs: int, wanted: Layout) -> np.ndarray:
    """Where each weight of a filter reads."""
    return (np.arange(inputs)[:, None] * wanted.plane + np.array(wanted.taps)).reshape(-1)
