"""Where the scores start: importance of every atom, standardised over the whole network.

- `l2`: log of the L2 norm of everything that goes with the atom (its producers' and consumers' weights)
- `rms`: log of the root mean square of the same weights (the size of a layer does not count)
- `layer_l2`: the L2 norm over the mean of its group, the peers' per-layer normalisation
- `taylor`: log of |d loss / d mask| (first-order change when the atom goes), averaged over a few batches
- `uniform`: all equal, for comparison

Where branches can go, importance is measured (`branch_losses`) if there are batches; else a gate's is the
norm of all weights that only its branch reads.

A loss needs labels; without them the change of the network's own output is used. With a `price` the score
is log(importance / price): atoms are ranked by what they are worth per unit of the budget, the order in
which a knapsack is filled. It is also where the learning of the masks comes to rest (an atom stays where its
gain per cost is above the shared dual), so that less of it is left to learn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.transport.batch_loss import LossFunction, batch_loss, on_device, split_batch
from dtp_edge.transport.branch_losses import measured

__all__ = ["METHODS", "importance", "initial_scores", "scores_of", "spread"]

METHODS = ("l2", "rms", "layer_l2", "taylor", "uniform")
BLOCK = 2**15  # float64 numbers that stay in a core's cache while they are summed twice


def initial_scores(
    network: PrunableNetwork,
    method: str = "l2",
    batches: Iterable[Any] | None = None,
    loss: LossFunction | None = None,
    *,
    price: np.ndarray | None = None,
) -> np.ndarray:
    """Return scores float64 `[n_atoms]` with mean 0 and standard deviation 1 (all 0 if all are equal).

    `batches` yields `(inputs, targets)` or inputs alone, for "taylor". `price` `[n_atoms]` > 0 is what an
    atom costs (`prices`). Raises `InputError` for an unknown method, missing batches, or weights that
    are not finite.
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}.", where="scores", hint=f"Known: {', '.join(METHODS)}.")
    found = importance(network, method, batches, loss)
    if price is None and method in ("layer_l2", "uniform"):
        return _standardised(found)
    return scores_of(found, price)


def scores_of(worth: np.ndarray, price: np.ndarray | None = None) -> np.ndarray:
    """Return the logarithm of `worth` (over `price`), standardised."""
    return _standardised(_log(worth) if price is None else _log(worth) - np.log(price))


def importance(
    network: PrunableNetwork,
    method: str,
    batches: Iterable[Any] | None = None,
    loss: LossFunction | None = None,
) -> np.ndarray:
    """Return what each atom is worth, `[n_atoms]` >= 0: with "taylor" in units of the loss."""
    if method == "taylor":
        if batches is None:
            raise InputError("Taylor scores need a few batches.", where="scores", hint='Use method="l2".')
        seen = list(batches)
        found = _taylor(network, seen, loss)
        return measured(network, found, seen, loss) if network.branches else found
    if method == "uniform":
        return np.ones(network.n_atoms)
    square, count = _squares(network)
    named = dict(network.module.named_parameters(remove_duplicate=False)) if network.branches else {}
    if method == "rms":
        return np.sqrt(square / np.maximum(count, 1))
    for branch in network.branches:
        within = [t for name in branch.parameters if (t := named.get(name)) is not None]
        square[branch.atom] = sum(float(t.detach().double().square().sum()) for t in within)
    norm = np.sqrt(square)
    if method == "layer_l2":
        for g in network.groups:
            norm[g.start : g.stop] /= max(norm[g.start : g.stop].mean(), 1e-12)
    return norm


def _squares(network: PrunableNetwork) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the squared weights of each atom; an index shared by atoms counts for all."""
    square, count = np.zeros(network.n_atoms + 1), np.zeros(network.n_atoms + 1)
    for name, tensor in network.module.named_parameters():
        labels = network.tensor_labels.get(name)
        if labels is None:
            continue
        sums = _sums_of_squares(tensor.detach())
        if sums and not bool(torch.isfinite(sums[0]).all()):
            raise InputError(
                "the weights contain NaN or infinity.",
                where=name,
                hint="Use another checkpoint: this training diverged.",
            )
        for atoms, part in zip(labels, sums, strict=True):
            if atoms is None:
                continue
            for column in range(atoms.shape[1]):
                np.add.at(square, atoms[:, column], part.numpy())
                np.add.at(count, atoms[:, column], tensor.numel() / len(part))
    return square[:-1], count[:-1]


def _sums_of_squares(tensor: Tensor) -> list[Tensor]:
    """Sums in float64 over all dimensions but one, for each dimension; read once, in blocks in the cache."""
    if tensor.dim() == 0 or tensor.numel() == 0:
        return [torch.zeros(size, dtype=torch.float64) for size in tensor.shape]
    matrix = tensor.reshape(len(tensor), -1)
    rows = torch.zeros(len(tensor), dtype=torch.float64)
    rest = torch.zeros(matrix.shape[1], dtype=torch.float64)
    stride = max(1, BLOCK // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), stride):
        block = matrix[start : start + stride].to("cpu", torch.float64)
        block = block.square()  # not in place: the block may be the weight itself
        rows[start : start + stride] = block.sum(1)
        rest += block.sum(0)
    inner = rest.reshape(tensor.shape[1:])
    dims = range(inner.dim())
    return [rows, *(inner.sum([d for d in dims if d != dim]) if len(dims) > 1 else inner for dim in dims)]


def _taylor(network: PrunableNetwork, batches: Iterable[Any], loss: LossFunction | None) -> np.ndarray:
    """Mean over batches of |d loss / d mask| at mask 1."""
    from dtp_edge.graph import masked_forward, mode_of

    total, seen = np.zeros(network.n_atoms), 0
    module = network.module
    with mode_of(module, training=False):
        for batch in batches:
            inputs, targets = split_batch(batch)
            device = next(module.parameters()).device
            mask = torch.ones(network.n_atoms, requires_grad=True, device=device)
            output = masked_forward(network, module, mask, on_device(inputs, device))
            wanted = None if targets is None else on_device((targets,), device)[0]
            value = batch_loss(output, wanted, loss)
            (gradient,) = torch.autograd.grad(value, mask)
            total += gradient.abs().to("cpu", torch.float64).numpy()
            seen += 1
    if seen == 0:
        raise InputError(
            "no batch was given.",
            where="scores",
            hint='Give batches=[(inputs, targets), …], or the method "l2", which needs none.',
        )
    if not np.isfinite(total).all():
        raise InputError(
            "the gradients are not finite.", where="scores", hint="Check the weights and the data."
        )
    return total / seen


def _log(values: np.ndarray) -> np.ndarray:
    """Logarithm with zeros put just below the smallest positive value."""
    positive = values[values > 0]
    floor = positive.min() / 10 if len(positive) else 1.0
    return np.log(np.maximum(values, floor))


def spread(scores: np.ndarray, deviation: float) -> np.ndarray:
    """Return scores with mean 0 and that standard deviation; `InputError` for any that is not finite."""
    if not np.isfinite(scores).all():
        raise InputError(
            "the scores contain NaN or infinity.",
            where="scores",
            hint="The training diverged: lower the learning rate.",
        )
    found = scores.std() if len(scores) else 0.0
    return deviation * (scores - scores.mean()) / found if found > 1e-12 else np.zeros_like(scores)


def _standardised(values: np.ndarray) -> np.ndarray:
    found = values.std() if len(values) else 0.0
    return (values - values.mean()) / found if found > 1e-12 else np.zeros_like(values)
