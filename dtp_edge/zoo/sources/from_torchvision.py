"""torchvision:NAME, any network of `torchvision.models`, without weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from dtp_edge.zoo.sources.network_source import Source, only_channels, optional, unknown

EXTRA = "vision"
_WITH_BACKBONE = ("rcnn", "ssd", "retinanet", "fcos", "deeplab", "fcn", "lraspp")


def find(name: str, channels: int | None, _shape: tuple[int, ...] | None) -> Source:
    """Return a network of torchvision's list."""
    models = optional("torchvision.models", "torchvision", EXTRA)
    known = models.list_models()
    if name not in known:
        raise unknown("torchvision", name, known)
    only_channels(3, channels, name, "torchvision's networks")

    def build(classes: int | None) -> nn.Module:
        wanted: dict[str, Any] = {} if classes is None else {"num_classes": classes}
        if name in ("googlenet", "inception_v3"):  # their auxiliary heads exist only in training
            wanted |= {"init_weights": False}
        if any(part in name for part in _WITH_BACKBONE):
            wanted |= {"weights_backbone": None}
        return models.get_model(name, weights=None, **wanted)

    size = 299 if name == "inception_v3" else 224
    return Source(name, "torchvision", build, (3, size, size))
