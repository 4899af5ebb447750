"""A ticket for data that have changed, for the firmware of an old ticket: the same network, searched on from where that one ended.

Seed, kept channels, edges, which layers are learned and how many edges a filter keeps all stay. The search begins with the old
masks, scales and biases (search/_begin.py); its small step size changes few bits, and so a packet against the old one is small.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from edgeticket.calibration import check_data
from edgeticket.compact import compact
from edgeticket.data import Data
from edgeticket.settings import Settings
from edgeticket.ticket import Quant, Ticket
from edgeticket.wire import pack

METHOD = "subset_sum"  # what tickets of all methods are searched on with
EPOCHS, SCORE_STEP, WEIGHT_STEP = 5, 0.05, 0.05


def settings_of(old: Ticket, **given: Any) -> Settings:
    """What a search that updates `old` is asked: the old choices, layer by layer; `given` may be what decides no packet's form."""
    plan = old.narrow
    every = {name: old.edges[name] * prod(plan.weight_shape(plan[name])[1:]) for name in old.masks}
    kept = {name: int(mask.reshape(len(mask), -1).sum(1).max()) for name, mask in old.masks.items()}
    return Settings(
        seed=old.seed,
        layer_density={name: kept[name] / every[name] for name in old.masks},
        layer_edges=dict(old.edges),
        align=1,
        learn=",".join(old.learned) or "none",
        signs="learned" if old.flips else "seed",
        method=METHOD,
        **{"epochs": EPOCHS, "score_step": SCORE_STEP, "weight_step": WEIGHT_STEP, **given},
    )


def data_for(old: Ticket, data: Data) -> Data:
    """`data` under the old ticket's maps of sensor and targets. Raises DataError where they do not fit its network."""
    check_data(compact(old), data)
    (sensor,) = old.inputs.values()
    if old.target:
        data = replace(data, target_offset=old.target.offset, target_step=old.target.step)
    return replace(data, input=sensor)


def ranges(old: Mapping[str, Quant], new: Mapping[str, Quant]) -> dict[str, Quant]:
    """The old quantisation of each tensor whose new range is within it; else one that holds both ranges."""
    return {name: old[name] if _within(new[name], old[name]) else _both(old[name], new[name]) for name in new}


def _ends(quant: Quant) -> tuple[float, float]:
    return -quant.zero_point * quant.scale, (255 - quant.zero_point) * quant.scale


def _within(inner: Quant, outer: Quant) -> bool:
    (low, high), (least, most) = _ends(inner), _ends(outer)
    return least <= low and high <= most


def _both(old: Quant, new: Quant) -> Quant:
    (low, high), (least, most) = _ends(old), _ends(new)
    scale = float(np.float32((max(high, most) - min(low, least)) / 255))
    return Quant(scale, int(np.clip(round(-min(low, least) / scale), 0, 255)))


def told(old: Ticket, new: Ticket) -> dict[str, Any]:
    """What an update changed: share of the mask's bits, tensors with another range, and whether the old firmware reads it."""
    pairs = [(old.masks[name], new.masks[name]) for name in old.masks]
    bits = sum(mask.size for mask, _ in pairs)
    before, after = (pack(compact(ticket)).firmware.digest for ticket in (old, new))
    return {
        "of": old.digest,
        "mask_bits_changed": sum(int((a != b).sum()) for a, b in pairs) / bits if bits else 0.0,
        "ranges_changed": [name for name in new.quant if new.quant[name] != old.quant.get(name)],
        "same_firmware": before == after,
    }
