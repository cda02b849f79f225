"""What a cut would do to the outputs: made, quickly fitted on some of the inputs, compared on the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtp_edge.graph import PrunableNetwork
from dtp_edge.run.calibration_samples import first_samples, samples_of
from dtp_edge.run.output_error import compared, outputs_of
from dtp_edge.surgery import compact
from dtp_edge.surgery.quick_fit import QuickFit

__all__ = ["RIDGE", "Trials"]

RIDGE = 0.01
SAMPLES, LEAST = 128, 16  # fitted, and as many judged; fewer where that takes too long, or there are fewer
FORWARDS = 4  # what a trial takes, in runs over its fitted samples
WANTED, BY_BRANCH = 40, 1.8  # trials that samples are given up for, at least; by the branches
WORK = 1.6e12  # multiply-accumulates that trials may take: a minute or two
Batch = tuple[Any, ...]


class Trials:
    """Called with a keep vector it returns the error of the outputs (see `output_error.compared`).

    `left` says how many more there is time for; one that begins as the `lead` counts for what it does not
    share with it. `errors` are those that others measured, by a digest of what
    was kept, and what is measured here goes in; they count all the same.
    """

    def __init__(
        self,
        network: PrunableNetwork,
        batches: Sequence[Batch],
        macs: float,
        seed: int,
        effort: float = 1.0,
        errors: dict[str, float] | None = None,
    ) -> None:
        self.network, work = network, effort * WORK
        wanted = max(WANTED, BY_BRANCH * len(network.branches))
        most = min(SAMPLES, max(LEAST, int(work / (FORWARDS * macs * wanted))))
        self.fitted = first_samples(batches, min(most, samples_of(batches) // 2), network)
        others = first_samples(batches, most, network, skip=samples_of(self.fitted))
        self.judges = others or first_samples(batches, most, network)
        self.fit = QuickFit(network, self.fitted, self.judges, ridge=RIDGE, seed=seed)
        self.wanted = outputs_of(network.graph_module, self.judges)
        self.left = work / (FORWARDS * macs * samples_of(self.fitted))
        self.known: dict[bytes, float] = {}
        self.errors = {} if errors is None else errors
        self._lead = b""

    def __call__(self, keep: np.ndarray) -> float:
        key = self.network.settled(keep).tobytes()
        if key not in self.known:
            cut = compact(self.network, keep, in_place=False)
            if key != self._lead:
                self.left -= self.fit.share(cut)
            name = hashlib.sha256(key).hexdigest()[:24]
            if name not in self.errors:
                self.errors[name] = compared(self.fit(cut), self.wanted)[0]
            self.known[key] = self.errors[name]
        return self.known[key]

    def lead(self, keep: np.ndarray) -> None:
        """Announce that those that follow begin as this one for the most part: they then take less."""
        key = self.network.settled(keep).tobytes()
        if key != self._lead:
            cut = compact(self.network, keep, in_place=False)
            self.left -= self.fit.share(cut)
            self.fit.lead(cut)
            self._lead = key

    def best(self, keeps: Sequence[np.ndarray]) -> np.ndarray:
        """Return the one of least error, of as many as there is time for; the first of equals."""
        distinct: dict[bytes, np.ndarray] = {}
        for keep in keeps:
            distinct.setdefault(self.network.settled(keep).tobytes(), keep)
        found = list(distinct.values())
        if len(found) == 1:
            return found[0]
        return min(found[: max(1, int(self.left))], key=self)
