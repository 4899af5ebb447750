"""The trainable network of a plan, cell by cell, which may be narrowed while it is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeticket.cells import ACTIVATIONS, Cell, LearnedWeight, MaskedWeight
from edgeticket.model import Signs
from edgeticket.ops import (
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv,
    Flatten,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool,
    Mul,
)
from edgeticket.plan import Kept, Plan
from edgeticket.ticket import Input, Ticket


@dataclass(frozen=True)
class Choices:
    """What a layer's weights are: per layer density and edges; learned layers as int8; or all of them float."""

    density: Mapping[str, float]
    edges: Mapping[str, int]
    learned: frozenset[str]
    signed: bool = False
    floating: bool = False


class MaskedNet(nn.Module):
    """The network of `plan`, layer by layer; it may be narrowed while it is trained."""

    def __init__(self, plan: Plan, seed: int, choices: Choices) -> None:
        super().__init__()
        self.wide, self.seed, self.choices = plan, seed, choices
        self.kept: dict[str, np.ndarray] = {
            name: np.ones(len(group.ids), bool) for name, group in plan.groups.items() if not group.fixed
        }
        generator = torch.Generator().manual_seed(seed % (1 << 63))
        self.names = [layer.name for layer in plan.weighted()]
        self.cells = nn.ModuleList(Cell(layer, self._weight(layer, generator)) for layer in plan.weighted())

    def _weight(self, layer: Layer, generator: torch.Generator) -> MaskedWeight | LearnedWeight:
        filters, inputs, *kernel = self.wide.weight_shape(layer)
        if self.choices.floating or layer.name in self.choices.learned:
            return LearnedWeight((filters, inputs, *kernel), not self.choices.floating, generator)
        everything = np.ones((filters, self.choices.edges[layer.name], inputs, *kernel), bool)
        index = self.wide.layers.index(layer)
        signs = Signs(self.seed, index, everything, np.arange(filters), np.arange(inputs)).edge_signs()
        return MaskedWeight(signs, self.choices.density[layer.name], self.choices.signed, generator)

    @property
    def plan(self) -> Plan:
        """What is left of the wide plan."""
        return self.wide.narrow(self.kept)

    def cell(self, name: str) -> Cell:
        cell = self.cells[self.names.index(name)]
        assert isinstance(cell, Cell)
        return cell

    def forward(self, x: Tensor) -> Tensor:
        (name,) = self.wide.inputs
        tensors = {name: x}
        for layer in self.wide.layers:
            inputs = [tensors[name] for name in layer.inputs]
            if isinstance(layer.op, Conv | Linear):
                tensors[layer.name] = self.cell(layer.name)(inputs[0])
            else:
                tensors[layer.name] = _apply(layer, inputs)
        return tensors[self.wide.outputs[0]]

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
        self.kept = dict(kept)
        narrow = self.plan
        for name in self.names:
            op = narrow[name].op
            assert isinstance(op, Conv | Linear)
            self.cell(name).op = op


def of_ticket(ticket: Ticket) -> MaskedNet:
    """The torch network that computes a ticket, in eval mode, on its kept channels. Its scores are not the search's."""
    weights = {layer.name: 1.0 for layer in ticket.plan.weighted()}
    edges = {name: ticket.edges.get(name, 1) for name in weights}
    net = MaskedNet(ticket.plan, ticket.seed, Choices(weights, edges, frozenset(ticket.learned)))
    net.shrink(ticket.kept, {})
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
    return net.eval()


def outputs(net: MaskedNet, raw: np.ndarray, input: Input, batch: int = 500) -> np.ndarray:
    """float32 outputs in eval mode for raw sensor values."""
    net.eval()
    device = next(net.parameters()).device
    parts = [torch.from_numpy(raw[i : i + batch]).to(device) for i in range(0, len(raw), batch)]
    with torch.no_grad():
        return np.concatenate([net(prepare(part, input)).cpu().numpy() for part in parts])


def prepare(raw: Tensor, input: Input) -> Tensor:
    """float32 network input; images in the memory order that convolutions like."""
    pair = torch.tensor((input.offset, input.step), dtype=torch.float32, device=raw.device)
    offset, step = pair.view(2, -1, *[1] * (raw.dim() - 2))
    x = (raw.float() - offset) * step
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _apply(layer: Layer, inputs: list[Tensor]) -> Tensor:
    op, x = layer.op, inputs[0]
    if isinstance(op, Add):
        return ACTIVATIONS[op.activation](sum(inputs[1:], x))
    if isinstance(op, Mul):
        for other in inputs[1:]:
            x = x * other
        return x
    if isinstance(op, Concat):
        return torch.cat(inputs, 1)
    if isinstance(op, Activation):
        return ACTIVATIONS[op.activation](x)
    if isinstance(op, MaxPool | AveragePool):
        return _pool(op, x)
    if isinstance(op, GlobalAveragePool):
        return x.flatten(2).mean(-1) if x.dim() > 2 else x
    assert isinstance(op, Flatten)
    return x.flatten(1)


def _pool(op: MaxPool | AveragePool, x: Tensor) -> Tensor:
    n = len(op.kernel)
    pad = [p for i in reversed(range(n)) for p in (op.pad[i], op.pad[n + i])]
    if isinstance(op, MaxPool):
        pooled = F.max_pool1d if n == 1 else F.max_pool2d
        return pooled(F.pad(x, pad, value=-torch.inf), op.kernel, op.stride)
    average = F.avg_pool1d if n == 1 else F.avg_pool2d
    counted = average(F.pad(torch.ones_like(x[:1, :1]), pad), op.kernel, op.stride)
    return average(F.pad(x, pad), op.kernel, op.stride) / counted
