"""One of two processes (started by torchrun): a whole small run; in the second a loss is not finite, once."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.small_training import SmallNet, small_data, small_recipe

from dtp_edge import Budget, prune_for_device
from dtp_edge.graph import trace_network
from dtp_edge.surgery import compact
from dtp_edge.training import loop
from dtp_edge.training.runtime import Runtime

torch.set_num_threads(1)
rank, calls, plain = int(os.environ["RANK"]), [0], loop.training_loss


def spoilt(*args: Any) -> torch.Tensor:
    calls[0] += 1
    return plain(*args) * (float("nan") if rank == 1 and calls[0] == 6 else 1.0)


def agreed(recipe: Any) -> tuple[int, list[float]]:
    """The number of processes; a graph's running means, which were 0 in one and 1 in the other."""
    network = trace_network(SmallNet(), (torch.zeros(1, 1, 8, 8),))
    graph = compact(network, np.ones(network.n_atoms, dtype=bool), in_place=False).graph_module
    means = [t for name, t in graph.state_dict().items() if name.endswith("running_mean")]
    runtime = Runtime(recipe)
    for mean in means:
        mean.fill_(float(rank))
    runtime.agree(graph)
    return runtime.world, sorted({float(value) for mean in means for value in mean})


loop.training_loss = spoilt
torch.manual_seed(0)
recipe = small_recipe(base_epochs=1, base_learning_rate=0.02, mask_epochs=0.5, tune_epochs=0.5, ema=0.0)
found = prune_for_device(
    SmallNet(),
    torch.zeros(1, 1, 8, 8),
    device="rpi4-ncnn-fp32-1t",
    budget=Budget(macs="50%"),
    data=small_data(),
    recipe=recipe,
    out=Path(sys.argv[1]) / "out",
)
world, means = agreed(recipe)
state = {
    "world": world,
    "means": means,
    "warnings": found.warnings,
    "accuracy": found.report["accuracy"],
    "widths": found.widths,
    "sums": [float(t.double().abs().sum()) for t in found.module.state_dict().values()],
}
Path(sys.argv[1], f"rank{rank}.json").write_text(json.dumps(state))
