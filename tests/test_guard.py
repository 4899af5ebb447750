"""The guard: every fault has its status, clean frames pass, shifts are seen, limits are what the statistics say."""

import json
import os
import threading
import time
from collections import Counter
from dataclasses import replace
from decimal import Decimal, localcontext
from itertools import pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeticket import drift, watch
from edgeticket.data import Data, load
from edgeticket.errors import BundleError, InsufficientDataError, UnsupportedError, UsageError
from edgeticket.guard import Guard, Rules, Status
from edgeticket.ticket import Input

RANDOM = np.random.default_rng(5)


def made(dtype: str = "int16", shape: tuple[int, ...] = (2, 30), n: int = 1000, task: str = "classification") -> Data:
    """Noise of deviation 20 around 100, in units that fit any type."""
    part = (100 + 20 * RANDOM.normal(size=(n, *shape))).round().clip(0, 250).astype(dtype)
    y = np.zeros(n, np.int64)
    one = Input(dtype, (0.0,) * shape[0], (1.0,) * shape[0])
    return Data("made", (part, y), (part[::-1], y), (part, y), one, task, ("a", "b"), "", "")


def frames(data: Data, n: int, seed: int = 0) -> np.ndarray:
    x = data.certify[0]
    return x[np.random.default_rng(seed).integers(0, len(x), n)]


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


def at_work(rules: Rules, compiled: bool) -> Guard:
    """No C compiler at installation is a skip on a laptop and a failure in CI."""
    guard = Guard(rules, compiled=compiled)
    if guard.compiled != compiled:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("edgeticket._watch is not built: pip install -e .")
    return guard


@pytest.fixture(scope="module")
def rules(digits: Data) -> Rules:
    return Guard.fit(digits).rules


@pytest.fixture(params=[True, False], ids=["compiled", "numpy"])
def guard(rules: Rules, request: pytest.FixtureRequest) -> Guard:
    return at_work(rules, request.param)


# statistics


@given(st.sampled_from(["uint8", "int16"]), st.integers(1, 3), st.integers(2, 9), st.integers(0, 1 << 32))
def test_statistics_are_the_integers_that_python_computes(dtype: str, channels: int, size: int, seed: int) -> None:
    kind = np.iinfo(dtype)
    values = np.random.default_rng(seed).integers(kind.min, kind.max, (channels, size), endpoint=True)
    values.flat[0] = kind.min
    right = [
        (
            sum(row),
            sum(v * v for v in row),
            sum(abs(b - a) for a, b in pairwise(row)),
            sum(a != b for a, b in pairwise(row)),
            min(row),
            max(row),
        )
        for row in values.tolist()
    ]
    found = drift.statistics(values.astype(dtype).reshape(-1), channels)
    assert found.tolist() == [value for row in right for value in row]


def test_statistics_stay_exact_at_the_largest_frame() -> None:
    frame = np.full(drift.MOST, -(1 << 15), np.int16)
    frame[0] += 1
    right = (drift.MOST - 1) * (1 << 30) + ((1 << 15) - 1) ** 2
    assert int(drift.statistics(frame, 1)[1]) == right
    with pytest.raises(UnsupportedError, match="smaller frames"):
        drift.of_all(np.broadcast_to(np.int16(0), (1, 1, drift.MOST + 1)))


def test_the_statistics_of_many_are_those_of_each(digits: Data) -> None:
    x = digits.train[0][:50]
    assert np.array_equal(drift.of_all(x), [drift.statistics(frame.reshape(-1), 1) for frame in x])


# limits


@pytest.mark.parametrize(
    ("n", "rate", "confidence"), [(299, 0.01, 0.95), (473, 0.01, 0.95), (3000, 0.01, 0.9), (60, 0.1, 0.6)]
)
def test_as_many_held_out_frames_may_be_beyond_as_the_binomial_allows(n: int, rate: float, confidence: float) -> None:
    def missing(beyond: int) -> float:
        return sum(comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(beyond + 1))

    right = max(beyond for beyond in range(60) if missing(beyond) <= 1 - confidence)
    beyond, reached = drift._beyond(n, rate, confidence)
    assert beyond == right
    assert reached == pytest.approx(1 - missing(right))


@pytest.mark.parametrize(("n", "rate"), [(4000, "0.2"), (80_000, "0.01"), (10**6, "0.01"), (10**6, "0.2")])
def test_so_many_held_out_frames_that_all_but_a_few_of_their_probabilities_underflow(n: int, rate: str) -> None:
    with localcontext(prec=40):  # its exponents reach a million digits
        p = Decimal(rate)
        term = missing = (1 - p) ** n
        right = 0
        while missing + (term := term * (n - right) / (right + 1) * p / (1 - p)) <= Decimal("0.05"):
            missing, right = missing + term, right + 1
    beyond, reached = drift._beyond(n, float(rate), 0.95)
    assert beyond == right
    assert reached == pytest.approx(float(1 - missing), abs=1e-9)


def test_too_few_held_out_frames_are_refused_with_the_number_that_it_takes() -> None:
    data = made(n=298)
    with pytest.raises(InsufficientDataError, match=r"298 held-out.*1\.00%.*95%: 299 can"):
        Guard.fit(data)
    assert Guard.fit(data, confidence=0.9).to_json()["held_out"] == 298
    assert Guard.fit(made(n=299)).to_json()["confidence"] == pytest.approx(1 - 0.99**299)


def test_limits_keep_their_rates_on_frames_that_nobody_saw() -> None:
    random = np.random.default_rng(5)
    train, held_out = random.normal(size=(4000, 3)), random.normal(size=(2000, 3))
    seen = (drift.Seen(x, np.zeros(len(x), int)) for x in (train, held_out))
    found = drift.limits(*seen, 1, rate=0.02, confidence=0.95, windows=50, whole=False)
    fresh = random.normal(size=(600, 50, 3))
    single = ((fresh < found.lower) | (fresh > found.upper)).any(-1).mean()
    assert 0.008 < single < 0.025
    up = down = np.zeros((600, 3))
    seen = np.zeros(600, bool)
    for now in np.clip(fresh, found.lower, found.upper).transpose(1, 0, 2):
        up, down = np.maximum(0, up + now - found.high), np.maximum(0, down + found.low - now)
        seen |= (np.maximum(up, down) > found.limit).any(1)
    assert 0.003 < seen.mean() < 0.04


def test_anomalous_frames_do_not_set_the_limits() -> None:
    data = made(task="anomaly")
    x, y = data.select
    x, y = np.concatenate([x, 20 * x[:200]]), np.concatenate([y, np.ones(200, np.int64)])
    assert Guard.fit(replace(data, select=(x, y))).to_json() == Guard.fit(data).to_json()


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 0}, {"rate": 1.0}, {"confidence": 1}, {"windows": 0}, {"stuck": 1}, {"stuck": -1}, {"margin": -0.1}],
)
def test_numbers_that_mean_nothing_are_refused(digits: Data, wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Guard.fit(digits, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(65_537,), (10_923, 2)])
def test_more_statistics_than_a_guard_takes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedError, match="give fewer"):
        Guard.fit(made("uint8", shape, 3))


# faults


def faulty() -> dict[str, tuple[object, Status]]:
    """What arrives in place of a float32 frame of two channels of 30 values, and the status that it has."""
    good = made("float32").train[0][0]

    def changed(index: object, value: float) -> np.ndarray:
        frame = good.copy()
        frame[index] = value
        return frame

    return {
        "nothing": (None, Status.DTYPE),
        "list": (good.tolist(), Status.DTYPE),
        "float64": (good.astype(np.float64), Status.DTYPE),
        "int16": (good.astype(np.int16), Status.DTYPE),
        "a value missing": (good[:, 1:].copy(), Status.SHAPE),
        "a channel missing": (good[:1], Status.SHAPE),
        "a batch": (good[None], Status.SHAPE),
        "turned": (np.ascontiguousarray(good.T), Status.SHAPE),
        "NaN": (changed((1, 7), np.nan), Status.NOT_FINITE),
        "all NaN": (changed(..., np.nan), Status.NOT_FINITE),
        "Inf": (changed((0, 0), np.inf), Status.NOT_FINITE),
        "-Inf": (changed((1, 29), -np.inf), Status.NOT_FINITE),
        "both Inf": (changed((1, slice(0, 2)), [np.inf, -np.inf]), Status.NOT_FINITE),  # type: ignore[arg-type]
        "too large": (changed((0, 3), 1000), Status.RANGE),
        "too small": (changed((1, 3), -1000), Status.RANGE),
        "largest float": (changed((0, 3), 3e38), Status.RANGE),
        "dead": (changed(..., 100), Status.CONSTANT),
        "a dead channel": (changed(1, 100), Status.CONSTANT),
    }


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", faulty())
def test_a_fault_has_its_status(name: str, compiled: bool) -> None:
    frame, status = faulty()[name]
    found = at_work(Guard.fit(made("float32")).rules, compiled).check(frame)  # type: ignore[arg-type]
    assert found == status
    assert found.fault


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_integer_frames_have_a_range_too(dtype: str) -> None:
    data = made(dtype)
    guard, frame = Guard.fit(data), data.train[0][0].copy()
    assert guard.judge(frame) == Status.OK
    least, most = data.train[0].min(), data.train[0].max()
    frame[1, 4] = min(np.iinfo(dtype).max, most + 0.11 * (int(most) - int(least)) + 1)
    assert guard.judge(frame) == Status.RANGE
    assert guard.judge(frame.astype("uint16")) == Status.DTYPE


def test_a_stuck_sensor(digits: Data, guard: Guard) -> None:
    a, b = frames(digits, 2)
    assert [guard.judge(x) for x in (a, a, b, b, b, b, a)] == ["ok", "ok", "ok", "ok", "stuck", "stuck", "ok"]
    assert [guard.judge(a), guard.reset(), guard.judge(a), guard.judge(a)] == ["ok", None, "ok", "ok"]
    never = Guard(replace(guard.rules, stuck=0), compiled=guard.compiled)
    assert {never.judge(a) for _ in range(3)} == {Status.OK}


def test_a_channel_that_may_be_constant() -> None:
    data = made()
    x = data.train[0].copy()
    x[3, 0] = 100
    guard, frame = Guard.fit(replace(data, train=(x, data.train[1]))), data.train[0][0].copy()
    frame[0] = 100
    assert not guard.judge(frame).fault
    frame[1] = 100
    assert guard.judge(frame) == Status.CONSTANT


def test_features_are_channels_of_one_value_that_are_never_constant() -> None:
    data = made("float32", (4,))
    guard = Guard.fit(data)
    assert {guard.judge(x) for x in data.train[0][:50]} <= {Status.OK, Status.UNFAMILIAR}
    assert guard.judge(np.array([100, np.nan, 100, 100], np.float32)) == Status.NOT_FINITE
    assert guard.judge(np.array([100, 100, 100, 900], np.float32)) == Status.RANGE


# alarms


def statuses(guard: Guard, stream: np.ndarray) -> Counter[str]:
    guard.reset()
    return Counter(str(guard.judge(frame)) for frame in stream)


def test_clean_frames_pass(digits: Data, guard: Guard) -> None:
    found = statuses(guard, digits.certify[0])
    assert len(digits.certify[0]) - found["ok"] <= 0.01 * len(digits.certify[0])
    drifted = sum(statuses(guard, frames(digits, 200, seed))["drift"] > 0 for seed in range(100))
    assert drifted <= 1


def shifted(x: np.ndarray, kind: str) -> np.ndarray:
    values = x.astype(float)
    if kind == "blur":
        values = sum(np.roll(values, (i, j), (-2, -1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9
    noise = 3 * np.random.default_rng(1).normal(size=x.shape)
    changed = {
        "gain": 1.5 * values,
        "faint": 0.7 * values,
        "offset": values + 1.5,
        "noise": values + noise,
        "blur": values,
    }
    return changed[kind].round().clip(0, 16).astype(x.dtype)


@pytest.mark.parametrize("kind", ["gain", "faint", "offset", "noise", "blur"])
def test_a_shift_is_seen_within_200_frames(digits: Data, guard: Guard, kind: str) -> None:
    runs = [statuses(guard, shifted(frames(digits, 200, seed), kind)) for seed in range(20)]
    assert all(run["drift"] for run in runs)


def seen_after(guard: Guard, stream: np.ndarray) -> int:
    """How many frames it takes until a drift is told."""
    guard.reset()
    count = 1 + [guard.judge(frame) for frame in stream].index(Status.DRIFT)
    guard.reset()
    return count


def test_a_drift_is_told_until_the_guard_is_reset(digits: Data, guard: Guard) -> None:
    bright = shifted(frames(digits, 200), "gain")
    assert Status.DRIFT in [guard.judge(frame) for frame in bright[: seen_after(guard, bright)]]
    assert {guard.judge(frame) for frame in frames(digits, 1000, 7)} == {Status.DRIFT}
    assert not Status.DRIFT.fault
    assert Guard.from_json(guard.to_json()).judge(bright[0]) != Status.DRIFT
    guard.reset()
    assert guard.judge(frames(digits, 1, 7)[0]) == Status.OK


@pytest.mark.parametrize(
    "pixels", [np.indices((8, 8)).sum(0) % 2 * 16, np.indices((8, 8)).prod(0) == 49], ids=["wild", "dark"]
)
def test_one_frame_alone_is_unfamiliar_and_no_drift(digits: Data, guard: Guard, pixels: np.ndarray) -> None:
    found = [guard.judge(x) for x in (*frames(digits, 3), pixels[None].astype(np.uint8), *frames(digits, 3, 1))]
    assert found == [*["ok"] * 3, "unfamiliar", *["ok"] * 3]
    assert not Status.UNFAMILIAR.fault


def test_frames_with_a_fault_do_not_count_towards_a_drift(digits: Data, guard: Guard) -> None:
    broken = np.full((1, 8, 8), 255, np.uint8)
    for i in range(500):
        assert guard.judge(broken - np.uint8(i % 2)).fault
    assert guard.judge(frames(digits, 1)[0]) == Status.OK


def of_class(answer: float, n: int, seed: int) -> np.ndarray:
    return (60 + 10 * answer + 8 * np.random.default_rng(seed).normal(size=(n, 1, 30))).round().astype(np.int16)


def brighter(frames: np.ndarray) -> np.ndarray:
    return (frames.mean((1, 2)) > 65).astype(int)


@pytest.fixture(params=[True, False], ids=["compiled", "numpy"])
def of_two_classes(request: pytest.FixtureRequest) -> tuple[Guard, Guard]:
    """Fitted with the answers of a network, and without."""
    x = np.concatenate([of_class(0, 500, 1), of_class(1, 500, 2)])
    data = replace(made("int16", (1, 30)), train=(x, brighter(x)), select=(x, brighter(x)))
    guards = Guard.fit(data, brighter), Guard.fit(data)
    first, second = (at_work(guard.rules, request.param) for guard in guards)
    return first, second


@pytest.mark.parametrize("answer", [0, 1])
def test_a_run_of_one_class_is_no_drift_and_a_shift_in_it_is(of_two_classes: tuple[Guard, Guard], answer: int) -> None:
    by_class, by_all = of_two_classes
    edges = by_class.rules.limits
    assert (
        20 < edges.high[answer, 0] - edges.low[answer, 0] < 25
    )  # half a deviation between frames of one class: 8 * 30**0.5 / 2
    run = of_class(answer, 200, 3 + answer)
    assert Status.DRIFT not in [by_class.judge(frame, answer) for frame in run]
    assert Status.DRIFT in [by_all.judge(frame, answer) for frame in run]
    by_class.reset()
    assert Status.DRIFT in [by_class.judge(frame + np.int16(2), answer) for frame in run]


def test_a_frame_counts_once_and_with_its_class(of_two_classes: tuple[Guard, Guard]) -> None:
    guard, _ = of_two_classes
    assert not guard.follow(0)
    frame, other = of_class(1, 2, 5)  # with class 0 a drift within a few
    assert not guard.check(frame).fault
    assert not guard.follow(1)
    assert [guard.follow(0) for _ in range(100)] == [False] * 100
    for _ in range(200):
        assert guard.check(frame * 0).fault
        assert not guard.follow(0)
    assert [guard.judge(x, 0) for x in (frame, other) * 50][-1] == Status.DRIFT
    assert guard.follow(1)
    guard.reset()
    assert not guard.follow(0)


@pytest.mark.parametrize("answer", [-(1 << 70), -1, 2, 3, 1 << 70])
def test_a_class_that_none_had_counts_with_all(of_two_classes: tuple[Guard, Guard], answer: int) -> None:
    guard, _ = of_two_classes
    assert Status.DRIFT not in [guard.judge(frame, answer) for frame in of_class(0.5, 200, 6)]
    for own in (0, 1):
        guard.reset()
        assert Status.DRIFT in [guard.judge(frame, answer) for frame in of_class(own, 200, 5)]


def test_a_class_with_few_frames_held_out_sets_no_limit() -> None:
    x = RANDOM.normal(size=(500, 3))
    x[-drift.LEAST_FRAMES + 1 :] += 50
    rare = np.arange(500) > 500 - drift.LEAST_FRAMES
    train = drift.Seen(x, np.zeros(500, int))
    kept = {"rate": 0.01, "confidence": 0.95, "windows": 50, "whole": False}
    of_all = drift.limits(train, train, 1, **kept)
    for few in (rare, np.arange(500) >= 500 - drift.LEAST_FRAMES):
        held_out = drift.Seen(x, few.astype(int))  # of answer 1, which train does not know: about the mean of all
        found = drift.limits(train, held_out, 3, **kept)
        assert np.allclose(found.low, of_all.low)
        assert np.allclose(found.limit, of_all.limit) == (few is rare)


def checks_of_four_threads(guard: Guard, frame: np.ndarray, each: int) -> Counter[str]:
    found: list[Status] = []
    threads = [
        threading.Thread(target=lambda: found.extend([guard.judge(frame) for _ in range(each)])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(found)


def test_threads_share_a_guard(digits: Data, guard: Guard) -> None:
    assert checks_of_four_threads(guard, frames(digits, 1)[0], 500) == {"ok": 2, "stuck": 1998}


def test_threads_take_turns(digits: Data, rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    guard, inside = at_work(rules, compiled=False), []
    own = guard.watch._fault

    def slow(statistics: np.ndarray) -> Status | None:
        inside.append(1)
        assert len(inside) == 1
        time.sleep(0.001)
        inside.pop()
        return own(statistics)

    monkeypatch.setattr(guard.watch, "_fault", slow)
    assert checks_of_four_threads(guard, frames(digits, 1)[0], 20) == {"ok": 2, "stuck": 78}


# JSON


@pytest.mark.parametrize("data", [made("uint8", (3, 4, 5)), made("int16"), made("float32"), made("float32", (4,))])
def test_json_gives_the_same_guard(data: Data) -> None:
    guard = Guard.fit(data)
    again = Guard.from_json(json.loads(json.dumps(guard.to_json(), allow_nan=False)))
    stream = np.concatenate([data.train[0][:40], data.train[0][:40] + data.train[0].dtype.type(4)])
    assert [guard.judge(x) for x in stream] == [again.judge(x) for x in stream]
    assert guard.to_json() == Guard.fit(data).to_json() == again.to_json()


WRONG = {
    "format": "edgeticket-guard 1",
    "shape": [1, 8, 9000],
    "dtype": "float64",
    "least": [20],
    "most": [1.5],
    "flat": [1],
    "stuck": -1,
    "rate": 1.5,
    "windows": True,
    "held_out": "359",
    "confidence": float("nan"),
    "means": 2,
    "lower": [0] * 5,
    "upper": [-(10**9)] * 6,
    "low": [1 << 60] * 6,
    "high": [None] * 6,
    "limit": [-1] * 6,
}


@pytest.mark.parametrize("key", WRONG)
def test_another_json_is_refused(guard: Guard, key: str) -> None:
    value = guard.to_json()
    assert set(value) == set(WRONG)
    for changed in ({**value, key: WRONG[key]}, {k: v for k, v in value.items() if k != key}):
        if key == "shape" and "shape" in changed:
            changed["shape"] = [0, 8, 8]
        with pytest.raises(BundleError):
            Guard.from_json(changed)


def test_a_guard_of_frames_whose_sums_are_not_exact_is_refused(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    values = drift.MOST
    if not guard.compiled:
        monkeypatch.setattr(watch, "Compiled", None)
    assert Guard.from_json({**guard.to_json(), "shape": [1, 1, values]}).check(np.zeros(3)) == Status.DTYPE
    with pytest.raises(BundleError):
        Guard.from_json({**guard.to_json(), "shape": [1, 1, values + 1]})


@pytest.mark.parametrize("value", [None, [], 3, "guard", {}, {"format": "edgeticket-guard 1"}])
def test_what_is_no_guard_is_refused(value: object) -> None:
    with pytest.raises(BundleError):
        Guard.from_json(value)
