"""The networks that come with the package, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from dtp_edge.errors import InputError, nearest
from dtp_edge.zoo.mobilenet import MobileNetV1, MobileNetV2
from dtp_edge.zoo.resnet import CifarResNet
from dtp_edge.zoo.tiny import DemoNet, DsCnn, ResNet8
from dtp_edge.zoo.vgg import CifarVgg19


@dataclass(frozen=True)
class Entry:
    """A constructor with its usual input `[channels, height, width]`, its classes, and one line on it."""

    build: Callable[..., nn.Module]
    input_shape: tuple[int, int, int]
    num_classes: int
    about: str


_CIFAR = (3, 32, 32)
_ENTRIES: dict[str, Entry] = {
    "resnet20": Entry(partial(CifarResNet, 3), _CIFAR, 10, "CIFAR ResNet-20, option-A shortcuts"),
    "resnet32": Entry(partial(CifarResNet, 5), _CIFAR, 10, "CIFAR ResNet-32, option-A shortcuts"),
    "resnet44": Entry(partial(CifarResNet, 7), _CIFAR, 10, "CIFAR ResNet-44, option-A shortcuts"),
    "resnet56": Entry(partial(CifarResNet, 9), _CIFAR, 10, "CIFAR ResNet-56, option-A shortcuts"),
    "vgg19": Entry(CifarVgg19, _CIFAR, 10, "VGG-19 with batch norm for 32x32 images"),
    "mobilenetv2": Entry(MobileNetV2, (3, 224, 224), 1000, "MobileNetV2, torchvision's parameter names"),
    "mobilenetv2_cifar": Entry(partial(MobileNetV2, small=True), _CIFAR, 10, "MobileNetV2 for 32x32 images"),
    "mobilenetv1_vww": Entry(MobileNetV1, (3, 96, 96), 2, "MLPerf Tiny visual wake words, width 0.25"),
    "resnet8": Entry(ResNet8, _CIFAR, 10, "MLPerf Tiny image classification"),
    "dscnn": Entry(DsCnn, (1, 49, 10), 12, "MLPerf Tiny keyword spotting"),
    "demonet": Entry(DemoNet, (1, 32, 32), 10, "the demo's digit reader"),
}


def names() -> list[str]:
    """Names of the built-in networks."""
    return sorted(_ENTRIES)


def entry(name: str) -> Entry:
    """Look up a built-in network; an unknown name is an `InputError` with the nearest names."""
    if name not in _ENTRIES:
        near = nearest(name, _ENTRIES)
        hint = f"Did you mean {', '.join(near)}?" if near else f"There are {', '.join(names())}."
        if name.endswith((".safetensors", ".pt", ".pth", ".ckpt", ".bin")):
            hint = "A checkpoint goes to --weights; MODEL is what builds the network, such as FILE.py:NAME."
        raise InputError(f"there is no built-in network '{name}'", hint=hint)
    return _ENTRIES[name]


def create(name: str, num_classes: int | None = None, in_channels: int | None = None) -> nn.Module:
    """Build a network from the zoo with fresh weights (drawn from torch's global generator)."""
    found = entry(name)
    return found.build(
        num_classes=found.num_classes if num_classes is None else num_classes,
        in_channels=found.input_shape[0] if in_channels is None else in_channels,
    )


def example_input(name: str, input_shape: tuple[int, ...] | None = None) -> Tensor:
    """A fixed random input `[1, channels, height, width]` for the named network."""
    shape = input_shape or entry(name).input_shape
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
