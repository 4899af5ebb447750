"""What counts as a success, said before the first search, and whether the data can tell it from a failure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

from edgeticket.errors import InsufficientDataError, UsageError
from edgeticket.tasks import Task

NORMAL = 1.6448536269514722  # 95 % quantile, one-sided
WORDS = {"classification": "accuracy", "anomaly": "auc", "regression": "rmse"}
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


def bar(
    criterion: Criterion, task: Task, reference: float, deviation: float, sizes: Mapping[str, int]
) -> dict[str, Any]:
    """The bar of a record. `reference`: mean headline of the float networks on the select part.

    A seed is judged on the certify part, and the bar comes from the select part. Two parts of n and m examples give headlines
    of one and the same network that differ by deviation * sqrt(1/n + 1/m), a standard error; `deviation` is that of one example.
    `smallest_margin`: what a one-sided 95 % test tells apart; `needed`: examples in each part that the asked margin takes.
    """
    value = criterion.value(reference)
    margin, noise = abs(reference - value), sqrt(1 / sizes["select"] + 1 / sizes["certify"])
    return {
        "headline": task.headline_word,
        "lower_is_better": task.lower_is_better,
        "float": reference,
        "value": value,
        "margin": margin,
        "deviation": deviation,
        "smallest_margin": NORMAL * deviation * noise,
        "needed": ceil(2 * (NORMAL * deviation / margin) ** 2) if margin > 0 else None,
    }


def require_enough(found: Mapping[str, Any], criterion: Criterion, sizes: Mapping[str, int]) -> None:
    """Raise InsufficientDataError where the margin is smaller than what chance does between two parts of the data."""
    if found["margin"] >= found["smallest_margin"]:
        return
    needed = f"n = {found['needed']:,} examples in each" if found["needed"] else "a margin above 0"
    raise InsufficientDataError(
        f"insufficient data: float networks reach {found['float']:.4f} ({found['headline']}), and {criterion.text!r} asks for "
        f"{found['value']:.4f}; with {sizes['select']:,} select and {sizes['certify']:,} certify examples chance alone makes a "
        f"difference of {found['smallest_margin']:.4f} (one-sided 95 %): need {needed}, or ask for no less than that margin"
    )


def default_criterion(task: str) -> str:
    """Where the user says none: a point of a hundred below (or above) the float networks."""
    return {
        "classification": "accuracy >= float - 0.01",
        "anomaly": "auc >= float - 0.01",
        "regression": "rmse <= float + 0.01",
    }[task]
