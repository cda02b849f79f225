"""Merging in place of dropping: are n channels better moved onto k by a transport plan than cut to k of them?

    python -m benchmarks.merging --data cifar10:DIR --weights BASE.safetensors

For every pair of convolutions inside ResNet-20's blocks alone, on what its first one makes in the dense
network (256 images without labels; as many others judge): k channels, and the second convolution fitted to
its dense output by the same least squares (its ridge pulls towards zero here). Before the ReLU a merged
channel is a positive combination of channels, which folds into the first convolution's weights and batch
norm; so both ways have the same layers of the same sizes.

    drop        those that structured optimal brain surgery keeps (what `--calibrate` does)
    transport   the same k as atoms; the energy of all n is moved onto them by entropic transport (its epsilon
                behind it), at a cost of 1 - correlation before the ReLU; a merged channel is what arrives
    nearest     the same with each channel moved as a whole to its nearest atom (folding)

The error is squared, on the judging images, relative to the variation of the second convolution's output.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.accuracy.page import about_origin
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.graph import trace_network
from dtp_edge.surgery.error_curves import curves_of
from dtp_edge.surgery.moments import moments_of
from dtp_edge.training import load_data
from dtp_edge.zoo import resolve_model

SHARES, IMAGES, RIDGE, ROWS = (0.75, 0.5, 0.25), 256, 0.01, 16_384
EPSILONS, TURNS = (0.02, 0.1), 200


def plan(before: Tensor, kept: Tensor, energy: Tensor, epsilon: float | None) -> Tensor:
    """Return `[k, n]`: how much of every channel arrives at each atom, 1 of an atom's own; None: the nearest.

    `before` `[rows, n]` are the channels before the ReLU, `energy` `[n]` the masses that are moved.
    """
    z = before - before.mean(0)
    z = z / z.norm(dim=0).clamp_min(1e-12)
    cost = 1 - (z.T @ z[:, kept])  # [n, k]
    if epsilon is None:
        moved = nn.functional.one_hot(cost.argmin(1), len(kept)).to(cost)
    else:
        kernel, left, right = torch.exp(-cost / epsilon), energy / energy.sum(), energy[kept]
        right, scale = right / right.sum(), torch.ones(len(kept)).to(cost)
        for _ in range(TURNS):
            rows = left / (kernel @ scale).clamp_min(1e-30)
            scale = right / (kernel.T @ rows).clamp_min(1e-30)
        moved = rows[:, None] * kernel * scale / left[:, None].clamp_min(1e-30)
    moved[kept] = torch.eye(len(kept)).to(moved)
    return moved.T * (energy / energy.max()).sqrt()


def error(made: Tensor, wanted: Tensor, judge: Tensor, wanted_judge: Tensor) -> float:
    """Fit on one set, return the error on the other."""
    mean, target = made.mean(0), wanted.mean(0)
    x, y = (made - mean).double(), (wanted - target).double()
    x = x.clone()
    scale = x.square().mean(0).sqrt().clamp_min(1e-9)
    gram = (x / scale).T @ (x / scale) / len(x)
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, (x / scale).T @ y / len(x))
    found = ((judge - mean).double() / scale) @ weight + target
    apart = (found - wanted_judge).square().sum()
    return float(apart / (wanted_judge - wanted_judge.mean(0)).double().square().sum())


def patches(channels: Tensor, shape: tuple[int, ...], stride: int, rows: Tensor) -> Tensor:
    """What a 3 x 3 convolution reads of channels `[images * h * w, k]`, at some of its positions."""
    images, _, height, width = shape
    x = channels.view(images, height, width, -1).permute(0, 3, 1, 2)
    return nn.functional.unfold(x, 3, padding=1, stride=stride).transpose(1, 2).flatten(0, 1)[rows]


def rows_of(options: argparse.Namespace) -> Any:
    data = load_data(options.data)
    model, (x,), _ = resolve_model("resnet20", options.weights, 10, data.input_shape)
    model.eval()
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(options.seed))
    images = [
        torch.cat([b for b, _ in data.train.subset(order[i : i + IMAGES]).ordered(IMAGES)])
        for i in (0, IMAGES)
    ]
    network = trace_network(model, (x,))
    curves = curves_of(network, moments_of(network, [(images[0],)], IMAGES, options.seed), (0.5,))
    modules = dict(network.module.named_modules())
    for group, curve in zip(network.groups, curves, strict=True):
        first, _, _ = group.name.rpartition(".conv1")
        if not group.name.endswith(".conv1") or "." not in group.name or curve is None:
            continue
        places = [modules[f"{first}.bn1"], modules[f"{first}.conv2"]]
        seen = outputs_of(network.module, places, images)
        yield from _block(group.name, np.asarray(curve.order), seen, options.seed)


@torch.no_grad()
def outputs_of(module: nn.Module, places: list[nn.Module], images: list[Tensor]) -> list[list[Tensor]]:
    """Return what each place puts out for each part of the images."""
    seen: list[list[Tensor]] = [[] for _ in places]
    hooks = [
        p.register_forward_hook(lambda m, i, o, s=s: s.append(o)) for p, s in zip(places, seen, strict=True)
    ]
    for part in images:
        module(part)
    for hook in hooks:
        hook.remove()
    return seen


def _block(name: str, order: np.ndarray, seen: list[list[Tensor]], seed: int) -> Any:
    shape = tuple(seen[0][0].shape)
    before = [z.permute(0, 2, 3, 1).flatten(0, 2) for z in seen[0]]
    after = [y.permute(0, 2, 3, 1).flatten(0, 2) for y in seen[1]]
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(after[0]), generator=generator)[:ROWS]
    wanted = [y[rows] for y in after]
    energy = before[0].relu().square().mean(0)
    for share in SHARES:
        k = max(1, round(share * len(order)))
        kept = torch.from_numpy(np.sort(order[len(order) - k :]).copy())
        moves = {"drop": nn.functional.one_hot(kept, len(order)).to(before[0]), "nearest": None}
        moves["nearest"] = plan(before[0], kept, energy, None)
        moves |= {f"transport {e:g}": plan(before[0], kept, energy, e) for e in EPSILONS}
        row: dict[str, Any] = {"layer": name, "width": k, "of": len(order), "seed": seed}
        for method, move in moves.items():
            made = [patches((z @ move.T).relu(), shape, 1, rows) for z in before]
            row[method] = error(made[0], wanted[0], made[1], wanted[1])
        yield row


def whole_page() -> str:
    rows = EXPERIMENTS["merging"].read()
    methods = ["drop", "nearest", *(f"transport {e:g}" for e in EPSILONS)]
    lines = ["# Merging in place of dropping", "", *(__doc__ or "").split("\n\n")[2:3], ""]
    lines += [f"| width | {' | '.join(methods)} | layers where a merge is best |", "|---" * 6 + "|"]
    for share in SHARES:
        some = [r for r in rows if abs(r["width"] / r["of"] - share) < 0.05]
        means = [f"{np.mean([r[m] for r in some]):.4f}" for m in methods]
        wins = sum(min(r[m] for m in methods[1:]) < r["drop"] for r in some)
        lines.append(f"| {share:.0%} | {' | '.join(means)} | {wins} of {len(some)} |")
    return "\n".join([*lines, "", *about_origin(rows)]).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for row in rows_of(options):
        EXPERIMENTS["merging"].append(row, options.out)
        print(row, flush=True)


if __name__ == "__main__":
    main()
