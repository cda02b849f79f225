"""Which branches stay: a search over the gates around the search over the widths.

A *pattern* says of every gate whether it is open. Under a pattern the widths are what `Search` makes of them,
so that a branch is exchanged for widths and back, each time at the true cost of the whole network. Patterns
tried first are the plan's own, all branches open (what widths alone can do), and the ones on the way down of
a greedy removal, the cheapest loss per unit of the budget first (what depth alone can do): no result is worth
less than either. From the best of them gates are turned one by one, then one against another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dtp_edge.transport._search import Search

LEAST = 60  # evaluations for a pattern
PAIRS = 100  # most exchanges of one branch for another that are tried at once
SEEN = 4  # patterns nearby whose widths are searched for: those that look best at the first threshold
CLIMBS = 3  # starts that gates are turned from
FINISHED = 2  # patterns whose widths are searched for with all of them, besides both extremes


class BranchSearch:
    """`floors`: least counts `[n_groups]` of every channel group, from those wanted to those needed."""

    def __init__(self, search: Search, floors: Sequence[np.ndarray], evaluations: int) -> None:
        self.search, self.floors, self.evaluations = search, floors, evaluations
        self.depth = search.network.depth
        self.gates = np.array([b.group for b in self.depth.branches], dtype=np.int64)
        self.full = search.most.copy()
        self.worths: dict[bytes, tuple[float, np.ndarray] | None] = {}
        self.glances: dict[bytes, float] = {}
        self.each = max(LEAST, evaluations // (4 * len(self.gates) + 8))

    def run(self, plan: np.ndarray) -> list[np.ndarray]:
        """Return counts `[n_groups]` that fit, the best first; `plan` is a pattern to begin with, `[gates]`.

        Behind the best come those of the starts, which a judge with data may prefer.
        """
        starts = [plan, np.ones_like(plan), *self.greedy()]
        known = [p for p in self.distinct(map(self.settled, starts)) if self.tried(p) is not None]
        if not known:
            known = [p for p in [self.settled(np.zeros_like(plan))] if self.tried(p) is not None]
        for start in sorted(known, key=self.worth)[-CLIMBS:]:
            self.climb(start)
        tried = sorted((v for v in self.worths.values() if v is not None), key=lambda v: -v[0])[:FINISHED]
        last = [k[self.gates] for _, k in tried] + [p for p in (starts[1], starts[-1]) if self.tried(p)]
        best_of = max(map(self.finished, self.distinct(last)), key=self.search.value)
        found = [best_of, *(k for p in known for _, k in [self.tried(p) or (0.0, best_of)])]
        return list({k.tobytes(): k for k in found}.values())

    def worth(self, pattern: np.ndarray) -> float:
        found = self.tried(pattern)
        return -np.inf if found is None else found[0]

    def glance(self, pattern: np.ndarray) -> float:
        """A first idea of a pattern's worth: what is kept above the threshold that fits."""
        key = pattern.tobytes()
        if key not in self.glances:
            self.glances[key] = self.search.value(self.search.threshold()) if self.set(pattern) else -np.inf
        return self.glances[key]

    def settled(self, pattern: np.ndarray) -> np.ndarray:
        """The pattern with all gates within a closed branch closed."""
        new = pattern.copy()
        for i in range(len(new)):
            new[i] = all(pattern[j] for j in self.depth.chain(i))
        return new

    def distinct(self, patterns: Iterable[np.ndarray]) -> list[np.ndarray]:
        return list({p.tobytes(): p for p in patterns}.values())

    def allowed(self, pattern: np.ndarray) -> bool:
        return self.depth.fault(self.search.mask(self.counts(self.full, pattern)).astype(bool)) is None

    def counts(self, k: np.ndarray, pattern: np.ndarray) -> np.ndarray:
        new = k.copy()
        new[self.gates] = pattern
        return new

    def set(self, pattern: np.ndarray) -> bool:
        """Give the search the gates of a pattern and the floors that it can afford; False if none."""
        search = self.search
        if not self.allowed(pattern):
            return False
        search.most = self.counts(self.full, pattern)
        for floors in self.floors:
            search.floors = self.counts(np.minimum(floors, self.full), pattern)
            if search.fits(search.floors):
                return True
        return False

    def tried(self, pattern: np.ndarray) -> tuple[float, np.ndarray] | None:
        """Return the worth of a pattern and the counts under it; None where it cannot be had."""
        key = pattern.tobytes()
        if key not in self.worths:
            found = None
            if self.set(pattern):
                k = self.search.best(self.each)
                found = self.search.value(k), k
            self.worths[key] = found
        return self.worths[key]

    def finished(self, pattern: np.ndarray) -> np.ndarray:
        """Return the counts under a pattern after exchanges between groups too."""
        self.set(pattern)
        k = self.search.best(self.evaluations)
        tried = self.tried(pattern)
        return k if tried is None or self.search.value(k) >= tried[0] else tried[1]

    def greedy(self) -> Iterator[np.ndarray]:
        """Yield patterns: without one branch more each, the least worth per budget freed, until it fits."""
        search, pattern = self.search, np.ones(len(self.gates), dtype=np.int64)
        k = self.counts(self.full, pattern)
        while not search.fits(k):
            rated = []
            for i in np.flatnonzero(pattern):
                new = pattern.copy()
                new[i] = 0
                new = self.settled(new)
                if not self.allowed(new):
                    continue
                less = self.counts(self.full, new)
                freed = float(np.maximum(search.price(k) - search.price(less), 0.0).max())
                lost = search.value(k) - search.value(less)
                rated.append((lost / max(freed, 1e-12), tuple(new)))
            if not rated:
                return
            pattern = np.array(min(rated)[1])
            k = self.counts(self.full, pattern)
            yield pattern

    def climb(self, best: np.ndarray) -> np.ndarray:
        """Turn gates, one or two against each other, while the worth rises."""
        while True:
            for patterns in (self.turned(best), self.swapped(best)):
                near = sorted(self.distinct(map(self.settled, patterns)), key=self.glance)[-SEEN:]
                new = max(near, key=self.worth, default=best)
                if self.worth(new) > self.worth(best) * (1 + 1e-9) + 1e-12:
                    break
            else:
                return best
            best = new

    def turned(self, pattern: np.ndarray) -> Iterator[np.ndarray]:
        for i in range(len(pattern)):
            new = pattern.copy()
            if new[i]:
                new[i] = 0
            else:
                new[self.depth.chain(i)] = 1  # a branch opens with those around it
            yield new

    def swapped(self, pattern: np.ndarray) -> Iterator[np.ndarray]:
        pairs = itertools.product(np.flatnonzero(pattern), np.flatnonzero(pattern == 0))
        for a, b in itertools.islice(pairs, PAIRS):
            new = pattern.copy()
            new[a] = 0
            new[self.depth.chain(int(b))] = 1
            if not new[a]:
                yield new
