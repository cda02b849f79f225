"""The networks of `benchmarks.tasks`: small enough to be trained in minutes on a processor."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtp_edge.training import DataSource

_Example = tuple[nn.Module, Any]  # a network, and inputs of it: a tuple, or a dict by keyword


def unet(data: DataSource) -> _Example:
    """smp's U-Net on MobileNetV3-small, with half of its usual decoder."""
    import segmentation_models_pytorch as smp

    net = smp.Unet(
        "timm-mobilenetv3_small_100",
        encoder_weights=None,
        decoder_channels=(128, 64, 32, 24, 16),
        classes=data.num_classes or 1,
    )
    return net, (torch.randn(1, *data.input_shape),)


def lraspp(data: DataSource) -> _Example:
    """torchvision's LR-ASPP on MobileNetV3-large."""
    import torchvision

    net = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=data.num_classes
    )
    return net, (torch.randn(1, *data.input_shape),)


def ssdlite(data: DataSource) -> _Example:
    """torchvision's SSDlite on MobileNetV3-large, at 128 pixels in place of 320; its backbone is pruned."""
    import torchvision

    net = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=1 + (data.num_classes or 1)
    )
    net.transform.fixed_size = (128, 128)
    return net, ([torch.rand(3, 128, 128)],)


def dscnn(data: DataSource) -> _Example:
    """MLPerf Tiny's keyword network, of the built-in zoo."""
    from dtp_edge.zoo import create

    return create("dscnn", num_classes=data.num_classes), (torch.randn(1, *data.input_shape),)


def encoder(data: DataSource) -> _Example:
    """Hugging Face's BERT with random weights: 4 layers of width 128."""
    from transformers import BertConfig, BertForTokenClassification

    config = BertConfig(
        vocab_size=4096,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=64,
        num_labels=data.num_classes or 2,
    )
    ids = torch.randint(1, 4096, (1, int(data.facts["length"])))
    return BertForTokenClassification(config), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class TwiceAsLarge(nn.Module):
    """Residual blocks at the small size, then pixel shuffle, added to the enlarged picture."""

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], width: int = 48, blocks: int = 4
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(blocks)
        )
        self.tail = nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        for block in self.blocks:
            y = y + block(y)
        small = x * self.std + self.mean
        return F.interpolate(small, scale_factor=2.0, mode="bilinear") + F.pixel_shuffle(self.tail(y), 2)


def super_resolution(data: DataSource) -> _Example:
    """Four residual blocks of 48 channels at 16 x 16."""
    return TwiceAsLarge(data.mean, data.std), (torch.randn(1, *data.input_shape),)
