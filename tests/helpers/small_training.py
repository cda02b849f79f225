"""A small data set, a small network with everything that carries state, and a whole run on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.training import DataSource, Recipe, TrainingOutcome, load_data, run_training


class SmallNet(nn.Module):
    """Residual, batch norm, dropout: `[B, 1, 8, 8] -> [B, 10]`."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 12, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(12)
        self.conv3 = nn.Conv2d(12, 20, 3, stride=2, padding=1)
        self.bn3 = nn.BatchNorm2d(20)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = (x + self.bn2(self.conv2(x))).relu()
        x = self.bn3(self.conv3(x)).relu()
        return self.linear(self.dropout(x.mean((2, 3))))


def small_data() -> DataSource:
    return load_data("digits", image_size=8)


def small_recipe(**changes: Any) -> Recipe:
    return Recipe(
        **({"base_epochs": 2, "mask_epochs": 1, "tune_epochs": 1, "batch_size": 64, "ema": 0.9} | changes)
    )


def small_run(
    folder: Path | None, recipe: Recipe, *, resume: bool = False, **options: Any
) -> TrainingOutcome:
    """The real boxes: trace, MACs budget of a half, masks, surgery."""
    from dtp_edge.graph import trace_network
    from dtp_edge.measure import load_profile
    from dtp_edge.run.task import Task
    from dtp_edge.surgery import compact
    from dtp_edge.transport import Budget

    torch.manual_seed(recipe.seed)
    model = SmallNet()
    network = trace_network(model, (torch.zeros(1, 1, 8, 8),))
    task = Task.of(network, load_profile("rpi4-ncnn-fp32-1t"), Budget(macs="50%"))
    outcome = run_training(
        model,
        options.pop("data", None) or small_data(),
        recipe,
        make_learner=task.learner,
        cut=lambda keep: compact(network, keep).module,
        checkpoint_dir=folder,
        resume=resume,
        **options,
    )
    assert task.check(outcome.keep).passed
    return outcome


def fingerprint(outcome: TrainingOutcome) -> dict[str, Any]:
    """Everything that must be the same, bit for bit, when a run was interrupted and resumed."""
    state = outcome.module.state_dict()
    return {
        "keep": outcome.keep.tolist(),
        "accuracy": outcome.accuracy,
        "holdout": outcome.holdout_accuracy,
        "weights": {k: v.numpy().tobytes().hex()[:200] for k, v in state.items()},
        "sums": {k: float(v.double().sum()) for k, v in state.items()},
        "losses": [row["loss"] for row in outcome.curves],
    }
