"""The search: determinism, resumption, exact k, physical removal, controls, and honest refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, chain, graph

torch = pytest.importorskip("torch")

from edgeticket.cells import FIRST_SLOPE, Cell  # noqa: E402
from edgeticket.compact import compact, masked, prove  # noqa: E402
from edgeticket.data import Data, load  # noqa: E402
from edgeticket.errors import (  # noqa: E402
    DataError,
    EdgeTicketError,
    InsufficientDataError,
    UnsupportedError,
    UsageError,
)
from edgeticket.export import export  # noqa: E402
from edgeticket.find import find  # noqa: E402
from edgeticket.found import Found, Result  # noqa: E402
from edgeticket.masked import Choices, MaskedNet  # noqa: E402
from edgeticket.model import Model  # noqa: E402
from edgeticket.network import network_plan  # noqa: E402
from edgeticket.ops import (  # noqa: E402
    Add,
    Concat,
    ConvTranspose,
    DepthToSpace,
    Flatten,
    Gather,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool,
    Mul,
    Norm,
    Op,
    PRelu,
    conv,
)
from edgeticket.plan import Plan  # noqa: E402
from edgeticket.reference import run  # noqa: E402
from edgeticket.search._shrink import _keep_best  # noqa: E402
from edgeticket.search._teaching import Teaching  # noqa: E402
from edgeticket.search._training import Progress  # noqa: E402
from edgeticket.search.edge_popup import EdgePopup  # noqa: E402
from edgeticket.search.subset_sum import SubsetSum  # noqa: E402
from edgeticket.settings import Settings  # noqa: E402
from edgeticket.ticket import parse_ticket  # noqa: E402
from edgeticket.verify import verify  # noqa: E402
from edgeticket.weights import LearnedWeight, MaskedWeight, keep_top  # noqa: E402

QUICK = Settings(epochs=3, batch=64, seed=5)


def reached(result: Result) -> float:
    """Accuracy, AUC or relative error on the certify part."""
    return result.task.headline(result.certify)


def test_same_seed_twice_is_the_same_file_and_learns(digits: Data) -> None:
    plan = network_plan("conv:16,32,32", digits)
    assert reached(find(plan, digits, replace(QUICK, epochs=6), control=False).results[0]) > 0.85  # chance is 0.10
    brief = replace(QUICK, epochs=1)
    first, second, other = (find(plan, digits, replace(brief, seed=one), control=False).ticket for one in (5, 5, 6))
    assert first.to_bytes() == second.to_bytes()
    assert other.to_bytes() != first.to_bytes()


def series(spreads: tuple[float, float, float], count: int = 600) -> dict:
    """Two classes that differ in the first of three channels alone: a wave or none, in noise; the others are noise."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 2
    x = rng.normal(0, 1, (count, 3, 32))
    x[:, 0] += y[:, None] * 1.5 * np.sin(np.arange(32) / 2)
    return {"x_train": (x * np.reshape(spreads, (3, 1))).astype(np.float32), "y_train": y}


def test_a_small_channel_is_learned_as_well_as_if_rescaled_by_hand(tmp_path) -> None:
    found = {}
    for name, spreads in (("as measured", (0.01, 50, 1)), ("by hand", (1, 1, 1))):
        np.savez(tmp_path / f"{name}.npz", **series(spreads))
        data = load(tmp_path / f"{name}.npz", layout="series")
        settings = replace(QUICK, epochs=4, density=0.5)
        found[name] = reached(find(network_plan("conv:8,16", data), data, settings).results[0])
    assert found["by hand"] > 0.9  # chance is 0.5
    assert found["as measured"] == pytest.approx(found["by hand"], abs=0.02)


def test_every_filter_keeps_exactly_k(digits: Data) -> None:
    settings = replace(QUICK, epochs=1, density=0.1, edges=2, learn="none", layer_density={"conv2": 0.3})
    plan = network_plan("conv:16,32,32", digits)
    ticket = find(plan, digits, settings).ticket
    for name, mask in ticket.masks.items():
        _, *rest = plan.weight_shape(plan[name])
        expected = {"conv1": 0.5, "conv2": 0.3}.get(name, 0.1)  # conv1 has fewer than 32 inputs: at least one half
        counts = mask.reshape(len(mask), -1).sum(1)
        assert set(counts.tolist()) == {max(1, round(expected * 2 * prod(rest)))}, name


def test_keep_removes_channels_during_the_search(digits: Data) -> None:
    plan = network_plan("conv:32,64,64", digits)
    found = find(plan, digits, replace(QUICK, keep=0.25, epochs=4))
    assert found.ticket.narrow.widths() == {"conv1": 8, "conv2": 16, "conv3": 16, "head": 10}
    assert prove(found.ticket, digits.select[0][:20]) < 1e-9
    control = found.results[1]
    assert control.name == "control"
    assert control.widths == found.results[0].widths
    assert found.verdict() is not None


def test_the_shortest_search_still_removes(digits: Data) -> None:
    plan = network_plan("conv:16,16", digits)
    ticket = find(plan, digits, replace(QUICK, keep=0.5, epochs=1, batch=1000), control=False).ticket
    assert ticket.narrow.widths() == {"conv1": 8, "conv2": 8, "head": 10}


def test_residual_groups_leave_together(digits: Data) -> None:
    plan = network_plan("resnet8:16,16,16", digits)
    ticket = find(plan, digits, replace(QUICK, keep=0.5, epochs=1), control=False).ticket
    narrow = ticket.narrow
    assert narrow.widths()["stem"] == narrow.widths()["block1_conv2"] == 8
    assert prove(ticket, digits.select[0][:20]) < 1e-9


def test_learned_signs_flip_some(digits: Data) -> None:
    plan = network_plan("conv:16,32,32", digits)
    ticket = find(plan, digits, replace(QUICK, signs="learned", epochs=4)).ticket
    assert ticket.purity == "P3"
    share = [ticket.flips[name].sum() / ticket.masks[name].sum() for name in ticket.masks]
    assert all(0 < part < 1 for part in share)
    assert parse_ticket(ticket.to_bytes()).to_bytes() == ticket.to_bytes()


def test_purity_and_learned_layers(digits: Data) -> None:
    plan = network_plan("conv:16,32,32", digits)
    assert Settings().learned(plan) == {"conv1", "head"}
    assert Settings(learn="none").purity(plan) == "P2"
    assert Settings().purity(plan) == "P2+stem"
    assert Settings(learn="conv2").purity(plan) == "P3"
    assert Settings(learn="all").purity(plan) == "P3"
    assert Settings(learn="all").learned(plan) == set(plan.weights())  # whatever share of them stem and head are
    separable = CASES["depthwise"].plan
    assert Settings(learn="depthwise").learned(separable) == {"l1", "l3"}
    assert Settings(learn="depthwise,l2").learned(separable) == {"l1", "l2", "l3"}
    assert Settings(learn="depthwise").purity(separable) == "P3"
    assert Settings(learn="depthwise").learned(CASES["grouped"].plan) == frozenset()
    assert Settings().learned(network_plan("mlp:64,32", digits)) == frozenset()  # its stem is most of its weights
    assert Settings().learned(network_plan("conv:8,16,16", digits)) == {"conv1"}  # with the head it would be over 5 %


def test_the_control_differs_in_its_channels_alone(digits: Data) -> None:
    """Layers are learned, and densities chosen, by the final widths on both sides."""
    plan = network_plan("conv:32,64,64", digits)
    found = find(plan, digits, replace(QUICK, keep=0.25, density=0.1, edges=1, epochs=1))
    control = found.controls["control"]
    assert control.learned.keys() == found.ticket.learned.keys() == {"conv1"}  # 5 % of 8-16-16 has no room for the head
    kept = [
        {name: mask.reshape(len(mask), -1).sum(1).max() for name, mask in t.masks.items()}
        for t in (found.ticket, control)
    ]
    assert kept[0] == kept[1]
    assert kept[0]["head"] == 8  # half of 16 inputs, which is fewer than 32


def test_float_control_has_the_final_shape(digits: Data) -> None:
    plan = network_plan("conv:16,32,32", digits)
    found = find(plan, digits, replace(QUICK, keep=0.5, epochs=4), control=False, float_control=True)
    row = found.results[-1]
    assert row.name == "float"
    assert row.widths == found.ticket.narrow.widths()
    outputs = run(found.controls["float"], digits.certify[0])
    assert (outputs.argmax(1) == digits.certify[1]).mean() == pytest.approx(reached(row), abs=0.01)


def test_masked_signs_are_the_generators(digits: Data) -> None:
    plan = network_plan("conv:8,8", digits)
    ticket = find(plan, digits, replace(QUICK, epochs=1, learn="none")).ticket
    net = MaskedNet(plan, 5, Choices({name: 0.5 for name in plan.weights()}, ticket.edges, frozenset()))
    model = masked(ticket)
    for name in ("conv1", "conv2"):
        signs = model.weights[name].edge_signs()  # type: ignore[union-attr]
        assert (net.cell(name).weight.signs.numpy() == signs).all()


def test_edges_are_apportioned_to_connections_by_their_scores() -> None:
    """Six seats for 6, -3 and 2 are 3, -2 and 1 (Webster), as far as the random signs allow."""
    free = np.array([[[1, -1, 1]] * 4 + [[-1, 1, -1]] * 4], np.int8)  # [filter, edge, input]: both signs four times
    for signs, wanted in ((free, [3, -2, 1]), (free[:, :5], [3, -2, 1]), (free[:, :2], [2, -2, 1])):
        seats = sum(map(abs, wanted))
        weight = SubsetSum(signs, seats / signs.size, False, torch.Generator().manual_seed(0))
        weight.score.data = torch.tensor([[[6.0, -3.0, 2.0]]])
        assert weight.integers()[0].tolist() == wanted
        mask, flips = weight.choose()
        assert (signs * mask).sum(1)[0].tolist() == wanted
        assert mask.sum() == weight.k == seats
        assert not flips.any()


def test_an_edge_on_the_wrong_side_is_kept_only_when_no_other_is_left() -> None:
    signs = np.array([[[1, -1, 1, -1]]], np.int8)
    weight = SubsetSum(signs, 0.75, False, torch.Generator().manual_seed(0))
    weight.score.data = torch.tensor([[[0.1, -0.2, -5.0, 0.3]]])
    assert weight.choose()[0][0, 0].tolist() == [True, True, False, True]


def test_the_gradient_of_a_weight_is_that_of_its_connections_score() -> None:
    signs = np.random.default_rng(0).choice([-1, 1], (4, 3, 5)).astype(np.int8)
    for signed in (False, True):
        weight = SubsetSum(signs, 0.3, signed, torch.Generator().manual_seed(0))
        wanted = torch.randn(4, 5)
        (weight() * wanted).sum().backward()
        assert weight.score.grad is not None
        assert torch.allclose(weight.score.grad[:, 0], wanted * weight.unit()[:, None])


@pytest.mark.parametrize("kind", [SubsetSum, EdgePopup])
@pytest.mark.parametrize(("edges", "signed"), [(1, False), (3, False), (1, True), (2, True)])
def test_the_final_choice_is_what_was_trained(kind: type[MaskedWeight], edges: int, signed: bool) -> None:
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], (4, edges, 5, 3, 3)).astype(np.int8)
    weight = kind(signs, 0.3, signed, torch.Generator().manual_seed(0))
    weight.score.data = torch.from_numpy(rng.normal(size=weight.score.shape).astype(np.float32))
    trained = weight().detach()
    mask, flips = weight.choose()
    assert torch.equal(weight(), trained)
    chosen = (signs * mask * np.where(flips, -1, 1)).sum(1)
    assert np.allclose(trained.numpy(), chosen * weight.unit().numpy()[:, None, None, None])


@pytest.mark.parametrize("norm", [True, False])
def test_the_gate_gradient_is_that_of_a_gate(norm: bool) -> None:
    weight = LearnedWeight((4, 3, 3, 3), False, torch.Generator().manual_seed(0))
    cell = Cell(Layer("c", conv(4, norm=norm), ("x",)), weight)
    for parameter in cell.parameters():
        parameter.data += 0.3
    gate = torch.ones(4, requires_grad=True)
    x = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    (cell(x) * gate.view(-1, 1, 1)).square().mean().backward()
    assert gate.grad is not None
    assert torch.allclose(cell.gate_gradient(), gate.grad, rtol=1e-4, atol=1e-5)


def test_keep_top_breaks_ties_by_the_lowest_index() -> None:
    assert keep_top(np.array([[0.5, 1.0, 0.5, 0.5]]), 2).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("keep", [1.0, 0.25])
def test_interrupted_and_resumed_is_the_same_file(digits: Data, keep: float, tmp_path, monkeypatch) -> None:
    plan, settings = network_plan("conv:32,32,32", digits), replace(QUICK, keep=keep, epochs=2, batch=32)
    whole = find(plan, digits, settings, float_control=True)
    path = tmp_path / "a.checkpoint"
    for stop in ("ticket", "control", "float control"):
        if stop == "control" and keep == 1:
            continue

        def interrupt(progress, stop=stop) -> None:
            if progress.phase == stop and progress.step == 60:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            find(plan, digits, settings, float_control=True, checkpoint=path, report=interrupt)
    resumed = find(plan, digits, settings, float_control=True, checkpoint=path)
    assert resumed.ticket.to_bytes() == whole.ticket.to_bytes()
    assert [reached(r) for r in resumed.results] == [reached(r) for r in whole.results]
    finished = find(plan, digits, settings, float_control=True, checkpoint=path)
    assert finished.results[0].seconds > resumed.results[0].seconds / 2  # what the stopped processes spent counts


LEAVING = replace(QUICK, keep=0.25, epochs=3, batch=32)


@pytest.fixture(scope="module")
def left(digits: Data) -> bytes:
    """The ticket of a search that nothing interrupts."""
    return find(network_plan("conv:32,32,32", digits), digits, LEAVING, control=False).ticket.to_bytes()


@pytest.mark.parametrize("stop", [1, 3, 5, 6, 8])
def test_resuming_while_channels_leave_is_the_same_file(digits: Data, stop: int, left: bytes, tmp_path) -> None:
    """They leave at steps 5 to 7 here; what the gates' gradients have added up by then is part of the checkpoint."""
    plan, path = network_plan("conv:32,32,32", digits), tmp_path / "a.checkpoint"

    def interrupt(progress) -> None:
        if progress.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find(plan, digits, LEAVING, control=False, checkpoint=path, report=interrupt)
    assert find(plan, digits, LEAVING, control=False, checkpoint=path).ticket.to_bytes() == left


def test_checkpoint_of_another_search_is_refused(digits: Data, tmp_path) -> None:
    plan, path = network_plan("conv:8,8", digits), tmp_path / "a.checkpoint"
    find(plan, digits, replace(QUICK, epochs=1), checkpoint=path)
    with pytest.raises(EdgeTicketError, match="other settings"):
        find(plan, digits, replace(QUICK, epochs=1, seed=9), checkpoint=path)
    path.write_bytes(b"junk")
    with pytest.raises(EdgeTicketError, match="resumed"):
        find(plan, digits, replace(QUICK, epochs=1), checkpoint=path)


def test_wrong_requests_say_what_to_do(digits: Data) -> None:
    for wrong in ({"density": 0.0}, {"keep": 1.5}, {"seed": -1}, {"edges": 0}, {"signs": "mine"}):
        with pytest.raises(UsageError):
            Settings(**wrong)
    with pytest.raises(UsageError, match="the layers are"):
        Settings.parse(density="0.1,conv9=0.5", edges=1).densities(network_plan("conv:8,8", digits))
    for density, edges in (("a", 1), (0.5, "1.5")):
        with pytest.raises(UsageError, match="is not a number"):
            Settings.parse(density=density, edges=edges)
    odd = Settings.parse(density="0.1,conv1=0.5", edges="2,head=3")
    assert (odd.layer_density, odd.edges, odd.layer_edges) == ({"conv1": 0.5}, 2, {"head": 3})
    assert Settings.parse(**odd.words()) == odd
    with pytest.raises(UsageError, match=r"NAME\[:WIDTH"):
        network_plan("conv:a,b", digits)
    with pytest.raises(InsufficientDataError, match="batch"):
        find(network_plan("conv:8,8", digits), digits, replace(QUICK, batch=5000))
    if not torch.cuda.is_available():
        with pytest.raises(EdgeTicketError, match="no GPU"):
            find(network_plan("conv:8,8", digits), digits, replace(QUICK, device="cuda"))


SAVING_OFTEN = """
from edgeticket.search._training import Checkpoint
Checkpoint.__init__.__defaults__ = (0.1,)  # seconds, not 30: kills fall into saves, and between them
from edgeticket.cli import main
main()
"""


@pytest.mark.parametrize(
    ("kills", "signals"),
    [
        pytest.param(6, (signal.SIGINT, signal.SIGKILL, signal.SIGTERM), marks=pytest.mark.slow),
        pytest.param(10, (signal.SIGKILL,), marks=pytest.mark.slow),
        pytest.param(200, (signal.SIGKILL,), marks=pytest.mark.soak),
    ],
)
def test_killed_at_random_times_resumes_to_the_same_bytes(kills: int, signals: tuple[int, ...], tmp_path) -> None:
    """The real command, from start-up to end; the checkpoint is never unreadable. When it is done, it starts anew until all hit."""
    command = [sys.executable, "-c", SAVING_OFTEN, "find", "-d", "digits", "-m", "conv:16,32,32", "--epochs", "20"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started = time.monotonic()
    subprocess.run([*command, "-o", tmp_path / "whole.ticket"], check=True, capture_output=True, env=environment)
    longest, rng = time.monotonic() - started, np.random.default_rng(0)
    output, checkpoint = tmp_path / "cut.ticket", tmp_path / "cut.ticket.checkpoint"
    hits = resumed = 0
    while hits < kills or not output.exists():
        output.unlink(missing_ok=True)
        resume = ["--resume"] if checkpoint.exists() else []
        resumed += bool(resume)
        process = subprocess.Popen([*command, "-o", output, *resume], env=environment, stderr=subprocess.DEVNULL)
        try:
            process.wait(longest * rng.random() if hits < kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signals[hits % len(signals)])
            hits += process.wait(timeout=30) != 0  # 0: it was done at that moment
        assert process.returncode in (0, 130, *(-number for number in signals))
        if output.exists():
            assert output.read_bytes() == (tmp_path / "whole.ticket").read_bytes()
    assert resumed


def test_dead_channels_are_gone(digits: Data) -> None:
    """A pure head at low density leaves channels that nothing reads."""
    plan = network_plan("conv:16,16", digits)
    ticket = find(plan, digits, replace(QUICK, learn="none", edges=1, layer_density={"head": 0.07})).ticket
    assert ticket.narrow.widths()["conv2"] < 16
    assert ticket.masks["head"].reshape(10, -1).any(0).all()
    assert compact(ticket).plan == ticket.narrow


# tasks other than classification, and layers other than Conv and Linear


def mixed(task: str) -> Plan:
    """Of [2, 16]: norm first, slices, a grouped and a transposed convolution, slopes, a broadcast gate."""
    up = ConvTranspose(8, (2,), (2,), (0, 0), (0,), activation="none")
    rows: list[tuple[str, Op, str]] = [
        ("stem", conv(16, dims=1, norm=False, activation="none"), "input"),
        ("norm", Norm("relu"), "stem"),
        ("left", Gather(tuple(range(0, 16, 2))), "norm"),
        ("right", Gather(tuple(range(1, 16, 2))), "norm"),
        ("down", conv(16, dims=1, stride=2, groups=2), "norm"),
        ("up", up, "down"),
        ("bent", PRelu(), "up"),
        ("all", Concat(), "bent right left"),
        ("gate", conv(1, 1, dims=1, activation="sigmoid"), "all"),
        ("seen", Mul(), "all gate"),
        ("mix", conv(16, dims=1), "seen"),
    ]
    if task == "anomaly":
        rows.append(("head", conv(2, dims=1, norm=False, activation="none"), "mix"))
    else:
        outputs = {"regression": 2, "classification": 3}[task]
        rows += [("pool", GlobalAveragePool(), "mix"), ("head", Linear(outputs), "pool")]
    return graph({"input": (2, 16)}, *rows)


def made(task: str) -> dict[str, np.ndarray]:
    """480 series of two channels, and what they hold: two levels, a faster wave, or one of three waves."""
    rng, n = np.random.default_rng(0), 480
    time = np.arange(16) + rng.uniform(0, 16, (n, 1, 1))
    if task == "regression":
        level = rng.normal(size=(n, 2))
        x = 500 + 20 * level[:, :, None] + rng.normal(0, 2, (n, 2, 16))
        y = np.array([300.0, 0.002]) + level * [40, 0.0005]
        return {"x_train": x.astype(np.float32), "y_train": y.astype(np.float32)}
    kind = np.arange(n) % (4 if task == "anomaly" else 3)
    y = (kind == 3).astype(np.int64) if task == "anomaly" else kind
    speed = (0.4 + 0.8 * y)[:, None, None]
    x = np.concatenate([np.sin(speed * time), np.cos(speed * time)], 1) + rng.normal(0, 0.1, (n, 2, 16))
    return {"x_train": x.astype(np.float32), "y_train": y}


TASKS = ("classification", "regression", "anomaly")
MIXED = Settings(epochs=9, batch=32, seed=5, keep=0.5, align=4, density=0.5)


@pytest.fixture(scope="module")
def mixed_data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Data]:
    folder = tmp_path_factory.mktemp("tasks")
    for task in TASKS:
        np.savez(folder / f"{task}.npz", **made(task))
    return {task: load(folder / f"{task}.npz", layout="series", task=task) for task in TASKS}


@pytest.fixture(scope="module")
def mixed_found(mixed_data: dict[str, Data]) -> dict[str, Found]:
    return {task: find(mixed(task), mixed_data[task], MIXED, float_control=True) for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_learned_through_every_layer(task: str, mixed_data: dict, mixed_found: dict) -> None:
    found, data = mixed_found[task], mixed_data[task]
    ticket = found.ticket
    assert [row.name for row in found.results] == ["ticket", "control", "float"]
    assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == found.to_json()
    assert parse_ticket(ticket.to_bytes()).to_bytes() == ticket.to_bytes()
    assert prove(ticket, data.select[0]) < 1e-9
    assert found.difference < 1e-5
    assert ticket.task == task
    assert all(
        wide > narrow
        for (name, wide), narrow in zip(mixed(task).widths().items(), ticket.narrow.widths().values(), strict=True)
        if name not in ("gate", "head")
    )
    assert ticket.scale["norm"].shape == ticket.bias["norm"].shape == ticket.narrow.shapes["stem"][:1]
    assert ticket.slope["bent"].shape == ticket.narrow.shapes["up"][:1]
    assert (ticket.slope["bent"] != FIRST_SLOPE).all()
    for row in found.results:
        assert reached(row) < 0.35 if task == "regression" else reached(row) > 0.9, row.name


@pytest.mark.parametrize("task", TASKS)
def test_results_are_those_of_the_network_that_is_given_out(task: str, mixed_data: dict, mixed_found: dict) -> None:
    """Every figure again, from the numpy outputs for the raw certify part."""
    found, data = mixed_found[task], mixed_data[task]
    (raw, y), networks = data.certify, {"ticket": found.ticket, **found.controls}
    for row in found.results:
        network = networks[row.name]
        outputs = run(network if isinstance(network, Model) else compact(network), raw)
        told = row.to_json()
        if task == "classification":
            assert told["correct"] == (outputs.argmax(1) == y).sum()
        elif task == "regression":  # in kelvin and in the other target's unit
            assert told["rmse"] == pytest.approx(np.sqrt(((outputs - y) ** 2).mean(0)).tolist(), rel=1e-3)
            assert (np.abs(outputs.mean(0) - y.mean(0)) < y.std(0) / 2).all()
        else:
            error = ((outputs - data.input.apply(raw, np.float64)) ** 2).mean((1, 2))
            higher = error[y == 1][:, None] > error[y == 0]
            assert told["auc"] == pytest.approx(higher.mean(), abs=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_verify_says_the_figures_that_find_said(task: str, mixed_data: dict, mixed_found: dict, tmp_path: Path) -> None:
    mixed_found[task].ticket.write(tmp_path / "a.ticket")
    found = verify(tmp_path / "a.ticket", [], mixed_data[task])
    assert found.passed
    assert found.same_data
    told, expected = found.rows[0].figures, mixed_found[task].results[0].to_json()
    for name, value in told.items():
        if isinstance(value, dict):
            assert value == pytest.approx(expected[name], rel=1e-3)
        else:
            assert value == (expected[name] if name == "targets" else pytest.approx(expected[name], rel=1e-3)), name


def test_a_regression_answers_in_the_targets_units(mixed_found: dict) -> None:
    """An easy linear problem: 40 K and 0.0005 of spread about 300 K and 0.002."""
    for row in mixed_found["regression"].results:
        kelvin, other = row.to_json()["rmse"]
        assert 1 < kelvin < 12, row.name
        assert 2e-5 < other < 15e-5, row.name
        assert min(row.to_json()["r2"]) > 0.9


@pytest.mark.parametrize(
    ("task", "stops"),
    [
        ("regression", [("ticket", 5), ("ticket", 70), ("control", 3), ("float control", 50)]),
        ("anomaly", [("ticket", 5)]),
    ],
)
def test_every_task_resumes_to_the_same_bytes(
    task: str, stops: list[tuple[str, int]], mixed_data: dict, mixed_found: dict, tmp_path: Path
) -> None:
    """While channels leave (steps 4 to 6), after, and in the controls, when the ticket's outputs have units already."""
    plan, whole, checkpoint = mixed(task), mixed_found[task], tmp_path / "a.checkpoint"
    for stop in stops:

        def interrupt(progress: Progress, stop: tuple[str, int] = stop) -> None:
            if (progress.phase, progress.step) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            find(plan, mixed_data[task], MIXED, float_control=True, checkpoint=checkpoint, report=interrupt)
    resumed = find(plan, mixed_data[task], MIXED, float_control=True, checkpoint=checkpoint)
    assert resumed.ticket.to_bytes() == whole.ticket.to_bytes()
    assert resumed.controls["control"].to_bytes() == whole.controls["control"].to_bytes()
    assert resumed.controls["float"].digest == whole.controls["float"].digest
    told, expected = (
        [row | {"cpu_seconds": 0, "profile": {}} for row in one.to_json()["results"]] for one in (resumed, whole)
    )
    assert told == expected


def test_an_outlier_does_not_throw_the_search_off(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    y = (x[:, 0] * 20 + 300).astype(np.float32)
    x[::100, 3] = 1000
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y)
    data = load(tmp_path / "x.npz")
    found = find(network_plan("mlp:32,32", data), data, Settings(epochs=8, batch=32), float_control=True)
    assert all(np.isfinite(reached(result)) for result in found.results)


def test_progress_says_the_tasks_word(mixed_data: dict) -> None:
    for task, word in (("classification", "accuracy "), ("anomaly", "AUC "), ("regression", "relative RMSE ")):
        seen: list[Progress] = []
        find(mixed(task), mixed_data[task], replace(MIXED, epochs=2, keep=1.0), report=seen.append)
        assert seen[0].watched == ""
        assert seen[-1].watched.startswith(word)


def test_sorted_data_are_watched_all_over(mixed_data: dict) -> None:
    """The first thousand of a select part may all be normal, and then there is no AUC."""
    data, net = mixed_data["anomaly"], MaskedNet(mixed("anomaly"), 0, Choices({}, {}, frozenset(), floating=True))
    raw, y = data.select
    for normal, odd, told in ((1500, 500, "AUC 0."), (1500, 0, "")):
        kinds = [np.resize(np.flatnonzero(y == kind), count) for kind, count in ((0, normal), (1, odd))]
        order = np.concatenate(kinds)
        watched = Teaching(replace(data, select=(raw[order], y[order]))).watch(net)
        assert watched.startswith(told)
        assert bool(watched) == bool(told)


def test_networks_that_no_search_can_teach_are_refused(mixed_data: dict) -> None:
    two = CASES["two inputs and two outputs"].plan
    series = mixed_data["classification"]
    head = Layer("head", Linear(3), ("pool",))
    plain = graph(
        {"x": (2, 16)}, ("a", conv(8, dims=1), "x"), ("pool", GlobalAveragePool(), "a"), ("head", Linear(3), "pool")
    )
    wrong: list[tuple[Plan, Data, type, str]] = [
        (two, series, UnsupportedError, r"2 inputs \(picture, current\): a search teaches one with one input"),
        (Plan(plain.inputs, plain.layers, ("head", "pool")), series, UnsupportedError, r"2 outputs \(head, pool\)"),
        (
            chain((2, 15), conv(8, dims=1), GlobalAveragePool(), Linear(3)),
            series,
            DataError,
            r"shape \(2, 16\), the network reads",
        ),
        (chain((2, 16), conv(8, dims=1), GlobalAveragePool(), Linear(4)), series, DataError, "needs 3 outputs"),
        (chain((2, 16), conv(3, 16, dims=1)), series, DataError, "needs 3 outputs"),
        (chain((2, 16), conv(3, dims=1), GlobalAveragePool()), mixed_data["anomaly"], DataError, "needs 32 outputs"),
        (
            chain((2, 16), conv(8, dims=1), GlobalAveragePool(), Linear(2, activation="tanh")),
            *(mixed_data["regression"], UnsupportedError, r"layer l2 \(Linear\): targets have units"),
        ),
        (
            chain((2, 16), conv(2, dims=1), GlobalAveragePool()),
            *(mixed_data["regression"], UnsupportedError, r"layer l1 \(GlobalAveragePool\): targets have units"),
        ),
        (
            chain((2, 16), MaxPool((2,), (2,), (0, 0)), Flatten(), Gather((0, 1, 2))),
            series,
            UnsupportedError,
            "no layer with weights",
        ),
    ]
    assert plain.layers[-1] == head
    for plan, data, error, told in wrong:
        with pytest.raises(error, match=told):
            find(plan, data, QUICK)


@pytest.mark.parametrize("unit", [1e-9, 1e6])
def test_a_target_of_any_unit_is_learned_alike_and_survives_int8(unit: float, tmp_path: Path) -> None:
    """A temperature of 300 +- 4 in any unit: the network learns it at deviation 1, and so int8 codes are fine enough."""
    x = np.random.default_rng(0).normal(size=(1500, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=((300 + 4 * x[:, 0]) * unit).astype(np.float32))
    data = load(tmp_path / "x.npz")
    ticket = find(network_plan("mlp:32,32", data), data, Settings(epochs=10, batch=32)).ticket
    ticket.write(tmp_path / "x.ticket")
    files = [tmp_path / f"{precision}.onnx" for precision in ("float", "int8")]
    for file in files:
        export(ticket, "onnx", file, precision=file.stem)
    checked = verify(tmp_path / "x.ticket", files, data)
    assert checked.passed
    assert [row.figures["r2"][0] > 0.9 for row in checked.rows] == [True] * 4
    assert checked.rows[0].figures["rmse"][0] < 1.2 * unit


# widths in multiples


def test_units_of_tied_channels() -> None:
    """A multiple of 8 channels: of 12 tied in threes 8 ids, of 4 groups of channels 2, of blocks of 16 one."""
    settings = Settings(align=8, keep=0.5)
    assert settings.units(CASES["slices, shuffle and grouped"].plan) == {"stem": 8, "b": 8, "group": 8, "mix": 8}
    assert settings.units(CASES["grouped"].plan) == {"l0": 2, "l1": 2, "l2": 8}
    assert settings.units(CASES["depth to space"].plan) == {"l0": 2, "l2": 8}
    assert settings.units(CASES["unflatten"].plan) == {"l0": 4, "l2": 8}
    assert settings.units(chain((1, 2, 2), conv(64), DepthToSpace(4), conv(8))) == {"l0": 1}
    assert replace(settings, align=1).units(CASES["grouped"].plan) == {"l0": 1, "l1": 1, "l2": 1}


@pytest.mark.parametrize(
    ("keep", "align", "expected"),
    [
        (0.5, 8, {"l0": 32, "l1": 48, "l2": 16}),
        (0.5, 1, {"l0": 32, "l1": 48, "l2": 16}),
        (0.3, 8, {"l0": 16, "l1": 32, "l2": 8}),
        (0.3, 1, {"l0": 20, "l1": 28, "l2": 10}),
        (0.01, 8, {"l0": 8, "l1": 8, "l2": 8}),
        (0.01, 1, {"l0": 4, "l1": 4, "l2": 1}),
    ],
)
def test_final_widths_are_multiples_of_channels_not_of_ids(keep: float, align: int, expected: dict[str, int]) -> None:
    plan = chain((2, 6, 6), conv(64), conv(96, groups=4), conv(32), GlobalAveragePool(), Linear(4))
    widths = Settings(keep=keep, align=align).final(plan).widths()
    assert widths == {**expected, "l4": 4}


HALVES = graph(
    {"x": (2, 6, 6)},
    ("stem", conv(16), "x"),
    ("left", Gather(tuple(range(8))), "stem"),
    ("right", Gather(tuple(range(8, 16))), "stem"),
    ("a", conv(8), "left"),
    ("b", conv(8), "right"),
    ("sum", Add(), "a b"),
    ("o", conv(2), "sum"),
)


def test_final_keeps_a_channel_of_every_slice() -> None:
    """The first half of the channels would leave the second slice with none."""
    final = Settings(keep=0.5).final(HALVES)
    assert (final.shapes["left"][0], final.shapes["right"][0]) == (8, 1)


def test_the_search_keeps_a_channel_of_every_slice() -> None:
    """The eight best are all on the left; of the right, whose first channel left earlier, the next one stays."""
    every = dict.fromkeys(HALVES.weights(), 1)
    net = MaskedNet(HALVES, 0, Choices(dict.fromkeys(every, 0.5), every, frozenset()))
    net.kept["stem"][8] = False
    importance = np.zeros(HALVES.channel_ids)
    importance[HALVES.groups["stem"].ids[:8]] = np.arange(8) + 1
    kept = _keep_best(net, importance, {"stem": 8, "a": 8}, 1, {"stem": 8, "a": 8})
    assert np.flatnonzero(kept["stem"]).tolist() == [*range(8), 9]
    assert kept["a"].all()
    earlier = _keep_best(net, importance, {"stem": 4, "a": 8}, 1 / 3, {"stem": 2, "a": 8})
    assert np.flatnonzero(earlier["stem"]).tolist() == [*range(8), 9, 10]  # 16 / 4^(1/3) is 10.08


def test_auto_gives_small_filters_more_edges(digits: Data) -> None:
    plan = network_plan("conv:16,32,32", digits)
    auto = Settings(learn="none")
    assert auto.edge_counts(plan) == {"conv1": 8, "conv2": 3, "conv3": 3, "head": 3}
    assert auto.densities(plan) == pytest.approx({"conv1": 2 / 8, "conv2": 0.5 / 3, "conv3": 0.5 / 3, "head": 0.5 / 3})
    one = Settings(edges=1)
    assert one.densities(plan) == pytest.approx(dict.fromkeys(plan.weights(), 0.5))
    assert set(Settings(signs="learned").edge_counts(plan).values()) == {1}
    assert Settings.parse(**auto.words()) == auto
    by_name = Settings.parse(density="auto,conv2=0.1", edges="2,conv1=4")
    assert by_name.edge_counts(plan) == {"conv1": 4, "conv2": 2, "conv3": 2, "head": 2}
    assert by_name.densities(plan) == pytest.approx({"conv1": 1 / 4, "conv2": 0.1, "conv3": 0.25, "head": 0.25})


def test_scales_and_biases_take_a_byte_each_and_the_bias_makes_up_for_it(digits: Data) -> None:
    weight = SubsetSum(np.ones((16, 2, 5, 3, 3), np.int8), 0.3, False, torch.Generator().manual_seed(0))
    cell = Cell(Layer("c", conv(16, activation="none"), ("x",)), weight)
    assert cell.norm is not None
    x = torch.rand(64, 5, 6, 6, generator=torch.Generator().manual_seed(1))
    weight.choose()
    sums = torch.nn.functional.conv2d(x, weight(), padding=1).detach()
    cell.norm.mean, cell.norm.variance = sums.mean((0, 2, 3)), sums.var((0, 2, 3))
    cell.norm.weight.data = torch.linspace(0.5, 1.5, 16)
    cell.eval()
    before = cell(x).detach()
    cell.round()
    after, (scale, bias) = cell(x).detach(), cell.fold()
    for values in (scale, bias):
        assert len(np.unique(values)) > 4
        codes = values / (np.abs(values).max() / 127)
        assert np.allclose(codes, codes.round(), atol=1e-3)
    assert not torch.equal(after, before)
    unit = np.abs(bias).max() / 127
    assert (after - before).mean(
        (0, 2, 3)
    ).abs().max() <= 0.51 * unit  # of the bias alone: the scales' shift is made up for
    again = conv_by_hand(x, scale, bias, weight)
    assert torch.allclose(after, again, atol=1e-5)


def conv_by_hand(x: torch.Tensor, scale: np.ndarray, bias: np.ndarray, weight: SubsetSum) -> torch.Tensor:
    sums = torch.nn.functional.conv2d(x, (weight() / weight.unit()[0]).detach(), padding=1)
    return sums * torch.from_numpy(scale)[:, None, None] + torch.from_numpy(bias)[:, None, None]
