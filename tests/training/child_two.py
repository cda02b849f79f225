"""One of several processes (started by torchrun): a small run, written down by the first of them."""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from helpers.small_training import small_recipe, small_run

torch.set_num_threads(1)
recipe = small_recipe(base_epochs=4, tune_epochs=2, base_learning_rate=0.1, tune_learning_rate=0.1, ema=0.0)
found = small_run(Path(sys.argv[1]) / "checkpoint", recipe)
state = {
    "world": PartialState().num_processes,
    "keep": found.keep.tolist(),
    "accuracy": found.accuracy,
    "sum": sum(float(t.double().abs().sum()) for t in found.module.state_dict().values()),
    "holdout": found.holdout_accuracy,
    "curve": [row["holdout_accuracy"] for row in found.curves if "holdout_accuracy" in row],
}
Path(sys.argv[1], f"rank{os.environ.get('RANK', '0')}.json").write_text(json.dumps(state))
