"""How many bytes a device needs beyond its code: ONE count, for tickets and for every competitor.

The encoders are real, so each count is the length of something that decodes again. The plan itself (shapes, operations) is
code on every side and is not counted.
  seed        8, where any layer takes its signs from it
  kept ids    a bitmap per channel group up to its last kept channel; nothing where the first channels are the kept ones
  masks       per layer one byte, then gaps in Rice code or raw bits, whichever is shorter
  flips       one bit per kept weight of a layer whose signs were learned
  int8        one byte a weight                       float32       four bytes a weight
  per filter  integer layers 7 (int16 multiplier, uint8 shift, int32 bias), float layers 4 (bias; the scale is folded);
              per channel of a Norm 7 or 8, of a PRelu 4
  quantise    integer networks 5 per tensor (float32 scale, uint8 zero point)
  input       float32 offset per channel, float32 step, one per channel where they differ: a device feeds raw values;
              of a regression, both for each target too

Rice code: R. F. Rice, "Some practical universal noiseless coding techniques", JPL 79-22, 1979.
"""

from collections.abc import Callable, Mapping

import numpy as np

from edgeticket.errors import TicketError
from edgeticket.model import Float, Int8, Model, Signs, Weights
from edgeticket.ops import Norm, PRelu
from edgeticket.plan import Plan
from edgeticket.ticket import Input

SEED = 8
PER_FILTER_INTEGER = 2 + 1 + 4
PER_FILTER_FLOAT = 4
PER_NORM_FLOAT = 4 + 4
PER_SLOPE = 4
PER_TENSOR = 4 + 1
PARTS = ("seed", "input", "quantise", "kept ids", "masks", "flips", "int8", "float32", "per filter")
_RAW = 255
_PARAMETERS = 24  # gaps are below 2^23 in any layer of at least one kept weight in 8 million


def raw_bits(bits: np.ndarray) -> bytes:
    """One bit each, in C order, first bit lowest in the byte."""
    return np.packbits(bits.reshape(-1), bitorder="little").tobytes()


def rice(bits: np.ndarray) -> bytes:
    """The distances between set bits, the last one to the end: quotient in unary, remainder in the parameter's bits.

    The first byte is the parameter, the one that gives the shortest code.
    """
    flat = bits.reshape(-1)
    gaps = np.diff(np.concatenate([[-1], np.flatnonzero(flat), [flat.size]])) - 1
    parameter = int(np.argmin([(gaps >> k).sum() + len(gaps) * (1 + k) for k in range(_PARAMETERS)]))
    quotients = gaps >> parameter
    ends = np.cumsum(quotients + 1 + parameter)
    stops = ends - 1 - parameter
    code = np.ones(int(ends[-1]), bool)
    code[stops] = False
    for i in range(parameter):
        code[stops + 1 + i] = gaps >> i & 1
    return bytes([parameter]) + raw_bits(code)


def unrice(code: bytes, size: int) -> np.ndarray:
    """bool [size], the inverse of `rice`. Raises TicketError where `code` is not one of `size` bits."""
    bits = np.zeros(size, bool)
    if not code or code[0] >= _PARAMETERS:
        raise TicketError("mask: no Rice parameter: fetch the packet again")
    parameter, stream = code[0], np.unpackbits(np.frombuffer(code, np.uint8, offset=1), bitorder="little").tobytes()
    position, at = -1, 0
    while position < size:
        stop = stream.find(0, at)
        at_next = stop + 1 + parameter
        if stop < 0 or at_next > len(stream):
            raise TicketError("mask: the code is cut short: fetch the packet again")
        remainder = sum(stream[stop + 1 + i] << i for i in range(parameter))
        position += 1 + ((stop - at) << parameter) + remainder
        at = at_next
        if position < size:
            bits[position] = True
    if position > size or len(stream) - at > 7 or any(stream[at:]):
        raise TicketError(f"mask: the code is not one of {size} bits: fetch the packet again")
    return bits


def pack_mask(bits: np.ndarray) -> bytes:
    """The shorter of Rice code and raw bits, told apart by the first byte."""
    coded, plain = rice(bits), bytes([_RAW]) + raw_bits(bits)
    return coded if len(coded) < len(plain) else plain


def unpack_mask(code: bytes, size: int) -> np.ndarray:
    """bool [size], the inverse of `pack_mask`. Raises TicketError."""
    if code[:1] != bytes([_RAW]):
        return unrice(code, size)
    bits = np.unpackbits(np.frombuffer(code, np.uint8, offset=1), bitorder="little").astype(bool)
    if len(code) - 1 != (size + 7) // 8 or bits[size:].any():
        raise TicketError(f"mask: not {size} bits: fetch the packet again")
    return bits[:size]


def packed_bytes(model: Model) -> dict[str, int]:
    """Bytes by part (the names in PARTS), everything a device needs beyond code."""
    weights = model.weights
    total = dict.fromkeys(PARTS, 0)
    for layer in weights.values():
        for part, count in layer_bytes(layer).items():
            total[part] += count
    if any(isinstance(layer, Signs) for layer in weights.values()):
        total["seed"] = SEED
    integer = not all(isinstance(layer, Float) for layer in weights.values())
    if integer:
        total["quantise"] = PER_TENSOR * len(model.plan.shapes)
    for own in model.plan.layers:
        each = {Norm: PER_FILTER_INTEGER if integer else PER_NORM_FLOAT, PRelu: PER_SLOPE}.get(type(own.op), 0)
        total["per filter"] += each * model.plan.shapes[own.name][0]
    for name, (channels, *_) in model.plan.inputs.items():
        steps = 1 if name not in model.inputs or model.inputs[name].one_step else channels
        total["input"] += 4 * channels + 4 * steps
    if model.target:
        total["input"] += 8 * len(model.target.step)
    total["kept ids"] = sum(_kept_ids(model).values())
    return total


def layer_bytes(weights: Weights) -> dict[str, int]:
    """Bytes by part of one layer: weights and what each filter needs. Seed, kept ids and quantisation belong to no layer."""
    if isinstance(weights, Signs):
        parts = {"masks": len(pack_mask(weights.mask)), "per filter": PER_FILTER_INTEGER * len(weights.mask)}
        if weights.flips is not None:
            parts["flips"] = len(raw_bits(weights.flips[weights.mask]))
        return parts
    filters, size = len(weights.values), weights.values.size
    if isinstance(weights, Int8):
        return {"int8": size, "per filter": PER_FILTER_INTEGER * filters}
    return {"float32": 4 * size, "per filter": PER_FILTER_FLOAT * filters}


def equivalents(plan: Plan, inputs: Mapping[str, Input] | None = None) -> dict[str, int]:
    """Bytes of an ordinary network of this plan: all float32, and all plain int8. Counted by `packed_bytes`.

    It reads the same `inputs`; none: with one step for all channels.
    """
    sizes = (ordinary_bytes(plan, kind, dtype, inputs) for kind, dtype in ((Float, np.float32), (Int8, np.int8)))
    return dict(zip(("fp32", "int8"), sizes, strict=True))


def ordinary_bytes(
    plan: Plan, kind: Callable[[np.ndarray], Float | Int8], dtype: type, inputs: Mapping[str, Input] | None = None
) -> int:
    """Bytes of `plan` with trained weights of one kind; takes no memory for them."""
    shapes = {layer.name: plan.weight_shape(layer) for layer in plan.weighted()}
    weights = {name: kind(np.broadcast_to(dtype(0), shape)) for name, shape in shapes.items()}
    return sum(packed_bytes(Model(plan, weights, {}, {}, inputs or {}, {})).values())


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
