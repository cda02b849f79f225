"""How far tensors are from those of the dense network, as a share of what these say."""

from __future__ import annotations

from torch import Tensor

__all__ = ["relative_square"]

_SILENT = 1e-12  # mean square of an output that says nothing: no measure for another


def relative_square(ours: Tensor, theirs: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the squared difference over the square of `theirs`, a scalar; `weight` of each place, if any."""
    gap, size = (ours - theirs).square(), theirs.square()
    if weight is not None:
        gap, size = gap * weight, size * weight
    return gap.sum() / size.sum().clamp_min(_SILENT * size.numel())
