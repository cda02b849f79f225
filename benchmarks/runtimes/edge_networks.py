"""The networks of the runtime matrix: random weights everywhere, norms calibrated, pruned by dtp_edge.

torchvision's own initialisation leaves zeros (heads, LayerScale) that would hide mistakes, so all weights are
drawn again; batch norm is then calibrated, so that activations neither die nor explode in deep networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn


class M5(nn.Module):
    """A keyword net on raw audio `[batch, 1, 8000]`: four 1-D convolutions (after Dai et al., 2017)."""

    def __init__(self, width: int = 32, num_classes: int = 35) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 1
        for out, kernel, stride in ((width, 80, 16), (width, 3, 1), (2 * width, 3, 1), (2 * width, 3, 1)):
            blocks += [
                nn.Conv1d(channels, out, kernel, stride),
                nn.BatchNorm1d(out),
                nn.ReLU(),
                nn.MaxPool1d(4),
            ]
            channels = out
        self.blocks = nn.Sequential(*blocks[:-1])
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean(dim=2))


TORCHVISION = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "resnet50",
    "densenet121",
    "vit_b_16",
    "swin_t",
    "convnext_tiny",
)
ZOO = (
    *("resnet20", "resnet8", "dscnn", "mobilenetv1_vww"),
    *("resnet32", "mobilenetv2_cifar", "vgg19", "mobilenetv2"),
)
HEAVY = ("resnet50", "densenet121", "convnext_tiny", "swin_t", "vit_b_16")  # seen at half the resolution
NETWORKS = ("resnet20", "dscnn", "mobilenetv1_vww", "m5_audio", *TORCHVISION)


def create(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Return a network in eval mode with random weights, and one input `[1, ...]`."""
    torch.manual_seed(seed)
    if name == "m5_audio":
        model, example = M5(), torch.randn(1, 1, 8000)
    elif name in ZOO:
        from dtp_edge import zoo

        model, example = zoo.create(name), zoo.example_input(name)
    else:
        import torchvision

        builder: Callable[..., nn.Module] = getattr(torchvision.models, name)
        size = 112 if name in HEAVY else 224
        options = {"image_size": size} if name.startswith("vit") else {}
        model, example = builder(weights=None, **options), torch.randn(1, 3, size, size)
    randomise(model, seed)
    calibrate_norms(model, example)
    return model.eval(), example


def randomise(model: nn.Module, seed: int) -> None:
    """Draw every parameter anew: fan-in scaled weights, scales near 1, small biases."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if (
                p.ndim > 1
                and "pos_embedding" not in name
                and "class_token" not in name
                and "layer_scale" not in name
            ):
                p.copy_(noise * math.sqrt(2.0 / p[0].numel()))
            elif name.endswith("bias"):
                p.copy_(0.1 * noise)
            elif "layer_scale" in name:
                p.copy_(0.2 + 0.05 * noise)
            elif p.ndim > 1:
                p.copy_(0.02 * noise)
            else:
                p.copy_(1.0 + 0.1 * noise)


def calibrate_norms(model: nn.Module, example: Tensor, batches: int = 2, size: int = 4) -> None:
    """Set the running statistics of batch norms to those of random inputs."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    generator = torch.Generator().manual_seed(1)
    model.eval()
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for _ in range(batches):
            model(torch.randn(size, *example.shape[1:], generator=generator))
    model.eval()


def prune(model: nn.Module, example: Tensor, macs: str) -> nn.Module:
    """Cut a network to a share of its MACs on the Raspberry Pi profile's grid; calibrate its norms again."""
    import dtp_edge as dtp

    result = dtp.prune_for_device(
        model, example, device="rpi4-ncnn-fp32-1t", budget=dtp.Budget(macs=macs), out=None
    )
    calibrate_norms(result.module, example)
    return result.module


def samples(example: Tensor, count: int, seed: int = 2) -> Tensor:
    """Return random inputs `[count, ...]` like the example."""
    return torch.randn(count, *example.shape[1:], generator=torch.Generator().manual_seed(seed))


def pixels(shape: Sequence[int], seed: int) -> np.ndarray:
    """Return float32 inputs `shape` as a camera or microphone gives them: 256 values, normalised."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return ((np.clip(np.rint(114.75 + 57.375 * noise), 0, 255) / 255 - 0.45) / 0.225).astype(np.float32)
