"""The trainable layers: scores choose which frozen random signs stay, by straight-through estimation.

Edge-popup (Ramanujan et al., CVPR 2020, arXiv 1911.13299): the forward pass keeps the k highest scores of every filter, the
backward pass gives every score the gradient that its weight would get. With learned signs, |score| chooses and its sign
flips the seed's (signed supermasks, Koster et al., ICLR 2022).
"""

from collections.abc import Mapping
from math import prod, sqrt
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeticket.ops import ConvTranspose, Layer, Linear, Shape, Weighted, leak
from edgeticket.settings import rounded

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
}
FIRST_SLOPE = 0.25  # of a PRelu, He et al., arXiv 1502.01852


def activate(kind: str, x: Tensor) -> Tensor:
    """The activations of `ops.ACTIVATIONS`."""
    slope = leak(kind)
    return ACTIVATIONS[kind](x) if slope is None else F.leaky_relu(x, slope)


class _KeepTop(torch.autograd.Function):
    """1 (times the score's sign, if signed) for the k largest of each row, 0 elsewhere; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: Any, score: Tensor, k: int, signed: bool) -> Tensor:
        flat = score.flatten(1)
        size = flat.abs() if signed else flat
        kept = torch.zeros_like(flat).scatter_(1, size.topk(k, dim=1, sorted=False).indices, 1.0)
        return (kept * flat.sign() if signed else kept).view_as(score)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0], None, None


def keep_top(score: np.ndarray, k: int) -> np.ndarray:
    """bool like `score`: the k highest of each row; of equals, those with the lowest index."""
    flat = score.reshape(len(score), -1)
    mask = np.zeros(flat.shape, bool)
    np.put_along_axis(mask, np.argsort(-flat, axis=1, kind="stable")[:, :k], True, axis=1)
    return mask.reshape(score.shape)


class MaskedWeight(nn.Module):
    """[filters, edges, inputs, *kernel] frozen signs with a score each. `column_axis`: the inputs' axis in its tensors."""

    column_axis = 2
    signs: Tensor
    repeats: Tensor

    def __init__(self, signs: np.ndarray, density: float, signed: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.density, self.signed = density, signed
        self.register_buffer("signs", torch.from_numpy(signs.astype(np.float32)))
        self.register_buffer("repeats", torch.from_numpy(_repeats(signs)))
        start = torch.rand(signs.shape, generator=generator) * (0.1 / sqrt(prod(signs.shape[1:])))
        self.score = nn.Parameter(start)
        self.frozen: Tensor | None = None

    @property
    def k(self) -> int:
        """Weights that each filter keeps."""
        return max(1, rounded(self.density * prod(self.score.shape[1:])))

    def unit(self) -> Tensor:
        """What an integer weight of 1 stands for, per filter: Kaiming's magnitude for k inputs."""
        return torch.full((len(self.score),), sqrt(2 / self.k))

    def ranked(self) -> Tensor:
        """Scores by which edges compete.

        Edges of one connection with equal signs get equal gradients and would be kept or left together. So the second of
        them must win by one standard deviation of the filter's scores, the third by two: the connection's score then says
        how large its weight is (seed signs only), as the nested thresholds of multicoated supermasks do (Okoshi et al., ICML 2022).
        """
        if self.score.shape[1] == 1 or self.signed:
            return self.score
        spread = self.score.detach().flatten(1).std(1).view(-1, *[1] * (self.score.dim() - 1))
        return self.score - spread * self.repeats

    def forward(self) -> Tensor:
        kept = _KeepTop.apply(self.ranked(), self.k, self.signed) if self.frozen is None else self.frozen
        return (self.signs * kept).sum(1) * sqrt(2 / self.k)

    def choose(self) -> tuple[np.ndarray, np.ndarray]:
        """Final mask and flips, bool like the scores; the forward pass uses exactly these from now on."""
        score = self.ranked().detach().cpu().numpy()
        mask = keep_top(np.abs(score) if self.signed else score, self.k)
        flips = mask & (score < 0) if self.signed else np.zeros_like(mask)
        self.frozen = torch.from_numpy(mask * np.where(flips, -1.0, 1.0).astype(np.float32)).to(self.score.device)
        return mask, flips


def _repeats(signs: np.ndarray) -> np.ndarray:
    """float32 like `signs`: how many earlier edges of the same connection have the same sign."""
    earlier = [(signs[:, :edge] == signs[:, edge : edge + 1]).sum(1) for edge in range(signs.shape[1])]
    return np.stack(earlier, 1).astype(np.float32)


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


class Cell(nn.Module):
    """A Conv, ConvTranspose or Linear with its norm (or bias) and activation."""

    def __init__(self, layer: Layer, weight: MaskedWeight | LearnedWeight) -> None:
        super().__init__()
        assert isinstance(layer.op, Weighted)
        self.op, self.weight = layer.op, weight
        # A masked layer is always normalised while it is searched: both fold into one scale and one bias per filter.
        self.norm = Norm(layer.op.out) if layer.op.norm or isinstance(weight, MaskedWeight) else None
        self.bias = None if self.norm else nn.Parameter(torch.zeros(layer.op.out))

    def forward(self, x: Tensor) -> Tensor:
        y = _multiply(self.op, x, self.weight())
        if self.norm is not None:
            y = self.norm(y)
        elif self.bias is not None:
            y = y + self.bias.view(-1, *[1] * (y.dim() - 2))
        return activate(self.op.activation, y)

    def fold(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 scale of the integer (or float) weights, and bias, per filter."""
        unit = self.weight.unit().double().cpu().numpy()
        if self.norm is None:
            assert self.bias is not None
            return unit.astype(np.float32), self.bias.detach().cpu().numpy()
        gain, shift = (values.cpu().numpy() for values in self.norm.affine())
        return (gain * unit).astype(np.float32), shift.astype(np.float32)

    def unfold(self, gain: Tensor, shift: Tensor) -> None:
        """Inverse of `fold`: make the filters' outputs gain * sums + shift. Without a norm, gain must be 1."""
        if self.norm is None:
            assert self.bias is not None
            self.bias.data = shift
            return
        self.norm.unfold(gain, shift)

    def gate_gradient(self) -> Tensor:
        """dLoss/dgate per filter, for a gate of 1 on the filter's output (Molchanov et al., CVPR 2019, arXiv 1906.10771)."""
        if self.norm is not None:
            scaling = (self.norm.weight, self.norm.bias)
        else:  # no norm, then no mask: the filter itself scales the output
            assert isinstance(self.weight, LearnedWeight)
            assert self.bias is not None
            scaling = (self.weight.weight, self.bias)
        products = [(value.detach() * _gradient(value)).reshape(len(value), -1).sum(1) for value in scaling]
        return products[0] + products[1]

    def take(self, rows: Tensor, columns: Tensor, momentum: Mapping[Tensor, dict[str, Any]]) -> None:
        """Keep these filters and inputs, in every parameter, buffer and momentum."""
        for module in (self.weight, self.norm, self):
            if module is not None:
                narrow(module, rows, columns, momentum)


def narrow(module: nn.Module, rows: Tensor, columns: Tensor | None, momentum: Mapping[Tensor, dict[str, Any]]) -> None:
    """Keep `rows` of axis 0, and `columns` of a weight's input axis, in every parameter, buffer and momentum of a module."""
    axis = module.column_axis if isinstance(module, MaskedWeight | LearnedWeight) else None

    def part(values: Tensor) -> Tensor:
        values = values.index_select(0, rows)
        return values if axis is None or columns is None else values.index_select(axis, columns)

    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        tensor.data, tensor.grad = part(tensor.data), None
        state = momentum.get(tensor, {})
        if state.get("momentum_buffer") is not None:
            state["momentum_buffer"] = part(state["momentum_buffer"])


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


class Norm(nn.Module):
    """Batch norm whose running statistics are recomputed in one go (`recalibrate`), not averaged on the way."""

    mean: Tensor
    variance: Tensor
    epsilon = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.seen: int | None = None  # batches averaged so far; None: not recalibrating

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.epsilon)
        if self.seen is None:
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.epsilon)
        self.seen += 1
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, True, 1 / self.seen, self.epsilon)

    def affine(self) -> tuple[Tensor, Tensor]:
        gain = self.weight.detach().double() / (self.variance.double() + self.epsilon).sqrt()
        return gain, self.bias.detach().double() - self.mean.double() * gain

    def unfold(self, gain: Tensor, shift: Tensor) -> None:
        """Inverse of `affine`."""
        self.mean.zero_()
        self.variance.fill_(1 - self.epsilon)
        self.weight.data, self.bias.data = gain, shift


class Slope(nn.Module):
    """What a PRelu multiplies negative values with, per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((channels,), FIRST_SLOPE))

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.slope)


def _multiply(op: Weighted, x: Tensor, weight: Tensor) -> Tensor:
    if isinstance(op, Linear):
        return F.linear(x, weight)
    n = len(op.kernel)
    if isinstance(op, ConvTranspose):
        transposed = F.conv_transpose1d if n == 1 else F.conv_transpose2d
        # Padding cuts a transposed convolution's result; what is uneven of it is cut afterwards.
        even = tuple(min(op.pad[i], op.pad[n + i]) for i in range(n))
        y = transposed(x, weight.transpose(0, 1), None, op.stride, even, op.out_pad)
        cut = [(op.pad[i] - even[i], y.shape[2 + i] - (op.pad[n + i] - even[i])) for i in range(n)]
        return y[(slice(None), slice(None), *(slice(*ends) for ends in cut))]
    pad = op.pad[:n]
    if op.pad[n:] != pad:
        x, pad = F.pad(x, torch_pad(op.pad)), (0,) * n
    function = F.conv1d if n == 1 else F.conv2d
    return function(x, weight, None, op.stride, pad, op.dilation, op.groups)


def torch_pad(pad: Shape) -> list[int]:
    """From ONNX's order to torch's: the last direction first, begin and end of each together."""
    n = len(pad) // 2
    return [p for i in reversed(range(n)) for p in (pad[i], pad[n + i])]
