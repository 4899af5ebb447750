"""Ticket -> Model: the channels that lost are gone, and the function is the same.

A removed channel's gate sits after norm and activation, so dropping its filter and the inputs that read it is exact.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgeticket.model import Int8, Model, Raw, Signs, Weights
from edgeticket.ops import Add, Gather, Mul
from edgeticket.plan import Kept, Plan
from edgeticket.reference import require_equal, run_outputs
from edgeticket.ticket import Ticket


def compact(ticket: Ticket) -> Model:
    """The network of the kept channels alone."""
    weights: dict[str, Weights] = {}
    for index, layer in enumerate(ticket.plan.layers):
        name = layer.name
        if name in ticket.learned:
            weights[name] = Int8(ticket.learned[name])
        elif name in ticket.masks:
            rows, columns = ticket.plan.rows_columns(layer, ticket.kept)
            weights[name] = Signs(ticket.seed, index, ticket.masks[name], rows, columns, ticket.flips.get(name))
    return _model(ticket, ticket.narrow, weights, ticket.scale, ticket.bias, ticket.slope)


def _model(ticket: Ticket, plan: Plan, weights: Mapping[str, Weights], *channels: Mapping[str, np.ndarray]) -> Model:
    scale, bias, slope = channels
    return Model(plan, weights, scale, bias, ticket.inputs, ticket.quant, ticket.task, slope, ticket.target)


def masked(ticket: Ticket) -> Model:
    """The WIDE network, to be run under the gates of `ticket.plan.alive(ticket.kept)`.

    Filters and inputs that lost hold full weights (every edge, scale and bias 1): if removal were not exact, it would show.
    """
    return _wide(ticket, 1)


def zeroed(ticket: Ticket) -> Model:
    """The WIDE network with zeros where channels lost: the same outputs and no smaller, what masks alone give."""
    return _wide(ticket, 0)


def _wide(ticket: Ticket, fill: int) -> Model:
    """What was removed holds `fill` everywhere."""
    weights: dict[str, Weights] = {}
    plan, alive = ticket.plan, ticket.plan.alive(ticket.kept)
    for index, layer in enumerate(plan.layers):
        name = layer.name
        if name not in ticket.masks and name not in ticket.learned:
            continue
        rows, columns = plan.rows_columns(layer, ticket.kept)
        filters, inputs, *kernel = plan.weight_shape(layer)
        if name in ticket.learned:
            weights[name] = Int8(_spread(ticket.learned[name], (filters, inputs, *kernel), rows, 1, columns, fill))
            continue
        shape = (filters, ticket.edges[name], inputs, *kernel)
        mask = _spread(ticket.masks[name], shape, rows, 2, columns, fill)
        flips = _spread(ticket.flips[name], shape, rows, 2, columns, fill) & mask if name in ticket.flips else None
        weights[name] = Signs(ticket.seed, index, mask, np.arange(filters), np.arange(inputs), flips)
    channels = (
        {
            name: _spread(values, (plan.shapes[name][0],), np.flatnonzero(alive[name]), fill=fill)
            for name, values in kind.items()
        }
        for kind in (ticket.scale, ticket.bias, ticket.slope)
    )
    return _model(ticket, plan, weights, *channels)


def prove(ticket: Ticket, raw: Raw) -> float:
    """Largest difference between the compacted and the masked wide network; raises EquivalenceError beyond 1e-9."""
    wide = run_outputs(masked(ticket), raw, gates=ticket.plan.alive(ticket.kept))
    made = run_outputs(compact(ticket), raw)
    what = "compact against the masked wide network"
    return max(require_equal(what, a, b, 1e-9) for a, b in zip(made, wide, strict=True))


def remove_dead(ticket: Ticket) -> Ticket:
    """Drop channels that nothing reads, to a fixpoint. (A filter always keeps a weight, so none is without live input.)"""
    while True:
        used = _used(ticket)
        kept = {}
        for name, mask in ticket.kept.items():
            group = ticket.plan.groups[name]
            kept[name] = mask if group.fixed else mask & used[group.ids]
        kept = ticket.plan.fill(kept, ticket.kept)
        if all((kept[name] == ticket.kept[name]).all() for name in kept):
            return ticket
        ticket = restrict(ticket, kept)


def restrict(ticket: Ticket, kept: Kept) -> Ticket:
    """The ticket with fewer channels, its other choices as they were."""
    masks, flips, learned = {}, {}, {}
    for layer in ticket.plan.weighted():
        name = layer.name
        (old_rows, old_columns), (rows, columns) = (ticket.plan.rows_columns(layer, k) for k in (ticket.kept, kept))
        rows, columns = np.isin(old_rows, rows), np.isin(old_columns, columns)
        if name in ticket.learned:
            learned[name] = ticket.learned[name][rows][:, columns]
        else:
            masks[name] = ticket.masks[name][rows][:, :, columns]
        if name in ticket.flips:
            flips[name] = ticket.flips[name][rows][:, :, columns]
    before, after = ticket.plan.alive(ticket.kept), ticket.plan.alive(kept)
    scale, bias, slope = (
        {name: values[after[name][before[name]]] for name, values in kind.items()}
        for kind in (ticket.scale, ticket.bias, ticket.slope)
    )
    return replace(ticket, kept=kept, masks=masks, flips=flips, learned=learned, scale=scale, bias=bias, slope=slope)


def align(model: Model, multiple: int) -> Model:
    """Zero channels up to a multiple, for runtimes that compute in blocks; the outputs stay the same.

    Only groups whose channels go straight into ungrouped Conv or Linear layers or elementwise operations are padded.
    """
    extra = {
        name: -len(group.ids) % multiple for name, group in model.plan.groups.items() if _may_pad(model.plan, name)
    }
    plan = _widened(model.plan, extra)
    weights: dict[str, Weights] = {}
    for layer in model.plan.weighted():
        name, old = layer.name, model.weights[layer.name]
        own_filters, own_inputs, *_ = model.plan.weight_shape(layer)
        rows, columns = np.arange(own_filters), np.arange(own_inputs)  # the layer's own come first
        filters, inputs, *kernel = plan.weight_shape(plan[name])
        if isinstance(old, Signs):
            shape = (filters, old.mask.shape[1], inputs, *kernel)
            mask = _spread(old.mask, shape, rows, 2, columns, 0)
            flips = None if old.flips is None else _spread(old.flips, shape, rows, 2, columns, 0)
            wide = [
                _spread(ids, (n,), at, fill=0)
                for ids, n, at in ((old.rows, filters, rows), (old.columns, inputs, columns))
            ]
            weights[name] = replace(old, mask=mask, flips=flips, rows=wide[0], columns=wide[1])
        else:
            weights[name] = replace(old, values=_spread(old.values, (filters, inputs, *kernel), rows, 1, columns, 0))
    scale, bias, slope = (
        {
            name: _spread(values, (plan.shapes[name][0],), np.arange(len(values)), fill=fill)
            for name, values in kind.items()
        }
        for kind, fill in ((model.scale, 1), (model.bias, 0), (model.slope, 0))
    )
    return replace(model, plan=plan, weights=weights, scale=scale, bias=bias, slope=slope)


def _may_pad(plan: Plan, group: str) -> bool:
    if plan.groups[group].fixed:
        return False
    ids = plan.groups[group].ids
    for layer in plan.layers:
        touched = [name for name in (layer.name, *layer.inputs) if np.isin(plan.channels[name], ids).any()]
        joined = [layer.name] if isinstance(layer.op, Add | Mul) else []  # one channel may be broadcast to all
        whole = all(len(plan.channels[name]) == len(ids) for name in touched + joined)
        if touched and (not whole or isinstance(layer.op, Gather) or getattr(layer.op, "groups", 1) > 1):
            return False
    return True


def _widened(plan: Plan, extra: Mapping[str, int]) -> Plan:
    """The padded plan."""
    owner = {int(i): name for name, group in plan.groups.items() for i in group.ids}
    grow = {layer.name: extra.get(owner[int(plan.channels[layer.name][0])], 0) for layer in plan.weighted()}
    return replace(plan, layers=tuple(layer.wider(grow.get(layer.name, 0)) for layer in plan.layers))


def _used(ticket: Ticket) -> np.ndarray:
    """bool per channel id: some filter reads it, or it is an output. Depthwise filters pass a channel on, no more."""
    used = np.zeros(ticket.plan.channel_ids, bool)
    for name in ticket.plan.outputs:
        used[ticket.plan.channels[name]] = True
    for layer in ticket.plan.weighted():
        if ticket.plan.depthwise(layer):
            continue
        _, columns = ticket.plan.rows_columns(layer, ticket.kept)
        values = ticket.learned.get(layer.name)
        reads = ticket.masks[layer.name].any(1) if values is None else values != 0
        reads = reads.any(axis=(0, *range(2, reads.ndim)))
        used[ticket.plan.channels[layer.inputs[0]][columns[reads]]] = True
    return used


def _spread(
    values: np.ndarray,
    shape: tuple[int, ...],
    rows: np.ndarray,
    axis: int = 0,
    columns: np.ndarray | None = None,
    fill: int = 1,
) -> np.ndarray:
    """`values` at `rows` of axis 0 and `columns` of `axis` in an array of `shape` that holds `fill` elsewhere."""
    wide = np.full(shape, fill, values.dtype)
    index: list[np.ndarray] = [np.arange(n) for n in shape]
    index[0] = rows
    if columns is not None:
        index[axis] = columns
    wide[np.ix_(*index)] = values
    return wide
