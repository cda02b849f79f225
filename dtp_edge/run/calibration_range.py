"""Whether calibration inputs have the range that the network was trained on, as its first batch norm
remembers it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import fx

from dtp_edge.errors import InputError
from dtp_edge.graph import PrunableNetwork
from dtp_edge.surgery.sequels import NORM
from dtp_edge.surgery.walk import Walk

__all__ = ["odd_scale"]

_ODD_SCALE, _WRONG_SCALE = 4.0, 20.0


def odd_scale(network: PrunableNetwork, batch: tuple[Any, ...]) -> list[str]:
    """Say so where the first batch norm sees values of another size than in training.

    **Raises:** `InputError` where they are far apart: 0..255 in place of 0..1, most likely.
    """
    ratio = first_norm_ratio(network, batch)
    if ratio is None or 1 / _ODD_SCALE < ratio < _ODD_SCALE:
        return []
    what = f"the first batch norm sees values {ratio:.3g} times as large as in training"
    if not 1 / _WRONG_SCALE < ratio < _WRONG_SCALE:
        raise InputError(
            f"the calibration inputs are of another range: {what}",
            where="calibrate",
            hint="Normalise them as in training (0..1 instead of 0..255, then mean and standard deviation).",
        )
    return [f"{what[0].upper()}{what[1:]}: are the calibration inputs normalised as in training?"]


class _Found(Exception):
    """Ends the walk: nothing behind the first norm is asked for."""


class _FirstNorm(Walk):
    ratio: float | None = None

    def before(self, node: fx.Node) -> None:
        if node.target is NORM:
            x, _, _, mean, variance = self.arguments(node, 0)[:5]
            if mean is not None and variance is not None:
                dims = [d for d in range(x.dim()) if d != 1]
                seen = x.double().square().mean(dims)
                remembered = (variance.double() + mean.double().square()).clamp_min(1e-12)
                self.ratio = float((seen / remembered).sqrt().median())
            raise _Found


@torch.no_grad()
def first_norm_ratio(network: PrunableNetwork, batch: tuple[Any, ...]) -> float | None:
    """Return how large what the first batch norm sees is beside what it saw in training; None without one."""
    walk = _FirstNorm(network.graph_module)
    with suppress(_Found):
        walk.run([batch])
    return walk.ratio
