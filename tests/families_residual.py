"""VGG and the residual networks."""

import torch
import torch.nn.functional as F
from torch import nn


def conv_norm(i: int, o: int, k=3, stride=1, groups=1, act: nn.Module | None = None) -> nn.Sequential:
    """Convolution, batch norm, activation (ReLU)."""
    layers = [nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True) if act is None else act)


class VGG(nn.Module):
    """Simonyan and Zisserman, ICLR 2015 (arXiv 1409.1556)."""

    def __init__(self, norm: bool, pool: int | None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (8, "M", 16, "M", 24, 24, "M"):
            if width == "M":
                layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
            else:
                layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1)]
                layers += [nn.BatchNorm2d(width)] if norm else []
                layers += [nn.ReLU(inplace=True)]
                channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((pool, pool)) if pool else nn.Identity()
        side = pool or 4
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, 64),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(64, 48),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(48, 10),
        )

    def forward(self, x):
        x = self.avgpool(self.features(x))
        x = x.view(x.size(0), -1)
        return self.classifier(x)


class BasicBlock(nn.Module):
    """He et al., CVPR 2016 (arXiv 1512.03385)."""

    expansion = 1

    def __init__(self, i: int, width: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(i, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or i != width:
            self.downsample = nn.Sequential(nn.Conv2d(i, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    """He et al., CVPR 2016; with groups: Xie et al., ResNeXt, CVPR 2017 (arXiv 1611.05431)."""

    expansion = 4

    def __init__(self, i: int, width: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        o = width * self.expansion
        inner = width * 2 if groups > 1 else width
        self.conv1 = nn.Conv2d(i, inner, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, kernel_size=3, stride=stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, o, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(o)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or i != o:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride=stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """The ImageNet stem, three stages."""

    def __init__(self, block: type, widths: tuple[int, ...], blocks: int, groups: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layers, i = nn.ModuleList(), widths[0]
        for stage, width in enumerate(widths):
            for n in range(blocks):
                self.layers.append(block(i, width, 2 if stage and n == 0 else 1, groups))
                i = width * block.expansion
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(i, 10)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for layer in self.layers:
            x = layer(x)
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(x)


class PreActivationBlock(nn.Module):
    """He et al., ECCV 2016 (arXiv 1603.05027), as Wide-ResNet has it: Zagoruyko and Komodakis, BMVC 2016 (1605.07146)."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.equal = i == o
        self.shortcut = None if self.equal else nn.Conv2d(i, o, 1, stride, bias=False)

    def forward(self, x):
        if not self.equal:
            x = F.relu(self.bn1(x), inplace=True)
        else:
            out = F.relu(self.bn1(x))
        out = self.conv1(out if self.equal else x)
        out = F.relu(self.bn2(out), inplace=True)
        out = self.conv2(F.dropout(out, p=0.3, training=self.training))
        return torch.add(x if self.equal else self.shortcut(x), out)


class PreActivationResNet(nn.Module):
    def __init__(self, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        layers, i = [], 16
        for stage, width in enumerate(widths):
            for n in range(blocks):
                layers.append(PreActivationBlock(i, width, 2 if stage and n == 0 else 1))
                i = width
        self.blocks = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(i)
        self.fc = nn.Linear(i, 10)

    def forward(self, x):
        out = F.relu(self.bn(self.blocks(self.conv1(x))))
        out = F.avg_pool2d(out, 8)
        return self.fc(out.view(out.shape[0], -1))
