"""Pruning without labels on networks for 224 x 224: agreement with the dense network, minutes, memory.

    python -m benchmarks.calibration_networks --model mobilenetv2 --weights FILE \\
        --data cifar10:DIR --budget latency=70%
    python -m benchmarks.calibration_networks --model dinov2-small --weights vit_s_focus.onnx --size 112 ...
    python -m benchmarks.calibration_networks --model torchvision:resnet50 ...    # without weights: time and
    python -m benchmarks.calibration_networks --table                             # memory alone

Pictures are photographs of CIFAR-10 made larger to the network's input, in ImageNet's range: real, but soft.
Those that judge took no part. One process a row, so that peak memory is the row's own. Methods: `ours` is
`--calibrate`; `magnitude` cuts by the weights' size with batch norms re-estimated, `magnitude+fit` with plain
least squares besides.
"""

from __future__ import annotations

import argparse
import copy
import resource
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.accuracy.page import about_origin
from benchmarks.dinov2_small import backbone, probed
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.run.calibrated_widths import keep_by_calibration
from dtp_edge.run.calibration_samples import in_small_batches
from dtp_edge.run.calibration_set import affordable
from dtp_edge.run.output_error import compared, outputs_of
from dtp_edge.run.task import Task
from dtp_edge.run.trials import RIDGE
from dtp_edge.surgery import compact, refit
from dtp_edge.training import load_data
from dtp_edge.training.feed import Feed
from dtp_edge.training.recalibrate import renew
from dtp_edge.transport import Budget, initial_scores
from dtp_edge.zoo import resolve_model

PROBED, PROBING = "dinov2-small", 640  # its name here, and how many pictures its probe is fitted on
METHODS = "magnitude,magnitude+fit,ours"
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


opened = cache(load_data)


def pictures(spec: str, part: str, count: int, size: int, seed: int) -> Iterator[tuple[Tensor]]:
    """Batches of 32 pictures as a network of ImageNet reads them; CIFAR-10's own range is undone first."""
    yield from ((x,) for x, _ in labelled(spec, part, count, size, seed))


def labelled(
    spec: str, part: str, count: int, size: int, seed: int, skip: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    data: Any = opened(spec).split(part)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[skip : skip + count]
    mean, spread = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, SPREAD))
    for x, y in data.subset(order).ordered(32):
        low = x.amin((0, 2, 3), keepdim=True)
        unit = (x - low) / (x.amax((0, 2, 3), keepdim=True) - low)
        yield (F.interpolate(unit, (size, size), mode="bicubic").clamp(0, 1) - mean) / spread, y


def network_of(options: argparse.Namespace) -> tuple[torch.nn.Module, Tensor]:
    """Return MODEL and an input; `dinov2-small` is timm's with a file's weights and a probe of pictures."""
    if options.model != PROBED:
        model, (x,), _ = resolve_model(options.model, options.weights, 1000, (3, options.size, options.size))
        return model.eval(), x
    asked = {"size": options.size, "seed": options.seed, "skip": options.images}  # others than calibrate
    read = labelled(options.data, "train", PROBING, **asked)
    vit = backbone(Path(options.weights), options.size)
    return probed(vit, read, 10), torch.zeros(1, 3, options.size, options.size)


def made(method: str, task: Task, batches: list[Any], seed: int) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Cut and repair; return the network and its widths."""
    network, batches = task.network, in_small_batches(batches, task.network)
    dense = copy.deepcopy(network.module).state_dict()
    if method == "ours":
        keep = keep_by_calibration(task, batches, seed).keep
    else:
        keep = task.harden(initial_scores(network))
    cut = compact(network, keep)
    given = affordable(batches)
    if method == "ours":
        refit(network, cut, dense, given, ridge=RIDGE, seed=seed, streams=True)
    else:
        if method.endswith("+fit"):
            refit(network, cut, dense, given, seed=seed)
        renew(cut.module, [(x, None) for (x,) in batches], Feed())
    return cut.module, network.widths(keep)


def row_of(options: argparse.Namespace) -> dict[str, Any]:
    model, x = network_of(options)
    asked = {"count": options.images, "size": options.size, "seed": options.seed}
    batches = list(pictures(options.data, "train", **asked))
    judges = list(pictures(options.data, "test", **(asked | {"count": 256})))
    wanted = outputs_of(model, judges)
    kind, _, share = options.budget.partition("=")
    wall, cpu = time.time(), time.process_time()
    network = trace_network(model, (x,), depth=options.method == "ours")
    task = Task.of(network, load_profile(options.device), Budget(**{kind: share}))
    module, widths = made(options.method, task, batches, options.seed)
    row: dict[str, Any] = {"seconds": time.time() - wall, "cpu_seconds": time.process_time() - cpu}
    row["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    error, agreement = compared(outputs_of(module, judges), wanted)
    names = ("model", "method", "budget", "device", "seed", "images", "size", "threads")
    known = {name: getattr(options, name) for name in names} | {"trained": options.weights is not None}
    return known | {"output_error": error, "agreement": agreement, "widths": widths} | row


def whole_page() -> str:
    rows = EXPERIMENTS["calibration_networks"].read()
    lines = ["# Pruning without labels: networks for 224 x 224", "", (__doc__ or "").split("\n\n")[2], ""]
    names = "network,size,budget,method,output error,top class agrees,seconds,CPU seconds,threads,peak MiB"
    lines += [f"| {' | '.join(names.split(','))} |", "|---" * 10 + "|"]
    for row in rows:
        trained = row["trained"]
        near = [f"{row['output_error']:.3f}", f"{row['agreement']:.1%}"] if trained else ["no weights", ""]
        cost = [f"{row[k]:.0f}" for k in ("seconds", "cpu_seconds", "threads", "peak_rss_mib")]
        about = [str(row[k]) for k in ("model", "size", "budget", "method")]
        lines.append(f"| {' | '.join([*about, *near, *cost])} |")
    return "\n".join([*lines, "", *about_origin(rows)]).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mobilenetv2")
    parser.add_argument("--weights")
    parser.add_argument("--data")
    parser.add_argument("--budget", default="latency=70%")
    parser.add_argument("--device", default="rpi4-ncnn-fp32-1t")
    parser.add_argument("--method", default="ours", choices=METHODS.split(","))
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.table:
        print(whole_page())
        return
    row = row_of(options)
    EXPERIMENTS["calibration_networks"].append(row, options.out)
    print({k: v for k, v in row.items() if k != "widths"}, flush=True)


if __name__ == "__main__":
    main()
