"""Budgets: words that come back, mistakes that are named, and one comparison that takes no estimate for a proof."""

from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeticket.budget import CORES, Budget, Cost, Term
from edgeticket.errors import UsageError

EVERYTHING = (
    "latency=2ms@cpu,packet=6K,flash=32K@cortex-m4,ram=20K,instructions=2M@cortex-m4,macs=1M,kept_macs=500K,file=1M"
)


def test_words_come_back() -> None:
    budget = Budget.parse(EVERYTHING)
    assert budget.words() == EVERYTHING
    assert [(term.resource, term.limit, term.target) for term in budget.terms] == [
        ("latency_ms", 2.0, "cpu"),
        ("packet_bytes", 6 * 1024, ""),
        ("flash_bytes", 32 * 1024, "cortex-m4"),
        ("ram_bytes", 20 * 1024, ""),
        ("instructions", 2_000_000, "cortex-m4"),
        ("macs", 1_000_000, ""),
        ("kept_macs", 500_000, ""),
        ("file_bytes", 1 << 20, ""),
    ]
    assert budget.targets == ("cpu", "", "cortex-m4")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("latency=250us@cpu", "latency=0.25ms@cpu"),
        ("latency=1.5s@cpu", "latency=1500ms@cpu"),
        ("packet=1.5k", "packet=1536"),
        (" packet=2048 , macs=2500000", "packet=2K,macs=2500K"),
        ("macs=3000M", "macs=3G"),
        ("ram=1M@cortex-m0,ram=20K", "ram=1M@cortex-m0,ram=20K"),
    ],
)
def test_other_spellings(given: str, words: str) -> None:
    assert Budget.parse(given).words() == words


@given(
    st.sampled_from([("latency_ms", "cpu"), ("packet_bytes", ""), ("instructions", "cortex-m33"), ("ram_bytes", "")]),
    st.floats(1e-9, 1e12),
)
def test_any_limit_comes_back(resource: tuple[str, str], limit: float) -> None:
    name, target = resource
    budget = Budget((Term(name, limit if name == "latency_ms" else float(int(limit) + 1), target),))
    assert Budget.parse(budget.words()) == budget


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is no resource: take latency, instructions"),
        ("speed=3", "'speed' is no resource"),
        ("packet", "'packet' needs an amount above 0, written as N, NK, NM"),
        ("packet=6X", "'packet=6X' needs an amount"),
        ("packet=6ms", "'packet=6ms' needs an amount"),
        ("packet=0", "'packet=0' needs an amount"),
        ("packet=0.1", "'packet=0.1' needs an amount"),
        ("packet=-6K", "'packet=-6K' needs an amount"),
        ("macs=nan", "'macs=nan' needs an amount"),
        ("macs=1e999", "'macs=1e999' needs an amount"),
        ("latency=2@cpu", "written as Nus, Nms, Ns"),
        ("latency=2ms", "a target is missing behind 'latency=2ms': write latency=2ms@cpu"),
        ("flash=1K", "a target is missing behind 'flash=1K': write flash=1K@cortex-m0, flash=1K@cortex-m3"),
        ("ram=20K@", "a target is missing behind 'ram=20K@': write ram=20K, ram=20K@cortex-m0"),
        ("latency=2ms@gpu", "'gpu' has no latency that is known: write latency=2ms@cpu"),
        ("instructions=2M@cpu", "'cpu' has no instructions that is known: write instructions=2M@cortex-m0"),
        ("packet=6K@cpu", "'cpu' has no packet that is known: write packet=6K"),
        ("macs=1M,packet=1K,macs=2M", "macs is given twice"),
    ],
)
def test_mistakes_say_what_is_possible(text: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        Budget.parse(text)
    assert says in str(error.value)


def test_only_what_was_found_out_is_met() -> None:
    budget = Budget.parse("packet=1K,macs=1M,kept_macs=1K,latency=2ms@cpu,flash=1K@cortex-m4,instructions=1M@cortex-m4")
    costs = (
        Cost("", "measured", packet_bytes=1024, macs=1_000_001),
        Cost("", "estimated", kept_macs=10),
        Cost("cpu", "measured", latency_ms=2.5),
        Cost("cortex-m4", "simulated", flash_bytes=1),
        Cost("cortex-m0", "measured", instructions=1),
    )
    told = {verdict.term.resource: verdict for verdict in budget.exceeded(costs)}
    assert list(told) == ["macs", "kept_macs", "latency_ms", "instructions"]
    assert [verdict.over for verdict in told.values()] == [True, False, True, False]
    assert told["macs"].ratio == pytest.approx(1.000001)
    assert told["kept_macs"].text() == "kept_macs=1K: 10, estimated, 0.01 of it: not shown to be met"
    assert told["latency_ms"].text() == "latency=2ms@cpu: 2.5ms, measured, 1.25 of it"
    assert (told["instructions"].value, told["instructions"].how) == (None, "none")
    assert told["instructions"].text() == "instructions=1M@cortex-m4: not found out"
    assert len(budget.judge(costs)) == len(budget.terms)


def test_what_was_measured_goes_before_an_estimate() -> None:
    budget = Budget.parse("ram=1K")
    measured, estimated = Cost("", "measured", ram_bytes=2048), Cost("", "estimated", ram_bytes=10)
    for costs in ((measured, estimated), (estimated, measured)):
        assert budget.judge(costs)[0].ratio == 2
    assert budget.judge((estimated, Cost("", "measured", macs=1)))[0].how == "estimated"
    assert budget.judge((Cost("", "none", ram_bytes=1),))[0].value is None


def test_no_number_is_not_met() -> None:
    assert Budget.parse("latency=1ms@cpu").exceeded([Cost("cpu", "measured", latency_ms=nan)])


def test_every_core_has_instructions_flash_and_ram() -> None:
    for core in CORES:
        Budget.parse(f"instructions=1M@{core},flash=1K@{core},ram=1K@{core}")
