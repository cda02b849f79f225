"""A run on boxes, alone or as one of several processes; it goes on from a checkpoint if there is one.

`child_boxes.py FOLDER SECONDS`: so long each step is held up, so that there is time to kill it.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
from helpers.small_boxes import HeatNet, boxes_data, boxes_recipe, figures

import dtp_edge as dtp
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.pipeline import prune

torch.set_num_threads(1)
torch.manual_seed(0)
folder, hold = Path(sys.argv[1]), float(sys.argv[2])
recipe = boxes_recipe(accumulate=1)
options = Options(
    dtp.Budget(macs="50%"), device="stm32h747-cubeai-int8", data=boxes_data(), recipe=recipe,
    out=folder / "out", measure=False, resume=(folder / "out/checkpoint/run.json").exists(),
)  # fmt: skip
listener = Listener(lambda *_: time.sleep(hold))
result = prune(HeatNet(), torch.zeros(1, 1, 24, 24), options, listener)
(folder / f"rank{os.environ.get('RANK', '0')}.json").write_text(json.dumps(figures(result)))
