"""What branches and channels are worth in one currency: the measured rise of the loss without them.

A gate's first-order term says next to nothing: the branch is far from infinitesimal. So every branch is
taken out once, on the batches that the Taylor scores are made of, with the batch norms on the statistics of
those batches, as they would be re-estimated after a cut. Nor do first-order terms of channels add up to what
many of them are worth together: of a residual stream to less, within a block to more. So the lower half of
every group is taken out once too, and the group's terms are scaled to what that costs. One forward a branch
or group and batch, no gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dtp_edge.errors import InputError
from dtp_edge.graph.masking import masked_forward
from dtp_edge.graph.modes import mode_of
from dtp_edge.graph.network import Group, PrunableNetwork
from dtp_edge.transport.batch_loss import LossFunction, batch_loss, on_device, split_batch
from dtp_edge.transport.known_losses import KnownLosses
from dtp_edge.transport.meter import Meter

__all__ = ["greedy_removals", "losses_of", "measured"]

LEAST = 1e-3  # of the largest rise: a branch that does no measurable good still has an order among others
CORRECTION = 8.0  # most that first-order terms of a group are scaled by, either way


def measured(
    network: PrunableNetwork, terms: np.ndarray, batches: Iterable[Any], loss: LossFunction | None = None
) -> np.ndarray:
    """Return first-order `terms` `[n_atoms]` of the channels scaled to the measured rise, and branches' own.

    A branch without which the loss falls is worth next to nothing. `InputError` if a loss is not finite.
    """
    masks, found = [np.ones(network.n_atoms)], np.array(terms, dtype=np.float64)
    for group in network.groups:
        mask = np.ones(network.n_atoms)
        mask[_lower_half(group, terms)] = 0
        masks.append(mask)
    losses = losses_of(network, np.stack(masks), batches, loss)
    rise = losses[1:] - losses[0]
    least = LEAST * max(float(rise.max(initial=0.0)), np.finfo(np.float64).tiny)
    for group, value in zip(network.groups, rise, strict=True):
        if group.kind == "branch":
            found[group.start] = max(value, least)
        elif (first := float(terms[_lower_half(group, terms)].sum())) > 0:
            found[group.start : group.stop] *= np.clip(value / first, 1 / CORRECTION, CORRECTION)
    return found


def greedy_removals(
    network: PrunableNetwork,
    meter: Meter,
    batches: Sequence[Any],
    loss: LossFunction | None = None,
    known: KnownLosses | None = None,
) -> list[np.ndarray]:
    """Return which gates are open, `[branches]` each, without one branch more from one to the next.

    Always the one goes without which the loss is lowest now, measured anew after each, until the limits hold
    or no other can go. It is what depth alone can do, and a start of the search over both. Losses that are
    `known` are not measured again, and those that are measured become known.
    """
    known = KnownLosses() if known is None else known
    dense = np.ones((1, network.n_atoms))  # first: without labels it is what the others are compared with
    gates = np.array([branch.atom for branch in network.branches], dtype=np.int64)
    keep, found = np.ones(network.n_atoms, dtype=bool), []
    while len(gates) and not meter.fits(network.opened(keep).astype(np.float64)):
        tried = []
        for gate in gates[keep[gates]]:
            less = keep.copy()
            less[gate] = False
            if network.depth.fault(less) is None:
                tried.append(less)
        if not tried:
            break
        masks = np.stack([network.opened(less) for less in tried]).astype(np.float64)
        if missing := known.missing(masks):
            asked = np.concatenate([dense, masks[missing]])
            known.note(asked, losses_of(network, asked, batches, loss))
        keep = tried[int(np.argmin(known.of(masks)))]
        found.append(network.settled(keep)[gates].astype(np.int64))
    return found


def _lower_half(group: Group, terms: np.ndarray) -> np.ndarray:
    """The atoms of a group that matter less, half of them at least one; the gate of a branch."""
    size = group.stop - group.start
    return group.start + np.argsort(terms[group.start : group.stop], kind="stable")[: max(1, size // 2)]


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
