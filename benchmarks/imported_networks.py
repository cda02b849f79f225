"""The networks whose counters an imported profile is fitted to: common ones, none of them judged.

They cover what the judged networks do (`benchmarks.runtimes.edge_networks`): dense, grouped, depthwise and
one-dimensional convolutions, squeeze and excitation, attention, branches, at sizes from 32 x 32 to 224 x 224.
Weights are drawn anew, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from benchmarks.runtimes.edge_networks import calibrate_norms, randomise
from benchmarks.runtimes.fit import THIN, network

Made = tuple[nn.Module, Tensor]


class Wave(nn.Module):
    """1-D convolutions on raw audio, as in "M11" of Dai et al. (2017), narrow."""

    def __init__(self, width: int, first: tuple[int, int]) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels, (kernel, stride) = 1, first
        for stage, depth in enumerate((1, 2, 2, 3)):
            for _ in range(depth):
                out = width << max(stage - 1, 0)
                size, step = (kernel, stride) if stage == 0 else (3, 1)
                blocks += [nn.Conv1d(channels, out, size, step, size // 2), nn.BatchNorm1d(out), nn.ReLU()]
                channels = out
            blocks.append(nn.MaxPool1d(4))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean(dim=2))


def _torchvision(name: str, size: int) -> Callable[[], Made]:
    def make() -> Made:
        import torchvision

        builder = getattr(torchvision.models, name)
        options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
        return builder(weights=None, **options), torch.randn(1, 3, size, size)

    return make


def _timm(name: str, size: int) -> Callable[[], Made]:
    def make() -> Made:
        import timm

        return timm.create_model(name, pretrained=False, exportable=True), torch.randn(1, 3, size, size)

    return make


def _zoo(name: str) -> Callable[[], Made]:
    def make() -> Made:
        from dtp_edge import zoo

        return zoo.create(name), zoo.example_input(name)

    return make


TRACED: Mapping[str, Callable[[], Made]] = {
    "resnet18": _torchvision("resnet18", 224),
    "resnet34": _torchvision("resnet34", 112),
    "wide_resnet50_2": _torchvision("wide_resnet50_2", 112),
    "mobilenet_v3_large": _torchvision("mobilenet_v3_large", 224),
    "mnasnet1_0": _torchvision("mnasnet1_0", 224),
    "mnasnet0_5": _torchvision("mnasnet0_5", 160),
    "regnet_y_400mf": _torchvision("regnet_y_400mf", 224),
    "regnet_x_400mf": _torchvision("regnet_x_400mf", 112),
    "googlenet": _torchvision("googlenet", 112),
    "squeezenet1_1": _torchvision("squeezenet1_1", 224),
    "shufflenet_v2_x0_5": _torchvision("shufflenet_v2_x0_5", 224),
    "efficientnet_lite0": _timm("efficientnet_lite0", 224),
    "efficientnet_b1_pruned": _timm("efficientnet_b1_pruned", 160),
    "deit_small": _timm("deit_small_patch16_224", 224),
    "deit_tiny": _timm("deit_tiny_patch16_224", 224),
    "resnet8": _zoo("resnet8"),
    "resnet56": _zoo("resnet56"),
    "mobilenetv2_cifar": _zoo("mobilenetv2_cifar"),
    "wave16": lambda: (Wave(16, (80, 16)), torch.randn(1, 1, 8000)),
    "wave32": lambda: (Wave(32, (80, 4)), torch.randn(1, 1, 16000)),
}


# of the small networks of `benchmarks.runtimes.fit`: widths in sixteens, then any, as pruning leaves them
RANDOM = (*range(24), *range(THIN, THIN + 12))
FITTED = (*TRACED, *(f"random{seed:02d}" for seed in RANDOM))


def create(name: str) -> Made:
    """Return a fitted network in eval mode with random weights, and one input."""
    if name.startswith("random"):
        _, model, example = network(int(name.removeprefix("random")))
        return model, example
    torch.manual_seed(0)
    model, example = TRACED[name]()
    randomise(model, 0)
    calibrate_norms(model, example)
    return model.eval(), example
