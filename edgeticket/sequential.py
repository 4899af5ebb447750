"""A test of a rate that may be looked at after every observation: Wald's SPRT, kept as two e-processes.

An observation is a share x in [0, 1]: 0 or 1 for one trial, or the share of failures in a cluster of trials that may depend on
one another in any way. Two products run along, started at 1:

    against good:  1 + (bad - good) / (good (1 - good)) * (x - good)
    against bad:   1 + (bad - good) / (bad (1 - bad)) * (bad - x)

For x of 0 or 1 the first is the likelihood ratio of `bad` to `good` and the second its inverse (Wald, Ann. Math. Stat. 16, 1945).
For any x in [0, 1] each stays a bet at fair odds (Waudby-Smith and Ramdas, JRSS B 86, 2024, arXiv 2010.09686): while the mean
of x, given everything before, is at most `good`, the first is a nonnegative supermartingale, and by Ville's inequality it ever
reaches 1 / beta with probability at most beta. The same holds of the second, `bad` and alpha. So both errors hold exactly, for
every number of looks. Wald's own thresholds, (1 - beta) / alpha and its mirror, hold only approximately.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from edgeticket.errors import UsageError

COUNTED = 2**53  # units; counting ends there, weighing does not


@dataclass(frozen=True)
class RateTest:
    """`good` against `bad`: a rate of `bad` or more passes with probability at most `alpha`, one of `good` or less is stopped
    with probability at most `beta`. Raises UsageError where that is no test."""

    good: float
    bad: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not 0 < self.good < self.bad < 1:
            raise UsageError(
                f"rates {self.good:g} and {self.bad:g}: the good one is above 0, the bad one above it, below 1"
            )
        for name in ("alpha", "beta"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name):g}: it is a probability between 0 and 1")

    @property
    def pass_at(self) -> float:
        """Passes once the logarithm of the evidence against `bad` gets here."""
        return -math.log(self.alpha)

    @property
    def stop_at(self) -> float:
        """Is stopped once the logarithm of the evidence against `good` gets here."""
        return -math.log(self.beta)

    def of_shares(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shares [n] of failures, one a cluster -> what each adds to both logarithms, against good and against bad, [n] each."""
        gap = self.bad - self.good
        good = np.log1p(gap / (self.good * (1 - self.good)) * (shares - self.good))
        bad = np.log1p(gap / (self.bad * (1 - self.bad)) * (self.bad - shares))
        return good, bad

    def of_trials(self, failures: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As of_shares, where every single trial of `trials` [n] is independent of the others: Wald's SPRT itself."""
        failed, held = math.log(self.bad / self.good), math.log((1 - self.bad) / (1 - self.good))
        ratio = failures * failed + (trials - failures) * held
        return ratio, -ratio

    def least(self) -> int:
        """Observations without one failure after which it passes: fewer can't."""
        return math.ceil(self.pass_at / math.log((1 - self.good) / (1 - self.bad)) - 1e-9)

    def usual(self) -> tuple[int, int]:
        """Observations after which it passes at the rate `good`: if each is that share exactly, and, about and on average, if
        each is 0 or 1 (Wald's equation, without what the last step goes too far). Other shares are between."""
        none, all_, even = self.of_shares(np.array([0.0, 1.0, self.good]))[1]
        steps = even, (1 - self.good) * none + self.good * all_
        return math.ceil(self.pass_at / steps[0]), math.ceil(self.pass_at / steps[1])


@dataclass(frozen=True)
class Evidence:
    """Where a test stands: `passed` and `stopped` stay once they are reached, at whichever observation that was."""

    units: int = 0
    failures: float = 0.0
    against_good: float = 0.0
    against_bad: float = 0.0
    passed: bool = False
    stopped: bool = False

    def after(self, test: RateTest, failures: np.ndarray, trials: np.ndarray, single: bool) -> "Evidence":
        """Looked at after each of the clusters: failures [n] of trials [n], all above 0. `single`: trials are independent."""
        if not len(trials):
            return self
        counted = (failures, trials) if single else (failures / trials, np.ones(len(trials)))
        good, bad = test.of_trials(*counted) if single else test.of_shares(counted[0])
        good, bad = self.against_good + np.cumsum(good), self.against_bad + np.cumsum(bad)
        return replace(
            self,
            units=min(self.units + int(counted[1].sum()), COUNTED),
            failures=self.failures + float(counted[0].sum()),
            against_good=float(good[-1]),
            against_bad=float(bad[-1]),
            passed=self.passed or bool(bad.max() >= test.pass_at),
            stopped=self.stopped or bool(good.max() >= test.stop_at),
        )
