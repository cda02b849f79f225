"""MobileNetV1 and V2 (Howard et al. 2017, Sandler et al. 2018).

V2's parameter names are torchvision's, so that its published ImageNet file loads without torchvision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# expansion, channels, repeats, stride of the first: table 2 of the paper
_V2_ROWS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_V1_ROWS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def _divisible(channels: float, divisor: int = 8) -> int:
    """Round to the nearest multiple, never down by more than a tenth (the paper's reference rule)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _conv_norm(
    channels: int, width: int, kernel: int, stride: int, groups: int = 1, relu: type[nn.Module] = nn.ReLU6
) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), relu(inplace=True))


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1; the input is added where the shapes agree."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        layers: list[nn.Module] = [_conv_norm(channels, hidden, 1, 1)] if expansion != 1 else []
        layers.append(_conv_norm(hidden, hidden, 3, stride, groups=hidden))
        layers += [nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """`[B, in_channels, S, S] -> [B, classes]`; `small` keeps the first two strides at 1 (32x32 images)."""

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, width: float = 1.0, small: bool = False
    ) -> None:
        super().__init__()
        channels = _divisible(32 * width)
        last = _divisible(1280 * max(1.0, width))
        features: list[nn.Module] = [_conv_norm(in_channels, channels, 3, 1 if small else 2)]
        for expansion, out, repeats, stride in _V2_ROWS:
            out = _divisible(out * width)
            for i in range(repeats):
                shrink = stride if i == 0 and not (small and out <= _divisible(24 * width)) else 1
                features.append(InvertedResidual(channels, out, shrink, expansion))
                channels = out
        features.append(_conv_norm(channels, last, 1, 1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, num_classes))
        _init(self)

    def forward(self, x: Tensor) -> Tensor:
        out = F.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(out, 1))


class MobileNetV1(nn.Module):
    """Depthwise separable stack, `[B, in_channels, S, S] -> [B, classes]`; width 0.25 is MLPerf Tiny's."""

    def __init__(
        self, num_classes: int = 2, in_channels: int = 3, width: float = 0.25, first_stride: int = 2
    ) -> None:
        super().__init__()
        channels = int(32 * width)
        features: list[nn.Module] = [_conv_norm(in_channels, channels, 3, first_stride, relu=nn.ReLU)]
        for out, stride in _V1_ROWS:
            features.append(_conv_norm(channels, channels, 3, stride, groups=channels, relu=nn.ReLU))
            features.append(_conv_norm(channels, int(out * width), 1, 1, relu=nn.ReLU))
            channels = int(out * width)
        self.features = nn.Sequential(*features)
        self.classifier = nn.Linear(channels, num_classes)
        _init(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(self.features(x), 1), 1))


def _init(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
