"""ONE table of tiny plans, every operation and every oddity at least once, and a random ticket for any plan."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from edgeticket.compact import compact
from edgeticket.model import Raw
from edgeticket.ops import (
    ACTIVATIONS,
    RESIZE_MODES,
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    DepthToSpace,
    Flatten,
    Gather,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool,
    Mul,
    Norm,
    Op,
    Pad,
    PRelu,
    Reshape,
    Resize,
    SpaceToDepth,
    conv,
)
from edgeticket.plan import Plan
from edgeticket.reference import run_all
from edgeticket.rounding import round_parameters
from edgeticket.ticket import Input, Quant, Ticket


@dataclass(frozen=True)
class Case:
    """A plan and the choices that make a random ticket of it."""

    plan: Plan
    dtype: str = "uint8"
    edges: int = 1
    flips: bool = False
    learned: bool = True  # stem and head, where there are other layers
    keep: float = 0.6
    density: float = 0.5
    seed: int = 7
    zero_offset: bool = False
    spreads: tuple[float, ...] = ()  # of each channel of a float sensor; none: all alike
    scale: dict[str, float] = field(default_factory=dict)  # layer -> one value for all its filters

    def ticket(self) -> Ticket:
        return random_ticket(self)

    def raw(self, count: int = 5) -> Raw:
        """Raw sensor values [count, *shape] of each input."""
        rng = np.random.default_rng(self.seed + 1)
        made = {name: self._raw(rng, (count, *shape)) for name, shape in self.plan.inputs.items()}
        return made if len(made) > 1 else next(iter(made.values()))

    def _raw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        if self.dtype == "float32":
            spreads = np.reshape(self.spreads or 1.0, (-1, *[1] * (len(shape) - 2)))
            return (rng.normal(0.3, 2, shape) * spreads).astype(np.float32)
        low, high = (0, 256) if self.dtype == "uint8" else (-3000, 3000)
        return rng.integers(low, high, shape).astype(self.dtype)


def random_ticket(case: Case) -> Ticket:
    """Channels, masks, flips, int8 weights, scales (of both signs) and biases at random; ranges from random data."""
    plan, rng = case.plan, np.random.default_rng(case.seed)
    kept = {name: _some(rng, len(group.ids), case.keep) for name, group in plan.groups.items() if not group.fixed}
    kept = plan.fill(kept)
    narrow = plan.narrow(kept)
    names = [layer.name for layer in narrow.weighted()]
    learned = {name for name in (*plan.stem(), *plan.head()) if case.learned and len(names) > 1}
    masks, flips, integers, scale, bias = {}, {}, {}, {}, {}
    for layer in narrow.weighted():
        name, (filters, *rest) = layer.name, narrow.weight_shape(layer)
        fan_in, largest = prod(rest), 1.0
        if name in learned:
            integers[name] = rng.integers(-127, 128, (filters, *rest)).astype(np.int8)
            largest = 127.0
        else:
            masks[name] = _exactly_k(rng, (filters, case.edges, *rest), case.density)
        if case.flips and name in masks:
            flips[name] = (rng.random(masks[name].shape) < 0.5) & masks[name]
        size = rng.uniform(0.5, 1.5, filters) * rng.choice([-1, 1], filters)
        scale[name] = (size / largest / np.sqrt(fan_in)).astype(np.float32)
        if name in case.scale:
            scale[name][:] = case.scale[name]
        bias[name] = rng.normal(0, 0.3, filters).astype(np.float32)
    slope = {}
    for layer in narrow.layers:
        channels = narrow.shapes[layer.name][0]
        if isinstance(layer.op, Norm):
            size = rng.uniform(0.5, 1.5, channels) * rng.choice([-1, 1], channels)
            scale[layer.name], bias[layer.name] = (
                size.astype(np.float32),
                rng.normal(0, 0.3, channels).astype(np.float32),
            )
        elif isinstance(layer.op, PRelu):
            slope[layer.name] = rng.uniform(-0.2, 0.8, channels).astype(np.float32)
    ticket = Ticket(
        plan=plan,
        seed=case.seed * 0x123456789 % (1 << 64),
        edges={name: case.edges for name in masks},
        kept=kept,
        masks=masks,
        flips=flips,
        learned=integers,
        scale={name: round_parameters(values) for name, values in scale.items()},
        bias={name: round_parameters(values) for name, values in bias.items()},
        inputs={name: _input(case, shape[0]) for name, shape in plan.inputs.items()},
        quant={},
        task="classification",
        purity="P2+stem",
        slope=slope,
    )
    return replace(ticket, quant=ranges(ticket, case.raw(32)))


def ranges(ticket: Ticket, raw: Raw) -> dict[str, Quant]:
    """Every tensor's smallest and largest value, 0 among them, in 255 steps."""
    quant = {}
    for name, values in run_all(compact(ticket), raw).items():
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        step = (high - low) / 255 or 1.0
        quant[name] = Quant(step, int(np.clip(round(-low / step), 0, 255)))
    return quant


def _some(rng: np.random.Generator, count: int, keep: float) -> np.ndarray:
    kept = rng.random(count) < keep
    kept[rng.integers(count)] = True
    return kept


def _exactly_k(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> np.ndarray:
    fan_in = prod(shape[1:])
    order = rng.random((shape[0], fan_in)).argsort(1)
    return (order < max(1, round(density * fan_in))).reshape(shape)


def _input(case: Case, channels: int) -> Input:
    span = {"uint8": 255, "int16": 3000, "float32": 3}[case.dtype]
    spreads = case.spreads or (1,) * channels
    offset = (
        [float(np.float32((0.5 + 0.25 * i) * spread)) for i, spread in enumerate(spreads)]
        if case.dtype == "float32"
        else [3 * i + 20 for i in range(channels)]
    )
    steps = [float(np.float32(1 / span / spread)) for spread in spreads]
    return Input(case.dtype, tuple(0 if case.zero_offset else value for value in offset), tuple(steps))


def chain(shape: tuple[int, ...], *ops: Op) -> Plan:
    """Layers l0, l1, ... one after the other."""
    names = ["x", *(f"l{i}" for i in range(len(ops)))]
    layers = tuple(Layer(names[i + 1], op, (names[i],)) for i, op in enumerate(ops))
    return Plan({"x": shape}, layers, (names[-1],))


def graph(shape: tuple[int, ...] | dict[str, tuple[int, ...]], *rows: tuple[str, Op, str], outputs: str = "") -> Plan:
    """Rows of (name, op, names of its inputs); the last is the output, if none is named."""
    layers = tuple(Layer(name, op, tuple(inputs.split())) for name, op, inputs in rows)
    return Plan(shape if isinstance(shape, dict) else {"x": shape}, layers, tuple(outputs.split()) or (rows[-1][0],))


ONE, TAIL = (1, 1), (GlobalAveragePool(), Linear(4))


def _activations() -> Iterator[tuple[str, Case]]:
    large = {"l0": 0.05}  # beyond 6 and into saturation, in part
    for kind in (*ACTIVATIONS[1:], "leaky_relu:0.2"):
        plan = chain((2, 5, 5), conv(8, activation=kind), conv(8, activation=kind), *TAIL)
        yield f"fused {kind}", Case(plan, scale=large)
        plan = chain(
            (2, 5, 5), conv(8, activation="none"), Activation(kind), conv(6), Flatten(), Linear(5, activation=kind)
        )
        yield f"own {kind}", Case(plan, scale=large)


_RESIDUAL = graph(
    (3, 6, 6),
    ("stem", conv(8), "x"),
    ("a", conv(8), "stem"),
    ("b", conv(8, activation="none"), "a"),
    ("sum", Add("relu"), "b stem"),
    ("down", conv(12, 1, stride=2, activation="none"), "sum"),
    ("c", conv(12, stride=2, activation="none"), "sum"),
    ("d", conv(12, activation="none"), "c"),
    ("three", Add(), "down c d"),
    ("pool", GlobalAveragePool(), "three"),
    ("fc", Linear(4), "pool"),
)
_DEPTHWISE = chain((3, 7, 7), conv(8), conv(8, groups=8, stride=2), conv(12, 1), conv(12, 5, groups=12), *TAIL)
_CONCAT = graph(
    (2, 6, 6),
    ("stem", conv(7), "x"),
    ("a", conv(5, 1), "stem"),
    ("b", conv(6), "stem"),
    ("all", Concat(), "a stem b"),
    ("mix", conv(9), "all"),
    ("pool", GlobalAveragePool(), "mix"),
    ("fc", Linear(3), "pool"),
)
_SQUEEZE = graph(
    (2, 6, 6),
    ("stem", conv(8), "x"),
    ("mean", AveragePool((6, 6), ONE, (0, 0, 0, 0)), "stem"),
    ("less", conv(4, 1), "mean"),
    ("gate", conv(8, 1, activation="sigmoid"), "less"),
    ("out", Mul(), "stem gate"),
    ("mix", conv(8), "out"),
    ("pool", GlobalAveragePool(), "mix"),
    ("fc", Linear(4), "pool"),
)
_PRODUCT = graph(
    (2, 5, 5),
    ("stem", conv(6), "x"),
    ("a", conv(6), "stem"),
    ("b", conv(6, activation="tanh"), "stem"),
    ("out", Mul(), "a b stem"),
    ("flat", Flatten(), "out"),
    ("fc", Linear(4), "flat"),
)

_PREACTIVATION = graph(
    (2, 6, 6),
    ("stem", conv(8, activation="none"), "x"),
    ("norm1", Norm("relu"), "stem"),
    ("a", conv(8, activation="none"), "norm1"),
    ("all", Concat(), "stem a"),
    ("norm2", Norm("silu"), "all"),
    ("b", conv(12, 1), "norm2"),
    ("pool", GlobalAveragePool(), "b"),
    ("norm3", Norm(), "pool"),
    ("fc", Linear(4), "norm3"),
)
_SHUFFLE = graph(
    (2, 6, 6),
    ("stem", conv(12), "x"),
    ("left", Gather(tuple(range(6))), "stem"),
    ("right", Gather(tuple(range(6, 12))), "stem"),
    ("a", conv(6, groups=6), "right"),
    ("b", conv(6, 1), "a"),
    ("all", Concat(), "left b"),
    ("shuffle", Gather(tuple(i // 2 + 6 * (i % 2) for i in range(12))), "all"),
    ("group", conv(12, groups=3), "shuffle"),
    ("again", Concat(), "group shuffle group"),
    ("mix", conv(9), "again"),
    ("pool", GlobalAveragePool(), "mix"),
    ("fc", Linear(4), "pool"),
)
_TRANSPOSE = ConvTranspose(6, (3, 2), (2, 3), (1, 0, 0, 1), (1, 2), activation="relu")
_U_NET = graph(
    (2, 8, 8),
    ("down", conv(8), "x"),
    ("low", conv(12, stride=2), "down"),
    ("up", ConvTranspose(8, (2, 2), (2, 2), (0, 0, 0, 0), (0, 0), activation="relu"), "low"),
    ("skip", Concat(), "up down"),
    ("out", conv(6), "skip"),
    ("large", Resize((8, 8), "linear"), "low"),
    ("fine", conv(6), "large"),
    ("sum", Add(), "out fine"),
    ("map", conv(3, 1, norm=False, activation="none"), "sum"),
)
_ATTENTION = graph(
    (2, 5, 6),
    ("stem", conv(8), "x"),
    ("mean", GlobalAveragePool(), "stem"),
    ("less", Linear(6, activation="relu"), "mean"),
    ("more", Linear(8, activation="hard_sigmoid"), "less"),
    ("gate", Reshape((1, 1)), "more"),
    ("scaled", Mul(), "stem gate"),
    ("where", conv(1, 3, activation="sigmoid"), "scaled"),
    ("seen", Mul(), "scaled where"),
    ("sum", Add("relu"), "gate seen"),
    ("fc", conv(4), "sum"),
)
_TWO = graph(
    {"picture": (2, 6, 6), "current": (3, 12)},
    ("see", conv(8), "picture"),
    ("hear", conv(8, 5, dims=1), "current"),
    ("seen", GlobalAveragePool(), "see"),
    ("heard", GlobalAveragePool(), "hear"),
    ("both", Concat(), "seen heard"),
    ("class", Linear(4), "both"),
    ("mix", Linear(6, activation="relu"), "both"),
    ("value", Linear(2), "mix"),
    outputs="class value",
)

_PLAIN = chain((1, 8, 8), conv(8), conv(12, stride=2), conv(12, stride=2), *TAIL)
_WINDOW = Conv(8, (3, 2), (2, 1), (1, 0, 2, 1), ONE, activation="relu")
_DILATED = Conv(8, (3, 3), ONE, (2, 1, 0, 1), (2, 1), activation="relu")
_SERIES = Conv(8, (7,), (2,), (3, 2), (1,), activation="relu")
_SENSORS, _SPREADS = chain((3, 8, 8), conv(8), conv(12, stride=2), *TAIL), (0.01, 50, 1)

_INTERLEAVED = graph(
    (2, 20, 20),
    ("a", conv(8), "x"),
    ("b", conv(8, stride=2), "x"),
    ("c", conv(8, stride=2), "a"),
    ("sum", Add(), "b c"),
    ("pool", GlobalAveragePool(), "sum"),
    ("fc", Linear(4), "pool"),
)

CASES: dict[str, Case] = {
    "two branches, interleaved": Case(_INTERLEAVED),
    "plain": Case(_PLAIN),
    "plain, signs alone": Case(_PLAIN, learned=False),
    "plain, 3 edges": Case(_PLAIN, edges=3, density=0.4),
    "plain, flips": Case(_PLAIN, flips=True),
    "plain, 3 edges and flips": Case(_PLAIN, edges=3, flips=True, learned=False),
    "plain, one weight a filter": Case(_PLAIN, density=0.001),
    "plain, all channels": Case(_PLAIN, keep=1.0, density=1.0),
    "plain, float sensor": Case(_PLAIN, dtype="float32"),
    "float sensor of different steps": Case(_SENSORS, dtype="float32", spreads=_SPREADS),
    "1-D, float sensor of different steps": Case(
        chain((3, 40), _SERIES, conv(12, dims=1), *TAIL), dtype="float32", spreads=_SPREADS
    ),
    "linear, float sensor of different steps": Case(
        chain((3,), Linear(16, activation="relu"), Linear(4)), dtype="float32", spreads=_SPREADS
    ),
    "plain, int16 sensor": Case(_PLAIN, dtype="int16"),
    "plain, zero offset": Case(_PLAIN, zero_offset=True),
    "stride and asymmetric pad": Case(chain((2, 7, 9), conv(6), _WINDOW, *TAIL)),
    "asymmetric pad in the stem": Case(chain((2, 7, 9), _WINDOW, conv(6), *TAIL)),
    "dilation": Case(chain((2, 9, 7), conv(6), _DILATED, *TAIL)),
    "non-square": Case(chain((3, 4, 11), conv(8, 5), conv(8, stride=2), Flatten(), Linear(4))),
    "residual": Case(_RESIDUAL),
    "residual, 3 edges": Case(_RESIDUAL, edges=3),
    "depthwise": Case(_DEPTHWISE),
    "depthwise with two filters a channel": Case(
        chain((3, 6, 6), conv(6), conv(12, groups=6), conv(8, 1), *TAIL), keep=1.0
    ),
    "norm alone": Case(_PREACTIVATION),
    "prelu": Case(chain((2, 5, 5), conv(8, activation="none"), PRelu(), conv(8), *TAIL)),
    "slices, shuffle and grouped": Case(_SHUFFLE),
    "slices, shuffle and grouped, few left": Case(_SHUFFLE, keep=0.2),
    "transposed": Case(chain((2, 5, 4), conv(8), _TRANSPOSE, conv(8), *TAIL)),
    "transposed, 1-D": Case(
        chain((2, 9), conv(8, dims=1), ConvTranspose(8, (4,), (2,), (1, 1), (0,), activation="relu"), *TAIL), edges=2
    ),
    "u-net": Case(_U_NET),
    "attention by broadcast": Case(_ATTENTION),
    "two inputs and two outputs": Case(_TWO),
    "two inputs and two outputs, float sensors": Case(_TWO, dtype="float32", seed=9),
    "pad and crop": Case(chain((2, 6, 6), Pad((1, 0, 2, 1)), conv(8), Pad((-1, 1, 0, -2)), conv(8), *TAIL)),
    "depth to space": Case(chain((2, 4, 5), conv(12), DepthToSpace(2), conv(6), Flatten(), Linear(4))),
    "space to depth": Case(chain((2, 8, 4), SpaceToDepth(2), conv(6), SpaceToDepth(2), conv(8), *TAIL)),
    "unflatten": Case(chain((10,), Linear(24, activation="relu"), Reshape((2, 3)), conv(8), Reshape((6,)), *TAIL)),
    **{
        f"resize {mode}": Case(chain((2, 5, 6), conv(8), Resize((8, 4), mode), conv(8), *TAIL)) for mode in RESIZE_MODES
    },
    **{f"resize 1-D {mode}": Case(chain((2, 7), conv(8, dims=1), Resize((10,), mode), *TAIL)) for mode in RESIZE_MODES},
    "grouped": Case(chain((2, 6, 6), conv(8), conv(12, groups=4), conv(8), *TAIL), edges=2),
    "concat": Case(_CONCAT),
    "squeeze and excite": Case(_SQUEEZE),
    "product of three": Case(_PRODUCT),
    "max pool": Case(chain((2, 7, 7), conv(8), MaxPool((3, 2), (2, 2), (1, 0, 0, 1)), conv(8), *TAIL)),
    "average pool": Case(chain((2, 7, 7), conv(8), AveragePool((3, 2), (2, 2), (1, 0, 0, 1)), conv(8), *TAIL)),
    "1-D": Case(
        chain((3, 40), _SERIES, conv(8, dims=1, groups=8), conv(12, dims=1), MaxPool((3,), (2,), (1, 0)), *TAIL)
    ),
    "1-D flatten": Case(chain((1, 20), conv(8, 5, dims=1), AveragePool((2,), (2,), (0, 0)), Flatten(), Linear(3))),
    "one channel": Case(chain((1, 5, 5), conv(1), conv(1), Flatten(), Linear(2))),
    "one pixel": Case(chain((4, 1, 1), conv(8, 1), conv(8), *TAIL)),
    "flatten then two linear": Case(chain((2, 4, 3), conv(6), Flatten(), Linear(16, activation="relu"), Linear(4))),
    "linear alone": Case(chain((24,), Linear(32, activation="relu"), Linear(32, activation="tanh"), Linear(4))),
    "one linear layer": Case(chain((70,), Linear(3))),
    "linear wider than a sign word": Case(
        chain((9,), Linear(200, activation="relu"), Linear(40, activation="relu"), Linear(3))
    ),
    "no channels to lose": Case(chain((2, 5, 5), conv(4, activation="none"))),
    **dict(_activations()),
}
