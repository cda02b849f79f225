"""A process to kill: a small run that resumes if it can, slowed so that there is time to kill it."""

import json
import sys
import time
from pathlib import Path

import torch
from helpers.small_training import fingerprint, small_recipe, small_run

torch.set_num_threads(1)
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
found = small_run(
    folder, small_recipe(), resume=True, checkpoint_seconds=0.3, progress=lambda *_: time.sleep(0.05)
)
out.write_text(json.dumps(fingerprint(found)))
