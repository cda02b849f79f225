"""What the accuracy benchmarks share: the base in a file, Torch-Pruning in one shot, uniform cuts, MACs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dtp_edge.graph import PrunableNetwork

# Torch-Pruning's importances, ranked over the whole network or layer by layer
PEER_SETTINGS = [f"{kind}-{scope}" for kind in ("l2", "taylor", "group") for scope in ("global", "local")]


def base_in_file(model: nn.Module, path: Path, train: Callable[[], None], score: Callable[[], Any]) -> Any:
    """Give `model` the base's weights: those in the file, or else those that `train` leaves, kept there.

    Returns what `score` says of the base (JSON), asked once and kept beside the weights.
    """
    from safetensors.torch import load_file, save_file

    if path.is_file():
        model.load_state_dict(load_file(path))
    else:
        train()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: t.cpu().contiguous() for k, t in model.state_dict().items()}, path)
    known = path.with_suffix(".json")
    if not known.is_file():
        known.write_text(json.dumps(score()))
    return json.loads(known.read_text())


def same_share(network: PrunableNetwork, scores: np.ndarray, share: float) -> np.ndarray:
    """Which atoms stay: those of largest score, the same share of every group."""
    keep = np.zeros(network.n_atoms, dtype=bool)
    for group in network.groups:
        count = max(1, int(share * (group.stop - group.start)))
        keep[group.start + np.argsort(-scores[group.start : group.stop])[:count]] = True
    return keep


def macs_of(module: nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulates by torch's own counter, for both sides."""
    x = x.to(next(module.parameters()).device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(x)
    return counter.get_total_flops() // 2


def padded_inside(model: nn.Module) -> list[nn.Module]:
    """Convolutions outside the blocks of a network whose shortcuts pad channels; [] for other networks."""
    from dtp_edge.zoo.resnet import CifarResNet

    if not isinstance(model, CifarResNet):
        return []
    return [m for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and not n.endswith("conv1")] + [
        model.conv1
    ]


def bisect(fits: Callable[[float], bool], steps: int = 12) -> float:
    """The largest share in 0..1 that fits, for a monotone test."""
    low, high = 0.0, 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def prune_with_peer(
    model: nn.Module,
    x: torch.Tensor,
    kind: str,
    everywhere: bool,
    ratio: float,
    batches: list[Any],
    round_to: int | None = None,
) -> nn.Module:
    """One-shot Torch-Pruning with the importance that its own examples use for that name.

    With `round_to` the widths are multiples of it.
    """
    import torch_pruning as tp

    importance = {
        "l2": lambda: tp.importance.MagnitudeImportance(p=2),
        "taylor": lambda: tp.importance.GroupTaylorImportance(),
        "group": lambda: tp.importance.GroupMagnitudeImportance(p=2),
    }[kind]()
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    ignored = [last, *padded_inside(model)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            model,
            x,
            importance=importance,
            pruning_ratio=ratio,
            global_pruning=everywhere,
            max_pruning_ratio=0.95,
            round_to=round_to,
            ignored_layers=ignored,
        )
        if kind == "taylor":
            model.eval()
            for inputs, labels in batches:
                nn.functional.cross_entropy(model(inputs), labels).backward()
        pruner.step()
    model.zero_grad()
    return model
