"""Which channels stay, for this budget: differentiable transportation pruning."""

from __future__ import annotations

from dtp_edge.transport.budget import Budget
from dtp_edge.transport.entropic import entropic_dual, entropic_mask
from dtp_edge.transport.harden import caps_of, harden
from dtp_edge.transport.learner import MaskLearner
from dtp_edge.transport.meter import CostModel, Meter, feasibility, prices, require_feasible
from dtp_edge.transport.scores import initial_scores
from dtp_edge.transport.unstructured import SparseResult, WeightPruner

__all__ = [
    "Budget",
    "CostModel",
    "MaskLearner",
    "Meter",
    "SparseResult",
    "WeightPruner",
    "caps_of",
    "entropic_dual",
    "entropic_mask",
    "feasibility",
    "harden",
    "initial_scores",
    "prices",
    "require_feasible",
]
