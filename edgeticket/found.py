"""What a search gives: a ticket, and what it and its controls reached on the certify set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeticket.model import Model
from edgeticket.theory import interval, paired_p_value
from edgeticket.ticket import Ticket


@dataclass(frozen=True)
class Result:
    """One trained network on the certify set. `seconds` is CPU time, all threads and resumed processes together."""

    name: str
    correct: np.ndarray  # bool per certify example
    select: float  # accuracy on the select part: what choices may be made on
    purity: str
    widths: dict[str, int]
    seconds: float

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    def to_json(self) -> dict[str, Any]:
        k, n = int(self.correct.sum()), len(self.correct)
        low, high = interval(k, n)
        return {
            "name": self.name,
            "accuracy": k / n,
            "correct": k,
            "of": n,
            "low": low,
            "high": high,
            "select_accuracy": self.select,
            "purity": self.purity,
            "widths": self.widths,
            "cpu_seconds": self.seconds,
        }


@dataclass(frozen=True)
class Found:
    """A ticket, what it and its controls reached, and how far the masked torch network is from the numpy reference."""

    ticket: Ticket
    results: tuple[Result, ...]
    difference: float
    controls: Mapping[str, Ticket | Model]

    def to_json(self) -> dict[str, Any]:
        return {
            "results": [result.to_json() for result in self.results],
            "verdict": self.verdict(),
            "torch_against_numpy": self.difference,
            "digest": self.ticket.digest,
        }

    def text(self) -> str:
        """A line a network: accuracy on the certify set with its 95 % Clopper-Pearson interval, purity, widths, cost."""
        lines = [
            f"accuracy on the certify part of {self.ticket.provenance['data']}, with its 95 % Clopper-Pearson interval"
        ]
        for row in (result.to_json() for result in self.results):
            accuracy = f"{100 * row['accuracy']:6.2f} % [{100 * row['low']:.2f}, {100 * row['high']:.2f}]"
            shape = "-".join(map(str, row["widths"].values()))
            count = f"{row['correct']:,} of {row['of']:,}"
            lines.append(
                f"{row['name']:8} {accuracy}  {count:16} {row['purity']:16} {shape}  {row['cpu_seconds']:.1f} s CPU"
            )
        verdict = self.verdict()
        if verdict:
            lines.append(f"channel search against the narrow control: {verdict}")
        learned = ", ".join(self.ticket.learned) or "none"
        lines.append(f"learned int8 layers: {learned}; all others are signs of seed {self.ticket.seed} under a mask")
        lines.append(
            f"masked torch network = numpy reference of the compacted one to {self.difference:.1e} of the largest output"
        )
        return "\n".join(lines)

    def verdict(self) -> str | None:
        """Who won, ticket or narrow control, by the paired exact McNemar test at 5 %; None without a control."""
        ticket, control = (next((r for r in self.results if r.name == name), None) for name in ("ticket", "control"))
        if ticket is None or control is None:
            return None
        a, b = (int((x.correct & ~y.correct).sum()) for x, y in ((ticket, control), (control, ticket)))
        p = paired_p_value(a, b)
        if p > 0.05:
            return f"tie: the channel search is not distinguishable from the narrow control (p = {p:.2g})"
        who = "channel search" if a > b else "narrow control, so the channel search was not worth its cost"
        return f"won by the {who} (p = {p:.2g})"
