"""How far a network's outputs are from another's on the same inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from dtp_edge.graph import mode_of

__all__ = ["compared", "outputs_of"]


@torch.no_grad()
def outputs_of(module: nn.Module, batches: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the outputs for every batch, in evaluation."""
    with mode_of(module, training=False):
        return [module(*batch) for batch in batches]


def compared(made: Sequence[Any], wanted: Sequence[Any]) -> tuple[float, float | None]:
    """Return the error of outputs, and the share of samples with the same top class.

    The error is squared and relative to how much the wanted output varies from sample to sample, so that 1 is
    no better than their mean; of several outputs the worst. The share is None where no output is `[batch,
    classes]`.
    """
    rows, others = _real(wanted), _real(made)
    errors, agreement = [], None
    for i in range(len(rows[0])):
        want, got = (torch.cat([r[i].flatten(1).double() for r in both]) for both in (rows, others))
        if want.shape != got.shape:
            continue  # as many rows as were found, say
        spread = (want - want.mean(0)).square().sum().clamp_min(1e-12 * want.square().sum() + 1e-30)
        errors.append(float((got - want).square().sum() / spread))
        if rows[0][i].dim() == 2 and want.shape[1] > 1 and agreement is None:
            agreement = float((want.argmax(1) == got.argmax(1)).double().mean())
    return max(errors, default=0.0), agreement


def _real(outputs: Sequence[Any]) -> list[list[Tensor]]:
    return [
        [t for t in tree_leaves(o) if isinstance(t, Tensor) and t.is_floating_point() and t.dim() > 1]
        for o in outputs
    ]
