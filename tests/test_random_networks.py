"""Random networks, random channels, random masks: what is left computes the same in every implementation."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_networks import KINDS, case, network

from edgeticket import coupling, plan
from edgeticket.compact import align, compact, masked, prove, remove_dead, zeroed
from edgeticket.errors import EdgeTicketError
from edgeticket.model import Raw, Signs
from edgeticket.ops import OPS, RESIZE_MODES, Add, Conv, DepthToSpace, Gather, Layer, Mul, Resize
from edgeticket.plan import Kept, Plan
from edgeticket.reference import require_equal, run_outputs
from edgeticket.ticket import Ticket, parse_ticket
from exporters import to_onnx

FAST, CHECK, SOAK = range(8), range(8, 58), range(58, 558)
SEEDS = [
    *FAST,
    *(pytest.param(seed, marks=pytest.mark.slow) for seed in CHECK),
    *(pytest.param(seed, marks=pytest.mark.soak) for seed in SOAK),
]
EXACT, FLOAT32 = 1e-10, 1e-5  # of the largest output


def equal(seed: int, what: str, made: list[np.ndarray], wanted: list[np.ndarray], tolerance: float) -> None:
    for i, (a, b) in enumerate(zip(made, wanted, strict=True)):
        assert a.shape == b.shape, f"seed {seed}, {what}: output {i} is {a.shape}, not {b.shape}"
        require_equal(f"seed {seed}, {what}, output {i}", a, b, tolerance)


def wide_outputs(ticket: Ticket, raw: Raw) -> list[np.ndarray]:
    """The masked wide network's, in numpy: what every other way to compute the ticket is compared with."""
    return run_outputs(masked(ticket), raw, gates=ticket.plan.alive(ticket.kept))


def all_kept(ticket: Ticket) -> Ticket:
    """The same function with no channel gone: masks alone."""
    model = zeroed(ticket)
    signs = {name: weights for name, weights in model.weights.items() if isinstance(weights, Signs)}
    return replace(
        ticket,
        kept={name: np.ones_like(kept) for name, kept in ticket.kept.items()},
        masks={name: weights.mask for name, weights in signs.items()},
        flips={name: weights.flips for name, weights in signs.items() if weights.flips is not None},
        learned={name: weights.values for name, weights in model.weights.items() if name not in signs},
        scale=model.scale,
        bias=model.bias,
        slope=model.slope,
    )


def torch_outputs(ticket: Ticket, raw: Raw, dtype: type) -> list[np.ndarray]:
    """Made in `dtype` throughout, so that float64 has no rounding to float32 in it."""
    torch = pytest.importorskip("torch")
    from edgeticket.masked import of_ticket, outputs

    kinds = {kind: getattr(ticket, kind) for kind in ("scale", "bias", "slope")}
    wanted = {kind: {name: array.astype(dtype) for name, array in of.items()} for kind, of in kinds.items()}
    torch.set_default_dtype(torch.from_numpy(np.zeros(1, dtype)).dtype)
    try:
        net = of_ticket(replace(ticket, **wanted)).to(torch.get_default_dtype())
    finally:
        torch.set_default_dtype(torch.float32)
    return outputs(net, raw, ticket.inputs)


@pytest.mark.parametrize("seed", SEEDS)
def test_compacted_is_masked(seed: int, tmp_path: Path) -> None:
    made = case(seed)
    ticket, raw = made.ticket(), made.raw(3)
    wide, model = wide_outputs(ticket, raw), compact(ticket)
    equal(seed, "numpy", run_outputs(model, raw), wide, EXACT)
    equal(seed, "aligned", run_outputs(align(model, 4), raw), wide, EXACT)
    less = remove_dead(ticket)
    equal(seed, "without dead channels", run_outputs(compact(less), raw), wide, EXACT)
    prove(less, raw)
    for one in (ticket, less):
        assert parse_ticket(one.to_bytes()).to_bytes() == one.to_bytes(), f"seed {seed}: another ticket from its file"
    assert Plan.from_json(model.plan.to_json()) == model.plan, f"seed {seed}: another plan from its JSON"
    to_onnx.export(model, tmp_path / "net.onnx")
    equal(seed, "ONNX Runtime", to_onnx.run_outputs(tmp_path / "net.onnx", raw), wide, FLOAT32)
    equal(seed, "torch float32", torch_outputs(ticket, raw, np.float32), wide, FLOAT32)
    equal(seed, "torch float64", torch_outputs(ticket, raw, np.float64), wide, EXACT)
    equal(seed, "torch float64, masks alone", torch_outputs(all_kept(ticket), raw, np.float64), wide, EXACT)


def test_every_operation_is_met() -> None:
    """By the seeds of `make check`, with all that an operation can be, and with channels that leave."""
    plans = [network(seed) for seed in (*FAST, *CHECK)]
    ops = [layer.op for plan in plans for layer in plan.layers]
    assert {type(op).__name__ for op in ops} == set(OPS)
    assert {op.activation for op in ops if hasattr(op, "activation")} == set(KINDS)
    resizes = {(op.mode, len(op.size)) for op in ops if isinstance(op, Resize)}
    assert resizes == {(mode, n) for mode in RESIZE_MODES for n in (1, 2)}
    assert {len(plan.inputs) for plan in plans} == {1, 2, 3}
    assert {len(plan.outputs) for plan in plans} >= {1, 2, 3}
    met = {what for plan in plans for layer in plan.layers for what in oddities(plan, layer)}
    assert met == set(ODDITIES)
    smaller = [compact(case(seed).ticket()).plan.widths() != network(seed).widths() for seed in (*FAST, *CHECK)]
    assert np.mean(smaller) > 0.9


ODDITIES = ["1-D", "2-D", "depthwise", "multiplied", "grouped", "dilated", "uneven", "broadcast", "tied"]


def oddities(plan: Plan, layer: Layer) -> set[str]:
    op, inputs = layer.op, [plan.shapes[name] for name in layer.inputs]
    found = {"tied"} if any(layer.name in group.tied and not group.fixed for group in plan.groups.values()) else set()
    if isinstance(op, Add | Mul):
        return found | ({"broadcast"} if len(set(inputs)) > 1 else set())
    if not isinstance(op, Conv):
        return found
    n = len(op.kernel)
    found.add(f"{n}-D")
    if op.groups > 1 and not plan.depthwise(layer):
        found.add("grouped")
    if plan.depthwise(layer):
        found.add("depthwise" if op.out == op.groups else "multiplied")
    if max(op.dilation) > 1:
        found.add("dilated")
    return found | ({"uneven"} if op.pad[:n] != op.pad[n:] else set())


# mistakes that the comparison must see

Couple = Callable[..., tuple[np.ndarray, list[np.ndarray]]]


def next_channel(right: Callable[[Plan, Kept], Plan]) -> Callable[[Plan, Kept], Plan]:
    """A Gather that reads, after compaction, the channel beside its own."""

    def wrong(plan: Plan, kept: Kept) -> Plan:
        narrow = right(plan, kept)
        layers = []
        for layer in narrow.layers:
            if isinstance(layer.op, Gather):
                channels = narrow.shapes[layer.inputs[0]][0]
                layer = replace(layer, op=Gather(tuple((i + 1) % channels for i in layer.op.channels)))
            layers.append(layer)
        return replace(narrow, layers=tuple(layers))

    return wrong


def blocks_apart(right: Couple) -> Couple:
    """Channels coupled as if depth to space took them in ONNX's other order (DCR)."""

    def wrong(layer, shapes, inputs, find):
        if not isinstance(layer.op, DepthToSpace):
            return right(layer, shapes, inputs, find)
        blocks = inputs[0].reshape(layer.op.block**2, -1).T
        return blocks[:, 0], [find.join_rows(blocks)]

    return wrong


def first_group_alone(right: Couple) -> Couple:
    """A grouped convolution whose groups lose different channels."""

    def wrong(layer, shapes, inputs, find):
        if isinstance(layer.op, Conv) and 1 < layer.op.groups < len(inputs[0]):
            return find.fresh(layer.name, layer.op.out), []
        return right(layer, shapes, inputs, find)

    return wrong


@pytest.mark.parametrize(
    ("owner", "name", "mistake", "op"),
    [
        (plan.Plan, "narrow", next_channel, Gather),
        (coupling, "_couple", blocks_apart, DepthToSpace),
        (coupling, "_couple", first_group_alone, Conv),
    ],
)
def test_a_planted_mistake_is_caught(owner, name, mistake, op, monkeypatch) -> None:
    """An index that is wrong by one, or channels coupled wrongly, by the same comparison as above."""
    seeds = [seed for seed in CHECK if any(isinstance(layer.op, op) for layer in network(seed).layers)]
    prove_all(seeds)
    monkeypatch.setattr(owner, name, mistake(getattr(owner, name)))
    with pytest.raises((EdgeTicketError, ValueError)):
        prove_all(seeds)


def prove_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        prove(case(seed).ticket(), case(seed).raw(3))
