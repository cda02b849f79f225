"""timm:NAME, any network of timm's list, without weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from dtp_edge.zoo.sources.network_source import Source, optional, unknown

EXTRA = "vision"


def find(name: str, channels: int | None, _shape: tuple[int, ...] | None) -> Source:
    """Return a network of timm's list, for images of so many channels."""
    timm = optional("timm", "timm", EXTRA)
    if not timm.is_model(name):
        raise unknown("timm", name, timm.list_models())
    options: dict[str, Any] = {} if channels is None else {"in_chans": channels}

    def build(classes: int | None) -> nn.Module:
        wanted = {} if classes is None else {"num_classes": classes}
        return timm.create_model(name, pretrained=False, **options, **wanted)

    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    shape = tuple((known.input_size if known else None) or (3, 224, 224))
    return Source(name, "timm", build, shape if channels is None else (channels, *shape[1:]))
