"""Costs: formulas that are what was measured once, estimates that are what a search then makes, figures of a ticket."""

from math import prod

import numpy as np
import pytest
from cases import CASES, Case, random_ticket

from edgeticket import budget as budgets
from edgeticket import cost
from edgeticket.architectures import conv as conv_nets
from edgeticket.architectures import resnet8
from edgeticket.budget import Budget
from edgeticket.compact import compact
from edgeticket.cost import CORES, Estimator, PacketEstimate, estimate, measure
from edgeticket.packet import PARTS, packed_bytes
from edgeticket.plan import Plan
from edgeticket.settings import Settings

RESNET8 = resnet8.plan(32, 64, 64, input=(1, 28, 28), classes=10)

# the lab's networks (../shared/research/mcu-lab.md): of each layer weights, positions and filters
CNN = ((144, 784, 16), (4608, 196, 32), (9216, 49, 32), (320, 1, 10))
WIDE = ((288, 784, 32), (18432, 196, 64), (36864, 49, 64), (640, 1, 10))
BIG = ((36864, 49, 64), (640, 1, 10))
# million instructions of form (h), by density; and of CMSIS-NN int8
MASKED = {
    "cortex-m0": [(CNN, {0.5: 6.0}), (BIG, {0.5: 4.7})],
    "cortex-m3": [
        (CNN, {0.25: 2.13, 0.5: 2.88, 0.75: 3.63, 0.9: 4.09}),
        (BIG, {0.25: 1.20, 0.5: 2.23, 0.75: 3.15, 0.9: 3.74}),
        (WIDE, {0.5: 8.6}),
    ],
    "cortex-m4": [
        (CNN, {0.25: 1.93, 0.5: 2.45, 0.75: 2.97, 0.9: 3.31}),
        (BIG, {0.25: 0.95, 0.5: 1.69, 0.75: 2.35, 0.9: 2.78}),
        (WIDE, {0.5: 6.9}),
    ],
    "cortex-m55": [(CNN, {0.5: 2.20}), (BIG, {0.5: 1.19})],
}
INT8 = {
    "cortex-m0": [(CNN, {1: 12.0}), (BIG, {1: 11.8})],
    "cortex-m3": [(CNN, {1: 5.30}), (BIG, {1: 4.97}), (WIDE, {1: 16.9})],
    "cortex-m4": [(CNN, {1: 3.97}), (BIG, {1: 3.25}), (WIDE, {1: 11.8})],
    "cortex-m55": [(CNN, {1: 0.87}), (BIG, {1: 0.39})],
}
FLASH = [(CNN, 6.3), (BIG, 9.5), (WIDE, 13.7)]  # K = 1024


def lab_rows(measured: list) -> list[tuple[int, int, float]]:
    """Kept MACs, outputs, instructions."""
    return [
        (sum(f * int(d * w // f + 0.5) * p for w, p, f in net), sum(p * f for _, p, f in net), million * 1e6)
        for net, by_density in measured
        for d, million in by_density.items()
    ]


def lab_fit(measured: list) -> np.ndarray:
    """Instructions per kept MAC and per output; least squares of relative errors."""
    table = np.array(lab_rows(measured))
    return np.linalg.lstsq(table[:, :2] / table[:, 2:], np.ones(len(table)), rcond=None)[0]


@pytest.mark.parametrize("name", MASKED)
def test_instructions_are_those_of_the_lab(name: str) -> None:
    core = CORES[name]
    assert (core.add, core.output) == pytest.approx(lab_fit(MASKED[name]), rel=0.01)
    assert core.learned == pytest.approx(lab_fit(INT8[name])[0], rel=0.02)
    for adds, outputs, count in lab_rows(MASKED[name]):
        assert core.add * adds + core.output * outputs == pytest.approx(count, rel=0.04)


def test_flash_is_that_of_the_lab() -> None:
    table = [(1, sum(w for w, *_ in net), sum(f for *_, f in net)) for net, _ in FLASH]
    solved = np.linalg.solve(np.array(table, float), np.array([kilo * 1024 for _, kilo in FLASH]))
    assert pytest.approx(solved, rel=0.005) == (cost.FLASH_CODE, cost.FLASH_EDGE, cost.FLASH_CHANNEL)


def test_every_core_of_a_budget_has_a_formula() -> None:
    assert tuple(CORES) == budgets.CORES


def test_the_labs_network_costs_what_the_lab_measured() -> None:
    plan = conv_nets.plan(16, 32, 32, input=(1, 28, 28), classes=10)
    every = plan.weights()
    found = estimate(plan, dict.fromkeys(every, 0.5), dict.fromkeys(every, 1), frozenset(), "cortex-m4")
    assert found.instructions == pytest.approx(2.45e6, rel=0.02)
    assert found.flash_bytes == pytest.approx(6.3 * 1024, rel=0.01)
    assert (found.macs, found.how) == (1_467_968, "estimated")


def estimator(plan: Plan, settings: Settings, budget: str, **given) -> Estimator:
    choices = settings.densities(plan), settings.edge_counts(plan), settings.learned(plan)
    return Estimator(Budget.parse(budget), *choices, **given)


def test_costs_by_hand() -> None:
    """Stem learned; one edge and half of 8 * 9 = 72 weights in each of 8 filters; head learned."""
    plan = conv_nets.plan(8, 8, input=(1, 4, 4), classes=2)
    edges, densities = dict.fromkeys(plan.weights(), 2), dict.fromkeys(plan.weights(), 0.25)
    given = densities, edges, frozenset({"conv1", "head"})
    positions, learned = plan.positions("conv2"), 8 * 9 * 16 + 16
    adds, outputs = 8 * 36 * positions, 8 * 16 + 8 * positions + 2
    core = CORES["cortex-m3"]
    found = estimate(plan, *given, "cortex-m3")
    assert found.kept_macs == adds + learned
    assert found.instructions == round(core.add * adds + core.output * outputs + core.learned * learned)
    assert found.ram_bytes == plan.peak_activations() + cost.STACK
    assert found.packet_bytes is None
    assert estimate(plan, *given, packet=lambda plan: 77).packet_bytes == 77
    cpu = estimate(plan, *given, "cpu", packet=lambda plan: 77, latency=lambda plan: 1.25)
    assert (cpu.latency_ms, cpu.instructions, cpu.ram_bytes, cpu.packet_bytes) == (1.25, None, None, None)
    assert estimate(plan, *given, "cpu").latency_ms is None


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(density=0.1, edges=1),
        Settings(signs="learned", learn="none"),
        Settings(density=1 / 7, edges=2),
    ],
    ids=str,
)
def test_a_search_keeps_as_many_edges(settings: Settings) -> None:
    pytest.importorskip("torch")
    from edgeticket.masked import Choices, MaskedNet
    from edgeticket.weights import MaskedWeight

    for plan in (RESNET8, *(CASES[name].plan for name in ("depthwise", "slices, shuffle and grouped", "transposed"))):
        densities, edges, learned = settings.densities(plan), settings.edge_counts(plan), settings.learned(plan)
        net = MaskedNet(plan, 0, Choices(densities, edges, learned))
        weights = {name: net.cell(name).weight for name in net.names}
        kept = {
            name: weight.k * plan.widths()[name] if isinstance(weight, MaskedWeight) else plan.weights()[name]
            for name, weight in weights.items()
        }
        found = estimate(plan, densities, edges, learned)
        assert found.kept_macs == sum(count * plan.positions(name) for name, count in kept.items())


# packed bytes


@pytest.mark.parametrize("settings", [Settings(), Settings(signs="learned"), Settings(density=0.1, edges=1)], ids=str)
def test_packets_are_as_long_as_estimated(settings: Settings) -> None:
    """Of other widths and other random choices than the lines were drawn through."""
    signed, final = settings.signs == "learned", RESNET8
    choices = settings.densities(final), settings.edge_counts(final), settings.learned(final)
    guess = PacketEstimate(RESNET8, *choices, signed)
    for share in (1, 3, 6):
        model = cost._random_model(RESNET8, *choices, signed, share, {})
        assert guess(model.plan) == pytest.approx(sum(packed_bytes(model).values()), rel=0.02)


def test_every_part_of_a_packet_has_a_line() -> None:
    settings = Settings()
    guess = PacketEstimate(RESNET8, settings.densities(RESNET8), settings.edge_counts(RESNET8), frozenset({"stem"}))
    assert set(guess.lines) == set(PARTS) - {"flips"}
    assert {part for part in guess._features(RESNET8)} <= set(PARTS)
    assert [part for part, (_, slope) in guess.lines.items() if slope] == ["masks", "int8", "per filter"]


def test_random_masks_keep_k_edges_and_parallel_ones_in_order() -> None:
    rng = np.random.default_rng(3)
    signs = rng.choice(np.array([-1, 1], np.int8), (6, 3, 10, 3, 3))
    mask = cost._random_sums(signs, 50, False, rng)[0]
    assert (mask.reshape(6, -1).sum(1) == 50).all()
    for side in (-1, 1):
        kept, able = mask & (signs == side), signs == side
        for edge in (1, 2):
            earlier = able[:, :edge] & ~kept[:, :edge]
            assert not (kept[:, edge : edge + 1] & earlier).any()
    assert not ((mask & (signs > 0)).any(1) & (mask & (signs < 0)).any(1)).any()
    assert (cost._random_sums(signs, 50, True, rng)[0].reshape(6, -1).sum(1) == 50).all()


# tickets


def test_a_ticket_is_counted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "bench", None)  # nothing asks for it
    monkeypatch.setattr(cost, "export", None)
    ticket = random_ticket(CASES["residual, 3 edges"])
    model, budget = compact(ticket), Budget.parse("packet=1K,kept_macs=1M,macs=1M,ram=64K,instructions=10M@cortex-m0")
    costs = measure(ticket, budget)
    told = {verdict.term.resource: verdict for verdict in budget.judge(costs)}
    assert told["packet_bytes"].value == sum(packed_bytes(model).values())
    assert told["kept_macs"].value == sum(model.kept_macs().values())
    assert told["macs"].value == sum(model.plan.macs().values())
    assert {name: verdict.how for name, verdict in told.items()} == {
        **dict.fromkeys(("packet_bytes", "kept_macs", "macs"), "measured"),
        **dict.fromkeys(("ram_bytes", "instructions"), "estimated"),
    }
    core, positions = CORES["cortex-m0"], model.plan.positions
    adds = sum(model.weights[name].kept * positions(name) for name in ticket.masks)
    multiplies = sum(model.weights[name].kept * positions(name) for name in ticket.learned)
    outputs = sum(prod(model.plan.shapes[name]) for name in model.weights)
    assert told["instructions"].value == round(core.add * adds + core.output * outputs + core.learned * multiplies)


def test_an_onnx_file_is_about_as_large_as_estimated() -> None:
    ticket = random_ticket(Case(resnet8.plan(8, 16, 16, input=(1, 28, 28), classes=10), keep=1.0))
    budget = Budget.parse("file=1M")
    estimated, counted = measure(ticket, budget)
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
