"""find --budget: what is narrowed, chosen, measured and said."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from edgeticket.auto import candidates  # noqa: E402
from edgeticket.budget import Budget, amount  # noqa: E402
from edgeticket.cli import main  # noqa: E402
from edgeticket.compact import compact, prove  # noqa: E402
from edgeticket.data import Data, load  # noqa: E402
from edgeticket.errors import BudgetError, UsageError  # noqa: E402
from edgeticket.find import find  # noqa: E402
from edgeticket.network import network_plan  # noqa: E402
from edgeticket.packet import packed_bytes  # noqa: E402
from edgeticket.plan import Plan  # noqa: E402
from edgeticket.settings import Settings  # noqa: E402
from edgeticket.ticket import read_ticket  # noqa: E402

QUICK = Settings(epochs=2, batch=64, seed=5)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


def test_bytes_and_work_choose_width_density_and_edges_together(digits: Data) -> None:
    plan, budget = network_plan("conv:16,32,32", digits), Budget.parse("packet=1500,kept_macs=20K")
    found = find(plan, digits, QUICK, budget=budget, uniform_control=True)
    ticket = found.ticket
    packed, kept = sum(packed_bytes(compact(ticket)).values()), sum(compact(ticket).kept_macs().values())
    assert [verdict.value for verdict in found.verdicts] == [packed, kept]
    assert all(verdict.met for verdict in found.verdicts)
    for verdict, guess in zip(found.verdicts, found.expected, strict=True):
        assert guess.value == pytest.approx(verdict.value, rel=0.05)
    assert all(width % 8 == 0 for name, width in ticket.narrow.widths().items() if name != "head")
    assert prove(ticket, digits.select[0]) < 1e-9
    assert [row.name for row in found.results] == ["ticket", "control", "uniform"]
    control = found.controls["control"]
    assert control.narrow.widths() == ticket.narrow.widths()
    assert control.edges == ticket.edges
    assert [trial.share for trial in found.trials].count(0.25) == 2
    best = max(found.trials[-2:], key=lambda trial: trial.score)
    assert ticket.provenance["settings"]["edges"].startswith(str(best.edges))
    assert ticket.provenance["budget"] == budget.words()
    told = json.loads(json.dumps(found.to_json()))
    assert [term["met"] for term in told["budget"]] == [True, True]
    assert len(told["trials"]) == len(found.trials)
    assert f"budget packet=1500: {amount('packet_bytes', packed, 4)}, measured" in found.text()


@dataclass
class Linear:
    """Milliseconds by MACs; `asked`: how many plans it was told of before."""

    per_mac: float
    asked: list[int] = field(default_factory=list)

    def fill(self, plans: Sequence[Plan]) -> None:
        self.asked.append(len(plans))

    def predict(self, plan: Plan) -> float:
        return self.per_mac * sum(plan.macs().values())


def test_latency_is_estimated_while_searching_and_measured_afterwards(digits: Data) -> None:
    plan = network_plan("conv:32,64,64", digits)
    full = sum(plan.macs().values())
    latency = Linear(1e3 / full)  # a second for the wide network
    found = find(plan, digits, QUICK, budget=Budget.parse("latency=250ms@cpu"), latency=latency, control=False)
    (verdict,), (guess,) = found.verdicts, found.expected
    assert guess.value == pytest.approx(latency.predict(found.ticket.narrow))
    assert 100 < guess.value <= 250
    assert verdict.how == "measured"
    assert 0 < verdict.value < 100  # no network of this size takes a quarter of a second
    assert sum(latency.asked) > 3
    assert not found.trials  # density costs no time here
    found.require_budget()


def test_what_no_one_measured_is_never_called_met(digits: Data) -> None:
    found = find(network_plan("conv:8,8", digits), digits, replace(QUICK, epochs=1, density=0.5), budget=Budget.parse(
        "instructions=50M@cortex-m4,ram=100K"), control=False)  # fmt: skip
    assert all(verdict.how == "estimated" and not verdict.over for verdict in found.verdicts)
    with pytest.raises(BudgetError, match=r"estimated.*not shown to be met"):
        found.require_budget()


def test_the_command_writes_what_it_found_and_exits_3(tmp_path: Path) -> None:
    words = [
        "find",
        "-d",
        "digits",
        "-m",
        "conv:8,8",
        "--epochs",
        "1",
        "--no-control",
        "-o",
        str(tmp_path / "a.ticket"),
    ]
    done = CliRunner().invoke(main, [*words, "--budget", "instructions=50M@cortex-m4", "--density", "0.5"])
    assert done.exit_code == 3, done.output
    assert "estimated" in done.output
    assert read_ticket(tmp_path / "a.ticket").provenance["budget"] == "instructions=50M@cortex-m4"
    done = CliRunner().invoke(main, [*words, "--overwrite", "--budget", "macs=10"])
    assert done.exit_code == 3
    assert "cannot be met" in done.output
    assert "budget" in read_ticket(tmp_path / "a.ticket").provenance  # the old one is still there


def test_contradictions_are_usage_errors(digits: Data) -> None:
    plan = network_plan("conv:8,8", digits)
    with pytest.raises(UsageError, match="--keep and --budget"):
        find(plan, digits, replace(QUICK, keep=0.5), budget=Budget.parse("macs=1M"))
    with pytest.raises(UsageError, match="latency table"):
        find(plan, digits, QUICK, budget=Budget.parse("latency=1ms@cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["8 edges, density 0.188, 10% of the steps", "ticket", "uniform"])
def test_resumed_under_a_budget_is_the_same_file(digits: Data, stop: str, tmp_path: Path) -> None:
    plan, budget = network_plan("conv:16,32,32", digits), Budget.parse("packet=2K")
    whole = find(plan, digits, QUICK, budget=budget, control=False, uniform_control=True)
    path, seen = tmp_path / "a.checkpoint", []

    def interrupt(progress) -> None:
        seen.append(progress.phase)
        if progress.phase == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find(plan, digits, QUICK, budget=budget, control=False, uniform_control=True, checkpoint=path, report=interrupt)
    again = find(plan, digits, QUICK, budget=budget, control=False, uniform_control=True, checkpoint=path)
    assert again.ticket.to_bytes() == whole.ticket.to_bytes()
    assert [trial.score for trial in again.trials] == [trial.score for trial in whole.trials]


def test_candidates_leave_small_filters_as_they_are(digits: Data) -> None:
    plan = network_plan("conv:16,32,32", digits)
    for own in candidates(plan, Settings(learn="none")):
        assert own.edge_counts(plan)["conv1"] == 8
        assert own.densities(plan)["conv1"] == pytest.approx(0.25)
        assert own.edge_counts(plan)["conv2"] == own.edges
    assert {own.edges for own in candidates(plan, Settings(signs="learned"))} == {1}
    assert {own.edges for own in candidates(plan, Settings(edges=2))} == {2}
    kept = [own.density * own.edges for own in candidates(plan, Settings(edges=2))]
    assert np.allclose(kept, [0.1, 0.25, 0.25, 0.5, 1.0, 1.5])
