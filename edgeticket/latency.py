"""What a network will take on this CPU: a table of measured operations, filled on demand, kept on disk.

An entry is one operation of the graph that ONNX Runtime makes of the exported file (exporters/parts.py), timed as a model of its
own; a network's latency is what a call costs and the sum of its operations. Tables of one-layer models are usual (Cai et al.,
ProxylessNAS, ICLR 2019, arXiv 1812.00332); here the layers as written would be the wrong unit, as ONNX Runtime fuses some and
reorders channels between others.
"""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeticket.architectures import resnet8, wave
from edgeticket.budget import Artifact
from edgeticket.compact import align
from edgeticket.errors import EdgeTicketError
from edgeticket.files import write_atomic
from edgeticket.model import Float, Model
from edgeticket.ops import GlobalAveragePool, Layer, Linear, Op, PRelu, Shape, conv
from edgeticket.plan import Plan
from edgeticket.targets import on_cpu
from edgeticket.targets._confined import MEMORY_MB
from edgeticket.ticket import Input

if TYPE_CHECKING:
    from exporters.parts import Part

LOG = logging.getLogger("edgeticket.latency")
FORMAT = 1
ALIGN = 8  # as export does
AT_ONCE = 100  # entries that one process measures in turns
TURNS: dict[str, Any] = {"rounds": 9, "most_rounds": 36, "turn_ms": 1.5, "spread": 0.03, "timeout_s": 600}
CALLS = ((1, 1), (17, 1), (1, 2))  # copies and inputs of the models that tell what a call costs around copies of a part
CONSTANTS = {
    "call",
    "node",
    "pace",
}  # entries that are no operation: of a call, of a node among others, of the network PACE


def chain(shape: Shape, ops: Sequence[Op]) -> Plan:
    """layer0, layer1, ... one after the other."""
    layers = tuple(Layer(f"layer{i}", op, (f"layer{i - 1}" if i else "input",)) for i, op in enumerate(ops))
    return Plan({"input": shape}, layers, (layers[-1].name,))


def _reference(blocks: int) -> Plan:
    ops: list[Op] = [conv(16), *[conv(16, groups=16), conv(16, 1)] * blocks, GlobalAveragePool(), Linear(4)]
    return chain((2, 12, 12), ops)


REFERENCES = _reference(0), _reference(8)
PACE = chain((3, 24, 24), [*[conv(32)] * 5, GlobalAveragePool(), Linear(4)])  # tells how fast the CPU is just now


class Table:
    """`path`: the JSON file that keeps entries, each CPU, ONNX Runtime and thread count apart; None keeps none.

    `inputs`: the sensors of the plans; those without are uint8 with an offset. A damaged file is replaced, with a warning. Raises
    EdgeTicketError where nothing can be measured or written, UnsupportedError where ONNX Runtime refuses a plan.
    """

    def __init__(self, path: Path | None, threads: int = 1, inputs: Mapping[str, Input] | None = None) -> None:
        self.path, self.threads, self.inputs = path, threads, inputs or {}
        self.section = _section(threads)
        self.entries = _read(path).get(self.section, {})  # signature -> ms
        self._known: dict[Any, list[tuple[str, str]]] = {}  # plan -> layer and signature of each operation
        self._missing: dict[str, Part] = {}

    def fill(self, plans: Sequence[Plan]) -> int:
        """Measure what `predict` needs of these plans and the table has not, in turns; how many entries that were."""
        if "call" not in self.entries:
            self._calibrate()
        for plan in plans:
            self._operations(plan)
        missing = [part for name, part in self._missing.items() if name not in self.entries]
        for i in range(0, len(missing), AT_ONCE):
            entries, (pace,) = self._measure(missing[i : i + AT_ONCE], _optimised([PACE]))
            self.entries |= {name: ms * self.entries["pace"] / pace for name, ms in entries.items()}
            self._write()
            LOG.info("%d of %d operations measured", min(i + AT_ONCE, len(missing)), len(missing))
        self._missing.clear()
        return len(missing)

    def predict(self, plan: Plan) -> float:
        """Milliseconds of one inference of the float32 export, one example at a time."""
        operations = self._filled(plan)
        return self.entries["call"] + sum(ms for _, ms in operations)

    def layer_ms(self, plan: Plan, layer: str) -> float:
        """The share of a layer, or an input: 0 where it went into another; a reorder belongs to the layer before it."""
        return sum(ms for owner, ms in self._filled(plan) if owner == layer)

    def _filled(self, plan: Plan) -> list[tuple[str, float]]:
        """Layer and ms of each operation."""
        operations = self._operations(plan)
        if any(signature not in self.entries for _, signature in operations):
            self.fill([plan])
        return [(owner, self.entries[signature] + self.entries["node"]) for owner, signature in operations]

    def _operations(self, plan: Plan) -> list[tuple[str, str]]:
        """Layer and signature of each."""
        key = (tuple(plan.inputs.items()), plan.layers, plan.outputs)
        if key not in self._known:
            from exporters.parts import parts

            made = parts(_exported(plan, self.inputs))
            self._known[key] = [(_owner(part.names, plan), part.signature) for part in made]
            self._missing |= {part.signature: part for part in made if part.signature not in self.entries}
        return self._known[key]

    def _calibrate(self) -> None:
        """What a call costs, and a node in a network beyond its time among its like: of two networks, less their parts."""
        from exporters.parts import parts

        made = [parts(_exported(plan, {})) for plan in REFERENCES]
        distinct = {part.signature: part for each in made for part in each}
        self.entries, (*times, pace) = self._measure([*distinct.values()], _optimised([*REFERENCES, PACE]))
        sums = [sum(self.entries[part.signature] for part in each) for each in made]
        short, long = (time - total for time, total in zip(times, sums, strict=True))
        node = (long - short) / (len(made[1]) - len(made[0]))
        self.entries |= {"node": max(0.0, node), "call": max(0.0, short - len(made[0]) * node), "pace": pace}
        self._write()

    def _measure(
        self, missing: Sequence["Part"], networks: Sequence[bytes] = ()
    ) -> tuple[dict[str, float], list[float]]:
        """Entries, and ms of whole networks in the same turns.

        An entry: what several copies take at once, less what the call costs beside them, by the copies.
        """
        from exporters.parts import call, repeated

        contents = [*(call(*each) for each in CALLS), *networks, *map(repeated, missing)]
        with tempfile.TemporaryDirectory(prefix="edgeticket-") as folder:
            paths = [Path(folder) / f"{i}.onnx" for i in range(len(contents))]
            for path, content in zip(paths, contents, strict=True):
                path.write_bytes(content)
            turns = on_cpu.turns(paths, threads=self.threads, **TURNS)
        few, many, second, *times = [float(np.median(medians)) for medians in turns]
        node = (many - few) / (CALLS[1][0] - CALLS[0][0])
        entries = {}
        for part, time in zip(missing, times[len(networks) :], strict=True):
            without = few - CALLS[0][0] * node + (second - few) * (len(part.inputs) - 1)
            entries[part.signature] = max(0.0, (time - without) / part.copies)
        return entries, times[: len(networks)]

    def _write(self) -> None:
        """What another process has added since stays, at this one's pace."""
        if self.path is None:
            return
        sections = _read(self.path)
        theirs = sections.get(self.section, {})
        self.entries = {name: ms * self.entries["pace"] / theirs["pace"] for name, ms in theirs.items()} | self.entries
        sections[self.section] = self.entries
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EdgeTicketError(f"latency table {self.path}: its folder cannot be made ({error.strerror})") from error
        write_atomic(self.path, json.dumps({"format": FORMAT, "ms": sections}, indent=1, sort_keys=True).encode())


def _section(threads: int) -> str:
    from exporters.parts import RUNTIME

    machine = on_cpu.describe_machine()
    return f"{machine['cpu']} ({' '.join(machine['features'])}), ONNX Runtime {RUNTIME}, {threads} thread(s)"


def _read(path: Path | None) -> dict[str, dict[str, float]]:
    """The sections of the file; none where there is no file, or one that is not such a table."""
    if path is None or not path.exists():
        return {}
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        if whole["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        sections: dict[str, dict[str, float]] = dict(whole["ms"])
        for section in sections.values():
            if not all(type(ms) is float and isfinite(ms) and ms >= 0 for ms in section.values()):
                raise ValueError("an entry is not a time")
            if not section.keys() >= CONSTANTS or not section["pace"]:
                raise ValueError("an entry is missing")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        LOG.warning("latency table %s cannot be used (%s): it is measured anew", path, error)
        return {}
    return sections


def _exported(plan: Plan, inputs: Mapping[str, Input]) -> bytes:
    """The content of the file that `export` writes of a model of the plan."""
    from exporters.graph import to_bytes
    from exporters.to_onnx import build

    return to_bytes(build(align(random_model(plan, inputs), ALIGN)))


def _optimised(plans: Sequence[Plan]) -> list[bytes]:
    """What ONNX Runtime runs of each file."""
    from exporters.fold import optimised

    return [optimised(_exported(plan, {})).SerializeToString() for plan in plans]


def _owner(names: Sequence[str], plan: Plan) -> str:
    """The layer or input that an operation of the optimised graph belongs to, by its outputs, itself and what it reads."""
    for name in names:
        fits = [tensor for tensor in plan.shapes if f"{name}_".startswith(f"{tensor}_")]
        if fits:
            return max(fits, key=len)
    return ""


def random_model(plan: Plan, inputs: Mapping[str, Input]) -> Model:
    """Float weights at random: of a network's values none matters for its latency."""
    rng = np.random.default_rng(0)

    def values(shape: Sequence[int]) -> np.ndarray:
        return rng.random(shape, np.float32) - np.float32(0.5)

    channels = {layer.name: plan.shapes[layer.name][:1] for layer in plan.layers}
    weights = {layer.name: Float(values(plan.weight_shape(layer))) for layer in plan.weighted()}
    scale, bias = ({layer.name: values(channels[layer.name]) for layer in plan.scaled()} for _ in range(2))
    slope = {layer.name: values(channels[layer.name]) for layer in plan.layers if isinstance(layer.op, PRelu)}
    sensors = {
        name: inputs.get(name) or Input("uint8", (99.0,) * shape[0], (1 / 64,) * shape[0])
        for name, shape in plan.inputs.items()
    }
    return Model(plan, weights, scale, bias, sensors, {}, slope=slope)


# held out


@dataclass(frozen=True)
class HeldOut:
    """A network that the table was not made from. `speed`: of the CPU then, 1 when the table was made."""

    kind: str
    seed: int
    plan: Plan
    predicted_ms: float
    measured_ms: float
    speed: float

    @property
    def error(self) -> float:
        """Of the prediction, as a fraction of what was measured."""
        return self.predicted_ms / self.measured_ms - 1

    @property
    def error_at_speed(self) -> float:
        """The same, had the CPU been as fast as when the table was made."""
        return self.predicted_ms / (self.measured_ms * self.speed) - 1


def held_out(table: Table, seeds: Sequence[int], *, runs: int = 500) -> list[HeldOut]:
    """Random networks, predicted first, then exported and measured in turns as `bench` does."""
    from exporters import to_onnx

    plans = [random_plan(seed) for seed in seeds]
    table.fill(plans)
    predicted = [table.predict(plan) for plan in plans]
    asked: dict[str, Any] = {"threads": table.threads, "runs": runs, "warmup": 20, "period_ms": None, "paced_runs": 1}
    asked |= {"seed": 0, "timeout_s": 600, "memory_mb": MEMORY_MB}
    with tempfile.TemporaryDirectory(prefix="edgeticket-") as folder:
        files = [Path(folder) / f"{i}.onnx" for i in range(len(plans) + 1)]
        for file, plan in zip(files, [*plans, PACE], strict=True):
            to_onnx.export(align(random_model(plan, table.inputs), ALIGN), file)
        reports = on_cpu.measure([Artifact(file, "onnx") for file in files], **asked)
    *measured, pace = [float(report.cost.latency_ms or 0) for report in reports]
    speed = table.entries["pace"] / pace
    rows = zip(seeds, plans, predicted, measured, strict=True)
    return [HeldOut(kind_of(seed), seed, plan, before, after, speed) for seed, plan, before, after in rows]


KINDS = ("plain", "residual", "depthwise", "series")


def kind_of(seed: int) -> str:
    return KINDS[seed % len(KINDS)]


def random_plan(seed: int) -> Plan:
    """Widths are multiples of 8 up to 64, images 8 to 32 on a side, series 256 to 2048 samples long."""
    rng, kind = np.random.default_rng(seed), kind_of(seed)
    widths, axes = (8 * rng.integers(1, 9, rng.integers(3, 7))).tolist(), int(rng.integers(1, 4))
    if kind == "series":
        return wave.plan(*widths[:4], input=(axes, int(2 ** rng.integers(8, 12))), classes=4)
    shape = (axes, *[int(4 * rng.integers(2, 9))] * 2)
    if kind == "residual":
        return resnet8.plan(*sorted(widths[:3]), input=shape, classes=10)
    ops: list[Op] = [conv(widths[0], stride=int(rng.integers(1, 3)))]
    for before, width in pairwise(widths):
        stride = int(rng.choice([1, 1, 2]))
        if kind == "depthwise":
            ops += [conv(before, stride=stride, groups=before), conv(width, 1)]
        else:
            ops.append(conv(width, int(rng.choice([1, 3, 3, 5])), stride=stride))
    ops += [GlobalAveragePool(), Linear(10)]
    return chain(shape, ops)
