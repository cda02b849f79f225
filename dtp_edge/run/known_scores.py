"""A sweep's measured scores on disk: the first cell measures them, the others read them.

They are named by all that they depend on: the weights that the masks begin with, the samples, what is trained
for, and the threads that add up. A cell ends, bit for bit, as one that measures them itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.leaves import batch_of
from dtp_edge.run.known_file import KnownFile
from dtp_edge.run.traced import weights_sha256
from dtp_edge.training import DataSource
from dtp_edge.training.feed import Feed
from dtp_edge.transport.known_losses import KnownLosses

__all__ = ["KnownScores"]

_MOST_BYTES = 2**28


class KnownScores:
    """`losses` are those of `file`, where a cell wrote one; `keep` writes what this one added."""

    def __init__(self, file: KnownFile | None, network: PrunableNetwork) -> None:
        self.file, self.losses = file, KnownLosses()
        if file is not None and (found := file.read()):
            worth = np.array(found["worth"], dtype=np.float64)
            if worth.shape == (network.n_atoms,):
                self.losses = KnownLosses(worth, {k: float(v) for k, v in found["losses"].items()})

    @classmethod
    def of(
        cls,
        folder: Path | None,
        network: PrunableNetwork,
        data: DataSource,
        feed: Feed,
        scored: Sequence[Any],
    ) -> KnownScores:
        """Open those for `network` as it is now, in what a sweep's cells share; None: of one run alone."""
        if folder is None:
            return cls(None, network)
        objective = feed.objective
        run = {
            "weights": weights_sha256(network.module if feed.host is None else feed.host.module),
            "device": str(next(network.module.parameters()).device.type),
            "threads": torch.get_num_threads(),
            "data": [data.name, len(data.train)],
            "scored": [len(scored), sum(batch_of(batch.inputs) or 1 for batch in scored)],
            "objective": [objective.name or type(objective).__name__, objective.settings()],
            "atoms": network.n_atoms,
        }
        return cls(KnownFile(folder, "scores", run, most_bytes=_MOST_BYTES), network)

    def keep(self) -> None:
        """Write what is known now."""
        if self.file is None or self.losses.worth is None:
            return
        known = {"worth": self.losses.worth.tolist(), "losses": self.losses.losses}
        self.file.write(known)
