"""Costs: estimates that are what a search then makes, and what a board then says; figures of a ticket."""

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import tiny_c
from cases import CASES, Case, random_ticket

from edgeticket import budget as budgets
from edgeticket import cost, stand_in
from edgeticket.architectures import conv as conv_nets
from edgeticket.architectures import resnet8
from edgeticket.bench import bench
from edgeticket.budget import Budget, Cost
from edgeticket.compact import compact
from edgeticket.core_table import CODE, STACK, WORK
from edgeticket.cost import Estimator, PacketEstimate, boots, measure, on_core
from edgeticket.footprint import Footprint
from edgeticket.packet import PARTS, packed_bytes
from edgeticket.plan import Plan
from edgeticket.settings import Settings
from edgeticket.stand_in import Chosen, Outlines, random_model
from edgeticket.ticket import Quant
from edgeticket.wire import pack

RESNET8 = resnet8.plan(32, 64, 64, input=(1, 28, 28), classes=10)
CONV = conv_nets.plan(16, 24, 32, input=(1, 20, 20), classes=10)
EVERY = [
    Settings(),
    Settings(density=0.1, edges=1),
    Settings(signs="learned", learn="none"),
    Settings(density=1 / 7, edges=2),
]


def chosen(plan: Plan, settings: Settings) -> Chosen:
    return Chosen.by(settings, plan)


def estimator(plan: Plan, settings: Settings, budget: str, **given) -> Estimator:
    return Estimator(Budget.parse(budget), chosen(plan, settings), **given)


def drawn(plan: Plan, own: Chosen, share: int = 1) -> Footprint:
    """A random network under the same choices, with ranges as a stand-in has them."""
    model = random_model(plan, own, share)
    quant = dict.fromkeys(model.plan.shapes, Quant(1.0, 0))
    like = Outlines(plan, own)(model.plan).model
    model = replace(model, inputs=like.inputs, quant=quant, scale=like.scale, bias=like.bias)
    return Footprint(model, pack(model))


# cores


def test_every_core_of_a_budget_has_a_column() -> None:
    for table in (CODE, STACK, WORK):
        assert {len(row) for row in table.values()} == {len(budgets.CORES)}
    assert min(min(row) for row in WORK.values()) >= 0


@pytest.mark.parametrize("boot", [False, True])
@pytest.mark.parametrize("settings", EVERY, ids=str)
def test_a_stand_in_has_the_footprint_of_a_network(settings: Settings, boot: bool) -> None:
    own = chosen(CONV, settings)
    guess, real = Outlines(CONV, own)(CONV, boot), drawn(CONV, own)
    real = Footprint(real.model, real.wire, boot)
    assert guess.ram_bytes == real.ram_bytes
    assert guess.table_bytes == real.table_bytes
    assert guess.code == real.code
    assert guess.model_bytes == pytest.approx(real.model_bytes, rel=0.02)
    assert guess.work.keys() == real.work.keys()
    for what, count in real.work.items():
        assert guess.work[what] == pytest.approx(count, rel=0.12), what


def test_a_narrower_stand_in_counts_the_maps_of_what_is_left() -> None:
    settings = Settings(density=0.5, edges=1, learn="none")
    own = chosen(CONV, settings)
    real = drawn(CONV, own, share=2)
    guess = Outlines(CONV, own)(real.model.plan)
    assert guess.wire.features == real.wire.features == {"IDS"}
    assert guess.model_bytes == pytest.approx(real.model_bytes, rel=0.03)
    assert guess.ram_bytes == real.ram_bytes
    assert guess.work["mapped"] == pytest.approx(real.work["mapped"], rel=0.15)


@pytest.mark.parametrize("settings", EVERY, ids=str)
def test_a_sketch_is_the_footprint_at_other_widths(settings: Settings) -> None:
    """But for RAM, which it has from the network that it was first asked of."""
    own, sizes = chosen(RESNET8, settings), {n: len(g.ids) for n, g in RESNET8.groups.items() if not g.fixed}
    outlines = Outlines(RESNET8, own)
    for share in (1, 2, 4, 3):
        plan = RESNET8.narrow(RESNET8.fill({name: np.arange(size) < size // share for name, size in sizes.items()}))
        sketch, full = outlines.sketch(plan), outlines(plan)
        assert sketch.model_bytes == full.model_bytes
        assert sketch.table_bytes == full.table_bytes
        assert sketch.code == full.code
        assert sketch.work == full.work
    assert len(outlines.known) == 2


def test_what_a_footprint_counts_by_hand() -> None:
    """Two 3x3 convolutions of 2 and 3 filters over 4x4 positions, the first int8, the second of 5 kept edges; a head of int8."""
    plan = conv_nets.plan(2, 3, input=(1, 4, 4), classes=2)
    own = Chosen(dict.fromkeys(plan.weights(), 5 / 18), dict.fromkeys(plan.weights(), 1), frozenset({"conv1", "head"}))
    made = Outlines(plan, own)(plan)
    (rows, columns), pitch = plan.shapes["conv2"][1:], made.network.steps.wanted(plan["conv2"]).pitch
    tiles = -(-((rows - 1) * pitch + columns) // 16)
    assert made.work["entries"] == 3 * 5
    assert made.work["mask words"] == made.work["sign words"] == 3
    assert made.work["adds u8"] + made.work["half adds u8"] == 3 * 5 * tiles
    assert made.work["codes"] + made.work["slow codes"] == prod(plan.shapes["conv1"]) + prod(plan.shapes["conv2"])
    assert made.work["weights"] == 2 * 9
    assert made.work["single products"] == 3 * 2
    assert made.work["layers"] == 4
    assert made.code["et_conv_u8()"] == 2
    assert made.code["et_conv"] == 3  # the head's too
    booted = Outlines(plan, own)(plan, True)
    assert booted.work["entries"] == 0
    assert booted.ram_bytes > made.ram_bytes


def test_what_it_comes_to_on_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Outlines(CONV, chosen(CONV, Settings()))(CONV)
    monkeypatch.setattr(cost, "CODE", {"core.h": (0, 0, 100.4, 0, 0, 0), "et_conv": (0, 0, 10, 0, 0, 0)})
    monkeypatch.setattr(cost, "WORK", {"codes": (0, 0, 2.5, 0, 0, 0)})
    monkeypatch.setattr(cost, "STACK", {"core.h": (0, 0, 50, 0, 0, 0), "keys of CONV": (0, 0, 20, 0, 0, 0)})
    found = on_core(made, "cortex-m4", Cost("cortex-m4", "estimated"))
    assert found.flash_bytes == made.model_bytes + made.table_bytes + 100 + 10 * made.code["et_conv"]
    assert found.instructions == round(2.5 * made.work["codes"])
    assert found.ram_bytes == made.ram_bytes + 50 + 20 * 3
    assert made.code["et_conv"] > 1


def test_costs_by_hand() -> None:
    """Stem learned; one edge and half of 8 * 9 = 72 weights in each of 8 filters; head learned."""
    plan = conv_nets.plan(8, 8, input=(1, 4, 4), classes=2)
    own = Chosen(dict.fromkeys(plan.weights(), 0.25), dict.fromkeys(plan.weights(), 2), frozenset({"conv1", "head"}))
    positions, learned = plan.positions("conv2"), 8 * 9 * 16 + 16
    budget = Budget.parse("packet=1K,latency=1ms@cpu,flash=1K@cortex-m3")
    told = Estimator(budget, own, Outlines(plan, own), lambda plan: 77, lambda plan: 1.25)
    anywhere, cpu, core = told.costs(plan)
    assert anywhere.kept_macs == cpu.kept_macs == core.kept_macs == 8 * 36 * positions + learned
    assert anywhere.ram_bytes == plan.peak_activations() + cost.ANY_STACK
    assert anywhere.packet_bytes == 77
    assert (cpu.latency_ms, cpu.instructions, cpu.ram_bytes, cpu.packet_bytes) == (1.25, None, None, None)
    assert (core.latency_ms, core.packet_bytes, core.target, core.how) == (None, None, "cortex-m3", "estimated")
    assert core.flash_bytes > 8 * 9 + 8 * 2
    unknown = Estimator(budget, own)
    assert [verdict.value for verdict in unknown.judge(plan)] == [None, None, None]


@pytest.mark.parametrize("settings", EVERY, ids=str)
def test_a_search_keeps_as_many_edges(settings: Settings) -> None:
    pytest.importorskip("torch")
    from edgeticket.masked import Choices, MaskedNet
    from edgeticket.weights import MaskedWeight

    for plan in (RESNET8, *(CASES[name].plan for name in ("depthwise", "slices, shuffle and grouped", "transposed"))):
        own = chosen(plan, settings)
        net = MaskedNet(plan, 0, Choices(own.densities, own.edges, own.learned))
        weights = {name: net.cell(name).weight for name in net.names}
        kept = {
            name: weight.k * plan.widths()[name] if isinstance(weight, MaskedWeight) else plan.weights()[name]
            for name, weight in weights.items()
        }
        found = Estimator(Budget.parse("macs=1"), own).cost(plan, "")
        assert found.kept_macs == sum(count * plan.positions(name) for name, count in kept.items())


# packed bytes


@pytest.mark.parametrize("settings", [Settings(), Settings(signs="learned"), Settings(density=0.1, edges=1)], ids=str)
def test_packets_are_as_long_as_estimated(settings: Settings) -> None:
    """Of other widths and other random choices than the lines were drawn through."""
    own = chosen(RESNET8, settings)
    guess = PacketEstimate(RESNET8, own)
    for share in (1, 3, 6):
        model = random_model(RESNET8, own, share)
        assert guess(model.plan) == pytest.approx(sum(packed_bytes(model).values()), rel=0.02)


def test_every_part_of_a_packet_has_a_line() -> None:
    guess = PacketEstimate(RESNET8, replace(chosen(RESNET8, Settings()), learned=frozenset({"stem"})))
    assert set(guess.lines) == set(PARTS) - {"flips"}
    assert {part for part in guess._features(RESNET8)} <= set(PARTS)
    assert [part for part, (_, slope) in guess.lines.items() if slope] == ["masks", "int8", "per filter"]


def test_random_masks_keep_k_edges_and_parallel_ones_in_order() -> None:
    rng = np.random.default_rng(3)
    signs = rng.choice(np.array([-1, 1], np.int8), (6, 3, 10, 3, 3))
    mask = stand_in.random_sums(signs, 50, False, rng)[0]
    assert (mask.reshape(6, -1).sum(1) == 50).all()
    for side in (-1, 1):
        kept, able = mask & (signs == side), signs == side
        for edge in (1, 2):
            earlier = able[:, :edge] & ~kept[:, :edge]
            assert not (kept[:, edge : edge + 1] & earlier).any()
    assert not ((mask & (signs > 0)).any(1) & (mask & (signs < 0)).any(1)).any()
    assert (stand_in.random_sums(signs, 50, True, rng)[0].reshape(6, -1).sum(1) == 50).all()


# tickets


def test_a_ticket_is_counted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "bench", None)  # nothing asks for it
    monkeypatch.setattr(cost, "export", None)
    ticket = random_ticket(CASES["residual, 3 edges"])
    model, budget = compact(ticket), Budget.parse("packet=1K,kept_macs=1M,macs=1M,ram=64K")
    costs = measure(ticket, budget)
    told = {verdict.term.resource: verdict for verdict in budget.judge(costs)}
    assert told["packet_bytes"].value == sum(packed_bytes(model).values())
    assert told["kept_macs"].value == sum(model.kept_macs().values())
    assert told["macs"].value == sum(model.plan.macs().values())
    assert {name: verdict.how for name, verdict in told.items()} == {
        **dict.fromkeys(("packet_bytes", "kept_macs", "macs"), "measured"),
        "ram_bytes": "estimated",
    }


def test_without_the_tools_a_core_is_estimated_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    ticket, budget = random_ticket(CASES["plain"]), Budget.parse("flash=1M@cortex-m4,instructions=1G@cortex-m4")
    verdicts = budget.judge(measure(ticket, budget))
    assert [verdict.how for verdict in verdicts] == ["estimated", "estimated"]
    assert not any(verdict.over or verdict.met for verdict in verdicts)
    assert "cortex-m4: estimated and not simulated: no make, arm-none-eabi-gcc" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_a_ticket_is_measured_on_a_board_and_the_estimate_was_near(core: str, tmp_path: Path) -> None:
    tiny_c.need("make", "cc", "arm-none-eabi-gcc", "qemu-system-arm")
    ticket = random_ticket(Case(CONV, edges=3, density=1 / 6, keep=1.0, zero_offset=True))
    budget = Budget.parse(f"flash=1M@{core},ram=1M@{core},instructions=1G@{core}")
    guess, found, _ = [one for one in measure(ticket, budget) if one.target != ""] + [None]
    assert (guess.how, found.how) == ("estimated", "simulated")
    assert all(verdict.met and verdict.how == "simulated" for verdict in budget.judge((guess, found)))
    cost.export(ticket, "c", tmp_path / "net", core=core)
    (report,) = bench([tmp_path / "net"], on=core)
    assert replace(report.cost, file_bytes=None) == replace(found, file_bytes=None)  # it has the name in it
    assert guess.flash_bytes == pytest.approx(found.flash_bytes, rel=0.03)
    assert guess.ram_bytes == pytest.approx(found.ram_bytes, rel=0.01)
    assert guess.instructions == pytest.approx(found.instructions, rel=0.1)
    assert boots(core) == (core == "cortex-m55")


def test_an_onnx_file_is_about_as_large_as_estimated() -> None:
    ticket = random_ticket(Case(resnet8.plan(8, 16, 16, input=(1, 28, 28), classes=10), keep=1.0))
    budget = Budget.parse("file=1M")
    _, counted = measure(ticket, budget)
    model = compact(ticket)
    estimated = cost._counted(model.plan, {name: own.kept for name, own in model.weights.items()}, "")
    assert (counted.how, budget.exceeded((estimated, counted))) == ("measured", ())
    assert estimated.file_bytes == pytest.approx(counted.file_bytes, rel=0.03)


def test_latency_is_measured_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def bench(paths: list, **options) -> list:
        asked.append((paths[0].exists(), options))
        return real(paths, runs=25, **options)

    real = cost.bench
    monkeypatch.setattr(cost, "bench", bench)
    budget = Budget.parse(["latency=1s@cpu", "latency=1ms@cpu"][0])
    costs = measure(random_ticket(CASES["plain"]), budget, threads=2)
    assert asked == [(True, {"on": "cpu", "threads": 2})]
    assert budget.exceeded(costs) == ()
    assert budget.judge(costs)[0].how == "measured"


def test_judging_a_plan() -> None:
    settings = Settings()
    judge = estimator(
        RESNET8, settings, "packet=1K,latency=1ms@cpu", packet=lambda plan: 2048, latency=lambda plan: 0.5
    ).judge
    assert [verdict.ratio for verdict in judge(RESNET8)] == [2, 0.5]
    unknown = estimator(RESNET8, settings, "packet=1K,latency=1ms@cpu")
    assert [verdict.value for verdict in unknown.judge(RESNET8)] == [None, None]
