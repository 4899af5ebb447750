"""What counts as a success, said before the first search, and whether the data can tell it from a failure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import mean
from typing import Any

from edgeticket.data import Data
from edgeticket.errors import InsufficientDataError, UsageError
from edgeticket.tasks import Scored, Task

NORMAL = 1.6448536269514722  # 95 % quantile, one-sided
WORDS = {"classification": "accuracy", "anomaly": "auc", "regression": "rmse"}
SHARES = ("accuracy", "auc")  # from 0 to 1
LARGEST = 1e6
NONE = 1e-9  # of a margin
_FORM = re.compile(r"\s*(\w+)\s*(>=|<=)\s*(?:(float)\s*(?:([-+*])\s*([\d.eE-]+))?|([\d.eE-]+))\s*")


@dataclass(frozen=True)
class Criterion:
    """`value`: what a network must reach, from the mean of the float networks, or a figure of its own."""

    text: str
    at_least: bool
    relative: bool
    operation: str
    number: float

    @staticmethod
    def parse(text: str, task: str, lower_is_better: bool) -> "Criterion":
        """Of "accuracy >= float - 0.01", "auc >= 0.98" or "rmse <= float * 1.05". Raises UsageError."""
        word, example = WORDS[task], default_criterion(task)
        match = _FORM.fullmatch(text)
        if not match or match[1].lower() != word:
            raise UsageError(f"--success {text!r}: these data are a {task} task: write for example {example!r}")
        if (match[2] == ">=") == lower_is_better:
            raise UsageError(
                f"--success {text!r}: {word} is better when it is {'lower' if lower_is_better else 'higher'}"
            )
        try:
            number = float(match[5] or match[6] or 0)
        except ValueError:
            raise UsageError(f"--success {text!r}: a number is not readable: write for example {example!r}") from None
        if not 0 <= number <= (1 if word in SHARES and match[4] != "*" else LARGEST):
            raise UsageError(f"--success {text!r}: {number:g} is out of range: write for example {example!r}")
        return Criterion(text, match[2] == ">=", bool(match[3]), match[4] or "+", number)

    def value(self, reference: float) -> float:
        """What must be reached where float networks reach `reference`."""
        if not self.relative:
            return self.number
        return {"+": reference + self.number, "-": reference - self.number, "*": reference * self.number}[
            self.operation
        ]

    def met(self, reached: float, value: float) -> bool:
        return reached >= value if self.at_least else reached <= value


def bar(criterion: Criterion, task: Task, floats: Sequence[Mapping[str, Any]], data: Data) -> dict[str, Any]:
    """The bar of a record, from the rows of the float networks. Raises UsageError for one that no network can reach.

    A seed is judged on the certify part of m examples; a bar that refers to float networks comes from the select part of n.
    One and the same network differs between the two by deviation * sqrt(1/n + 1/m), a standard error, where `deviation` is that of
    one example; from a figure of its own by deviation * sqrt(1/m). `margin`: how much worse than float a seed may be.
    `smallest_margin`: what a one-sided 95 % test tells apart; `needed`: examples in each of these parts that the margin takes.
    """
    reference, judged = mean(row["select"] for row in floats), data.certify[1]
    value, lower = criterion.value(reference), task.lower_is_better
    if not 0 <= value <= (LARGEST if lower else 1):
        raise UsageError(
            f"--success {criterion.text!r}: float networks reach {reference:.4f}, so it asks for {value:.4f}"
        )
    deviation = mean(row["deviation"] for row in floats)
    if task.spread_by_headline:
        deviation = task.deviation(Scored(judged, judged), value)
    parts = [len(judged), *([len(data.select[1])] if criterion.relative else [])]
    margin = value - reference if lower else reference - value
    return {
        "headline": task.headline_word,
        "lower_is_better": lower,
        "float": reference,
        "value": value,
        "margin": margin,
        "deviation": deviation,
        "smallest_margin": NORMAL * deviation * sqrt(sum(1 / n for n in parts)),
        "needed": ceil(len(parts) * (NORMAL * deviation / margin) ** 2) if abs(margin) > NONE else None,
    }


def require_enough(found: Mapping[str, Any], criterion: Criterion, data: Data) -> None:
    """Raise InsufficientDataError where the margin is smaller than what chance does between two parts of the data."""
    if abs(found["margin"]) >= found["smallest_margin"]:
        return
    needed = f"n = {found['needed']:,} examples in each" if found["needed"] else "a margin above 0"
    raise InsufficientDataError(
        f"insufficient data: float networks reach {found['float']:.4f} ({found['headline']}), and {criterion.text!r} asks for "
        f"{found['value']:.4f}; with {len(data.select[1]):,} select and {len(data.certify[1]):,} certify examples chance alone "
        f"makes a difference of {found['smallest_margin']:.4f} (one-sided 95 %): need {needed}, or ask for no less than that margin"
    )


def default_criterion(task: str) -> str:
    """Where the user says none: a point of a hundred below (or above) the float networks."""
    return {
        "classification": "accuracy >= float - 0.01",
        "anomaly": "auc >= float - 0.01",
        "regression": "rmse <= float + 0.01",
    }[task]
