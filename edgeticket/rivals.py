"""What a user would otherwise take: the float network, its int8, a narrower int8 network, and a pruned one of as many bytes.

All are trained by the loop that teaches tickets, on the same examples in the same order, for as many epochs (the pruned one
twice: it is trained, pruned and trained again). Every figure of a rival is that of the ONNX file that would be deployed, run by
ONNX Runtime. docs/notes.md says how their step sizes and the ranking of channels were chosen.
"""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from edgeticket import tasks
from edgeticket.budget import Budget, Term
from edgeticket.calibration import calibrated
from edgeticket.compact import compact
from edgeticket.cost import Estimator, PacketEstimate
from edgeticket.data import Data
from edgeticket.datasets.arrays import Part
from edgeticket.errors import BudgetError
from edgeticket.masked import MaskedNet
from edgeticket.model import Float, Int8, Model
from edgeticket.network import network_plan
from edgeticket.packet import packed_bytes
from edgeticket.plan import Kept, Plan
from edgeticket.post_training import quantised
from edgeticket.search._shrink import widths_for
from edgeticket.search._training import Progress
from edgeticket.session import Session
from edgeticket.settings import Settings
from edgeticket.stand_in import Chosen
from edgeticket.tasks import Scored
from edgeticket.ticket import Input
from exporters import qdq, to_onnx
from exporters.graph import to_bytes

Content = bytes
Candidate = tuple[tuple[int, ...], Callable[[], Model]]  # widths, and what trains them
Report = Callable[[Progress], None]
TRIES = 4  # trainings of which the bytes come out as asked: they are only known once weights are
AIM, FULL = 0.985, 0.97  # of the limit: what the first try aims at, and what is full enough
WHAT = {
    "float": "trained in float32",
    "float-int8": "the same weights, rounded to int8 after training",
    "int8-narrow": "trained under int8 rounding at {}",
    "pruned": "trained in float32, pruned by Torch-Pruning to {}, trained again, rounded to int8",
}


@dataclass(frozen=True)
class Rival:
    """`select`, `certify`: the task's headline. `figures`: on the certify part. `bytes`: all that a device needs beside code.

    `onnx`: the file that all of these are of: float32, or int8. `cpu_seconds`: of all trainings that it took, a
    teacher's left out.
    """

    name: str
    what: str
    model: Model
    select: float
    certify: float
    figures: dict[str, Any]
    bytes: int
    onnx: Content
    macs: int
    widths: dict[str, int]
    cpu_seconds: float


def floating(plan: Plan, data: Data, settings: Settings, report: Report = lambda progress: None) -> list[Rival]:
    """ "float", trained in float32, and "float-int8", the same weights rounded after training."""
    session = _session(plan, data, settings, report)
    start = time.process_time()
    model = session.float_model(session.float_job("float", plan)[0].net)
    trained = calibrated(model, data)
    first = _rival("float", trained, data, time.process_time() - start)
    rounding = time.process_time()
    model = calibrated(quantised(model), data)
    seconds = first.cpu_seconds + time.process_time() - rounding
    return [first, _rival("float-int8", model, data, seconds)]


def narrow_int8(
    plan: Plan, data: Data, settings: Settings, limit: int, report: Report = lambda progress: None
) -> Rival:
    """ "int8-narrow": the plan scaled alike everywhere to `limit` bytes, all its layers trained under int8 rounding.

    The largest that TRIES trainings find. Raises BudgetError where they find none.
    """
    every = replace(settings, learn="all", keep=1.0, method="subset_sum", signs="seed")
    session = _session(plan, data, every, report)
    start = time.process_time()

    def trained(narrow: Plan) -> Model:
        return _positive(compact(session.ticket("int8-narrow", narrow, every, narrow)[0]))

    def choose(aim: float) -> Candidate:
        narrow = _scaled(plan, every, session.sensor(plan), aim)
        return tuple(narrow.widths().values()), partial(trained, narrow)

    model = _as_large(choose, limit)
    return _rival("int8-narrow", model, data, time.process_time() - start)


def pruned(plan: Plan, data: Data, settings: Settings, limit: int, report: Report = lambda progress: None) -> Rival:
    """ "pruned": trained in float32, pruned by Torch-Pruning to `limit` bytes, trained again, rounded to int8.

    Raises UnsupportedError for a network that Torch-Pruning cannot follow, BudgetError as `narrow_int8`, ModuleNotFoundError
    without torch-pruning.
    """
    from edgeticket.search._pruned import prune

    session = _session(plan, data, settings, report)
    start = time.process_time()
    wide = session.float_job("pruned, before", plan)[0].net

    def without(kept: Kept) -> MaskedNet:
        net = deepcopy(wide)
        net.shrink(kept, {})
        return net

    def trained(kept: Kept) -> Model:
        return quantised(session.float_model(session.float_job("pruned", plan, without(kept))[0].net))

    def choose(aim: float) -> Candidate:
        kept = prune(wide, lambda kept: _bytes(quantised(session.float_model(without(kept)))) <= aim)
        return tuple(plan.narrow(kept).widths().values()), partial(trained, kept)

    model = calibrated(_as_large(choose, limit), data)
    return _rival("pruned", model, data, time.process_time() - start)


def _session(plan: Plan, data: Data, settings: Settings, report: Report) -> Session:
    """Its networks are advised by the teacher, where tickets are."""
    session = Session(plan, data, settings, None, None, report)
    if settings.teacher:
        session.teacher(network_plan(settings.teacher, data))
    return session


def what(name: str, widths: Mapping[str, int]) -> str:
    """One line about the rival `name`, for a table."""
    return WHAT[name].format("-".join(map(str, widths.values())))


def _rival(name: str, model: Model, data: Data, seconds: float) -> Rival:
    floats = all(isinstance(weights, Float) for weights in model.weights.values())
    content = to_bytes(to_onnx.build(model) if floats else qdq.build(model))
    to_onnx.check(content)
    select, certify = (score(content, data, part) for part in (data.select, data.certify))
    task = tasks.of(data)
    return Rival(
        name,
        what(name, model.plan.widths()),
        model,
        task.headline(select),
        task.headline(certify),
        task.figures(certify, select),
        _bytes(model),
        content,
        sum(model.plan.macs().values()),
        model.plan.widths(),
        seconds,
    )


def score(onnx: bytes, data: Data, part: Part) -> Scored:
    """What ONNX Runtime makes of one part of `data` with the content of a file."""
    raw, y = part
    return Scored(tasks.of(data).score(to_onnx.run_bytes(onnx, raw), data.input.apply(raw), y), y)


def _positive(model: Model) -> Model:
    """The same network with the signs of its scales in its int8 weights, where ONNX has them."""
    weights, scale = dict(model.weights), dict(model.scale)
    for name, own in model.weights.items():
        sign = np.where(scale[name] < 0, -1, 1).astype(np.int8).reshape(-1, *[1] * (own.values.ndim - 1))
        weights[name], scale[name] = Int8(own.values * sign), np.abs(scale[name])
    return replace(model, weights=weights, scale=scale)


# as large as the limit allows


def _as_large(choose: Callable[[float], Candidate], limit: int) -> Model:
    """Train what an estimate says has so many bytes, correct the estimate by what it has, and again: the largest that fits."""
    fitting: dict[int, Model] = {}
    seen: set[tuple[int, ...]] = set()
    aim = AIM * limit
    for _ in range(TRIES):
        widths, train = choose(aim)
        if widths in seen:
            if fitting:
                break
            aim *= FULL
            continue
        seen.add(widths)
        model = train()
        size = _bytes(model)
        if size <= limit:
            fitting[size] = model
            if size >= FULL * limit:
                break
        aim *= limit / size
    if not fitting:
        raise BudgetError(
            f"no rival of at most {limit:,} bytes in {TRIES} tries: raise the bytes, or take a narrower network"
        )
    return fitting[max(fitting)]


def _scaled(plan: Plan, settings: Settings, inputs: Mapping[str, Input], limit: float) -> Plan:
    """`plan` with every layer narrowed alike, as wide as an estimate of its bytes says."""
    chosen = Chosen.by(settings, plan, inputs)
    budget = Budget((Term("packet_bytes", limit),))
    judge = Estimator(budget, chosen, packet=PacketEstimate(plan, chosen)).judge
    units = replace(settings, align=1).units(plan)
    widths = widths_for(plan, judge, units, dict.fromkeys(units, 1))
    return plan.narrow(plan.fill({name: np.arange(len(plan.groups[name].ids)) < n for name, n in widths.items()}))


def _bytes(model: Model) -> int:
    return sum(packed_bytes(model).values())
