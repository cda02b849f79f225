"""int8 that loses points comes back: a depthwise network, weights in one scale a tensor, before and after.

    python -m benchmarks.int8_recovered            # writes a row into results/int8_recovered.jsonl

A small depthwise network learns the digits of scikit-learn; then each channel between two layers is scaled
by 2^u, u uniform in [-octaves, octaves], and the next layer's weights by its inverse: the same function
(ReLU), but the channels of a tensor have ranges that one scale cannot serve, as batch norms leave it in
depthwise networks.
Pruning, int8 and what recovers it are those of `prune-for-device --int8 --int8-per-tensor`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import torch
from torch import nn

import dtp_edge as dtp
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.run.options import Options
from dtp_edge.run.pipeline import prune
from dtp_edge.training import Recipe, load_data

TABLE = EXPERIMENTS["int8_recovered"]
DEVICE = "stm32h747-cubeai-int8"


class Depthwise(nn.Module):
    def __init__(self, width: int = 32, blocks: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        self.depth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width) for _ in range(blocks))
        self.point = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(blocks))
        self.head = nn.Linear(width, classes)
        for part in (self.enter, *self.depth, *self.point):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.zeros_(part.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x).relu()
        for depth, point in zip(self.depth, self.point, strict=True):
            x = point(depth(x).relu()).relu()
        return self.head(x.mean(dim=(2, 3)))


@torch.no_grad()
def spread_channels(model: Depthwise, octaves: float) -> None:
    """Scale the channels behind each depthwise convolution, and take it back in the next one."""
    generator = torch.Generator().manual_seed(0)
    for depth, point in zip(model.depth, model.point, strict=True):
        factor = torch.exp2((2 * torch.rand(len(depth.weight), generator=generator) - 1) * octaves)
        depth.weight.mul_(factor.view(-1, 1, 1, 1))
        depth.bias.mul_(factor)
        point.weight.div_(factor.view(1, -1, 1, 1))


def train(model: nn.Module, data: object, epochs: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        for x, y in data.train.shuffled(64, seed=0, epoch=epoch):  # type: ignore[attr-defined]
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()


@click.command()
@click.option("--octaves", default=5.0, help="Channels differ by up to twice as many.")
@click.option("--epochs", default=40)
@click.option("--tune", default=6.0, help="Epochs of fine-tuning, and of training with roundings.")
@click.option("--rate", default=0.02)
def main(octaves: float, epochs: int, tune: float, rate: float) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    started = time.monotonic()
    data, model = load_data("digits"), Depthwise()
    train(model, data, epochs)
    spread_channels(model, octaves)
    recipe = Recipe(mask_epochs=2, tune_epochs=tune, tune_learning_rate=rate, mask_learning_rate=rate / 10)
    with tempfile.TemporaryDirectory() as folder:
        options = Options(
            budget=dtp.Budget(macs="60%"),
            device=DEVICE,
            data=data,
            recipe=recipe,
            out=Path(folder) / "run",
            int8=True,
            int8_method="minmax",
            int8_per_tensor=True,
            depth=False,
        )
        report = prune(model.eval(), torch.zeros(2, *data.input_shape), options).report
    found, accuracy = report["int8"], report["accuracy"]
    row = {"network": "depthwise", "octaves": octaves, "base": accuracy["base"], "pruned": accuracy["pruned"]}
    row |= {key: found[key] for key in ("accuracy", "fp32_accuracy", "how", "trials", "training")}
    row["n_test"] = accuracy["n_test"]
    row["sensitivity"] = found["sensitivity"][:5]
    row["seconds"] = round(time.monotonic() - started)
    TABLE.append(row)
    click.echo(row)


if __name__ == "__main__":
    main()
