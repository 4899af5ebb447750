"""A user's PyTorch module becomes a plan that computes the same, or is refused with the operation and its place."""

import linecache
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves

from edgeticket.errors import PluginError, UnsupportedError, UsageError
from edgeticket.frontends import _operations
from edgeticket.frontends._layout import classify
from edgeticket.frontends.pytorch import import_module, load_module
from edgeticket.model import Model
from edgeticket.ops import (
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    DepthToSpace,
    Flatten,
    Gather,
    GlobalAveragePool,
    Layer,
    Linear,
    MaxPool,
    Mul,
    Norm,
    Pad,
    PRelu,
    Reshape,
    Resize,
    SpaceToDepth,
)
from edgeticket.plan import Plan
from edgeticket.reference import difference, run_outputs
from edgeticket.ticket import Input

pytestmark = pytest.mark.usefixtures("cia_listed_once")
IMAGE, SERIES, FLAT = (4, 8, 6), (4, 12), (12,)


class Parts(nn.Module):
    def __init__(self, **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def net(call: Callable[..., Any], **parts: Any) -> nn.Module:
    """`call` as the forward of a module that has these parts; PyTorch keeps the lines of functions of that name alone."""
    code = call.__code__.replace(co_name="forward")
    forward = FunctionType(code, call.__globals__, "forward", call.__defaults__, call.__closure__)
    return type("Net", (Parts,), {"forward": forward})(**parts)


def alive(module: nn.Module) -> nn.Module:
    """The same weights every time, norms whose statistics are not 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.8 + 0.1)
        for part in module.modules():
            if isinstance(part, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.Linear):
                part.weight.sub_(0.5)
    return module


def outputs(module: nn.Module, arrays: list[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        made = module.eval()(*map(torch.tensor, arrays))
    return [one.numpy() for one in tree_leaves(made) if one is not None]


def imported(module: nn.Module, *shapes: tuple[int, ...]) -> Model:
    """The model, after it was seen to compute what the module computes."""
    model = import_module(module, shapes, check=False)
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal((3, *shape)).astype(np.float32) for shape in shapes]
    planned = run_outputs(model, dict(zip(model.plan.inputs, arrays, strict=True)))
    for ours, theirs in zip(planned, outputs(module, arrays), strict=True):
        assert ours.shape == theirs.shape
        assert difference(ours, theirs) < 1e-5
    return model


@dataclass(frozen=True)
class Case:
    """`ops`: what the layers are, by type or exactly."""

    module: nn.Module
    shape: tuple[int, ...]
    ops: list[Any]


def case(call: Callable[..., Any], shape: tuple[int, ...], ops: list[Any], **parts: Any) -> Case:
    return Case(net(call, **parts), shape, ops)


def channels_last(self, x):
    return x.permute(0, 2, 3, 1).flatten(1)


def shuffle(self, x):
    batch, channels, height, width = x.size()
    x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
    return x.view(batch, -1, height, width)


def by_hand(self, x):
    """A pixel shuffle written out."""
    batch, channels, height, width = x.shape
    x = x.view(batch, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, channels // 4, height * 2, width * 2)


def focus(self, x):
    """YOLOv5's first layer: four phases of the image as channels."""
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)


def in_place(self, x):
    x = self.a(x)
    x += self.b(x)
    return F.relu_(x)


def excite(self, x):
    gate = torch.sigmoid(self.c(x.mean((2, 3), keepdim=True)))
    return x * gate.expand_as(x)


def two_readers(self, x):
    x = self.c(x)
    return self.n(x), torch.relu(x)


CASES = {
    # layers with weights
    "conv": case(lambda s, x: s.c(x), IMAGE, [Conv(6, (3, 2), (2, 1), (1, 0, 1, 0), (1, 2), 2, False)], c=nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2)),
    "conv without bias": case(lambda s, x: s.c(x), IMAGE, [Conv], c=nn.Conv2d(4, 4, 3, groups=4, bias=False)),
    "conv, same": case(lambda s, x: s.c(x), IMAGE, [Conv(5, (4, 3), (1, 1), (1, 2, 2, 2), (1, 2), 1, False)], c=nn.Conv2d(4, 5, (4, 3), padding="same", dilation=(1, 2))),
    "conv, valid": case(lambda s, x: s.c(x), SERIES, [Conv(5, (3,), (2,), (0, 0), (1,), 1, False)], c=nn.Conv1d(4, 5, 3, 2, padding="valid")),
    "conv by function": case(lambda s, x: F.conv1d(x, s.w, padding=2), SERIES, [Conv], w=nn.Parameter(torch.zeros(3, 4, 5))),
    "conv of normalised weights": case(lambda s, x: s.c(x), SERIES, [Conv], c=nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 5, 3))),
    "conv, wide zeros around": case(lambda s, x: s.c(x), IMAGE, [Pad((1, 1, 1, 1)), Conv(5, (1, 1), (1, 1), (0,) * 4, (1, 1), 1, False)], c=nn.Conv2d(4, 5, 1, padding=1)),
    "conv after zeros": case(lambda s, x: s.c(F.pad(x, (0, 1, 2, 0))), IMAGE, [Conv(5, (3, 3), (2, 2), (2, 0, 0, 1), (1, 1), 1, False)], c=nn.Conv2d(4, 5, 3, 2)),
    "conv after more zeros than it spans": case(lambda s, x: s.c(F.pad(x, (3, 3))), SERIES, [Pad((3, 3)), Conv], c=nn.Conv1d(4, 5, 3)),
    "conv after a shift": case(lambda s, x: s.c(F.pad(x[:, :, :-1], (1, 0))), SERIES, [Pad((1, -1)), Conv], c=nn.Conv1d(4, 5, 3, padding=1)),
    "conv, cropped at the end": case(lambda s, x: F.relu(s.n(s.c(x)[:, :, :-4])), SERIES, [Conv(5, (3,), (1,), (4, 0), (2,), 1, True, "relu")], c=nn.Conv1d(4, 5, 3, padding=4, dilation=2), n=nn.BatchNorm1d(5)),
    "conv and activation, cropped": case(lambda s, x: F.relu(s.c(x))[:, :, 2:], SERIES, [Conv(5, (5,), (1,), (0, 2), (1,), 1, False, "relu")], c=nn.Conv1d(4, 5, 5, padding=2)),
    "conv of steps, cropped": case(lambda s, x: s.c(x)[:, :, 1:-1], SERIES, [Conv(5, (7,), (2,), (1, 1), (1,), 1, False)], c=nn.Conv1d(4, 5, 7, 2, padding=3)),
    "conv, cropped by more than its zeros": case(lambda s, x: s.c(x)[:, :, :-2], SERIES, [Conv, Pad((0, -2))], c=nn.Conv1d(4, 5, 3, padding=1)),
    "transposed": case(lambda s, x: s.c(x), IMAGE, [ConvTranspose(6, (3, 4), (2, 3), (1, 0, 1, 0), (1, 0), False)], c=nn.ConvTranspose2d(4, 6, (3, 4), (2, 3), (1, 0), (1, 0))),
    "transposed, 1-D": case(lambda s, x: s.n(s.c(x)), SERIES, [ConvTranspose(6, (4,), (2,), (1, 1), (0,), True)], c=nn.ConvTranspose1d(4, 6, 4, 2, 1, bias=False), n=nn.BatchNorm1d(6)),
    "linear": case(lambda s, x: s.n(s.c(x)), FLAT, [Linear(5, True)], c=nn.Linear(12, 5), n=nn.BatchNorm1d(5)),
    "prelu": case(lambda s, x: s.b(s.a(x)), IMAGE, [PRelu(), PRelu()], a=nn.PReLU(4), b=nn.PReLU()),
    # norms and activations
    "norm and activation are fields": case(lambda s, x: F.relu6(s.n(s.c(x))), IMAGE, [Conv(5, (3, 3), (1, 1), (0,) * 4, (1, 1), 1, True, "relu6")], c=nn.Conv2d(4, 5, 3), n=nn.BatchNorm2d(5, eps=0.1)),
    "norm without parameters": case(lambda s, x: s.n(s.c(x)), IMAGE, [Conv], c=nn.Conv2d(4, 5, 3, bias=False), n=nn.BatchNorm2d(5, affine=False)),
    "norm first": case(lambda s, x: s.c(torch.relu(s.n(x))), IMAGE, [Norm("relu"), Conv], c=nn.Conv2d(4, 5, 3), n=nn.BatchNorm2d(4)),
    "norm after an activation": case(lambda s, x: s.n(torch.tanh(s.c(x))), IMAGE, [Conv, Norm()], c=nn.Conv2d(4, 5, 3), n=nn.BatchNorm2d(5)),
    "norm after a norm": case(lambda s, x: s.m(s.n(s.c(x))), IMAGE, [Conv, Norm()], c=nn.Conv2d(4, 5, 3), n=nn.BatchNorm2d(5), m=nn.BatchNorm2d(5)),
    "two readers of a conv": case(two_readers, IMAGE, [Conv(5, (3, 3), (1, 1), (0,) * 4, (1, 1), 1, False), Norm(), Activation("relu")], c=nn.Conv2d(4, 5, 3), n=nn.BatchNorm2d(5)),
    "sum in place": case(in_place, IMAGE, [Conv, Conv, Add("relu")], a=nn.Conv2d(4, 5, 1), b=nn.Conv2d(5, 5, 1)),
    "activation of an input": case(lambda s, x: F.silu(F.leaky_relu(x)), IMAGE, [Activation("leaky_relu"), Activation("silu")]),
    "activations": case(
        lambda s, x: F.gelu(F.hardswish(F.hardsigmoid(F.leaky_relu(torch.sigmoid(x).clamp(0, 6).clamp_min(0), 0.2)))),
        IMAGE, [*map(Activation, ("sigmoid", "relu6", "relu", "leaky_relu:0.2", "hard_sigmoid", "hard_swish", "gelu"))],
    ),
    "hardtanh": case(lambda s, x: s.a(x), IMAGE, [Activation("relu6")], a=nn.Hardtanh(0.0, 6.0)),
    "dropout": case(lambda s, x: F.dropout(s.b(s.a(torch.relu(x))), 0.5, s.training), IMAGE, [Activation("relu")], a=nn.Dropout(), b=nn.Dropout2d()),
    "float": case(lambda s, x: torch.relu(s.c(x).float().contiguous().detach()), IMAGE, [Conv], c=nn.Conv2d(4, 5, 3)),
    # several tensors
    "gate": case(excite, IMAGE, [AveragePool, Conv(4, (1, 1), (1, 1), (0,) * 4, (1, 1), 1, False, "sigmoid"), Mul()], c=nn.Conv2d(4, 4, 1)),
    "gate of vectors": case(lambda s, x: x * s.f(x.mean((2, 3)))[:, :, None, None], IMAGE, [GlobalAveragePool(), Linear, Reshape((1, 1)), Mul()], f=nn.Linear(4, 4)),
    "two vectors to the size of an image": case(lambda s, x: torch.add(s.c(x.mean((2, 3), True)).expand_as(x), x.amax((2, 3), True).expand_as(x)), IMAGE, [AveragePool, Conv, MaxPool, Resize((8, 6), "nearest"), Add()], c=nn.Conv2d(4, 4, 1)),
    "add of one channel": case(lambda s, x: torch.add(x, s.c(x)), IMAGE, [Conv, Add()], c=nn.Conv2d(4, 1, 1)),
    "split and join": case(lambda s, x: torch.cat([*x.chunk(2, 1)[::-1], *torch.split(x, [3, 1], 1)], 1), IMAGE, [Gather((2, 3)), Gather((0, 1)), Gather((0, 1, 2)), Gather((3,)), Concat()]),
    "stack": case(lambda s, x: torch.stack([x, torch.relu(x)], 2).flatten(1, 2), IMAGE, [Activation("relu"), Concat(), Gather((0, 4, 1, 5, 2, 6, 3, 7))]),
    # values that move
    "views that cancel": case(lambda s, x: torch.relu(x.view(-1, 2, 2, 48).transpose(1, 2).transpose(2, 1).reshape(x.shape)), IMAGE, [Activation("relu")]),
    "channel shuffle by hand": case(shuffle, IMAGE, [Gather((0, 2, 1, 3))]),
    "channel shuffle": case(lambda s, x: s.p(x), IMAGE, [Gather((0, 2, 1, 3))], p=nn.ChannelShuffle(2)),
    "flip and choose channels": case(lambda s, x: x.flip(1)[:, [0, 0, 3]], IMAGE, [Gather((3, 3, 0))]),
    "repeat channels": case(lambda s, x: x.repeat(1, 2, 1), SERIES, [Gather((0, 1, 2, 3, 0, 1, 2, 3))]),
    "roll channels": case(lambda s, x: x.roll(1, 1), SERIES, [Gather((3, 0, 1, 2))]),
    "moved once for two readers": case(lambda s, x: (lambda y: torch.cat([y.relu(), y.tanh()], 1))(x.flip(1)), SERIES, [Gather((3, 2, 1, 0)), Activation("relu"), Activation("tanh"), Concat()]),
    "seen in two ways": case(lambda s, x: (x.flatten(1).relu(), x.view(-1, 4, 3, 4).tanh()), SERIES, [Flatten(), Activation("relu"), Reshape((3, 4)), Activation("tanh")]),
    "flatten": case(lambda s, x: x.view(x.size(0), -1), IMAGE, [Flatten()]),
    "flatten some channels": case(lambda s, x: x[:, 1:3].flatten(1), IMAGE, [Gather((1, 2)), Flatten()]),
    "flatten the middle": case(lambda s, x: x[:, :, 1:-1, 2:].flatten(1), IMAGE, [Pad((-1, -2, -1, 0)), Flatten()]),
    "flatten, channels last": case(channels_last, (2, 2, 3), [Flatten(), Gather((0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11))]),
    "rows as channels": case(lambda s, x: x.transpose(1, 2), (2, 3), [Flatten(), Gather((0, 3, 1, 4, 2, 5)), Reshape((2,))]),
    "last step": case(lambda s, x: x[:, :, -1], SERIES, [Pad((-11, 0)), Flatten()]),
    "one column": case(lambda s, x: x[:, :, :, 2], IMAGE, [Pad((0, -2, 0, -3)), Reshape((8,))]),
    "to one channel": case(lambda s, x: x.unsqueeze(1), FLAT, [Reshape((12,))]),
    "to channels of images": case(lambda s, x: x.unflatten(1, (3, 2, 2)), FLAT, [Reshape((2, 2))]),
    "series as an image": case(lambda s, x: x.view(-1, 4, 3, 4), SERIES, [Reshape((3, 4))]),
    "other channels": case(lambda s, x: x.view(-1, 8, 6), SERIES, [Flatten(), Reshape((6,))]),
    "zeros": case(lambda s, x: torch.relu(F.pad(x, (1, 0, 2, 3))), IMAGE, [Pad((2, 1, 3, 0)), Activation]),
    "zeros, then flat": case(lambda s, x: s.z(x).flatten(1), IMAGE, [Pad((1, 1, 1, 1)), Flatten()], z=nn.ZeroPad2d(1)),
    "shift in time": case(lambda s, x: F.pad(x[:, :, :-1], (1, 0)), SERIES, [Pad((1, -1))]),
    "steps": case(lambda s, x: x[:, :, 1::2, ::3], IMAGE, [Pad((-1, 0, 0, 0)), MaxPool((1, 1), (2, 3), (0,) * 4)]),
    "steps, not to the end": case(lambda s, x: x[:, :, :7:3], SERIES, [Pad((0, -5)), MaxPool((1,), (3,), (0, 0))]),
    "pixel shuffle": case(lambda s, x: s.p(x), IMAGE, [DepthToSpace(2)], p=nn.PixelShuffle(2)),
    "pixel shuffle by hand": case(by_hand, (8, 3, 2), [DepthToSpace(2)]),
    "pixel shuffle, channels in another order": case(lambda s, x: s.p(x.flip(1)), IMAGE, [Gather((3, 2, 1, 0)), DepthToSpace(2)], p=nn.PixelShuffle(2)),
    "pixel unshuffle": case(lambda s, x: s.p(x)[:, ::3], IMAGE, [SpaceToDepth(2), Gather((0, 3, 6, 9, 12, 15))], p=nn.PixelUnshuffle(2)),
    "focus": case(focus, (1, 4, 4), [MaxPool, Pad, MaxPool, Pad, MaxPool, Pad, MaxPool, Concat()]),
    "nearest by repeating": case(lambda s, x: x.repeat_interleave(2, 2), SERIES, [Resize((24,), "nearest")]),
    "expanded": case(lambda s, x: x[:, :, :1].expand(-1, -1, 7), SERIES, [Pad, Resize((7,), "nearest")]),
    # sizes in space
    "max pool": case(lambda s, x: s.p(x), IMAGE, [MaxPool((3, 2), (2, 1), (1, 0, 1, 0))], p=nn.MaxPool2d((3, 2), (2, 1), (1, 0))),
    "max pool to the end": case(lambda s, x: s.p(x), IMAGE, [MaxPool((3, 3), (2, 2), (0, 0, 1, 1))], p=nn.MaxPool2d(3, 2, ceil_mode=True)),
    "max pool to the end, a window in the padding": case(lambda s, x: s.p(x), (4, 5), [MaxPool((2,), (3,), (1, 1))], p=nn.MaxPool1d(2, 3, 1, ceil_mode=True)),
    "average pool": case(lambda s, x: s.p(x), SERIES, [AveragePool((2,), (2,), (0, 0))], p=nn.AvgPool1d(2)),
    "average pool, zeros count": case(lambda s, x: s.p(x), IMAGE, [Pad((1, 0, 1, 0)), AveragePool((3, 2), (2, 2), (0,) * 4)], p=nn.AvgPool2d((3, 2), 2, (1, 0))),
    "average pool, zeros do not count": case(lambda s, x: s.p(x), IMAGE, [AveragePool((3, 3), (1, 1), (1,) * 4)], p=nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
    "average pool to the end": case(lambda s, x: s.p(x), (4, 6, 8), [Pad((1,) * 4), AveragePool((3, 3), (2, 2), (0, 0, 1, 1))], p=nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
    "adaptive average": case(lambda s, x: s.p(x), IMAGE, [AveragePool((2, 6), (2, 6), (0,) * 4)], p=nn.AdaptiveAvgPool2d((4, 1))),
    "adaptive average, parts of unlike size": case(lambda s, x: s.p(x), IMAGE, [Resize((3, 4), "area")], p=nn.AdaptiveAvgPool2d((3, 4))),
    "adaptive average to more": case(lambda s, x: s.p(x), SERIES, [Resize((18,), "area")], p=nn.AdaptiveAvgPool1d(18)),
    "adaptive average to the same": case(lambda s, x: torch.relu(s.p(x)), IMAGE, [Activation("relu")], p=nn.AdaptiveAvgPool2d((None, 6))),
    "adaptive max": case(lambda s, x: s.p(x), IMAGE, [MaxPool((4, 3), (4, 3), (0,) * 4)], p=nn.AdaptiveMaxPool2d(2)),
    "global average": case(lambda s, x: s.p(x).squeeze(-1).squeeze(-1), IMAGE, [GlobalAveragePool()], p=nn.AdaptiveAvgPool2d(1)),
    "global average of two readers": case(lambda s, x: (lambda y: torch.cat([s.a(y), s.b(y)], 1))(s.p(x).flatten(1)), IMAGE, [GlobalAveragePool(), Linear, Linear, Concat()], p=nn.AdaptiveAvgPool2d(1), a=nn.Linear(4, 2), b=nn.Linear(4, 3)),
    "not quite a global average": case(lambda s, x: s.p(x).flatten(1), (4, 4), [AveragePool((4,), (4,), (1, 1)), Flatten()], p=nn.AvgPool1d(4, 4, 1, count_include_pad=False)),
    "mean": case(lambda s, x: x.mean([-1, 2]), IMAGE, [GlobalAveragePool()]),
    "mean of a direction": case(lambda s, x: x.mean(3), IMAGE, [AveragePool((1, 6), (1, 6), (0,) * 4), Reshape((8,))]),
    "largest": case(lambda s, x: x.amax((2, 3)), IMAGE, [MaxPool, Flatten()]),
    "largest of a direction": case(lambda s, x: x.max(2, keepdim=True)[0], IMAGE, [MaxPool((8, 1), (8, 1), (0,) * 4)]),
    "nearest": case(lambda s, x: F.interpolate(x, scale_factor=(2, 1.5)), IMAGE, [Resize((16, 9), "nearest")]),
    "nearest to a size": case(lambda s, x: F.interpolate(x, size=7), SERIES, [Resize((7,), "nearest")]),
    "bilinear": case(lambda s, x: s.u(x), IMAGE, [Resize((12, 9), "linear")], u=nn.Upsample(scale_factor=1.5, mode="bilinear")),
    "bilinear, corners": case(lambda s, x: s.u(x), IMAGE, [Resize((10, 7), "align_corners")], u=nn.Upsample(scale_factor=1.3, mode="bilinear", align_corners=True)),
    "linear, smaller": case(lambda s, x: F.interpolate(x, size=5, mode="linear"), SERIES, [Resize((5,), "linear")]),
    "resize to the same": case(lambda s, x: torch.relu(F.interpolate(x, size=(8, 6), mode="bilinear")), IMAGE, [Activation]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_imported_plan_computes_what_the_module_computes(name):
    one = CASES[name]
    model = imported(alive(one.module), one.shape)
    ops = [layer.op for layer in model.plan.layers]
    assert [type(op) if isinstance(want, type) else op for op, want in zip(ops, one.ops, strict=False)] == one.ops
    assert len(ops) == len(one.ops)
    assert model.plan == Plan.from_json(model.plan.to_json())


MOVES = (
    lambda x, rng: x.flip(int(rng.integers(1, x.dim()))),
    lambda x, rng: x.transpose(*(rng.permutation(x.dim() - 1)[:2] + 1).tolist()) if x.dim() > 2 else x,
    lambda x, rng: x.narrow(axis := int(rng.integers(1, x.dim())), 0, max(1, x.shape[axis] - 1)),
    lambda x, rng: x[:, :, int(rng.integers(x.shape[2])) :: 2] if x.dim() > 2 else x,
    lambda x, rng: x[:, rng.permutation(x.shape[1])],
    lambda x, rng: F.pad(x, rng.integers(-1, 3, 2).tolist(), value=-1) if x.dim() > 2 and x.shape[-1] > 2 else x,
    lambda x, rng: x.flatten(1),
    lambda x, rng: x.unflatten(1, (-1, 2)) if x.dim() < 4 and x.shape[1] % 2 == 0 else x,
    lambda x, rng: x.flatten(1, 2) if x.dim() > 2 else x,
    lambda x, rng: F.pixel_shuffle(x, 2) if x.dim() == 4 and x.shape[1] % 4 == 0 else x,
    lambda x, rng: F.pixel_unshuffle(x, 2) if x.dim() == 4 and x.shape[2] % 2 == x.shape[3] % 2 == 0 else x,
    lambda x, rng: x.repeat_interleave(2, x.dim() - 1),
)


def test_operations_found_for_random_moves_do_move_so():
    found = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.choice([1, 2, 3, 4, 8], rng.integers(1, 4)).tolist())
        index = torch.arange(int(np.prod(shape))).view(1, *shape)
        for move in rng.choice(len(MOVES), rng.integers(1, 4)).tolist():
            index = MOVES[move](index, rng)
        ops = classify(shape, index[0].numpy())
        if not ops:
            assert ops is None or torch.equal(index.view(-1), torch.arange(index.numel()))
            continue
        layers = [Layer(f"l{i}", op, (f"l{i - 1}" if i else "x",)) for i, op in enumerate(ops)]
        plan = Plan({"x": shape}, tuple(layers), (layers[-1].name,))
        sensor = Input(
            "float32", (-1.0,) * shape[0], (1.0,) * shape[0]
        )  # a value is its number and 1: a zero around is -1
        model = Model(plan=plan, weights={}, scale={}, bias={}, inputs={"x": sensor}, quant={})
        (made,) = run_outputs(model, np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape))
        np.testing.assert_array_equal(made - 1, index.numpy())
        found += 1
    assert found > 200


conv, linear = nn.Conv2d(4, 4, 1), nn.Linear(12, 12)
REFUSED = {
    # name of the case: call, shape, the operation and what to do, parts
    "softmax": (lambda s, x: torch.softmax(x, 1), FLAT, "softmax is not supported", "leave it out", {}),
    "softmax module": (lambda s, x: s.p(x), FLAT, "module p): ", "leave it out", {"p": nn.Softmax(1)}),
    "matmul": (lambda s, x: x.transpose(1, 2) @ x, SERIES, "matmul is not", "attention", {}),
    "attention": (lambda s, x: F.scaled_dot_product_attention(x, x, x), SERIES, "scaled_dot_product_attention", "attention", {}),
    "attention module": (lambda s, x: s.a(x, x, x)[0], SERIES, "linear over the last", "in ", {"a": nn.MultiheadAttention(12, 2, batch_first=True)}),
    "layer norm": (lambda s, x: s.n(x), IMAGE, "layer_norm is not", "batch norm", {"n": nn.LayerNorm(6)}),
    "group norm": (lambda s, x: s.n(x), IMAGE, "group_norm is not", "batch norm", {"n": nn.GroupNorm(2, 4)}),
    "instance norm": (lambda s, x: s.n(x), IMAGE, "instance_norm is not", "batch norm", {"n": nn.InstanceNorm2d(4)}),
    "statistics of the batch": (lambda s, x: s.n(x), IMAGE, "batch_norm", "running statistics", {"n": nn.BatchNorm2d(4, track_running_stats=False)}),
    "lstm": (lambda s, x: s.r(x)[0], SERIES, "lstm is not", "temporal convolution", {"r": nn.LSTM(12, 3, batch_first=True)}),
    "gru": (lambda s, x: s.r(x)[0], SERIES, "gru is not", "temporal convolution", {"r": nn.GRU(12, 3, batch_first=True)}),
    "number added": (lambda s, x: x + 1, IMAGE, "add with the number 1", "Hardswish", {}),
    "number multiplied": (lambda s, x: 2 * x, IMAGE, "mul with the number 2", "fold it", {}),
    "scaled sum": (lambda s, x: torch.add(x, x.relu(), alpha=2), IMAGE, "add with alpha=2", "fold it", {}),
    "subtraction": (lambda s, x: x - x.relu(), IMAGE, "sub is not", "fold it", {}),
    "division": (lambda s, x: x / 2, IMAGE, "div is not", "fold it", {}),
    "parameter in arithmetic": (lambda s, x: x * s.w, IMAGE, "mul with the parameter w", "batch norm", {"w": nn.Parameter(torch.ones(4, 1, 1))}),
    "constant": (lambda s, x: x + torch.ones(1), IMAGE, "add with a constant", "convolution", {}),
    "constant joined": (lambda s, x: torch.cat([x, torch.zeros(2, 1, 12)], 1), SERIES, "cat with a constant", "computed", {}),
    "random": (lambda s, x: x + torch.rand(4, 12), SERIES, "rand is random", "same every time", {}),
    "dropout that stays": (lambda s, x: F.dropout(x), SERIES, "dropout outside of training", "nn.Dropout", {}),
    "elu": (lambda s, x: F.elu(x), FLAT, "elu is not", "leaky_relu", {}),
    "gelu, approximate": (lambda s, x: F.gelu(x, approximate="tanh"), FLAT, "gelu(approximate='tanh')", "none", {}),
    "hardtanh": (lambda s, x: F.hardtanh(x), FLAT, "hardtanh from -1.0 to 1.0", "relu6", {}),
    "leak above 1": (lambda s, x: F.leaky_relu(x, 2.0), FLAT, "leaky_relu with slope 2.0", "0 to 1", {}),
    "unknown": (lambda s, x: torch.cumsum(x, 1), FLAT, "cumsum is not", "replace it", {}),
    "3-D": (lambda s, x: s.c(x[:, :, None, None]).flatten(1), SERIES, "conv3d is not", "two directions", {"c": nn.Conv3d(4, 3, 1)}),
    "cond": (lambda s, x: torch.cond(x.sum() > 0, torch.relu, torch.tanh, (x,)), FLAT, "sum is not", "mean", {}),
    "transposed in groups": (lambda s, x: s.c(x), IMAGE, "conv_transpose2d with groups=2", "use 1", {"c": nn.ConvTranspose2d(4, 4, 2, groups=2)}),
    "reflected": (lambda s, x: s.c(x), IMAGE, "pad with reflect is not", "zeros", {"c": nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")}),
    "padded with ones": (lambda s, x: F.pad(x, (1, 1), value=1.0), IMAGE, "pad with 1.0", "zeros", {}),
    "padded channels": (lambda s, x: F.pad(x, (0, 0, 0, 0, 2, 2)), IMAGE, "pad moves values to 8x8x6", "channels whole", {}),
    "batch as channels": (lambda s, x: F.conv1d(x, s.w), (12,), "conv1d of 1 directions", "batch, channels", {"w": nn.Parameter(torch.ones(3, 2, 3))}),
    "batch in the middle": (lambda s, x: x.transpose(0, 1), (2,), "transpose mixes the examples", "batch in front", {}),
    "batch in the channels": (lambda s, x: x.view(-1, 4, 8), (16,), "view mixes the examples", "batch in front", {}),
    "batch gone": (lambda s, x: x[0:1].relu(), FLAT, "slice mixes the examples", "batch in front", {}),
    "one example twice": (lambda s, x: x[[0, 0]].relu(), FLAT, "index mixes the examples", "batch in front", {}),
    "mean of the batch": (lambda s, x: x - x.mean(0), IMAGE, "mean over the batch", "in space", {}),
    "mean of channels": (lambda s, x: x.mean(1, keepdim=True), IMAGE, "mean over the channels", "in space", {}),
    "too many directions": (lambda s, x: x.view(-1, 2, 2, 8, 6).relu(), IMAGE, "view leaves 4 directions", "1 to 3", {}),
    "no direction": (lambda s, x: x[:, 0], FLAT, "select leaves 0 directions", "1 to 3", {}),
    "space mirrored": (lambda s, x: x.flip(2), (4, 256, 256), "flip moves values to 4x256x256", "channels whole", {}),
    "joined in space": (lambda s, x: torch.cat([x, x], 2), IMAGE, "cat along direction 2", "channels", {}),
    "positions": (lambda s, x: x.max(2)[1], SERIES, "positions of a maximum", "values", {}),
    "positions by data": (lambda s, x: x[:, x[0, 0].argsort()[:4]], SERIES, "argsort is not", "replace", {}),
    "max pool, dilated": (lambda s, x: F.max_pool1d(x, 2, dilation=2), SERIES, "max_pool1d with dilation", "dilation 1", {}),
    "other divisor": (lambda s, x: F.avg_pool2d(x, 2, divisor_override=3), IMAGE, "divisor_override", "leave it out", {}),
    "adaptive max, unlike parts": (lambda s, x: F.adaptive_max_pool2d(x, 3), IMAGE, "adaptive_max_pool2d from (8, 6)", "divide", {}),
    "bicubic": (lambda s, x: F.interpolate(x, size=9, mode="bicubic"), IMAGE, "upsample_bicubic2d is not", "replace", {}),
    "factor that does not fit": (lambda s, x: F.interpolate(x, scale_factor=1.3), IMAGE, "upsample_nearest2d of 8 values by 1.3", "size=", {}),
    "linear of a sequence": (lambda s, x: s.f(x), SERIES, "linear over the last of 2 directions", "flatten", {"f": linear}),
    "weights by data": (lambda s, x: F.conv1d(x[:1], x), (2, 3), "conv1d with weights that depend", "fixed", {}),
    "used twice": (lambda s, x: s.c(s.c(x)), IMAGE, "conv2d has the weights c.weight of the conv2d in", "each layer its own", {"c": conv}),
    "tied": (lambda s, x: F.linear(s.c(x), s.c.weight), FLAT, "linear has the weights c.weight", "each layer its own", {"c": linear}),
    "other type": (lambda s, x: x.double(), FLAT, "_to_copy to torch.float64", "float32", {}),
    "item": (lambda s, x: x * x.max().item(), FLAT, "max is not", "", {}),
    "pool of nothing": (lambda s, x: F.max_pool1d(x, 3, padding=1).narrow(2, 0, 0), SERIES, "slice leaves nothing", "sizes", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_operation_is_named_with_its_place(name):
    call, shape, problem, advice, parts = REFUSED[name]
    with pytest.raises(UnsupportedError) as caught:
        import_module(net(call, **parts), [shape])
    source = call.__code__.co_filename, call.__code__.co_firstlineno
    text = str(caught.value).replace(linecache.getline(*source).strip(), "THE LINE")  # which holds all the words
    assert problem in text
    assert advice in text.partition(problem)[2]
    assert f"tests/test_frontends.py, line {source[1]}: `THE LINE`" in text
    assert caught.value.exit_code == 5


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x.relu()
        return x.sigmoid()


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x.relu()


def refusal(module: nn.Module, *shapes: tuple[int, ...], kind: type[Exception] = UnsupportedError) -> str:
    with pytest.raises(kind) as caught:
        import_module(module, shapes)
    return str(caught.value)


def test_branch_that_depends_on_data(capfd, caplog):
    text = refusal(Branch(), FLAT)
    assert f"tests/test_frontends.py, line {Branch.forward.__code__.co_firstlineno + 1}: `if x.sum() > 0:`" in text
    assert "depend on its data" in text
    assert capfd.readouterr() == ("", "")  # torch.export's own dumps are not shown
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_place_is_in_the_innermost_module():
    def inner(s, x):
        return torch.softmax(x, 1)

    text = refusal(net(lambda s, x: s.block.inner(x), block=net(inner, inner=net(inner))), FLAT)
    assert f"line {inner.__code__.co_firstlineno + 1}: `return torch.softmax(x, 1)` (module block.inner)" in text


def test_state():
    assert "changes its buffer calls" in refusal(Counter(), FLAT)


def test_names():
    block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    module = net(
        lambda s, x: s.head(F.relu(s.block(x) + s.block_2(x)).mean((2, 3)).view(-1, 2, 2).flip(1).flatten(1)),
        block=block, block_2=nn.Sequential(nn.Conv2d(4, 4, 1)), head=nn.Linear(4, 2),
    )  # fmt: skip
    model = imported(module, IMAGE)
    names = ["block.0", "block_2.0", "add", "averagepool", "gather", "head"]
    assert [layer.name for layer in model.plan.layers] == names
    twice = imported(net(lambda s, x: torch.sigmoid(s.c(torch.sigmoid(x))).relu(), c=nn.Conv2d(4, 4, 1)), IMAGE)
    assert [layer.name for layer in twice.plan.layers] == ["activation", "c", "activation_2"]


def test_model():
    bias, norm = nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)
    module = alive(nn.Sequential(bias, norm, nn.PReLU()))
    model = imported(module, IMAGE)
    gain = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    np.testing.assert_array_equal(model.scale["0"], gain.float())
    shift = (bias.bias - norm.running_mean).double() * gain + norm.bias
    np.testing.assert_allclose(model.bias["0"], shift.detach(), rtol=1e-6)
    np.testing.assert_array_equal(model.weights["0"].values, bias.weight.detach())
    np.testing.assert_array_equal(model.slope["2"], [module[2].weight.item()] * 5)
    assert model.inputs == {"input": Input("float32", (0.0,) * 4, (1.0,) * 4)}
    assert model.quant == {}
    assert not np.shares_memory(model.weights["0"].values, bias.weight.detach().numpy())
    arrays = [model.weights["0"].values, *model.scale.values(), *model.bias.values(), *model.slope.values()]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_inputs_and_outputs():
    def two(s, image, vector):
        image = F.relu(s.c(image))
        return {"z": image + s.f(vector)[:, :, None, None], "a": [s.f.weight.shape and image, None]}

    model = imported(net(two, c=nn.Conv2d(4, 4, 1), f=nn.Linear(12, 4)), IMAGE, FLAT)
    assert list(model.plan.inputs.items()) == [("image", IMAGE), ("vector", FLAT)]
    assert model.plan.outputs == ("add", "c")
    some = imported(net(lambda s, *x: torch.cat(x, 1)), SERIES, SERIES)
    assert list(some.plan.inputs) == ["x_0", "x_1"]


def test_inputs_and_outputs_that_cannot_be():
    assert "does not read its input y" in refusal(net(lambda s, x, y: x.relu()), FLAT, FLAT)
    assert "gives x as it is, or twice" in refusal(net(lambda s, x: (x.relu(), x)), FLAT)
    assert "gives activation as it is, or twice" in refusal(net(lambda s, x: (lambda y: (y, y))(x.relu())), FLAT)
    assert "output 1 of the network does not depend" in refusal(net(lambda s, x: (x.relu(), torch.ones(2))), FLAT)
    assert "missing a required argument: 'y'" in refusal(net(lambda s, x, y: x + y), FLAT, kind=UsageError)
    assert "4 dimensions: 1 to 3" in refusal(net(lambda s, x: x.relu()), (1, 2, 3, 4))


def test_module_that_fails_by_itself():
    def wrong(s, x):
        return s.f(x.flatten(1))

    text = refusal(net(wrong, f=nn.Linear(7, 2)), FLAT, kind=UsageError)
    assert f"tests/test_frontends.py, line {wrong.__code__.co_firstlineno + 1}: `return s.f(x.flatten(1))`" in text
    assert "on an input of 2x12" in text
    assert "call .float()" in refusal(nn.Linear(12, 3).double(), FLAT)


def test_batch_size_matters():
    text = refusal(net(lambda s, x: s.p(x).squeeze(), p=nn.AdaptiveAvgPool2d(1)), IMAGE)
    assert "output p has shape (4,) for 1 examples, not (1, 4)" in text
    assert "depends on the size of the batch: the module fails" in refusal(net(lambda s, x: x.view(2, 3, 4)), FLAT)
    assert "depends on the size of the batch" in refusal(
        net(lambda s, x: x.relu() if len(x) < 3 else x.sigmoid()), FLAT
    )
    assert "depends on the size of the batch" in refusal(
        net(lambda s, x: x.relu() if len(x) > 1 else x.sigmoid()), FLAT
    )


def test_wrong_import_is_caught(monkeypatch):
    monkeypatch.setitem(_operations.HANDLERS, "aten.relu.default", _operations.HANDLERS["aten.silu.default"])
    assert "the plan does not compute what the module computes: output activation" in refusal(nn.ReLU(), FLAT)


def test_wrong_import_is_caught_behind_a_gamma_of_zero(monkeypatch):
    """Residual branches often start at 0: the check must look at what they would do."""
    module = net(lambda s, x: x + s.n(s.c(x).tanh()), c=nn.Conv2d(4, 4, 1), n=nn.BatchNorm2d(4))
    module.n.weight.data.zero_()
    kept = module.n.weight.clone()
    import_module(module, [IMAGE])
    monkeypatch.setitem(_operations.HANDLERS, "aten.tanh.default", _operations.HANDLERS["aten.silu.default"])
    assert "the plan does not compute what the module computes" in refusal(module, IMAGE)
    assert torch.equal(module.n.weight, kept)


def test_nothing_is_disturbed(capfd):
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    module[1].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import_module(module, [IMAGE])
        refusal(net(lambda s, x: F.dropout(x) if x.sum() > -1 else x), FLAT)
    assert [part.training for part in module.modules()] == [True, True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    assert capfd.readouterr() == ("", "")


def test_attribute_that_hides_one_of_torch_fx():
    assert imported(net(lambda s, x: s.code(x), code=nn.Linear(12, 2)), FLAT).plan.layers[0].name == "code"


SOURCE = """
import torch
from torch import nn
from blocks import width

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(12, width), nn.Softmax(1))

class Wrong(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, width / 2)

net = nn.Linear(12, width)
number = 3
def make():
    return nn.Linear(12, 5)
"""


def test_load_module(tmp_path):
    path = tmp_path / "my_net.py"
    path.write_text(SOURCE)
    (tmp_path / "blocks.py").write_text("width = 7")
    assert [load_module(f"{path}:{name}").out_features for name in ("net", "make")] == [7, 5]
    with pytest.raises(UnsupportedError, match=r"softmax is not supported, in module 1: "):
        import_module(load_module(f"{path}:Net"), [FLAT])
    for spec, problem in (
        (f"{path}:Gone", "defines no Gone: its modules are Net, Wrong"),
        (f"{path}:number", "gives a int: name a torch.nn.Module"),
        (f"{tmp_path}/no.py:Net", "there is no file"),
        (str(path), "write FILE.py:NAME"),
        ("Net", "write FILE.py:NAME"),
    ):
        with pytest.raises(UsageError, match=problem):
            load_module(spec)
    with pytest.raises(PluginError, match=rf"TypeError.*in {path}, line 13: `self.layer = nn.Linear"):
        load_module(f"{path}:Wrong")
    path.write_text("import torch\n\nx = 1 / 0\n")
    with pytest.raises(PluginError, match=rf"ZeroDivisionError: division by zero, in {path}, line 3: `x = 1 / 0`"):
        load_module(f"{path}:Net")
    path.write_text("def f(:\n")
    with pytest.raises(PluginError, match=rf"SyntaxError.*in {path}, line 1"):
        load_module(f"{path}:Net")


class Block(nn.Module):
    """He et al., CVPR 2016."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
            nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o),
        )  # fmt: skip
        same = stride == 1 and i == o
        self.short = nn.Identity() if same else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        return F.relu(self.body(x) + self.short(x))


@pytest.mark.slow
def test_network_of_middle_size():
    widths = (32, 32, 64, 64, 128, 128, 256, 256)
    blocks = [Block(i, o, 1 if i == o else 2) for i, o in zip((32, *widths), widths, strict=False)]
    stem = (nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
    module = alive(nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10)))
    model = import_module(module, [(3, 96, 96)])
    kinds = [type(layer.op) for layer in model.plan.layers]
    assert kinds.count(Conv) == 20
    assert kinds.count(Add) == 8
    assert set(kinds) == {Conv, Add, GlobalAveragePool, Linear}


def test_parameters_that_two_layers_share_are_refused() -> None:
    """Also those of a norm or a PReLU, buffers, and views of one storage."""

    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 8)
            self.b = nn.Linear(6, 4)
            self.b.weight = nn.Parameter(self.a.weight.data[4:])

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.a(x), self.b(x)

    prelu = net(lambda s, x: s.c(s.p(s.p(x))), p=nn.PReLU(4), c=nn.Conv2d(4, 4, 1))
    norm = net(lambda s, x: s.n(s.c(s.n(x))), n=nn.BatchNorm2d(4), c=nn.Conv2d(4, 4, 1))
    for module, shape, name in ((prelu, IMAGE, "p.weight"), (norm, IMAGE, "n."), (Views(), (6,), "a.weight")):
        with pytest.raises(UnsupportedError, match=f"has the weights {name}.* give each layer its own"):
            import_module(module, [shape])


def test_a_size_that_no_plan_holds_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(UnsupportedError, match="1 to 67108864 elements"):
        import_module(nn.Sequential(nn.Conv2d(3, 4, 1)), [(3, 9_999_999, 9_999_999)])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_branch_on_the_size_of_the_batch_is_refused(size: int) -> None:
    module = net(lambda s, x: s.c(x) if x.shape[0] > size else s.c(x).relu(), c=nn.Conv2d(4, 4, 1))
    with pytest.raises(UnsupportedError, match="depends on the size of the batch"):
        import_module(module, [IMAGE])


def test_a_module_that_gives_no_numbers_is_at_fault_itself() -> None:
    module = net(lambda s, x: s.c(x), c=nn.Conv2d(4, 4, 1))
    module.c.weight.data[0] = torch.nan
    with pytest.raises(UnsupportedError, match="NaN or infinity as output"):
        import_module(module, [IMAGE])
