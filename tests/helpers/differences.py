"""A learner's score gradient against finite differences of a mask that is solved again for every step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dtp_edge.transport import MaskLearner


def assert_score_gradient(
    learner: MaskLearner, mask: Callable[[np.ndarray], np.ndarray], g: np.ndarray, rel: float
) -> None:
    """`mask(scores)` is what the masks would be; `g` the loss's gradient with respect to them."""
    base = learner.scores.detach().numpy()
    learner.mask().backward(torch.tensor(g))
    assert learner.scores.grad is not None
    for i in range(0, len(base), 3):
        step = np.zeros_like(base)
        step[i] = 1e-5
        numeric = g @ (mask(base + step) - mask(base - step)) / 2e-5
        assert float(learner.scores.grad[i]) == pytest.approx(numeric, rel=rel, abs=1e-6)
