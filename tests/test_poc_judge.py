"""The parts of a proof of concept that decide: criterion, bar, indicators, verdict, record, energy, prices."""

import json
from math import comb, sqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeticket import tasks
from edgeticket.budget import Term, Verdict
from edgeticket.data import load
from edgeticket.errors import EdgeTicketError, EquivalenceError, InsufficientDataError, UsageError
from edgeticket.poc import energy, indicators, judge, record
from edgeticket.poc.prices import read_prices
from edgeticket.poc.success import Criterion, bar, require_enough
from edgeticket.tasks import Scored
from edgeticket.theory import binomial_tail, lower_bound, trials_needed, upper_bound

ACCURACY = tasks.of(load("digits"))


def test_criteria_say_what_must_be_reached() -> None:
    for text, value in (("accuracy >= float - 0.01", 0.89), ("accuracy>=0.5", 0.5), ("accuracy >= float", 0.9)):
        own = Criterion.parse(text, "classification", False)
        assert own.value(0.9) == pytest.approx(value)
        assert own.met(value + 1e-9, value)
        assert own.met(value, value)
        assert not own.met(value - 1e-9, value)
    rmse = Criterion.parse("rmse <= float * 1.05", "regression", True)
    assert rmse.value(0.2) == pytest.approx(0.21)
    assert rmse.met(0.2, 0.21)
    assert not rmse.met(0.22, 0.21)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "accuracy",
        "auc >= 0.9",
        "accuracy <= 0.9",
        "accuracy >= float / 2",
        "accuracy >= 1-2",
        "accuracy >= float - .",
    ],
)
def test_other_criteria_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="accuracy"):
        Criterion.parse(text, "classification", False)


def _bar(text: str, reference: float, select: int, certify: int) -> tuple[dict, Criterion, Any]:
    own = Criterion.parse(text, "classification", False)
    parts = {"select": (None, np.zeros(select, np.int8)), "certify": (None, np.zeros(certify, np.int8))}
    made = SimpleNamespace(**parts)
    return bar(own, ACCURACY, [{"select": reference, "deviation": 99.0}], made), own, made  # type: ignore[arg-type]


def test_a_margin_below_what_chance_does_is_refused_with_the_number_that_it_takes() -> None:
    found, *rest = _bar("accuracy >= float - 0.01", 0.97, 400, 600)
    noise = 1.6448536 * sqrt(0.96 * 0.04 * (1 / 400 + 1 / 600))
    assert found["smallest_margin"] == pytest.approx(noise, rel=1e-6)
    with pytest.raises(InsufficientDataError, match=rf"need n = {found['needed']:,} ") as refused:
        require_enough(found, *rest)
    assert refused.value.exit_code == 6
    n = found["needed"]
    require_enough(*_bar("accuracy >= float - 0.01", 0.97, n, n))
    with pytest.raises(InsufficientDataError):
        require_enough(*_bar("accuracy >= float - 0.01", 0.97, n - 1, n - 1))


def test_a_bar_of_its_own_owes_nothing_to_the_select_part() -> None:
    found, *rest = _bar("accuracy >= 0.96", 0.97, 4, 10_000)
    assert found["smallest_margin"] == pytest.approx(1.6448536 * sqrt(0.96 * 0.04 / 10_000), rel=1e-6)
    require_enough(found, *rest)
    n = found["needed"]
    require_enough(*_bar("accuracy >= 0.96", 0.97, 4, n))
    with pytest.raises(InsufficientDataError):
        require_enough(*_bar("accuracy >= 0.96", 0.97, 4, n - 1))


def test_no_margin_at_all_can_never_be_shown() -> None:
    found, *rest = _bar("accuracy >= float", 0.97, 10**6, 10**6)
    assert found["needed"] is None
    with pytest.raises(InsufficientDataError, match="a margin above 0"):
        require_enough(found, *rest)


def test_a_margin_has_a_side_and_a_bar_its_range() -> None:
    assert _bar("accuracy >= float - 0.1", 0.9, 9, 9)[0]["margin"] == pytest.approx(0.1)
    assert _bar("accuracy >= float + 0.05", 0.9, 9, 9)[0]["margin"] == pytest.approx(-0.05)  # better than float
    with pytest.raises(UsageError, match=r"asks for 1\.03"):
        _bar("accuracy >= float + 0.05", 0.98, 9, 9)
    for text in ("accuracy >= 95", "accuracy >= float - 5", "accuracy >= float - 1e999"):
        with pytest.raises(UsageError, match="out of range"):
            Criterion.parse(text, "classification", False)


def test_deviation_is_the_spread_of_the_headline() -> None:
    """Against the spread over many drawn parts."""
    generator, n = np.random.default_rng(1), 500
    drawn = [(generator.random(n) < 0.8).astype(int) for _ in range(2000)]
    headlines = [ACCURACY.headline(Scored(values, np.ones(n))) for values in drawn]
    assert ACCURACY.deviation(Scored(drawn[0], np.ones(n)), 0.8) / sqrt(n) == pytest.approx(np.std(headlines), rel=0.1)
    regression = tasks.Regression(("y",), (1.0,))
    errors = [generator.standard_normal((n, 1)) ** 2 for _ in range(2000)]
    headlines = [regression.headline(Scored(values, np.zeros(n))) for values in errors]
    own = regression.deviation(Scored(errors[0], np.zeros(n)), 1.0)
    assert own / sqrt(n) == pytest.approx(np.std(headlines), rel=0.2)
    anomaly, labels = tasks.Anomaly(), np.arange(n) % 4 == 0
    scores = [generator.standard_normal(n) + labels for _ in range(500)]
    headlines = [anomaly.headline(Scored(values, labels.astype(int))) for values in scores]
    own = anomaly.deviation(Scored(scores[0], labels.astype(int)), 0.76)
    assert own / sqrt(n) == pytest.approx(np.std(headlines), rel=0.2)


def test_a_perfect_network_does_not_make_small_data_large() -> None:
    part = Scored(np.ones(20), np.ones(20))
    assert ACCURACY.deviation(part, 1.0) == pytest.approx(sqrt(21 / 22 / 22))
    ideal = Scored(np.arange(20.0), (np.arange(20) > 17).astype(int))
    assert tasks.Anomaly().deviation(ideal, 1.0) > 0.5


def row(seed: int, certify: float = 0.95, **more: object) -> dict:
    own = {"seed": seed, "certify": certify, "select": 0.9 + seed / 1000, "terms": [], "cpu_seconds": 2.0, "flops": 10}
    own |= {"wall_seconds": 3.0, "density": 0.2, "kept_of_wide": 0.1, "bytes": 100, "macs": 50, "kept_macs": 10}
    return {**own, "latency_ms": {"p50": 0.5}, "asked": None, "kind": "search", **more}


def rival(certify: float, size: int, name: str = "int8-narrow") -> dict:
    return {"name": name, "kind": name, "seed": 0, "certify": certify, "bytes": size, "cpu_seconds": 1.0}


LOSES = [rival(0.5, 50)] * 3


def proof(certify: list[float], rivals: list[dict] | None = None, **more: object) -> dict:
    """A record as far as judging goes: float 0.95, bar 0.94."""
    criterion = Criterion.parse("accuracy >= float - 0.01", "classification", False)
    found = {"headline": "accuracy", "lower_is_better": False, "float": 0.95, "value": 0.94, "margin": 0.01}
    rows = [row(seed, value) for seed, value in enumerate(certify)]
    for one in rows:
        one["why"] = judge.why_not(one, criterion, found)
        one["success"] = not one["why"]
    asked = {"probability": 0.95, "confidence": 0.95, "seeds": len(rows), "max_cost_s": None, "first_seed": 0, **more}
    own = {"bar": found, "rows": rows, "rivals": LOSES if rivals is None else rivals, "request": asked, "chosen": None}
    own["indicators"] = indicators.summarise(rows, [], own["rivals"], 0.95, {})
    return own


def words(own: dict) -> tuple[str, list[str], list[str]]:
    told = judge.verdict(own)
    return told["word"], [one["code"] for one in told["reasons"]], [one["code"] for one in told["change"]]


def test_59_clean_seeds_are_a_go_and_58_are_not() -> None:
    assert words(proof([0.95] * 59)) == ("go", ["success"], ["failures"])
    told = judge.verdict(proof([0.95] * 58))
    assert told["word"] == "measure more"
    second = trials_needed(0.95, 0.975, 0)
    assert told["change"][0] == {
        "code": "new proof",
        "seeds": second,
        "first_seed": 58,
        "failures": 0,
        "confidence": 0.975,
        "cpu_seconds": second * 2.0,
    }
    assert told["change"][1]["probability"] == pytest.approx(lower_bound(58, 58))


def test_one_failure_takes_93() -> None:
    own = judge.verdict(proof([0.95] * 58 + [0.9]))
    assert own["change"][0]["seeds"] == trials_needed(0.95, 0.975, 1)
    assert judge.verdict(proof([0.95] * 92 + [0.9]))["word"] == "go"
    assert judge.verdict(proof([0.95] * 91 + [0.9]))["word"] == "measure more"


def test_a_stop_needs_the_upper_bound_below_what_was_asked_for() -> None:
    """59 of 64 are below 0.95 in the mean, and may still be of it."""
    own = proof([0.95] * 59 + [0.9] * 5)
    assert own["indicators"]["success"]["lower"] < 0.9 * 0.95 < 0.95 < own["indicators"]["success"]["upper"]
    assert words(own)[0] == "measure more"


def test_two_looks_keep_the_promise_that_one_gives() -> None:
    """Exact: a go at the first look, or at the second that is then proposed, where the true probability is 0.95."""
    wrong = 0.0
    for failures in range(60):
        chance = comb(59, failures) * 0.05**failures * 0.95 ** (59 - failures)
        told = judge.verdict(proof([0.95] * (59 - failures) + [0.9] * failures))
        if told["word"] == "go":
            wrong += chance
        for change in told["change"]:
            if change["code"] == "new proof":
                n = change["seeds"]
                wrong += chance * binomial_tail(n - change["failures"], n, 0.95)
    assert 0.05 < wrong <= 0.05 + 0.025


def test_too_many_failures_are_a_stop_and_say_which_margin_would_do() -> None:
    own = proof([0.95] * 50 + [0.93] * 10, probability=0.95)
    assert upper_bound(50, 60) < 0.95
    told = judge.verdict(own)
    assert told["word"] == "stop"
    margin = next(one for one in told["change"] if one["code"] == "margin")
    assert margin["margin"] == pytest.approx(0.02)
    assert words(proof([0.9] * 60))[1][0] == "none"


def test_a_margin_is_only_named_where_seeds_would_have_shown_it() -> None:
    assert judge.sufficient_margin(proof([0.93] * 58)) is None  # too few seeds for any margin
    assert judge.sufficient_margin(proof([0.93] * 59)) == pytest.approx(0.02)
    over = proof([0.93] * 59)
    over["rows"][3]["terms"] = [{"met": False}]
    assert judge.sufficient_margin(over) is None  # a margin does not mend a budget


def test_a_rival_counts_where_all_its_runs_win_at_no_more_bytes() -> None:
    wins = [rival(0.96, 100), rival(0.97, 99), rival(0.97, 98)]
    assert words(proof([0.95] * 59, wins)) == ("stop", ["rival", "success"], ["rival"])
    told = judge.verdict(proof([0.95] * 59, wins))["reasons"][0]
    assert (told["rival_certify"], told["rival_bytes"], told["runs"]) == (0.96, 100, 3)
    for loses in (
        [rival(0.96, 100), rival(0.97, 90), rival(0.95, 90)],
        [rival(0.96, 101)] * 3,
        [*LOSES, *[rival(0.99, 50, "control")] * 3],
        [*LOSES, *[rival(0.99, 50, "pruned")] * 2],  # not all of its runs
    ):
        assert words(proof([0.95] * 59, loses))[0] == "go"


def test_of_errors_the_smaller_one_wins() -> None:
    own = proof([0.95] * 59, [rival(0.96, 50)] * 3)
    own["bar"]["lower_is_better"] = True
    assert words(own)[0] == "go"
    own["rivals"] = [rival(0.5, 50)] * 3
    told = judge.verdict(own)
    assert (told["word"], told["reasons"][0]["rival_certify"]) == ("stop", 0.5)


def test_without_anything_to_compare_with_there_is_no_go() -> None:
    for rivals in (
        [],
        [{"name": "pruned", "kind": "pruned", "seed": 0, "failed": "no", "cpu_seconds": 0.0}],
        LOSES[:2],
    ):
        assert words(proof([0.95] * 59, rivals)) == ("measure more", ["no rivals", "success"], ["proof"])


def test_a_missed_budget_is_a_failure_and_says_how_far_off_it_was() -> None:
    term = Verdict(Term("packet_bytes", 100), 150, 1.5, "measured").to_json()
    assert (term["met"], term["ratio"]) == (False, 1.5)
    assert not Verdict(Term("packet_bytes", 100), 90, 0.9, "estimated").to_json()["met"]
    own = proof([0.95] * 59)
    own["rows"][0]["terms"] = [term]
    criterion = Criterion.parse("accuracy >= 0.9", "classification", False)
    assert judge.why_not(own["rows"][0], criterion, own["bar"]) == [term["text"]]
    assert list(judge._budgets(own["rows"])) == [{"code": "budget", "term": "packet=100", "factor": 1.5, "seeds": 1}]


def test_a_broken_chain_and_an_early_stop_are_said() -> None:
    own = proof([0.95] * 59, seeds=60, max_cost_s=100.0)
    own["chosen"] = {"chain": {"passed": False, "links": [{"outcome": "failed", "what": "C", "against": "int8"}]}}
    assert words(own) == ("stop", ["chain", "success", "early"], ["proof"])
    assert judge.verdict(own)["reasons"][0]["link"] == "C = int8"
    own["chosen"]["chain"]["links"] = [{"outcome": "not run", "what": "C", "against": "int8"}]
    assert words(own) == ("measure more", ["unproven", "success", "early"], ["proof"])


def test_the_ticket_is_chosen_on_the_select_part_among_successes() -> None:
    own = proof([0.95, 0.99, 0.90])
    assert judge.chosen_seed(own["rows"], False) == 1  # 2 is better on select, but failed
    own["rows"][0]["select"] = 0.99
    assert judge.chosen_seed(own["rows"], False) == 0  # 1 is better on certify, which chooses nothing
    own["rows"][0]["select"] = 0.9
    assert judge.chosen_seed(own["rows"], True) == 0
    assert judge.chosen_seed(proof([0.1])["rows"], False) is None


def test_indicators_count_failed_searches_as_trials_and_costs() -> None:
    rows = [row(0), {"seed": 1, "failed": "no width", "cpu_seconds": 4.0, "wall_seconds": 5.0, "kind": "search"}]
    for one in rows:
        one["success"] = "failed" not in one
    sparser = [row(0, 0.5, asked=0.1, density=0.1, success=False), row(1, 0.96, asked=0.1, density=0.1, success=True)]
    rivals = [
        {"kind": "float", "name": name, "seed": 0, "cpu_seconds": seconds}
        for name, seconds in (("float", 7.0), ("float-int8", 8.0))
    ]
    told = indicators.summarise(rows, sparser, rivals, 0.9, {"joules": None})
    assert told["success"] == {
        "successes": 1,
        "trials": 2,
        "rate": 0.5,
        "lower": lower_bound(1, 2, 0.9),
        "upper": upper_bound(1, 2, 0.9),
        "confidence": 0.9,
    }
    assert told["sparsity"]["bytes"]["n"] == 1
    assert told["cost"]["search_cpu_seconds"] == 6.0
    assert told["cost"]["total_cpu_seconds"] == 6.0 + 4.0 + 8.0  # one training gave both float rows
    assert told["cost"]["per_success"] == {"expected": 6.0, "at_most": 3.0 / lower_bound(1, 2, 0.9)}
    assert [(step["density"], step["successes"], step["trials"]) for step in told["sparsity"]["ladder"]] == [
        (0.2, 1, 2),
        (0.1, 1, 2),
    ]


def test_records_are_sealed(tmp_path: Path) -> None:
    path = tmp_path / "poc.json"
    sealed = record.write({"format": record.FORMAT, "a": [1, {"b": 0.1}], "ü": "あ"}, path)
    assert record.read(path) == record.read(tmp_path) == sealed
    first = path.read_bytes()
    assert record.write(record.read(path), path)
    assert path.read_bytes() == first
    path.write_bytes(first.replace(b"0.1", b"0.2"))
    with pytest.raises(EquivalenceError, match="seal"):
        record.read(path)
    path.write_bytes(record.canonical({key: value for key, value in sealed.items() if key != "seal"}))
    with pytest.raises(EquivalenceError, match="seal"):
        record.read(path)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{", EdgeTicketError),
        (b"[1]", UsageError),
        (b'{"format":"other"}', UsageError),
        (b'{"format":"edgeticket-poc 1","a":NaN}', EdgeTicketError),
        (b'{"format":"edgeticket-poc 1","format":"edgeticket-poc 1"}', EdgeTicketError),
        (b"[" * 100_000, EdgeTicketError),
        (b"\xff\xfe", EdgeTicketError),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes, error: type) -> None:
    (tmp_path / "poc.json").write_bytes(content)
    with pytest.raises(error):
        record.read(tmp_path / "poc.json")


def test_energy_is_of_packages_and_counts_through_a_wrap(tmp_path: Path) -> None:
    def counter(zone: str, now: int) -> None:
        (tmp_path / zone).mkdir(exist_ok=True)
        (tmp_path / zone / "energy_uj").write_text(f"{now}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text("9999999\n")

    assert energy.read(tmp_path) is None
    counter("intel-rapl:0", 9_000_000)
    counter("intel-rapl:0:1", 5)  # a part of package 0
    before = energy.read(tmp_path)
    counter("intel-rapl:0", 1_000_000)
    counter("intel-rapl:0:1", 4_000_000)
    assert energy.joules(before, energy.read(tmp_path)) == pytest.approx(2.0)
    assert energy.joules(None, energy.read(tmp_path)) is None
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("not a number")
    assert energy.read(tmp_path) is None


def test_prices_are_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("currency: EUR\ndevices: 1000\nper_mb: 0.4\n")
    assert read_prices(path) == {"currency": "EUR", "devices": 1000, "per_mb": 0.4}
    for text in (
        "devices: 3",
        "currency: EUR\nper_mb: -1",
        "currency: EUR\nper_mb: .nan",
        "- 1",
        "currency: EUR\nx: 1",
        ":",
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match="prices"):
            read_prices(path)
    with pytest.raises(UsageError):
        read_prices(tmp_path / "none.yaml")


def test_verdicts_are_plain_json() -> None:
    own = judge.verdict(proof([0.95] * 20 + [0.5]))
    assert json.loads(json.dumps(own)) == own
