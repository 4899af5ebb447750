"""Structured pruning of a trained float network by Torch-Pruning, whose choice of channels is taken as it is.

G. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, arXiv 2301.12900. The network is handed over as the
modules that it knows, norms not folded; what it would remove then leaves the network here, which the loop of all others
trains on.
"""

import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn

from edgeticket.cells import Cell, Norm, activate, torch_pad
from edgeticket.errors import BudgetError, UnsupportedError
from edgeticket.masked import MaskedNet
from edgeticket.ops import Conv, ConvTranspose, Linear, Weighted
from edgeticket.plan import Kept

STEPS = 256  # shares of the channels that may be tried
EXAMPLES = 2  # a batch norm in training mode would want two


def prune(net: MaskedNet, fits: Callable[[Kept], bool]) -> Kept:
    """What is left of a float network once Torch-Pruning removed the smallest share of its channels that `fits`.

    Channels of all layers are ranked together by their groups' L2 norms, each as a share of those not smaller (LAMP; Lee et al., ICLR
    2021, arXiv 2010.07611): of its rankings the one that did best here (docs/notes.md). `net` stays as it is. Raises
    UnsupportedError for a network that Torch-Pruning cannot follow, BudgetError where no share fits.
    """
    low, high = -1, STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(_left(net, middle / STEPS)) else (middle, high)
    if high == STEPS:
        raise BudgetError("Torch-Pruning leaves more than the bytes allow: raise them, or take a narrower network")
    return _left(net, high / STEPS)


def _left(net: MaskedNet, share: float) -> Kept:
    """Channels that stay where Torch-Pruning is asked to remove `share` of them."""
    plan, plain = net.plan, _plain(net)
    layers = {plain.cell(name).get_submodule("product"): name for name in net.names}
    gone: list[int] = []
    try:
        for group in _pruner(plain, layers, share).step(interactive=True):
            first = group[0]
            gone += plan.channels[layers[first.dep.target.module]][first.idxs].tolist()
            group.prune()
    except Exception as error:  # it asserts and fails in many ways on graphs that it does not know
        raise UnsupportedError(
            f"Torch-Pruning cannot follow this network ({type(error).__name__}: {error}): it is compared without"
        ) from error
    kept = {name: ~np.isin(plan.groups[name].ids, gone) for name in net.kept}
    narrow = plan.narrow(kept)
    for module, name in layers.items():
        made, right = module.get_parameter("weight").numel(), narrow.weights()[name]
        if made != right:
            raise UnsupportedError(
                f"Torch-Pruning leaves layer {name} {made:,} weights, where what is tied to it leaves {right:,}: "
                "it is compared without"
            )
    return kept


def _pruner(plain: MaskedNet, layers: Mapping[nn.Module, str], share: float) -> tp.pruner.BasePruner:
    plan = plain.plan
    (shape,) = plan.inputs.values()
    fixed = np.concatenate([group.ids for group in plan.groups.values() if group.fixed])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tp.pruner.BasePruner(
            plain,
            torch.zeros(EXAMPLES, *shape),
            importance=tp.importance.LAMPImportance(),
            global_pruning=True,
            pruning_ratio=share,
            ignored_layers=[module for module, name in layers.items() if np.isin(plan.channels[name], fixed).any()],
            in_channel_groups={},  # its defaults are shared by all pruners of a process
            out_channel_groups={},
            num_heads={},
        )


def _plain(net: MaskedNet) -> MaskedNet:
    """A copy of the network as ordinary modules."""
    plain, plan = deepcopy(net).cpu().eval(), net.plan
    plain.per_channel = nn.ModuleList(
        _batch_norm(module, len(plan.shapes[name])) if isinstance(module, Norm) else _prelu(plain.slope(name))
        for name, module in zip(net.others, plain.per_channel, strict=True)
    )
    plain.cells = nn.ModuleList(_Ordinary(plain.cell(name)) for name in net.names)
    return plain.eval()


class _Ordinary(Cell):
    """A cell made of torch's own modules."""

    def __init__(self, cell: Cell) -> None:
        nn.Module.__init__(self)
        self.op, self.product = cell.op, _product(cell.op, cell.weight().detach(), cell.bias)
        dimensions = 1 + len(getattr(cell.op, "kernel", ()))
        self.norm = None if cell.norm is None else _batch_norm(cell.norm, dimensions)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.op, Conv) and any(self.op.pad):
            x = F.pad(x, torch_pad(self.op.pad))
        y = self.product(x)
        if isinstance(self.op, ConvTranspose) and any(self.op.pad):
            y = F.pad(y, [-size for size in torch_pad(self.op.pad)])
        return activate(self.op.activation, y if self.norm is None else self.norm(y))


def _product(op: Weighted, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Without its padding."""
    made: Any
    if isinstance(op, Linear):
        made = nn.Linear(weight.shape[1], op.out, bias is not None)
    else:
        own: dict[str, Any] = {"kernel_size": op.kernel, "stride": op.stride, "bias": bias is not None}
        if isinstance(op, Conv):
            kind: Any = nn.Conv1d if len(op.kernel) == 1 else nn.Conv2d
            made = kind(weight.shape[1] * op.groups, op.out, dilation=op.dilation, groups=op.groups, **own)
        else:
            kind = nn.ConvTranspose1d if len(op.kernel) == 1 else nn.ConvTranspose2d
            made, weight = kind(weight.shape[1], op.out, output_padding=op.out_pad, **own), weight.transpose(0, 1)
    made.weight.data = weight.clone()
    if bias is not None:
        made.bias.data = bias.detach().clone()
    return made


def _batch_norm(norm: Norm, dimensions: int) -> nn.Module:
    """For tensors of so many dimensions, without the batch."""
    made = (nn.BatchNorm2d if dimensions == 3 else nn.BatchNorm1d)(len(norm.weight), norm.epsilon)
    made.load_state_dict(
        {"weight": norm.weight, "bias": norm.bias, "running_mean": norm.mean, "running_var": norm.variance},
        strict=False,
    )
    return made


def _prelu(slope: Tensor) -> nn.Module:
    made = nn.PReLU(len(slope))
    made.weight.data = slope.detach().clone()
    return made
