"""Draw the pictures of the guides with the package's own code: `python tools/pictures.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from dtp_edge.cost import NetworkCost
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.transport import entropic_mask
from dtp_edge.zoo import create, example_input

IMG = Path(__file__).parents[1] / "docs" / "img"
TEAL, ORANGE, GREY = "#0f6f83", "#c8722c", "#7d8891"
plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "dtp_edge",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    }
)


def save(figure: plt.Figure, name: str) -> None:
    IMG.mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(IMG / name, metadata={"Date": None})
    plt.close(figure)


def masks() -> None:
    """Twelve channels, a budget of five: how masks harden as log-odds add up."""
    scores = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64) + 0.05 * torch.sin(torch.arange(12) * 2.0)
    steps, epsilon = 120, 12.0
    prior, history = None, []
    for _ in range(steps):
        mask = entropic_mask(scores, None, 5.0, epsilon, log_prior=prior)
        history.append(mask.numpy())
        prior = torch.logit(mask)
    table = np.array(history)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.9))
    for i in range(table.shape[1]):
        kept = table[-1, i] > 0.5
        left.plot(table[:, i], color=TEAL if kept else GREY, lw=1.4)
    left.set(xlabel="step", ylabel="mask of each channel", ylim=(-0.02, 1.02))
    left.set_title("the masks", loc="left", fontsize=9)
    right.plot(table.sum(1), color=ORANGE, label="Σ m, the budget")
    right.plot((table * (1 - table)).sum(1), color=TEAL, label="Σ m (1 − m), what is still soft")
    right.set(xlabel="step", ylim=(0, 5.6))
    right.set_title("the budget holds at every step", loc="left", fontsize=9)
    right.legend(frameon=False, loc="center right")
    save(figure, "masks.svg")


def staircase() -> None:
    """Predicted latency of ResNet-20 against the width of one group: the true cost, not a sum."""
    network = trace_network(create("resnet20").eval(), (example_input("resnet20"),))
    profile = load_profile("rpi4-ncnn-fp32-1t")
    cost = NetworkCost(network.layers, profile)
    group = max(network.groups, key=lambda g: (g.name.endswith("conv1"), g.total))
    widths = np.arange(1, group.stop - group.start + 1)
    fine = np.linspace(1, widths[-1], 400)

    def latency(kept: float) -> float:
        mask = np.ones(network.n_atoms)
        mask[group.start : group.stop] = kept / (group.stop - group.start)
        return cost.evaluate(network.layers.sizes(mask))["latency_ms"]

    figure, axis = plt.subplots(figsize=(6.2, 2.9))
    axis.plot(fine, [latency(k) for k in fine], color=GREY, lw=1.2, label="between widths, for the gradient")
    axis.plot(widths, [latency(k) for k in widths], "o", ms=2.6, color=TEAL, label="whole channels")
    axis.set(xlabel=f"channels of {group.name}", ylabel="latency, ms")
    axis.set_title("ResNet-20 on a Raspberry Pi 4 (ncnn, fp32), predicted", loc="left", fontsize=9)
    axis.legend(frameon=False, loc="lower right")
    save(figure, "staircase.svg")


if __name__ == "__main__":
    masks()
    staircase()
