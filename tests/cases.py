"""ONE table of tiny plans, every operation and every oddity at least once, and a random ticket for any plan."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from edgeticket.compact import compact
from edgeticket.ops import (
    ACTIVATIONS,
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv,
    Flatten,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool,
    Mul,
    Op,
    conv,
)
from edgeticket.plan import Plan
from edgeticket.reference import run_all
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

    def raw(self, count: int = 5) -> np.ndarray:
        """Raw sensor values [count, *input shape]."""
        rng = np.random.default_rng(self.seed + 1)
        shape = (count, *next(iter(self.plan.inputs.values())))
        if self.dtype == "float32":
            spreads = np.reshape(self.spreads or 1.0, (-1, *[1] * (len(shape) - 2)))
            return (rng.normal(0.3, 2, shape) * spreads).astype(np.float32)
        low, high = (0, 256) if self.dtype == "uint8" else (-3000, 3000)
        return rng.integers(low, high, shape).astype(self.dtype)


def random_ticket(case: Case) -> Ticket:
    """Channels, masks, flips, int8 weights, scales (of both signs) and biases at random; ranges from random data."""
    plan, rng = case.plan, np.random.default_rng(case.seed)
    kept = {name: _some(rng, len(group.ids), case.keep) for name, group in plan.groups.items() if not group.fixed}
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
    channels = next(iter(plan.inputs.values()))[0]
    ticket = Ticket(
        plan=plan,
        seed=case.seed * 0x123456789 % (1 << 64),
        edges={name: case.edges for name in masks},
        kept=kept,
        masks=masks,
        flips=flips,
        learned=integers,
        scale=scale,
        bias=bias,
        input=_input(case, channels),
        quant={},
        task="classification",
        purity="P2+stem",
    )
    return replace(ticket, quant=ranges(ticket, case.raw(32)))


def ranges(ticket: Ticket, raw: np.ndarray) -> dict[str, Quant]:
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


def graph(shape: tuple[int, ...], *rows: tuple[str, Op, str]) -> Plan:
    """Rows of (name, op, names of its inputs); the last is the output."""
    return Plan(
        {"x": shape}, tuple(Layer(name, op, tuple(inputs.split())) for name, op, inputs in rows), (rows[-1][0],)
    )


ONE, TAIL = (1, 1), (GlobalAveragePool(), Linear(4))


def _activations() -> Iterator[tuple[str, Case]]:
    large = {"l0": 0.05}  # beyond 6 and into saturation, in part
    for kind in ACTIVATIONS[1:]:
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

_PLAIN = chain((1, 8, 8), conv(8), conv(12, stride=2), conv(12, stride=2), *TAIL)
_WINDOW = Conv(8, (3, 2), (2, 1), (1, 0, 2, 1), ONE, activation="relu")
_DILATED = Conv(8, (3, 3), ONE, (2, 1, 0, 1), (2, 1), activation="relu")
_SERIES = Conv(8, (7,), (2,), (3, 2), (1,), activation="relu")
_SENSORS, _SPREADS = chain((3, 8, 8), conv(8), conv(12, stride=2), *TAIL), (0.01, 50, 1)

CASES: dict[str, Case] = {
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
