"""The networks of the coverage table: how each is built, and its input."""

from __future__ import annotations

import functools
import json
import random
from typing import Any

import torch
from torch import nn

from benchmarks.common.experiment import RESULTS

TIMM_LIST = RESULTS / "timm_smallest.json"

# Convolutional networks of more than some 8 G multiplications an image: seen at half the resolution.
_HEAVY = (
    *("vgg", "wide_resnet", "resnext101", "regnet_x_16gf", "regnet_x_32gf", "regnet_y_16gf", "regnet_y_32gf"),
    *("regnet_y_128gf", "regnet_x_8gf", "regnet_y_8gf", "convnext_base", "convnext_large", "efficientnet_b4"),
    *("efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_m", "efficientnet_v2_l"),
    *("densenet161", "resnet101", "resnet152", "convnext_small"),
)


def names(suite: str) -> list[str]:
    """Return the names of the networks of a suite: torchvision, timm, timm-all, tasks."""
    if suite == "torchvision":
        import torchvision

        return torchvision.models.list_models(module=torchvision.models)
    if suite == "timm":
        return list(timm_smallest().values())
    if suite == "timm-all":  # in random order, so that any number of them is a fair sample
        import timm

        found = timm.list_models()
        random.Random(0).shuffle(found)
        return found
    return sorted(TASKS)


def build(suite: str, name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """Return the network with fresh weights, and two samples of its input."""
    torch.manual_seed(0)
    if suite == "warm-up":
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1)), (
            torch.randn(2, 3, 8, 8),
        )
    if suite == "torchvision":
        import torchvision

        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        model = torchvision.models.get_model(name, **options)
        size = 299 if name.startswith("inception") else 224
        if name.startswith("swin_v2"):
            size = 256
        if name.startswith(_HEAVY):
            size = 112
        return model, (torch.randn(2, 3, size, size),)
    if suite in ("timm", "timm-all"):
        import timm

        model = timm.create_model(name, pretrained=False)
        return model, (torch.randn(2, *_accepted(model)),)
    model, shape = TASKS[name]()
    return model, (torch.randn(2, *shape),)


def timm_input(model: nn.Module) -> tuple[int, ...]:
    """Return the input shape of a timm network without batch, at the size it was configured for."""
    return tuple(model.pretrained_cfg["input_size"])


def small_input(model: nn.Module) -> tuple[int, ...]:
    """Return the input shape to test at: 128 pixels where the network takes any resolution."""
    channels, height, width = timm_input(model)
    tokens = any(isinstance(p, nn.Parameter) and p.ndim == 3 for p in model.parameters())
    if model.pretrained_cfg.get("fixed_input_size") or tokens or min(height, width) <= 128:
        return channels, height, width
    return channels, 128, 128


def _accepted(model: nn.Module) -> tuple[int, ...]:
    """Return the small input shape, or the configured one where the network refuses that."""
    shape = small_input(model)
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError):
        return timm_input(model)
    return shape


def timm_smallest(limit: int = 288) -> dict[str, str]:
    """Return `{timm module: its network of fewest parameters with an input of at most limit pixels}`.

    Made once (on the meta device, no weights) and kept in a file, because it builds all of timm's networks.
    """
    if TIMM_LIST.exists():
        return json.loads(TIMM_LIST.read_text())["networks"]
    import timm

    chosen: dict[str, str] = {}
    for module in sorted(set(timm.list_modules())):
        best: tuple[int, str] | None = None
        for name in timm.list_models(module=module):
            try:
                with torch.device("meta"):
                    model = timm.create_model(name, pretrained=False)
            except Exception:
                continue
            size = timm_input(model)
            count = sum(p.numel() for p in model.parameters())
            if max(size[1:]) <= limit and (best is None or count < best[0]):
                best = (count, name)
        if best is not None:
            chosen[module] = best[1]
    TIMM_LIST.parent.mkdir(exist_ok=True)
    TIMM_LIST.write_text(json.dumps({"timm": timm.__version__, "limit": limit, "networks": chosen}, indent=1))
    return chosen


class Lambda(nn.Module):
    """Part of a network: the parts given as attributes, run by a function of (self, x)."""

    def __init__(self, run: Any, **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self.run(self, x)


def _segmentation(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    import torchvision

    return torchvision.models.get_model(name, weights=None, weights_backbone=None, aux_loss=None), (
        3,
        128,
        128,
    )


def _ssdlite() -> tuple[nn.Module, tuple[int, ...]]:
    import torchvision

    m = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    return Lambda(lambda s, x: s.head(list(s.backbone(x).values())), backbone=m.backbone, head=m.head), (
        3,
        320,
        320,
    )


def _retinanet() -> tuple[nn.Module, tuple[int, ...]]:
    import torchvision

    m = torchvision.models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    return Lambda(lambda s, x: s.head(list(s.backbone(x).values())), backbone=m.backbone, head=m.head), (
        3,
        128,
        128,
    )


def conv(c_in: int, c_out: int, k: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, k, stride, k // 2, bias=False), nn.BatchNorm2d(c_out), nn.SiLU(inplace=True)
    )


class C2f(nn.Module):
    """YOLOv8's block: a convolution, chunk in two, a chain of bottlenecks, all of it concatenated."""

    def __init__(self, c_in: int, c_out: int, n: int, shortcut: bool) -> None:
        super().__init__()
        self.half = c_out // 2
        self.enter = conv(c_in, 2 * self.half, 1)
        self.leave = conv((2 + n) * self.half, c_out, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(self.half, self.half), conv(self.half, self.half)) for _ in range(n)
        )
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            y = block(parts[-1])
            parts.append(parts[-1] + y if self.shortcut else y)
        return self.leave(torch.cat(parts, 1))


class SPPF(nn.Module):
    """The same max-pooling three times in a row (a reused module), concatenated."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.enter, self.leave, self.pool = conv(c, c // 2, 1), conv(2 * c, c, 1), nn.MaxPool2d(5, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class YoloLike(nn.Module):
    """Backbone of C2f blocks, top-down and bottom-up paths, one head a scale with boxes and classes."""

    def __init__(self, w: int = 16, classes: int = 20) -> None:
        super().__init__()
        c = [w, 2 * w, 4 * w, 8 * w, 16 * w]
        self.stem = conv(3, c[0], 3, 2)
        self.down = nn.ModuleList(conv(c[i], c[i + 1], 3, 2) for i in range(4))
        self.c2f = nn.ModuleList(C2f(c[i + 1], c[i + 1], n, True) for i, n in enumerate((1, 2, 2, 1)))
        self.sppf = SPPF(c[4])
        self.up = nn.Upsample(scale_factor=2)
        self.top4, self.top3 = C2f(c[4] + c[3], c[3], 1, False), C2f(c[3] + c[2], c[2], 1, False)
        self.low4, self.low5 = conv(c[2], c[2], 3, 2), conv(c[3], c[3], 3, 2)
        self.bot4, self.bot5 = C2f(c[2] + c[3], c[3], 1, False), C2f(c[3] + c[4], c[4], 1, False)
        self.boxes = nn.ModuleList(
            nn.Sequential(conv(k, c[2]), conv(c[2], c[2]), nn.Conv2d(c[2], 64, 1)) for k in c[2:]
        )
        self.kinds = nn.ModuleList(nn.Sequential(conv(k, c[2]), nn.Conv2d(c[2], classes, 1)) for k in c[2:])
        self.register_buffer("bins", torch.arange(16.0).view(1, 16, 1, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, scales = self.stem(x), []
        for down, block in zip(self.down, self.c2f, strict=True):
            x = block(down(x))
            scales.append(x)
        p5 = self.sppf(x)
        p4 = self.top4(torch.cat([self.up(p5), scales[2]], 1))
        p3 = self.top3(torch.cat([self.up(p4), scales[1]], 1))
        n4 = self.bot4(torch.cat([self.low4(p3), p4], 1))
        n5 = self.bot5(torch.cat([self.low5(n4), p5], 1))
        boxes, kinds = [], []
        for f, box, kind in zip((p3, n4, n5), self.boxes, self.kinds, strict=True):
            b = box(f).flatten(2)
            share = b.view(b.shape[0], 4, 16, b.shape[2]).transpose(1, 2).softmax(1)
            boxes.append((share * self.bins).sum(1))
            kinds.append(kind(f).flatten(2).sigmoid())
        return torch.cat(boxes, 2), torch.cat(kinds, 2)


TASKS: dict[str, Any] = {
    "deeplabv3_mobilenet_v3_large": functools.partial(_segmentation, "deeplabv3_mobilenet_v3_large"),
    "lraspp_mobilenet_v3_large": lambda: (
        __import__("torchvision").models.get_model(
            "lraspp_mobilenet_v3_large", weights=None, weights_backbone=None
        ),
        (3, 128, 128),
    ),
    "fcn_resnet50": functools.partial(_segmentation, "fcn_resnet50"),
    "ssdlite320_backbone_heads": _ssdlite,
    "retinanet_backbone_fpn_heads": _retinanet,
    "yolo_like_c2f": lambda: (YoloLike(), (3, 128, 128)),
}
