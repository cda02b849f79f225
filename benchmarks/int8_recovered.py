"""int8 that loses points comes back: a depthwise network, weights in one scale a tensor, before and after.

    python -m benchmarks.int8_recovered [--data cifar10:DIR]   # a row into results/int8_recovered.jsonl

A small depthwise network with batch norms learns the data (scikit-learn's digits by default); then each
channel between a depthwise and a pointwise layer is scaled by 2^u, u uniform in [-octaves, octaves], in its
batch norm, and the next layer's weights by its inverse: the same function (ReLU), but the channels of a
tensor have ranges that one scale cannot serve, as training leaves it in depthwise networks.
Pruning, int8 and what recovers it are those of `prune-for-device --int8 --int8-per-tensor`; what is chosen is
chosen on the hold-out, and the table's accuracies are of the test set.
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
from dtp_edge.int8 import quantize_onnx
from dtp_edge.onnx import evaluate_onnx
from dtp_edge.run.options import Options
from dtp_edge.run.pipeline import prune
from dtp_edge.run.quantised import CALIBRATION_SAMPLES
from dtp_edge.training import DataSource, Recipe, load_data

TABLE = EXPERIMENTS["int8_recovered"]
DEVICE = "stm32h747-cubeai-int8"


class Depthwise(nn.Module):
    """Blocks of a depthwise and a pointwise layer."""

    def __init__(self, channels: int, width: int = 24, blocks: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.enter = layer(channels, width, 3)
        self.depth = nn.ModuleList(layer(width, width, 3, groups=width) for _ in range(blocks))
        self.point = nn.ModuleList(layer(width, width, 1) for _ in range(blocks))
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        for depth, point in zip(self.depth, self.point, strict=True):
            x = point(depth(x))
        return self.head(x.mean(dim=(2, 3)))


def layer(cin: int, cout: int, kernel: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU())


@torch.no_grad()
def spread_channels(model: Depthwise, octaves: float) -> None:
    """Scale the channels behind each depthwise convolution, and take it back in the next one."""
    generator = torch.Generator().manual_seed(0)
    for depth, point in zip(model.depth, model.point, strict=True):
        conv, norm = depth[0], depth[1]  # type: ignore[index]
        factor = torch.exp2((2 * torch.rand(len(conv.weight), generator=generator) - 1) * octaves)
        norm.weight.mul_(factor)
        norm.bias.mul_(factor)
        point[0].weight.div_(factor.view(1, -1, 1, 1))  # type: ignore[index]


def train(model: nn.Module, data: DataSource, epochs: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for epoch in range(epochs):
        for x, y in data.train.shuffled(64, seed=0, epoch=epoch):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    model.eval()


@click.command()
@click.option("--data", "spec", default="digits", help="As --data of prune-for-device.")
@click.option("--size", default=8, help="Side of the pictures; 0: the data's own.")
@click.option("--octaves", default=3.0, help="Channels differ by up to twice as many.")
@click.option("--epochs", default=12)
@click.option("--masks", default=2.0, help="Epochs in which the masks learn.")
@click.option("--tune", default=6.0, help="Epochs of fine-tuning, and of training with roundings.")
@click.option("--rate", default=0.02)
@click.option("--loss", default=0.005, help="What int8 may lose; as --int8-loss.")
def main(
    spec: str, size: int, octaves: float, epochs: int, masks: float, tune: float, rate: float, loss: float
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    started = time.monotonic()
    data = load_data(spec, image_size=size or None)
    model = Depthwise(data.input_shape[0])
    train(model, data, epochs)
    spread_channels(model, octaves)
    recipe = Recipe(
        mask_epochs=masks, tune_epochs=tune, tune_learning_rate=rate, mask_learning_rate=rate / 10
    )
    with tempfile.TemporaryDirectory() as folder:
        options = Options(
            budget=dtp.Budget(macs="70%"),
            device=DEVICE,
            data=data,
            recipe=recipe,
            out=Path(folder) / "run",
            int8=True,
            int8_method="minmax",
            int8_per_tensor=True,
            int8_loss=loss,
            depth=False,
        )
        result = prune(model, torch.zeros(2, *data.input_shape), options)
        plain = Path(folder) / "calibrated.onnx"
        rows = data.calibration(CALIBRATION_SAMPLES)
        quantize_onnx(result.onnx, plain, rows, options.int8_method, per_channel=False)
        calibrated = evaluate_onnx(plain, data.test.ordered(256))
    report = result.report
    found, accuracy = report["int8"], report["accuracy"]
    row = {"network": "depthwise", "data": spec.split(":")[0], "octaves": octaves, "loss": loss}
    row |= {"base": accuracy["base"], "pruned": accuracy["pruned"]}
    row |= {key: found[key] for key in ("accuracy", "fp32_accuracy", "how", "trials", "training")}
    row["calibrated_accuracy"] = calibrated  # the same float file, quantised and no more
    row["n_test"] = accuracy["n_test"]
    row["sensitivity"] = found["sensitivity"][:5]
    row["seconds"] = round(time.monotonic() - started)
    TABLE.append(row)
    click.echo(row)


if __name__ == "__main__":
    main()
