"""Biprop, Gem-Miner, IteRand and signed supermasks: masks, gradients by hand, exact density, resumption, narrowing."""

from dataclasses import replace
from math import prod
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgeticket.compact import prove  # noqa: E402
from edgeticket.data import Data  # noqa: E402
from edgeticket.errors import UsageError  # noqa: E402
from edgeticket.find import find  # noqa: E402
from edgeticket.found import Found  # noqa: E402
from edgeticket.network import network_plan  # noqa: E402
from edgeticket.search import biprop, gem_miner, iterand, signed_supermask  # noqa: E402
from edgeticket.settings import Settings, rounded  # noqa: E402
from edgeticket.verify import verify  # noqa: E402
from edgeticket.weights import MaskedWeight  # noqa: E402

METHODS = (biprop, gem_miner, iterand, signed_supermask)
FLIPPING = (iterand, signed_supermask)
SETTINGS = {"biprop": "seed", "gem_miner": "seed", "iterand": "learned", "signed_supermask": "learned"}
SHAPES = {"conv2": (16, 16, 3, 3), "conv3": (16, 16, 3, 3), "head": (10, 16)}  # under a mask of conv:16,16,16


def name(method: ModuleType) -> str:
    return method.__name__.rpartition(".")[2]


def settings(method: ModuleType, **more: object) -> Settings:
    given = {"density": 0.3, "edges": 2, "epochs": 3, "batch": 64, "seed": 5, **more}
    return Settings(method=name(method), signs=SETTINGS[name(method)], **given)  # type: ignore[arg-type]


def layer(method: ModuleType, signs: np.ndarray, density: float) -> MaskedWeight:
    return method.WEIGHT(signs, density, method in FLIPPING, torch.Generator().manual_seed(0))


def random_layer(method: ModuleType, density: float = 0.3) -> MaskedWeight:
    """Its scores as if trained: a filter's are far below those of the others."""
    rng = np.random.default_rng(0)
    weight = layer(method, rng.choice([-1, 1], (6, 2, 5, 3, 3)).astype(np.int8), density)
    scores = rng.normal(size=weight.score.shape).astype(np.float32)
    weight.score.data = torch.from_numpy(np.clip(scores, 0, 1) if method is gem_miner else scores)
    weight.score.data[2] *= 1e-3
    return weight


def settle(weight: MaskedWeight) -> None:
    """As a search leaves it after its last step."""
    if isinstance(weight, gem_miner.GemMiner):
        gem_miner.drop([weight], 1.0, np.random.default_rng(0))
    if isinstance(weight, signed_supermask.SignedSupermask):
        weight.threshold.zero_()
    if isinstance(weight, iterand.IteRand):
        weight.draw(np.random.default_rng(0))


@pytest.fixture(scope="module")
def founds(digits: Data) -> dict[str, Found]:
    plan = network_plan("conv:16,16,16", digits)
    return {name(method): find(plan, digits, settings(method, epochs=5), control=False) for method in METHODS}


@pytest.mark.parametrize("method", METHODS, ids=name)
@pytest.mark.parametrize("density", [0.3, 0.005])
def test_the_final_choice_is_what_was_trained_and_has_the_asked_density(method: ModuleType, density: float) -> None:
    weight = random_layer(method, density)
    settle(weight)
    trained = weight().detach()
    mask, flips = weight.choose()
    assert torch.equal(weight(), trained)
    chosen = weight.signs.numpy() * mask * np.where(flips, -1, 1)
    assert np.allclose(trained.numpy(), chosen.sum(1) * weight.unit().numpy()[:, None, None, None])
    assert mask.sum() == weight.k * len(mask)  # of one edge a filter, none is left over
    assert mask.reshape(len(mask), -1).any(1).all()
    if method is iterand:
        assert set(mask.reshape(len(mask), -1).sum(1).tolist()) == {weight.k}
    elif density == 0.3:
        assert mask[2].sum() < weight.k  # the layer shares its edges out
    assert flips.any() == (method is signed_supermask)  # nothing that iterand keeps was drawn anew here


GRADIENTS = {  # of the sum of the weights, [1, 1, 4] with signs + - + -: scores, other tensors, integers, gradients
    "biprop": ([0.5, -0.9, 0.1, 0.2], {"magnitude": [1, 2, 3, 4]}, [1, -1, 0, 0], [1, 2, 3, -4]),
    "gem_miner": ([0.6, 0.4, 0.9, 0.2], {"state": [0, 0, -1, 1]}, [1, 0, 0, -1], [1, -1, 0, -1]),
    "iterand": ([0.5, 0.9, 0.1, 0.2], {"turned": [1, -1, -1, 1]}, [1, 1, 0, 0], [1, 1, -1, -1]),
    "signed_supermask": ([0.5, -0.9, 0.1, 0.2], {"threshold": [0.15] * 4}, [1, 1, 0, -1], [1, -1, 1, -1]),
}


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_gradients_pass_straight_through(method: ModuleType) -> None:
    scores, others, integers, gradients = GRADIENTS[name(method)]
    weight = layer(method, np.array([[[1, -1, 1, -1]]], np.int8), 0.5)
    weight.score.data = torch.tensor([[scores]])
    for word, values in others.items():
        setattr(weight, word, torch.tensor([[values]]).float())
    made = weight.integers()
    assert made.tolist() == [integers]
    made.sum().backward()
    assert weight.score.grad is not None
    assert weight.score.grad.tolist() == [[gradients]]


def test_a_fixed_threshold_leaves_the_asked_density_at_first_only() -> None:
    signs = np.ones((8, 1, 10), np.int8)
    weight = signed_supermask.SignedSupermask(signs, 0.3, True, torch.Generator().manual_seed(0))
    assert weight.mask().sum() == 24
    weight.score.data *= 2
    assert weight.mask().sum() > 24
    weight.threshold.zero_()
    assert weight.mask().sum() == 24


def test_drops_are_global_final_and_leave_each_filter_an_edge() -> None:
    weights = [random_layer(gem_miner, density) for density in (0.2, 0.4)]
    assert all(isinstance(weight, gem_miner.GemMiner) for weight in weights)
    weights[1].score.data.mul_(0.1)  # below the others: they lose more than their share
    source, size = np.random.default_rng(1), 540
    gem_miner.drop(weights, 0.5, source)  # type: ignore[arg-type]
    alive = [(weight.state >= 0).numpy().copy() for weight in weights]  # type: ignore[attr-defined]
    final = sum(weight.k * 6 for weight in weights)
    assert sum(part.sum() for part in alive) == round(2 * size * (final / 2 / size) ** 0.5)
    for weight, part in zip(weights, alive, strict=True):  # whatever scores become, what was dropped stays so
        weight.score.data = torch.from_numpy(np.where(part, weight.score.detach().numpy(), 1.0).astype(np.float32))
    gem_miner.drop(weights, 28 / 29, source)  # type: ignore[arg-type]
    assert not any(((weight.state >= 0).numpy() & ~part).any() for weight, part in zip(weights, alive, strict=True))  # type: ignore[attr-defined]
    gem_miner.drop(weights, 1.0, source)  # type: ignore[arg-type]
    masks = [weight.choose()[0] for weight in weights]
    assert sum(mask.sum() for mask in masks) == final
    assert masks[0].sum() > weights[0].k * 6
    assert all(mask.reshape(6, -1).any(1).all() for mask in masks)


def test_equal_scores_are_dropped_by_chance_not_by_layer() -> None:
    weights = [random_layer(gem_miner, 0.5) for _ in range(2)]
    for weight in weights:
        weight.score.data.fill_(1.0)
    gem_miner.drop(weights, 1.0, np.random.default_rng(0))  # type: ignore[arg-type]
    assert all(0.4 < weight.choose()[0].mean() < 0.6 for weight in weights)


def test_draws_are_of_what_is_not_kept_and_by_their_source_alone(monkeypatch) -> None:
    monkeypatch.setattr(iterand, "SHARE", 0.5)
    first, second = random_layer(iterand), random_layer(iterand)
    for weight in (first, second):
        assert isinstance(weight, iterand.IteRand)
        weight.draw(np.random.default_rng([1, 2, 3]))
    assert torch.equal(first.turned, second.turned)
    turned, kept = first.turned.numpy() < 0, first.kept()
    assert not (turned & kept).any()
    assert 0.15 < turned[~kept].mean() < 0.35  # half of them, of whose new signs half are the other one
    first.draw(np.random.default_rng([1, 2, 4]))
    assert not torch.equal(first.turned, second.turned)


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_found_tickets_learn_verify_and_cost_what_was_asked(
    method: ModuleType, founds: dict[str, Found], digits: Data, tmp_path
) -> None:
    ticket, result = founds[name(method)].ticket, founds[name(method)].results[0]
    assert result.task.headline(result.certify) > 0.7  # chance is 0.10
    kept = {name: int(mask.sum()) for name, mask in ticket.masks.items()}
    asked = {name: rounded(0.3 * 2 * prod(shape[1:])) * shape[0] for name, shape in SHAPES.items()}
    assert 0.96 * sum(asked.values()) < sum(kept.values()) <= sum(asked.values())  # channels that nothing reads left
    assert any(kept[name] > asked[name] for name in asked) == (method is gem_miner)  # it shares out among layers
    path = tmp_path / "a.ticket"
    path.write_bytes(ticket.to_bytes())
    verify(path, [], digits).require()
    assert ticket.purity == ("P3" if method in FLIPPING else "P2+stem")
    assert any(flips.any() for flips in ticket.flips.values()) == (method in FLIPPING)


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_resumed_while_channels_leave_and_later_is_the_same_file(method: ModuleType, digits: Data, tmp_path) -> None:
    plan, path = network_plan("conv:16,16,16", digits), tmp_path / "a.checkpoint"
    chosen = settings(method, keep=0.5, batch=32)
    steps = 3 * (len(digits.train[0]) // 32)
    whole = find(plan, digits, chosen, control=False)
    for stop in (3, 6, steps // 2, steps - 2, steps):

        def interrupt(progress, stop=stop) -> None:
            if progress.step == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            find(plan, digits, chosen, control=False, checkpoint=path, report=interrupt)
    resumed = find(plan, digits, chosen, control=False, checkpoint=path)
    assert resumed.ticket.to_bytes() == whole.ticket.to_bytes()
    assert whole.ticket.narrow.widths() == {"conv1": 8, "conv2": 8, "conv3": 8, "head": 10}
    assert prove(whole.ticket, digits.select[0][:20]) < 1e-9


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_signs_that_a_method_cannot_have_are_refused(method: ModuleType, digits: Data) -> None:
    wrong = {"seed": "learned", "learned": "seed"}[SETTINGS[name(method)]]
    with pytest.raises(UsageError, match="--signs"):
        find(network_plan("conv:8,8", digits), digits, replace(settings(method), signs=wrong))
