"""What a network is for: its error per example, the figures that tell how good it is, and who wins on the same examples.

classification   the largest output is the class: accuracy
regression       outputs are the targets in their own units: root mean squared error (RMSE) and R2 of each
anomaly          outputs are the input again, as the network reads it; the mean squared error of an example is its score:
                 area under the ROC curve (AUC), and an alarm at the score that FALSE_ALARMS of the normal examples of the select
                 part exceed
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import erfc, sqrt
from typing import Any, Protocol

import numpy as np

from edgeticket.data import Data
from edgeticket.theory import interval, paired_p_value

FALSE_ALARMS = 0.01
NORMAL = 1.959963984540054  # 97.5 % quantile


@dataclass(frozen=True)
class Scored:
    """One network on one part: what `Task.score` gives for each example, and the labels."""

    values: np.ndarray
    labels: np.ndarray


class Task(Protocol):
    word: str  # of the figures
    headline_word: str
    lower_is_better: bool  # of the headline
    thresholds: bool  # whether answers depend on a threshold from the select part
    spread_by_headline: bool  # whether `deviation` follows from the headline's value and the number of examples alone

    def outputs(self, data: Data) -> int:
        """How many values a network must give."""

    def score(self, outputs: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Per example, from outputs [n, ...], network inputs [n, ...] and labels."""

    def headline(self, part: Scored) -> float:
        """One figure, for choosing."""

    def deviation(self, part: Scored, value: float) -> float:
        """Of one example, at a headline of `value`: over the square root of their number it is the headline's standard error."""

    def figures(self, certify: Scored, select: Scored | None) -> dict[str, Any]:
        """With 95 % intervals, ready for JSON. `select` may be None where `thresholds` is False."""

    def text(self, figures: Mapping[str, Any]) -> str:
        """The figures on one line."""

    def answers(self, scored: Scored, select: Scored | None) -> np.ndarray | None:
        """What a machine does, per example, where it is a decision."""

    def compare(self, a: Scored, b: Scored) -> tuple[float, bool]:
        """Two-sided p-value of the difference on the same examples, and whether `a` is the better one."""


def of(data: Data) -> Task:
    """The task of the data."""
    if data.task == "anomaly":
        return Anomaly()
    return Regression(data.classes, data.target_step) if data.task == "regression" else Classification()


class Classification:
    word, headline_word, lower_is_better, thresholds = "accuracy", "accuracy", False, False
    spread_by_headline = True

    def outputs(self, data: Data) -> int:
        return len(data.classes)

    def score(self, outputs: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The class."""
        return outputs.argmax(1)

    def headline(self, part: Scored) -> float:
        return float((part.values == part.labels).mean())

    def deviation(self, part: Scored, value: float) -> float:
        """Of a Bernoulli trial; no accuracy is closer to 1 or 0 than the part can show (Laplace's rule of succession)."""
        n = len(part.labels)
        p = min(max(value, 1 / (n + 2)), (n + 1) / (n + 2))
        return sqrt(p * (1 - p))

    def figures(self, certify: Scored, select: Scored | None) -> dict[str, Any]:
        k, n = int((certify.values == certify.labels).sum()), len(certify.labels)
        low, high = interval(k, n)
        return {"accuracy": k / n, "correct": k, "of": n, "low": low, "high": high}

    def text(self, figures: Mapping[str, Any]) -> str:
        f = figures
        percent = f"{100 * f['accuracy']:6.2f} % [{100 * f['low']:.2f}, {100 * f['high']:.2f}]"
        return f"{percent}  {f['correct']:,} of {f['of']:,}"

    def answers(self, scored: Scored, select: Scored | None) -> np.ndarray | None:
        return scored.values

    def compare(self, a: Scored, b: Scored) -> tuple[float, bool]:
        """Exact McNemar test."""
        right, other = a.values == a.labels, b.values == b.labels
        only_a, only_b = int((right & ~other).sum()), int((other & ~right).sum())
        return paired_p_value(only_a, only_b), only_a > only_b


@dataclass(frozen=True)
class Regression:
    names: tuple[str, ...]
    step: tuple[float, ...]  # 1 / standard deviation of each target over train

    word, headline_word, lower_is_better, thresholds = "RMSE", "relative RMSE", True, False
    spread_by_headline = False

    def outputs(self, data: Data) -> int:
        return len(self.names)

    def score(self, outputs: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Squared error [n, targets]."""
        return (outputs.astype(np.float64).reshape(len(y), -1) - y.reshape(len(y), -1)) ** 2

    def headline(self, part: Scored) -> float:
        """In standard deviations of the targets, over all of them."""
        return float(np.sqrt(self._relative(part).mean()))

    def deviation(self, part: Scored, value: float) -> float:
        """That of the squared error, by the delta method, whatever the value."""
        squared = self._relative(part)
        return float(squared.std(ddof=1) / (2 * np.sqrt(squared.mean())))

    def figures(self, certify: Scored, select: Scored | None) -> dict[str, Any]:
        """Of each target, in its unit. The interval is that of the mean squared error by the central limit theorem."""
        errors, labels = certify.values, certify.labels.astype(np.float64).reshape(len(certify.labels), -1)
        spread = labels.var(0)
        mean, half = errors.mean(0), NORMAL * errors.std(0, ddof=1) / sqrt(len(errors))
        return {
            "targets": list(self.names),
            "rmse": np.sqrt(mean).tolist(),
            "low": np.sqrt(np.maximum(mean - half, 0)).tolist(),
            "high": np.sqrt(mean + half).tolist(),
            # Of a target that never changes: 1 where it is hit exactly, else 0, as scikit-learn's r2_score.
            "r2": np.where(spread > 0, 1 - mean / np.where(spread > 0, spread, 1), mean == 0).tolist(),
            "of": len(errors),
        }

    def text(self, figures: Mapping[str, Any]) -> str:
        columns = (figures[key] for key in ("targets", "rmse", "low", "high", "r2"))
        rows = (
            f"{name} {rmse:.4g} [{low:.4g}, {high:.4g}] R2 {r2:.4f}"
            for name, rmse, low, high, r2 in zip(*columns, strict=True)
        )
        return f"RMSE {', '.join(rows)}  of {figures['of']:,}"

    def answers(self, scored: Scored, select: Scored | None) -> np.ndarray | None:
        return None

    def compare(self, a: Scored, b: Scored) -> tuple[float, bool]:
        """Exact sign test: on how many examples each has the smaller error."""
        one, other = self._relative(a), self._relative(b)
        return paired_p_value(int((one < other).sum()), int((other < one).sum())), self.headline(a) < self.headline(b)

    def _relative(self, part: Scored) -> np.ndarray:
        return (part.values * np.array(self.step) ** 2).mean(1)


class Anomaly:
    word, headline_word, lower_is_better, thresholds = "AUC", "AUC", False, True
    spread_by_headline = False

    def outputs(self, data: Data) -> int:
        return int(np.prod(data.train[0].shape[1:]))

    def score(self, outputs: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Mean squared error of the reconstruction."""
        return ((outputs.astype(np.float64).reshape(len(x), -1) - x.reshape(len(x), -1)) ** 2).mean(1)

    def headline(self, part: Scored) -> float:
        return float(_placements(part)[0].mean())

    def deviation(self, part: Scored, value: float) -> float:
        """DeLong's, whatever the value; where all pairs agree that of the rarer label as so many trials."""
        variance, n = _variance(*_placements(part)), len(part.labels)
        if not variance:
            rare = min(int((part.labels == label).sum()) for label in (0, 1))
            variance = (rare + 1) / (rare + 2) ** 2 / rare
        return sqrt(variance * n)

    def figures(self, certify: Scored, select: Scored | None) -> dict[str, Any]:
        """The AUC's interval is DeLong's, those of the two rates at the operating point are Clopper-Pearson's."""
        auc, (low, high), threshold = self.headline(certify), _auc_interval(certify), _threshold(select)
        alarm = certify.values > threshold
        found: dict[str, Any] = {"auc": auc, "low": low, "high": high, "threshold": threshold}
        for name, group in (("false_alarms", certify.labels == 0), ("detected", certify.labels == 1)):
            k, n = int(alarm[group].sum()), int(group.sum())
            low, high = interval(k, n)
            found[name] = {"rate": k / n, "count": k, "of": n, "low": low, "high": high}
        return found

    def text(self, figures: Mapping[str, Any]) -> str:
        rates = (
            f"{word} {100 * f['rate']:.2f} % [{100 * f['low']:.2f}, {100 * f['high']:.2f}] of {f['of']:,}"
            for word, f in (("detects", figures["detected"]), ("false alarms", figures["false_alarms"]))
        )
        auc = f"AUC {figures['auc']:.4f} [{figures['low']:.4f}, {figures['high']:.4f}]"
        return f"{auc}  at score {figures['threshold']:.4g}: {', '.join(rates)}"

    def answers(self, scored: Scored, select: Scored | None) -> np.ndarray | None:
        return scored.values > _threshold(select)

    def compare(self, a: Scored, b: Scored) -> tuple[float, bool]:
        """DeLong's test of two correlated AUCs (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988)."""
        (own_a, others_a), (own_b, others_b) = _placements(a), _placements(b)
        difference = float(own_a.mean() - own_b.mean())
        deviation = sqrt(_variance(own_a - own_b, others_a - others_b))
        p = erfc(abs(difference) / deviation / sqrt(2)) if deviation else float(difference == 0)
        return p, difference > 0


def _placements(part: Scored) -> tuple[np.ndarray, np.ndarray]:
    """For each anomaly the share of normal scores below its own, for each normal example that of anomalies above; ties half."""
    normal, odd = (part.values[part.labels == label] for label in (0, 1))
    own = sum(np.searchsorted(np.sort(normal), odd, side) for side in ("left", "right")) / 2 / len(normal)
    return own, 1 - sum(np.searchsorted(np.sort(odd), normal, side) for side in ("left", "right")) / 2 / len(odd)


def _auc_interval(part: Scored) -> tuple[float, float]:
    """DeLong's 95 % interval. Where all pairs agree it has no width: then that of the rarer label as so many trials."""
    own, others = _placements(part)
    auc, variance = float(own.mean()), _variance(own, others)
    if variance > 0:
        half = NORMAL * sqrt(variance)
        return max(0.0, auc - half), min(1.0, auc + half)
    count = min(len(own), len(others))
    return interval(round(auc * count), count) if auc in (0, 1) else (0.0, 1.0)


def _variance(own: np.ndarray, others: np.ndarray) -> float:
    return float(own.var(ddof=1) / len(own) + others.var(ddof=1) / len(others))


def _threshold(select: Scored | None) -> float:
    """The score that at most FALSE_ALARMS of the normal examples exceed."""
    assert select is not None
    return float(np.quantile(select.values[select.labels == 0], 1 - FALSE_ALARMS, method="higher"))
