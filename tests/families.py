"""One small member of every network family, as its paper draws it and as an ordinary user would write it in PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from families_concat import DenseNet, ShuffleNetV2, googlenet, inception_v3, shufflenet_v1, squeezenet
from families_maps import AutoEncoder, TemporalNet, TwoByTwo, UNet, fully_connected, super_resolution, unshuffled_stem
from families_mobile import EfficientNet, MnasNet, MobileNetV3, RegNet, mobilenet_v1, mobilenet_v2
from families_residual import VGG, BasicBlock, Bottleneck, PreActivationResNet, ResNet
from torch import Tensor, nn


@dataclass(frozen=True)
class Family:
    """`inputs`: shape of each, without the batch."""

    make: Callable[[], nn.Module]
    inputs: tuple[tuple[int, ...], ...] = ((3, 32, 32),)


LARGE = ((3, 64, 64),)
FAMILIES: dict[str, Family] = {
    "vgg": Family(lambda: VGG(norm=False, pool=None)),
    "vgg-bn": Family(lambda: VGG(norm=True, pool=7), LARGE),
    "resnet": Family(lambda: ResNet(BasicBlock, (16, 24, 32), 2), LARGE),
    "resnet-bottleneck": Family(lambda: ResNet(Bottleneck, (8, 16, 24), 2), LARGE),
    "pre-activation resnet": Family(lambda: PreActivationResNet((16, 24, 32), 2)),
    "wide-resnet": Family(lambda: PreActivationResNet((32, 48, 64), 1)),
    "resnext": Family(lambda: ResNet(Bottleneck, (8, 16), 2, groups=4), LARGE),
    "mobilenet-v1": Family(mobilenet_v1, LARGE),
    "mobilenet-v2": Family(mobilenet_v2, LARGE),
    "mobilenet-v3": Family(MobileNetV3, LARGE),
    "mnasnet": Family(MnasNet, LARGE),
    "efficientnet": Family(EfficientNet, LARGE),
    "regnet-x": Family(lambda: RegNet(squeeze=False), LARGE),
    "regnet-y": Family(lambda: RegNet(squeeze=True), LARGE),
    "squeezenet": Family(squeezenet, LARGE),
    "googlenet": Family(googlenet, LARGE),
    "inception-v3": Family(inception_v3),
    "densenet": Family(DenseNet),
    "shufflenet-v1": Family(shufflenet_v1),
    "shufflenet-v2": Family(ShuffleNetV2),
    "u-net": Family(lambda: UNet(bilinear=False), ((1, 30, 38),)),
    "u-net, bilinear": Family(lambda: UNet(bilinear=True), ((1, 30, 38),)),
    "temporal": Family(TemporalNet, ((3, 48),)),
    "auto-encoder": Family(AutoEncoder, ((1, 28, 28),)),
    "fully connected": Family(fully_connected, ((1, 12, 12),)),
    "two inputs, two outputs": Family(TwoByTwo, ((3, 24, 24), (6,))),
    "super-resolution": Family(super_resolution, ((1, 12, 12),)),
    "unshuffled stem": Family(unshuffled_stem, LARGE),
}


def build(name: str) -> nn.Module:
    """In eval mode, the same weights every time, which keep the signal's size; every parameter of a norm is at random too."""
    torch.manual_seed(7)
    module = FAMILIES[name].make().eval()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.6, 1.6)
                nn.init.normal_(part.bias, 0, 0.3)
                nn.init.normal_(part.running_mean, 0, 0.3)
                nn.init.uniform_(part.running_var, 0.3, 1.5)
            elif isinstance(part, nn.PReLU):
                nn.init.uniform_(part.weight, -0.3, 0.6)
            elif isinstance(part, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight)
    return module


def data(name: str, count: int = 2) -> tuple[Tensor, ...]:
    """A batch for each input."""
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(count, *shape, generator=generator) for shape in FAMILIES[name].inputs)
