"""A search that begins where an older one ended: scores that give its masks, norms that give its outputs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeticket.cells import Norm
from edgeticket.masked import MaskedNet, prepare
from edgeticket.ticket import Input, Ticket
from edgeticket.weights import MaskedWeight

SEEN = 1000  # examples that norms are set by
START = 0.1  # of what a weight of the fan-in would start with: scores of connections without an edge begin below that


def begin(net: MaskedNet, old: Ticket, raw: np.ndarray, sensor: Input) -> None:
    """Make a fresh `net` of the old ticket's seed compute what that one computes, on examples `raw` in training mode too."""
    net.shrink(old.kept, {})
    wanted: dict[Norm, tuple[Tensor, Tensor]] = {}
    for name in net.names:
        cell, scale, bias = net.cell(name), *(torch.from_numpy(own[name].copy()) for own in (old.scale, old.bias))
        if isinstance(cell.weight, MaskedWeight):
            cell.weight.score.data = _scores(cell.weight, old, name)
        else:
            codes = torch.from_numpy(old.learned[name].astype(np.float32))
            cell.weight.weight.data = codes * scale.abs().view(-1, *[1] * (codes.dim() - 1))
        gain = scale / cell.weight.unit()
        if cell.norm is not None:
            wanted[cell.norm] = gain, bias
        elif cell.bias is not None:
            cell.bias.data = bias
    for name in net.others:
        if name in old.slope:
            net.slope(name).data = torch.from_numpy(old.slope[name].copy())
        else:
            wanted[net.norm(name)] = torch.from_numpy(old.scale[name].copy()), torch.from_numpy(old.bias[name].copy())
    every = -(-len(raw) // SEEN)
    with torch.no_grad(), _setting(wanted):
        net.train()(prepare(torch.from_numpy(raw[::every]), sensor))


def _scores(weight: MaskedWeight, old: Ticket, name: str) -> Tensor:
    """Scores of which apportionment makes the old integers: of a weight v twice |v| times what any connection without edges has."""
    mask, flips = (
        torch.from_numpy(part[name].astype(np.float32)) for part in (old.masks, old.flips or {name: np.zeros(1)})
    )
    values = (weight.signs * mask * (1 - 2 * flips)).sum(1, keepdim=True)
    limit = START / sqrt(prod(values.shape[1:]))
    free = weight.score.detach()
    return torch.where(values != 0, 2 * limit * values, free * (limit / free.abs().max()))


@contextmanager
def _setting(wanted: Mapping[Norm, tuple[Tensor, Tensor]]) -> Iterator[None]:
    """While it is open, each norm that is run takes the weight and bias that make gain * x + shift of what it is given."""

    def take(norm: Any, given: tuple[Tensor, ...]) -> None:
        gain, shift = wanted[norm]
        variance, mean = torch.var_mean(given[0].transpose(0, 1).flatten(1), 1, correction=0)
        norm.weight.data = gain * (variance + norm.epsilon).sqrt()
        norm.bias.data = shift + gain * mean

    hooks = [norm.register_forward_pre_hook(take) for norm in wanted]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
