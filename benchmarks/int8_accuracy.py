"""What int8 costs in accuracy: fp32 and int8 ONNX files on a test set, in ONNX Runtime.

    python -m benchmarks.int8_accuracy --cifar DIR --weights DIR/resnet20.safetensors --fashion DIR
    python -m benchmarks.int8_accuracy --cifar DIR --weights ... --pruned 50%           # pruned and trained
    python -m benchmarks.int8_accuracy --file runs/x/model.onnx --data cifar10:DIR      # any other file

`lost_points_fine` is the same with scales of any value, with which runtimes differ (`same_bits=False`).
Ranges are calibrated on training images. The depthwise network for Fashion-MNIST is trained here first
(some minutes); ResNet-20 has published weights. With `--pruned` the network is then pruned to that share of
its latency on an int8 device and trained for `--pruned-epochs`, as prune-for-device does it.
Writes benchmarks/results/int8_accuracy.csv; fails where int8 loses more than one point.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import torch
from torch import Tensor, nn

import dtp_edge as dtp
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.int8 import quantize_onnx
from dtp_edge.onnx import evaluate_onnx, export_onnx
from dtp_edge.training import load_data
from dtp_edge.training.data.source import DataSource
from dtp_edge.zoo import resolve_model

FIELDS = (
    "network",
    "data",
    "images",
    "fp32",
    "int8",
    "lost_points",
    "lost_points_fine",
    "method",
    "relative_errors",
    "fp32_bytes",
    "int8_bytes",
)
LIMIT_POINTS = 1.0


class DepthwiseNet(nn.Module):
    """Depthwise-separable convolutions, batch norm and ReLU6 for 28x28 images: about 70,000 parameters."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
        for inp, out, stride in ((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 192, 1)):
            layers += [
                nn.Conv2d(inp, inp, 3, stride, 1, groups=inp, bias=False),
                nn.BatchNorm2d(inp),
                nn.ReLU6(),
            ]
            layers += [nn.Conv2d(inp, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(192, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def trained_on_fashion(data: DataSource, epochs: int) -> nn.Module:
    """Train the depthwise network with SGD and a one-cycle learning rate."""
    torch.manual_seed(0)
    model = DepthwiseNet()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    steps = epochs * (len(data.train) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.2, total_steps=steps)
    for epoch in range(epochs):
        for x, y in data.train.shuffled(128, seed=0, epoch=epoch):
            loss = nn.functional.cross_entropy(model(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if schedule.last_epoch < steps - 1:
                schedule.step()
        click.echo(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    return model.eval()


def prune(model: nn.Module, data: DataSource, device: str, latency: str, epochs: int) -> nn.Module:
    """Return the network pruned to a share of its latency and trained, as prune-for-device does it."""
    result = dtp.prune_for_device(
        model,
        torch.zeros(1, *data.input_shape),
        device=device,
        budget=dtp.Budget(latency=latency),
        data=data,
        epochs=epochs,
        out=None,
    )
    (row,) = [r for r in result.report["budgets"] if r["metric"] == "latency_ms"]
    share = row["pruned_predicted"] / row["dense_predicted"]
    click.echo(f"{share:.1%} of the latency on {device}; accuracy {result.report['accuracy']}")
    return result.module


@click.command()
@click.option("--cifar", type=click.Path(exists=True), help="Folder of CIFAR-10.")
@click.option("--weights", type=click.Path(exists=True), help="ResNet-20 weights for it.")
@click.option("--fashion", type=click.Path(exists=True), help="Folder of Fashion-MNIST.")
@click.option("--file", "file", type=click.Path(exists=True, path_type=Path), help="An fp32 ONNX classifier.")
@click.option("--data", help="Its data, as for prune-for-device.")
@click.option("--epochs", default=2, help="Training on Fashion-MNIST.")
@click.option("--calibration", default=128, help="Training images for the ranges.")
@click.option("--limit", type=int, help="Only so many test images.")
@click.option("--method", default="best")
@click.option("--pruned", help="Prune to this latency first, for example 50%.")
@click.option("--pruned-epochs", default=2, help="Epochs of masks and fine-tuning together.")
@click.option("--device", default="stm32h747-cubeai-int8", help="An int8 profile to prune for.")
def main(
    cifar: str | None,
    weights: str | None,
    fashion: str | None,
    file: Path | None,
    data: str | None,
    epochs: int,
    calibration: int,
    limit: int | None,
    method: str,
    pruned: str | None,
    pruned_epochs: int,
    device: str,
) -> None:
    """Measure what is asked for and write the table."""
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        fp32 = Path(folder) / "fp32.onnx"
        options = (calibration, limit, method)
        subjects: list[tuple[str, nn.Module, DataSource]] = []
        if cifar:
            model = resolve_model("resnet20", weights)[0]
            subjects.append(("resnet20", model, load_data(f"cifar10:{cifar}")))
        if fashion:
            source = load_data(f"fashion-mnist:{fashion}")
            subjects.append(("depthwise", trained_on_fashion(source, epochs), source))
        for name, model, source in subjects:
            example = torch.zeros(1, *source.input_shape)
            export_onnx(model, example, fp32, dynamic_batch=True)
            rows.append(measure(name, fp32, source, *options))
            if pruned:
                module = prune(model, source, device, pruned, pruned_epochs)
                export_onnx(module, example, fp32, dynamic_batch=True)
                rows.append(measure(f"{name}, pruned to {pruned}", fp32, source, *options))
        if file and data:
            rows.append(measure(file.name, file, load_data(data), *options))
    if not rows:
        sys.exit("give --cifar, --fashion, or --file with --data")
    EXPERIMENTS["int8_accuracy"].merge(rows)
    sys.exit(4 if any(float(str(row["lost_points"])) > LIMIT_POINTS for row in rows) else 0)


def measure(
    name: str, fp32: Path, data: DataSource, calibration: int, limit: int | None, method: str
) -> dict[str, object]:
    """Return one row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        result = quantize_onnx(fp32, Path(folder) / "int8.onnx", data.calibration(calibration), method)
        before = evaluate_onnx(fp32, data.test.ordered(256), limit=limit)
        after = evaluate_onnx(result.path, data.test.ordered(256), limit=limit)
        fine = quantize_onnx(
            fp32, Path(folder) / "fine.onnx", data.calibration(calibration), method, same_bits=False
        )
        best = evaluate_onnx(fine.path, data.test.ordered(256), limit=limit)
        errors = " ".join(f"{row.method}={row.relative_error:.4f}" for row in result.tried)
        sizes = (fp32.stat().st_size, result.path.stat().st_size)
    count = min(limit or len(data.test), len(data.test))
    lost = 100 * (before - after)
    values = (
        name,
        data.name,
        count,
        f"{before:.4f}",
        f"{after:.4f}",
        f"{lost:.2f}",
        f"{100 * (before - best):.2f}",
        result.method,
        errors,
        *sizes,
    )
    row = dict(zip(FIELDS, values, strict=True))
    click.echo(" ".join(f"{key} {value}" for key, value in row.items()))
    return row


if __name__ == "__main__":
    main()
