"""One of two processes (started by torchrun): in the second a loss is not finite, once."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from helpers.small_training import SmallNet, small_data, small_recipe

from dtp_edge.training import loop, open_session, train_base

torch.set_num_threads(1)
rank, calls, plain = int(os.environ["RANK"]), [0], loop.training_loss


def spoilt(*args: Any) -> torch.Tensor:
    calls[0] += 1
    return plain(*args) * (float("nan") if rank == 1 and calls[0] == 6 else 1.0)


loop.training_loss = spoilt
torch.manual_seed(0)
net = SmallNet()
session = open_session(small_data(), small_recipe(base_epochs=1, base_learning_rate=0.02, ema=0.0))
train_base(net, session)
found = {
    "world": session.runtime.world,
    "warnings": session.warnings,
    "sums": [float(t.double().abs().sum()) for t in net.state_dict().values()],
}
Path(sys.argv[1], f"rank{rank}.json").write_text(json.dumps(found))
