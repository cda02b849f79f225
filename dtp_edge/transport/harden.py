r"""From soft to whole: integer widths that never exceed a budget and leave as little of it as possible.

The plan maximises $\sum_i c_i s_i m_i$ (mass times score), so the value of atom i is $c_i (s_i - \min s)$
with its marginal cost $c_i$ at the soft solution; other values can be given. Within a group the best k
atoms are always the k of largest score, so what is searched is one count a group:

1. start: atoms whose value per marginal cost passes one threshold, the lowest that fits
2. fill: add one atom, or enough to complete the device's channel step, where value per budget is best
3. exchange: take a few atoms from one group and give others what that frees, while the value rises

Every candidate is priced on the true cost of the whole network, so staircases need no model. Branches are
searched for around this (`_branch_search`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.transport._branch_search import BranchSearch
from dtp_edge.transport._search import Search
from dtp_edge.transport.meter import CostModel, Meter, require_feasible
from dtp_edge.transport.plan import Segments, floors_of, solve_plan
from dtp_edge.transport.smallest import steps_of

__all__ = ["MIN_KEEP", "Judge", "caps_of", "choices", "harden", "judged"]

Judge = Callable[[np.ndarray], np.ndarray]  # masks [k, n_atoms] -> losses [k]

# least share of a group that stays, if the budget allows it: at 0.1 layers may end narrow and wide in turns
MIN_KEEP = 0.15
WIDE = 0.5  # tried as well where branches can go: what narrow layers save, a branch may save at less loss


def caps_of(network: PrunableNetwork, layer_keep: Mapping[str, float] | None) -> np.ndarray | None:
    """Return the most atoms each group may keep, `[n_groups]`: its share, rounded down, at least one."""
    if not layer_keep:
        return None
    counts = np.array([g.stop - g.start for g in network.groups])
    share = np.array([layer_keep.get(g.name, 1.0) for g in network.groups])
    return np.maximum(1, np.floor(share * counts + 1e-9)).astype(np.int64)


def harden(
    scores: np.ndarray,
    network: PrunableNetwork,
    cost: CostModel,
    limits: Mapping[str, float],
    *,
    values: np.ndarray | None = None,
    min_keep: float = MIN_KEEP,
    caps: np.ndarray | None = None,
    widths: np.ndarray | None = None,
    max_evaluations: int = 4_000,
) -> np.ndarray:
    """Return which atoms stay, bool `[n_atoms]`: within every limit, of the largest total value found."""
    return choices(
        scores, network, cost, limits,
        values=values, min_keep=min_keep, caps=caps, widths=widths, max_evaluations=max_evaluations,
    )[0]  # fmt: skip


def choices(
    scores: np.ndarray,
    network: PrunableNetwork,
    cost: CostModel,
    limits: Mapping[str, float],
    *,
    values: np.ndarray | None = None,
    min_keep: float = MIN_KEEP,
    caps: np.ndarray | None = None,
    widths: np.ndarray | None = None,
    losses: np.ndarray | None = None,
    starts: Sequence[np.ndarray] = (),
    max_evaluations: int = 4_000,
) -> list[np.ndarray]:
    """Return keep vectors `[n_atoms]` within every limit, that of the largest total value first.

    Without branches there is one. With them the others are what the search began with: all branches open,
    and fewer and fewer, in settled form (nothing kept in a closed branch). `losses` `[n_atoms]` >= 0 is by
    how much the loss rises without an atom, of a gate without its branch: it decides between branches.
    `starts` are further patterns of open gates, `[branches]` each, that the search begins with.

    **Arguments:**

    - `scores`: `[n_atoms]`, any real numbers, higher stays; compared within and across groups.
    - `limits`: `{metric: limit}` in the units of `cost.evaluate`.
    - `values`: `[n_atoms]` >= 0, what keeping each atom is worth; None: marginal cost x score. A gate's is
      what its branch is worth besides the channels within.
    - `min_keep`: share of every group that stays whatever its scores (never fewer than one atom); it is
      lowered where the budget cannot afford it.
    - `caps`: `[n_groups]` most atoms a group may keep (layer-wise keep ratios; see `caps_of`).
    - `widths`: `[n_groups]` numbers of atoms, fractions too, to round in place of step 1: a plan's that has
      a dual for every limit, which one threshold cannot say.

    **Raises:** `BudgetError` if one atom a group is already too much.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if network.n_atoms == 0 or (not limits and caps is None):
        require_feasible(network, cost, limits)
        return [np.ones(network.n_atoms, dtype=bool)]
    require_feasible(network, cost, limits)
    meter = Meter(network, cost, limits)
    floors = floors_of(network.groups, min_keep, meter)
    counts = np.array([g.stop - g.start for g in network.groups], dtype=np.int64)
    most = counts if caps is None else np.clip(caps, 1, counts).astype(np.int64)
    floors = np.minimum(floors, most)
    ranked = scores if values is None else values
    density, worth = _worth(scores, values, network, meter, floors)
    density = density + _tie_break(network, ranked) * 1e-6 * (np.abs(density).max() or 1.0)
    stepped = {"latency_ms", "energy_mj"} & set(limits)
    steps = steps_of(network, cost) if stepped else np.ones_like(most)
    if losses is not None and network.branches:
        worth = _recovered(losses, network)
    search = Search(network, meter, ranked, worth, density, floors, most, steps, near=values is None)
    if not network.branches:
        return [search.run(max_evaluations, widths)]
    search.left = max_evaluations
    start = search.threshold() if widths is None else search.rounded(widths)
    found: list[np.ndarray] = []
    for least in _floors_tried(floors, most, network, meter):
        branches = BranchSearch(search, _lower(least), max_evaluations)
        found += branches.run(start[branches.gates], starts)
    found.sort(key=search.value, reverse=True)
    return [network.settled(search.mask(k).astype(bool)) for k in {k.tobytes(): k for k in found}.values()]


def judged(found: Sequence[np.ndarray], network: PrunableNetwork, judge: Judge | None) -> np.ndarray:
    """Return the keep vector under which the network's loss is the lowest; without a judge the first one."""
    if judge is None or len(found) == 1:
        return found[0]
    return found[int(np.argmin(judge(np.stack([network.opened(keep) for keep in found]).astype(np.float64))))]


def _floors_tried(
    floors: np.ndarray, most: np.ndarray, network: PrunableNetwork, meter: Meter
) -> list[np.ndarray]:
    """The floors, wider ones, and those that leave whole what lies in no branch: the streams."""
    wide = np.maximum(floors, np.minimum(floors_of(network.groups, WIDE, meter), most))
    whole = floors.copy()
    inside = {g for branch in network.branches for g in (*branch.groups, branch.group)}
    outside = [g for g in range(len(floors)) if g not in inside]
    whole[outside] = most[outside]
    return list({f.tobytes(): f for f in (floors, wide, whole)}.values())


def _lower(floors: np.ndarray) -> list[np.ndarray]:
    """The floors, and lower ones for more open branches than they can afford."""
    found = [floors]
    while (found[-1] > 1).any():
        found.append(np.where(found[-1] > 1, -(-found[-1] // 2), found[-1]))
    return found


def _worth(
    scores: np.ndarray,
    values: np.ndarray | None,
    network: PrunableNetwork,
    meter: Meter,
    floors: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (value per marginal cost, value) of every atom at the soft solution of the limits."""
    spread = scores.std() or 1.0
    base = scores if values is None else np.asarray(values, dtype=np.float64)
    z = 20.0 * (base - base.mean()) / (base.std() or 1.0)
    segments = Segments(network.groups)
    plan = solve_plan(z, meter, segments, meter.limits, floors=floors, tolerance=1e-3)
    mass = np.ones(network.n_atoms)
    if plan.tightest:
        # every limit has a say, or atoms that are free under the tightest one would be worth nothing
        mass = np.zeros(network.n_atoms)
        for metric, limit in meter.limits.items():
            mass += meter.marginal(plan.mask, metric) / limit
        mass += 1e-3 * (mass.mean() or 1.0)
    if values is not None:
        if (base < 0).any():
            raise ValueError("values must be >= 0")
        return base / mass, base
    height = scores - scores.min() + 0.01 * spread
    return height, height * mass


def _recovered(losses: np.ndarray, network: PrunableNetwork) -> np.ndarray:
    """What each atom adds where a branch as a whole is worth the rise of the loss without it.

    First-order terms of the channels within often sum to more than that: they are then scaled to it, and the
    gate adds nothing of its own.
    """
    found = np.array(losses, dtype=np.float64)
    for branch in sorted(network.branches, key=lambda b: len(b.nodes)):  # those within before those around
        groups = [network.groups[g] for g in branch.groups]
        atoms = np.concatenate([np.arange(g.start, g.stop) for g in groups] or [np.zeros(0)]).astype(int)
        within, whole = float(found[atoms].sum()), float(losses[branch.atom])
        if within > whole:
            found[atoms] *= whole / within
        found[branch.atom] = max(0.0, whole - within)
    return found


def _tie_break(network: PrunableNetwork, ranked: np.ndarray) -> np.ndarray:
    """Return 0 to -1 by rank within the group, so that equal scores are cut by the same share everywhere."""
    tilt = np.zeros(network.n_atoms)
    for g in network.groups:
        order = np.argsort(-ranked[g.start : g.stop], kind="stable")
        tilt[g.start + order] = -np.arange(g.stop - g.start) / (g.stop - g.start)
    return tilt
