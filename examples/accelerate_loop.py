"""Prune inside an accelerate loop: `accelerate launch examples/accelerate_loop.py` or plain `python`.

Several processes may run it: gradients are averaged, so every rank advances the same plan.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from plain_loop import Net, accuracy, batches, digits, train_dense
from torch.nn import functional as F

import dtp_edge as dtp


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="rpi4-ncnn-fp32-1t")
    parser.add_argument("--latency", default="60%")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()

    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    x, y = digits()
    x_test, y_test, x, y = x[:400], y[:400], x[400:], y[400:]
    model = Net()
    train_dense(model, x, y, options.steps)
    accelerator.print(f"dense accuracy {accuracy(model, x_test, y_test):.3f}")

    budget = dtp.Budget(latency=options.latency)
    pruner = dtp.TransportPruner(
        model, x[:1], device=options.device, budget=budget, total_steps=options.steps
    )
    optimizer = torch.optim.SGD(pruner.parameter_groups(lr=0.05, weight_decay=5e-4), lr=0.05, momentum=0.9)
    wrapped, optimizer = accelerator.prepare(pruner, optimizer)
    wrapped.train()
    for xs, ys in batches(x, y, options.steps):
        accelerator.backward(F.cross_entropy(wrapped(xs), ys))
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    if accelerator.is_main_process:
        result = pruner.finish(out=options.out)
        print(f"pruned accuracy {accuracy(result.module, x_test, y_test):.3f}")
        print(f"widths {result.widths}")


if __name__ == "__main__":
    main()
