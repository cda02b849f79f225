"""Which widths a calibration takes: error curves, measured at the output, through the transport's search.

Curves say how the error of a group grows, not what it does to the output. So each group alone is cut to a few
widths, its readers repaired, and the outputs compared. That is blind to what groups do together; therefore
the transport also proposes widths by the curves as they are and by the mean of both, and the network stitched
together and fitted on one half of the inputs that comes nearest to the dense one on the other half is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from dtp_edge.graph import PrunableNetwork, masked_forward, mode_of
from dtp_edge.run.output_error import compared, outputs_of
from dtp_edge.run.task import Task
from dtp_edge.surgery import compact, refit
from dtp_edge.surgery.error_curves import curves_of, repaired_without
from dtp_edge.surgery.moments import Moment, moments_of
from dtp_edge.surgery.obs import Curve
from dtp_edge.transport import initial_scores
from dtp_edge.transport.curves import rises_of, worths

__all__ = ["RIDGE", "keep_by_calibration", "samples_of"]

RIDGE = 0.01
SHARES = (0.3, 0.6, 0.85)  # of a group's atoms gone, where the output is measured
MEASURED = 64  # samples that measure it, fewer where that takes more than
WORK = 2e12  # multiply-accumulates: half a minute
MIN_KEEP = 0.05  # of every group
TRUST = (0.5, 1.0, 0.0)  # in what was measured group by group; 0: the curves alone
LEAST = 8  # samples that measure, whatever it takes
FORWARDS = 3  # what fitting a network takes, in runs over its inputs
Batch = tuple[Any, ...]


def keep_by_calibration(task: Task, batches: Sequence[Batch], seed: int = 0) -> np.ndarray:
    """Return which atoms stay, bool `[n_atoms]`, within every limit."""
    network = task.network
    with mode_of(network.module, training=False), torch.no_grad():
        moments = moments_of(network, batches, samples_of(batches), seed)
        curves = [c or _by_size(network, i) for i, c in enumerate(curves_of(network, moments, SHARES))]
        macs = task.cost.evaluate(task.cost.dense_sizes())["macs"]
        runs = WORK / (macs * max(1, len(SHARES) * len(network.groups)))
        few = _some(batches, int(min(MEASURED, max(LEAST, runs))))
        wanted = outputs_of(network.module, few)
        measured = [_measured(network, i, c, moments, few, wanted) for i, c in enumerate(curves)]
    affordable = len(TRUST) * FORWARDS * macs * samples_of(batches) <= WORK
    keeps = [_keep(task, curves, measured, trust) for trust in (TRUST if affordable else TRUST[:1])]
    distinct = list({keep.tobytes(): keep for keep in keeps}.values())
    if len(distinct) == 1:
        return distinct[0]
    return min(distinct, key=lambda keep: _stitched(network, keep, batches, seed))


def _keep(
    task: Task, curves: Sequence[Curve], measured: Sequence[Mapping[int, float]], trust: float
) -> np.ndarray:
    rises = [rises_of(curve.error, m, trust) for curve, m in zip(curves, measured, strict=True)]
    starts = [group.start for group in task.network.groups]
    values = worths(task.network.n_atoms, starts, [curve.order for curve in curves], rises)
    return task.harden(values, values=values, min_keep=MIN_KEEP)


def _stitched(network: PrunableNetwork, keep: np.ndarray, batches: Sequence[Batch], seed: int) -> float:
    """The output's error of the whole compact network, fitted on one half of the inputs, on the other
    half."""
    half = (len(batches) + 1) // 2
    compacted = compact(network, keep, in_place=False)
    dense = dict(network.graph_module.state_dict())
    refit(network, compacted, dense, list(batches[:half]), ridge=RIDGE, seed=seed, streams=True)
    judges = batches[half:] or batches
    wanted = outputs_of(network.graph_module, judges)
    return compared(outputs_of(compacted.graph_module, judges), wanted)[0]


def samples_of(batches: Sequence[Batch]) -> int:
    """How many samples the batches hold together."""
    return sum(len(next(t for t in tree_leaves(b) if isinstance(t, Tensor))) for b in batches)


def _some(batches: Sequence[Batch], most: int) -> list[Batch]:
    """The first batches that hold `most` samples or a little more."""
    found: list[Batch] = []
    for batch in batches:
        found.append(batch)
        if samples_of(found) >= most:
            break
    return found


def _by_size(network: PrunableNetwork, index: int) -> Curve:
    """Where no fitted layer reads a group (what a product of two activations reads, say): by the weights'
    size."""
    group = network.groups[index]
    scores = initial_scores(network, "rms")[group.start : group.stop]
    n = len(scores)
    counts = {min(n - 1, max(1, round(share * n))): [] for share in SHARES}
    return Curve(np.argsort(scores, kind="stable"), np.linspace(0.0, 1.0, n + 1) ** 2, counts)


def _measured(
    network: PrunableNetwork,
    index: int,
    curve: Curve,
    moments: Mapping[str, Moment],
    batches: Sequence[Batch],
    wanted: Sequence[Any],
) -> dict[int, float]:
    """The output's error with the group alone cut and its readers repaired, `{atoms gone: error}`."""
    group, module, found = network.groups[index], network.module, {}
    tensors = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    for count in curve.repaired:
        mask = torch.ones(network.n_atoms, dtype=next(module.parameters()).dtype)
        mask[group.start + torch.as_tensor(curve.order[:count].copy())] = 0.0
        repaired = tensors | repaired_without(network, curve, moments, count)
        made = [masked_forward(network, module, mask, batch, repaired) for batch in batches]
        found[count] = compared(made, wanted)[0]
    return found
