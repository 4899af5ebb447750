"""Every figure of a task against a computation of its own: pairs, sums, published examples."""

import json
from dataclasses import replace
from math import comb, erfc, sqrt

import numpy as np
import pytest
from cases import CASES
from hypothesis import given
from hypothesis import strategies as st

from edgeticket import tasks
from edgeticket.data import Data
from edgeticket.found import Found, Result
from edgeticket.tasks import Anomaly, Classification, Regression, Scored, Task
from edgeticket.theory import interval
from edgeticket.ticket import Input


def data(task: str, y: np.ndarray, classes: tuple[str, ...], **more: tuple[float, ...]) -> Data:
    part = (np.zeros((len(y), 2, 3), np.float32), y)
    return Data("made", part, part, part, Input("float32", (0, 0), (1, 1)), task, classes, "0", "", **more)


def scored(values: list[float] | np.ndarray, labels: list[float] | np.ndarray) -> Scored:
    return Scored(np.array(values), np.array(labels))


def strict_json(task: Task, part: Scored, select: Scored | None = None) -> dict:
    figures = task.figures(part, select)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert "\n" not in task.text(figures)
    return figures


def test_the_task_is_that_of_the_data() -> None:
    classes = data("classification", np.arange(4), ("a", "b", "c", "d"))
    assert isinstance(tasks.of(classes), Classification)
    assert tasks.of(classes).outputs(classes) == 4
    y = np.zeros((4, 2), np.float32)
    found = tasks.of(data("regression", y, ("wear", "load"), target_offset=(1, 2), target_step=(0.5, 4)))
    assert found == Regression(("wear", "load"), (0.5, 4))
    assert found.outputs(data("regression", y, ("wear", "load"))) == 2
    anomaly = data("anomaly", np.zeros(4, int), ("normal", "anomaly"))
    assert isinstance(tasks.of(anomaly), Anomaly)
    assert tasks.of(anomaly).outputs(anomaly) == 2 * 3
    assert [task.word for task in (Classification(), found, Anomaly())] == ["accuracy", "RMSE", "AUC"]
    assert [task.thresholds for task in (Classification(), found, Anomaly())] == [False, False, True]


# classification


def test_accuracy_by_hand() -> None:
    task = Classification()
    outputs = np.array([[0.1, 0.9], [2, -1], [0, 1], [0.4, 0.6]])
    classes = task.score(outputs, np.zeros((4, 2)), np.zeros(4, int))
    assert classes.tolist() == [1, 0, 1, 1]
    part = scored(classes, [1, 0, 0, 1])
    figures = strict_json(task, part)
    assert figures == {"accuracy": 0.75, "correct": 3, "of": 4, "low": figures["low"], "high": figures["high"]}
    assert (figures["low"], figures["high"]) == (pytest.approx(0.1941, abs=1e-4), pytest.approx(0.9937, abs=1e-4))
    assert task.headline(part) == 0.75
    assert task.text(figures) == " 75.00 % [19.41, 99.37]  3 of 4"
    assert np.array_equal(task.answers(part, None), classes)


def binomial(wins: int, losses: int) -> float:
    """Two-sided exact: twice the chance of so many wins or more, of a fair coin."""
    n = wins + losses
    return min(1.0, 2 * sum(comb(n, k) for k in range(max(wins, losses), n + 1)) / 2**n)


@pytest.mark.parametrize(("only_a", "only_b"), [(9, 1), (1, 9), (8, 2), (5, 5), (0, 0), (30, 10), (6, 0)])
def test_mcnemar(only_a: int, only_b: int) -> None:
    """40 that both get right and 7 that neither does tell nothing."""
    labels = np.zeros(only_a + only_b + 47, int)
    a, b = np.zeros_like(labels), np.zeros_like(labels)
    b[:only_a] = 1
    a[only_a : only_a + only_b] = 1
    a[-7:] = b[-7:] = 1
    p, better = Classification().compare(scored(a, labels), scored(b, labels))
    assert p == pytest.approx(binomial(only_a, only_b), rel=1e-9)
    assert better == (only_a > only_b)


# regression


def test_regression_by_hand() -> None:
    task = Regression(("wear", "load"), (0.5, 4.0))
    y = np.array([[1.0, 10], [2, 20], [3, 30], [6, 40]], np.float32)
    outputs = y + np.array([[1, 0], [-1, 2], [3, 0], [1, -2]])
    errors = task.score(outputs.reshape(4, 2, 1), np.zeros((4, 2)), y)
    assert errors.tolist() == [[1, 0], [1, 4], [9, 0], [1, 4]]
    part = Scored(errors, y)
    figures = strict_json(task, part)
    assert figures["targets"] == ["wear", "load"]
    assert figures["of"] == 4
    assert figures["rmse"] == pytest.approx([sqrt(3), sqrt(2)])
    assert figures["r2"] == pytest.approx([1 - 3 / 3.5, 1 - 2 / 125])
    # mean squared error 3, deviation of the squared errors 4: 3 +- 1.96 * 4 / sqrt(4)
    assert figures["low"] == pytest.approx([0, 0])
    assert figures["high"] == pytest.approx([sqrt(3 + 1.959964 * 2), sqrt(2 + 1.959964 * sqrt(16 / 3) / 2)], rel=1e-6)
    assert task.headline(part) == pytest.approx(sqrt((3 * 0.25 + 2 * 16) / 2))
    assert task.text(figures) == ("RMSE wear 1.732 [0, 2.631] R2 0.1429, load 1.414 [0, 2.065] R2 0.9840  of 4")
    assert task.answers(part, None) is None


def test_the_interval_of_an_rmse_covers_the_true_one() -> None:
    rng, covered = np.random.default_rng(0), 0
    task = Regression(("t",), (1.0,))
    for _ in range(400):
        y = rng.normal(size=500)
        figures = task.figures(Scored(task.score(y + rng.normal(0, 0.3, 500), y, y), y), None)
        covered += figures["low"][0] <= 0.3 <= figures["high"][0]
    assert 0.91 < covered / 400 < 0.985


def test_one_target_may_be_flat_and_far_from_zero() -> None:
    """Variances are of float64: in float32 that of 10,000 +- 0.001 would be lost."""
    task = Regression(("t",), (1000.0,))
    y = (1e4 + np.array([0, 1, 2, 3]) * 2.0**-10).astype(np.float32)
    outputs = y.astype(np.float64) + 2.0**-12
    figures = strict_json(task, Scored(task.score(outputs, y, y), y))
    assert figures["rmse"] == pytest.approx([2.0**-12])
    assert figures["r2"] == pytest.approx([1 - 1 / 16 / 1.25])


@pytest.mark.parametrize(("off", "r2"), [(0.0, 1.0), (1e9, 0.0)])
def test_a_target_that_never_changes_has_a_finite_r2(off: float, r2: float) -> None:
    task, y = Regression(("t",), (1.0,)), np.full(5, 7.0)
    assert strict_json(task, Scored(task.score(y + off, y, y), y))["r2"] == [r2]


@pytest.mark.parametrize(("wins", "losses", "ties"), [(8, 2, 5), (2, 8, 0), (9, 1, 0), (0, 0, 4)])
def test_the_sign_test(wins: int, losses: int, ties: int) -> None:
    """On how many examples each is nearer; who is better is said by the headline."""
    task = Regression(("t",), (2.0,))
    a = np.array([1.0] * wins + [9.0] * losses + [3.0] * ties)
    b = np.array([2.0] * wins + [4.0] * losses + [3.0] * ties)
    p, better = task.compare(scored(a[:, None], a), scored(b[:, None], b))
    assert p == pytest.approx(binomial(wins, losses), rel=1e-9)
    assert better == (a.mean() < b.mean())


def test_targets_are_weighed_by_their_spread() -> None:
    """An error of one standard deviation is worth the same in volts as in millivolts."""
    task = Regression(("V", "mV"), (1.0, 0.001))
    a, b = np.tile([[4.0, 0.0]], (9, 1)), np.tile([[0.0, 1e6]], (9, 1))
    p, better = task.compare(Scored(a, a), Scored(b, b))
    assert (p, better) == (pytest.approx(2 / 2**9), False)


# anomaly


def pairs(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[anomalies, normal]: 1 where the anomaly scores higher, 1/2 where equal."""
    odd, normal = values[labels == 1], values[labels == 0]
    return (odd[:, None] > normal) + 0.5 * (odd[:, None] == normal)


def delong(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Covariance of two AUCs, from the matrices of pairs as in the paper."""
    by_odd, by_normal = (np.cov([m.mean(axis) for m in (a, b)]) for axis in (1, 0))
    return by_odd / a.shape[0] + by_normal / a.shape[1]


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=30),
    st.lists(st.integers(0, 6), min_size=2, max_size=30),
)
def test_auc_by_pairs_with_ties(normal: list[int], odd: list[int]) -> None:
    part = scored([*normal, *odd], [0] * len(normal) + [1] * len(odd))
    assert Anomaly().headline(part) == pytest.approx(pairs(part.values, part.labels).mean(), abs=1e-12)


def rated(normal: list[int], odd: list[int]) -> Scored:
    """So many normal and anomalous examples of each score 1, 2, ..."""
    values = np.concatenate([np.repeat(np.arange(len(counts)), counts) for counts in (normal, odd)])
    return Scored(values, np.repeat([0, 1], [sum(normal), sum(odd)]))


def test_a_published_auc_with_its_interval() -> None:
    """109 tomograms in five ratings (Hanley and McNeil, Radiology 143, 1982): 0.893; Stata's roctab gives DeLong's 0.83295 to 0.95339."""
    part = rated([33, 6, 6, 11, 2], [3, 2, 2, 11, 33])
    figures = strict_json(Anomaly(), part, part)
    assert figures["auc"] == pytest.approx(0.8932, abs=5e-5)
    assert (figures["low"], figures["high"]) == (pytest.approx(0.83295, abs=5e-6), pytest.approx(0.95339, abs=5e-6))


def correlated(seed: int, normal: int = 150, odd: int = 60, ties: bool = True) -> tuple[Scored, Scored]:
    """Two networks' scores of the same examples, rounded so that some are equal."""
    rng, labels = np.random.default_rng(seed), np.repeat([0, 1], [normal, odd])
    shared = rng.normal(labels * 1.0, 1)
    made = [shared + rng.normal(0, spread, len(labels)) for spread in (0.4, 1.0)]
    return tuple(Scored(np.round(values, 1) if ties else values, labels) for values in made)  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(5))
def test_delong_by_pairs(seed: int) -> None:
    a, b = correlated(seed)
    matrices = [pairs(part.values, part.labels) for part in (a, b)]
    covariance = delong(*matrices)
    figures = strict_json(Anomaly(), a, a)
    half = 1.959964 * sqrt(covariance[0, 0])
    assert figures["low"] == pytest.approx(matrices[0].mean() - half, rel=1e-6)
    assert figures["high"] == pytest.approx(min(1, matrices[0].mean() + half), rel=1e-6)
    difference = matrices[0].mean() - matrices[1].mean()
    deviation = sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    p, better = Anomaly().compare(a, b)
    assert p == pytest.approx(erfc(abs(difference) / deviation / sqrt(2)), rel=1e-9)
    assert better == (difference > 0)
    assert Anomaly().compare(b, a) == (pytest.approx(p), not better)


def test_delong_against_a_bootstrap() -> None:
    a, b = correlated(0)
    rng, differences = np.random.default_rng(1), []
    matrices = [pairs(part.values, part.labels) for part in (a, b)]
    for _ in range(3000):
        rows, columns = (rng.integers(0, n, n) for n in matrices[0].shape)
        one, other = (matrix[np.ix_(rows, columns)].mean() for matrix in matrices)
        differences.append((one, one - other))
    variance, of_difference = np.var(differences, axis=0)
    figures = Anomaly().figures(a, a)
    assert ((figures["high"] - figures["low"]) / 2 / 1.96) ** 2 == pytest.approx(variance, rel=0.12)
    p, _ = Anomaly().compare(a, b)
    z = (matrices[0].mean() - matrices[1].mean()) / sqrt(of_difference)
    assert p == pytest.approx(erfc(abs(z) / sqrt(2)), rel=0.5, abs=0.01)


def test_aucs_that_cannot_be_told_apart_or_are_perfect() -> None:
    part = rated([5, 5, 0], [0, 5, 5])
    assert Anomaly().compare(part, part) == (1.0, False)
    perfect = rated([5, 5, 0, 0], [0, 0, 5, 5])
    figures = strict_json(Anomaly(), perfect, perfect)
    assert (figures["auc"], figures["low"], figures["high"]) == (1, interval(10, 10)[0], 1)  # ten of each say little
    wrong = Scored(-perfect.values, perfect.labels)
    assert Anomaly().compare(perfect, wrong) == (0.0, True)
    assert strict_json(Anomaly(), wrong, wrong)["low"] == 0


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=400), st.integers(0, 1000))
def test_at_most_one_in_a_hundred_normal_examples_raises_a_false_alarm(normal: list[int], odd: int) -> None:
    """And no lower score would do, but for one that a single example more would reach."""
    select = scored([*normal, odd, odd], [0] * len(normal) + [1, 1])
    threshold = Anomaly().figures(select, select)["threshold"] if len(normal) > 1 else tasks._threshold(select)
    assert threshold in normal
    assert sum(value > threshold for value in normal) <= 0.01 * len(normal)
    lower = [value for value in normal if value < threshold]
    if lower:
        assert sum(value > max(lower) for value in normal) + 1 > 0.01 * (len(normal) - 1)


def test_rates_at_the_threshold_by_hand() -> None:
    """The select part's largest normal score is 5: above it are 1 of 4 normal and 2 of 3 anomalous examples."""
    select = scored([1.0, 5, 3, 99, 98], [0, 0, 0, 1, 1])
    certify = scored([1.0, 2, 5, 6, 5, 5.5, 70], [0, 0, 0, 0, 1, 1, 1])
    figures = strict_json(Anomaly(), certify, select)
    assert figures["threshold"] == 5
    for name, k, n in (("false_alarms", 1, 4), ("detected", 2, 3)):
        low, high = interval(k, n)
        assert figures[name] == {"rate": k / n, "count": k, "of": n, "low": low, "high": high}
    assert np.array_equal(Anomaly().answers(certify, select), [False, False, False, True, False, True, True])
    text = Anomaly().text(figures)
    assert "at score 5: detects 66.67 % [9.43, 99.16] of 3, false alarms 25.00 % [0.63, 80.59] of 4" in text


def test_the_score_of_a_reconstruction() -> None:
    x = np.zeros((2, 2, 3), np.float32)
    outputs = np.array([[1, 0, 0, 0, 0, 2], [3, 3, 3, 3, 3, 3]], np.float32)
    assert Anomaly().score(outputs, x, np.zeros(2, int)).tolist() == [5 / 6, 9]
    assert Anomaly().score(outputs.reshape(2, 2, 3), x, np.zeros(2, int)).tolist() == [5 / 6, 9]


# pairs of networks


@pytest.mark.parametrize("task", [Classification(), Regression(("t",), (1.0,)), Anomaly()], ids=lambda task: task.word)
def test_networks_are_compared_example_by_example(task: Task) -> None:
    """Together in another order they compare the same; when only one is, the pairs are wrong and p is another."""
    rng, n = np.random.default_rng(3), 200
    labels = (np.arange(n) % 2).astype(float if task.word == "RMSE" else int)
    hard = rng.random(n)
    if task.word == "accuracy":
        a, b = (np.where(hard < limit, labels, 1 - labels) for limit in (0.8, 0.75))
    else:
        a, b = (labels * 1.0 + hard * 3 + bonus * labels for bonus in (0.1, 0.0))
        b = b + rng.normal(0, 0.05, n)
    column = (lambda values: values[:, None]) if task.word == "RMSE" else (lambda values: values)
    before = task.compare(Scored(column(a), labels), Scored(column(b), labels))
    order = rng.permutation(n)
    after = task.compare(Scored(column(a)[order], labels[order]), Scored(column(b)[order], labels[order]))
    assert after == (pytest.approx(before[0], rel=1e-9), before[1])
    within = np.concatenate([rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)])
    place = np.argsort(np.concatenate([np.flatnonzero(labels == label) for label in (0, 1)]))
    mixed = task.compare(Scored(column(a), labels), Scored(column(b[within][place]), labels))
    assert abs(mixed[0] - before[0]) > 0.01


# found


def found(task: Task, *parts: Scored) -> Found:
    names = ("ticket", "control", "float")
    results = tuple(
        Result(name, task, part, part, "P2", {"l0": 8}, 1.5) for name, part in zip(names, parts, strict=False)
    )
    ticket = replace(CASES["plain"].ticket(), provenance={"data": "made"})
    return Found(ticket, results, 1e-7, {})


def test_the_verdict_is_the_tasks_test() -> None:
    labels = np.zeros(100, int)
    good, bad = np.zeros(100, int), np.repeat([0, 1], [90, 10])
    assert found(Classification(), Scored(good, labels)).verdict() is None
    won = found(Classification(), Scored(good, labels), Scored(bad, labels)).verdict()
    assert won == f"won by the channel search (p = {binomial(10, 0):.2g})"
    close = np.repeat([0, 1], [94, 6])
    assert (
        found(Classification(), Scored(good, labels), Scored(close, labels)).verdict()
        == "won by the channel search (p = 0.031)"
    )
    lost = found(Classification(), Scored(bad, labels), Scored(good, labels)).verdict()
    assert lost is not None
    assert lost.startswith("won by the narrow control")
    tie = found(Classification(), Scored(good, labels), Scored(good, labels)).verdict()
    assert tie == "tie: the channel search is not distinguishable from the narrow control (p = 1)"
    errors = np.ones((50, 1))
    won = found(Regression(("t",), (1.0,)), Scored(errors / 2, errors), Scored(errors, errors)).verdict()
    assert won is not None
    assert won.startswith("won by the channel search")


@pytest.mark.parametrize("task", [Classification(), Regression(("t",), (1.0,)), Anomaly()], ids=lambda task: task.word)
def test_results_say_the_figures_of_their_task(task: Task) -> None:
    rng, labels = np.random.default_rng(0), np.arange(60) % 2
    values = rng.random((60, 1)) if task.word == "RMSE" else labels if task.word == "accuracy" else rng.random(60)
    made = found(task, Scored(values, labels))
    told = made.to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    (row,) = told["results"]
    assert row | task.figures(Scored(values, labels), Scored(values, labels)) == row
    assert row[f"select_{task.headline_word.lower().replace(' ', '_')}"] == task.headline(Scored(values, labels))
    lines = made.text().splitlines()
    assert lines[0] == f"{task.word} on the certify part of made, with 95 % intervals; the network reads 1x8x8"
    assert task.text(row) in lines[1]
