"""The search behind `harden`: threshold, fill, exchange over the number of atoms kept in every group.

Gates are set from outside (`branches`): a group of one atom whose least and most are the same. What lies in a
closed branch is neither wanted nor paid for.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np

from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.transport.meter import Meter

_TINY = 1e-12


class Search:
    """Counts `k [n_groups]`; atoms of a group are taken in falling order of `ranked`.

    `worth` is what an atom adds, `density` its worth per marginal cost (for the first threshold only).
    `near`: give up only atoms that stick out over a device step, and move no group further than a step
    (or a twentieth of it), because `worth` is a linearisation at the threshold and means little elsewhere.
    """

    def __init__(
        self,
        network: PrunableNetwork,
        meter: Meter,
        ranked: np.ndarray,
        worth: np.ndarray,
        density: np.ndarray,
        floors: np.ndarray,
        most: np.ndarray,
        steps: np.ndarray,
        near: bool = False,
    ) -> None:
        self.network, self.meter, self.floors, self.most, self.steps = network, meter, floors, most, steps
        self.density, self.near = density, near
        self.order = [g.start + np.argsort(-ranked[g.start : g.stop], kind="stable") for g in network.groups]
        self.place, self.group = (np.zeros(network.n_atoms, dtype=np.int64) for _ in range(2))
        for i, order in enumerate(self.order):
            self.place[order], self.group[order] = np.arange(len(order)), i
        self.total = [np.concatenate([[0.0], np.cumsum(worth[o])]) for o in self.order]
        self.limits = np.array([meter.limits[m] for m in meter.metrics])
        self.known: dict[bytes, np.ndarray] = {}
        self.within = [(b.group, np.array(b.groups, dtype=np.int64)) for b in network.branches]

    def run(self, max_evaluations: int, widths: np.ndarray | None = None) -> np.ndarray:
        """Return the best keep vector found within about `max_evaluations` prices, from `widths` if given."""
        return self.mask(self.best(max_evaluations, widths)).astype(bool)

    def best(self, max_evaluations: int, widths: np.ndarray | None = None) -> np.ndarray:
        """Return the best counts found, `[n_groups]`."""
        self.left = max_evaluations
        start = self.threshold() if widths is None else self.rounded(widths)
        best = self.exchange(self.fill(start), *self.bounds(start))
        self.left = max_evaluations  # what bounds and evaluations left over may go anywhere
        return self.fill(best)

    def alive(self, k: np.ndarray) -> np.ndarray:
        """Return which groups are not within a closed branch, bool `[n_groups]`."""
        found = np.ones(len(k), dtype=bool)
        for gate, groups in self.within:
            if k[gate] == 0:
                found[groups] = False
        return found

    def bounds(self, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least and most atoms of every group that the exchange may choose."""
        if not self.near:
            return self.floors, self.most
        reach = np.maximum(self.steps, -(-(self.most - self.floors) // 20))
        return np.maximum(self.floors, start - reach), np.minimum(self.most, start + reach)

    def mask(self, k: np.ndarray) -> np.ndarray:
        return (self.place < k[self.group]).astype(np.float64)

    def price(self, k: np.ndarray) -> np.ndarray:
        """Cost / limit for every limit."""
        key = k.tobytes()
        found = self.known.get(key)
        if found is None:
            self.left -= 1
            costs = self.meter.costs(self.mask(k))
            found = self.known[key] = np.array([costs[m] for m in self.meter.metrics]) / self.limits
        return found

    def fits(self, k: np.ndarray) -> bool:
        return bool((self.price(k) <= 1.0).all())

    def value(self, k: np.ndarray) -> float:
        pairs = zip(self.total, k, strict=True)
        if not self.within:
            return float(sum(t[c] for t, c in pairs))
        return float(sum(t[c] for (t, c), lives in zip(pairs, self.alive(k), strict=True) if lives))

    def threshold(self) -> np.ndarray:
        """Keep what is denser than the lowest threshold that fits (bisection over the atoms' densities)."""
        if self.within and self.fits(self.most):
            return self.most.copy()  # on a blocked layout all channels may fit where fewer do not
        levels = np.unique(self.density)[::-1]
        low, high = -1, len(levels) - 1  # number of levels let in, less one: low fits, high may not
        best = self.floors.copy()
        while low < high:
            middle = (low + high + 1) // 2
            k = self.counts_at(levels[middle])
            if self.fits(k):
                low, best = middle, k
            else:
                high = middle - 1
        return best

    def rounded(self, widths: np.ndarray) -> np.ndarray:
        """Whole counts: as many groups rounded up as fit, the rest down."""
        k = np.clip(np.floor(widths + 1e-3).astype(np.int64), self.floors, self.most)
        if not self.fits(k):
            return self.threshold()
        return self.fill(k, np.clip(np.ceil(widths - 1e-3).astype(np.int64), k, self.most))

    def counts_at(self, level: float) -> np.ndarray:
        k = np.array([int((self.density[o] >= level).sum()) for o in self.order], dtype=np.int64)
        return np.clip(k, self.floors, self.most)

    def amounts(self, g: int, count: int) -> list[int]:
        """How many atoms may come at once: one, or as many as complete this device step or the next."""
        room, step = int(self.most[g] - count), int(self.steps[g])
        whole = step - count % step
        return sorted({n for n in (1, whole, whole + step, room) if 0 < n <= room})

    def fill(self, k: np.ndarray, most: np.ndarray | None = None) -> np.ndarray:
        """Add where value per used budget is best, until nothing fits.

        Offers wait in a queue and are priced again when their turn comes: prices change little as others
        are taken, so few prices are asked. What does not fit leaves the queue, for costs only rise; where
        one fell (a layout that suits more channels) all offers are made again.
        """
        most = self.most if most is None else most
        k, taken = k.copy(), 0
        queue = self.offers(k, range(len(k)), most, taken)
        while queue and self.left > 0:
            _, g, count, seen = heapq.heappop(queue)
            rate = self.rate(k, g, count)
            if rate is None:
                continue
            if seen < taken:
                heapq.heappush(queue, (-rate, g, count, taken))
                continue
            here = self.price(k)
            k[g], taken = count, taken + 1
            if (self.price(k) < here).any():
                queue = self.offers(k, range(len(k)), most, taken)
            else:
                for offer in self.offers(k, [g], most, taken):
                    heapq.heappush(queue, offer)
        return k

    def offers(
        self, k: np.ndarray, groups: Iterable[int], most: np.ndarray, taken: int
    ) -> list[tuple[float, int, int, int]]:
        """Return a heap of (-rate, group, atoms it would keep, `taken`) of all that fits now."""
        found, alive = [], self.alive(k)
        for g in groups:
            if not alive[g]:
                continue
            for n in self.amounts(g, int(k[g])):
                count = int(k[g]) + n
                rate = self.rate(k, g, count) if count <= most[g] else None
                if rate is not None:
                    found.append((-rate, g, count, taken))
        heapq.heapify(found)
        return found

    def rate(self, k: np.ndarray, g: int, count: int) -> float | None:
        """Return the value per budget of letting group `g` keep `count` atoms; None if it does not fit."""
        if count <= k[g]:
            return None
        new = k.copy()
        new[g] = count
        price = self.price(new)
        if (price > 1.0).any():
            return None
        spent = max(float((price - self.price(k)).max()), 0.0)  # more channels may even be cheaper
        return (self.total[g][count] - self.total[g][k[g]] + _TINY) / (spent + _TINY)

    def exchange(self, k: np.ndarray, least: np.ndarray, most: np.ndarray) -> np.ndarray:
        """Take from one group, fill the others again; keep what raises the value."""
        improved = True
        while improved and self.left > 0:
            improved = False
            alive = self.alive(k)
            for a in np.flatnonzero(alive).tolist():
                for n in self.removals(a, int(k[a] - least[a]), int(k[a])):
                    less = k.copy()
                    less[a] -= n
                    new = self.refill(less, a, most)
                    if self.value(new) > self.value(k) * (1 + 1e-9) + _TINY:
                        k, improved = new, True
                        break
                if self.left <= 0:
                    break
        return k

    def removals(self, g: int, room: int, count: int) -> list[int]:
        step = int(self.steps[g])
        whole = count % step or step
        amounts = (count % step,) if self.near else (1, 2, whole, whole + step)
        return sorted({n for n in amounts if 0 < n <= room})

    def refill(self, k: np.ndarray, without: int, most: np.ndarray) -> np.ndarray:
        """Spend what group `without` gave up on the others, dearest gain first; then on anything."""
        best, alive = k, self.alive(k)
        for g in range(len(k)):
            if g == without or k[g] >= most[g] or self.left <= 0 or not alive[g]:
                continue
            new = k.copy()
            for n in reversed(self.amounts(g, int(k[g]))):
                new[g] = k[g] + n
                if new[g] <= most[g] and self.fits(new):
                    break
                new[g] = k[g]
            if self.value(new) > self.value(best):
                best = new
        return self.fill(best, most) if best is not k else k
