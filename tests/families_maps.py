"""Maps out, series, vectors, several inputs."""

import torch
import torch.nn.functional as F
from families_residual import conv_norm
from torch import nn


class DoubleConv(nn.Sequential):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(conv_norm(i, o), conv_norm(o, o))


class UNet(nn.Module):
    """Ronneberger et al., MICCAI 2015 (arXiv 1505.04597); a smaller map is padded to the skip's size, or is made so."""

    def __init__(self, bilinear: bool) -> None:
        super().__init__()
        self.bilinear = bilinear
        self.inc, self.down1, self.down2 = DoubleConv(1, 8), DoubleConv(8, 16), DoubleConv(16, 24)
        if not bilinear:
            self.up_a, self.up_b = nn.ConvTranspose2d(24, 16, 2, stride=2), nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.conv_a, self.conv_b = (
            DoubleConv((24 if bilinear else 16) + 16, 16),
            DoubleConv((16 if bilinear else 8) + 8, 8),
        )
        self.outc = nn.Conv2d(8, 3, kernel_size=1)

    def up(self, x, skip, layer):
        if self.bilinear:
            x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=True)
        else:
            x = layer(x)
            dy, dx = skip.size()[2] - x.size()[2], skip.size()[3] - x.size()[3]
            x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return torch.cat([skip, x], dim=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.conv_a(self.up(x3, x2, None if self.bilinear else self.up_a))
        return self.outc(self.conv_b(self.up(x, x1, None if self.bilinear else self.up_b)))


class Chomp1d(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x):
        return x[:, :, : -self.size].contiguous()


class TemporalBlock(nn.Module):
    """Bai et al., 2018 (arXiv 1803.01271): dilated causal convolutions; padded on both sides, the future cut off."""

    def __init__(self, i: int, o: int, dilation: int, k: int = 3) -> None:
        super().__init__()
        pad = (k - 1) * dilation
        layers = []
        for channels in (i, o):
            layers += [nn.Conv1d(channels, o, k, padding=pad, dilation=dilation), Chomp1d(pad)]
            layers += [nn.BatchNorm1d(o), nn.ReLU(), nn.Dropout(0.2)]
        self.net = nn.Sequential(*layers)
        self.downsample = nn.Conv1d(i, o, 1) if i != o else None
        self.relu = nn.ReLU()

    def forward(self, x):
        res = x if self.downsample is None else self.downsample(x)
        return self.relu(self.net(x) + res)


class TemporalNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tcn = nn.Sequential(TemporalBlock(3, 16, 1), TemporalBlock(16, 32, 2), TemporalBlock(32, 32, 4))
        self.linear = nn.Linear(32, 5)

    def forward(self, x):
        return self.linear(self.tcn(x)[:, :, -1])


class AutoEncoder(nn.Module):
    """Hinton and Salakhutdinov, Science 2006, with convolutions; what is between is a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2, padding=1),
            nn.ReLU(True),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.ReLU(True),
        )
        self.encode, self.decode = nn.Linear(24 * 7 * 7, 16), nn.Linear(16, 24 * 7 * 7)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(24, 12, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(True),
            nn.ConvTranspose2d(12, 1, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        x = self.encoder(x)
        x = self.encode(x.view(x.size(0), -1))
        x = F.relu(self.decode(x)).view(-1, 24, 7, 7)
        return self.decoder(x)


def fully_connected() -> nn.Module:
    """LeCun et al., Proc. IEEE 1998: LeNet-300-100, narrower, with what is usual today."""
    layers = [nn.Flatten(), nn.Linear(144, 96), nn.BatchNorm1d(96), nn.GELU(), nn.Linear(96, 48), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(48, 10))


class TwoByTwo(nn.Module):
    """An image and a vector in, a class and a map out; the vector scales and shifts the image's channels.

    Perez et al., FiLM, AAAI 2018 (arXiv 1709.07871).
    """

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(conv_norm(3, 16, stride=2), conv_norm(16, 24))
        self.vector = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 48))
        self.mix = conv_norm(24, 32, stride=2)
        self.classes, self.up = nn.Linear(32, 4), nn.Upsample(scale_factor=2, mode="nearest")
        self.map = nn.Conv2d(32 + 24, 1, 3, padding=1)

    def forward(self, image, vector):
        x = self.image(image)
        gamma, beta = self.vector(vector).chunk(2, dim=1)
        x = F.relu(x * gamma[:, :, None, None] + beta.unsqueeze(-1).unsqueeze(-1))
        y = self.mix(x)
        return self.classes(y.mean(dim=(-2, -1))), self.map(torch.cat([self.up(y), x], dim=1))


def super_resolution() -> nn.Module:
    """Shi et al., CVPR 2016 (arXiv 1609.05158), with the PReLU of He et al., ICCV 2015 (arXiv 1502.01852)."""
    layers = [nn.Conv2d(1, 24, 5, padding=2), nn.PReLU(24), nn.Conv2d(24, 16, 3, padding=1), nn.PReLU()]
    layers += [nn.Conv2d(16, 48, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(12)]
    return nn.Sequential(*layers, nn.Conv2d(12, 4, 3, padding=1), nn.PixelShuffle(2))


def unshuffled_stem() -> nn.Module:
    """Ridnik et al., TResNet, WACV 2021 (arXiv 2003.13630): space to depth first; here once more within the network."""
    layers = [nn.PixelUnshuffle(4), conv_norm(48, 24, 1), conv_norm(24, 16), nn.PixelUnshuffle(2), conv_norm(64, 32, 1)]
    return nn.Sequential(*layers, conv_norm(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
