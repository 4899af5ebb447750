"""The one count of bytes: encoders that decode again, parts that add up, and the same rule for competitors."""

import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from math import log2

import numpy as np
import pytest
from cases import CASES, Case, chain, graph
from hypothesis import given
from hypothesis import strategies as st

from edgeticket import codes, packet
from edgeticket.codes import pack_mask, pack_parameters, raw_bits, rice, unpack_mask, unrice
from edgeticket.compact import compact, restrict
from edgeticket.errors import TicketError
from edgeticket.model import Float, Int8, Model
from edgeticket.ops import Concat, Conv, Flatten, Gather, GlobalAveragePool, Layer, Linear, Norm, PRelu, conv
from edgeticket.packet import equivalents, layer_bytes, packed_bytes
from edgeticket.plan import Plan
from edgeticket.ticket import Input, Ticket

# encoders


@given(st.lists(st.booleans(), max_size=300))
def test_masks_come_back(bits: list[bool]) -> None:
    array = np.array(bits, bool)
    assert (unrice(rice(array), array.size) == array).all()
    assert (unpack_mask(pack_mask(array), array.size) == array).all()


@pytest.mark.parametrize("density", [0, 0.001, 0.02, 0.1, 0.3, 0.5, 0.9, 1])
def test_large_masks_come_back_and_are_short(density: float) -> None:
    bits = np.random.default_rng(1).random(50_000) < density
    code = pack_mask(bits)
    assert (unpack_mask(code, bits.size) == bits).all()
    assert len(code) <= 1 + len(raw_bits(bits))
    if 0.001 < density <= 0.3:
        entropy = -(density * log2(density) + (1 - density) * log2(1 - density)) * bits.size / 8
        assert entropy * 0.95 < len(code) < entropy * 1.06


def test_rice_takes_the_best_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.random.default_rng(2).random(4000) < 0.05
    best = rice(bits)
    others = []
    for parameter in range(12):
        monkeypatch.setattr(codes.np, "argmin", lambda _, parameter=parameter: parameter)
        others.append(rice(bits))
        assert (unrice(others[-1], bits.size) == bits).all()
    assert len(best) == min(map(len, others)) < max(map(len, others))


def test_rice_by_hand() -> None:
    """Bits 0 and 3 of 4: gaps 0, 2 and 0 at the end; parameter 0: 0, 110, 0."""
    assert rice(np.array([1, 0, 0, 1], bool)) == bytes([0, 0b00110])


@given(st.binary(max_size=40), st.integers(0, 200))
def test_any_code_is_decoded_or_refused(code: bytes, size: int) -> None:
    try:
        bits = unpack_mask(code, size)
    except TicketError:
        return
    assert bits.shape == (size,)


def test_cut_and_lengthened_codes_are_refused() -> None:
    for density in (0.05, 0.5):
        bits = np.random.default_rng(3).random(400) < density
        code = pack_mask(bits)
        for bad in (*(code[:i] for i in range(len(code))), code + b"\0"):
            with pytest.raises(TicketError, match="mask"):
                unpack_mask(bad, bits.size)
    assert rice(np.ones(9, bool)) == bytes([0, 0, 0])  # 10 bits of code, 6 unused
    with pytest.raises(TicketError, match="not one of 9 bits"):
        unrice(bytes([0, 0, 0b100000]), 9)


# the count


@pytest.mark.parametrize("name", CASES)
def test_layers_and_what_they_share_are_the_whole(name: str) -> None:
    model = compact(CASES[name].ticket())
    parts = packed_bytes(model)
    assert tuple(parts) == packet.PARTS
    layers = [count for layer in model.plan.layers for count in layer_bytes(model, layer.name).values()]
    shared = ("seed", "input", "quantise", "kept ids")
    assert sum(layers) == sum(n for part, n in parts.items() if part not in shared) > 0


def test_every_part_of_a_known_ticket() -> None:
    """conv 1->8 int8, conv 8->16 masked with flips, linear 16->4 int8; 3 of 8 and all 16 channels kept."""
    plan = Plan(
        {"x": (1, 8, 8)},
        (
            Layer("a", conv(8), ("x",)),
            Layer("b", conv(16), ("a",)),
            Layer("g", GlobalAveragePool(), ("b",)),
            Layer("o", Linear(4), ("g",)),
        ),
        ("o",),
    )
    ticket = with_kept(Case(plan, flips=True), {"a": [1, 2, 6], "b": range(16)})
    mask = ticket.masks["b"]
    assert packed_bytes(compact(ticket)) == {
        "seed": 8,
        "input": 4 + 4,
        "quantise": 5 * 5,
        "kept ids": 1,
        "masks": len(pack_mask(mask)),
        "flips": -(-int(mask.sum()) // 8),
        "int8": (1 + 3 * 9) + (1 + 16 * 4),  # too few to code, so as they are
        "float32": 0,
        "per filter": 2 * (3 * 5 + 3 + 16 + 4),
    }
    weights = 3 * 9 + 16 * 3 * 9 + 16 * 4
    grids = 2 * (3 * 5 + 23)
    assert equivalents(ticket.narrow) == {"fp32": 4 * weights + 4 * 23 + 8, "int8": weights + 3 + grids + 25 + 8}


def test_values_on_a_grid_take_a_byte_each() -> None:
    model = compact(CASES["residual"].ticket())
    channels = sum(len(values) for values in model.scale.values())
    assert packed_bytes(model)["per filter"] == 2 * (5 * len(model.scale) + channels)
    off = replace(model, scale={name: values * np.float32(1.1) for name, values in model.scale.items()})
    assert (
        packed_bytes(off)["per filter"] > packed_bytes(model)["per filter"] + 2 * channels
    )  # float32, four bytes each
    for name in ("scale", "bias"):
        for values in getattr(model, name).values():
            assert len(pack_parameters(values)) == 5 + len(values)


def with_kept(case: Case, kept: dict[str, Iterable[int]]) -> Ticket:
    """The case's ticket of all channels, cut to `kept`: ids by group."""
    ticket = replace(case, keep=1.0).ticket()
    left = {name: np.isin(np.arange(len(mask)), list(kept[name])) for name, mask in ticket.kept.items()}
    return restrict(ticket, left)


@pytest.mark.parametrize(
    ("ids", "expected"), [(range(24), 0), (range(5), 0), ([0, 1, 3], 1), ([1], 1), ([7], 1), ([8], 2), ([0, 23], 3)]
)
def test_kept_ids_end_at_the_last_kept_channel(ids: Iterable[int], expected: int) -> None:
    plan = Plan(
        {"x": (1, 4, 4)},
        (Layer("a", conv(24), ("x",)), Layer("f", Flatten(), ("a",)), Layer("o", Linear(3), ("f",))),
        ("o",),
    )
    for learned in (True, False):  # learned: neither layer takes signs, so no ids are needed
        ticket = with_kept(Case(plan, learned=learned), {"a": ids})
        assert packed_bytes(compact(ticket))["kept ids"] == (0 if learned else expected)


def test_kept_ids_behind_a_flatten_with_a_learned_stem() -> None:
    """Only the Linear needs ids; the flattened 16 positions a channel are no ids of their own."""
    plan = Plan(
        {"x": (1, 4, 4)},
        (
            Layer("a", conv(24), ("x",)),
            Layer("f", Flatten(), ("a",)),
            Layer("l", Linear(8), ("f",)),
            Layer("o", Linear(3), ("l",)),
        ),
        ("o",),
    )
    assert packed_bytes(compact(with_kept(Case(plan), {"a": [2, 9], "l": range(8)})))["kept ids"] == 2


def test_groups_are_counted_once() -> None:
    """A residual group has three writers and two readers, and one bitmap."""
    ticket = replace(CASES["residual"], learned=False).ticket()
    assert packed_bytes(compact(ticket))["kept ids"] <= sum((len(mask) + 7) // 8 for mask in ticket.kept.values())


def test_norms_and_slopes_are_counted_on_both_sides() -> None:
    """5 of 8 channels: a norm is scale and bias, a slope one float."""
    plan = chain((2, 5, 5), conv(8), Norm(), PRelu(), conv(6), GlobalAveragePool(), Linear(3))
    ticket = with_kept(Case(plan), {"l0": range(5), "l3": range(6)})
    assert packed_bytes(compact(ticket))["per filter"] == 2 * (4 * 5 + 5 + 5 + 6 + 3) + 4 * 5
    without = chain((2, 5, 5), conv(5), conv(6), GlobalAveragePool(), Linear(3))
    extra = {name: size - equivalents(without)[name] for name, size in equivalents(ticket.narrow).items()}
    assert extra == {"fp32": (8 + 4) * 5, "int8": 2 * (5 + 5) + 4 * 5 + 2 * packet.PER_TENSOR}


def test_inputs_are_all_counted() -> None:
    ticket = CASES["two inputs and two outputs"].ticket()
    assert packed_bytes(compact(ticket))["input"] == (4 * 2 + 4) + (4 * 3 + 4)


def kept_ids(model: Model) -> dict[str, int]:
    return {name: size for name, size in packet._kept_ids(model).items() if size}


@pytest.mark.parametrize(("learned", "expected"), [(False, 2), (True, 3)])
def test_kept_ids_behind_a_gather_and_a_concat_of_a_tensor_with_itself(learned: bool, expected: int) -> None:
    """The stem's channels 2 and 9 of 20: a bitmap up to 9, or, behind a learned stem, up to the first that is read, 19 - 2."""
    plan = graph(
        (1, 4, 4),
        ("stem", conv(20), "x"),
        ("twice", Concat(), "stem stem"),
        ("turned", Gather(tuple(range(39, -1, -1))), "twice"),
        ("b", conv(8), "turned"),
        ("c", conv(4, 1), "b"),
    )
    ticket = with_kept(Case(plan, learned=learned), {"stem": [2, 9], "b": range(8)})
    assert ticket.narrow["turned"].op == Gather((3, 2, 1, 0))
    assert kept_ids(compact(ticket)) == {"stem": expected}


@pytest.mark.parametrize(
    ("groups", "expected"), [(1, {"l0": 2, "l1": 2}), (2, {"l0": 1, "l1": 1}), (4, {"l0": 1, "l1": 1}), (16, {"l0": 2})]
)
def test_kept_ids_of_a_grouped_convolution_are_the_positions_in_a_group(groups: int, expected: dict[str, int]) -> None:
    """Behind a learned stem only the convolution itself needs to know which of the 16 / groups are left."""
    plan = chain((1, 4, 4), conv(16), conv(16, groups=groups), conv(4, 1))
    free = {name: len(group.ids) for name, group in plan.groups.items() if not group.fixed}
    model = compact(with_kept(Case(plan), {name: [0, size - 1] for name, size in free.items()}))
    assert isinstance(model.weights["l0"], Int8)
    assert kept_ids(model) == expected
    assert packed_bytes(model)["kept ids"] == sum(expected.values())


@pytest.mark.parametrize(("kept", "expected"), [(1, {"input of l1": 1}), (0, {})])
def test_kept_ids_where_one_channel_of_each_group_is_left(kept: int, expected: dict[str, int]) -> None:
    """The narrow convolution looks depthwise, and still takes its signs from one of two inputs."""
    plan = chain((1, 4, 4), conv(16), conv(16, groups=8), conv(4, 1))
    model = compact(with_kept(Case(plan), {"l0": [kept], "l1": [0, 1]}))
    assert model.plan.depthwise(model.plan["l1"])
    assert kept_ids(model) == expected


def test_competitors() -> None:
    plan = Plan({"x": (2, 5)}, (Layer("a", Conv(3, (3,), (1,), (1, 1), (1,)), ("x",)),), ("a",))
    values, numbers = np.zeros((3, 2, 3)), np.zeros(3, np.float32)
    raw = {"x": Input("uint8", (0, 0), (1.0, 1.0))}
    floating = Model(plan, {"a": Float(values.astype(np.float32))}, {"a": numbers}, {"a": numbers}, raw, {})
    integer = Model(plan, {"a": Int8(values.astype(np.int8))}, {"a": numbers}, {"a": numbers}, raw, {})
    filled = {part: count for part, count in packed_bytes(floating).items() if count}
    assert filled == {"input": 12, "float32": 72, "per filter": 12}
    filled = {part: count for part, count in packed_bytes(integer).items() if count}
    assert filled == {"input": 12, "quantise": 10, "int8": 1, "per filter": 16}  # 18 zeros need no bits
    assert equivalents(plan) == {"fp32": 96, "int8": 12 + 10 + 1 + 18 + 16}


def test_a_step_per_channel_is_counted_where_they_differ_and_on_both_sides() -> None:
    ticket = CASES["float sensor of different steps"].ticket()
    alike = replace(ticket, inputs={"x": replace(ticket.inputs["x"], step=(0.5, 0.5, 0.5))})
    assert packed_bytes(compact(ticket))["input"] == 4 * 3 + 4 * 3
    assert packed_bytes(compact(alike))["input"] == 4 * 3 + 4
    few, more = (equivalents(one.narrow, one.inputs) for one in (alike, ticket))
    assert {name: more[name] - few[name] for name in few} == {"fp32": 8, "int8": 8}


def test_equivalents_take_no_memory_for_weights() -> None:
    """46 million weights as float32 would be 184 MB."""
    plan = Plan(
        {"x": (1, 1, 1)},
        (Layer("a", conv(7000, 1), ("x",)), Layer("b", conv(6600, 1), ("a",)), Layer("o", Concat(), ("b", "a"))),
        ("o",),
    )
    tracemalloc.start()
    sizes = equivalents(plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes["fp32"] == 4 * (7000 + 6600 * 7000) + 4 * 13600 + 8
    assert peak < 1 << 24
