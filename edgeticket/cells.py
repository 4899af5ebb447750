"""The trainable layers: weights (edgeticket/weights.py) with their norm and activation."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeticket.ops import ConvTranspose, Layer, Linear, Shape, Weighted, leak
from edgeticket.rounding import round_parameters
from edgeticket.weights import LearnedWeight, MaskedWeight

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


class Cell(nn.Module):
    """A Conv, ConvTranspose or Linear with its norm (or bias) and activation."""

    def __init__(self, layer: Layer, weight: MaskedWeight | LearnedWeight) -> None:
        super().__init__()
        assert isinstance(layer.op, Weighted)
        self.op, self.weight = layer.op, weight
        # A masked layer is always normalised while it is searched: both fold into one scale and one bias per filter.
        self.norm = Norm(layer.op.out) if layer.op.norm or isinstance(weight, MaskedWeight) else None
        self.bias = None if self.norm else nn.Parameter(torch.zeros(layer.op.out))
        self.weight_seconds = 0.0  # spent on making weights of scores, so far
        self.rounded: tuple[np.ndarray, np.ndarray] | None = None  # scale and bias, once they are final

    def forward(self, x: Tensor) -> Tensor:
        start = perf_counter()
        weight = self.weight()
        self.weight_seconds += perf_counter() - start
        y = _multiply(self.op, x, weight)
        if self.norm is not None:
            y = self.norm(y)
        elif self.bias is not None:
            y = y + self.bias.view(-1, *[1] * (y.dim() - 2))
        return activate(self.op.activation, y)

    def fold(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 scale of the integer (or float) weights, and bias, per filter."""
        if self.rounded is not None:
            return self.rounded
        unit = self.weight.unit().double().cpu().numpy()
        if self.norm is None:
            assert self.bias is not None
            return unit.astype(np.float32), self.bias.detach().cpu().numpy()
        gain, shift = (values.cpu().numpy() for values in self.norm.affine())
        return (gain * unit).astype(np.float32), shift.astype(np.float32)

    def round(self) -> None:
        """Put scale and bias on their grids for good; the bias makes up for what a rounded scale shifts on average."""
        scale, bias = self.fold()
        new, unit = round_parameters(scale, nonzero=True), self.weight.unit().cpu().numpy()
        if self.norm is None:
            assert isinstance(self.weight, LearnedWeight)
            codes = torch.from_numpy(self.weight.codes()).to(self.weight.weight)
            self.weight.weight.data = codes * torch.from_numpy(new).to(codes).view(-1, *[1] * (codes.dim() - 1))
        else:
            bias = bias + self.norm.mean.cpu().numpy() * (scale - new) / unit
        new_bias = round_parameters(bias)
        some = next(self.parameters())
        self.unfold(torch.from_numpy(new / unit).to(some), torch.from_numpy(new_bias).to(some))
        self.rounded = new, new_bias

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
        state = momentum.get(tensor, {})
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == tensor.shape:
                state[name] = part(value)
        tensor.data, tensor.grad = part(tensor.data), None


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
        self.rounded: tuple[np.ndarray, np.ndarray] | None = None  # gain and shift, once they are final

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.epsilon)
        if self.seen is None:
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.epsilon)
        self.seen += 1
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, True, 1 / self.seen, self.epsilon)

    def fold(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 gain and shift, where it is a layer of its own."""
        if self.rounded is not None:
            return self.rounded
        gain, shift = (values.cpu().numpy().astype(np.float32) for values in self.affine())
        return gain, shift

    def round(self) -> None:
        """As `Cell.round`."""
        gain, shift = self.fold()
        new = round_parameters(gain, nonzero=True)
        self.rounded = new, round_parameters(shift + self.mean.cpu().numpy() * (gain - new))
        self.unfold(*(torch.from_numpy(values).to(self.weight) for values in self.rounded))

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
