"""What is left computes what the masked wide network computes, and mistakes in it are seen."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case, chain, graph

from edgeticket import compact as module
from edgeticket.compact import align, compact, masked, prove, remove_dead, restrict
from edgeticket.errors import EquivalenceError
from edgeticket.model import Model, Signs
from edgeticket.ops import (
    Add,
    Concat,
    Conv,
    ConvTranspose,
    DepthToSpace,
    Flatten,
    Gather,
    GlobalAveragePool,
    Layer,
    Linear,
    Mul,
    Norm,
    Pad,
    PRelu,
    Reshape,
    Resize,
    SpaceToDepth,
    conv,
)
from edgeticket.plan import Plan
from edgeticket.reference import difference, run
from edgeticket.ticket import Ticket

SHAPES = (
    *("residual", "depthwise", "concat", "squeeze and excite", "product of three", "flatten then two linear", "1-D"),
    *("norm alone", "prelu", "grouped", "slices, shuffle and grouped", "u-net", "attention by broadcast", "transposed"),
    *("two inputs and two outputs", "depth to space", "space to depth", "unflatten", "resize linear", "pad and crop"),
)


@pytest.mark.parametrize("name", CASES)
def test_compacted_equals_masked(name: str) -> None:
    case = CASES[name]
    assert prove(case.ticket(), case.raw()) < 1e-12


@pytest.mark.parametrize("seed", range(100))
def test_random_choices(seed: int) -> None:
    case = CASES[SHAPES[seed % len(SHAPES)]]
    keep = (0.1, 0.2, 0.35, 0.5)[seed % 4]
    case = replace(case, seed=seed, keep=keep, edges=1 + seed % 3, flips=seed % 2 == 1, learned=seed % 5 == 0)
    ticket = case.ticket()
    assert prove(ticket, case.raw(3)) < 1e-12
    left = sum(int(kept.sum()) for kept in ticket.kept.values())
    assert left < sum(kept.size for kept in ticket.kept.values())
    assert compact(ticket).plan == ticket.narrow


def test_dropping_nothing_is_the_identity() -> None:
    for name in SHAPES:
        ticket = replace(CASES[name], keep=1.0).ticket()
        narrow, wide = compact(ticket), masked(ticket)
        assert narrow.plan == wide.plan == ticket.plan
        assert narrow.digest == wide.digest
        assert restrict(ticket, ticket.kept).to_bytes() == ticket.to_bytes()


def _shift(which: str) -> Callable[[Signs], Signs]:
    return lambda signs: replace(signs, **{which: np.roll(getattr(signs, which), 1)})


@pytest.mark.parametrize("which", ["rows", "columns"])
@pytest.mark.parametrize("name", SHAPES)
def test_wrong_ids_are_caught(name: str, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer meets another filter's, or another input's, signs: the proof must see it."""
    case = replace(CASES[name], learned=False, edges=3, seed=3)
    ticket = case.ticket()
    right, wrong = module.compact, 0
    for layer in ticket.masks:
        ids = getattr(right(ticket).weights[layer], which)
        if len(ids) < 2 or not np.any(
            _damaged(right(ticket), layer, which).weights[layer].values != right(ticket).weights[layer].values
        ):
            continue
        monkeypatch.setattr(module, "compact", lambda ticket, layer=layer: _damaged(right(ticket), layer, which))
        with pytest.raises(EquivalenceError, match="compact against the masked wide network"):
            prove(ticket, right(ticket).random_inputs(16))
        wrong += 1
    assert wrong


def _damaged(model: Model, layer: str, which: str) -> Model:
    weights = model.weights[layer]
    assert isinstance(weights, Signs)
    return replace(model, weights=dict(model.weights) | {layer: _shift(which)(weights)})


@pytest.mark.parametrize(
    ("part", "name", "layer"),
    [
        ("scale", "plain", "l1"),
        ("bias", "plain", "l1"),
        ("scale", "norm alone", "norm2"),
        ("bias", "norm alone", "norm1"),
        ("slope", "prelu", "l1"),
    ],
)
def test_wrong_parameters_are_caught(part: str, name: str, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket, right = CASES[name].ticket(), module.compact

    def wrong(ticket: Ticket) -> Model:
        values = getattr(right(ticket), part)
        changed: dict[str, Any] = {part: dict(values) | {layer: np.roll(values[layer], 1)}}
        return replace(right(ticket), **changed)

    monkeypatch.setattr(module, "compact", wrong)
    with pytest.raises(EquivalenceError):
        prove(ticket, right(ticket).random_inputs(32))


@pytest.mark.parametrize(
    ("name", "layer"), [("slices, shuffle and grouped", "shuffle"), ("slices, shuffle and grouped", "right")]
)
def test_a_wrong_gather_is_caught(name: str, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket, right = replace(CASES[name], keep=1.0).ticket(), module.compact

    def wrong(ticket: Ticket) -> Model:
        model = right(ticket)
        layers = [
            replace(own, op=Gather(tuple(np.roll(own.op.channels, 1).tolist())))
            if own.name == layer and isinstance(own.op, Gather)
            else own
            for own in model.plan.layers
        ]
        return replace(model, plan=replace(model.plan, layers=tuple(layers)))

    monkeypatch.setattr(module, "compact", wrong)
    with pytest.raises(EquivalenceError):
        prove(ticket, right(ticket).random_inputs(32))


def test_every_output_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    ticket, right = CASES["two inputs and two outputs"].ticket(), module.compact
    raw = right(ticket).random_inputs(16)
    for layer in ticket.plan.outputs:

        def wrong(ticket: Ticket, layer: str = layer) -> Model:
            model = right(ticket)
            return replace(model, bias=dict(model.bias) | {layer: model.bias[layer] + np.float32(0.01)})

        with monkeypatch.context() as patch:
            patch.setattr(module, "compact", wrong)
            with pytest.raises(EquivalenceError):
                prove(ticket, raw)
    assert prove(ticket, raw) < 1e-12


def test_not_a_number_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    ticket, right = CASES["plain"].ticket(), module.compact
    nan = np.full(4, np.nan, np.float32)
    monkeypatch.setattr(
        module,
        "compact",
        lambda ticket: (lambda model: replace(model, bias=dict(model.bias) | {"l4": nan}))(right(ticket)),
    )
    with pytest.raises(EquivalenceError):
        prove(ticket, right(ticket).random_inputs(32))


# dead channels


def starved(ticket: Ticket, layer: str, columns: list[int]) -> Ticket:
    """The ticket with no kept weight that reads these inputs of a layer, k as before elsewhere."""
    mask = ticket.masks[layer].copy()
    mask[:, :, columns] = False
    free = [i for i in range(mask.shape[2]) if i not in columns]
    mask[:, :, free[0]] = True  # no filter is left without a weight
    return replace(ticket, masks=dict(ticket.masks) | {layer: mask})


CHAIN = Case(chain((1, 6, 6), conv(6), conv(5), conv(4), GlobalAveragePool(), Linear(3)), learned=False, keep=1.0)


def test_dead_channels_go_to_a_fixpoint() -> None:
    """l2 ignores 4 of l1's channels; l1's one filter that is left ignores what only they read of l0."""
    ticket = starved(CHAIN.ticket(), "l2", [1, 2, 3, 4])
    mask = ticket.masks["l1"].copy()
    mask[0, :, 2:] = False
    mask[0, :, 0] = True
    mask[1:, :, :] = True
    ticket = replace(ticket, masks=dict(ticket.masks) | {"l1": mask})
    less = remove_dead(ticket)
    assert less.kept["l1"].tolist() == [True, False, False, False, False]
    assert less.kept["l0"].sum() <= 2, "channels that only dead filters read are dead too"
    assert remove_dead(less) is less
    raw = CHAIN.raw(8)
    assert difference(run(compact(less), raw), run(compact(ticket), raw)) < 1e-12
    assert prove(less, raw) < 1e-12


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", SHAPES)
def test_removing_the_dead_changes_no_output(name: str, seed: int) -> None:
    case = replace(CASES[name], density=0.02, seed=seed, learned=seed % 2 == 0, flips=seed % 3 == 0)
    ticket = case.ticket()
    less = remove_dead(ticket)
    raw = case.raw(4)
    assert difference(run(compact(less), raw), run(compact(ticket), raw)) < 1e-12
    assert prove(less, raw) < 1e-12
    assert remove_dead(less) is less
    assert all((less.kept[group] <= ticket.kept[group]).all() for group in less.kept)


def test_some_of_those_had_dead_channels() -> None:
    tickets = [replace(CASES[name], density=0.02, seed=0, learned=False).ticket() for name in SHAPES]
    assert sum(remove_dead(ticket) is not ticket for ticket in tickets) > len(SHAPES) / 2


def test_a_learned_zero_column_is_dead() -> None:
    ticket = replace(CHAIN, learned=True).ticket()
    head = ticket.learned["l4"].copy()
    head[:, 2] = 0
    less = remove_dead(replace(ticket, learned=dict(ticket.learned) | {"l4": head}))
    assert less.kept["l2"].tolist() == [True, True, False, True]


def test_a_channel_of_a_grouped_layer_stays_while_another_group_has_it_read() -> None:
    """l2 reads of l1's 4 groups of 3 nothing but channel 3: position 0, which stays in all; of l0 both positions are read."""
    ticket = replace(CASES["grouped"], keep=1.0, edges=1, learned=False).ticket()
    mask = np.zeros_like(ticket.masks["l2"])
    mask[:, :, 3] = True
    less = remove_dead(replace(ticket, masks=dict(ticket.masks) | {"l2": mask}))
    assert less.kept["l1"].tolist() == [True, False, False]
    assert less.kept["l0"].tolist() == [True, True]
    assert less.narrow.widths() == {"l0": 8, "l1": 4, "l2": 8, "l4": 4}
    assert CASES["no channels to lose"].ticket().kept == {}


def test_the_last_channel_of_what_nothing_reads_stays() -> None:
    """A head of zeros reads nothing, but every tensor keeps a channel; the outputs are the biases."""
    case = Case(chain((1, 6, 6), conv(6), conv(5), GlobalAveragePool(), Linear(3)), keep=1.0)
    ticket = case.ticket()
    ticket = replace(ticket, learned=dict(ticket.learned) | {"l3": np.zeros_like(ticket.learned["l3"])})
    less = remove_dead(ticket)
    assert less.kept["l1"].tolist() == [True] + [False] * 4
    assert remove_dead(less) is less
    assert np.array_equal(run(compact(less), case.raw(3)), np.tile(ticket.bias["l3"].astype(float), (3, 1)))
    assert prove(less, case.raw(3)) < 1e-12


def test_a_branch_that_is_only_broadcast_stays() -> None:
    """No filter reads the one-channel gate, nor the slice that is multiplied in; both decide the output."""
    plan = graph(
        (1, 5, 5),
        ("stem", conv(6), "x"),
        ("one", Gather((4,)), "stem"),
        ("main", conv(5), "x"),
        ("gate", conv(1, activation="sigmoid"), "x"),
        ("gated", Mul(), "main gate one"),
        ("o", conv(3, norm=False), "gated"),
    )
    case = Case(plan, keep=1.0, learned=False)
    less = remove_dead(case.ticket())
    assert less.kept["stem"].tolist() == [False] * 4 + [True, False]  # what the slice is of, and no more
    assert less.kept["gate"].tolist() == [True]
    assert less.narrow["one"].op == Gather((0,))
    assert difference(run(compact(less), case.raw()), run(compact(case.ticket()), case.raw())) < 1e-12
    assert prove(less, case.raw()) < 1e-12


# alignment


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("multiple", [1, 4, 8])
def test_aligned_networks_give_the_same_outputs(name: str, multiple: int) -> None:
    case = CASES[name]
    model = compact(case.ticket())
    padded = align(model, multiple)
    raw = case.raw(4)
    assert difference(run(padded, raw), run(model, raw)) < 1e-12
    for old, new in zip(model.plan.layers, padded.plan.layers, strict=True):
        assert 0 <= padded.plan.shapes[new.name][0] - model.plan.shapes[old.name][0] < multiple
    assert sum(weights.kept for weights in padded.weights.values()) >= sum(w.kept for w in model.weights.values())
    if multiple == 1:
        assert padded.plan == model.plan


def widths(plan: Plan, kept: dict[str, int]) -> dict[str, int]:
    """Widths after alignment to 8 of a ticket that keeps the first so many channels of some layers."""
    ticket = Case(plan, keep=1.0, learned=False).ticket()
    left = {name: np.arange(len(mask)) < kept.get(name, len(mask)) for name, mask in ticket.kept.items()}
    padded = align(compact(restrict(ticket, left)), 8)
    return {layer.name: padded.plan.shapes[layer.name][0] for layer in padded.plan.weighted()}


def test_plain_and_residual_groups_are_padded() -> None:
    assert widths(chain((1, 6, 6), conv(16), conv(16), GlobalAveragePool(), Linear(3)), {"l0": 5, "l1": 9}) == {
        "l0": 8,
        "l1": 16,
        "l3": 3,
    }
    plan = CASES["residual"].plan
    aligned = widths(plan, {"stem": 3, "a": 7, "c": 9, "down": 9})
    assert {aligned[name] for name in ("stem", "a", "b")} == {8}
    assert {aligned[name] for name in ("down", "c", "d")} == {16}
    assert aligned["fc"] == 4


def test_no_padding_across_concat_flatten_and_groups() -> None:
    assert widths(CASES["concat"].plan, {"stem": 3, "a": 2, "b": 5, "mix": 7}) == {
        "stem": 3,
        "a": 2,
        "b": 5,
        "mix": 8,
        "fc": 3,
    }
    flat = chain((2, 4, 4), conv(8), Flatten(), Linear(12), Linear(3))
    assert widths(flat, {"l0": 5, "l2": 9}) == {"l0": 5, "l2": 16, "l3": 3}
    deep = chain((2, 4, 4), conv(8), conv(8, groups=8), conv(12, 1), GlobalAveragePool(), Linear(3))
    assert widths(deep, {"l0": 5, "l2": 9}) == {"l0": 5, "l1": 5, "l2": 16, "l4": 3}
    assert widths(CASES["grouped"].plan, {"l2": 3}) == {"l0": 8, "l1": 12, "l2": 8, "l4": 4}


def test_groups_are_padded_through_layers_that_change_no_channel() -> None:
    transposed = ConvTranspose(16, (2, 2), (2, 2), (0,) * 4, (0, 0), activation="sigmoid")
    middle = (conv(16, activation="none"), Norm("sigmoid"), PRelu(), Pad((0, 1, 1, 0)), transposed)
    plan = chain((1, 5, 5), *middle, Resize((7, 7), "linear"), conv(16), GlobalAveragePool(), Linear(3))
    assert widths(plan, {"l0": 3, "l4": 9}) == {"l0": 8, "l4": 16, "l6": 16, "l8": 3}


def test_groups_are_padded_where_a_channel_stays_a_channel() -> None:
    """A vector as a picture of one pixel and back: nothing is moved by a channel more at the end."""
    plan = chain((5,), Linear(16), Reshape((1, 1)), conv(16, 1), Flatten(), Linear(16), Linear(3))
    assert widths(plan, {"l0": 3, "l2": 5, "l4": 9}) == {"l0": 8, "l2": 8, "l4": 16, "l5": 3}
    ticket = Case(plan, keep=0.5, learned=False).ticket()
    raw = compact(ticket).random_inputs(8)
    assert difference(run(align(compact(ticket), 8), raw), run(compact(ticket), raw)) < 1e-12


def test_no_padding_across_broadcasts_and_moved_channels() -> None:
    """A channel more of a tensor that is one wide would no longer be broadcast; of one that is moved or spread, misplaced."""
    squeeze = graph(
        (1, 5, 5),
        ("a", conv(16), "x"),
        ("one", conv(1), "x"),
        ("m", Mul(), "a one"),
        ("s", Add(), "m one"),
        ("o", conv(3), "s"),
    )
    assert widths(squeeze, {"a": 5}) == {"a": 8, "one": 1, "o": 3}
    narrow = graph((1, 5, 5), ("a", conv(16), "x"), ("b", conv(16), "x"), ("m", Mul(), "a b"), ("o", conv(3), "m"))
    assert widths(narrow, {"a": 1}) == {"a": 8, "b": 8, "o": 3}  # one channel each: nothing is broadcast
    gather = chain((1, 5, 5), conv(16), Gather(tuple(range(15, -1, -1))), conv(16), GlobalAveragePool(), Linear(3))
    assert widths(gather, {"l0": 5, "l2": 9}) == {"l0": 5, "l2": 16, "l4": 3}
    deep = chain(
        (1, 4, 4), conv(16), DepthToSpace(2), conv(16), SpaceToDepth(2), conv(16), GlobalAveragePool(), Linear(3)
    )
    assert widths(deep, {"l0": 3, "l2": 5, "l4": 9}) == {"l0": 12, "l2": 5, "l4": 16, "l6": 3}
    flat = chain((5,), Linear(24), Reshape((2, 2)), conv(16), GlobalAveragePool(), Linear(3))
    assert widths(flat, {"l0": 3, "l2": 9}) == {"l0": 12, "l2": 16, "l4": 3}


def test_padding_adds_no_kept_weight_between_old_channels() -> None:
    ticket = CASES["plain, 3 edges and flips"].ticket()
    model, padded = compact(ticket), align(compact(ticket), 8)
    for name, old in model.weights.items():
        filters, inputs = old.values.shape[:2]
        assert np.array_equal(padded.weights[name].values[:filters, :inputs], old.values)
        assert not padded.weights[name].values[filters:].any()
        assert not padded.weights[name].values[:, inputs:].any()
        assert not padded.bias[name][filters:].any()


def test_concat_of_one_tensor_twice() -> None:
    plan = graph(
        (1, 5, 5), ("a", conv(6), "x"), ("c", Concat(), "a a"), ("b", Conv(4, (1, 1), (1, 1), (0,) * 4, (1, 1)), "c")
    )
    case = Case(plan, learned=False, seed=2)
    assert prove(case.ticket(), case.raw()) < 1e-12


def test_two_outputs_are_both_fixed() -> None:
    plan = Plan({"x": (4,)}, (Layer("a", Linear(5), ("x",)), Layer("b", Linear(3), ("a",))), ("a", "b"))
    assert [group.fixed for group in plan.groups.values()] == ["input of the network"] + ["output of the network"] * 2
