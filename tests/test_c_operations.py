"""C kernels of single layers against the integer specification, bit for bit."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from c_layers import FRAGMENTS, Job, fragment, jobs, run
from cases import CASES, Case, chain, graph, ranges
from random_networks import KINDS, case

from edgeticket.compact import compact
from edgeticket.errors import UnsupportedError
from edgeticket.integer import IntegerModel, integerise
from edgeticket.integer_layer import Codes, IntegerLayer, prepare, target_codes
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
    Layer,
    MaxPool,
    Mul,
    Norm,
    Op,
    Pad,
    PRelu,
    Resize,
    SpaceToDepth,
)
from edgeticket.ticket import Input, Quant
from exporters.c_operations import broadcast, operation

Row = tuple[str, Op, str]
SENSORS = ("float32", "uint8", "uint8 of one offset", "int16")  # read as codes; int16; uint8 as it is; int16


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
        pairs = (f"{a} q{b}", f"q{a} q{b}") if a <= b else (f"{a} {b}",)
        yield from ((f"{type(op).__name__} {pair}", op, pair) for pair in pairs for op in (Add(), Mul()))
    for triple in ("qa qb qc", "qd a qe", "qf qb qf", "qa c"):
        yield from ((f"{type(op).__name__} {triple}", op, triple) for op in (Add("relu"), Mul()))
    yield from ((f"beside {names}", Concat(), names) for names in ("a qa", "a c", "qa qc", "c qc c", "qb b", "qf qf"))


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
        ops += [
            Pad((0, 3, 1, 0)),
            *(op(block) for block in (1, 2) for op in (DepthToSpace, SpaceToDepth)),
            SpaceToDepth(3),
        ]
    yield from ((f"{i} {s}", op, s) for i, op in enumerate(ops) for s in ("x", "q"))


POOLS = [(1, 1, 0), (2, 2, 0), (3, 2, 1), (3, 1, 2), (5, 3, 4)]  # kernel, stride, pad at the begin
PADS = {1: (1, 0), 2: (3, 1, 2, 0)}
SIZES = [(1, 1), (2, 3), (6, 12), (7, 13), (12, 24), (13, 1), (17, 5)]
UPWARD = [(1, 1, 0, 0), (2, 2, 0, 0), (3, 2, 1, 1), (4, 3, 2, 0), (2, 3, 3, 2)]  # the same, out_pad


def up(n: int, kernel: int, stride: int, pad: int, more: int) -> ConvTranspose:
    return ConvTranspose(2, (kernel,) * n, (stride,) * n, (pad,) * n + (0,) * n, (more,) * n)


def many() -> Iterator[Row]:
    """More elements than 256: in a tensor, in a window, in a plane."""
    yield "q", Activation("none"), "x"
    ops = (Activation("silu"), GlobalAveragePool(), AveragePool((38, 38), (1, 1), (1, 0, 0, 1)), Resize((1, 1), "area"))
    yield from ((f"{i} {s}", op, s) for i, op in enumerate(ops) for s in ("x", "q"))
    yield from (("codes", Activation("relu"), "q"), ("both", Concat(), "q codes"))


PLANS = {
    "activations": graph({"x": (3, 5, 6), "y": (3, 5, 6), "z": (3, 1, 6)}, *activations()),
    "joins": graph(JOINED, *joins()),
    **{f"movements, {len(shape)}": graph(shape, *movements(shape)) for shape in ((4, 6, 12), (4, 12), (4,))},
    "products": graph((2, 4), ("q", Activation("none"), "x"), ("p", Mul(), "q q")),
    "many": graph((2, 40, 40), *many()),
}


def model(plan: str, sensor: str) -> Model:
    """All channels kept; the first of a Norm is constant."""
    own = Case(PLANS[plan], dtype=sensor.split()[0], keep=1.0)
    ticket = own.ticket()
    if sensor.endswith("one offset"):
        inputs = {name: replace(x, offset=(90.0,) * len(x.offset)) for name, x in ticket.inputs.items()}
        ticket = replace(ticket, inputs=inputs)
        ticket = replace(ticket, quant=ranges(ticket, own.raw(32)))
    for layer in ticket.plan.layers:
        if isinstance(layer.op, Norm):
            ticket.scale[layer.name][0] = 0
    return compact(ticket)


def copies() -> Iterator[Model]:
    """Operands of a Concat, and an Activation, whose codes stay or nearly do."""
    own = model("many", "float32")
    for scale, zero in ((1.0, 40), (1.0, 41), (0.8, 40), (0.5, 40), (2.0, 40)):
        quant = dict.fromkeys(("q", "codes"), Quant(0.5, 40)) | {"both": Quant(0.5 * scale, zero)}
        yield replace(own, quant=own.quant | quant)


def products() -> Iterator[Model]:
    """255 * 255 times nearly 2^15, by every shift: the largest that 32 bits hold."""
    own = model("products", "float32")
    for shift in range(1, 47):
        quant = {"q": Quant(1.0, 255), "p": Quant(2.0**shift / 32766, 128)}
        yield replace(own, quant=own.quant | quant)


def stretched(own: Model) -> IntegerModel:
    """With ranges far from the data's, for the ends of multipliers and shifts, as far as each layer takes them."""
    rng, made = np.random.default_rng(3), integerise(own)
    read = {name for layer in own.plan.layers for name in layer.inputs}
    tensors, layers = {name: made.tensors[name] for name in own.plan.inputs}, []
    for layer in own.plan.layers:
        wide = layer.name in read or "relu6" in layer.name  # sums beyond 6
        for low, high in ((2, 4),) if wide else ((-24, 24), (-12, 12), (-6, 6), (0, 0)):
            by, zero = float(2.0 ** rng.uniform(low, high)), 0 if "relu6" in layer.name else int(rng.integers(256))
            old = own.quant.get(layer.name, Quant(1.0, 0))  # one that keeps the codes of its input has none
            with suppress(UnsupportedError):
                record, tensors[layer.name] = _prepared(own, layer, tensors, Quant(old.scale * by, zero))
                break
        layers.append(record)
    return replace(made, tensors=tensors, layers=tuple(layers))


def _prepared(own: Model, layer: Layer, tensors: dict[str, Codes], quant: Quant) -> tuple[IntegerLayer, Codes]:
    own, sources = replace(own, quant={layer.name: quant}), [tensors[name] for name in layer.inputs]
    target = target_codes(own, layer, sources)
    return prepare(own, layer, sources, target), target


SPACE = {MaxPool, AveragePool, GlobalAveragePool, Resize, Pad, Gather, DepthToSpace, SpaceToDepth, ConvTranspose}
ALONE = {Activation, Norm, PRelu}
QUANT = {"x": Quant(0.5, 3), "l0": Quant(0.5, 3)}


@cache
def planned() -> list[Job]:
    """All there is, once for each kind of sensor."""
    extremes = [job for own in (*copies(), *products()) for job in jobs("extremes", own, integerise(own))]
    work = [job for job in extremes if job.record.layer.name in ("codes", "both", "p")]
    for plan, sensor in product(PLANS, SENSORS):
        if sensor.startswith("uint8") and plan not in ("activations", "movements, 3"):
            continue  # held as what the other sensors give
        own = model(plan, sensor)
        work += jobs(f"{plan}, {sensor}", own, integerise(own))
        if sensor in ("float32", "int16"):
            work += jobs(f"{plan}, {sensor}, other ranges", own, stretched(own))
    return work


def test_every_kernel_is_the_specification(tmp_path: Path) -> None:
    assert run(tmp_path, planned()) == []


def test_every_kernel_is_met() -> None:
    """With all that it can be, and not by constant outputs alone."""
    work = planned()
    ops = {(type(job.record.layer.op), *map(str, (x.dtype for x in job.inputs))) for job in work}
    both = {(op, dtype) for op in SPACE | ALONE for dtype in ("uint8", "int16")}
    assert ops >= both | {(op, a, b) for op in (Add, Mul, Concat) for a, b in product(("uint8", "int16"), repeat=2)}
    kinds = {(type(op), op.activation) for job in work if hasattr(op := job.record.layer.op, "activation")}
    assert kinds >= set(product((Activation, Add, Norm, ConvTranspose), KINDS))
    assert {name for job in work for name in job.kernel.fragments} >= {
        f"{path.name}:{kind}" if "SUFFIX" in path.read_text() else path.name
        for path in FRAGMENTS.glob("ops_*.h")
        for kind in ("u8", "i16")
    }
    shifts = {e for job in work if job.record.shift is not None for e in job.record.shift.reshape(-1).tolist()}
    assert shifts == set(range(1, 47))
    assert np.mean([len(np.unique(job.wanted)) > 3 for job in work]) > 0.7


def test_every_kernel_names_what_it_needs() -> None:
    """Other layers of a network may not bring it."""
    for names in {job.kernel.fragments for job in planned()}:
        known = set(re.findall(r"\bet_\w+", fragment("core.h")))
        for text in (re.sub(r"/\*.*?\*/", "", fragment(name), flags=re.DOTALL) for name in names):
            defined = set(re.findall(r"(?:^static [^(=]*?|^} )(et_\w+)(?=\(| =|;)", text, re.MULTILINE))
            assert set(re.findall(r"\bet_\w+", text)) <= known | defined, names
            known |= defined


@pytest.mark.slow
def test_the_cases(tmp_path: Path) -> None:
    """And random networks: other shapes and neighbours."""
    models = {name: compact(one.ticket()) for name, one in CASES.items()}
    models |= {f"seed {seed}": compact(case(seed).ticket()) for seed in range(60)}
    assert run(tmp_path, [job for name, own in models.items() for job in jobs(name, own, integerise(own))]) == []


MISTAKES = [
    ("ops_shift", "> 32 ? 31", "> 31 ? 30"),
    ("ops_shift", "(t >> 1) + (t & 1)", "t >> 1"),
    ("ops_shift", "e > 32 ? 31 : e - 1", "e - 1"),
    ("ops_each", "- zero", ""),
    ("ops_lookup", "i < 256", "i < 255"),
    ("ops_lookup", "m == 0x4000 && ", ""),
    ("ops_lookup", "e == 14 && ", ""),
    ("ops_lookup", "head[0] == zero && ", ""),
    ("ops_lookup", " && head[1] == 0", ""),
    ("ops_norm", "row[4] * 256", "256"),
    ("ops_norm", "- factor * k[0]", ""),
    ("ops_norm", "row += 8", "row += 7"),
    ("ops_norm", "e > 16", "e > 15"),
    ("ops_prelu", "v < 0", "v <= 40"),
    ("ops_prelu", "e_below = row[5]", "e_below = e"),
    ("ops_add", "e - 1", "e"),
    ("ops_add", "> 30 ? 30", "> 99 ? 30"),
    ("ops_add", "fb * k[1]", "fb * k[0]"),
    ("ops_add", "i * p->b[0]", "i * p->a[0]"),
    ("ops_add", "head[1] == 0 && ", ""),
    ("ops_add", " && head[2] == 255", ""),
    ("ops_narrow", "e - 16", "e - 15"),
    ("ops_narrow", "& 0xFFFF", "& 0x7FFF"),
    ("ops_narrow", "acc >> 16", "acc / 65536"),
    ("ops_mul", "*y - zb", "*y - za"),
    ("ops_mul", " * m, e)", ", e)"),
    ("ops_mul", "j * p->a[1]", "i * p->a[1]"),
    ("ops_join", "zeros[i]", "zeros[0]"),
    ("ops_join", "at[1] * o->step[1]", "at[1] * o->step[2]"),
    ("ops_join", "et_shift(acc, *e)", "(acc >> *e)"),
    ("ops_join", "factors ? 0 : 1", "0"),
    ("ops_max_pool", "x < columns", "x <= columns"),
    ("ops_max_pool", "span - w->pad[1]", "span"),
    ("ops_max_pool", "top < 0 ? 0 : top", "0"),
    ("ops_max_pool", "w->stride[0]", "w->stride[1]"),
    ("ops_max_pool", "w->kernel[0], 0, w->height", "w->kernel[0], 0, width"),
    ("ops_max_pool", "(ELEMENT)-32768", "0"),
    ("ops_max_pool", "from[x] > row[x]", "from[x] < row[x]"),
    ("ops_max_pool", "x = 1", "x = 2"),
    ("ops_max_pool", " * sizeof(ELEMENT)", ""),
    ("ops_mean", "rows += 3", "rows += 0"),
    ("ops_sum", "n <= 256", "n <= 4096"),
    ("ops_sum", "sizeof(ELEMENT) == 1 && ", ""),
    ("ops_sum", "-n * k[0]", "0"),
    ("ops_average_pool", "w->kernel[0], 0, w->height", "w->kernel[0], 0, w->width"),
    ("ops_average_pool", "w->pad[1]", "w->pad[0]"),
    ("ops_area", "+ columns - 1", ""),
    ("ops_area", "i * height", "i * width"),
    ("ops_global_average_pool", "while (in < end) acc += *in++", "in = end"),
    ("ops_global_average_pool", "-n * k[0]", "0"),
    ("ops_nearest", "part >= r->out_width", "part > r->out_width"),
    ("ops_nearest", "i * r->height / r->out_height", "i * r->width / r->out_width"),
    ("ops_interpolate", "right ? a + 1 : a", "a + 1"),
    ("ops_interpolate", "below ? top + r->width : top", "top + r->width"),
    ("ops_interpolate", "- zero", ""),
    ("ops_interpolate", "e > 16", "e > 15"),
    ("ops_interpolate", "down - below", "across - below"),
    ("ops_pad", "memset(out, zero", "memset(out, 0"),
    ("ops_pad", "p->first + i", "i"),
    ("ops_pad", "p->out_first + i", "i"),
    ("ops_gather", "*channels++", "channels[count - 1]"),
    ("ops_blocks", "i / block % block", "i % block"),
    ("ops_blocks", "first += width * block * block", "first += width * block"),
    ("ops_conv_transpose", "e > 16", "e > 15"),
    ("ops_conv_transpose", "acc[j] = bias", "acc[j] = 0"),
    ("ops_conv_transpose", "j = s->pad[1]", "j = 0"),
    ("ops_conv_transpose", "i + s->pad[0] - tap", "i - s->pad[0] + tap"),
    ("ops_conv_transpose", "y / s->stride[0] >= s->height", "y / s->stride[0] > s->height"),
    ("ops_conv_transpose", "(in[x] - zero)", "in[x]"),
    ("ops_conv_transpose", "to += stride", "to++"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "right", "wrong"), MISTAKES)
def test_a_planted_mistake_is_caught(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    work = [job for job in planned() if name in {used.partition(".")[0] for used in job.kernel.fragments}]
    text = (FRAGMENTS / f"{name}.h").read_text()
    assert text.count(right), "not in the kernel any more"
    assert run(tmp_path, work, "-w", **{name: text.replace(right, wrong)})


def test_neighbouring_directions_are_one() -> None:
    assert broadcast((5, 4, 4), [(5, 4, 4), (5, 4, 4)]) == [[1, 1, 80], [0, 0, 1], [0, 0, 1]]
    assert broadcast((5, 4, 3), [(5, 4, 3), (5, 1, 1)]) == [[1, 5, 12], [0, 12, 1], [0, 1, 0]]
    assert broadcast((5, 4, 3), [(5, 4, 3), (1, 4, 3)]) == [[1, 5, 12], [0, 12, 1], [0, 0, 1]]
    assert broadcast((5, 4, 3), [(5, 4, 3), (5, 1, 3)]) == [[5, 4, 3], [12, 3, 1], [3, 0, 1]]
    assert broadcast((5, 4, 3), [(5, 4, 1), (5, 1, 3)]) == [[5, 4, 3], [4, 1, 0], [3, 0, 1]]
    assert broadcast((1, 1), [(1, 1), (1, 1)]) == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("op", [Gather((70000, 1)), Resize((2,), "linear")])
def test_what_an_index_does_not_reach_is_named(op: Op) -> None:
    shape = (70001,) if isinstance(op, Gather) else (1, 70000)
    own = Model(chain(shape, op), {}, {}, {}, {"x": Input("float32", (0.0,) * shape[0], (1.0,) * shape[0])}, QUANT)
    made = integerise(own)
    with pytest.raises(UnsupportedError, match=r"layer l0 \(\w+\): .*65536"):
        operation(made, made.layers[0], {"x": "x", "l0": "y"})
