"""N:M groups: of every 16 neighbouring edges of a filter the best N stay, the structure that sparse hardware multiplies.

Zhou et al., "Learning N:M fine-grained structured sparse neural networks", ICLR 2021, arXiv 2102.04010; for masks over random
weights BingoGCN (ISCA 2025, doi 10.1145/3695053.3731115). Differs from both: frozen signs and straight-through scores as in
edge-popup, groups along a filter's own inputs, and N differs by one between groups where the density asks for it, so that a
filter keeps exactly k.
"""

import numpy as np
import torch
from torch import Tensor

from edgeticket.errors import UsageError
from edgeticket.search._training import Checkpoint, Job, train
from edgeticket.search.edge_popup import StraightThrough
from edgeticket.settings import Settings
from edgeticket.weights import MaskedWeight

M, DECAY = 16, 1e-4


class Grouped(MaskedWeight):
    """A score per edge, like `signs`."""

    def mask(self) -> Tensor:
        """1 where an edge is among the best of its group, like `signs`; of equals the first."""
        flat = self.score.detach().flatten(1)
        edges = flat.shape[1]
        groups = -(-edges // M)
        padded = torch.nn.functional.pad(flat, (0, groups * M - edges), value=-torch.inf).view(len(flat), groups, M)
        rank = torch.argsort(padded, dim=2, descending=True, stable=True).argsort(2)
        ends = torch.arange(1, groups + 1, device=flat.device).mul(M).clamp_max(edges) * self.k // edges
        quota = ends - torch.cat([ends.new_zeros(1), ends[:-1]])
        return (rank < quota[:, None]).float().flatten(1)[:, :edges].view_as(self.score)

    def integers(self) -> Tensor:
        return (self.signs * StraightThrough.apply(self.score, self.mask())).sum(1)

    def chosen(self) -> np.ndarray:
        return self.mask().cpu().numpy().astype(np.int8)


WEIGHT = Grouped


def search(job: Job, settings: Settings, checkpoint: Checkpoint) -> None:
    """Train the scores of `job.net` in place. Raises UsageError where signs are to be learned."""
    if settings.signs == "learned":
        raise UsageError("n_m_groups keeps the seed's signs: leave --signs out")
    job.steps_by_kind = {"score": settings.score_step, "weight": settings.weight_step}
    job.weight_decay = {"score": DECAY, "weight": DECAY}
    train(job, checkpoint)
