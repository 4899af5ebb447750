"""N:M groups, gates, the gradient-free baseline, the random mask, and a method of one's own by path."""

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgeticket.compact import prove  # noqa: E402
from edgeticket.data import Data  # noqa: E402
from edgeticket.errors import UsageError  # noqa: E402
from edgeticket.find import find  # noqa: E402
from edgeticket.masked import Choices, MaskedNet  # noqa: E402
from edgeticket.network import network_plan  # noqa: E402
from edgeticket.search import concrete_gates, gradient_free, n_m_groups, random_mask  # noqa: E402
from edgeticket.settings import Settings, rounded  # noqa: E402

METHODS = (concrete_gates, gradient_free, n_m_groups, random_mask)
DOCS = Path(__file__).parent.parent / "docs" / "methods.md"


def name(method: ModuleType) -> str:
    return method.__name__.rpartition(".")[2]


def settings(method: ModuleType, **more: object) -> Settings:
    return Settings(method=name(method), **{"density": 0.3, "edges": 2, "epochs": 2, "batch": 64, "seed": 5, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_found_tickets_have_the_asked_density_and_are_proven(method: ModuleType, digits: Data) -> None:
    plan = network_plan("conv:16,16", digits)
    ticket, densities = find(plan, digits, settings(method)).ticket, settings(method).densities(plan)
    for layer, mask in ticket.masks.items():
        assert (mask.reshape(len(mask), -1).sum(1) == rounded(densities[layer] * mask[0].size)).all()
    assert not ticket.flips
    assert prove(ticket, digits.select[0]) < 1e-9


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_resumed_while_channels_leave_and_later_is_the_same_file(
    method: ModuleType, digits: Data, tmp_path: Path
) -> None:
    plan, own = network_plan("conv:16,16", digits), settings(method, keep=0.5, epochs=3)
    whole = find(plan, digits, own, control=False).ticket
    for stop in (2, 20):
        path = tmp_path / f"{stop}.checkpoint"

        def interrupt(progress, stop=stop) -> None:
            if progress.step == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            find(plan, digits, own, control=False, checkpoint=path, report=interrupt)
        assert find(plan, digits, own, control=False, checkpoint=path).ticket.to_bytes() == whole.to_bytes()
    assert find(plan, digits, replace(own, seed=6), control=False).ticket.to_bytes() != whole.to_bytes()


@pytest.mark.parametrize("method", [concrete_gates, n_m_groups, random_mask], ids=name)
def test_learned_signs_are_refused(method: ModuleType, digits: Data) -> None:
    with pytest.raises(UsageError, match="--signs"):
        find(network_plan("conv:8,8", digits), digits, settings(method, signs="learned"))


@pytest.mark.parametrize(("edges", "inputs", "density"), [(1, 32, 0.25), (1, 32, 0.3), (3, 17, 0.1), (2, 5, 0.9)])
def test_every_group_keeps_its_best(edges: int, inputs: int, density: float) -> None:
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], (4, edges, inputs)).astype(np.int8)
    weight = n_m_groups.WEIGHT(signs, density, False, torch.Generator().manual_seed(0))
    score, mask = weight.score.detach().numpy().reshape(4, -1), weight.chosen().reshape(4, -1)
    assert (mask.sum(1) == weight.k).all()
    for start in range(0, edges * inputs, 16):
        own, kept = score[:, start : start + 16], mask[:, start : start + 16] == 1
        n = kept.sum(1)
        assert (np.abs(n - own.shape[1] * weight.k / (edges * inputs)) < 1).all()
        for row in range(4):
            assert own[row, kept[row]].min(initial=2) >= own[row, ~kept[row]].max(initial=-1)
    assert torch.equal(weight.integers().detach(), torch.from_numpy((signs * weight.chosen()).sum(1)).float())
    weight().sum().backward()
    assert torch.allclose(weight.score.grad, weight.signs * weight.unit()[0])


def test_gates_are_soft_random_by_step_alone_and_hard_for_statistics() -> None:
    signs = np.random.default_rng(0).choice([-1, 1], (4, 1, 200)).astype(np.int8)
    weight = concrete_gates.WEIGHT(signs, 0.25, False, torch.Generator().manual_seed(0))
    draws = []
    for seed in (1, 1, 2):
        weight.source = torch.Generator().manual_seed(seed)
        draws.append(weight.integers().detach())
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert ((draws[0].abs() > 0.01) & (draws[0].abs() < 0.99)).any()
    with torch.no_grad():
        assert torch.equal(weight.integers(), torch.from_numpy((signs * weight.chosen()).sum(1)).float())
    weight.temperature = 1e-4
    open_share = weight.integers().detach().abs().mean()
    assert 0.24 < open_share < 0.26


def test_no_gradient_reaches_the_scores_of_the_gradient_free_baseline(digits: Data) -> None:
    """What an estimate says of them is right on average: of a loss that is linear in one score, exactly so."""
    plan = network_plan("conv:8,8", digits)
    layers = dict.fromkeys(plan.weights(), 0.5)
    net = MaskedNet(plan, 0, Choices(layers, dict.fromkeys(layers, 1), frozenset(), weight=gradient_free.WEIGHT))
    weight = net.cell("conv2").weight
    before = weight.score.detach().clone()
    chosen = torch.zeros_like(before)
    chosen[0, 0, 0] = 1.0
    total = torch.zeros_like(before)
    for step in range(200):
        gradient_free.estimate(net, lambda: (weight.score * chosen).sum() * 7, 0, step)
        total += weight.score.grad / 200
    assert torch.equal(weight.score, before)
    assert torch.allclose(total[chosen == 1], torch.full((int(chosen.sum()),), 7.0), atol=7 * 0.9)
    assert total[chosen == 0].abs().max() < 7 * 9 * 0.3


def test_a_random_mask_stays_as_it_was_drawn(digits: Data) -> None:
    plan, own = network_plan("conv:8,8", digits), settings(random_mask, learn="none", density=0.6)
    ticket = find(plan, digits, own).ticket
    choices = Choices(own.densities(plan), ticket.edges, frozenset(), weight=random_mask.WEIGHT)
    net = MaskedNet(plan, 5, choices)
    for layer in ("conv1", "conv2"):
        assert (net.cell(layer).weight.chosen() == ticket.masks[layer]).all()


def test_the_method_of_the_documentation_is_one_file_that_works(digits: Data, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    file = tmp_path / "mine.py"
    file.write_text(code)
    found = find(network_plan("conv:8,8", digits), digits, replace(settings(n_m_groups), method=str(file), epochs=6))
    assert found.results[0].task.headline(found.results[0].certify) > 0.5
    assert found.ticket.provenance["settings"]["method"].startswith("mine.py sha256 ")
