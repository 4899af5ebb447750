"""The trainable network of a plan, cell by cell, which may be narrowed while it is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeticket.cells import Cell, Norm, Slope, activate, narrow, torch_pad
from edgeticket.model import Raw, Signs
from edgeticket.ops import (
    Activation,
    Add,
    Concat,
    DepthToSpace,
    Flatten,
    Gather,
    GlobalAveragePool,
    Layer,
    Layout,
    MaxPool,
    Mul,
    Op,
    Pad,
    Pool,
    PRelu,
    Reshape,
    Resize,
    Shape,
    Weighted,
)
from edgeticket.ops import Norm as NormOp
from edgeticket.plan import Kept, Plan
from edgeticket.reference import feed
from edgeticket.ticket import Input, Target, Ticket
from edgeticket.weights import LearnedWeight, MaskedWeight


@dataclass(frozen=True)
class Choices:
    """What a layer's weights are: per layer density and edges; learned layers as int8; or all of them float."""

    density: Mapping[str, float]
    edges: Mapping[str, int]
    learned: frozenset[str]
    signed: bool = False
    floating: bool = False
    weight: type[MaskedWeight] = MaskedWeight  # of the layers under a mask


class MaskedNet(nn.Module):
    """The network of `plan`, layer by layer; it may be narrowed while it is trained."""

    def __init__(self, plan: Plan, seed: int, choices: Choices) -> None:
        super().__init__()
        self.wide, self.seed, self.choices, self._narrow = plan, seed, choices, plan
        self.target: Target | None = None  # `outputs` applies it; what is trained has outputs of deviation 1
        self.kept: dict[str, np.ndarray] = {
            name: np.ones(len(group.ids), bool) for name, group in plan.groups.items() if not group.fixed
        }
        generator = torch.Generator().manual_seed(seed % (1 << 63))
        self.names = [layer.name for layer in plan.weighted()]
        self.cells = nn.ModuleList(Cell(layer, self._weight(layer, generator)) for layer in plan.weighted())
        # Other layers that learn a value per channel.
        self.others = [layer.name for layer in plan.layers if isinstance(layer.op, NormOp | PRelu)]
        self.per_channel = nn.ModuleList(
            (Norm if isinstance(plan[name].op, NormOp) else Slope)(plan.shapes[name][0]) for name in self.others
        )

    def _weight(self, layer: Layer, generator: torch.Generator) -> MaskedWeight | LearnedWeight:
        filters, inputs, *kernel = self.wide.weight_shape(layer)
        if self.choices.floating or layer.name in self.choices.learned:
            return LearnedWeight((filters, inputs, *kernel), not self.choices.floating, generator)
        everything = np.ones((filters, self.choices.edges[layer.name], inputs, *kernel), bool)
        index = self.wide.layers.index(layer)
        signs = Signs(self.seed, index, everything, np.arange(filters), np.arange(inputs)).edge_signs()
        return self.choices.weight(signs, self.choices.density[layer.name], self.choices.signed, generator)

    @property
    def plan(self) -> Plan:
        """What is left of the wide plan."""
        return self._narrow

    def cell(self, name: str) -> Cell:
        cell = self.cells[self.names.index(name)]
        assert isinstance(cell, Cell)
        return cell

    def norm(self, name: str) -> Norm:
        """The module of a Norm layer."""
        found = self.per_channel[self.others.index(name)]
        assert isinstance(found, Norm)
        return found

    def slope(self, name: str) -> nn.Parameter:
        """The slopes of a PRelu layer."""
        found = self.per_channel[self.others.index(name)]
        assert isinstance(found, Slope)
        return found.slope

    def folded(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
        """float32 scale, bias and slope per channel of the layers that have them."""
        pairs = {name: self.cell(name).fold() for name in self.names}
        slope = {}
        for name, module in zip(self.others, self.per_channel, strict=True):
            if isinstance(module, Norm):
                pairs[name] = module.fold()
            else:
                slope[name] = self.slope(name).detach().cpu().numpy()
        return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}, slope

    def round(self) -> None:
        """Put the scale and bias of every weighted layer on the grids that devices store them on."""
        for name in self.names:
            self.cell(name).round()
        for norm in self.per_channel:
            if isinstance(norm, Norm):
                norm.round()

    def run_all(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every tensor."""
        tensors = dict(inputs)
        for layer in self.wide.layers:
            x, op = [tensors[name] for name in layer.inputs], layer.op
            if isinstance(op, Weighted):
                tensors[layer.name] = self.cell(layer.name)(x[0])
            elif isinstance(op, NormOp | PRelu):
                y = self.per_channel[self.others.index(layer.name)](x[0])
                tensors[layer.name] = activate(op.activation, y) if isinstance(op, NormOp) else y
            elif isinstance(op, Gather):
                tensors[layer.name] = x[0][:, list(self._gathered(layer.name))]
            else:
                tensors[layer.name] = _apply(op, x)
        return tensors

    def _gathered(self, name: str) -> Shape:
        op = self._narrow[name].op
        assert isinstance(op, Gather)
        return op.channels

    def forward(self, x: Tensor) -> Tensor:
        """The first output of a network with one input."""
        (name,) = self.wide.inputs
        return self.run_all({name: x})[self.wide.outputs[0]]

    def shrink(self, kept: Kept, momentum: Mapping[Tensor, dict[str, Any]]) -> None:
        """Physically remove channels; `kept` is of the wide plan and holds nothing that already left."""
        device = next(self.parameters()).device
        for layer in self.wide.weighted():
            (rows, columns), (new_rows, new_columns) = (self.wide.rows_columns(layer, k) for k in (self.kept, kept))
            at_rows, at_columns = (
                torch.from_numpy(np.flatnonzero(np.isin(old, new))).to(device)
                for old, new in ((rows, new_rows), (columns, new_columns))
            )
            self.cell(layer.name).take(at_rows, at_columns, momentum)
        before, after = self.wide.alive(self.kept), self.wide.alive(kept)
        for name, module in zip(self.others, self.per_channel, strict=True):
            narrow(module, torch.from_numpy(np.flatnonzero(after[name][before[name]])).to(device), None, momentum)
        self.kept, self._narrow = dict(kept), self.wide.narrow(kept)
        for name in self.names:
            op = self._narrow[name].op
            assert isinstance(op, Weighted)
            self.cell(name).op = op


def of_ticket(ticket: Ticket) -> MaskedNet:
    """The torch network that computes a ticket, in eval mode, on its kept channels. Its scores are not the search's."""
    weights = {layer.name: 1.0 for layer in ticket.plan.weighted()}
    edges = {name: ticket.edges.get(name, 1) for name in weights}
    net = MaskedNet(ticket.plan, ticket.seed, Choices(weights, edges, frozenset(ticket.learned)))
    net.shrink(ticket.kept, {})
    net.target = ticket.target
    for name in net.names:
        cell = net.cell(name)
        scale, bias = (torch.from_numpy(values[name].copy()) for values in (ticket.scale, ticket.bias))
        if isinstance(cell.weight, MaskedWeight):
            mask = ticket.masks[name]
            flips = ticket.flips.get(name, np.zeros_like(mask))
            cell.weight.frozen = torch.from_numpy(mask * np.where(flips, -1.0, 1.0).astype(np.float32))
            cell.unfold(scale / cell.weight.unit(), bias)
        else:
            codes = torch.from_numpy(ticket.learned[name].astype(np.float32))
            cell.weight.rounded, cell.weight.weight.data = False, codes * scale.view(-1, *[1] * (codes.dim() - 1))
            cell.unfold(torch.ones_like(scale), bias)
    for name in net.others:
        if name in ticket.slope:
            net.slope(name).data = torch.from_numpy(ticket.slope[name].copy())
        else:
            net.norm(name).unfold(*(torch.from_numpy(values[name].copy()) for values in (ticket.scale, ticket.bias)))
    return net.eval()


def outputs(net: MaskedNet, raw: Raw, inputs: Mapping[str, Input], batch: int = 500) -> list[np.ndarray]:
    """Every output in eval mode, in the net's own type, for raw sensor values."""
    net.eval()
    some = next(net.parameters())
    given = feed(net.wide, raw)
    parts = []
    for i in range(0, len(next(iter(given.values()))), batch):
        own = {name: torch.from_numpy(values[i : i + batch]).to(some.device) for name, values in given.items()}
        with torch.no_grad():
            made = net.run_all({name: prepare(part, inputs[name], some.dtype) for name, part in own.items()})
        parts.append([made[name].cpu().numpy() for name in net.wide.outputs])
    first, *others = (np.concatenate(output) for output in zip(*parts, strict=True))
    return [net.target.apply(first) if net.target else first, *others]


def prepare(raw: Tensor, input: Input, dtype: torch.dtype = torch.float32) -> Tensor:
    """Network input; images in the memory order that convolutions like."""
    pair = torch.tensor((input.offset, input.step), dtype=dtype, device=raw.device)
    offset, step = pair.view(2, -1, *[1] * (raw.dim() - 2))
    x = (raw.to(dtype) - offset) * step
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _apply(op: Op, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    if isinstance(op, Add):
        return activate(op.activation, sum(inputs[1:], x))
    if isinstance(op, Mul):
        for other in inputs[1:]:
            x = x * other
        return x
    if isinstance(op, Concat):
        return torch.cat(inputs, 1)
    if isinstance(op, Activation):
        return activate(op.activation, x)
    if isinstance(op, Pool):
        return _pool(op, x)
    if isinstance(op, Resize):
        return _resize(op, x)
    if isinstance(op, GlobalAveragePool):
        return x.flatten(2).mean(-1) if x.dim() > 2 else x
    assert isinstance(op, Layout)
    return _rearrange(op, x)


def _rearrange(op: Layout, x: Tensor) -> Tensor:
    if isinstance(op, Flatten):
        return x.flatten(1)
    if isinstance(op, Reshape):
        return x.reshape(len(x), -1, *op.spatial)
    if isinstance(op, Pad):
        return F.pad(x, torch_pad(op.pad))
    assert not isinstance(op, Gather)
    return F.pixel_shuffle(x, op.block) if isinstance(op, DepthToSpace) else F.pixel_unshuffle(x, op.block)


def _resize(op: Resize, x: Tensor) -> Tensor:
    if op.mode in ("nearest", "area"):
        return F.interpolate(x, op.size, mode=op.mode)
    mode = "linear" if len(op.size) == 1 else "bilinear"
    return F.interpolate(x, op.size, mode=mode, align_corners=op.mode == "align_corners")


def _pool(op: Pool, x: Tensor) -> Tensor:
    n = len(op.kernel)
    pad = torch_pad(op.pad)
    if isinstance(op, MaxPool):
        pooled = F.max_pool1d if n == 1 else F.max_pool2d
        return pooled(F.pad(x, pad, value=-torch.inf), op.kernel, op.stride)
    average = F.avg_pool1d if n == 1 else F.avg_pool2d
    counted = average(F.pad(torch.ones_like(x[:1, :1]), pad), op.kernel, op.stride)
    return average(F.pad(x, pad), op.kernel, op.stride) / counted
