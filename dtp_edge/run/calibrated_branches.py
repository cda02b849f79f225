"""What branches are worth without labels: the outputs' error without each, once its neighbours are repaired.

A branch is taken out, the network is fitted (the layer before it aims at the sum behind it, see
`surgery.reference`), and the outputs are compared. What two branches cost together is no sum, so a greedy
removal, measured anew after each, gives the patterns of open gates that the search begins with.
"""

from __future__ import annotations

import numpy as np

from dtp_edge.graph import PrunableNetwork
from dtp_edge.run.task import Task
from dtp_edge.run.trials import Trials
from dtp_edge.transport import Meter

__all__ = ["errors_without", "patterns_by_error"]

NEAR = 3  # branches that are tried next: those that looked best alone
SHARE = 0.6  # of the trials that branches may take
TAKEN_UP = 0.5  # of a trial that one without a single branch takes, on average


def errors_without(network: PrunableNetwork, trials: Trials) -> np.ndarray:
    """Return the rise of the error without each branch alone, `[branches]`; inf where it cannot go.

    Where there is no time to try them all, none can: nothing would say which.
    """
    found = np.full(len(network.branches), np.inf)
    possible = [i for i in range(len(found)) if network.depth.fault(_without(network, [i])) is None]
    if len(possible) * TAKEN_UP > SHARE * trials.left:
        return found
    trials.lead(np.ones(network.n_atoms, dtype=bool))
    whole = trials(np.ones(network.n_atoms, dtype=bool))
    for i in possible:
        found[i] = max(trials(_without(network, [i])) - whole, 1e-9)
    return found


def patterns_by_error(task: Task, trials: Trials, alone: np.ndarray) -> list[np.ndarray]:
    """Return patterns of open gates, each without one branch more: the least error for what it frees."""
    network, meter = task.network, Meter(task.network, task.cost, task.limits)
    gone: list[int] = []
    found, error, stop = [], 0.0, (1 - SHARE) * trials.left
    while trials.left > stop and not meter.fits(_cost_mask(network, gone)):
        others = [i for i in np.flatnonzero(np.isfinite(alone)).tolist() if i not in gone]
        possible = [i for i in others if network.depth.fault(_without(network, [*gone, i])) is None]
        if not possible:
            break
        trials.lead(_without(network, gone))
        freed = {i: _freed(meter, network, gone, i) for i in possible}
        near = sorted(possible, key=lambda i: alone[i] / freed[i])[:NEAR]
        errors = {i: trials(_without(network, [*gone, i])) for i in near}
        best = min(near, key=lambda i: max(errors[i] - error, 1e-9) / freed[i])
        error = errors[best]
        gone.append(best)
        open_now = network.settled(_without(network, gone))
        found.append(open_now[[b.atom for b in network.branches]].astype(np.int64))
    return found


def _without(network: PrunableNetwork, gone: list[int]) -> np.ndarray:
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[[network.branches[i].atom for i in gone]] = False
    return keep


def _cost_mask(network: PrunableNetwork, gone: list[int]) -> np.ndarray:
    return network.opened(_without(network, gone)).astype(np.float64)


def _freed(meter: Meter, network: PrunableNetwork, gone: list[int], more: int) -> float:
    """How much of the tightest limit the next branch frees."""
    before, after = (meter.costs(_cost_mask(network, g)) for g in (gone, [*gone, more]))
    return max(max((before[m] - after[m]) / limit for m, limit in meter.limits.items()), 1e-9)
