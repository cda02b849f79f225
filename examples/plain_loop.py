"""Prune inside your own PyTorch loop.

    python examples/plain_loop.py --device rpi4-ncnn-fp32-1t --latency 60% --out runs/plain

Three things differ from a loop without pruning: the model is wrapped, `pruner.step()` follows
`optimizer.step()`, and `pruner.finish()` hands back the compact network.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dtp_edge as dtp


class Net(nn.Module):
    """A small residual network for 8 x 8 digits; put your own here."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, width, 3, padding=1), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(F.relu(x + self.body(x)).mean((2, 3)))


def digits() -> tuple[Tensor, Tensor]:
    """1,797 images `[N, 1, 8, 8]` and their labels, from inside scikit-learn."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.tensor(found.images, dtype=torch.float32)[:, None] / 8 - 1
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order], torch.tensor(found.target)[order]


def batches(x: Tensor, y: Tensor, steps: int, size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        pick = torch.randint(len(x), (size,), generator=generator)
        yield x[pick], y[pick]


def train_dense(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for xs, ys in batches(x, y, steps):
        F.cross_entropy(model(xs), ys).backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return float((model.eval()(x).argmax(1) == y).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="rpi4-ncnn-fp32-1t", help="a profile's name or path, or host")
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

    budget, steps = dtp.Budget(latency=options.latency), options.steps
    pruner = dtp.TransportPruner(model, x[:1], device=options.device, budget=budget, total_steps=steps)
    optimizer = torch.optim.SGD(pruner.parameters(), lr=0.05, momentum=0.9)
    pruner.train()
    for xs, ys in batches(x, y, steps):
        F.cross_entropy(pruner(xs), ys).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    result = pruner.finish(out=options.out)
    print(f"pruned accuracy {accuracy(result.module, x_test, y_test):.3f}")
    print(f"widths {result.widths}")


if __name__ == "__main__":
    main()
