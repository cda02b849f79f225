"""Which widths a calibration takes: error curves, measured at the output, through the transport's search.

Curves say how the error of a group grows, not what it does to the output. So each group alone is cut to a few
widths, its readers repaired, and the outputs compared. That is blind to what groups do together; therefore
the transport proposes widths by the curves as they are, by what was measured and by the mean of both, and
`trials` of the whole network, quickly fitted, say which is best. Around that one every group is tried a
little narrower among the others as they are; the curves are scaled to these slopes, and the search is asked
again, as long as that helps and there is time. Branches are in the same search: see `calibrated_branches`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from dtp_edge.graph import PrunableNetwork, masked_forward, mode_of
from dtp_edge.run.allocator import give_back
from dtp_edge.run.calibrated_branches import errors_without, patterns_by_error
from dtp_edge.run.calibration_samples import first_samples, samples_of
from dtp_edge.run.output_error import compared, outputs_of
from dtp_edge.run.task import Task
from dtp_edge.run.trials import Trials
from dtp_edge.surgery.error_curves import curves_of, repaired_without
from dtp_edge.surgery.moments import Moment, moments_of
from dtp_edge.surgery.obs import Curve
from dtp_edge.transport import initial_scores
from dtp_edge.transport.curves import rises_of, worths

__all__ = ["Chosen", "keep_by_calibration", "macs_of"]

SHARES = (0.3, 0.6, 0.85)  # of a group's atoms gone, where the output is measured
ONE_SHARE = (0.6,)  # where all take too long
MEASURED = 64  # samples that measure it, fewer where that takes more than
WORK = 5e11  # multiply-accumulates: half a minute; as many for the moments
RANKING = 128  # samples of the moments, whatever it takes
MIN_KEEP = 0.05  # of every group
TRUST = (0.5, 1.0, 0.0)  # in what was measured group by group; 0: the curves alone
LEAST = 8  # samples that measure, whatever it takes
CANDIDATES = 5  # of each of these searches that are tried: branches make several
STEP = 0.1  # of a group's atoms, by which it is made narrower among the others
REACH = (0.3, 0.1)  # of a group's atoms that a renewed search may move it by
ROUNDS = 3
FIRM = 10.0  # times what is worth more where a search may not reach
MOST = 1e3  # worth of a branch that cannot go
Batch = tuple[Any, ...]


@dataclass(frozen=True)
class Chosen:
    """`keep` bool `[n_atoms]`; `rises` of the outputs' error without each branch, by name; `notes` for a
    person."""

    keep: np.ndarray
    rises: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def keep_by_calibration(
    task: Task,
    batches: Sequence[Batch],
    seed: int = 0,
    *,
    effort: float = 1.0,
    errors: dict[str, float] | None = None,
) -> Chosen:
    """Return which atoms stay, within every limit; with an `effort` of so many times the usual work, and the
    `errors` that are known of trials."""
    chosen = _chosen(task, batches, seed, effort, errors)
    give_back()  # the fit that comes next takes as much again
    return chosen


def _chosen(
    task: Task, batches: Sequence[Batch], seed: int, effort: float, errors: dict[str, float] | None
) -> Chosen:
    network = task.network
    with mode_of(network.module, training=False), torch.no_grad():
        curves, measured = _curves(task, batches, seed, effort)
        trials = Trials(network, batches, macs_of(task), seed, effort, errors)
        search = _Search(task, curves, errors_without(network, trials) if network.branches else np.zeros(0))
        if network.branches:
            search.patterns = patterns_by_error(task, trials, search.alone)
        keeps = []
        for trust in TRUST if trials.left > len(TRUST) else TRUST[:1]:
            rises = [rises_of(c.error, m, trust) for c, m in zip(curves, measured, strict=True)]
            keeps += search.keeps(rises)[:CANDIDATES]
        return Chosen(_in_context(search, trials, trials.best(keeps)), search.rises(), search.notes())


def _curves(
    task: Task, batches: Sequence[Batch], seed: int, effort: float
) -> tuple[list[Curve], list[Mapping[int, float]]]:
    """The curve of every group, and the output's error at a few of its widths."""
    network = task.network
    ranking = first_samples(batches, int(max(RANKING, effort * WORK / macs_of(task))), network)
    moments = moments_of(network, ranking, samples_of(ranking), seed)
    runs = effort * WORK / (macs_of(task) * max(1, len(network.groups)))
    shares = SHARES if runs >= LEAST * len(SHARES) else ONE_SHARE
    curves = [c or _by_size(network, i, shares) for i, c in enumerate(curves_of(network, moments, shares))]
    few = first_samples(batches, int(min(MEASURED, max(LEAST, runs / len(shares)))), network)
    wanted = outputs_of(network.module, few)
    return curves, [_measured(network, i, c, moments, few, wanted) for i, c in enumerate(curves)]


def macs_of(task: Task) -> float:
    """Return the multiply-accumulates of the dense network for one sample."""
    return task.cost.evaluate(task.cost.dense_sizes())["macs"]


class _Search:
    """The transport's search over curves that are scaled anew."""

    def __init__(self, task: Task, curves: Sequence[Curve], alone: np.ndarray) -> None:
        self.task, self.network, self.curves, self.alone = task, task.network, curves, alone
        self.patterns: list[np.ndarray] = []

    def keeps(self, rises: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return keep vectors within every limit, the most promising first, for the rises of every group."""
        values = self._values(rises, self.alone)
        if not self.network.branches:
            return [self.task.harden(values, values=values, min_keep=MIN_KEEP)]
        return self.task.choices(
            values, values=values, losses=values, starts=self.patterns, min_keep=MIN_KEEP
        )

    def near(self, rises: Sequence[np.ndarray], keep: np.ndarray, reach: float) -> np.ndarray:
        """Return the keep vector with the gates of `keep`, and widths within `reach` of its."""
        most, scaled = [], []
        for group, curve, rise in zip(self.network.groups, self.curves, rises, strict=True):
            n, now = len(curve.order), int(keep[group.start : group.stop].sum())
            room = max(1, round(reach * n))
            most.append(min(n, now + room) if now else n)
            scaled.append(np.where(np.arange(n) >= n - max(0, now - room), FIRM * rise, rise))
        gates = np.array([keep[branch.atom] for branch in self.network.branches], dtype=bool)
        values = self._values(scaled, np.where(gates, FIRM * self.alone, 0.0))
        more: dict[str, Any] = {"losses": values, "starts": [gates.astype(np.int64)]} if len(gates) else {}
        return self.task.choices(values, values=values, min_keep=MIN_KEEP, most=np.array(most), **more)[0]

    def notes(self) -> tuple[str, ...]:
        if len(self.alone) == 0 or np.isfinite(self.alone).any():
            return ()
        return (
            f"This network is too large to try it without each of its {len(self.alone)} branches in time: "
            "all stay. Masks that are learned (--data with mask_epochs above 0) decide on them.",
        )

    def _values(self, rises: Sequence[np.ndarray], alone: np.ndarray) -> np.ndarray:
        starts = [group.start for group in self.network.groups]
        values = worths(self.network.n_atoms, starts, [curve.order for curve in self.curves], rises)
        for branch, error in zip(self.network.branches, alone, strict=True):
            values[branch.atom] = min(error, MOST)
        return values

    def rises(self) -> dict[str, float]:
        pairs = zip(self.network.branches, self.alone, strict=True)
        return {branch.name: float(error) for branch, error in pairs if np.isfinite(error)}


def _in_context(search: _Search, trials: Trials, keep: np.ndarray) -> np.ndarray:
    """Return the keep vector after further searches with every group's slope as it is among the others."""
    for _ in range(ROUNDS):
        lives = _live(search.network, keep)
        if trials.left <= len(lives) + len(REACH):
            return keep
        trials.lead(keep)
        rises = [np.diff(curve.error) for curve in search.curves]
        for index in lives:
            rises[index] = _scaled(search, trials, keep, index)
        best = trials.best([keep, *(search.near(rises, keep, reach) for reach in REACH)])
        if best is keep:
            return keep
        keep = best
    return keep


def _live(network: PrunableNetwork, keep: np.ndarray) -> list[int]:
    """The groups of channels that are not in a closed branch."""
    return [
        i
        for i, g in enumerate(network.groups)
        if g.kind != "branch" and g.stop > g.start + 1 and keep[g.start : g.stop].any()
    ]


def _scaled(search: _Search, trials: Trials, keep: np.ndarray, index: int) -> np.ndarray:
    """The rises of a group's curve, scaled to what the output's error does about its width as it is."""
    group, curve = search.network.groups[index], search.curves[index]
    n, now = len(curve.order), int(keep[group.start : group.stop].sum())
    step = max(1, round(STEP * n))
    other = now - step if now > step else min(n, now + step)
    changed = keep.copy()
    changed[group.start : group.stop] = False
    changed[group.start + curve.order[n - other :]] = True
    slope = (trials(changed) - trials(keep)) * np.sign(now - other)
    rises = rises_of(curve.error, {})
    modelled = float(rises[n - max(now, other) : n - min(now, other)].sum())
    return rises * max(slope, 1e-6) / max(modelled, 1e-30)


def _by_size(network: PrunableNetwork, index: int, shares: tuple[float, ...] = SHARES) -> Curve:
    """Where no fitted layer reads a group (what a product of two activations reads, say): by the weights'
    size."""
    group = network.groups[index]
    scores = initial_scores(network, "rms")[group.start : group.stop]
    n = len(scores)
    counts = {min(n - 1, max(1, round(share * n))): [] for share in shares if n > 1}
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
