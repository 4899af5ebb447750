"""What a search gives: a ticket, and what it and its controls reached on the certify set."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeticket.budget import Verdict, amount
from edgeticket.describe import describe
from edgeticket.errors import BudgetError
from edgeticket.model import Model
from edgeticket.tasks import Scored, Task
from edgeticket.ticket import Ticket


@dataclass(frozen=True)
class Result:
    """One trained network on two parts. `seconds` is CPU time, all threads and resumed processes together.

    `profile`: shares of its steps' time by what they went to, as search/_training.py counts them.
    """

    name: str
    task: Task
    certify: Scored
    select: Scored  # what choices may be made on
    purity: str
    widths: dict[str, int]
    seconds: float
    profile: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **self.task.figures(self.certify, self.select),
            f"select_{self.task.headline_word.lower().replace(' ', '_')}": self.task.headline(self.select),
            "purity": self.purity,
            "widths": self.widths,
            "cpu_seconds": self.seconds,
            "profile": dict(self.profile),
        }


@dataclass(frozen=True)
class Trial:
    """A short search at the widths that fill the budget. `score`: the task's headline on the select part."""

    edges: int
    density: float
    share: float
    widths: dict[str, int]
    score: float
    seconds: float


@dataclass(frozen=True)
class Found:
    """A ticket, what it and its controls reached, and how far the masked torch network is from the numpy reference."""

    ticket: Ticket
    results: tuple[Result, ...]
    difference: float
    controls: Mapping[str, Ticket | Model]
    verdicts: tuple[Verdict, ...] = ()  # of every term of the budget: what was measured of the ticket
    expected: tuple[Verdict, ...] = ()  # the same as it was estimated for the search
    trials: tuple[Trial, ...] = ()  # how density and edges were chosen

    def to_json(self) -> dict[str, Any]:
        told = describe(self.ticket)
        return {
            "data": self.ticket.provenance["data"],
            "task": self.ticket.task,
            "inputs": told["inputs"],
            "learned": {key: told["total"][f"learned_share_of_{key}"] for key in ("weights", "bytes")},
            "results": [result.to_json() for result in self.results],
            "verdict": self.verdict(),
            "torch_against_numpy": self.difference,
            "digest": self.ticket.digest,
            "budget": [
                asdict(verdict) | {"met": verdict.met, "expected": guess.value}
                for verdict, guess in zip(self.verdicts, self.expected, strict=True)
            ],
            "trials": [asdict(trial) for trial in self.trials],
        }

    def text(self) -> str:
        """A line a network: the task's figures on the certify set with their 95 % intervals, purity, widths, cost."""
        task = self.results[0].task
        lines = [
            f"{task.word} on the certify part of {self.ticket.provenance['data']}, with 95 % intervals; the network reads "
            + ", ".join("x".join(map(str, shape)) for shape in self.ticket.plan.inputs.values())
        ]
        for row in (result.to_json() for result in self.results):
            shape = "-".join(map(str, row["widths"].values()))
            lines.append(
                f"{row['name']:8} {task.text(row)}  {row['purity']:16} {shape}  {row['cpu_seconds']:.1f} s CPU"
            )
        for trial in self.trials:
            lines.append(
                f"tried {trial.edges} edges, density {trial.density:.3g}, {'-'.join(map(str, trial.widths.values()))}: "
                f"{trial.score:.4f} on the select part after {trial.share:.0%} of the steps, {trial.seconds:.1f} s CPU"
            )
        for told, guess in zip(self.verdicts, self.expected, strict=True):
            before = f"; expected {amount(told.term.resource, guess.value, 4)}" if guess.value is not None else ""
            lines.append(f"budget {told.text()}{before}")
        verdict = self.verdict()
        if verdict:
            lines.append(f"channel search against the narrow control: {verdict}")
        total, learned = describe(self.ticket)["total"], ", ".join(self.ticket.learned) or self._unlearned()
        lines.append(
            f"learned int8 layers: {learned} ({total['learned_share_of_weights']:.2%} of weights, "
            f"{total['learned_share_of_bytes']:.2%} of bytes); all others are signs of seed {self.ticket.seed} under a mask"
        )
        lines.append(
            f"masked torch network = numpy reference of the compacted one to {self.difference:.1e} of the largest output"
        )
        return "\n".join(lines)

    def require_budget(self) -> None:
        """Raise BudgetError unless every term was measured and is met."""
        missed = [verdict.text() for verdict in self.verdicts if not verdict.met]
        if missed:
            raise BudgetError(
                f"the budget is not met, or not shown to be met: {'; '.join(missed)}; the ticket is what came nearest"
            )

    def _unlearned(self) -> str:
        asked = self.ticket.provenance["settings"]["learn"]
        return (
            "none" if asked == "none" else f"none, as {asked.replace(',', ' and ')} hold more than 5 % of the weights"
        )

    def verdict(self) -> str | None:
        """Who won, ticket or narrow control, by the task's paired test at 5 %; None without a control."""
        ticket, control = (next((r for r in self.results if r.name == name), None) for name in ("ticket", "control"))
        if ticket is None or control is None:
            return None
        p, better = ticket.task.compare(ticket.certify, control.certify)
        if not p <= 0.05:
            told = f"tie: the channel search is not distinguishable from the narrow control (p = {p:.2g})"
            return told + _widths(ticket.widths, control.widths)
        who = "channel search" if better else "narrow control, so the channel search was not worth its cost"
        return f"won by the {who} (p = {p:.2g}){_widths(ticket.widths, control.widths)}"


def _widths(ticket: Mapping[str, int], control: Mapping[str, int]) -> str:
    """A warning where channels that nothing reads left one of the two and not the other."""
    off = [f"{name} {ticket[name]} against {control[name]}" for name in ticket if ticket[name] != control[name]]
    return f"; widths differ, as channels that nothing reads leave: {', '.join(off)}" if off else ""
