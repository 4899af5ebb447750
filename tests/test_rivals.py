"""What tickets are compared with: as good as their own kind can be made here, of the bytes that were asked for, and the same twice."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from cases import CASES, chain

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")

from edgeticket import rivals, tasks  # noqa: E402
from edgeticket.cells import Norm as NormCell  # noqa: E402
from edgeticket.data import Data, load  # noqa: E402
from edgeticket.errors import BudgetError, UnsupportedError  # noqa: E402
from edgeticket.masked import Choices, MaskedNet  # noqa: E402
from edgeticket.model import Float, Int8, Model  # noqa: E402
from edgeticket.network import network_plan  # noqa: E402
from edgeticket.ops import Flatten, Linear, conv  # noqa: E402
from edgeticket.packet import packed_bytes  # noqa: E402
from edgeticket.plan import Plan  # noqa: E402
from edgeticket.post_training import quantised  # noqa: E402
from edgeticket.rivals import Rival, floating, narrow_int8, pruned  # noqa: E402
from edgeticket.rounding import grid_unit  # noqa: E402
from edgeticket.search._pruned import _plain, prune  # noqa: E402
from edgeticket.session import Session  # noqa: E402
from edgeticket.settings import Settings  # noqa: E402
from edgeticket.ticket import Input  # noqa: E402
from exporters import to_onnx  # noqa: E402

DIGITS = load("digits")
QUICK = Settings(epochs=2, batch=64, seed=3)
LIMIT = 2000
FLOATING = Choices({}, {}, frozenset(), floating=True)


def plan_for(spec: str = "conv:8,16,16", data: Data = DIGITS) -> Plan:
    return network_plan(spec, data)


@pytest.fixture(scope="module")
def made() -> dict[str, Rival]:
    plan = plan_for()
    narrow, less = (make(plan, DIGITS, QUICK, LIMIT) for make in (narrow_int8, pruned))
    return {rival.name: rival for rival in (*floating(plan, DIGITS, QUICK), narrow, less)}


def random_net(plan: Plan, seed: int = 0) -> MaskedNet:
    """Trained for nothing: weights, norms and slopes at random, in eval mode."""
    net, generator = MaskedNet(plan, seed, FLOATING), torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    for module in net.modules():
        if isinstance(module, NormCell):
            module.mean.data = torch.randn(module.mean.shape, generator=generator)
            module.variance.data = torch.rand(module.variance.shape, generator=generator) + 0.5
    return net.eval()


# what all of them are


@pytest.mark.parametrize("name", ["float", "float-int8", "int8-narrow", "pruned"])
def test_figures_are_those_of_the_file(made: dict[str, Rival], name: str) -> None:
    rival = made[name]
    assert to_onnx.is_int8(rival.onnx) == (name != "float")
    for part, told in ((DIGITS.select, rival.select), (DIGITS.certify, rival.certify)):
        assert (to_onnx.run_bytes(rival.onnx, part[0]).argmax(1) == part[1]).mean() == told
    assert rival.figures["correct"] == round(rival.certify * len(DIGITS.certify[1]))
    assert rival.bytes == sum(packed_bytes(rival.model).values())
    assert rival.macs == sum(rival.model.plan.macs().values())
    assert rival.widths == rival.model.plan.widths()
    assert rival.cpu_seconds > 0
    kind = Float if name == "float" else Int8
    assert all(isinstance(weights, kind) for weights in rival.model.weights.values())


def test_all_learn(made: dict[str, Rival]) -> None:
    assert all(rival.certify > 0.7 for rival in made.values())


@pytest.mark.parametrize("name", ["int8-narrow", "pruned"])
def test_rivals_fill_the_bytes_and_never_exceed_them(made: dict[str, Rival], name: str) -> None:
    rival = made[name]
    assert 0.85 * LIMIT < rival.bytes <= LIMIT
    assert sum(rival.widths.values()) < sum(plan_for().widths().values())
    assert "-".join(map(str, rival.widths.values())) in rival.what


def test_the_same_seed_gives_the_same_files(made: dict[str, Rival]) -> None:
    again = [narrow_int8(plan_for(), DIGITS, QUICK, LIMIT), pruned(plan_for(), DIGITS, QUICK, LIMIT)]
    for rival in [*floating(plan_for(), DIGITS, QUICK), *again]:
        assert rival.onnx == made[rival.name].onnx, rival.name
    other = floating(plan_for(), DIGITS, replace(QUICK, seed=4))
    assert all(rival.onnx != made[rival.name].onnx for rival in other)


def test_float_is_the_float_control_of_a_search(made: dict[str, Rival]) -> None:
    model, result = Session(plan_for(), DIGITS, QUICK, None, None, lambda progress: None).floating("float", plan_for())
    assert model.digest == made["float"].model.digest
    assert tasks.of(DIGITS).headline(result.certify) == made["float"].certify


def test_rounding_after_training_keeps_what_was_trained(made: dict[str, Rival]) -> None:
    whole, small = made["float"], made["float-int8"]
    assert small.bytes < 0.3 * whole.bytes
    answers = [to_onnx.run_bytes(rival.onnx, DIGITS.certify[0]).argmax(1) for rival in (whole, small)]
    assert (answers[0] == answers[1]).mean() > 0.97


@pytest.mark.parametrize("make", [narrow_int8, pruned])
def test_bytes_that_no_width_fits_are_refused(make: object) -> None:
    with pytest.raises(BudgetError):
        make(plan_for(), DIGITS, QUICK, 60)  # type: ignore[operator]


@pytest.mark.parametrize("make", [narrow_int8, pruned])
def test_bytes_to_spare_leave_the_network_whole(make: object) -> None:
    rival = make(plan_for("conv:4,4,4"), DIGITS, replace(QUICK, epochs=1), 100_000)  # type: ignore[operator]
    assert rival.widths == plan_for("conv:4,4,4").widths()


def test_a_teacher_advises_rivals_as_it_does_tickets(made: dict[str, Rival]) -> None:
    advised = floating(plan_for(), DIGITS, replace(QUICK, teacher="conv:4,4,4"))[0]
    assert advised.onnx != made["float"].onnx


@pytest.mark.parametrize("task", ["regression", "anomaly"])
def test_other_tasks(task: str) -> None:
    data = _regression() if task == "regression" else load("shuttle")
    data = replace(data, train=tuple(values[:2000] for values in data.train))
    plan = plan_for("mlp:16,16", data)
    settings = replace(QUICK, epochs=1)
    whole, small = floating(plan, data, settings)
    limit = small.bytes // 2
    for rival in (whole, small, narrow_int8(plan, data, settings, limit), pruned(plan, data, settings, limit)):
        part = rivals.score(rival.onnx, data, data.certify)
        assert rival.certify == tasks.of(data).headline(part)
        assert rival.figures == tasks.of(data).figures(part, rivals.score(rival.onnx, data, data.select))
        assert rival.name in ("float", "float-int8") or rival.bytes <= limit
        assert np.isfinite(rival.certify)


def _regression() -> Data:
    def part(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        x = pair[0].reshape(len(pair[0]), -1)
        return x, x[:, :2].astype(np.float32) * [[3.0, 5.0]] + x[:, 30:32]

    parts = {name: part(getattr(DIGITS, name)) for name in ("train", "select", "certify")}
    y = parts["train"][1]
    offset, step = tuple(y.mean(0).tolist()), tuple((1 / y.std(0)).tolist())
    made = {"task": "regression", "classes": ("one", "two"), "target_offset": offset, "target_step": step}
    return replace(DIGITS, **parts, input=Input("uint8", (8.0,) * 64, (0.2,) * 64), **made)


@pytest.mark.slow
def test_every_kind_comes_near_the_float_network_when_it_is_trained_for_long() -> None:
    settings, plan = Settings(epochs=20, batch=32), plan_for("conv:16,32,32")
    whole, small = floating(plan, DIGITS, settings)
    assert whole.certify > 0.97
    assert abs(whole.certify - small.certify) < 0.01
    for rival in (narrow_int8(plan, DIGITS, settings, 3340), pruned(plan, DIGITS, settings, 3340)):
        assert rival.certify > whole.certify - 0.03


# as large as the limit allows


def tries(*sizes: int) -> list[float]:
    """What is aimed at where 1,000 is the limit and networks of these bytes come out one after the other; and the one taken."""
    aims: list[float] = []
    left = list(sizes)

    def choose(aim: float) -> rivals.Candidate:
        aims.append(aim)
        size = left.pop(0)
        return (size,), lambda: SimpleNamespace(size=size)  # type: ignore[return-value]

    model = rivals._as_large(choose, 1000)
    return [*map(round, aims), model.size]  # type: ignore[attr-defined]


@pytest.fixture
def sized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "_bytes", lambda model: model.size)


@pytest.mark.usefixtures("sized")
def test_what_was_too_large_or_small_is_trained_again_at_other_widths() -> None:
    assert tries(990) == [985, 990]
    assert tries(1100, 980) == [985, 895, 980]
    assert tries(500, 1000) == [985, 1970, 1000]


@pytest.mark.usefixtures("sized")
def test_the_largest_that_fits_is_taken_where_none_fills_the_bytes() -> None:
    assert tries(900, 1100, 900)[-1] == 900
    assert tries(960, 940, 1001, 940)[-1] == 960
    assert tries(1100, 1100, 900, 900)[-1] == 900
    with pytest.raises(BudgetError, match="1,000 bytes"):
        tries(*[1001] * rivals.TRIES)


# int8 after training


def float_model(plan: Plan, seed: int = 0) -> Model:
    rng = np.random.default_rng(seed)
    weights = {x.name: Float(rng.normal(size=plan.weight_shape(x)).astype(np.float32)) for x in plan.weighted()}
    scale, bias = ({x.name: rng.normal(size=x.op.out).astype(np.float32) for x in plan.weighted()} for _ in range(2))
    return Model(plan, weights, scale, bias, {"x": Input("uint8", (0.0,), (0.01,))}, {})


def test_each_weight_is_within_half_a_step_of_what_was_trained() -> None:
    model = float_model(plan_for())
    small = quantised(model)
    for name in model.weights:
        before, after, step = model.weight(name), small.weight(name), small.scale[name]
        off = np.abs(before - after).reshape(len(step), -1).max(1)
        assert (off <= 0.501 * step).all()
        assert grid_unit(step) is not None
        assert grid_unit(small.bias[name]) is not None
        largest = np.abs(small.weights[name].values).reshape(len(step), -1).max(1)
        assert largest.max() <= 127
        assert (largest >= 63).all()  # a scale is rounded up, to no more than its double
        assert np.abs(small.bias[name] - model.bias[name]).max() <= 0.501 * np.abs(model.bias[name]).max() / 127


def test_filters_without_weights_stay_without() -> None:
    model = float_model(plan_for())
    name = next(iter(model.weights))
    for rows in (slice(0, 1), slice(None)):
        values = model.weights[name].values.copy()
        values[rows] = 0
        small = quantised(replace(model, weights={**model.weights, name: Float(values)}))
        assert not small.weights[name].values[rows].any()
        assert np.isfinite(small.weight(name)).all()
        assert (small.scale[name] > 0).all()


def test_weights_that_are_codes_already_stay_what_they_are() -> None:
    once = quantised(float_model(plan_for()))
    whole = {name: Float(once.weight(name)) for name in once.weights}
    ones = {name: np.ones_like(scale) for name, scale in once.scale.items()}
    again = quantised(replace(once, weights=whole, scale=ones))
    for name in once.weights:
        step = np.maximum(again.scale[name], once.scale[name]).reshape(-1, *[1] * (once.weight(name).ndim - 1))
        assert (np.abs(again.weight(name) - once.weight(name)) <= 0.501 * step).all()
        assert np.array_equal(again.bias[name], once.bias[name])


# pruning

ONE = [name for name, case in CASES.items() if len(case.plan.inputs) == len(case.plan.outputs) == 1]


@pytest.mark.parametrize("name", ONE)
def test_what_is_pruned_computes_what_was_trained(name: str) -> None:
    plan = CASES[name].plan
    net = random_net(plan)
    x = torch.randn(3, *next(iter(plan.inputs.values())), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        right, made = net(x), _plain(net)(x)
    assert made.shape == right.shape
    assert float((made - right).abs().max()) <= 1e-5 * float(right.abs().max())


def test_channels_that_are_worth_least_leave_and_no_more_than_need_to() -> None:
    plan = chain((1, 8, 8), conv(8), conv(8), Flatten(), Linear(4))
    net = random_net(plan)
    faint = {"l0": [1, 4, 6], "l1": [0, 3]}
    for name, rows in faint.items():
        cell = net.cell(name)
        for values in (cell.weight.weight, cell.norm.weight):  # type: ignore[union-attr]
            values.data[rows] *= 1e-3
    net.cell("l1").weight.weight.data[:, faint["l0"]] *= 1e-3  # type: ignore[union-attr]
    net.cell("l3").weight.weight.data.view(4, 8, -1)[:, faint["l1"]] *= 1e-3  # type: ignore[union-attr]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    kept = prune(net, lambda kept: sum(int(mask.sum()) for mask in kept.values()) <= 11)
    assert {name: np.flatnonzero(~mask).tolist() for name, mask in kept.items()} == faint
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(mask.all() for mask in prune(net, lambda kept: True).values())
    with pytest.raises(BudgetError):
        prune(net, lambda kept: False)


@pytest.mark.parametrize("name", ["residual", "depthwise", "concat", "squeeze and excite", "u-net", "grouped", "1-D"])
def test_coupled_channels_leave_together(name: str) -> None:
    plan = CASES[name].plan
    net = random_net(plan)
    total = sum(plan.weights().values())
    kept = prune(net, lambda kept: sum(plan.narrow(kept).weights().values()) <= 0.6 * total)
    net.shrink(kept, {})
    assert 0.2 * total < sum(net.plan.weights().values()) <= 0.6 * total
    with torch.no_grad():
        assert net(torch.zeros(2, *next(iter(plan.inputs.values())))).isfinite().all()


@pytest.mark.parametrize(
    "name", ["slices, shuffle and grouped", "depth to space", "depthwise with two filters a channel"]
)
def test_what_torch_pruning_cannot_follow_is_refused(name: str) -> None:
    plan = CASES[name].plan
    with pytest.raises(UnsupportedError, match="Torch-Pruning"):
        prune(random_net(plan), lambda kept: sum(plan.narrow(kept).weights().values()) < 30)
