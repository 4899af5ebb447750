"""Lists of what filters add and take off, made before an inference: in flash, or in RAM by the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeticket.integer_layer import IntegerLayer
from edgeticket.ops import Layer
from edgeticket.wire import numbers
from edgeticket.wire_plan import INT8
from exporters.c_text import array

if TYPE_CHECKING:
    from exporters.c_steps import Steps


def stored(steps: Steps, index: int, layer: Layer, places: np.ndarray | None) -> str:
    """The last fields of a layer's table where lists are stored, else nothing; `places`: where each weight reads."""
    if not steps.stores_lists:
        return ""
    if steps.wire.codings[layer.name] == INT8:
        return ", 0, 0, 0"
    lists, counts = f"et_list_{index}", f"et_count_{index}"
    record = next(record for record in steps.wire.integer.layers if record.layer is layer)
    entries, filters = filter_lists(record, places)
    if steps.boot:
        steps.tables.append(f"static et_offset {lists}[{max(len(entries), 1)}];")
        steps.tables.append(f"static uint16_t {counts}[{len(filters)}];")
        at = _weights_at(steps, layer.name)
        steps.booted.append(f"et_boot(&et_{index}, model + {at}, model + 8, {steps.list(layer)}, {lists}, {counts});")
    else:
        steps.tables.append(f"static const et_offset {lists}[] = {array(entries or [0])};")
        steps.tables.append(f"static const uint16_t {counts}[] = {array(filters)};")
    return f", {lists}, {counts}, {len(steps.wire.weights[layer.name])}"


def filter_lists(record: IntegerLayer, places: np.ndarray | None) -> tuple[list[int], list[int]]:
    """For each filter what it adds and what it takes off, and the numbers of both; `places`: where each weight reads."""
    assert record.values is not None
    entries: list[int] = []
    counts: list[int] = []
    for row in record.values.reshape(len(record.values), -1).astype(int):
        for side in (1, -1):
            found = np.repeat(np.arange(len(row)), np.maximum(side * row, 0))
            counts.append(len(found))
            entries += (found if places is None else places[found]).tolist()
    return entries, counts


def _weights_at(steps: Steps, name: str) -> int:
    """Where in the packet the weights of a layer begin."""
    end = len(steps.wire.packet) - 4
    for record in reversed(steps.wire.integer.layers):
        end -= len(steps.wire.weights.get(record.layer.name, b""))
        if record.layer.name == name:
            break
        end -= len(numbers(steps.model, steps.wire.integer, record))
    return end
