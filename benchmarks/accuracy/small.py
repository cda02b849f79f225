"""Networks of timm at reduced size, trained here from random weights: families other than ResNets.

    python -m benchmarks.accuracy.at_budget --model benchmarks/accuracy/small.py:mobile \\
        --data fashion-mnist:DIR --base runs/mobile.safetensors --base-steps 900 --base-rate 0.1 \\
        --steps 234 --share .2 --precision no --latency 50% --methods ours-latency,calibrated-latency
"""

from __future__ import annotations

import torch
from torch import nn

PIXELS = 28


def mobile() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """MobileNetV2 of half width, whose stem keeps the resolution; 28 x 28 grey images, 10 classes."""
    import timm

    network = timm.create_model("mobilenetv2_050", in_chans=1, num_classes=10)
    network.conv_stem.stride = (1, 1)
    return network, (torch.randn(1, 1, PIXELS, PIXELS),)


def vit() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """A vision transformer of six blocks of width 96 on 16 patches of 7 x 7 pixels, 10 classes."""
    from timm.models.vision_transformer import VisionTransformer

    settings = {"img_size": PIXELS, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    network = VisionTransformer(**settings, embed_dim=96, depth=6, num_heads=3, fc_norm=False)
    return network, (torch.randn(1, 1, PIXELS, PIXELS),)
