"""A sweep's trials of cuts on disk: what one cell measured, the others read.

They are named by all that they depend on: the weights, the inputs, and the threads that add up. A trial that
is read counts as one that was made, so that a cell ends, bit for bit, as a run of its own.
"""

from __future__ import annotations

from pathlib import Path

import torch

from dtp_edge.graph import PrunableNetwork
from dtp_edge.run.calibration_set import CalibrationSet
from dtp_edge.run.known_file import KnownFile
from dtp_edge.run.traced import weights_sha256

__all__ = ["KnownTrials"]

_MOST_BYTES = 2**26


class KnownTrials:
    """`errors` of the outputs by a digest of what was kept; `keep` writes them where there is a `file`."""

    def __init__(self, file: KnownFile | None) -> None:
        found = {} if file is None else file.read()
        self.file, self.errors = file, {str(name): float(error) for name, error in found.items()}

    @classmethod
    def of(
        cls,
        folder: Path | None,
        network: PrunableNetwork,
        inputs: CalibrationSet,
        *,
        seed: int,
        effort: float,
    ) -> KnownTrials:
        """Open those of `network` as it is now, in what a sweep's cells share; None: of one run alone."""
        if folder is None:
            return cls(None)
        run = {
            "weights": weights_sha256(network.graph_module),
            "threads": torch.get_num_threads(),
            "inputs": [inputs.name, inputs.samples, inputs.judges, seed],
            "effort": effort,
            "atoms": network.n_atoms,
        }
        return cls(KnownFile(folder, "trials", run, most_bytes=_MOST_BYTES))

    def keep(self) -> None:
        """Write what is known now."""
        if self.file is not None:
            self.file.write(self.errors)
