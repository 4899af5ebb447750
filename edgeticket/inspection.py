"""What a network is before any search: its layers, which channels can leave together, and what forbids that."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeticket.cost import PacketEstimate
from edgeticket.coupling import Group
from edgeticket.ops import WEIGHTED, Conv, Gather, Layer
from edgeticket.packet import equivalents
from edgeticket.plan import Plan
from edgeticket.settings import Settings
from edgeticket.stand_in import Chosen
from edgeticket.text import columns

_SAMPLE = 1 << 16  # mask bits per layer that the estimate of bytes is made on


def inspect(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Everything `edgeticket inspect` prints, as plain JSON values. Sizes in bytes, activations in elements = int8 bytes."""
    learned, macs, weights = settings.learned(plan), plan.macs(), plan.weights()
    owner = {int(i): name for name, group in plan.groups.items() for i in group.ids}
    layers = [
        {
            "name": layer.name,
            "op": type(layer.op).__name__,
            "inputs": list(layer.inputs),
            "shape": list(plan.shapes[layer.name]),
            "weights": weights.get(layer.name, 0),
            "macs": macs.get(layer.name, 0),
            "learned": layer.name in learned,
            "groups": list(dict.fromkeys(owner[i] for i in plan.channels[layer.name].tolist())),
        }
        for layer in plan.layers
    ]
    return {
        "inputs": {name: list(shape) for name, shape in plan.inputs.items()},
        "outputs": {name: list(plan.shapes[name]) for name in plan.outputs},
        "layers": layers,
        "groups": [_group(plan, name, group) for name, group in plan.groups.items() if _makers(plan, group)],
        "total": {
            "weights": sum(weights.values()),
            "macs": sum(macs.values()),
            "learned_weights": sum(weights[name] for name in learned),
            "peak_activations": plan.peak_activations(),
        },
        "bytes": {"packed_estimate": estimate(plan, settings), **equivalents(plan)},
    }


def estimate(plan: Plan, settings: Settings) -> int:
    """Packed bytes of a ticket of the whole plan, about."""
    return PacketEstimate(plan, Chosen.by(settings, plan))(plan)


def _group(plan: Plan, name: str, group: Group) -> dict[str, Any]:
    """`channels` of the tensor that gives the name, `steps`: how many of those leave at once, `blocked`: why none can."""
    channels = int(np.isin(plan.channels[name], group.ids).sum())
    tied = [_op(plan, layer) for layer in group.tied]
    if name in plan.inputs:
        blocked = _joined_to_input(plan, name, group)
    elif group.fixed:
        blocked = _output(plan, name, group)
    elif len(group.ids) == 1:
        blocked = f"all live or die together by {_few(tied)}" if tied else "the only channel of its tensor"
    else:
        blocked = ""
    return {
        "name": name,
        "channels": channels,
        "steps": channels // len(group.ids),
        "blocked": blocked,
        "tied": tied,
        "layers": [layer.name for layer in plan.layers if np.isin(plan.channels[layer.name], group.ids).any()],
    }


def _makers(plan: Plan, group: Group) -> list[Layer]:
    """Layers with weights that make channels of the group."""
    return [layer for layer in plan.weighted() if np.isin(plan.channels[layer.name], group.ids).any()]


def _joined_to_input(plan: Plan, name: str, group: Group) -> str:
    """A depthwise convolution joins its own filters, any other layer those of the layers that make them."""
    made = [layer.name for layer in _makers(plan, group) if not plan.depthwise(layer)]
    by = [_op(plan, layer) for layer in group.by] or [_op(plan, layer.name) for layer in _makers(plan, group)]
    return f"{_few(by)} join{'s' if len(by) == 1 else ''} {_few(made) or 'its filters'} to the input {name}"


def _output(plan: Plan, name: str, group: Group) -> str:
    """Which of the group's channels are an output of the network, if not all, and the layers that make them one."""
    given = np.intersect1d(group.ids, np.concatenate([plan.channels[output] for output in plan.outputs]))
    channels, fixed = (int(np.isin(plan.channels[name], ids).sum()) for ids in (group.ids, given))
    by = [_op(plan, layer) for layer in (*group.by, *(_slices(plan, given) if fixed < channels else ()))]
    what = f"{fixed} of {channels} are an output of the network" if fixed < channels else group.fixed
    return f"{what}, by {_few(by)}" if by else what


def _slices(plan: Plan, ids: np.ndarray) -> list[str]:
    """The layers that make a part of a tensor's channels an output, where some of the part are `ids`."""
    passed, found = set(plan.outputs), []
    for layer in reversed(plan.layers):
        makes = isinstance(layer.op, WEIGHTED) and not plan.depthwise(layer)
        if layer.name in passed and not makes and np.isin(plan.channels[layer.name], ids).any():
            passed.update(layer.inputs)
            if isinstance(layer.op, Gather) and len(set(layer.op.channels)) < plan.shapes[layer.inputs[0]][0]:
                found.append(layer.name)
    return found


def _op(plan: Plan, name: str) -> str:
    op = plan[name].op
    return f"{name} ({type(op).__name__}{f' with {op.groups} groups' if isinstance(op, Conv) else ''})"


def _few(names: Sequence[str]) -> str:
    """One or two by name, of more the first and how many others."""
    return " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"


# text


def inspect_text(told: Mapping[str, Any]) -> str:
    """`inspect(plan, settings)` as two tables and the totals."""
    return "\n\n".join(["\n".join(columns(_layer_rows(told), "<<<")), "\n".join(_group_rows(told)), _totals(told)])


def _layer_rows(told: Mapping[str, Any]) -> list[list[str]]:
    rows = [["layer", "op", "weights are", "output", "weights", "MACs", "channels of group"]]
    for row in told["layers"]:
        kind = ("learned int8" if row["learned"] else "signs") if row["weights"] else ""
        numbers = [f"{row[key]:,}" if row["weights"] else "" for key in ("weights", "macs")]
        groups = row["groups"]
        made_of = groups[0] if len(groups) == 1 else f"{groups[0]} and {len(groups) - 1} more"
        rows.append([row["name"], row["op"], kind, _sizes(row["shape"]), *numbers, made_of])
    return rows


def _group_rows(told: Mapping[str, Any]) -> list[str]:
    rows = [["group", "can shrink", "channels"]]
    for row in told["groups"]:
        each = f", {row['steps']} at once by {_few(row['tied'])}" if row["steps"] > 1 else ""
        rows.append([row["name"], f"no: {row['blocked']}" if row["blocked"] else f"yes{each}", f"{row['channels']:,}"])
    return columns(rows, "<<")


def _totals(told: Mapping[str, Any]) -> str:
    total, sizes = told["total"], told["bytes"]
    ends = (", ".join(f"{name} {_sizes(shape)}" for name, shape in told[end].items()) for end in ("inputs", "outputs"))
    free = sum(not row["blocked"] for row in told["groups"])
    return "\n".join(
        [
            "reads {}; gives {}".format(*ends),
            f"{free} of {len(told['groups'])} groups of channels can shrink",
            f"{total['weights']:,} weights ({total['learned_weights']:,} would be learned int8), {total['macs']:,} MACs, "
            f"{total['peak_activations']:,} bytes of int8 activations at the peak",
            f"bytes of a ticket about {sizes['packed_estimate']:,} (estimated, with all channels), of this network as int8 "
            f"{sizes['int8']:,}, as fp32 {sizes['fp32']:,}",
        ]
    )


def _sizes(shape: list[int]) -> str:
    return "x".join(map(str, shape))
