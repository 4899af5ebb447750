"""find --budget: what is narrowed, chosen, measured and said."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_c
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from edgeticket.auto import candidates, choose  # noqa: E402
from edgeticket.budget import Budget, amount  # noqa: E402
from edgeticket.cli import main  # noqa: E402
from edgeticket.compact import compact, prove  # noqa: E402
from edgeticket.data import Data  # noqa: E402
from edgeticket.errors import BudgetError, UsageError  # noqa: E402
from edgeticket.find import find  # noqa: E402
from edgeticket.network import network_plan  # noqa: E402
from edgeticket.packet import packed_bytes  # noqa: E402
from edgeticket.plan import Plan  # noqa: E402
from edgeticket.settings import Settings  # noqa: E402
from edgeticket.spending import spending  # noqa: E402
from edgeticket.ticket import read_ticket  # noqa: E402

QUICK = Settings(epochs=2, batch=64, seed=5)


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
    found = find(network_plan("conv:8,8", digits), digits, replace(QUICK, epochs=1, density=0.5), budget=Budget.parse("ram=100K"),
        control=False)  # fmt: skip
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
    done = CliRunner().invoke(main, [*words, "--budget", "ram=100K", "--density", "0.5"])
    assert done.exit_code == 3, done.output
    assert "estimated" in done.output
    assert read_ticket(tmp_path / "a.ticket").provenance["budget"] == "ram=100K"
    done = CliRunner().invoke(main, [*words, "--overwrite", "--budget", "macs=10"])
    assert done.exit_code == 3
    assert "cannot be met" in done.output
    assert "budget" in read_ticket(tmp_path / "a.ticket").provenance  # the old one is still there


@pytest.mark.slow
def test_a_budget_of_a_core_is_met_on_an_emulated_board(tmp_path: Path) -> None:
    tiny_c.need("make", "cc", "arm-none-eabi-gcc", "qemu-system-arm")
    path = tmp_path / "a.ticket"
    words = ["find", "-d", "digits", "-m", "conv:32,64,64", "--epochs", "3", "--no-control", "--density", "0.25"]
    words += ["--edges", "1", "-o", str(path), "--format", "json"]
    done = CliRunner().invoke(main, [*words, "--budget", "flash=8K@cortex-m0,ram=16K@cortex-m0"])
    assert done.exit_code == 0, done.stderr
    flash, ram = json.loads(done.stdout)["budget"]
    assert (flash["how"], ram["how"], flash["met"], ram["met"]) == ("simulated", "simulated", True, True)
    assert 0.9 * 8192 < flash["value"] <= 8192  # as wide as it may be
    assert flash["expected"] == pytest.approx(flash["value"], rel=0.03)
    assert ram["expected"] == pytest.approx(ram["value"], rel=0.01)
    assert max(read_ticket(path).narrow.widths().values()) < 64
    for budget, more in (("flash=1K@cortex-m0", "cannot be met"), ("instructions=100@cortex-m55", "cannot be met")):
        done = CliRunner().invoke(main, [*words, "--overwrite", "--budget", budget])
        assert done.exit_code == 3
        assert more in done.output


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


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_what_goes_on_is_what_is_better_by_the_task(digits: Data, lower_is_better: bool) -> None:
    plan = network_plan("conv:16,32,32", digits)
    budget, scores = Budget.parse("packet=1500"), iter([0.5, 0.4, 0.2, 0.6, 0.3, 0.1, 0.2, 0.7])

    def attempt(phase: str, plan: Plan, settings: Settings, share: float) -> tuple[float, float]:
        return next(scores), 1.0

    spend = partial(spending, plan, budget=budget, inputs={"input": digits.input}, latency=None)
    chosen, trials = choose(plan, QUICK, spend, attempt, lower_is_better)
    first, then = trials[:6], trials[6:]
    order = sorted(first, key=lambda trial: trial.score, reverse=not lower_is_better)
    assert [one.density for one in then] == [one.density for one in order[:2]]
    assert chosen.density == then[0 if lower_is_better else 1].density


def test_candidates_leave_small_filters_as_they_are(digits: Data) -> None:
    plan = network_plan("conv:16,32,32", digits)
    for own in candidates(plan, Settings(learn="none")):
        assert own.edge_counts(plan)["conv1"] == 8
        assert own.densities(plan)["conv1"] == pytest.approx(0.25)
        assert own.edge_counts(plan)["conv2"] == own.edges
    assert {own.edges for own in candidates(plan, Settings(signs="learned"))} == {1}
    assert {own.edges for own in candidates(plan, Settings(edges=2))} == {2}
    kept = [own.density * own.edges for own in candidates(plan, Settings(edges=2))]
    assert np.allclose(kept, [0.1, 0.25, 0.5, 1.0, 1.5])


def test_the_controls_are_what_they_are_called(digits: Data) -> None:
    """Uniform: the widths of uniform scaling; both decided on as the ticket is."""
    plan, budget, own = (
        network_plan("conv:16,32,32", digits),
        Budget.parse("kept_macs=12K"),
        replace(QUICK, density=0.2, edges=2),
    )
    found = find(plan, digits, own, budget=budget, uniform_control=True)
    uniform = found.controls["uniform"]
    spent = spending(plan, own, budget=budget, inputs={"input": digits.input}, latency=None)
    assert uniform.plan.widths() == spent.uniform.widths()
    for control in (uniform, found.controls["control"]):
        assert control.edges.keys() == found.ticket.edges.keys()
        assert control.learned.keys() == found.ticket.learned.keys()


def test_trials_are_judged_on_the_select_part(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of the certify part that are all wrong change no choice."""
    plan, budget = network_plan("conv:16,16", digits), Budget.parse("packet=1500")
    wrong = replace(digits, certify=(digits.certify[0], (digits.certify[1] + 1) % 10))
    right, other = (find(plan, data, QUICK, budget=budget, control=False) for data in (digits, wrong))
    assert [trial.score for trial in right.trials] == [trial.score for trial in other.trials]
    assert right.results[0].seconds > sum(trial.seconds for trial in right.trials)


def test_a_budget_that_only_the_floor_meets_is_met(digits: Data) -> None:
    """Estimates aim below the limit, but what fits the limit itself is not refused."""
    plan, own = network_plan("conv:8,8", digits), replace(QUICK, density=0.3, edges=1, epochs=1)
    least = sum(packed_bytes(compact(find(plan, digits, own).ticket)).values())
    found = find(plan, digits, own, budget=Budget.parse(f"packet={least + 2}"), control=False)
    assert found.verdicts[0].value == pytest.approx(least, abs=20)


def test_requests_without_sense(digits: Data) -> None:
    with pytest.raises(UsageError, match="--uniform-control"):
        find(network_plan("conv:8,8", digits), digits, QUICK, uniform_control=True)
    with pytest.raises(UsageError, match="--budget"):
        Budget.parse("")


def test_a_teacher_may_name_its_input_as_it_likes(digits: Data, tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.c, self.n = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)\n        self.f = nn.Linear(8, 10)\n\n"
        "    def forward(self, pixels):\n        return self.f(self.n(self.c(pixels)).relu().mean((2, 3)))\n"
    )
    plan = network_plan("conv:8,8", digits)
    plain, taught = (find(plan, digits, replace(QUICK, teacher=teacher)) for teacher in ("", f"{net}:Net"))
    assert [row.name for row in taught.results] == ["ticket", "teacher"]
    assert taught.ticket.to_bytes() != plain.ticket.to_bytes()
    assert taught.ticket.provenance["settings"]["teacher"].startswith("net.py:Net sha256 ")
