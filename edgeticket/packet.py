"""How many bytes a device needs beyond its code: ONE count, for tickets and for every competitor.

The encoders are real (edgeticket/codes.py), so each count is the length of something that decodes again. The plan itself
(shapes, operations) is code on every side and is not counted.
  seed        8, where any layer takes its signs from it
  kept ids    a bitmap per channel group up to its last kept channel; nothing where the first channels are the kept ones
  masks       the shortest of raw bits, gaps in Rice code, and range-coded sums of each connection's kept edges
  flips       one bit per kept weight of a layer whose signs were learned, unless its sums hold the sides already
  int8        the shorter of one byte a weight and a range code
  float32     four bytes a weight
  per filter  integer networks: scale and bias, one byte each on their grids (edgeticket/rounding.py), else four; float networks:
              four of bias, eight of a Norm; slopes of a PRelu four
  quantise    integer networks 5 per tensor (float32 scale, uint8 zero point)
  input       float32 offset per channel, float32 step, one per channel where they differ: a device feeds raw values;
              of a regression, both for each target too
What integer kernels multiply and add with (edgeticket/integer.py) follows from scale, bias and quantisation: a device, or the
export for it, works it out once.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgeticket.codes import MOST_SYMBOLS, pack_int8, pack_mask, pack_parameters, pack_sums, raw_bits, room, sums_of
from edgeticket.model import Float, Int8, Model, Signs, Weights
from edgeticket.ops import SCALED, Norm, PRelu
from edgeticket.plan import Plan
from edgeticket.ticket import Input

SEED = 8
PER_TENSOR = 4 + 1
PER_FLOAT = 4
PARTS = ("seed", "input", "quantise", "kept ids", "masks", "flips", "int8", "float32", "per filter")


def packed_bytes(model: Model) -> dict[str, int]:
    """Bytes by part (the names in PARTS), everything a device needs beyond code."""
    weights = model.weights
    total = dict.fromkeys(PARTS, 0)
    for own in model.plan.layers:
        for part, count in layer_bytes(model, own.name).items():
            total[part] += count
    if any(isinstance(layer, Signs) for layer in weights.values()):
        total["seed"] = SEED
    if _integer(model):
        total["quantise"] = PER_TENSOR * len(model.plan.shapes)
    for name, (channels, *_) in model.plan.inputs.items():
        steps = 1 if name not in model.inputs or model.inputs[name].one_step else channels
        total["input"] += 4 * channels + 4 * steps
    if model.target:
        total["input"] += 8 * len(model.target.step)
    total["kept ids"] = sum(_kept_ids(model).values())
    return total


def layer_bytes(model: Model, name: str) -> dict[str, int]:
    """Bytes by part of one layer. Seed, kept ids, input and quantisation belong to no layer."""
    parts = _weight_bytes(model.weights[name]) if name in model.weights else {}
    op, channels = model.plan[name].op, model.plan.shapes[name][0]
    if isinstance(op, PRelu):
        return {"per filter": PER_FLOAT * channels}
    if not isinstance(op, SCALED):
        return parts
    if _integer(model):
        on_grid = np.zeros(channels, np.float32)  # what a network without values would store
        pair = [values.get(name, on_grid) for values in (model.scale, model.bias)]
        return parts | {"per filter": sum(len(pack_parameters(values)) for values in pair)}
    return parts | {"per filter": (2 if isinstance(op, Norm) else 1) * PER_FLOAT * channels}


def _integer(model: Model) -> bool:
    return not all(isinstance(layer, Float) for layer in model.weights.values())


def _weight_bytes(weights: Weights) -> dict[str, int]:
    if isinstance(weights, Int8):
        return {"int8": len(pack_int8(weights.values))}
    if isinstance(weights, Float):
        return {"float32": 4 * weights.values.size}
    parts = {"masks": len(pack_mask(weights.mask))}
    if weights.flips is not None:
        parts["flips"] = len(raw_bits(weights.flips[weights.mask]))
    coded = _sums(weights)
    return {"masks": len(coded)} if coded and len(coded) < sum(parts.values()) else parts


def _sums(weights: Signs) -> bytes | None:
    """A range code, where the mask is one that sums of edges tell, and not too large."""
    if weights.mask.size > MOST_SYMBOLS:
        return None
    signs = replace(weights, flips=None).edge_signs()
    values = sums_of(weights.mask, weights.flips, signs)
    return None if values is None else pack_sums(values.reshape(-1), *room(signs, weights.flips is not None))


def equivalents(plan: Plan, inputs: Mapping[str, Input] | None = None) -> dict[str, int]:
    """Bytes of an ordinary network of this plan: all float32, and all int8 at a byte a weight. Counted by `packed_bytes`.

    It reads the same `inputs`; none: with one step for all channels.
    """
    count, sizes = sum(plan.weights().values()), {}
    no_weights: dict[str, tuple[Weights, int]] = {
        "fp32": (Float(np.zeros(0, np.float32)), 4),
        "int8": (Int8(np.zeros(0, np.int8)), 1),
    }
    for word, (none, each) in no_weights.items():
        weights = dict.fromkeys(plan.weights(), none)
        sizes[word] = sum(packed_bytes(Model(plan, weights, {}, {}, inputs or {}, {})).values()) + each * count
    return sizes


def _kept_ids(model: Model) -> dict[str, int]:
    """Bytes by what needs them: layers of random signs must know which wide channels theirs are; no other layer does."""
    plan = model.plan
    owner = {int(i): name for name, group in plan.groups.items() for i in group.ids}
    counts: dict[str, int] = {}
    for layer in plan.weighted():
        own = model.weights[layer.name]
        if not isinstance(own, Signs):
            continue
        read = [(layer.inputs[0], own.columns)]
        if plan.depthwise(layer):  # or one channel was left of each group, which then is not the first
            read, counts[f"input of {layer.name}"] = [], _bitmap(own.columns)
        for tensor, wide in [(layer.name, own.rows), *read]:
            ids = plan.channels[tensor][: len(wide)]  # of grouped inputs the first group: all lose the same positions
            for name in {owner[i] for i in ids.tolist()}:
                mine = np.isin(ids, plan.groups[name].ids)
                size = _bitmap(_places(ids[mine], wide[mine]))
                counts[name] = min(counts.get(name, size), size)
    return counts


def _places(ids: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Sorted wide index of each channel; one that a tensor holds several times in a row (flattened) counts once."""
    unique, first, repeats = np.unique(ids, return_index=True, return_counts=True)
    in_a_row = (ids == np.repeat(unique, repeats)).all()
    return np.sort(wide[first] // repeats if in_a_row else wide[first])


def _bitmap(ids: np.ndarray) -> int:
    return 0 if (ids == np.arange(len(ids))).all() else (int(ids.max()) + 8) // 8
