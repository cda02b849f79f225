"""Builds one network of the catalogue, with random weights: only the shapes of its layers are wanted."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def build(call: str) -> nn.Module:
    """Return the network in eval mode. Raises whatever the package raises for a name it does not have."""
    source, name = call.split(":", 1)
    return {"tv": _tv, "seg": _seg, "video": _video, "timm": _timm, "yolo": _yolo, "own": _own}[source](
        name
    ).eval()


def example(size: str) -> torch.Tensor:
    """Return an input: pictures `[1, 3, *size]`, or `[1, n]` tokens where size is one number."""
    sizes = [int(s) for s in size.split("x")]
    return torch.randint(0, 1000, (1, sizes[0])) if len(sizes) == 1 else torch.randn(1, 3, *sizes)


def _tv(name: str) -> nn.Module:
    import torchvision

    more = {"transform_input": False} if name in ("inception_v3", "googlenet") else {}
    aux = {"aux_logits": False, "init_weights": False} if name in ("inception_v3", "googlenet") else {}
    return torchvision.models.get_model(name, weights=None, **aux, **more)


def _seg(name: str) -> nn.Module:
    import torchvision

    return FirstOut(
        getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, aux_loss=False)
    )


def _video(name: str) -> nn.Module:
    import torchvision

    return getattr(torchvision.models.video, name)(weights=None)


def _timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False)


def _yolo(name: str) -> nn.Module:
    from ultralytics import YOLO

    return Raw(YOLO(f"{name}.yaml", verbose=False).model)


def _own(name: str) -> nn.Module:
    return OWN[name]()


class FirstOut(nn.Module):
    """A segmentation network without its dictionary."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)["out"]


class Raw(nn.Module):
    """A detector of ultralytics as files for devices have it: its head's maps, not yet boxes."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        head = inner.model[-1]
        head.export, head.format, head.dynamic = True, "onnx", False

    def forward(self, x: torch.Tensor) -> Any:
        return self.inner(x)


class Tokens(nn.Module):
    """A language model's encoder on token numbers alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.inner(input_ids=ids)[0]


class Picture(nn.Module):
    """A vision network of transformers on pixels alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(pixel_values=x)[0]


def _resnet(depth: int, style: str) -> nn.Module:
    """ResNet v1 with the strides where Keras (first 1x1) or TF-Slim (last unit of a stage) has them."""
    import torchvision

    model = torchvision.models.get_model(f"resnet{depth}", weights=None)
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    for number, stage in enumerate(stages):
        first = stage[0]
        if style == "keras":
            first.conv1.stride, first.conv2.stride = first.conv2.stride, (1, 1)
            continue
        first.conv2.stride = first.downsample[0].stride = (1, 1)
        if number < 3:
            stage[-1].conv2.stride = (2, 2)
            stage[-1].downsample = nn.MaxPool2d(1, 2)
    return model


def _resnetv2(depth: int) -> nn.Module:
    """TF-Slim's ResNet v2 (norm before convolution), strides in the last unit of a stage."""
    counts = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    units: list[nn.Module] = []
    cin = 64
    for number, count in enumerate(counts):
        width = 64 << number
        for unit in range(count):
            stride = 2 if unit == count - 1 and number < 3 else 1
            units.append(PreActivation(cin, width, stride))
            cin = 4 * width
    stem = [nn.Conv2d(3, 64, 7, 2, 3), nn.MaxPool2d(3, 2, 1)]
    head = [nn.BatchNorm2d(cin), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, 1001)]
    return nn.Sequential(*stem, *units, *head)


class PreActivation(nn.Module):
    def __init__(self, cin: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(cin), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(cin, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1),
        )
        if cin != 4 * width:
            self.skip: nn.Module = nn.Conv2d(cin, 4 * width, 1, stride)
        else:
            self.skip = nn.MaxPool2d(1, stride) if stride > 1 else nn.Identity()
        self.projects = cin != 4 * width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = self.first(x)
        return self.body(active) + self.skip(active if self.projects else x)


def _mobilenetv1(width: float) -> nn.Module:
    from timm.models.efficientnet import _gen_mobilenet_v1

    return _gen_mobilenet_v1("mobilenetv1_100", channel_multiplier=width)


def _mobilenet_edgetpu_075() -> nn.Module:
    from timm.models.efficientnet import _gen_mobilenet_edgetpu

    return _gen_mobilenet_edgetpu("mobilenet_edgetpu_100", channel_multiplier=0.75)


def _fastsam(scale: str) -> nn.Module:
    from ultralytics.nn.tasks import SegmentationModel

    return Raw(SegmentationModel(f"yolov8{scale}-seg.yaml", nc=1, verbose=False))


def _segformer_b0() -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return Picture(SegformerForSemanticSegmentation(SegformerConfig(num_labels=150)))


def _depth_anything_small() -> nn.Module:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        image_size=518,
        patch_size=14,
        out_features=["stage9", "stage10", "stage11", "stage12"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=384,
        neck_hidden_sizes=[48, 96, 192, 384],
        fusion_hidden_size=64,
        head_hidden_size=32,
    )
    return Picture(DepthAnythingForDepthEstimation(config))


def _bert_base() -> nn.Module:
    from transformers import BertConfig, BertModel

    return Tokens(BertModel(BertConfig(attn_implementation="eager")))


def _distilbert_base() -> nn.Module:
    from transformers import DistilBertConfig, DistilBertModel

    return Tokens(DistilBertModel(DistilBertConfig()))


def _own_table() -> dict[str, Any]:
    from tools.networks.detectors import unet, yolox

    return {
        "yolox_s": lambda: yolox(0.33, 0.5),
        "yolox_m": lambda: yolox(0.67, 0.75),
        "yolox_l": lambda: yolox(1.0, 1.0),
        "unet": unet,
    }


OWN: dict[str, Any] = {
    "mobilenet_edgetpu_075": _mobilenet_edgetpu_075,
    "mobilenetv1_050": lambda: _mobilenetv1(0.5),
    "mobilenetv1_025": lambda: _mobilenetv1(0.25),
    "resnet_keras_50": lambda: _resnet(50, "keras"),
    **{f"resnet_slim_{depth}": lambda depth=depth: _resnet(depth, "slim") for depth in (50, 101, 152)},
    **{f"resnetv2_slim_{depth}": lambda depth=depth: _resnetv2(depth) for depth in (50, 101, 152)},
    "fastsam_s": lambda: _fastsam("s"),
    "fastsam_x": lambda: _fastsam("x"),
    "segformer_b0": _segformer_b0,
    "depth_anything_small": _depth_anything_small,
    "bert_base": _bert_base,
    "distilbert_base": _distilbert_base,
    **_own_table(),
}
