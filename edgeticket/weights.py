"""What a layer's weights are while it is trained: frozen random signs under a mask, or learned values.

A search method may bring a `MaskedWeight` of its own (edgeticket/search/): how scores choose, and how gradients reach them.
"""

from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from edgeticket.settings import rounded


def keep_top(score: np.ndarray, k: int) -> np.ndarray:
    """bool like `score`: the k highest of each row; of equals, those with the lowest index."""
    flat = score.reshape(len(score), -1)
    mask = np.zeros(flat.shape, bool)
    np.put_along_axis(mask, np.argsort(-flat, axis=1, kind="stable")[:, :k], True, axis=1)
    return mask.reshape(score.shape)


class MaskedWeight(nn.Module):
    """[filters, edges, inputs, *kernel] frozen signs, of which some are kept. `column_axis`: the inputs' axis in its tensors.

    A method's subclass says what its scores are (`first_scores`), which weights they give under training (`integers`, through
    which gradients reach the scores), and which edges are kept in the end (`chosen`).
    """

    column_axis = 2
    signs: Tensor

    def __init__(self, signs: np.ndarray, density: float, signed: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.density, self.signed = density, signed
        self.register_buffer("signs", torch.from_numpy(signs.astype(np.float32)))
        self.score = nn.Parameter(self.first_scores(generator))
        self.frozen: Tensor | None = None  # once chosen: 1 kept, -1 kept with the other sign, 0 not kept; like `signs`

    @property
    def k(self) -> int:
        """Edges that each filter keeps."""
        return max(1, rounded(self.density * prod(self.signs.shape[1:])))

    def unit(self) -> Tensor:
        """What an integer weight of 1 stands for, per filter: Kaiming's magnitude for k inputs."""
        return torch.full((len(self.signs),), sqrt(2 / self.k))

    def forward(self) -> Tensor:
        """[filters, inputs, *kernel]."""
        integers = self.integers() if self.frozen is None else (self.signs * self.frozen).sum(1)
        return integers * sqrt(2 / self.k)

    def choose(self) -> tuple[np.ndarray, np.ndarray]:
        """Final mask and flips, bool like `signs`; the forward pass uses exactly these from now on."""
        kept = self.chosen()
        self.frozen = torch.from_numpy(kept.astype(np.float32)).to(self.signs.device)
        return kept != 0, kept < 0

    def first_scores(self, generator: torch.Generator) -> Tensor:
        """Uniform from 0 to a tenth of what a weight of that fan-in would start with; like `signs`."""
        return torch.rand(self.signs.shape, generator=generator) * (0.1 / sqrt(prod(self.signs.shape[1:])))

    def integers(self) -> Tensor:
        """[filters, inputs, *kernel]: sums of the signs that are kept just now."""
        raise NotImplementedError

    def chosen(self) -> np.ndarray:
        """int8 like `signs`: 1 kept, -1 kept with the opposite sign (only if `signed`), 0 not kept."""
        raise NotImplementedError


class LearnedWeight(nn.Module):
    """Ordinary weights [filters, inputs, *kernel], rounded to int8 per filter in every forward pass if `rounded`."""

    column_axis = 1

    def __init__(self, shape: tuple[int, ...], rounded: bool, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / sqrt(prod(shape[1:]))
        self.weight = nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)
        self.rounded = rounded

    def unit(self) -> Tensor:
        """What an integer weight of 1 stands for, per filter: the largest weight is 127 of it. 1 for float weights."""
        if not self.rounded:
            return torch.ones(len(self.weight))
        return self.weight.detach().abs().flatten(1).amax(1).clamp_min(1e-8) / 127

    def forward(self) -> Tensor:
        if not self.rounded:
            return self.weight
        unit = self.unit().view(-1, *[1] * (self.weight.dim() - 1))
        return self.weight + ((self.weight / unit).round() * unit - self.weight).detach()

    def codes(self) -> np.ndarray:
        """int8 weights, in units of `unit`."""
        unit = self.unit().view(-1, *[1] * (self.weight.dim() - 1))
        return (self.weight.detach() / unit).round().to(torch.int8).cpu().numpy()
