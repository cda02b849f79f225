"""What masks cost, against limits: the one place where transport meets graph and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import numpy as np

from dtp_edge.errors import BudgetError, InputError
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.metrics import quantity, title
from dtp_edge.transport.budget import KEPT, UNITS
from dtp_edge.transport.smallest import few_counts, first_atoms, least_counts

__all__ = ["CostModel", "Meter", "feasibility", "prices", "require_feasible"]

_PRICED = ("latency_ms", "macs", "energy_mj")


class CostModel(Protocol):
    """What transport asks of a cost; `cost.NetworkCost` is one."""

    @property
    def metrics(self) -> tuple[str, ...]: ...

    def evaluate(self, sizes: np.ndarray) -> dict[str, float]: ...

    def gradient(self, sizes: np.ndarray, metric: str) -> np.ndarray: ...

    def channel_steps(self) -> np.ndarray: ...


class Meter:
    """Costs of masks `[n_atoms]` in [0, 1] and their marginal costs, for the metrics with a limit."""

    def __init__(self, network: PrunableNetwork, cost: CostModel, limits: Mapping[str, float]) -> None:
        known = (*cost.metrics, KEPT)
        for metric, limit in limits.items():
            if metric not in known:
                raise InputError(f"the cost model has no {metric}.", where="budget", hint=f"Known: {known}.")
            if not (np.isfinite(limit) and limit > 0):
                raise InputError(
                    f"the limit {limit!r} of {metric} is not a finite number above 0.",
                    hint="Budget.limits gives limits in the units of the cost model.",
                )
        self.network, self.cost, self.layers = network, cost, network.layers
        self.weight = np.ones(network.n_atoms)
        for group in network.groups:
            self.weight[group.start : group.stop] = 0 if group.kind == "branch" else group.channels_per_atom
        groups = network.groups
        self.within = [  # of every branch its gate and the atoms within, other gates among them
            (
                b.atom,
                np.concatenate([np.arange(groups[g].start, groups[g].stop) for g in b.groups] or [[]]).astype(
                    int
                ),
            )
            for b in network.branches
        ]
        self.metrics = tuple(limits)
        self.dense = self.costs(np.ones(network.n_atoms))
        # a share <= 1 of the channels is a share; anything above is a count
        self.limits = {
            m: v * self.dense[KEPT] if m == KEPT and v <= 1 else float(v) for m, v in limits.items()
        }
        self.evaluations = 0

    def costs(self, mask: np.ndarray) -> dict[str, float]:
        """Every metric of the whole network, and the number of channels kept where that is limited."""
        found = dict(self.cost.evaluate(self.layers.sizes(mask)))
        if KEPT in self.metrics:
            found[KEPT] = float(self.weight @ self._felt(mask))
        return found

    def used(self, mask: np.ndarray, limits: Mapping[str, float] | None = None) -> tuple[float, str]:
        """Return the largest cost / limit over all limits, and its metric; (0, "") without limits."""
        limits = self.limits if limits is None else limits
        self.evaluations += 1
        costs = self.costs(mask)
        return max(((costs[m] / limit, m) for m, limit in limits.items()), default=(0.0, ""))

    def fits(self, mask: np.ndarray) -> bool:
        """True if no limit is exceeded."""
        return self.used(mask)[0] <= 1.0

    def marginal(self, mask: np.ndarray, metric: str) -> np.ndarray:
        """d metric / d mask, `[n_atoms]`, >= 0."""
        if metric == KEPT:
            return self._kept_marginal(mask)
        gradient = self.cost.gradient(self.layers.sizes(mask), metric)
        return np.maximum(self.layers.sizes_vjp(mask, gradient), 0.0)

    def _felt(self, mask: np.ndarray) -> np.ndarray:
        """The masks times those of the gates around: what is there of every atom."""
        return np.asarray(mask, dtype=np.float64) * self._around(mask) if self.within else mask

    def _kept_marginal(self, mask: np.ndarray) -> np.ndarray:
        """d channels kept / d mask: of a gate the channels behind it."""
        found = self.weight * self._around(mask)
        for gate, atoms in self.within:
            open_gate = np.array(mask, dtype=np.float64)
            open_gate[gate] = 1.0
            found[gate] = float(self.weight[atoms] @ self._felt(open_gate)[atoms])
        return found

    def _around(self, mask: np.ndarray) -> np.ndarray:
        """The product of the gates around every atom."""
        gates = np.ones(len(mask))
        for gate, atoms in self.within:
            gates[atoms] *= mask[gate]
        return gates


def prices(network: PrunableNetwork, cost: CostModel, limits: Mapping[str, float]) -> np.ndarray:
    """Return what keeping each atom takes of the limits, `[n_atoms]` > 0, for `initial_scores`.

    Its marginal cost in the dense network over the limit, summed over the limits of latency and MACs that the
    dense network exceeds (all 1 if there is none, a gate as many as the channels behind it). What costs next
    to nothing counts as 1 % of the mean, or it would outshine every importance. Limits of memory take no
    part: bytes of weights differ a hundredfold between the layers of a network, far more than importance
    does, and networks trained from scores priced in them ended 1.5 to 2.7 points lower
    (`benchmarks/accuracy/mcu.py`).
    """
    meter = Meter(network, cost, limits)
    mask, total = np.ones(network.n_atoms), np.zeros(network.n_atoms)
    for metric, limit in meter.limits.items():
        if metric in _PRICED and meter.dense[metric] > limit:
            total += meter.marginal(mask, metric) / limit
    if not total.any():
        total[:] = 1.0
        for gate, atoms in meter.within:
            total[gate] = max(1.0, float(meter.weight[atoms].sum()))  # as many as go with it
        return total
    return np.maximum(total, 0.01 * total.mean())


def feasibility(
    network: PrunableNetwork, cost: CostModel, limits: Mapping[str, float]
) -> list[dict[str, object]]:
    """Return one row a metric: `metric`, `asked`, `smallest`, `dense`, `unit`, `feasible`, `blocked_by`.

    `asked` is None where there is no limit. `smallest` is the cost with one atom kept in every group, or
    of the cheapest network found where the device's layouts make more channels cheaper. All limits are
    tried on one network: a row is feasible if its budget fits together with the others.
    """
    meter = Meter(network, cost, limits)
    mask = first_atoms(network, least_counts(meter))
    smallest = meter.costs(mask)
    tried = [meter.costs(first_atoms(network, counts)) for counts in few_counts(meter)]
    rows: list[dict[str, object]] = []
    for metric in (*cost.metrics, *(m for m in meter.limits if m not in cost.metrics)):
        asked = meter.limits.get(metric)
        feasible = asked is None or smallest[metric] <= asked
        if feasible:
            smallest[metric] = min(smallest[metric], *(costs[metric] for costs in tried))
        rows.append(
            {
                "metric": metric,
                "asked": asked,
                "smallest": smallest[metric],
                "dense": meter.dense[metric],
                "unit": UNITS.get(metric, ""),
                "feasible": feasible,
                "blocked_by": "" if feasible else _blocked_by(meter, mask, metric),
            }
        )
    return rows


def require_feasible(network: PrunableNetwork, cost: CostModel, limits: Mapping[str, float]) -> None:
    """Raise `BudgetError` with the rows of `feasibility` if any limit cannot be reached."""
    rows = feasibility(network, cost, limits)
    bad = [row for row in rows if not row["feasible"]]
    if not bad:
        return
    said = "; ".join(_refusal(row) for row in bad)
    raise BudgetError(
        f"the budget cannot be reached: {said}.",
        rows=rows,
        hint="Raise the budget to the smallest value or above, or choose another network.",
    )


def _refusal(row: Mapping[str, object]) -> str:
    metric, asked, smallest = str(row["metric"]), cast(float, row["asked"]), cast(float, row["smallest"])
    return f"{title(metric)} of {quantity(metric, asked)} asked, {quantity(metric, smallest)} is the smallest"


_COLUMN = {"latency_ms": "latency_ms", "macs": "macs", "params": "params", "flash_bytes": "weight_bytes"}


def _blocked_by(meter: Meter, mask: np.ndarray, metric: str) -> str:
    """Name what still costs the most at the smallest widths, and what was left whole."""
    frozen = meter.network.frozen
    kept_whole = f"; left whole: {frozen[0].name} ({frozen[0].reason})" if frozen else ""
    by_layer = getattr(meter.cost, "by_layer", None)
    if by_layer is None or metric not in _COLUMN:
        schedule = getattr(meter.cost, "memory_schedule", None)
        if metric == "peak_ram_bytes" and schedule is not None:
            name, live = max(schedule(meter.layers.sizes(mask)), key=lambda row: row[1])
            module = next((layer.module for layer in meter.layers.layers if layer.name == name), None)
            return f"{module or name} {quantity(metric, live)}{kept_whole}"
        return f"one channel in every group{kept_whole}"
    rows = sorted(by_layer(meter.layers.sizes(mask)), key=lambda r: -getattr(r, _COLUMN[metric]))[:3]
    parts = [f"{r.module or r.name} {quantity(metric, getattr(r, _COLUMN[metric]))}" for r in rows]
    return ", ".join(parts) + kept_whole
