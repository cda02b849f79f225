"""One of several processes (started by torchrun): a run with branches and distilled block outputs."""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState

import dtp_edge as dtp
from dtp_edge.run.options import Options
from dtp_edge.run.pipeline import prune
from dtp_edge.training import load_data

sys.path.insert(0, str(Path(__file__).parent))
from test_depth import DEVICE, network, recipe

torch.set_num_threads(1)
options = Options(
    budget=dtp.Budget(latency="45%"),
    device=DEVICE,
    recipe=recipe(block_distill=2.0, tune_epochs=2),
    data=load_data("digits", image_size=8),
    out=Path(sys.argv[1]) / "run",
    measure=False,
)
found = prune(network(), torch.zeros(1, 1, 8, 8), options)
state = {
    "world": PartialState().num_processes,
    "widths": found.widths,
    "accuracy": found.report["accuracy"],
    "sum": sum(float(t.double().abs().sum()) for t in found.module.state_dict().values()),
}
Path(sys.argv[1], f"rank{os.environ.get('RANK', '0')}.json").write_text(json.dumps(state))
