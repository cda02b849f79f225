"""The proof of labels that needs no surgery: what a mask drops must not matter any more.

Fill the parameters that make dropped channels with other random numbers; if the masked output does not
move, nothing that is kept reads what was dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dtp_edge.graph import PrunableNetwork, kept_indices, masked_forward


def random_keep(network: PrunableNetwork, ratio: float, seed: int) -> np.ndarray:
    """Keep a random part of every group, one atom at least."""
    rng = np.random.default_rng(seed)
    keep = np.zeros(network.n_atoms, dtype=bool)
    for group in network.groups:
        size = group.stop - group.start
        keep[group.start + rng.permutation(size)[: max(1, round(size * ratio))]] = True
    return keep


def all_tensors(module: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def spoiled(network: PrunableNetwork, keep: np.ndarray, seed: int) -> dict[str, Tensor]:
    """Return all tensors of the network with new numbers wherever an index is dropped."""
    generator = torch.Generator().manual_seed(seed)
    found = all_tensors(network.module)
    made: dict[int, Tensor] = {}
    for name, labels in network.tensor_labels.items():
        tensor = found.get(name)
        if tensor is None or not tensor.is_floating_point():
            continue
        if id(tensor) not in made:
            fresh = tensor.detach().clone()
            for dim, rows in enumerate(labels):
                if rows is not None:
                    dropped = np.setdiff1d(np.arange(len(rows)), kept_indices(rows, keep))
                    index = torch.as_tensor(dropped)
                    part = fresh.index_select(dim, index)
                    noise = torch.rand(part.shape, generator=generator, dtype=torch.float64) * 3 + 0.1
                    fresh.index_copy_(dim, index, noise.to(part.dtype))
            made[id(tensor)] = fresh
        found[name] = made[id(tensor)]
    return found


def flat(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    parts = outputs.values() if isinstance(outputs, dict) else outputs
    return [t for part in parts for t in flat(part)]


def relative(one: Any, other: Any) -> float:
    """Return the largest difference over the largest number, over all outputs."""
    pairs = list(zip(flat(one), flat(other), strict=True))
    return max(float((a - b).abs().max() / (b.abs().max() + 1e-30)) for a, b in pairs)


def errors(
    network: PrunableNetwork, inputs: tuple[Tensor, ...], keep: np.ndarray
) -> tuple[float, float, float]:
    """Return (all-ones mask against dense, spoiled against masked, masked against dense)."""
    module = network.module
    ones = torch.ones(network.n_atoms, dtype=torch.float64)
    mask = torch.as_tensor(keep.astype(np.float64))
    with torch.no_grad():
        dense = module(*inputs)
        whole = masked_forward(network, module, ones, inputs)
        masked = masked_forward(network, module, mask, inputs)
        other = masked_forward(network, module, mask, inputs, spoiled(network, keep, 7))
    return relative(whole, dense), relative(other, masked), relative(masked, dense)
