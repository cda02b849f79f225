"""smp:ARCHITECTURE or smp:ARCHITECTURE-ENCODER of segmentation_models_pytorch, without weights."""

from __future__ import annotations

from torch import nn

from dtp_edge.zoo.sources.network_source import Source, optional, unknown

EXTRA = "smp"
ENCODER = "resnet34"  # the package's own default


def find(name: str, channels: int | None, _shape: tuple[int, ...] | None) -> Source:
    """Return a segmentation network, such as `unet-mobilenet_v2`; its classes are one where nobody says."""
    smp = optional("segmentation_models_pytorch", "segmentation_models_pytorch", EXTRA)
    architecture, dash, encoder = name.partition("-")
    architectures = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
    if architecture not in architectures:
        raise unknown("smp", architecture, architectures)
    encoder, encoders = encoder if dash else ENCODER, smp.encoders.get_encoder_names()
    if encoder not in encoders and not encoder.startswith("tu-"):  # tu-NAME: any network of timm
        raise unknown("smp", name, [f"{architecture}-{known}" for known in encoders])
    read = 3 if channels is None else channels

    def build(classes: int | None) -> nn.Module:
        return smp.create_model(
            architecture, encoder, encoder_weights=None, in_channels=read, classes=classes or 1
        )

    return Source(name, "smp", build, (read, 224, 224))
