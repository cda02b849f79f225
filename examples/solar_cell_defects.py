"""Find defects on solar cells with a small network that fits a budget.

    pip install elpv-dataset
    python examples/solar_cell_defects.py --latency 50% --epochs 10 --out runs/cells

The pictures are electroluminescence images of real modules (Deitsch et al., 2,624 cells, each with the
probability that it is defective as experts see it). They come inside the package elpv-dataset, whose
licence allows non-commercial use; none of them is part of this repository.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dtp_edge as dtp
from dtp_edge.training import DataSource, Recipe
from dtp_edge.training import from_arrays as data_source


def cells(side: int, count: int) -> DataSource:
    """Cells as `[N, 1, side, side]`; label 1 where the experts thought a defect more likely than not."""
    from elpv_dataset.utils import load_dataset

    images, probability, _ = load_dataset()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]
    x = torch.from_numpy(images)[order][:, None].float()
    x = F.interpolate(x, size=(side, side), mode="area").round().to(torch.uint8)
    y = torch.from_numpy((probability > 0.5).astype("int64"))[order]
    cut = len(x) // 5
    return data_source("elpv", (x[cut:], y[cut:]), (x[:cut], y[:cut]), num_classes=2)


class Inspector(nn.Module):
    """Five convolutions; put your own network here."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for i in range(5):
            out = width * min(4, 2 ** (i // 2))
            layers += [nn.Conv2d(channels, out, 3, stride=1 + i % 2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).amax((2, 3)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="rpi4-ncnn-fp32-1t")
    parser.add_argument("--latency", default="50%")
    parser.add_argument("--epochs", type=float, default=10.0, help="for masks and fine-tuning together")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--count", type=int, default=2624)
    parser.add_argument("--out", default="runs/cells")
    options = parser.parse_args()

    torch.manual_seed(0)
    data = cells(options.side, options.count)
    recipe = replace(Recipe.for_epochs(options.epochs), base_epochs=options.epochs, batch_size=32)
    result = dtp.prune_for_device(
        Inspector(),
        torch.zeros(1, *data.input_shape),
        device=options.device,
        budget=dtp.Budget(latency=options.latency),
        data=data,
        recipe=recipe,
        out=options.out,
        force=True,
    )
    found = result.report["accuracy"]
    print(f"accuracy: dense {found['control']:.3f}, pruned {found['pruned']:.3f} on {found['n_test']} cells")
    print(f"open {options.out}/report.html")


if __name__ == "__main__":
    main()
