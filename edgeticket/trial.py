"""A model on trial in a gateway: one of two answers, the other judges the same frames aside, and what a report needs is counted.

    trial = Trial(new, current, shadow=True, deadline_ms=40)
    found = trial.predict(frame)        # what `current` answers; `new` judges the frame after that, in a thread of its own
    outbox.add(digest, trial.take().to_json())      # every minute, say: edgeticket/outbox.py

docs/rollout.md says what the numbers are for.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgeticket.errors import UsageError
from edgeticket.runtime import Prediction, Predictor

AHEAD = 16  # frames that wait to be judged aside; more are not compared
LATEST = 10_000  # inferences that the 99th percentile is of
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counts:
    """Of the model on trial since the last ones, in the words of a report. None: nothing was there to count."""

    inferences: int
    disagreements: int | None
    guard_alarms: int | None
    misses: int | None
    latency_ms: float | None
    self_test: str

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass
class _Tally:
    inferences: int = 0
    disagreements: int = 0
    guard_alarms: int = 0
    misses: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))


class Trial:
    """`model`: the one that is counted; None where its bundle was refused, which counts as a failed self-test. `beside`: the one that
    it is compared with, if any. `model` answers, or `beside` where `shadow` or where there is no `model`.

    An inference counts once both have judged its frame. Of frames that come faster than that, a few wait; what is more is neither
    compared nor counted, and `skipped` says how many. A disagreement is another label, a label where the other has none, or, in a
    regression, any output further off than `tolerance`, in its units. A model that raises disagrees, and missed its deadline.

    `deadline_ms`: of a single inference, by the clock where the model answers and by its thread's processor time where it runs
    aside, as it stands back there. Raises UsageError where nothing is left to answer, or a regression has no tolerance.
    """

    def __init__(
        self,
        model: Predictor | None,
        beside: Predictor | None = None,
        *,
        shadow: bool = False,
        deadline_ms: float | None = None,
        tolerance: float | None = None,
    ) -> None:
        first, second = (beside, model) if shadow or model is None else (model, beside)
        if first is None:
            raise UsageError("no model is left to answer: give the one to fall back to as `beside`")
        self._first, self._second, self._model = first, second, model
        self._deadline_ms, self._tolerance = deadline_ms, _tolerance(first, second, tolerance)
        self.skipped, self._tally, self._told, self._closed = 0, _Tally(), False, False
        self._waiting: deque[tuple[np.ndarray, Prediction, float]] = deque()
        self._changed = threading.Condition()
        if second is not None:
            threading.Thread(target=self._work, args=(second,), daemon=True).start()

    def predict(self, frame: np.ndarray) -> Prediction:
        """As Predictor.predict, of the model that answers. Where that is the one on trial and it raises, the other answers at once."""
        found, ms = _timed(self._first, frame, time.perf_counter)
        if isinstance(found, Prediction):
            if self._second is not None:
                self._hand_over(frame, found, ms)
            elif self._model is not None:
                self._count(found, ms, False)
            return found
        if self._first is self._model:
            self._count(found, ms, True)
        if self._first is not self._model or self._second is None:
            raise found
        return self._second.predict(frame)

    def take(self) -> Counts:
        """What was counted since the last call."""
        with self._changed:
            found, self._tally = self._tally, _Tally()
        return Counts(
            found.inferences,
            None if self._second is None else found.disagreements,
            None if self._model is None else found.guard_alarms,
            None if self._model is None or self._deadline_ms is None else found.misses,
            round(float(np.percentile(found.latencies, 99)), 4) if found.latencies else None,
            "failed" if self._model is None else "ok",
        )

    def close(self, patience_s: float = 1.0) -> None:
        """Let what waits be compared, for so long at most, and nothing after that. `predict` and `take` go on."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, patience_s)
            self._closed = True
            self._changed.notify_all()

    def _hand_over(self, frame: np.ndarray, found: Prediction, ms: float) -> None:
        with self._changed:
            if self._closed or len(self._waiting) >= AHEAD:
                self.skipped += 1
                return
            own = frame.copy() if isinstance(frame, np.ndarray) else frame  # the caller may fill it anew
            self._waiting.append((own, found, ms))
            self._changed.notify_all()

    def _work(self, second: Predictor) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                frame, found, ms = self._waiting[0]
            other, other_ms = _timed(second, frame, time.thread_time)
            differs = not isinstance(other, Prediction) or _differ(found, other, self._tolerance)
            with self._changed:
                self._count(*((other, other_ms) if second is self._model else (found, ms)), differs)
                self._waiting.popleft()
                self._changed.notify_all()

    def _count(self, found: Prediction | Exception, ms: float, differs: bool) -> None:
        """An inference of the model on trial."""
        with self._changed:
            tally, answered = self._tally, isinstance(found, Prediction)
            tally.inferences += 1
            tally.disagreements += differs
            tally.guard_alarms += isinstance(found, Prediction) and found.status.fault
            tally.misses += not answered or (self._deadline_ms is not None and ms > self._deadline_ms)
            if answered:
                tally.latencies.append(ms)
            elif not self._told:
                self._told = True
                log.warning("the model on trial raised %r; what it raises from now on is counted and not logged", found)


def _timed(model: Predictor, frame: np.ndarray, clock: Callable[[], float]) -> tuple[Prediction | Exception, float]:
    """What it gives or raises, and the milliseconds that it took."""
    start = clock()
    try:
        found: Prediction | Exception = model.predict(frame)
    except Exception as error:  # whatever a new model comes up with: the line goes on
        found = error
    return found, 1000 * (clock() - start)


def _tolerance(first: Predictor, second: Predictor | None, given: float | None) -> float | None:
    """None where labels say it all."""
    if second is None or "regression" not in (first.manifest["task"], second.manifest["task"]):
        return None
    if given is None or not given >= 0:
        raise UsageError(
            "two regressions never give the same numbers: say how far they may be apart, as `tolerance`, 0 or more"
        )
    return given


def _differ(one: Prediction, other: Prediction, tolerance: float | None) -> bool:
    if one.label != other.label:
        return True
    if tolerance is None or one.outputs is None or other.outputs is None:
        return False
    return one.outputs.shape != other.outputs.shape or not (np.abs(one.outputs - other.outputs) <= tolerance).all()
