"""A sweep's trials of cuts on disk: what one cell measured, the others read.

They are named by all that they depend on: the weights, the inputs, and the threads that add up. A trial that
is read counts as one that was made, so that a cell ends, bit for bit, as a run of its own.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import torch

from dtp_edge.errors import DtpEdgeError
from dtp_edge.files import read_json, write_text
from dtp_edge.graph import PrunableNetwork
from dtp_edge.run.calibration_set import CalibrationSet
from dtp_edge.run.traced import weights_sha256

__all__ = ["KnownTrials"]

_MOST_BYTES = 2**26
_HINT = "Remove the file: it is measured again."


class KnownTrials:
    """`errors` of the outputs by a digest of what was kept; `keep` writes them where there is a `file`."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.errors = file, dict[str, float]()
        if file is None or not file.is_file():
            return
        with suppress(DtpEdgeError):  # of a machine that stopped: as if it were not there
            found = read_json(file, most_bytes=_MOST_BYTES, hint=_HINT)
            self.errors = {str(name): float(error) for name, error in found.items()}

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
        name = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:12]
        return cls(folder / f"trials-{name}.json")

    def keep(self) -> None:
        """Write what is known now. Several cells at once may write: what one lacks is measured again."""
        if self.file is None:
            return
        with suppress(DtpEdgeError):  # a full disk costs time, no cell
            write_text(self.file, json.dumps(self.errors))
