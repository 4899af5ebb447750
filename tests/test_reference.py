"""The numpy reference against torch.nn.functional, operation by operation, and by hand where torch has none."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from cases import CASES, ONE, chain, graph

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from edgeticket import reference  # noqa: E402
from edgeticket.compact import compact  # noqa: E402
from edgeticket.errors import DataError, EquivalenceError  # noqa: E402
from edgeticket.model import Float, Model  # noqa: E402
from edgeticket.ops import (  # noqa: E402
    ACTIVATIONS,
    RESIZE_MODES,
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    DepthToSpace,
    Flatten,
    Gather,
    GlobalAveragePool,
    Linear,
    MaxPool,
    Mul,
    Norm,
    Op,
    Pad,
    PRelu,
    Reshape,
    Resize,
    Shape,
    SpaceToDepth,
)
from edgeticket.plan import Plan  # noqa: E402
from edgeticket.reference import activate, batches, feed, require_equal, resize_matrix, run, run_all, run_outputs  # noqa: E402
from edgeticket.ticket import Input  # noqa: E402

RNG = np.random.default_rng(0)
EXACT = 1e-13
NONE = (0, 0, 0, 0)


def values(*shape: int) -> np.ndarray:
    """Both signs, beyond 6 in part."""
    return RNG.normal(0, 3, shape)


def model(plan: Plan, **parts: dict[str, np.ndarray]) -> Model:
    """Float weights; inputs as they are."""
    weights = {name: Float(w) for name, w in parts.pop("weights", {}).items()}
    inputs = {name: Input("float32", (0.0,) * shape[0], (1.0,) * shape[0]) for name, shape in plan.inputs.items()}
    channels = {kind: parts.get(kind, {}) for kind in ("scale", "bias", "slope")}
    return Model(plan, weights, channels["scale"], channels["bias"], inputs, {}, slope=channels["slope"])


def step(op: Op, *inputs: np.ndarray, **parts: np.ndarray) -> np.ndarray:
    """What the reference makes of one operation; `parts`: weights, scale, bias, slope of it."""
    names = [f"x{i}" for i in range(len(inputs))]
    plan = graph(dict(zip(names, (x.shape[1:] for x in inputs), strict=True)), ("y", op, " ".join(names)))
    given = {kind: {"y": array} for kind, array in parts.items()}
    return run(model(plan, **given), dict(zip(names, inputs, strict=True)))


def weighted(op: Op, x: np.ndarray, *shape: int) -> tuple[np.ndarray, "torch.Tensor", "torch.Tensor"]:
    """The sums without scale and bias, and x and weights as torch tensors."""
    weight, filters = values(*shape), shape[0]
    made = step(op, x, weights=weight, scale=np.ones(filters), bias=np.zeros(filters))
    return made, torch.from_numpy(x), torch.from_numpy(weight)


def assert_equal(ours: np.ndarray, theirs: "torch.Tensor") -> None:
    assert ours.shape == tuple(theirs.shape)
    assert reference.difference(ours, theirs.numpy()) < EXACT


# activations

THEIRS: dict[str, Callable] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "leaky_relu:0.2": lambda x: F.leaky_relu(x, 0.2),
    "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
}


@pytest.mark.parametrize("kind", THEIRS)
def test_activations(kind: str) -> None:
    x = np.concatenate([np.linspace(-9, 9, 3001), [-3, 3, 0, 6, -1e3, 1e3, -1e-9, 1e-9]])
    expected = THEIRS[kind](torch.from_numpy(x)).numpy()
    assert np.abs(activate(kind, x) - expected).max() < 1e-12
    x = x.reshape(1, 1, -1)
    for made in (
        step(Activation(kind), x),
        step(Add(kind), x, 0 * x),
        step(Norm(kind), x, scale=np.ones(1), bias=np.zeros(1)),
    ):
        assert np.abs(made.reshape(-1) - expected).max() < 1e-12


def test_every_activation_was_compared() -> None:
    assert set(ACTIVATIONS) <= set(THEIRS)


# weighted layers

TRANSPOSED: list[tuple[Shape, Shape, Shape, Shape, Shape]] = [  # size, kernel, stride, pad, out_pad
    ((5, 4), (3, 3), (2, 2), (1, 1, 1, 1), (0, 0)),
    ((5, 4), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    ((5, 4), (2, 2), (2, 2), NONE, (0, 0)),
    ((5, 4), (3, 2), (2, 3), (1, 0, 0, 1), (1, 2)),
    ((5, 4), (4, 1), (3, 2), (0, 0, 2, 0), (2, 0)),
    ((5, 4), (1, 1), (1, 1), NONE, (0, 0)),
    ((1, 1), (4, 4), (1, 1), NONE, (0, 0)),
    ((5, 4), (2, 3), (1, 2), (2, 3, 1, 3), (0, 1)),  # cuts more than a kernel
    ((7,), (4,), (2,), (1, 1), (0,)),
    ((7,), (3,), (2,), (2, 0), (1,)),
    ((1,), (3,), (5,), (0, 0), (4,)),
]


@pytest.mark.parametrize(("size", "kernel", "stride", "pad", "out_pad"), TRANSPOSED)
def test_transposed_convolutions(size: Shape, kernel: Shape, stride: Shape, pad: Shape, out_pad: Shape) -> None:
    op, n = ConvTranspose(6, kernel, stride, pad, out_pad), len(kernel)
    made, x, weight = weighted(op, values(2, 3, *size), 6, 3, *kernel)
    function = F.conv_transpose1d if n == 1 else F.conv_transpose2d
    whole = function(x, weight.transpose(0, 1), None, stride, 0, out_pad)
    ends = (slice(pad[i], whole.shape[2 + i] - pad[n + i]) for i in range(n))
    assert_equal(made, whole[(slice(None), slice(None), *ends)])
    if pad[:n] == pad[n:] and all(pad[i] < kernel[i] for i in range(n)):
        assert_equal(made, function(x, weight.transpose(0, 1), None, stride, pad[:n], out_pad))


def test_a_transposed_convolution_by_hand() -> None:
    """1 and 10 at stride 2, each spread by the kernel 1 2 3: 1 2 (3 + 10) 20 30, and one more by out_pad."""
    op = ConvTranspose(1, (3,), (2,), (0, 0), (1,))
    made = step(
        op, np.array([[[1.0, 10.0]]]), weights=np.array([[[1.0, 2, 3]]]), scale=np.array([2.0]), bias=np.array([5.0])
    )
    assert made.tolist() == [[[7, 9, 31, 45, 65, 5]]]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("pad", [(1, 1, 1, 1), (2, 0, 0, 1)])
def test_convolutions(groups: int, pad: Shape) -> None:
    op = Conv(8, (3, 2), (1, 2), pad, (2, 1), groups)
    made, x, weight = weighted(op, values(2, 4, 7, 6), 8, 4 // groups, 3, 2)
    around = F.pad(x, (pad[1], pad[3], pad[0], pad[2]))
    assert_equal(made, F.conv2d(around, weight, None, (1, 2), 0, (2, 1), groups))


def test_scale_and_bias_come_before_the_activation() -> None:
    scale, bias, x = np.array([2.0, -3.0]), np.array([0.5, 1.0]), values(4, 2, 3, 3)
    ones = np.ones((2, 2, 1, 1))
    expected = F.relu(torch.from_numpy(x.sum(1, keepdims=True) * scale.reshape(1, 2, 1, 1) + bias.reshape(1, 2, 1, 1)))
    for op in (
        Conv(2, ONE, ONE, NONE, ONE, activation="relu"),
        ConvTranspose(2, ONE, ONE, NONE, (0, 0), activation="relu"),
    ):
        assert_equal(step(op, x, weights=ones, scale=scale, bias=bias), expected)
    flat = torch.from_numpy(x[:, :, 0, 0])
    made = step(Linear(2, activation="relu"), flat.numpy(), weights=np.ones((2, 2)), scale=scale, bias=bias)
    assert_equal(made, F.relu(flat.sum(1, keepdim=True) * torch.from_numpy(scale) + torch.from_numpy(bias)))


# values per channel


@pytest.mark.parametrize("shape", [(5,), (5, 7), (5, 4, 3)])
def test_norm_and_prelu(shape: Shape) -> None:
    x, mean, variance, gain, shift = values(6, *shape), *(np.abs(values(5)) + 0.1 for _ in range(4))
    expected = F.batch_norm(*(torch.from_numpy(v) for v in (x, mean, variance, gain, shift)), eps=0)
    scale = gain / np.sqrt(variance)
    assert_equal(step(Norm(), x, scale=scale, bias=shift - mean * scale), expected)
    slope = values(5)
    assert_equal(step(PRelu(), x, slope=slope), F.prelu(torch.from_numpy(x), torch.from_numpy(slope)))


# joins


def test_joins_broadcast() -> None:
    shapes = [(5, 4, 3), (5, 1, 1), (1, 4, 3), (1, 1, 3)]
    inputs = [values(2, *shape) for shape in shapes]
    tensors = [torch.from_numpy(x) for x in inputs]
    assert_equal(step(Add("relu"), *inputs), F.relu(tensors[0] + tensors[1] + tensors[2] + tensors[3]))
    assert_equal(step(Mul(), *inputs), tensors[0] * tensors[1] * tensors[2] * tensors[3])
    assert_equal(step(Mul(), inputs[1], inputs[2]), tensors[1] * tensors[2])
    assert_equal(step(Concat(), inputs[0], inputs[2], inputs[0]), torch.cat([tensors[0], tensors[2], tensors[0]], 1))


# space


def test_pools() -> None:
    x = values(2, 3, 6, 7)
    tensor = torch.from_numpy(x)
    assert_equal(step(MaxPool((3, 2), (2, 1), (1, 1, 1, 1)), x), F.max_pool2d(tensor, (3, 2), (2, 1), (1, 1)))
    average = F.avg_pool2d(tensor, (2, 3), (1, 2), (0, 1), count_include_pad=False)
    assert_equal(step(AveragePool((2, 3), (1, 2), (0, 1, 0, 1)), x), average)
    assert_equal(step(GlobalAveragePool(), x), tensor.mean((2, 3)))


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize(
    ("size", "out"),
    [
        ((5,), (10,)),
        ((7,), (3,)),
        ((1,), (4,)),
        ((9,), (1,)),
        ((5, 7), (10, 14)),
        ((5, 7), (3, 11)),
        ((1, 6), (5, 6)),
        ((8, 8), (1, 3)),
    ],
)
def test_resizes(size: Shape, out: Shape, mode: str) -> None:
    x = values(2, 3, *size)
    own = {"linear": "bilinear", "align_corners": "bilinear"} if len(size) == 2 else {"align_corners": "linear"}
    align = {"linear": False, "align_corners": True}.get(mode)
    expected = F.interpolate(torch.from_numpy(x), out, mode=own.get(mode, mode), align_corners=align)
    assert_equal(step(Resize(out, mode), x), expected)


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_every_small_resize(mode: str) -> None:
    own, align = {"align_corners": ("linear", True), "linear": ("linear", False)}.get(mode, (mode, None))
    for size in range(1, 34):
        x = values(1, 1, size)
        for out in range(1, 34):
            expected = F.interpolate(torch.from_numpy(x), out, mode=own, align_corners=align).numpy()
            made = x @ resize_matrix(size, out, mode).T
            assert np.abs(made - expected).max() < 1e-12, (size, out)


def test_rearrangements() -> None:
    x = values(2, 12, 4, 6)
    tensor = torch.from_numpy(x)
    assert_equal(step(DepthToSpace(2), x), F.pixel_shuffle(tensor, 2))
    assert_equal(step(SpaceToDepth(2), x), F.pixel_unshuffle(tensor, 2))
    assert_equal(step(Gather(tuple(i // 3 + 4 * (i % 3) for i in range(12))), x), F.channel_shuffle(tensor, 3))
    assert_equal(step(Gather((5, 5, 0)), x), tensor[:, [5, 5, 0]])
    assert_equal(step(Flatten(), x), tensor.flatten(1))
    assert_equal(step(Reshape((8, 3)), x), tensor.view(2, 12, 8, 3))
    assert_equal(step(Reshape((24,)), x), tensor.flatten(2))
    assert_equal(step(Reshape((2, 2)), x[:, :, 0, 0]), tensor[:, :, 0, 0].view(2, 3, 2, 2))
    assert_equal(step(Pad((1, 2, 3, 0)), x), F.pad(tensor, (2, 0, 1, 3)))
    assert_equal(step(Pad((-1, 2, 3, -4)), x), F.pad(tensor, (2, -4, -1, 3)))
    assert_equal(step(Pad((-3, 0, 0, -5)), x), tensor[:, :, 3:, :1])


# running


def test_several_inputs_and_outputs_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["two inputs and two outputs"]
    network, raw = compact(case.ticket()), case.raw(7)
    whole = run_outputs(network, raw)
    assert [output.shape for output in whole] == [(7, 4), (7, 2)]
    assert np.array_equal(run(network, raw), whole[0])
    monkeypatch.setattr(reference, "BATCH_ELEMENTS", 1)
    assert [len(part["picture"]) for part in batches(network.plan, raw)] == [1] * 7
    for one, other in zip(run_outputs(network, raw), whole, strict=True):
        assert reference.difference(one, other) < EXACT


def test_batches_are_cut_by_the_largest_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 + 64 elements of tensors and windows of 8 x 8: 136 an example."""
    plan = chain((8,), Linear(64), Linear(8))
    each = (8 + 64 + 8) + 64
    monkeypatch.setattr(reference, "BATCH_ELEMENTS", 3 * each)
    assert [len(part["x"]) for part in batches(plan, values(8, 8))] == [3, 3, 2]


def test_data_that_do_not_fit_are_refused() -> None:
    two, one = CASES["two inputs and two outputs"].plan, CASES["plain"].plan
    picture, current = values(3, 2, 6, 6), values(3, 3, 12)
    assert list(feed(two, {"current": current, "picture": picture})) == ["picture", "current"]
    assert list(feed(one, values(2, 1, 8, 8))) == ["x"]
    for plan, raw, told in (
        (two, picture, "data picture for a network that reads picture, current"),
        (two, {"picture": picture}, "data picture for a network that reads picture, current"),
        (two, {"picture": picture, "current": current[:2]}, "give as many of each"),
        (two, {"picture": picture, "current": current, "x": current}, "give as many of each"),
        (two, {"picture": current, "current": picture}, "data of shape 3x12 for a network that reads 2x6x6"),
        (one, {"y": picture}, "data y for a network that reads x"),
        (one, values(2, 1, 8, 7), "data of shape 1x8x7 for a network that reads 1x8x8"),
    ):
        with pytest.raises(DataError, match=told):
            feed(plan, raw)


def test_gates_make_channels_zero_after_the_activation() -> None:
    plan = chain((2, 4, 4), Norm("sigmoid"), GlobalAveragePool())
    own = model(plan, scale={"l0": np.ones(2)}, bias={"l0": np.zeros(2)})
    gates = {"l0": np.array([True, False]), "l1": np.array([True, True])}
    made = run_all(own, values(3, 2, 4, 4), gates)
    assert (made["l1"][:, 0] > 0).all()
    assert (made["l1"][:, 1] == 0).all()


def test_differences_are_found() -> None:
    a = np.array([1.0, -4.0])
    assert require_equal("it", a + 4e-6, a, 1e-5) == pytest.approx(1e-6)
    for b in (a + 1e-3, a * np.nan, np.array([np.inf, 0])):
        with pytest.raises(EquivalenceError, match="it: outputs differ by"):
            require_equal("it", b, a)


def test_a_model_of_the_same_network_has_the_same_digest() -> None:
    for name in ("norm alone", "prelu"):
        own = compact(CASES[name].ticket())
        turned = {
            part: dict(reversed(list(getattr(own, part).items()))) for part in ("weights", "scale", "bias", "slope")
        }
        assert replace(own, **turned).digest == own.digest
        for part in ("scale", "bias", "slope"):
            for layer, array in getattr(own, part).items():
                changed = dict(getattr(own, part)) | {layer: array + np.float32(0.01)}
                assert replace(own, **{part: changed}).digest != own.digest, (part, layer)
        assert replace(own, inputs={"x": replace(own.inputs["x"], step=(0.5, 0.5))}).digest != own.digest
