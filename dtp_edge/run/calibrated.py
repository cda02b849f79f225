"""Pruning by calibration: inputs without labels, no optimiser, minutes.

1. widths from what every width costs at the output (`calibrated_widths`)
2. the cut; every layer is fitted to the dense network's, in order, on what it now reads (`surgery.refit`)
3. inputs that took no part say how far the outputs are from the dense network's, and how often the top class
agrees
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from dtp_edge.run.calibrated_widths import keep_by_calibration
from dtp_edge.run.calibration_range import odd_scale
from dtp_edge.run.calibration_set import CalibrationSet, affordable, calibration_set
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.output_error import compared, outputs_of
from dtp_edge.run.proved import Cut
from dtp_edge.run.task import Task
from dtp_edge.run.trials import RIDGE
from dtp_edge.surgery import compact, refit

__all__ = ["Calibrated", "calibrate_and_cut"]

LOW_AGREEMENT = 0.9
LARGE_ERROR = 0.1


@dataclass(frozen=True)
class Calibrated:
    """What calibration did.

    `output_error` and `agreement` are those of `output_error.compared` on inputs that took no part; `fitted`
    of `layers` were changed by the fit.
    """

    inputs: CalibrationSet
    output_error: float
    agreement: float | None
    fitted: int
    layers: int
    seconds: float
    warnings: tuple[str, ...]


def calibrate_and_cut(task: Task, options: Options, listener: Listener) -> Cut:
    """Choose the widths, cut, repair and prove.

    **Raises:** `InputError` for inputs that nothing good can come of, `CheckError` if a proof fails.
    """
    network, began = task.require_deliverable(files=options.out is not None).network, time.monotonic()
    listener.begin("reading the calibration inputs")
    inputs = calibration_set(options.calibrate, network, task.whole, images=options.images, seed=options.seed)
    notes = [*inputs.warnings, *odd_scale(network, inputs.fitted[0])]
    wanted = outputs_of(network.graph_module, inputs.held_out)
    listener.begin("measuring what every width costs")
    chosen = keep_by_calibration(task, inputs.fitted, options.seed)
    keep = chosen.keep
    listener.begin("fitting what is left to the dense network")
    compacted = compact(network, keep)
    dense = dict(network.graph_module.state_dict())
    given = affordable(inputs.fitted)
    rows = refit(network, compacted, dense, given, ridge=RIDGE, seed=options.seed, streams=True)
    error, agreement = compared(outputs_of(compacted.graph_module, inputs.held_out), wanted)
    agreement = agreement if task.whole is None else None  # a part puts out no classes
    outcome = Calibrated(
        inputs,
        error,
        agreement,
        sum(row.reason is None for row in rows),
        len(rows),
        time.monotonic() - began,
        (*notes, *chosen.notes, *_verdict(error, agreement)),
    )
    listener.begin("proving that the result is the same")
    return Cut.calibrated(task, keep, compacted, outcome, chosen.rises)


def _verdict(error: float, agreement: float | None) -> list[str]:
    """A plain word where the result is far from the dense network."""
    if agreement is not None and agreement < LOW_AGREEMENT:
        return [
            f"The top class agrees with the dense network's on {100 * agreement:.1f} % of held-out inputs "
            "only: train this one (--data), or give it a larger budget."
        ]
    if agreement is None and error > LARGE_ERROR:
        return [
            f"The output is off by {100 * error:.1f} % (squared, of its variation) on held-out inputs: "
            "train this one in your own loop, or give it a larger budget."
        ]
    return []
