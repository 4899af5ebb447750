"""Concatenations and channel shuffles."""

import torch
import torch.nn.functional as F
from families_residual import conv_norm
from torch import nn


class Fire(nn.Module):
    """Iandola et al., SqueezeNet, 2016 (arXiv 1602.07360)."""

    def __init__(self, i: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze, self.act = nn.Conv2d(i, squeeze, 1), nn.ReLU(inplace=True)
        self.expand1x1, self.expand3x3 = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = self.act(self.squeeze(x))
        return torch.cat([self.act(self.expand1x1(x)), self.act(self.expand3x3(x))], 1)


def squeezenet() -> nn.Module:
    pool = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
    stem = [nn.Conv2d(3, 16, 3, 2), nn.ReLU(inplace=True), pool]
    fires = [Fire(16, 8, 16), Fire(32, 8, 16), pool, Fire(32, 12, 24), Fire(48, 12, 24)]
    head = [nn.Dropout(0.5), nn.Conv2d(48, 10, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()]
    return nn.Sequential(*stem, *fires, *head)


class InceptionV1Block(nn.Module):
    """Szegedy et al., GoogLeNet, CVPR 2015 (arXiv 1409.4842), with batch norm."""

    def __init__(self, i: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        a, b1, b2, c1, c2, d = widths
        self.branch1 = conv_norm(i, a, 1)
        self.branch2 = nn.Sequential(conv_norm(i, b1, 1), conv_norm(b1, b2, 3))
        self.branch3 = nn.Sequential(conv_norm(i, c1, 1), conv_norm(c1, c2, 5))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), conv_norm(i, d, 1))

    def forward(self, x):
        outputs = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        return torch.cat(outputs, 1)


def googlenet() -> nn.Module:
    stem = [conv_norm(3, 16, 7, 2), nn.MaxPool2d(3, stride=2, ceil_mode=True), conv_norm(16, 16, 1), conv_norm(16, 24)]
    blocks = [InceptionV1Block(24, (8, 8, 12, 4, 8, 8)), nn.MaxPool2d(3, stride=2, ceil_mode=True)]
    blocks += [InceptionV1Block(36, (12, 8, 16, 4, 8, 8)), InceptionV1Block(44, (16, 12, 24, 4, 8, 8))]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Dropout(0.2), nn.Linear(56, 10))


def factorised(i: int, o: int, kernel: tuple[int, int]) -> nn.Sequential:
    pad = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(nn.Conv2d(i, o, kernel, padding=pad, bias=False), nn.BatchNorm2d(o, eps=0.001), nn.ReLU())


class InceptionV3Block(nn.Module):
    """Szegedy et al., CVPR 2016 (arXiv 1512.00567): 7x7 as 1x7 and 7x1, and an average pool whose padding counts."""

    def __init__(self, i: int, width: int) -> None:
        super().__init__()
        self.one = conv_norm(i, width, 1)
        self.seven = nn.Sequential(
            conv_norm(i, width, 1), factorised(width, width, (1, 7)), factorised(width, 16, (7, 1))
        )
        self.split = conv_norm(i, width, 1)
        self.split_a, self.split_b = factorised(width, 8, (1, 3)), factorised(width, 8, (3, 1))
        self.pool = conv_norm(i, 12, 1)

    def forward(self, x):
        split = self.split(x)
        split = torch.cat([self.split_a(split), self.split_b(split)], 1)
        pooled = self.pool(F.avg_pool2d(x, kernel_size=3, stride=1, padding=1))
        return torch.cat([self.one(x), self.seven(x), split, pooled], 1)


class InceptionReduction(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(i, o, 3, stride=2, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))

    def forward(self, x):
        return torch.cat([self.conv(x), F.max_pool2d(x, kernel_size=3, stride=2)], 1)


def inception_v3() -> nn.Module:
    layers = [conv_norm(3, 12, stride=2), conv_norm(12, 20), InceptionV3Block(20, 16)]
    layers += [InceptionReduction(60, 24), InceptionV3Block(84, 16)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(60, 10))


class DenseLayer(nn.Module):
    """Huang et al., DenseNet, CVPR 2017 (arXiv 1608.06993)."""

    def __init__(self, i: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features):
        x = torch.cat(features, 1)
        return self.conv2(self.relu(self.norm2(self.conv1(self.relu(self.norm1(x))))))


class DenseNet(nn.Module):
    def __init__(self, growth: int = 8) -> None:
        super().__init__()
        self.conv0, i = nn.Conv2d(3, 16, 3, padding=1, bias=False), 16
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for _ in range(2):
            self.blocks.append(nn.ModuleList(DenseLayer(i + n * growth, growth) for n in range(3)))
            i += 3 * growth
            layers = [nn.BatchNorm2d(i), nn.ReLU(inplace=True), nn.Conv2d(i, i // 2, 1, bias=False), nn.AvgPool2d(2, 2)]
            self.transitions.append(nn.Sequential(*layers))
            i //= 2
        self.norm5, self.classifier = nn.BatchNorm2d(i), nn.Linear(i, 10)

    def forward(self, x):
        x = self.conv0(x)
        for block, transition in zip(self.blocks, self.transitions, strict=True):
            features = [x]
            for layer in block:
                features.append(layer(features))
            x = transition(torch.cat(features, 1))
        x = F.relu(self.norm5(x), inplace=True)
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


def channel_shuffle(x, groups: int):
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(batch, channels, height, width)


class ShuffleUnitV1(nn.Module):
    """Zhang et al., ShuffleNet, CVPR 2018 (arXiv 1707.01083)."""

    def __init__(self, i: int, o: int, groups: int, stride: int) -> None:
        super().__init__()
        self.stride, self.groups = stride, groups
        branch = o - i if stride == 2 else o
        inner = o // 4
        self.compress = conv_norm(i, inner, 1, groups=groups)
        self.depthwise = conv_norm(inner, inner, 3, stride, inner, nn.Identity())
        self.expand = conv_norm(inner, branch, 1, groups=groups, act=nn.Identity())

    def forward(self, x):
        y = channel_shuffle(self.compress(x), self.groups)
        y = self.expand(self.depthwise(y))
        if self.stride == 2:
            return F.relu(torch.cat([F.avg_pool2d(x, 3, stride=2, padding=1), y], 1))
        return F.relu(x + y)


def shufflenet_v1() -> nn.Module:
    units = [ShuffleUnitV1(12, 72, 3, 2), ShuffleUnitV1(72, 72, 3, 1), ShuffleUnitV1(72, 144, 3, 2)]
    units += [ShuffleUnitV1(144, 144, 3, 1)]
    return nn.Sequential(conv_norm(3, 12, stride=2), *units, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(144, 10))


class ShuffleUnitV2(nn.Module):
    """Ma et al., ShuffleNet v2, ECCV 2018 (arXiv 1807.11164)."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.stride, half = stride, o // 2
        self.branch1 = nn.Sequential()
        if stride == 2:
            self.branch1 = nn.Sequential(conv_norm(i, i, 3, 2, i, nn.Identity()), conv_norm(i, half, 1))
        left = i if stride == 2 else half
        self.branch2 = nn.Sequential(
            conv_norm(left, half, 1), conv_norm(half, half, 3, stride, half, nn.Identity()), conv_norm(half, half, 1)
        )

    def forward(self, x):
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch2(x2)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(out, 2)


class ShuffleNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU(inplace=True))
        self.stage2 = nn.Sequential(ShuffleUnitV2(12, 32, 2), ShuffleUnitV2(32, 32, 1), ShuffleUnitV2(32, 32, 1))
        self.stage3 = nn.Sequential(ShuffleUnitV2(32, 64, 2), ShuffleUnitV2(64, 64, 1))
        self.conv5, self.fc = conv_norm(64, 96, 1), nn.Linear(96, 10)

    def forward(self, x):
        x = self.conv5(self.stage3(self.stage2(self.conv1(x))))
        return self.fc(x.mean([2, 3]))
