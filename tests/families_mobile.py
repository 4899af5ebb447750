"""Depthwise, grouped, and squeeze-and-excite."""

import torch
import torch.nn.functional as F
from families_residual import conv_norm
from torch import nn


def mobilenet_v1() -> nn.Module:
    """Howard et al., 2017 (arXiv 1704.04861)."""
    layers, i = [conv_norm(3, 8, stride=2)], 8
    for o, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        layers += [conv_norm(i, i, stride=stride, groups=i), conv_norm(i, o, 1)]
        i = o
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, 10))


class SqueezeExcite(nn.Module):
    """Hu et al., CVPR 2018 (arXiv 1709.01507), with the gate that MobileNet v3 or EfficientNet gives it."""

    def __init__(self, channels: int, inner: int, act: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)
        self.act, self.gate = act, gate

    def forward(self, x):
        return x * self.gate(self.fc2(self.act(self.fc1(self.avgpool(x)))))


class LinearSqueezeExcite(nn.Module):
    """The same with linear layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // 4), nn.ReLU(inplace=True), nn.Linear(channels // 4, channels), nn.Sigmoid()
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = x.mean(dim=(2, 3))
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class InvertedResidual(nn.Module):
    """Sandler et al., MobileNet v2, CVPR 2018 (arXiv 1801.04381), and what v3, MnasNet and EfficientNet make of it."""

    def __init__(self, i, o, stride=1, expand=4, k=3, act=nn.ReLU6, squeeze: nn.Module | None = None) -> None:
        super().__init__()
        hidden = i * expand
        layers = [] if expand == 1 else [conv_norm(i, hidden, 1, act=act(inplace=True))]
        layers += [conv_norm(hidden, hidden, k, stride, hidden, act(inplace=True))]
        layers += [] if squeeze is None else [squeeze]
        layers += [nn.Conv2d(hidden, o, 1, bias=False), nn.BatchNorm2d(o)]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and i == o

    def forward(self, x):
        if self.use_res_connect:
            return x + self.conv(x)
        return self.conv(x)


def mobilenet_v2() -> nn.Module:
    blocks = [InvertedResidual(8, 8, expand=1), InvertedResidual(8, 16, 2), InvertedResidual(16, 16)]
    blocks += [InvertedResidual(16, 24, 2, expand=6), InvertedResidual(24, 24, expand=6)]
    features = nn.Sequential(conv_norm(3, 8, stride=2, act=nn.ReLU6()), *blocks, conv_norm(24, 64, 1, act=nn.ReLU6()))
    head = [nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 10)]
    return nn.Sequential(features, *head)


class MobileNetV3(nn.Module):
    """Howard et al., ICCV 2019 (arXiv 1905.02244)."""

    def __init__(self) -> None:
        super().__init__()

        def squeeze(channels):
            return SqueezeExcite(channels, max(8, channels // 4), nn.ReLU(), nn.Hardsigmoid())

        self.features = nn.Sequential(
            conv_norm(3, 8, stride=2, act=nn.Hardswish()),
            InvertedResidual(8, 8, 2, 1, act=nn.ReLU, squeeze=squeeze(8)),
            InvertedResidual(8, 16, 2, 3, act=nn.ReLU),
            InvertedResidual(16, 16, 1, 4, act=nn.ReLU),
            InvertedResidual(16, 24, 1, 4, 5, nn.Hardswish, squeeze(64)),
            InvertedResidual(24, 24, 1, 4, 5, nn.Hardswish, squeeze(96)),
            conv_norm(24, 72, 1, act=nn.Hardswish()),
        )
        self.classifier = nn.Sequential(nn.Linear(72, 64), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(64, 10))

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).squeeze(3).squeeze(2))


class MnasNet(nn.Module):
    """Tan et al., CVPR 2019 (arXiv 1807.11626): kernels of 3 and 5, squeeze-and-excite in some blocks, global mean."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [InvertedResidual(8, 8, 1, 1, act=nn.ReLU), InvertedResidual(8, 16, 2, 3, act=nn.ReLU)]
        blocks += [InvertedResidual(16, 16, 1, 3, 5, nn.ReLU, LinearSqueezeExcite(48))]
        blocks += [InvertedResidual(16, 24, 2, 6, 5, nn.ReLU), InvertedResidual(24, 24, 1, 6, 3, nn.ReLU)]
        self.layers = nn.Sequential(conv_norm(3, 8, stride=2), *blocks, conv_norm(24, 80, 1))
        self.classifier = nn.Sequential(nn.Dropout(p=0.2, inplace=True), nn.Linear(80, 10))

    def forward(self, x):
        return self.classifier(self.layers(x).mean([2, 3]))


class SameConv(nn.Conv2d):
    """TensorFlow's 'same' padding: with stride 2, one more at the end."""

    def forward(self, x):
        height, width = x.shape[-2:]
        (kh, kw), (sh, sw) = self.kernel_size, self.stride
        ph = max((-(-height // sh) - 1) * sh + kh - height, 0)
        pw = max((-(-width // sw) - 1) * sw + kw - width, 0)
        x = F.pad(x, [pw // 2, pw - pw // 2, ph // 2, ph - ph // 2])
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class MBConv(nn.Module):
    """Tan and Le, EfficientNet, ICML 2019 (arXiv 1905.11946)."""

    def __init__(self, i: int, o: int, stride: int, expand: int, k: int) -> None:
        super().__init__()
        hidden = i * expand
        self.expand = None if expand == 1 else SameConv(i, hidden, 1, bias=False)
        self.bn0 = None if expand == 1 else nn.BatchNorm2d(hidden, eps=1e-3)
        self.depthwise = SameConv(hidden, hidden, k, stride, groups=hidden, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden, eps=1e-3)
        self.reduce, self.gate = nn.Conv2d(hidden, max(1, i // 4), 1), nn.Conv2d(max(1, i // 4), hidden, 1)
        self.project, self.bn2 = nn.Conv2d(hidden, o, 1, bias=False), nn.BatchNorm2d(o, eps=1e-3)
        self.residual = stride == 1 and i == o

    def forward(self, inputs):
        x = inputs
        if self.expand is not None:
            x = F.silu(self.bn0(self.expand(x)))
        x = F.silu(self.bn1(self.depthwise(x)))
        squeezed = F.adaptive_avg_pool2d(x, 1)
        squeezed = self.gate(F.silu(self.reduce(squeezed)))
        x = torch.sigmoid(squeezed) * x
        x = self.bn2(self.project(x))
        return x + inputs if self.residual else x


class EfficientNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(SameConv(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        rows = ((8, 8, 1, 1, 3), (8, 16, 2, 6, 3), (16, 16, 1, 6, 3), (16, 24, 2, 6, 5), (24, 24, 1, 6, 5))
        self.blocks = nn.Sequential(*(MBConv(*row) for row in rows))
        self.head = nn.Sequential(nn.Conv2d(24, 96, 1, bias=False), nn.BatchNorm2d(96), nn.SiLU())
        self.fc = nn.Linear(96, 10)

    def forward(self, x):
        x = self.head(self.blocks(self.stem(x)))
        return self.fc(F.dropout(x.mean((2, 3)), 0.2, self.training))


class RegNet(nn.Module):
    """Radosavovic et al., CVPR 2020 (arXiv 2003.13678): X has groups of one width, Y squeeze-and-excite too."""

    def __init__(self, squeeze: bool) -> None:
        super().__init__()
        self.stem = conv_norm(3, 16, stride=2)
        self.trunk, i = nn.ModuleList(), 16
        for o, stride in ((16, 2), (32, 2), (32, 1), (64, 2)):
            f = nn.Sequential(conv_norm(i, o, 1), conv_norm(o, o, 3, stride, o // 8))
            if squeeze:
                f.add_module("se", SqueezeExcite(o, i // 4, nn.ReLU(), nn.Sigmoid()))
            f.add_module("c", conv_norm(o, o, 1, act=nn.Identity()))
            proj = nn.Identity() if stride == 1 and i == o else conv_norm(i, o, 1, stride, act=nn.Identity())
            self.trunk.append(nn.ModuleDict({"f": f, "proj": proj}))
            i = o
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, 10))

    def forward(self, x):
        x = self.stem(x)
        for block in self.trunk:
            x = torch.relu(block["proj"](x) + block["f"](x))
        return self.head(x)
