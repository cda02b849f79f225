"""What a branch is worth: the measured rise of the loss without it.

A gate's first-order term says next to nothing: the branch is far from infinitesimal. So every branch is
taken out once, on the batches that the Taylor scores are made of, with the batch norms on the statistics of
those batches, as they would be re-estimated after a cut. One forward a branch and batch, no gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dtp_edge.errors import InputError
from dtp_edge.graph.masking import masked_forward
from dtp_edge.graph.modes import mode_of
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.transport.batch_loss import LossFunction, batch_loss, on_device, split_batch

__all__ = ["losses_of", "rises"]


def rises(network: PrunableNetwork, batches: Iterable[Any], loss: LossFunction | None = None) -> np.ndarray:
    """Return the rise of the mean loss without each branch, `[branches]`; below 0 where one does harm.

    Without labels or a loss it is the change of what the loss is made of, number by number, which is never
    below 0. Raises `InputError` if a loss is not finite.
    """
    gates = [branch.atom for branch in network.depth.branches]
    masks = np.ones((1 + len(gates), network.n_atoms))
    masks[np.arange(1, len(masks)), gates] = 0
    found = losses_of(network, masks, batches, loss)
    return found[1:] - found[0]


@torch.no_grad()
def losses_of(
    network: PrunableNetwork,
    masks: np.ndarray,
    batches: Iterable[Any],
    loss: LossFunction | None = None,
) -> np.ndarray:
    """Return the mean loss under each of the masks `[k, n_atoms]`, `[k]`; weights and statistics stay.

    Without labels or a loss: how far the outputs are from those under the first mask.
    """
    module, total, seen = network.module, np.zeros(len(masks)), 0
    device = next(module.parameters()).device
    with _batch_statistics(module, network) as tensors:
        for batch in batches:
            inputs, targets = split_batch(batch)
            inputs = on_device(inputs, device)
            wanted = None if targets is None else on_device((targets,), device)[0]
            first: Any = None
            for i, values in enumerate(masks):
                mask = torch.as_tensor(values, dtype=torch.float32, device=device)
                with torch.random.fork_rng([], enabled=True):  # the same dropout, if any, for every mask
                    output = masked_forward(network, module, mask, inputs, tensors())
                first = output if first is None else first
                total[i] += float(batch_loss(output, wanted, loss, first))
            seen += 1
    if seen == 0 or not np.isfinite(total).all():
        what = "no batch was given." if seen == 0 else "the loss without a branch is not finite."
        raise InputError(what, where="scores", hint="Check the weights and the data.")
    return total / seen


@contextmanager
def _batch_statistics(module: nn.Module, network: PrunableNetwork) -> Iterator[Any]:
    """Inside, batch norms take the statistics of the batch; yields what makes the tensors of one forward.

    The running averages are copies, so that the module's own stay. Masks on activations run the traced
    graph, which has one mode for all: there dropout is on as well.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    whole = bool(network.node_sites) and bool(norms)

    def tensors() -> dict[str, Tensor]:
        buffers = dict(module.named_buffers(remove_duplicate=False))
        copies = {name: t.clone() for name, t in buffers.items()} if norms else buffers
        return {**dict(module.named_parameters(remove_duplicate=False)), **copies}

    with mode_of(module, training=whole):
        for part in norms:
            part.train()
        yield tensors
