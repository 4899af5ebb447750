"""What is agreed before a roll-out starts: stages, gates and errors."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from edgeticket.errors import UsageError
from edgeticket.sequential import RateTest

UNITS = ("inference", "report", "device")
DIGEST = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}")


@dataclass(frozen=True)
class Stage:
    """`percent` of the devices run the model: aside, with the current one deciding, where `shadow`."""

    percent: float
    shadow: bool = False

    @property
    def name(self) -> str:
        return f"shadow:{self.percent:g}" if self.shadow else f"{self.percent:g}"


@dataclass(frozen=True)
class Gate:
    """The rate of `good` that is agreed, the rate of `bad` that must not pass, and what counts as one observation."""

    good: float
    bad: float
    unit: str = "report"
    shadow_only: bool = False


# What of a report fails, and of what: edgeticket/rollout/reports.py.
GATES = {
    "disagreement": Gate(0.005, 0.02),
    "self_test": Gate(0.001, 0.02),
    "guard": Gate(0.01, 0.03),
    "latency": Gate(0.001, 0.01),
}
STAGES = "shadow:5,1,5,25,100"


@dataclass(frozen=True)
class Plan:
    """alpha: of a model that is bad at a gate to get past a stage. beta: of one that is good at all gates to ever be stopped.

    quorum: the share of a stage's devices that must have reported before it is over. Raises UsageError where it contradicts itself.
    """

    stages: tuple[Stage, ...]
    gates: dict[str, Gate]
    alpha: float = 0.01
    beta: float = 0.05
    quorum: float = 0.9

    def __post_init__(self) -> None:
        _check_stages(self.stages)
        if not self.gates:
            raise UsageError("no gate is left: a roll-out needs at least one")
        if not 0 < self.quorum <= 1:
            raise UsageError(f"quorum is {self.quorum:g}: it is a share of a stage's devices, above 0 and at most 1")
        for index, stage in enumerate(self.stages):
            if not self.tests(index):
                raise UsageError(
                    f"stage {stage.name} has no gate: nothing would hold it: keep one that is not for shadow alone"
                )

    def tests(self, stage: int) -> dict[str, RateTest]:
        """Of a stage, by gate. The probability beta is shared evenly by all tests of all stages."""
        each = self.beta / sum(len(self._active(i)) for i in range(len(self.stages)))
        return {name: RateTest(gate.good, gate.bad, self.alpha, each) for name, gate in self._active(stage).items()}

    def _active(self, stage: int) -> dict[str, Gate]:
        return {name: gate for name, gate in self.gates.items() if self.stages[stage].shadow or not gate.shadow_only}

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        raw: dict[str, Any] = json.loads(text)
        raw["stages"] = tuple(Stage(**stage) for stage in raw["stages"])
        raw["gates"] = {name: Gate(**gate) for name, gate in raw["gates"].items()}
        return cls(**raw)


def _check_stages(stages: tuple[Stage, ...]) -> None:
    active = [stage.percent for stage in stages if not stage.shadow]
    if any(not 0 < stage.percent <= 100 for stage in stages):
        raise UsageError("a stage is a percentage of the devices, above 0 and at most 100")
    if any(stage.shadow for stage in stages[1:]):
        raise UsageError("only the first stage can be shadow")
    if not active or active[-1] != 100 or sorted(set(active)) != active:
        raise UsageError(f"stages {', '.join(stage.name for stage in stages)}: they must grow, and the last is 100")


def stages(text: str) -> tuple[Stage, ...]:
    """`shadow:5,1,5,25,100`: percentages of the devices; `shadow` alone is all of them. Raises UsageError."""
    return tuple(map(_stage, text.split(",")))


def _stage(word: str) -> Stage:
    kind, _, percent = word.strip().rpartition(":")
    if percent == "shadow":
        return Stage(100, shadow=True)
    if kind not in ("", "shadow"):
        raise UsageError(f"stage {word.strip()!r}: write a percentage, or shadow:PERCENT")
    return Stage(_number(percent.removesuffix("%"), f"stage {word.strip()!r}"), shadow=kind == "shadow")


def gates(words: Iterable[str]) -> dict[str, Gate]:
    """GATES, changed by words such as `latency=off`, `guard=1%:3%`, `self_test=0.001:0.02,unit=device`. Raises UsageError."""
    found = dict(GATES)
    for word in words:
        name, _, text = word.partition("=")
        if name not in GATES:
            raise UsageError(f"gate {name!r}: there are {', '.join(GATES)}")
        if text == "off":
            found.pop(name, None)
        else:
            found[name] = _gate(word, GATES[name], text)
    return found


def _gate(word: str, default: Gate, text: str) -> Gate:
    rates, *options = text.split(",")
    good, colon, bad = rates.partition(":")
    chosen = dict(option.partition("=")[::2] for option in options)
    unit, where = chosen.pop("unit", default.unit), chosen.pop("stages", "all")
    if not colon or chosen or unit not in UNITS or where not in ("all", "shadow"):
        raise UsageError(
            f"gate {word!r}: write NAME=GOOD:BAD[,unit={'|'.join(UNITS)}][,stages=all|shadow], for example guard=1%:3%, or NAME=off"
        )
    gate = Gate(_rate(good, f"gate {word!r}"), _rate(bad, f"gate {word!r}"), unit, where == "shadow")
    RateTest(gate.good, gate.bad, 0.5, 0.5)  # refuses rates that are none
    return gate


def rates(plan: Plan, words: Iterable[str]) -> dict[str, float]:
    """The good rate of every gate, changed by words such as `guard=2%`. Raises UsageError."""
    found = {name: gate.good for name, gate in plan.gates.items()}
    for word in words:
        name, _, text = word.partition("=")
        if name not in found:
            raise UsageError(f"rate {word!r}: the gates are {', '.join(found)}")
        found[name] = _rate(text, f"rate {word!r}")
    return found


def _rate(text: str, where: str) -> float:
    return _number(text.removesuffix("%"), where) / (100 if text.endswith("%") else 1)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{where}: {text!r} is not a number") from None
