"""What a firmware knows of a model's wire form before it sees one: how many numbers of which kind each section holds.

A firmware is made for one plan, one way to store each layer's weights, one element type of each tensor and one size of each
table; its digest names all of that. Its sections drive the checks of a packet, here and in C (exporters/c/load.h).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from math import prod

import numpy as np

from edgeticket.integer import IntegerModel
from edgeticket.integer_layer import SENSORS, TABLES, Codes, IntegerLayer, keeps_codes
from edgeticket.model import Model, Signs
from edgeticket.ops import (
    SCALED,
    WEIGHTED,
    Add,
    AveragePool,
    Concat,
    Conv,
    GlobalAveragePool,
    Linear,
    Mul,
    Norm,
    Op,
    Pad,
    PRelu,
    Resize,
    leak,
)
from edgeticket.plan import Plan

INT8, SEED, SIGNS, LISTS, NONE = range(
    5
)  # how a layer's weights are stored; LISTS: beside the model; NONE: it has none
BIAS, COUNTS, RATIO, BELOW, FILTERS, FACTORS, PRODUCT = (1 << i for i in range(7))  # parts of a section's numbers
HEADER = 32  # bytes: magic, length, seed, digest of the firmware, digest of the model


@dataclass(frozen=True)
class Sensor:
    """An input that a device holds as int16. `at`: where in a packet its int16 offsets are; low, high: what it can give."""

    at: int
    channels: int
    low: int
    high: int


@dataclass(frozen=True)
class Section:
    """An input or a layer with constants. `form`: what its numbers are, by the bits BIAS to PRODUCT."""

    name: str
    raw: int  # bytes that may be anything: the offsets of a sensor, or the zero points of what is read
    head: int = 0  # bytes
    form: int = 0
    rows: int = 0  # of an Add its factors
    sums: int = 0  # values that one sum of a layer without weights is made of
    sensors: tuple[int | None, ...] = ()  # number of the sensor that each operand comes from; None: codes
    coding: int = NONE
    edges: int = 1
    inputs: int = 0  # of a filter, and taps of each
    taps: int = 0
    layer: int = 0  # number that the generator of signs knows the layer by
    knots: int = 0  # of the table of its activation


@dataclass(frozen=True)
class Firmware:
    """`most`: entries that a filter's list has room for."""

    digest: bytes
    sensors: tuple[Sensor, ...]
    sections: tuple[Section, ...]
    most: int


def firmware(model: Model, integer: IntegerModel, codings: Mapping[str, int]) -> Firmware:
    """`codings`: layer with weights -> INT8, SEED or SIGNS."""
    inputs = {name: _input(integer, name) for name in model.plan.inputs}
    sensors: dict[str, Sensor] = {}
    at = HEADER
    for name, section in inputs.items():
        if held(integer, name).dtype is np.int16:
            sensors[name] = Sensor(at, section.raw // 2, *SENSORS[integer.inputs[name].dtype])
        at += section.raw
    numbers = {name: i for i, name in enumerate(sensors)}
    made = (_layer(model, integer, record, codings, numbers) for record in integer.layers)
    sections = (*inputs.values(), *(section for section in made if section))
    digest = _digest(model, tuple(sensors.values()), sections)
    return Firmware(digest, tuple(sensors.values()), sections, _most(model, codings))


def _digest(model: Model, sensors: tuple[Sensor, ...], sections: tuple[Section, ...]) -> bytes:
    """8 bytes."""
    given = {name: sensor.dtype for name, sensor in model.inputs.items()}
    whole = [model.plan.to_json(), given, *map(asdict, sensors), *map(asdict, sections)]
    return sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).digest()[:8]


def _most(model: Model, codings: Mapping[str, int]) -> int:
    """Kept edges of the fullest filter: what density and fan-in say, whatever the seed."""
    masks = [own.mask for name, own in model.weights.items() if isinstance(own, Signs) and codings[name] != INT8]
    return max((int(mask.reshape(len(mask), -1).sum(1).max()) for mask in masks), default=1) or 1


def edges(model: Model, name: str) -> int:
    """Parallel edges of a masked layer; 1 of others."""
    own = model.weights[name]
    return own.mask.shape[1] if isinstance(own, Signs) else 1


def source(plan: Plan, name: str) -> str:
    """The tensor whose codes tensor `name` has."""
    while name not in plan.inputs and keeps_codes(plan[name].op):
        name = plan[name].inputs[0]
    return name


def held(integer: IntegerModel, name: str) -> Codes:
    """How a device holds a tensor: an exact uint8 sensor with one offset raw, as codes with the offset as zero point."""
    own, first = integer.tensors[name], source(integer.plan, name)
    if first not in integer.exact:
        return own
    sensor = integer.inputs[first]
    if sensor.dtype == "uint8" and len(set(sensor.offset)) == 1:
        offset = int(sensor.offset[0])
        if 0 <= offset <= SENSORS["uint8"][1]:
            return Codes(own.scale, offset)
    return own


def reach(integer: IntegerModel, name: str) -> int:
    """What a device must expect of a value of tensor `name`: it sums up codes, and takes the zero points off the sum."""
    own = held(integer, name)
    return 255 + own.zero_point if own.dtype is np.uint8 else own.reach


def _input(integer: IntegerModel, name: str) -> Section:
    narrow = held(integer, name).dtype is np.uint8
    return Section(name, 1 if narrow else 2 * integer.plan.shapes[name][0])


def _layer(
    model: Model, integer: IntegerModel, record: IntegerLayer, codings: Mapping[str, int], sensors: Mapping[str, int]
) -> Section | None:
    """None: the layer has no constants."""
    plan, layer = integer.plan, record.layer
    if keeps_codes(layer.op):
        return Section(layer.name, 1) if isinstance(layer.op, Pad) else None
    kind = getattr(layer.op, "activation", "none")
    weights = {}
    if layer.name in codings:
        _, inputs, *kernel = plan.weight_shape(layer)
        place = getattr(model.weights[layer.name], "layer", 0)
        weights = {"inputs": inputs, "taps": prod(kernel), "layer": place, "coding": codings[layer.name]}
        weights["edges"] = 1 if weights["coding"] == INT8 else edges(model, layer.name)
    return Section(
        layer.name,
        len(layer.inputs),
        7 if kind in TABLES or leak(kind) is not None else 4,
        _form(layer.op),
        _row_count(plan, record),
        _sums(integer, record),
        tuple(sensors.get(source(plan, name)) for name in layer.inputs),
        knots=0 if record.table is None else len(record.table),
        **weights,
    )


def _form(op: Op) -> int:
    if isinstance(op, Conv | Linear):
        return FILTERS
    if isinstance(op, Add):
        return FACTORS
    if isinstance(op, SCALED):
        return BIAS | RATIO | (COUNTS if isinstance(op, Norm) else 0)
    return RATIO | (BELOW if isinstance(op, PRelu) else 0) | (PRODUCT if isinstance(op, Mul) else 0)


def _sums(integer: IntegerModel, record: IntegerLayer) -> int:
    op = record.layer.op
    if isinstance(op, (*WEIGHTED, Add, Mul)):
        return 0
    if isinstance(op, Norm):
        return 256
    if isinstance(op, AveragePool | GlobalAveragePool | Resize):
        return record.sums // integer.tensors[record.layer.inputs[0]].reach
    return 1


def _row_count(plan: Plan, record: IntegerLayer) -> int:
    return len(record.layer.inputs) if isinstance(record.layer.op, Add) else len(rows(plan, record))


def rows(plan: Plan, record: IntegerLayer) -> list[int]:
    """Where in the record's arrays the rows of the wire form are."""
    op: Op = record.layer.op
    if isinstance(op, (*SCALED, PRelu)):
        return list(range(plan.shapes[record.layer.name][0]))
    if isinstance(op, Concat):
        widths = [plan.shapes[name][0] for name in record.layer.inputs]
        return [sum(widths[:i]) for i in range(len(widths))]
    if isinstance(op, AveragePool) or (isinstance(op, Resize) and op.mode == "area"):
        assert record.unit is not None
        units, first = np.unique(record.unit.reshape(-1), return_index=True)
        return first[np.argsort(-units)].tolist()  # few elements in the window: a large unit
    return [0]
