"""`inspect`: what can shrink, what cannot and by which operation, and totals that are the plan's."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case, chain, graph
from click.testing import CliRunner

from edgeticket.cli import main
from edgeticket.compact import compact
from edgeticket.inspection import estimate, inspect, inspect_text
from edgeticket.ops import Activation, Add, Concat, DepthToSpace, Gather, GlobalAveragePool, Linear, Reshape, conv
from edgeticket.packet import equivalents, packed_bytes
from edgeticket.plan import Plan
from edgeticket.settings import Settings

QUICK = Settings(density=0.3, learn="none")


def told(plan: Plan, settings: Settings = QUICK) -> dict[str, Any]:
    return inspect(plan, settings)


def filters(plan: Plan) -> list[np.ndarray]:
    return [plan.channels[layer.name] for layer in plan.weighted()]


def groups(plan: Plan) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in told(plan)["groups"]}


@pytest.mark.parametrize("name", CASES)
def test_totals_and_layers_are_the_plans(name: str) -> None:
    plan = CASES[name].plan
    found = inspect(plan, Settings())
    assert json.loads(json.dumps(found)) == found
    assert [row["name"] for row in found["layers"]] == [layer.name for layer in plan.layers]
    assert found["total"]["weights"] == sum(row["weights"] for row in found["layers"]) == sum(plan.weights().values())
    assert found["total"]["macs"] == sum(row["macs"] for row in found["layers"]) == sum(plan.macs().values())
    assert found["total"]["peak_activations"] == plan.peak_activations()
    learned = {row["name"] for row in found["layers"] if row["learned"]}
    assert learned == Settings().learned(plan)
    assert found["total"]["learned_weights"] == sum(plan.weights()[layer] for layer in learned)
    assert {name: tuple(shape) for name, shape in found["inputs"].items()} == dict(plan.inputs)
    assert {name: tuple(shape) for name, shape in found["outputs"].items()} == {n: plan.shapes[n] for n in plan.outputs}
    assert {name: found["bytes"][name] for name in ("fp32", "int8")} == equivalents(plan)
    free = {row["name"] for row in found["groups"] if not row["blocked"]}
    sizes = {name: len(group.ids) for name, group in plan.groups.items() if not group.fixed}
    assert free == {name for name, size in sizes.items() if size > 1}
    made = {name for name, group in plan.groups.items() if any(np.isin(ids, group.ids).any() for ids in filters(plan))}
    assert {row["name"] for row in found["groups"]} == made
    assert f"{len(free)} of {len(made)} groups of channels can shrink" in inspect_text(found)


def test_what_blocks_is_said_by_name() -> None:
    plan = graph(
        (4, 6, 6),
        ("a", conv(4), "x"),
        ("sum", Add(), "a x"),
        ("b", conv(8), "sum"),
        ("one", conv(1), "b"),
        ("deep", conv(4), "b"),
        ("up", DepthToSpace(2), "deep"),
        ("flat", conv(6), "one"),
        ("pool", GlobalAveragePool(), "flat"),
        ("value", Linear(3), "pool"),
        ("map", conv(2), "up"),
        outputs="value map",
    )
    found = groups(plan)
    assert {name: row["blocked"] for name, row in found.items()} == {
        "x": "sum (Add) joins a to the input x",
        "b": "",
        "one": "the only channel of its tensor",
        "deep": "all live or die together by up (DepthToSpace)",
        "flat": "",
        "value": "output of the network",
        "map": "output of the network",
    }
    assert found["b"]["layers"] == ["b"]
    assert found["deep"]["layers"] == ["deep", "up"]
    assert (found["deep"]["channels"], found["deep"]["steps"]) == (4, 4)
    rows = {row["name"]: row for row in told(plan)["layers"]}
    assert rows["sum"]["groups"] == rows["a"]["groups"] == ["x"]  # the sum with the input is the input's group
    text = inspect_text(told(plan))
    assert re.search(r"^deep +no: all live or die together by up \(DepthToSpace\) +4$", text, re.MULTILINE)
    assert re.search(r"^x +no: sum \(Add\) joins a to the input x +4$", text, re.MULTILINE)
    assert "2 of 7 groups of channels can shrink" in text
    assert "reads x 4x6x6; gives value 3, map 2x12x12" in text


X = (4, 6, 6)
BLOCKED = {
    "a residual from the input": (
        graph(X, ("a", conv(8), "x"), ("b", conv(4), "a"), ("r", Add(), "b x"), ("o", conv(3), "r")),
        {"x": "r (Add) joins b to the input x", "a": "", "o": "output of the network"},
    ),
    "residuals, one on the other": (
        graph(
            X,
            *(("a", conv(4), "x"), ("r", Add(), "a x"), ("b", conv(4), "r"), ("s", Add(), "r b")),
            *(("c", conv(4), "s"), ("t", Add(), "c s"), ("o", conv(3), "t")),
        ),
        {"x": "r (Add) and 2 more join a and 2 more to the input x", "o": "output of the network"},
    ),
    "a sum that the input joins later": (
        graph(
            X, ("a", conv(4), "x"), ("b", conv(4), "a"), ("s", Add(), "a b"), ("r", Add(), "s x"), ("o", conv(3), "r")
        ),
        {"x": "r (Add) joins a and b to the input x", "o": "output of the network"},
    ),
    "a depthwise convolution of the input": (
        graph(X, ("d", conv(4, groups=4), "x"), ("o", conv(3), "d")),
        {"x": "d (Conv with 4 groups) joins its filters to the input x", "o": "output of the network"},
    ),
    "a grouped convolution of the input and others": (
        graph(X, ("a", conv(4), "x"), ("all", Concat(), "x a"), ("g", conv(6, groups=2), "all"), ("o", conv(3), "g")),
        {"x": "g (Conv with 2 groups) joins a to the input x", "g": "", "o": "output of the network"},
    ),
    "a residual into the output": (
        graph(X, ("a", conv(8), "x"), ("b", conv(8), "a"), ("o", Add(), "a b")),
        {"a": "output of the network, by o (Add)"},
    ),
    "two residuals into the output, the nearest first": (
        graph(
            X,
            *(("a", conv(8), "x"), ("b", conv(8), "a"), ("s", Add(), "a b"), ("c", conv(8), "s"), ("t", Add(), "s c")),
            ("o", Activation("relu"), "t"),
        ),
        {"a": "output of the network, by t (Add) and s (Add)"},
    ),
    "a sum beside the output": (
        graph(X, ("a", conv(8), "x"), ("b", conv(8), "a"), ("s", Add(), "a b"), ("c", conv(2), "s"), outputs="a c"),
        {"a": "output of the network, by s (Add)", "c": "output of the network"},
    ),
    "a slice": (
        graph(X, ("a", conv(8), "x"), ("half", Gather((0, 1)), "a"), ("c", conv(2), "a"), outputs="half c"),
        {"a": "2 of 8 are an output of the network, by half (Gather)", "c": "output of the network"},
    ),
    "a slice in a sum, and one that goes elsewhere": (
        graph(
            X,
            *(("a", conv(8), "x"), ("h", Gather((0, 1)), "a"), ("i", Gather((1, 2, 3)), "a"), ("b", conv(2), "i")),
            ("r", Add(), "h b"),
        ),
        {"a": "2 of 8 are an output of the network, by r (Add) and h (Gather)"},
    ),
    "every slice": (
        graph(X, ("a", conv(3), "x"), ("h", Gather((0,)), "a"), ("i", Gather((2, 1)), "a"), outputs="h i"),
        {"a": "output of the network"},
    ),
    "tied channels that are outputs themselves": (
        graph(X, ("a", conv(8), "x"), ("g", conv(8, groups=2), "a")),
        {"a": "", "g": "output of the network"},
    ),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_the_operation_that_blocks(name: str) -> None:
    plan, blocked = BLOCKED[name]
    assert {group: row["blocked"] for group, row in groups(plan).items()} == blocked


def test_a_sum_with_the_output_is_one_group() -> None:
    plan = BLOCKED["a residual into the output"][0]
    assert groups(plan)["a"]["layers"] == ["a", "b", "o"]
    assert "0 of 1 groups of channels can shrink" in inspect_text(told(plan))


def test_tied_channels_leave_in_steps_by_named_operations() -> None:
    found = groups(CASES["grouped"].plan)
    for name, channels in (("l0", 8), ("l1", 12)):
        row = found[name]
        assert (row["channels"], row["steps"], row["blocked"]) == (channels, 4, "")
        assert row["tied"] == ["l1 (Conv with 4 groups)"]
    assert (found["l2"]["steps"], found["l2"]["tied"]) == (1, [])
    text = inspect_text(told(CASES["grouped"].plan))
    assert re.search(r"^l0 +yes, 4 at once by l1 \(Conv with 4 groups\) +8$", text, re.MULTILINE)
    flat = groups(chain((5,), Linear(24), Reshape((2, 3)), conv(4), GlobalAveragePool(), Linear(2)))
    assert (flat["l0"]["channels"], flat["l0"]["steps"], flat["l0"]["tied"]) == (24, 6, ["l1 (Reshape)"])


def test_a_layer_of_several_groups_names_the_first() -> None:
    plan = CASES["concat"].plan
    rows = {row["name"]: row for row in told(plan)["layers"]}
    assert rows["all"]["groups"] == ["a", "stem", "b"]
    (line,) = (line for line in inspect_text(told(plan)).splitlines() if line.startswith("all "))
    assert line.split() == ["all", "Concat", "18x6x6", "a", "and", "2", "more"]
    again = graph(
        (2, 4, 4), ("a", conv(4), "x"), ("t", Concat(), "a a"), ("g", Gather((7, 0)), "t"), ("o", conv(2), "g")
    )
    assert [row["groups"] for row in told(again)["layers"]] == [["a"], ["a"], ["a"], ["o"]]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "plain",
            "plain, flips",
            "residual",
            "grouped",
            "norm alone",
            "u-net",
            "attention by broadcast",
        ),
        *("linear wider than a sign word", "prelu", "two inputs and two outputs"),
    ],
)
@pytest.mark.parametrize("density", [0.1, 0.5])
def test_the_estimate_is_close_to_a_tickets_bytes(name: str, density: float) -> None:
    """Of all channels, masks at random: within 6 % and 16 bytes."""
    case = replace(CASES[name], keep=1.0, density=density, learned=False)
    exact = {layer: density for layer in case.plan.weights()}
    settings = Settings(
        density=density,
        layer_density=exact,
        edges=case.edges,
        learn="none",
        signs="learned" if case.flips else "seed",
    )
    packed = sum(packed_bytes(compact(case.ticket())).values())
    assert estimate(case.plan, settings) == pytest.approx(packed, rel=0.06, abs=16)


def test_the_estimate_knows_learned_layers() -> None:
    case = Case(chain((1, 8, 8), conv(16), conv(64), conv(64), GlobalAveragePool(), Linear(10)), keep=1.0, density=0.2)
    settings = Settings(density=0.2, edges=1)
    assert settings.learned(case.plan) == {"l0", "l4"} == set(case.ticket().learned)
    packed = sum(packed_bytes(compact(case.ticket())).values())
    assert estimate(case.plan, settings) == pytest.approx(packed, rel=0.02)


def test_the_estimate_of_a_large_layer_is_quick_and_linear() -> None:
    """Four times the weights are nearly four times the bytes."""
    small, large = (chain((64, 4, 4), conv(width), conv(width)) for width in (384, 768))
    one, four = (estimate(plan, Settings(density=0.1, learn="none")) for plan in (small, large))
    assert four / one == pytest.approx(sum(large.weights().values()) / sum(small.weights().values()), rel=0.03)


# command line


def test_the_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["inspect", "-m", "resnet8", "--format", "json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["total"]["weights"] == 77_360  # as published
    assert found["inputs"] == {"input": [3, 32, 32]}
    done = CliRunner().invoke(main, ["inspect", "-m", "conv:8,16", "--input", "2x9x9", "--outputs", "3"])
    assert done.exit_code == 0, done.output
    assert "reads input 2x9x9; gives head 3" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-m", "conv"], 2, ["no input size of its own", "--input 1x28x28"]),
        (["-m", "conv", "--input", "28"], 5, ["layer conv1 (Conv, input 28)"]),
        (["-m", "conv", "--input", "1x28x28", "--input", "3"], 2, ["has one input"]),
        (["-m", "conv:8,x", "--input", "1x28x28"], 2, ["conv:32,64,64"]),
        (["-m", "nonsense", "--input", "1x28x28"], 2, ["unknown"]),
        (["-m", "conv", "--input", "1x28x28", "--density", "0"], 2, ["--density"]),
        (["-m", "conv", "--input", "1x28x28", "--learn", "conv9"], 2, ["conv9"]),
        (["-m", "conv", "--input", "1x28x28", "--outputs", "0"], 2, ["at least 1"]),
        (["-m", "none.py:Net", "--input", "1x28x28"], 2, ["none.py"]),
        (["-m", "none.py:Net"], 2, ["--input 3x96x96"]),
        (["-m", "none.py:Net", "--input", "1x28x28", "--outputs", "5"], 2, ["leave --outputs out"]),
    ],
)
def test_wrong_requests(arguments: list[str], code: int, words: list[str]) -> None:
    if "none.py:Net" in arguments:
        pytest.importorskip("torch")
    done = CliRunner().invoke(main, ["inspect", *arguments])
    assert (done.exit_code, done.stdout) == (code, ""), done.output
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("shape", ["0x3", "3x", "x3", "3X4", "1x2x3x4", "-3", "3.5", "", "1e3", "12345678", "١x٢"])
def test_what_is_not_a_shape(shape: str) -> None:
    done = CliRunner().invoke(main, ["inspect", "-m", "conv", "--input", shape])
    assert done.exit_code == 2
    assert "is not a shape" in done.stderr
