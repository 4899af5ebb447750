"""What a network costs: estimated before its search is over; of a ticket, measured.

On a core it is estimated from the exporter's own plan of a stand-in (edgeticket/stand_in.py) and from what code, tables and work
are worth there (edgeticket/core_table.py), and measured by building the exported C and running it on an emulated board.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import lgamma, log, prod
from pathlib import Path

from edgeticket import plugins
from edgeticket.bench import bench
from edgeticket.budget import CORES, Budget, Cost, Verdict
from edgeticket.compact import compact
from edgeticket.core_table import CODE, STACK, WORK, Table
from edgeticket.export import export
from edgeticket.footprint import Footprint
from edgeticket.model import Model
from edgeticket.ops import SCALED, WEIGHTED
from edgeticket.packet import packed_bytes
from edgeticket.plan import Plan
from edgeticket.stand_in import Chosen, Outlines, random_model
from edgeticket.targets._boards import NoRoomError
from edgeticket.ticket import Ticket
from edgeticket.wire import pack
from exporters import to_c

LOG = logging.getLogger("edgeticket.cost")
ANY_STACK = 1000  # bytes, of a device that is not named
# float32 ONNX of exporters/to_onnx.py: what is not weights or values per channel.
FILE_LAYER = 345  # of a layer with weights


@dataclass(frozen=True)
class Estimator:
    """Costs of narrower forms of one network. `outlines`: footprints on cores; `packet`: plan -> bytes; `latency`: plan -> ms.

    What is left out costs None.
    """

    budget: Budget
    chosen: Chosen
    outlines: Outlines | None = None
    packet: Callable[[Plan], int] | None = None
    latency: Callable[[Plan], float] | None = None

    def costs(self, plan: Plan) -> tuple[Cost, ...]:
        """One cost for each target of the budget."""
        return tuple(self.cost(plan, target) for target in self.budget.targets)

    def cost(self, plan: Plan, target: str) -> Cost:
        """On "", "cpu" or a core, before any weight is chosen."""
        cost = _counted(plan, self.chosen.kept(plan), target)
        if target in CORES:
            return on_core(self._footprint(plan, target), target, cost) if self.outlines else cost
        if target == "cpu":
            return replace(cost, latency_ms=self.latency(plan) if self.latency else None)
        ram = plan.peak_activations() + ANY_STACK
        return replace(cost, ram_bytes=ram, packet_bytes=self.packet(plan) if self.packet else None)

    def _footprint(self, plan: Plan, core: str) -> Footprint:
        """Where RAM does not matter, one that takes a tenth of the time: a search asks for hundreds."""
        assert self.outlines is not None
        ram = any(term.resource == "ram_bytes" and term.target == core for term in self.budget.terms)
        return (self.outlines if ram else self.outlines.sketch)(plan, boots(core))

    def judge(self, plan: Plan) -> tuple[Verdict, ...]:
        return self.budget.judge(self.costs(plan))


def _counted(plan: Plan, kept: Mapping[str, int], target: str) -> Cost:
    """What costs the same everywhere. `kept`: edges of each layer under a mask; all others are learned."""
    macs, weights = plan.macs(), plan.weights()
    adds = sum(count * plan.positions(name) for name, count in kept.items())
    multiplies = sum(count for name, count in macs.items() if name not in kept)
    channels = sum(plan.shapes[layer.name][0] for layer in plan.scaled())
    return Cost(
        target,
        "estimated",
        macs=sum(macs.values()),
        kept_macs=adds + multiplies,
        file_bytes=4 * (sum(weights.values()) + channels) + FILE_LAYER * len(weights),
    )


def boots(core: str) -> bool:
    """Whether the exporter's own choice for `core` makes all lists once, in RAM."""
    return to_c.AUTO.get(core) == "boot"


def on_core(made: Footprint, core: str, cost: Cost) -> Cost:
    """`cost` with the work, flash and RAM of the C on `core`."""
    code, stack, work = (_worth(*pair, core) for pair in ((made.code, CODE), (made.stack, STACK), (made.work, WORK)))
    return replace(
        cost,
        target=core,
        instructions=work,
        flash_bytes=made.model_bytes + made.table_bytes + code,
        ram_bytes=made.ram_bytes + stack,
    )


def estimated(model: Model, core: str) -> Cost:
    """Of a network that has its weights. Raises UnsupportedError for what has no C form."""
    return on_core(Footprint(model, pack(model), boots(core)), core, Cost(core, "estimated"))


def _worth(counts: Mapping[str, float], table: Table, core: str) -> int:
    i = CORES.index(core)
    return round(sum(count * table[what][i] for what, count in counts.items() if what in table))


def measure(ticket: Ticket, budget: Budget, *, threads: int = 1) -> tuple[Cost, ...]:
    """Costs of what was found: exact bytes and work; where the budget needs them, the float32 ONNX file on this CPU and the C
    on emulated cores.

    What needs tools that are not here is estimated, and the log says what to install. Raises what export and bench raise.
    """
    model = compact(ticket)
    counted = Cost(
        "",
        "measured",
        packet_bytes=sum(packed_bytes(model).values()),
        macs=sum(model.plan.macs().values()),
        kept_macs=sum(model.kept_macs().values()),
    )
    anywhere = Cost("", "estimated", ram_bytes=model.plan.peak_activations() + ANY_STACK)
    costs = [anywhere] + [cost for core in budget.targets if core in CORES for cost in _on_board(ticket, model, core)]
    if not budget.has("latency_ms") and not budget.has("file_bytes"):
        return (*costs, counted)
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as folder:
        made = export(ticket, "onnx", Path(folder) / "ticket.onnx")
        counted = replace(counted, file_bytes=made.file_bytes)
        if not budget.has("latency_ms"):
            return (*costs, counted)
        (report,) = bench([made.path], on="cpu", threads=threads)
    return (*costs, counted, report.cost)


def _on_board(ticket: Ticket, model: Model, core: str) -> Iterator[Cost]:
    """Estimated, then simulated where that can be done here."""
    yield estimated(model, core)
    if need := plugins.load("targets", core).missing():
        LOG.warning("%s: estimated and not simulated: %s", core, need)
        return
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as folder:
        made = export(ticket, "c", Path(folder) / "ticket", core=core)
        try:
            (report,) = bench([made.path], on=core)
        except NoRoomError as error:
            LOG.warning("%s: estimated and not simulated: %s", core, error)
            return
    yield report.cost


# packed bytes

Features = dict[str, float]


class PacketEstimate:
    """Plan -> packed bytes of a ticket of it, without making one.

    packet.py counts two random tickets, a half and a quarter as wide; between them each part of the count is a line over what it
    is made of: masks over their entropy (and flips, a bit per kept edge), int8 over weights, values over channels, the rest constant.
    """

    def __init__(self, wide: Plan, chosen: Chosen) -> None:
        self.chosen = chosen
        rows = []
        for share in (2, 4):
            model = random_model(wide, chosen, share)
            parts = packed_bytes(model)
            parts["masks"] += parts.pop("flips")  # one code may hold both
            rows.append((self._features(model.plan), parts))
        self.lines = dict(self._lines(*rows))

    def __call__(self, plan: Plan) -> int:
        features = self._features(plan)
        return round(sum(first + slope * features.get(part, 0.0) for part, (first, slope) in self.lines.items()))

    def _lines(
        self, large: tuple[Features, dict[str, int]], small: tuple[Features, dict[str, int]]
    ) -> Iterator[tuple[str, tuple[float, float]]]:
        (x1, y1), (x0, y0) = large, small
        for part in y1:
            run = x1.get(part, 0.0) - x0.get(part, 0.0)
            slope = (y1[part] - y0[part]) / run if run else 0.0
            yield part, (y0[part] - slope * x0.get(part, 0.0), slope)

    def _features(self, plan: Plan) -> Features:
        """What each part of the packet grows with."""
        found, kept = dict.fromkeys(("masks", "int8", "per filter"), 0.0), self.chosen.kept(plan)
        for layer in plan.layers:
            found["per filter"] += plan.shapes[layer.name][0] * isinstance(layer.op, SCALED)
            if layer.name in self.chosen.learned:
                found["int8"] += plan.weights()[layer.name]
            elif isinstance(layer.op, WEIGHTED):
                filters, *fan_in = plan.weight_shape(layer)
                edges = self.chosen.edges[layer.name] * prod(fan_in)
                found["masks"] += filters * _log2_choose(edges, kept[layer.name] // filters) / 8
                found["masks"] += kept[layer.name] / 8 * self.chosen.signed
        return found


def _log2_choose(n: int, k: int) -> float:
    return (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2)
