"""Every operation: its shape by hand, what it refuses and how it says so, and its JSON."""

import json
import re
import time
from typing import Any

import pytest
from cases import CASES, ONE, chain, graph

from edgeticket.errors import UnsupportedError
from edgeticket.ops import (
    ACTIVATIONS,
    LEAKY_RELU,
    OPS,
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
    Op,
    Pad,
    PRelu,
    Reshape,
    Resize,
    Shape,
    SpaceToDepth,
    conv,
    leak,
    op_from_json,
    op_to_json,
    out_shape,
)

NONE = (0, 0, 0, 0)


def transposed(
    kernel: Shape = (3, 3),
    stride: Shape = (2, 2),
    pad: Shape = (1, 1, 1, 1),
    out_pad: Shape = (0, 0),
    out: int = 4,
) -> ConvTranspose:
    return ConvTranspose(out, kernel, stride, pad, out_pad)


# shapes

SHAPES: list[tuple[Op, list[Shape], Shape]] = [
    (Norm("relu"), [(5, 4, 3)], (5, 4, 3)),
    (Norm(), [(5,)], (5,)),
    (PRelu(), [(5, 4)], (5, 4)),
    (Activation("gelu"), [(5, 4)], (5, 4)),
    # (in - 1) * stride + kernel + out_pad - pad: torch's formula at dilation 1
    (transposed(), [(8, 5, 4)], (4, 9, 7)),
    (transposed(out_pad=(1, 0)), [(8, 5, 4)], (4, 10, 7)),
    (transposed((2, 2), (2, 2), NONE), [(8, 5, 4)], (4, 10, 8)),
    (transposed((4, 1), (1, 3), (0, 2, 1, 0), (0, 2)), [(8, 5, 4)], (4, 7, 10)),
    (transposed((3,), (2,), (1, 0), (1,)), [(8, 1)], (4, 3)),
    (transposed((1, 1), ONE, NONE, out=9), [(8, 5, 4)], (9, 5, 4)),
    (Gather((3, 0, 0, 2)), [(4, 5, 6)], (4, 5, 6)),
    (Gather((1,)), [(4,)], (1,)),
    (Reshape((2, 3)), [(24,)], (4, 2, 3)),
    (Reshape((6,)), [(24,)], (4, 6)),
    (Reshape((1, 1)), [(24,)], (24, 1, 1)),
    (Reshape(()), [(24,)], (24,)),
    (Reshape((12,)), [(5, 4, 3)], (5, 12)),
    (Reshape((2, 6)), [(5, 4, 3)], (5, 2, 6)),
    (Reshape(()), [(5, 1, 1)], (5,)),
    (Pad((1, 2, 3, 4)), [(5, 4, 3)], (5, 8, 9)),
    (Pad((-1, 0, -2, 5)), [(5, 4, 3)], (5, 1, 8)),
    (Pad((0, -3)), [(5, 4)], (5, 1)),
    (Resize((7, 2), "nearest"), [(5, 4, 3)], (5, 7, 2)),
    (Resize((9,), "area"), [(5, 4)], (5, 9)),
    (DepthToSpace(2), [(12, 4, 3)], (3, 8, 6)),
    (DepthToSpace(3), [(9, 1, 1)], (1, 3, 3)),
    (SpaceToDepth(2), [(3, 8, 6)], (12, 4, 3)),
    (SpaceToDepth(1), [(3, 8, 6)], (3, 8, 6)),
    (Flatten(), [(5, 4, 3)], (60,)),
    (GlobalAveragePool(), [(5, 4, 3)], (5,)),
    (GlobalAveragePool(), [(5,)], (5,)),
    (Add(), [(5, 4, 3), (5, 1, 1)], (5, 4, 3)),
    (Add(), [(1, 4, 3), (5, 1, 3), (5, 4, 1)], (5, 4, 3)),
    (Mul(), [(1, 4), (5, 1)], (5, 4)),
    (Mul(), [(1,), (5,)], (5,)),
    (Concat(), [(5, 4), (2, 4), (5, 4)], (12, 4)),
]


@pytest.mark.parametrize(("op", "inputs", "expected"), SHAPES, ids=lambda value: repr(value)[:50])
def test_shapes(op: Op, inputs: list[Shape], expected: Shape) -> None:
    assert out_shape(op, inputs) == expected


def test_every_operation_is_in_a_case() -> None:
    used = {type(layer.op) for case in CASES.values() for layer in case.plan.layers}
    assert used == set(OPS.values())


# refusals

BAD: list[tuple[Op, list[Shape], str]] = [
    (Norm("swish"), [(5,)], "activation 'swish' is not one of none, relu"),
    (Norm(), [(5,), (5,)], "takes one input, got 2"),
    (transposed(), [(8, 5)], "a kernel of 2 dimensions over an input of 1"),
    (transposed((3,), (2,), (1, 1), (0,)), [(8,)], "a kernel of 1 dimensions over an input of 0"),
    (transposed(stride=(2,)), [(8, 5, 4)], "a kernel of 2 dimensions over an input of 2"),
    (transposed(pad=(1, 1)), [(8, 5, 4)], "a kernel of 2 dimensions over an input of 2"),
    (transposed(out_pad=(0,)), [(8, 5, 4)], "a kernel of 2 dimensions over an input of 2"),
    (transposed(out_pad=(0, 2)), [(8, 5, 4)], "out_pad is smaller than the stride"),
    (transposed(out_pad=(-1, 0)), [(8, 5, 4)], "out_pad is smaller than the stride"),
    (transposed((0, 3)), [(8, 5, 4)], "kernel and stride are at least 1"),
    (transposed(stride=(0, 1)), [(8, 5, 4)], "kernel and stride are at least 1"),
    (transposed(pad=(-1, 0, 0, 0)), [(8, 5, 4)], "pad is at least 0"),
    (transposed(out=0), [(8, 5, 4)], "needs at least one output"),
    (transposed(stride=(1 << 30, 1), pad=(1 << 30, 1, 3 << 30, 1)), [(8, 5, 4)], "at most 67108864 elements"),
    (Gather(()), [(4,)], "reads channel (none) of 4"),
    (Gather((0, 4)), [(4,)], "reads channel 4 of 4"),
    (Gather((0, -1)), [(4,)], "reads channel -1 of 4"),
    (Reshape((5,)), [(24,)], "24 values do not become channels of 5"),
    (Reshape((0,)), [(24,)], "24 values do not become channels of 0"),
    (Reshape((13,)), [(5, 4, 3)], "5x4x3 values do not become channels of 13"),
    (Reshape(()), [(5, 4, 3)], "5x4x3 values do not become channels of (nothing)"),
    (Pad((1, 1)), [(5, 4, 3)], "2 sizes for 2 directions: two each"),
    (Pad(()), [(5,)], "0 sizes for 0 directions: two each"),
    (Pad((-2, 0, -2, 0)), [(5, 4, 3)], "cuts off all that there is"),
    (Pad((-4, 0, 9, 0)), [(5, 4, 3)], "cuts off all that there is"),
    (Pad((1 << 30, 0, -(1 << 30), 0)), [(5, 4, 3)], "cuts off all that there is"),
    (Resize((7,), "nearest"), [(5, 4, 3)], "resize to 7, nearest: one size a direction"),
    (Resize((), "nearest"), [(5,)], "resize to (nothing), nearest: one size a direction"),
    (Resize((7, 7), "cubic"), [(5, 4, 3)], "resize to 7x7, cubic: one size a direction, nearest, linear"),
    (DepthToSpace(2), [(6, 4, 3)], "6 channels are not a multiple of 2 x 2"),
    (DepthToSpace(2), [(8, 4)], "needs an image"),
    (DepthToSpace(0), [(8, 4, 4)], "a block of at least 1"),
    (SpaceToDepth(2), [(6, 4, 3)], "4x3 is not a multiple of 2"),
    (SpaceToDepth(2), [(6,)], "needs an image"),
    (SpaceToDepth(-1), [(6, 4, 4)], "a block of at least 1"),
    (Add(), [(5, 4, 3), (5,)], "inputs differ in the number of their dimensions"),
    (Add(), [(5, 4, 3), (5, 2, 3)], "inputs differ in shape, and not by a size of 1"),
    (Mul(), [(5, 4), (4, 4)], "inputs differ in shape, and not by a size of 1"),
    (Mul(), [(5, 4)], "takes at least two inputs"),
    (Concat(), [(5, 4), (5, 1)], "inputs differ in more than their channels"),
]


@pytest.mark.parametrize(("op", "inputs", "text"), BAD, ids=lambda value: repr(value)[:50])
def test_refusals(op: Op, inputs: list[Shape], text: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(text)):
        out_shape(op, inputs)


HUGE: dict[str, tuple[Shape, Op]] = {
    "resized": ((1, 4, 4), Resize((1 << 13, 1 << 14), "nearest")),
    "resized to nothing": ((1, 4, 4), Resize((0, 4), "nearest")),
    "padded": ((1, 4, 4), Pad((1 << 27, 0, 0, 0))),
    "spread": ((1, 4, 4), transposed(stride=(1 << 13, 1 << 13), pad=NONE, out=1)),
    "cut to nothing": ((1, 4, 4), transposed(pad=(9, 0, 0, 0), out=1)),
    "channels": ((1, 4, 4), transposed(out=1 << 20)),
    "weights": ((1, 4, 4), transposed((1 << 14, 1 << 14), pad=(1 << 14, 1 << 14, 0, 0), out=1)),
    "gathered": ((1, 4, 4), Gather((0,) * (1 << 20))),
    "block": ((1, 4, 4), SpaceToDepth(1 << 5000)),
    "unfolded": ((1 << 20, 1, 1), DepthToSpace(1 << 10)),
    "four directions": ((64,), Reshape((2, 2, 2))),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_or_empty_tensors_are_refused_at_once(name: str) -> None:
    start = time.process_time()
    with pytest.raises(UnsupportedError, match=r"^(layer l0 \(|input x|plan: )"):
        chain(*HUGE[name])
    assert time.process_time() - start < 10  # a guard against minutes


def test_the_largest_are_taken() -> None:
    """So the refusals above are for their sizes."""
    assert chain((1, 4, 4), Resize((1 << 13, 1 << 13), "nearest")).shapes["l0"] == (1, 1 << 13, 1 << 13)
    assert chain((1, 4, 4), Pad((0, 0, (1 << 24) - 4, 0))).shapes["l0"] == (1, 1 << 24, 4)
    spread = transposed((4, 1), ((1 << 22) - 1, 1), ((1 << 24) - (1 << 22), 0, 0, 0), out=1)  # cut from 2^24 x 4
    assert chain((1, 5, 4), spread).shapes["l0"] == (1, 1 << 22, 4)


# activations


@pytest.mark.parametrize(
    "kind", [*ACTIVATIONS, "leaky_relu:0.2", "leaky_relu:0.0", "leaky_relu:1.0", "leaky_relu:1e-05"]
)
def test_activations_by_name(kind: str) -> None:
    for op in (Activation(kind), Norm(kind), Linear(3, activation=kind), Add(kind)):
        out_shape(op, [(3,)] * (2 if isinstance(op, Add) else 1))
    slope = {"leaky_relu": LEAKY_RELU, "leaky_relu:0.2": 0.2, "leaky_relu:0.0": 0, "leaky_relu:1.0": 1}
    assert leak(kind) == (1e-05 if kind.endswith("1e-05") else slope.get(kind))


@pytest.mark.parametrize(
    "kind",
    [
        *("", "swish", "RELU", "relu ", "relu:", "relu:0.2", "none:", "prelu", "leaky_relu:", "leaky_relu:abc"),
        *(
            "leaky_relu:-0.1",
            "leaky_relu:1.5",
            "leaky_relu:nan",
            "leaky_relu:inf",
            "leaky_relu:1e400",
            "leaky_relu:1e-400",
        ),
        *(
            "leaky_relu:.2",
            "leaky_relu:0.20",
            "leaky_relu: 0.2",
            "leaky_relu:+0.2",
            "leaky_relu:1",
            "leaky_relu:0.2:0.2",
        ),
        *("leaky_relu:0_1", "leaky_relu:٠.٢", "leaky_relu:" + "9" * 5000, "leaky_relu:0." + "1" * 5000),
    ],
    ids=lambda kind: kind[:30],
)
def test_activations_that_are_none(kind: str) -> None:
    """One spelling each, so that equal networks have equal bytes."""
    for op in (Activation(kind), Norm(kind), conv(3, activation=kind), transposed(), Add(kind)):
        if isinstance(op, ConvTranspose):
            op = ConvTranspose(4, (3, 3), (2, 2), NONE, (0, 0), activation=kind)
        with pytest.raises(UnsupportedError, match="is not one of none, relu"):
            out_shape(op, [(3, 4, 4)] * (2 if isinstance(op, Add) else 1))


# JSON

ROWS: list[Op] = [
    *(op for op, *_ in SHAPES),
    Linear(3, activation="leaky_relu:0.2"),
    conv(4, groups=2),
    MaxPool((3,), (2,), (1, 0)),
    AveragePool((3, 3), ONE, NONE),
]


@pytest.mark.parametrize("op", ROWS, ids=lambda op: repr(op)[:50])
def test_json_round_trip(op: Op) -> None:
    row = {"op": type(op).__name__, "name": "a", "inputs": ["x"], **op_to_json(op)}
    again = op_from_json(json.loads(json.dumps(row)))
    assert again == op
    assert hash(again) == hash(op)  # tuples again, not lists


def test_every_operation_was_round_tripped() -> None:
    assert {type(op) for op in ROWS} == set(OPS.values())


WRONG_ROWS: dict[str, dict[str, Any]] = {
    "pad as text": {"op": "Pad", "pad": "1111"},
    "pad with a fraction": {"op": "Pad", "pad": [1.0, 1]},
    "pad true": {"op": "Pad", "pad": [True, 1]},
    "pad below 32 bits": {"op": "Pad", "pad": [-(1 << 31) - 1, 0]},
    "pad above 31 bits": {"op": "Pad", "pad": [1 << 31, 0]},
    "pad nested": {"op": "Pad", "pad": [[1], 1]},
    "negative pad of a pool": {"op": "MaxPool", "kernel": [2], "stride": [1], "pad": [-1, 0]},
    "no pad": {"op": "Pad"},
    "pad and more": {"op": "Pad", "pad": [0, 0], "fill": 1},
    "negative channel": {"op": "Gather", "channels": [0, -1]},
    "channels as a number": {"op": "Gather", "channels": 3},
    "channels null": {"op": "Gather", "channels": None},
    "negative size": {"op": "Resize", "size": [-4], "mode": "nearest"},
    "mode as a number": {"op": "Resize", "size": [4], "mode": 1},
    "mode as a list": {"op": "Resize", "size": [4], "mode": ["nearest"]},
    "block with a fraction": {"op": "DepthToSpace", "block": 2.0},
    "block true": {"op": "SpaceToDepth", "block": True},
    "block as a list": {"op": "SpaceToDepth", "block": [2, 2]},
    "spatial as a number": {"op": "Reshape", "spatial": 4},
    "activation as a list": {"op": "Norm", "activation": ["relu"]},
    "activation null": {"op": "Norm", "activation": None},
    "activation of a PRelu": {"op": "PRelu", "activation": "none"},
    "no activation": {"op": "Norm"},
    "lower case": {"op": "prelu"},
    "a class of ours that is no operation": {"op": "Layer"},
    "a union of operations": {"op": "Weighted"},
    "out_pad missing": {
        **{"op": "ConvTranspose", "out": 4, "kernel": [3], "stride": [2], "pad": [1, 1]},
        **{"norm": True, "activation": "none"},
    },
}


@pytest.mark.parametrize("name", WRONG_ROWS)
def test_json_that_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"layer a|plan: "):
        op_from_json({"name": "a", "inputs": ["x"], **WRONG_ROWS[name]})


def test_only_layers_with_filters_get_wider() -> None:
    plan = graph(
        (2, 4, 4),
        ("a", transposed(), "x"),
        ("n", Norm(), "a"),
        ("p", PRelu(), "n"),
        ("c", Conv(3, ONE, ONE, NONE, ONE), "p"),
    )
    widened = [layer.wider(5) for layer in plan.layers]
    assert [getattr(layer.op, "out", None) for layer in widened] == [9, None, None, 8]
    assert widened[1] == Layer("n", Norm(), ("a",))
