"""C kernels of single layers against the integer specification, bit for bit."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_layers import Job, jobs, run
from cases import CASES, Case, graph, ranges
from random_networks import KINDS, case

from edgeticket.compact import compact
from edgeticket.errors import UnsupportedError
from edgeticket.integer import IntegerModel, integerise
from edgeticket.integer_layer import prepare, target_codes
from edgeticket.model import Model
from edgeticket.ops import (
    RESIZE_MODES,
    Activation,
    Add,
    AveragePool,
    Concat,
    ConvTranspose,
    DepthToSpace,
    Gather,
    GlobalAveragePool,
    MaxPool,
    Mul,
    Norm,
    Op,
    Pad,
    PRelu,
    Resize,
    SpaceToDepth,
)
from edgeticket.plan import Plan
from edgeticket.ticket import Quant, Ticket
from exporters.c_operations import broadcast, operation

Row = tuple[str, Op, str]
SENSORS = ("float32", "uint8", "uint8 of one offset", "int16")  # read as codes; int16; uint8 as it is; int16
FAST, SLOW, SOAK = range(4), range(4, 60), range(60, 600)


def activations() -> Iterator[Row]:
    """Over x and y, (3, 5, 6), and z, (3, 1, 6): of the sensor, and of codes."""
    yield from (("qx", Activation("none"), "x"), ("qy", Norm(), "y"), ("qz", Activation("none"), "z"))
    for kind in KINDS:
        up = ConvTranspose(3, (3, 2), (2, 3), (1, 0, 0, 1), (1, 2), activation=kind)
        for op in (Activation(kind), Norm(kind), up):
            yield from ((f"{type(op).__name__} {kind} {s}", op, s) for s in ("x", "qx"))
        yield from ((f"sum {kind} {s}", Add(kind), s) for s in ("x y", "qx qy", "qy qz", "qx y", "qx qz qy"))


JOINED = {"a": (3, 4, 5), "b": (3, 1, 1), "c": (1, 4, 5), "d": (3, 4, 1), "e": (1, 1, 5), "f": (1, 1, 1)}


def joins() -> Iterator[Row]:
    """Sums and products of all pairs of sensors and their codes, and of three; channels of two and three beside each other."""
    yield from ((f"q{name}", Activation("none"), name) for name in JOINED)
    for a, b in product(JOINED, JOINED):
        pairs = (f"{a} {b}", f"q{a} q{b}", f"q{a} {b}") if a <= b else (f"q{a} q{b}",)
        yield from ((f"{type(op).__name__} {pair}", op, pair) for pair in pairs for op in (Add(), Mul()))
    for triple in ("qa qb qc", "qd a qe", "qf qb qf"):
        yield from ((f"{type(op).__name__} {triple}", op, triple) for op in (Add("relu"), Mul()))
    yield from ((f"beside {names}", Concat(), names) for names in ("a qa", "qa qc", "c qc c", "qb b", "qf qf"))


def movements(shape: tuple[int, ...]) -> Iterator[Row]:
    """Pools, resizes, layouts and the like of x and of its codes q."""
    n = len(shape) - 1
    yield "q", Activation("none"), "x"
    ops: list[Op] = [PRelu(), Norm(), GlobalAveragePool(), Gather((1, 0)), Gather((1, 2)), Gather((1, 0, 1, 2, 2))]
    if n:
        ops += [pool((k,) * n, (s,) * n, (p, 0) * n) for k, s, p in POOLS for pool in (MaxPool, AveragePool)]
        ops += [pool((4, 2)[-n:], (1, 3)[-n:], PADS[n]) for pool in (MaxPool, AveragePool)]
        ops += [Resize(size[-n:], mode) for size in SIZES for mode in RESIZE_MODES]
        ops += [Pad(pad[: 2 * n]) for pad in ((1, 2, 0, 3), (-1, 2, 3, -2), (-2, -1, -1, 0), (0, 0, 0, 0))]
        ops += [up(n, *own) for own in UPWARD]
    if n == 2:
        ops += [Pad((0, 3, 1, 0)), *(op(block) for block in (1, 2) for op in (DepthToSpace, SpaceToDepth)), SpaceToDepth(3)]
    yield from ((f"{i} {s}", op, s) for i, op in enumerate(ops) for s in ("x", "q"))


POOLS = [(1, 1, 0), (2, 2, 0), (3, 2, 1), (3, 1, 2), (5, 3, 4)]
PADS = {1: (1, 0), 2: (3, 1, 2, 0)}
SIZES = [(1, 1), (2, 3), (6, 12), (7, 13), (12, 24), (13, 1), (17, 5)]
UPWARD = [(1, 1, 0, 0), (2, 2, 0, 0), (3, 2, 1, 1), (4, 3, 2, 0), (2, 3, 3, 2)]  # kernel, stride, pad at the begin, out_pad


def up(n: int, kernel: int, stride: int, pad: int, more: int) -> ConvTranspose:
    return ConvTranspose(2, (kernel,) * n, (stride,) * n, (pad,) * n + (0,) * n, (more,) * n)


def many() -> Iterator[Row]:
    """More elements than 256: in a tensor, in a window, in a plane."""
    yield "q", Activation("none"), "x"
    ops = (Activation("silu"), GlobalAveragePool(), AveragePool((17, 17), (1, 1), (1, 0, 0, 1)), Resize((1, 1), "area"))
    yield from ((f"{i} {s}", op, s) for i, op in enumerate(ops) for s in ("x", "q"))
    yield from (("codes", Activation("relu"), "q"), ("both", Concat(), "q codes"))


PLANS = {
    "activations": graph({"x": (3, 5, 6), "y": (3, 5, 6), "z": (3, 1, 6)}, *activations()),
    "joins": graph(JOINED, *joins()),
    **{f"movements, {len(shape)}": graph(shape, *movements(shape)) for shape in ((4, 6, 12), (4, 12), (4,))},
    "many": graph((2, 18, 18), *many()),
}


def model(plan: str, sensor: str) -> Model:
    """All channels kept."""
    own = Case(PLANS[plan], dtype=sensor.split()[0], keep=1.0)
    ticket = own.ticket()
    if sensor.endswith("one offset"):
        inputs = {name: replace(x, offset=(90.0,) * len(x.offset)) for name, x in ticket.inputs.items()}
        ticket = replace(ticket, inputs=inputs)
        ticket = replace(ticket, quant=ranges(ticket, own.raw(32)))
    return compact(ticket)


def stretched(own: Model) -> IntegerModel:
    """With ranges far from the data's, for the ends of multipliers and shifts; one that is refused is replaced."""
    rng, made = np.random.default_rng(3), integerise(own)
    tensors, layers = {name: made.tensors[name] for name in own.plan.inputs}, []
    for layer in own.plan.layers:
        sources, record = [tensors[name] for name in layer.inputs], None
        while record is None:
            scale = own.quant[layer.name].scale * float(2.0 ** rng.uniform(-24, 24)) if layer.name in own.quant else 0
            other = replace(own, quant={**own.quant, layer.name: Quant(scale, int(rng.integers(256)))})
            with suppress(UnsupportedError):
                tensors[layer.name] = target_codes(other, layer, sources)
                record = prepare(other, layer, sources, tensors[layer.name])
        layers.append(record)
    return replace(made, tensors=tensors, layers=tuple(layers))


@cache
def planned() -> list[Job]:
    """All there is, in as many networks as there are kinds of sensors."""
    work = []
    for plan, sensor in product(PLANS, SENSORS):
        own = model(plan, sensor)
        work += jobs(f"{plan}, {sensor}", integerise(own)) + jobs(f"{plan}, {sensor}, other ranges", stretched(own))
    return work


import time
def test_planned(tmp_path):
    t=time.time()
    work = planned()
    print(len(work), time.time()-t)
    t=time.time()
    wrong = run(tmp_path, work)
    print(len(wrong), *wrong[:20], sep="\n")
    print(time.time()-t)
    assert not wrong
    print(np.mean([len(np.unique(j.wanted)) > 3 for j in work]))
    shifts = [e for j in work if j.record.shift is not None for e in j.record.shift.reshape(-1).tolist()]
    print(sorted(set(shifts)))
