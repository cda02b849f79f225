"""Prune inside a Lightning module: `python examples/lightning_loop.py` (needs `pip install lightning`)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lightning as L
import torch
from plain_loop import Net, accuracy, digits, train_dense
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import dtp_edge as dtp


class Pruning(L.LightningModule):
    """The pruner is an ordinary submodule; the plan advances after every batch."""

    def __init__(self, pruner: dtp.TransportPruner) -> None:
        super().__init__()
        self.pruner = pruner

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.pruner(x), y)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.pruner.step()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = self.pruner.parameter_groups(lr=0.05, weight_decay=5e-4)
        return torch.optim.SGD(groups, lr=0.05, momentum=0.9)


class Tuning(L.LightningModule):
    """After the cut the compact network is trained as any other."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.network(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def trainer(steps: int) -> L.Trainer:
    return L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="rpi4-ncnn-fp32-1t")
    parser.add_argument("--latency", default="60%")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()

    torch.manual_seed(0)
    x, y = digits()
    x_test, y_test, x, y = x[:400], y[:400], x[400:], y[400:]
    model = Net()
    train_dense(model, x, y, options.steps)
    print(f"dense accuracy {accuracy(model, x_test, y_test):.3f}")

    budget = dtp.Budget(latency=options.latency)
    pruner = dtp.TransportPruner(
        model, x[:1], device=options.device, budget=budget, total_steps=options.steps
    )
    pruner.train()  # the copy of a model that was evaluated is in eval mode
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True, drop_last=True)
    trainer(options.steps).fit(Pruning(pruner), loader)
    result = pruner.finish(out=options.out)
    print(f"pruned accuracy {accuracy(result.module, x_test, y_test):.3f}")
    trainer(options.steps // 4).fit(Tuning(result.module.train()), loader)
    print(f"tuned accuracy {accuracy(result.module, x_test, y_test):.3f}")
    print(f"widths {result.widths}")


if __name__ == "__main__":
    main()
