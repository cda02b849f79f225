"""The small world that the guides' longer commands run in: data sets, checkpoints, runs, a board, a launcher.

A block of a guide with `<!-- prepare: NAMES -->` before it gets these first. Each may also name texts of the
block that are replaced, such as the number of epochs; the command as it is printed is parsed all the same.
"""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parents[2]
DEVICE = "rpi4-ncnn-fp32-1t"
Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Preparation:
    """What a block needs: `make(folder, patch, names)`, and texts of the block that are replaced."""

    make: Callable[[Path, Patch, dict[str, Any]], None]
    replace: dict[str, str] = field(default_factory=dict)
    undo: Callable[[], None] | None = None


def _weights(network: str, path: Path) -> None:
    from dtp_edge.zoo import create

    torch.manual_seed(0)
    save_file({k: v.contiguous() for k, v in create(network).state_dict().items()}, path)


def _cifar(folder: Path, patch: Patch, names: dict[str, Any]) -> None:
    """CIFAR-10's own layout with 60 pictures of noise, and the checkpoint of a smaller network."""
    batches = folder / "DIR" / "cifar-10-batches-py"
    batches.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        data = random.integers(0, 256, (10, 3072), dtype=np.uint8)
        (batches / name).write_bytes(pickle.dumps({b"data": data, b"labels": list(range(10))}))
    _weights("resnet8", folder / "resnet20.safetensors")


def _checkpoint(folder: Path, patch: Patch, names: dict[str, Any]) -> None:
    _weights("resnet20", folder / "resnet20.safetensors")


def _host(folder: Path, patch: Patch, names: dict[str, Any]) -> None:
    """A profile of "this machine" in a cache of its own: nothing has to be measured."""
    from dtp_edge.measure.host import CACHE_VARIABLE, cache_path

    patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
    source = ROOT / "hardware_profiles" / "epyc-zen5-onnxruntime-fp32-1t.json"
    cache_path().parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, cache_path())


NOISE = """\
import torch
from torch.utils.data import TensorDataset


def sets():
    x, y = torch.randn(60, {shape}), torch.arange(60) % {classes}
    return TensorDataset(x[:36], y[:36]), TensorDataset(x[36:], y[36:])
"""


def _words(folder: Path, patch: Patch, names: dict[str, Any]) -> None:
    """A data set of one's own for the microcontroller, of noise in twelve classes, and a checkpoint."""
    _weights("dscnn", folder / "dscnn.safetensors")
    (folder / "mydata.py").write_text(NOISE.format(shape="1, 49, 10", classes=12))


def _demo(folder: Path, patch: Patch, names: dict[str, Any]) -> None:
    """The demo on 60 pictures of noise in place of the 1,797 digits."""
    _host(folder, patch, names)
    (folder / "noise.py").write_text(NOISE.format(shape="1, 32, 32", classes=10))


@functools.cache
def _finished_run() -> tempfile.TemporaryDirectory[str]:
    """One run for all guides."""
    import dtp_edge as dtp
    from dtp_edge.zoo import create

    torch.manual_seed(0)
    folder = tempfile.TemporaryDirectory()
    dtp.prune_for_device(
        create("resnet8"),
        torch.zeros(1, 3, 32, 32),
        device=DEVICE,
        budget=dtp.Budget(latency="60%"),
        out=Path(folder.name) / "run",
    )
    return folder


def _runs(folder: Path, patch: Patch, names: dict[str, Any]) -> None:
    """Finished runs under the names that the guides use."""
    for name in ("one-shot", "a", "b", "x", "r20", "r20-60", "r20-45", "r20-30"):
        if not (folder / "runs" / name).exists():
            shutil.copytree(Path(_finished_run().name) / "run", folder / "runs" / name)


def _measuring(folder: Path, patch: Patch, names: dict[str, Any]) -> None:
    """The measurement of this machine in miniature, on a machine that may be busy with other tests."""
    from dtp_edge.measure import procedure as measure
    from dtp_edge.measure.host import CACHE_VARIABLE

    patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
    patch.setattr(measure, "FULL", measure.Effort(24, batch=24, visits=2, runs=2, least_cpu_share=0.0))
    patch.setattr(measure.Reference, "refuse_if_busy", lambda self: None)


def _script(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def _programs(folder: Path, patch: Patch, names: dict[str, Any]) -> None:
    """A folder of programs at the front of PATH: this Python, ours, and accelerate's launcher."""
    bin_ = folder / "bin"
    for name in ("python", "python3"):
        _script(bin_ / name, f'exec "{sys.executable}" "$@"')
    (bin_ / "prune-for-device").write_text("from dtp_edge.cli import prune_main\nprune_main()\n")
    (bin_ / "prune-for-device").chmod(0o755)
    _script(bin_ / "accelerate", f'exec "{sys.executable}" -m accelerate.commands.accelerate_cli "$@"')
    _script(bin_ / "torchrun", f'exec "{sys.executable}" -m torch.distributed.run "$@"')
    patch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("PYTHONPATH", str(ROOT))
    patch.setenv("OMP_NUM_THREADS", "1")


def _board(folder: Path, patch: Patch, names: dict[str, Any]) -> None:
    """A board that is a folder: scp copies into it and out of it, ssh runs a line there."""
    from dtp_edge import measure

    _programs(folder, patch, names)
    home = folder / "home-of-the-board"
    home.mkdir()
    place = f'sed "s#^board:#{home}/#"'
    _script(folder / "bin" / "scp", f'cp "$(echo "$1" | {place})" "$(echo "$2" | {place})"')
    _script(folder / "bin" / "ssh", f'test "$1" = board && cd "{home}" && sh -c "$2"')
    whole = measure.write_kit
    patch.setattr(measure, "write_kit", lambda path, progress=None: whole(path, 20, progress))


def _group(folder: Path, patch: Patch, names: dict[str, Any]) -> None:
    """A process group of one, and the network, optimiser and data of "Your own training loop"."""
    import dtp_edge as dtp
    from dtp_edge.zoo import create

    torch.distributed.init_process_group(
        "gloo", init_method=(folder / "group").as_uri(), rank=0, world_size=1
    )
    torch.manual_seed(0)
    loader = [(torch.randn(4, 3, 32, 32), torch.randint(0, 10, (4,))) for _ in range(3)]
    pruner = dtp.TransportPruner(
        create("resnet8"),
        torch.zeros(1, 3, 32, 32),
        device=DEVICE,
        budget=dtp.Budget(latency="60%"),
        total_steps=3,
    )
    optimizer = torch.optim.SGD(pruner.parameters(), lr=0.02)
    names |= {"torch": torch, "F": torch.nn.functional, "pruner": pruner.train()}
    names |= {"loader": loader, "optimizer": optimizer}


SMALLER = {
    "--num_processes 4": "--num_processes 1",
    "--nproc_per_node 4": "--nproc_per_node 2",
    "-m venv": "-m venv --without-pip",
}
PREPARATIONS = {
    "cifar": Preparation(_cifar, {"--epochs 20": "--epochs 1", "resnet20 --weights": "resnet8 --weights"}),
    "checkpoint": Preparation(_checkpoint),
    "host": Preparation(_host),
    "words": Preparation(_words, {"--epochs 30": "--epochs 1"}),
    "demo": Preparation(_demo, {"--demo": "--demo --epochs 1 --data noise.py:sets"}),
    "runs": Preparation(_runs),
    "measuring": Preparation(_measuring, {"check host": "check host resnet8 --seconds 1"}),
    "board": Preparation(_board, {"measure.py": "measure.py --visits 1 --least-cpu-share 0"}),
    "programs": Preparation(_programs, SMALLER),
    "group": Preparation(_group, undo=torch.distributed.destroy_process_group),
}
