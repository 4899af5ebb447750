"""The search: determinism, resumption, exact k, physical removal, controls, and honest refusals."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from math import prod

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgeticket.cells import Cell, LearnedWeight, MaskedWeight, keep_top  # noqa: E402
from edgeticket.compact import compact, masked, prove  # noqa: E402
from edgeticket.data import Data, load  # noqa: E402
from edgeticket.errors import EdgeTicketError, InsufficientDataError, UsageError  # noqa: E402
from edgeticket.find import find, network_plan  # noqa: E402
from edgeticket.masked import Choices, MaskedNet  # noqa: E402
from edgeticket.ops import Layer, conv  # noqa: E402
from edgeticket.settings import Settings  # noqa: E402
from edgeticket.ticket import parse_ticket  # noqa: E402

QUICK = Settings(epochs=3, batch=64, seed=5)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


def test_same_seed_twice_is_the_same_file_and_learns(digits: Data) -> None:
    plan = network_plan("conv:16,32,32", digits)
    first, second = (find(plan, digits, replace(QUICK, epochs=6)) for _ in range(2))
    assert first.ticket.to_bytes() == second.ticket.to_bytes()
    assert first.results[0].accuracy > 0.85  # chance is 0.10
    other = find(plan, digits, replace(QUICK, seed=6))
    assert other.ticket.to_bytes() != first.ticket.to_bytes()


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
        found[name] = find(network_plan("conv:8,16", data), data, settings).results[0].accuracy
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
    assert Settings().learned(network_plan("mlp:64,32", digits)) == frozenset()  # its stem is most of its weights
    assert Settings().learned(network_plan("conv:8,16,16", digits)) == {"conv1"}  # with the head it would be over 5 %


def test_the_control_differs_in_its_channels_alone(digits: Data) -> None:
    """Layers are learned, and densities chosen, by the final widths on both sides."""
    plan = network_plan("conv:32,64,64", digits)
    found = find(plan, digits, replace(QUICK, keep=0.25, density=0.1, epochs=1))
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
    from edgeticket.reference import run

    outputs = run(found.controls["float"], digits.certify[0])
    assert (outputs.argmax(1) == digits.certify[1]).mean() == pytest.approx(row.accuracy, abs=0.01)


def test_masked_signs_are_the_generators(digits: Data) -> None:
    plan = network_plan("conv:8,8", digits)
    ticket = find(plan, digits, replace(QUICK, epochs=1, learn="none")).ticket
    net = MaskedNet(plan, 5, Choices({name: 0.5 for name in plan.weights()}, ticket.edges, frozenset()))
    model = masked(ticket)
    for name in ("conv1", "conv2"):
        signs = model.weights[name].edge_signs()  # type: ignore[union-attr]
        assert (net.cell(name).weight.signs.numpy() == signs).all()


def test_equal_edges_do_not_stand_or_fall_together() -> None:
    """The second edge of one sign competes a standard deviation lower."""
    signs = np.array([[[1, -1, 1], [1, -1, -1], [-1, -1, 1]]], np.int8)  # [filter, edge, input]
    weight = MaskedWeight(signs, 2 / 9, False, torch.Generator().manual_seed(0))
    assert weight.repeats[0].tolist() == [[0, 0, 0], [1, 1, 0], [0, 2, 1]]
    weight.score.data = torch.tensor([[[3.0, 2.0, 0.0], [3.0, 2.0, 0.0], [-3.0, 2.0, 0.0]]])
    mask, _ = weight.choose()
    assert mask[0].tolist() == [[True, True, False], [False, False, False], [False, False, False]]


@pytest.mark.parametrize(("edges", "signed"), [(1, False), (3, False), (1, True)])
def test_the_final_choice_is_what_was_trained(edges: int, signed: bool) -> None:
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], (4, edges, 5, 3, 3)).astype(np.int8)
    weight = MaskedWeight(signs, 0.3, signed, torch.Generator().manual_seed(0))
    weight.score.data = torch.from_numpy(rng.normal(size=signs.shape).astype(np.float32))
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
    plan, settings = network_plan("conv:32,32,32", digits), replace(QUICK, keep=keep, epochs=4, batch=32)
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
    assert [r.accuracy for r in resumed.results] == [r.accuracy for r in whole.results]
    finished = find(plan, digits, settings, float_control=True, checkpoint=path)
    assert finished.results[0].seconds > resumed.results[0].seconds / 2  # what the stopped processes spent counts


@pytest.mark.parametrize("stop", [1, 3, 5, 6, 8])
def test_resuming_while_channels_leave_is_the_same_file(digits: Data, stop: int, tmp_path) -> None:
    """They leave at steps 5 to 7 here; what the gates' gradients have added up by then is part of the checkpoint."""
    plan, settings = network_plan("conv:32,32,32", digits), replace(QUICK, keep=0.25, epochs=3, batch=32)
    whole = find(plan, digits, settings, control=False)
    path = tmp_path / "a.checkpoint"

    def interrupt(progress) -> None:
        if progress.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find(plan, digits, settings, control=False, checkpoint=path, report=interrupt)
    resumed = find(plan, digits, settings, control=False, checkpoint=path)
    assert resumed.ticket.to_bytes() == whole.ticket.to_bytes()


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
    with pytest.raises(UsageError, match="NAME:WIDTH"):
        network_plan("conv:a,b", digits)
    with pytest.raises(InsufficientDataError, match="batch"):
        find(network_plan("conv:8,8", digits), digits, replace(QUICK, batch=5000))
    if not torch.cuda.is_available():
        with pytest.raises(EdgeTicketError, match="no GPU"):
            find(network_plan("conv:8,8", digits), digits, replace(QUICK, device="cuda"))


@pytest.mark.slow
def test_killed_at_random_times_resumes_to_the_same_bytes(tmp_path) -> None:
    """SIGINT, SIGKILL and SIGTERM of the real command, at start-up too; the checkpoint is never unreadable."""
    command = [sys.executable, "-m", "edgeticket", "find", "-d", "digits", "-m", "conv:16,32,32", "--epochs", "60"]
    subprocess.run([*command, "-o", tmp_path / "whole.ticket"], check=True, capture_output=True)
    output, rng = tmp_path / "cut.ticket", np.random.default_rng(0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for trial in range(6):
        resume = ["--resume"] if output.with_name("cut.ticket.checkpoint").exists() else []
        process = subprocess.Popen([*command, "-o", output, *resume], env=environment, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=2.5 + 2 * rng.random())
            break
        except subprocess.TimeoutExpired:
            process.send_signal((signal.SIGINT, signal.SIGKILL, signal.SIGTERM)[trial % 3])
            assert process.wait(timeout=30) in (130, -signal.SIGKILL, -signal.SIGTERM)
    if not output.exists():
        resume = ["--resume"] if output.with_name("cut.ticket.checkpoint").exists() else []
        subprocess.run([*command, "-o", output, *resume], check=True, capture_output=True)
    assert output.read_bytes() == (tmp_path / "whole.ticket").read_bytes()


def test_dead_channels_are_gone(digits: Data) -> None:
    """A pure head at low density leaves channels that nothing reads."""
    plan = network_plan("conv:16,16", digits)
    ticket = find(plan, digits, replace(QUICK, learn="none", layer_density={"head": 0.07})).ticket
    assert ticket.narrow.widths()["conv2"] < 16
    assert ticket.masks["head"].reshape(10, -1).any(0).all()
    assert compact(ticket).plan == ticket.narrow
