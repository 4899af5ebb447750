"""Shapes, costs and coupled channels of plans, against numbers from outside the code."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import CASES, ONE, chain, graph

from edgeticket.errors import UnsupportedError
from edgeticket.ops import (
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
    Layer,
    Linear,
    MaxPool,
    Mul,
    Norm,
    Pad,
    PRelu,
    Reshape,
    Resize,
    conv,
)
from edgeticket.plan import Plan

# shapes and costs


def lenet() -> Plan:
    """LeNet-5 as usually drawn: 61,470 weights without biases, 416,520 multiply-accumulates."""
    pool = MaxPool((2, 2), (2, 2), (0, 0, 0, 0))
    first, second = (Conv(n, (5, 5), ONE, (0,) * 4, ONE, activation="tanh") for n in (6, 16))
    return chain((1, 32, 32), first, pool, second, pool, Flatten(), Linear(120), Linear(84), Linear(10))


def test_lenet() -> None:
    plan = lenet()
    shapes = [plan.shapes[name] for name in plan.shapes]
    assert shapes == [(1, 32, 32), (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,)]
    assert plan.weights() == {"l0": 150, "l2": 2400, "l5": 48000, "l6": 10080, "l7": 840}
    assert sum(plan.weights().values()) == 61_470
    assert sum(plan.macs().values()) == 150 * 784 + 2400 * 100 + 48000 + 10080 + 840 == 416_520
    assert plan.peak_activations() == 6 * 28 * 28 + 6 * 14 * 14
    assert (plan.stem(), plan.head()) == (["l0"], ["l7"])


def test_the_three_convolutions_of_the_figures() -> None:
    """conv:16,32,32 on 28x28: 1.47 M multiply-accumulates (search-lab.md)."""
    plan = chain((1, 28, 28), conv(16), conv(32, stride=2), conv(32, stride=2), GlobalAveragePool(), Linear(10))
    assert sum(plan.macs().values()) == 144 * 784 + 4608 * 196 + 9216 * 49 + 320 == 1_467_968
    assert sum(plan.weights().values()) == 14_288


def test_mobilenet_block() -> None:
    """Depthwise 3x3 on 32 channels, 112x112, then 1x1 to 64: 3.6 M and 25.7 M (Howard et al., 2017, table 1)."""
    plan = chain((3, 224, 224), conv(32, stride=2), conv(32, groups=32), conv(64, 1))
    assert plan.macs() == {"l0": 10_838_016, "l1": 3_612_672, "l2": 25_690_112}
    assert plan.weight_shape(plan["l1"]) == (32, 1, 3, 3)


SLIDING = [  # size, kernel, stride, pad begin, pad end, dilation, expected
    (7, 3, 1, 0, 0, 1, 5),
    (7, 3, 2, 1, 1, 1, 4),
    (8, 3, 2, 1, 1, 1, 4),
    (8, 2, 2, 0, 1, 1, 4),
    (7, 3, 1, 2, 2, 2, 7),
    (5, 5, 3, 0, 0, 1, 1),
    (9, 3, 4, 2, 1, 3, 2),
]


@pytest.mark.parametrize(("size", "kernel", "stride", "begin", "end", "dilation", "expected"), SLIDING)
def test_sliding_shapes(
    size: int, kernel: int, stride: int, begin: int, end: int, dilation: int, expected: int
) -> None:
    one = chain((2, size), Conv(3, (kernel,), (stride,), (begin, end), (dilation,)))
    assert one.shapes["l0"] == (3, expected)
    two = chain((2, 20, size), Conv(3, (1, kernel), (1, stride), (0, begin, 0, end), (1, dilation)))
    assert two.shapes["l0"] == (3, 20, expected)
    if dilation == 1:
        assert chain((2, size), MaxPool((kernel,), (stride,), (begin, end))).shapes["l0"] == (2, expected)
        assert chain((2, size), AveragePool((kernel,), (stride,), (begin, end))).shapes["l0"] == (2, expected)
    starts = range(-begin, size + end - dilation * (kernel - 1), stride)
    assert len(starts) == expected


def test_a_transposed_convolution_works_once_an_input() -> None:
    """Every value of the input meets every weight: 5 x 4 positions, not the 11 x 12 of the output."""
    plan = chain((8, 5, 4), ConvTranspose(6, (3, 2), (2, 3), (1, 0, 0, 1), (1, 2)))
    assert plan.shapes["l0"] == (6, 11, 12)
    assert plan.weight_shape(plan["l0"]) == (6, 8, 3, 2)
    assert (plan.positions("l0"), plan.macs()) == (20, {"l0": 6 * 8 * 6 * 20})
    assert chain((8, 5), ConvTranspose(6, (4,), (2,), (1, 1), (0,))).positions("l0") == 5
    assert chain((8, 5, 4), conv(6, stride=2)).positions("l0") == 3 * 2
    assert chain((8,), Linear(6)).positions("l0") == 1


def test_peak_holds_a_shortcut_until_its_last_reader() -> None:
    plan = graph((1, 4, 4), ("a", conv(2), "x"), ("b", conv(8), "a"), ("c", conv(2), "b"), ("s", Add(), "a c"))
    assert plan.peak_activations() == (2 + 8 + 2) * 16
    kept_to_the_end = Plan(plan.inputs, plan.layers, ("s", "b"))
    assert kept_to_the_end.peak_activations() == (2 + 8 + 2 + 2) * 16


# coupled channels


def groups(plan: Plan) -> dict[str, tuple[int, bool]]:
    return {name: (len(group.ids), bool(group.fixed)) for name, group in plan.groups.items()}


def test_groups_of_a_chain() -> None:
    assert groups(lenet()) == {
        "x": (1, True),
        "l0": (6, False),
        "l2": (16, False),
        "l5": (120, False),
        "l6": (84, False),
        "l7": (10, True),
    }


def test_groups_of_a_residual() -> None:
    assert groups(CASES["residual"].plan) == {
        "x": (3, True),
        "stem": (8, False),  # with b and their sum
        "a": (8, False),
        "down": (12, False),  # with d and c, the other two of a sum
        "fc": (4, True),
    }
    channels = CASES["residual"].plan.channels
    assert np.array_equal(channels["stem"], channels["b"])
    assert np.array_equal(channels["sum"], channels["b"])
    assert not np.intersect1d(channels["a"], channels["b"]).size


def test_groups_of_depthwise_and_of_multiplied_channels() -> None:
    plan = CASES["depthwise with two filters a channel"].plan
    assert groups(plan) == {"x": (3, True), "l0": (6, False), "l2": (8, False), "l4": (4, True)}
    assert np.array_equal(plan.channels["l1"], np.repeat(plan.channels["l0"], 2))


def test_groups_of_a_concat_keep_their_places() -> None:
    plan = CASES["concat"].plan
    assert groups(plan) == {
        "x": (2, True),
        "stem": (7, False),
        "a": (5, False),
        "b": (6, False),
        "mix": (9, False),
        "fc": (3, True),
    }
    assert np.array_equal(plan.channels["all"], np.concatenate([plan.channels[name] for name in ("a", "stem", "b")]))


def test_groups_through_flatten_and_products() -> None:
    plan = CASES["product of three"].plan
    assert groups(plan) == {"x": (2, True), "stem": (6, False), "fc": (4, True)}
    assert np.array_equal(plan.channels["flat"], np.repeat(plan.channels["stem"], 25))


def test_a_grouped_convolution_ties_the_same_positions_of_all_groups_and_says_so() -> None:
    plan = CASES["grouped"].plan
    assert groups(plan) == {"x": (2, True), "l0": (2, False), "l1": (3, False), "l2": (8, False), "l4": (4, True)}
    assert plan.channels["l0"].tolist() == [2, 3] * 4
    assert plan.channels["l1"].tolist() == [10, 11, 12] * 4
    assert plan.groups["l0"].tied == plan.groups["l1"].tied == ("l1",)
    assert plan.groups["l2"].tied == ()
    assert plan.groups["x"].fixed == "input of the network"
    assert plan.groups["l4"].fixed == "output of the network"


def test_ties_to_what_is_fixed_are_fixed_too() -> None:
    """Channels 0 and 2 of the concat are x and the second of a, first of their convolution group."""
    plan = graph((1, 5, 5), ("a", conv(3), "x"), ("all", Concat(), "x a"), ("b", conv(6, groups=2), "all"))
    assert plan.channels["all"].tolist() == [0, 1, 0, 1]
    assert groups(plan) == {"x": (1, True), "a": (1, False), "b": (3, True)}
    assert [group.fixed for group in plan.groups.values()] == ["input of the network", "", "output of the network"]
    assert [group.tied for group in plan.groups.values()] == [("b",)] * 3


def test_what_joined_channels_to_fixed_ones() -> None:
    """By hand, from either end, whatever the order of a sum's operands."""
    for operands in ("a x", "x a"):
        plan = graph((4, 5, 5), ("a", conv(4), "x"), ("s", Add(), operands), ("b", conv(4), "s"), ("t", Add(), "s b"))
        assert {name: group.by for name, group in plan.groups.items()} == {"x": ("s", "t")}
    for operands in ("s c", "c s"):
        rows = (
            ("a", conv(6), "x"),
            ("b", conv(6), "a"),
            ("s", Add(), "b a"),
            ("c", conv(6), "s"),
            ("t", Add(), operands),
        )
        assert {name: group.by for name, group in graph((4, 5, 5), *rows).groups.items()} == {"x": (), "a": ("t", "s")}
    free = CASES["residual"].plan.groups
    assert {group.by for group in free.values()} == {()}


def test_slices_a_shuffle_and_a_grouped_convolution_by_hand() -> None:
    """stem is channels 2 to 13, b 14 to 19, group 20 to 31; the shuffle alternates the first half of stem and b."""
    plan = CASES["slices, shuffle and grouped"].plan
    assert plan.channels["stem"].tolist() == [2, 3, 2, 3, 2, 3, 8, 9, 10, 11, 12, 13]
    assert plan.channels["left"].tolist() == [2, 3] * 3
    assert plan.channels["right"].tolist() == plan.channels["a"].tolist() == [8, 9, 10, 11, 12, 13]
    assert plan.channels["b"].tolist() == [14, 15] * 3
    assert plan.channels["shuffle"].tolist() == [2, 14, 3, 15] * 3
    assert plan.channels["group"].tolist() == [20, 21, 22, 23] * 3
    assert plan.channels["again"].tolist() == [20, 21, 22, 23] * 3 + [2, 14, 3, 15] * 3 + [20, 21, 22, 23] * 3
    assert groups(plan) == {
        "x": (2, True),
        "stem": (8, False),
        "b": (2, False),
        "group": (4, False),
        "mix": (9, False),
        "fc": (4, True),
    }
    assert [plan.groups[name].tied for name in ("stem", "b", "group", "mix")] == [("group",)] * 3 + [()]


def test_blocks_of_depth_to_space_and_of_a_flat_tensor_are_tied() -> None:
    plan = CASES["depth to space"].plan
    assert plan.channels["l0"].tolist() == [2] * 4 + [6] * 4 + [10] * 4
    assert plan.channels["l1"].tolist() == [2, 6, 10]
    assert (plan.groups["l0"].ids.tolist(), plan.groups["l0"].tied) == ([2, 6, 10], ("l1",))
    plan = CASES["unflatten"].plan
    assert plan.channels["l0"].tolist() == [10] * 6 + [16] * 6 + [22] * 6 + [28] * 6
    assert plan.channels["l1"].tolist() == [10, 16, 22, 28]
    assert plan.groups["l0"].tied == ("l1",)
    assert np.array_equal(plan.channels["l3"], plan.channels["l2"])  # another shape in space ties nothing
    assert plan.groups["l2"].tied == ()
    vector = chain((5,), Linear(6), Reshape((1, 1)), conv(4, 1))
    assert np.array_equal(vector.channels["l1"], vector.channels["l0"])
    assert vector.groups["l0"].tied == ()
    pixel = chain((2, 3, 3), conv(6), DepthToSpace(1), conv(4))
    assert pixel.groups["l0"].tied == ()


def test_space_to_depth_spreads_a_channel_and_ties_none() -> None:
    plan = CASES["space to depth"].plan
    assert plan.channels["l0"].tolist() == [0] * 4 + [1] * 4
    assert plan.channels["l2"].tolist() == np.repeat(plan.channels["l1"], 4).tolist()
    assert groups(plan) == {"x": (2, True), "l1": (6, False), "l3": (8, False), "l5": (4, True)}
    assert plan.groups["l1"].tied == ()


def test_a_broadcast_channel_is_not_one_of_those_that_it_meets() -> None:
    plan = CASES["attention by broadcast"].plan
    assert groups(plan) == {
        "x": (2, True),
        "stem": (8, False),  # with more, by their product
        "less": (6, False),
        "where": (1, False),  # one channel for all eight
        "fc": (4, True),
    }
    for name in ("more", "gate", "scaled", "seen", "sum"):
        assert np.array_equal(plan.channels[name], plan.channels["stem"]), name
    first = graph((2, 5, 5), ("a", conv(1), "x"), ("b", conv(4), "x"), ("m", Mul(), "a b"), ("o", conv(2), "m"))
    assert np.array_equal(first.channels["m"], first.channels["b"])


def test_layers_that_change_no_channel_pass_them_on() -> None:
    ops = (Norm("relu"), PRelu(), Pad((1, 1, 0, 0)), Resize((5, 6), "linear"), MaxPool((2, 2), ONE, (0,) * 4))
    plan = chain((2, 5, 5), conv(6), *ops, GlobalAveragePool(), Linear(3))
    for i in range(1, 7):
        assert np.array_equal(plan.channels[f"l{i}"], plan.channels["l0"]), i
    assert groups(plan) == {"x": (2, True), "l0": (6, False), "l7": (3, True)}
    assert [layer.name for layer in plan.scaled()] == ["l0", "l1", "l7"]
    assert [layer.name for layer in plan.weighted()] == ["l0", "l7"]


def test_a_sum_with_the_input_or_the_output_is_fixed() -> None:
    plan = graph((4, 5, 5), ("a", conv(4), "x"), ("s", Add(), "a x"), ("b", conv(4), "s"), ("o", Add(), "b s"))
    assert groups(plan) == {"x": (4, True)}


def test_every_channel_is_in_one_group() -> None:
    for name, case in CASES.items():
        ids = np.concatenate([group.ids for group in case.plan.groups.values()])
        assert len(np.unique(ids)) == len(ids), name
        assert set(ids) == set(np.concatenate(list(case.plan.channels.values()))), name


# narrowing


def test_narrow_widths_and_ids() -> None:
    plan = CASES["concat"].plan
    every = {name: np.ones(len(group.ids), bool) for name, group in plan.groups.items() if not group.fixed}
    assert plan.narrow(every) == plan
    kept = every | {"stem": np.arange(7) % 2 == 0, "b": np.arange(6) == 5}
    narrow = plan.narrow(kept)
    assert narrow.shapes["all"] == (5 + 4 + 1, 6, 6)
    rows, columns = plan.rows_columns(plan["mix"], kept)
    assert rows.tolist() == list(range(9))
    assert columns.tolist() == [0, 1, 2, 3, 4, 5, 7, 9, 11, 17]
    rows, columns = plan.rows_columns(plan["b"], kept)
    assert (rows.tolist(), columns.tolist()) == ([5], [0, 2, 4, 6])


def test_narrow_depthwise_and_flatten() -> None:
    plan = chain((2, 4, 3), conv(6), conv(12, groups=6), Flatten(), Linear(3))
    kept = {"l0": np.array([0, 1, 0, 0, 1, 0], bool)}
    narrow = plan.narrow(kept)
    assert (narrow["l1"].op.out, narrow["l1"].op.groups) == (4, 2)  # type: ignore[union-attr]
    assert narrow.shapes["l2"] == (48,)
    rows, columns = plan.rows_columns(plan["l1"], kept)
    assert (rows.tolist(), columns.tolist()) == ([2, 3, 8, 9], [0])
    _, columns = plan.rows_columns(plan["l3"], kept)
    assert columns.tolist() == [*range(24, 48), *range(96, 120)]


def test_narrow_slices_shuffle_and_grouped_by_hand() -> None:
    plan = CASES["slices, shuffle and grouped"].plan
    kept = {name: np.ones(len(group.ids), bool) for name, group in plan.groups.items() if not group.fixed}
    assert plan.narrow(kept) == plan
    kept |= {
        "stem": np.array([1, 0, 1, 1, 0, 0, 0, 0], bool),  # 0, 2, 4 on the left; 6, 7 on the right
        "b": np.array([0, 1], bool),
        "group": np.array([1, 0, 0, 1], bool),
    }
    narrow = plan.narrow(kept)
    assert [narrow[name].op for name in ("left", "right")] == [Gather((0, 1, 2)), Gather((3, 4))]
    assert narrow["shuffle"].op == Gather((0, 3, 1, 4, 2, 5))
    assert (narrow["a"].op.out, narrow["a"].op.groups) == (2, 2)  # type: ignore[union-attr]
    assert (narrow["group"].op.out, narrow["group"].op.groups) == (6, 3)  # type: ignore[union-attr]
    assert narrow.weight_shape(narrow["group"]) == (6, 2, 3, 3)
    rows, columns = plan.rows_columns(plan["group"], kept)
    assert (rows.tolist(), columns.tolist()) == ([0, 3, 4, 7, 8, 11], [0, 3])
    rows, columns = plan.rows_columns(plan["b"], kept)
    assert (rows.tolist(), columns.tolist()) == ([1, 3, 5], [0, 1])
    _, columns = plan.rows_columns(plan["mix"], kept)
    assert columns.tolist() == [start + i for start in (0, 12, 24) for i in (0, 3, 4, 7, 8, 11)]


def test_narrow_blocks_by_hand() -> None:
    plan = CASES["depth to space"].plan
    kept = {"l0": np.array([1, 0, 1], bool), "l2": np.ones(6, bool)}
    assert [plan.narrow(kept).shapes[name] for name in ("l0", "l1", "l3")] == [(8, 4, 5), (2, 8, 10), (480,)]
    assert [ids.tolist() for ids in plan.rows_columns(plan["l0"], kept)] == [[0, 1, 2, 3, 8, 9, 10, 11], [0, 1]]
    assert plan.rows_columns(plan["l2"], kept)[1].tolist() == [0, 2]
    plan = CASES["unflatten"].plan
    kept = {"l0": np.array([0, 1, 0, 0], bool), "l2": np.arange(8) < 3}
    assert [plan.narrow(kept).shapes[name] for name in ("l0", "l1", "l3")] == [(6,), (1, 2, 3), (3, 6)]
    assert plan.rows_columns(plan["l0"], kept)[0].tolist() == [6, 7, 8, 9, 10, 11]
    plan = CASES["space to depth"].plan
    kept = {"l1": np.array([0, 1, 0, 0, 1, 0], bool), "l3": np.ones(8, bool)}
    assert plan.rows_columns(plan["l3"], kept)[1].tolist() == [4, 5, 6, 7, 16, 17, 18, 19]


def test_a_grouped_convolution_of_one_channel_a_group_is_left() -> None:
    """Depthwise in the narrow plan, but its signs are those of the wide one's second input."""
    plan = CASES["grouped"].plan
    kept = {"l0": np.array([0, 1], bool), "l1": np.array([1, 0, 1], bool), "l2": np.ones(8, bool)}
    narrow = plan.narrow(kept)
    assert (narrow["l1"].op.out, narrow["l1"].op.groups) == (8, 4)  # type: ignore[union-attr]
    assert [ids.tolist() for ids in plan.rows_columns(plan["l1"], kept)] == [[0, 2, 3, 5, 6, 8, 9, 11], [1]]
    assert narrow.depthwise(narrow["l1"])
    assert not plan.depthwise(plan["l1"])


HALVES = graph(
    (2, 5, 5),
    ("stem", conv(4), "x"),
    ("left", Gather((0, 1)), "stem"),
    ("right", Gather((3, 2)), "stem"),
    ("a", conv(3), "left"),
    ("b", conv(3), "right"),
    ("sum", Add(), "a b"),
    ("o", conv(2), "sum"),
)


@pytest.mark.parametrize(
    ("kept", "among", "filled"),
    [
        ([1, 0, 1, 0], None, [1, 0, 1, 0]),
        ([1, 1, 0, 0], None, [1, 1, 0, 1]),  # the right half's first channel is 3
        ([1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0]),
        ([0, 0, 0, 0], None, [1, 0, 0, 1]),
        ([0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]),
    ],
)
def test_fill_revives_a_channel_of_a_branch_that_would_vanish(
    kept: list[int], among: list[int] | None, filled: list[int]
) -> None:
    whole = np.ones(3, bool)
    allowed = None if among is None else {"stem": np.array(among, bool), "a": whole}
    made = HALVES.fill({"stem": np.array(kept, bool), "a": whole}, allowed)
    assert {name: mask.astype(int).tolist() for name, mask in made.items()} == {"stem": filled, "a": [1, 1, 1]}
    HALVES.narrow(made)


def test_fill_revives_tied_channels_together() -> None:
    plan = CASES["grouped"].plan
    kept = {"l0": np.zeros(2, bool), "l1": np.array([0, 0, 1], bool), "l2": np.ones(8, bool)}
    narrow = plan.narrow(plan.fill(kept))
    assert (narrow.shapes["l0"][0], narrow.shapes["l1"][0]) == (4, 4)


def test_a_group_cannot_lose_everything() -> None:
    plan = chain((1, 5, 5), conv(4), conv(4), GlobalAveragePool(), Linear(2))
    with pytest.raises(UnsupportedError, match="l0"):
        plan.narrow({"l0": np.zeros(4, bool)})


# JSON


@pytest.mark.parametrize("name", CASES)
def test_json_round_trip(name: str) -> None:
    plan = CASES[name].plan
    assert json.loads(json.dumps(plan.to_json())) == plan.to_json()
    assert Plan.from_json(plan.to_json()) == plan


def _set(*path: Any) -> Callable[[Any], Any]:
    def change(data: Any) -> Any:
        where = data
        for key in path[:-2]:
            where = where[key]
        where[path[-2]] = path[-1]
        return data

    return change


def _drop(key: str) -> Callable[[Any], Any]:
    return lambda data: {name: value for name, value in data.items() if name != key}


MALFORMED: dict[str, Callable[[Any], Any]] = {
    "null": lambda data: None,
    "a list": lambda data: [],
    "empty": lambda data: {},
    **{f"no {key}": _drop(key) for key in ("inputs", "layers", "outputs")},
    **{f"{key} null": _set(key, None) for key in ("inputs", "layers", "outputs")},
    **{f"{key} text": _set(key, "x") for key in ("inputs", "layers", "outputs")},
    "outputs empty": _set("outputs", []),
    "layer null": _set("layers", 0, None),
    "layer without a name": lambda data: (data["layers"][0].pop("name"), data)[1],
    "layer without an operation": lambda data: (data["layers"][0].pop("op"), data)[1],
    "layer without a field": lambda data: (data["layers"][0].pop("stride"), data)[1],
    "unknown operation": _set("layers", 0, "op", "Softmax"),
    "class that is no operation": _set("layers", 0, "op", "Plan"),
    "unknown field": _set("layers", 0, "bias", True),
    "inputs as text": _set("layers", 0, "inputs", "x"),
    "inputs of numbers": _set("layers", 0, "inputs", [1]),
    "layer without inputs": _set("layers", 0, "inputs", []),
    "two inputs": _set("layers", 0, "inputs", ["x", "x"]),
    "unknown input": _set("layers", 0, "inputs", ["y"]),
    "its own input": _set("layers", 0, "inputs", ["l0"]),
    "width as text": _set("layers", 0, "out", "8"),
    "width true": _set("layers", 0, "out", True),
    "width with a fraction": _set("layers", 0, "out", 8.0),
    "width 0": _set("layers", 0, "out", 0),
    "width negative": _set("layers", 0, "out", -8),
    "norm as a number": _set("layers", 0, "norm", 1),
    "activation null": _set("layers", 0, "activation", None),
    "unknown activation": _set("layers", 0, "activation", "swish"),
    "kernel as a number": _set("layers", 0, "kernel", 3),
    "kernel of one": _set("layers", 0, "kernel", [3]),
    "kernel 0": _set("layers", 0, "kernel", [0, 3]),
    "kernel with a fraction": _set("layers", 0, "kernel", [3.0, 3.0]),
    "pad of two": _set("layers", 0, "pad", [1, 1]),
    "pad negative": _set("layers", 0, "pad", [-1, 0, 0, 0]),
    "groups 0": _set("layers", 0, "groups", 0),
    "groups that do not divide": _set("layers", 0, "groups", 3),
    "shape as text": _set("inputs", "x", "18"),
    "shape with a negative size": _set("inputs", "x", [1, -8, 8]),
    "shape null": _set("inputs", "x", None),
    "name null": _set("layers", 0, "name", None),
    "name empty": _set("inputs", "", [1]),
    "two of one name": _set("layers", 1, "name", "l0"),
    "name of the input": _set("layers", 0, "name", "x"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_json_is_refused(name: str) -> None:
    data = CASES["plain"].plan.to_json()
    assert Plan.from_json(data) == CASES["plain"].plan
    with pytest.raises(UnsupportedError, match=r"plan|layer"):
        Plan.from_json(MALFORMED[name](json.loads(json.dumps(data))))


# errors name the layer, its operation and the shapes

WRONG: list[tuple[Callable[[], Plan], str]] = [
    (lambda: chain((1, 8, 8), Linear(3)), "layer l0 (Linear, input 1x8x8): needs a flat input"),
    (lambda: chain((1, 8), conv(3)), "layer l0 (Conv, input 1x8): a kernel of 2 dimensions over an input of 1"),
    (lambda: chain((8,), conv(3)), "layer l0 (Conv, input 8): a kernel of 2 dimensions over an input of 0"),
    (
        lambda: chain((3, 4, 4), conv(4, groups=2)),
        "layer l0 (Conv, input 3x4x4): 4 filters in 2 groups do not divide 3",
    ),
    (
        lambda: chain((4, 4, 4), conv(3, groups=2)),
        "layer l0 (Conv, input 4x4x4): 3 filters in 2 groups do not divide 4",
    ),
    (
        lambda: chain((1, 2, 2), Conv(1, (5, 5), ONE, (0,) * 4, ONE)),
        "layer l0 (Conv, input 1x2x2): kernel 5x5 is larger than the padded input",
    ),
    (
        lambda: chain((1, 4, 4), MaxPool((2, 2), (2, 2), (2, 0, 0, 0))),
        "layer l0 (MaxPool, input 1x4x4): pad 2x0x0x0 is not smaller than the kernel",
    ),
    (
        lambda: graph((1, 4, 4), ("a", conv(2), "x"), ("b", conv(3), "x"), ("s", Add(), "a b")),
        "layer s (Add, input 2x4x4, 3x4x4): inputs differ in shape",
    ),
    (
        lambda: graph((1, 4, 4), ("a", conv(2), "x"), ("b", conv(2, stride=2), "x"), ("s", Concat(), "a b")),
        "layer s (Concat, input 2x4x4, 2x2x2): inputs differ in more than their channels",
    ),
    (
        lambda: graph((1, 4, 4), ("a", conv(2), "x"), ("b", conv(2, stride=2), "x"), ("s", Mul(), "a b")),
        "layer s (Mul, input 2x4x4, 2x2x2): inputs differ in shape",
    ),
    (lambda: graph((1, 4, 4), ("s", Add(), "x")), "layer s (Add, input 1x4x4): takes at least two inputs"),
    (lambda: graph((1, 4, 4), ("s", conv(2), "x x")), "layer s (Conv, input 1x4x4, 1x4x4): takes one input, got 2"),
    (
        lambda: chain((4,), Activation("swish")),
        "layer l0 (Activation, input 4): activation 'swish' is not one of none, relu",
    ),
    (lambda: graph((4,), ("a", Linear(2), "b")), "layer a: reads 'b', which no earlier layer makes"),
    (lambda: graph((4,), ("x", Linear(2), "x")), "plan: two tensors are named 'x'"),
    (lambda: Plan({"x": (4,)}, (), ("y",)), "plan: output 'y' is not the name of a layer"),
    (lambda: Plan({"x": (4,)}, (Layer("a\n", Linear(2), ("x",)),), ("a\n",)), "plan: 'a\\n' cannot name a tensor"),
    (lambda: Plan({"x": (1, 0)}, (), ("x",)), "input x of 0 in one direction"),
    (
        lambda: chain((1 << 27,), Linear(2)),
        "input x of 134217728 in one direction: a tensor has 1 to 67108864 elements",
    ),
    (lambda: chain((1, 8192, 8192), Flatten()), "layer l0 (Flatten, input 1x8192x8192): more than 524288 channels"),
]


@pytest.mark.parametrize(("make", "text"), WRONG, ids=[text[:60] for _, text in WRONG])
def test_errors_say_where_and_what(make: Callable[[], Plan], text: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(text)):
        make()
