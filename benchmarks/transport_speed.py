"""What the transport costs: the plan against POT, and a training step with masks against the dense step.

    python -m benchmarks.transport_speed plan      # 1e6 atoms: entropic_mask against POT's Sinkhorn
    python -m benchmarks.transport_speed step      # interleaved steps: ResNet-20 x 128, MobileNetV2 x 16;
                                                   # with soft, hardening and hard masks

"Reading" is shown twice: sums touch no memory but the scores', copies also write as much as they read.
The mask and its gradient are two new tensors, so writing two is what no solver can go below.
Times are medians of interleaved repeats in one process. CPU seconds are printed beside wall seconds,
because on a shared machine only they can be compared.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.experiments import EXPERIMENTS
from dtp_edge import zoo
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.run.task import Task
from dtp_edge.training.subnormals import flushed
from dtp_edge.transport import Budget, MaskLearner, entropic_mask

STEPS = 1000
PHASES = {"soft": 0.05, "hardening": 0.95, "hard": 1.0}  # shares of the steps that a phase is timed behind


def timed(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Return `{name: (median wall, median CPU seconds)}` of interleaved runs, after one warm-up each."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            spent = (time.perf_counter() - wall, time.process_time() - cpu)
            if repeat:
                found[name].append(spent)
    return {
        name: (statistics.median(w for w, _ in rows), statistics.median(c for _, c in rows))
        for name, rows in found.items()
    }


def plan(atoms: int, repeats: int, epsilon: float) -> dict[str, object]:
    """Solve one row of `atoms` scores; POT is run once, to the same error of the mask's marginal."""
    import ot

    generator = torch.Generator().manual_seed(0)
    scores = 0.5 + 0.1 * torch.randn(atoms, dtype=torch.float64, generator=generator)
    costs = 0.1 + torch.rand(atoms, dtype=torch.float64, generator=generator)
    budget = 0.3 * float(costs.sum())
    leaf, upstream = scores.clone().requires_grad_(), torch.randn(atoms, dtype=torch.float64)

    def both() -> None:
        leaf.grad = None
        entropic_mask(leaf, costs, budget, epsilon).backward(upstream)

    runs: dict[str, Callable[[], object]] = {
        "mask": lambda: entropic_mask(scores, costs, budget, epsilon),
        "mask and gradient": both,
        "read the scores 8 times (sum)": lambda: [scores.sum() for _ in range(8)],
        "copy the scores 8 times": lambda: [scores.clone() for _ in range(8)],
        "write two new tensors": lambda: [torch.zeros_like(scores).add_(1) for _ in range(2)],
    }
    print(f"{atoms} atoms, epsilon {epsilon}")
    times = timed(runs, repeats)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        both()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    mask = entropic_mask(scores, costs, budget, epsilon)
    residual = abs(float((costs * mask).sum()) / budget - 1)
    source = (costs / costs.sum()).numpy()
    distance = (scores.numpy()[:, None] - np.array([0.0, 1.0])) ** 2
    wall, cpu = time.perf_counter(), time.process_time()
    found, log = ot.sinkhorn(
        source,
        np.array([0.7, 0.3]),
        distance,
        epsilon,
        method="sinkhorn",
        numItermax=100_000,
        stopThr=1e-10,
        log=True,
    )
    times["POT sinkhorn, stop 1e-10"] = (time.perf_counter() - wall, time.process_time() - cpu)
    gap = float(np.abs(found[:, 1] / source - mask.numpy()).max())
    for name, (wall, cpu) in times.items():
        print(f"{name:32} {1e3 * wall:10.2f} ms wall {1e3 * cpu:10.2f} ms CPU")
    pot, ours = times["POT sinkhorn, stop 1e-10"], times["mask"]
    print(
        f"POT / mask: {pot[0] / ours[0]:.0f}x wall, {pot[1] / ours[1]:.0f}x CPU ({log['niter']} iterations)"
    )
    both_time = times["mask and gradient"]
    for name in ("read the scores 8 times (sum)", "copy the scores 8 times", "write two new tensors"):
        ratio = both_time[0] / times[name][0], both_time[1] / times[name][1]
        print(f"mask and gradient / {name}: {ratio[0]:.2f}x wall, {ratio[1]:.2f}x CPU")
    print(f"budget residual {residual:.1e}; largest difference from POT {gap:.1e}; memory grown {grown} KiB")
    return {
        "atoms": atoms,
        "epsilon": epsilon,
        "times": times,
        "residual": residual,
        "gap": gap,
        "grown_kib": grown,
    }


def step(name: str, size: int, repeats: int) -> list[dict[str, object]]:
    """One SGD step of the dense network and of the same network with masks, in turn, in every phase."""
    torch.manual_seed(0)
    dense = zoo.create(name)
    example = zoo.example_input(name)
    network = trace_network(copy.deepcopy(dense), (example,))
    task = Task.of(network, load_profile("rpi4-ncnn-fp32-1t"), Budget(latency="60%"))
    # four times the usual spread, as learned scores have it: masks of 1e-60 and less while they harden
    learner = task.learner(STEPS, logit_scale=400.0)
    x = torch.randn(size, *example.shape[1:])
    y = torch.randint(0, 10, (size,))

    def stepper(module: nn.Module, parameters: list[Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9)
        module.train()

        def run() -> None:
            nn.functional.cross_entropy(module(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            if isinstance(module, MaskLearner):
                module.step()

        return run

    runs: dict[str, Callable[[], object]] = {
        "dense": stepper(dense, list(dense.parameters())),
        "masked": stepper(learner, list(learner.parameters())),
    }
    print(f"{name} x {size}, {network.n_atoms} channels, {repeats} pairs a phase:")
    rows: list[dict[str, object]] = []
    for phase, share in PHASES.items():
        while int(learner.steps_done) < round(share * STEPS):
            learner.step()
        with flushed(torch.device("cpu")):  # as the training loop does
            times = timed(runs, repeats)
        (wall, cpu), (masked_wall, masked_cpu) = times["dense"], times["masked"]
        wall_ratio, cpu_ratio = masked_wall / wall, masked_cpu / cpu
        print(f"  {phase:9} dense {1e3 * cpu:6.0f} masked {1e3 * masked_cpu:6.0f} ms CPU", end="")
        print(f"  ratio {wall_ratio:.3f}x wall {cpu_ratio:.3f}x CPU", flush=True)
        rows.append({"network": name, "batch": size, "phase": phase, "times": times})
        rows[-1] |= {"wall": wall_ratio, "cpu": cpu_ratio}
    return rows


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("what", choices=("plan", "step"))
    parser.add_argument("--atoms", type=int, default=1_000_000)
    parser.add_argument("--epsilons", type=float, nargs="*", default=[0.05, 0.02, 0.005, 0.002])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--networks", nargs="*", default=["resnet20:128", "mobilenetv2:16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.what == "plan":
        rows = [plan(options.atoms, options.repeats, epsilon) for epsilon in options.epsilons]
    else:
        pairs = [spec.split(":") for spec in options.networks]
        rows = [row for name, size in pairs for row in step(name, int(size), options.repeats)]
    experiment = EXPERIMENTS[f"transport_speed_{options.what}"]
    experiment.document({"threads": options.threads, "rows": rows}, options.out)


if __name__ == "__main__":
    main()
