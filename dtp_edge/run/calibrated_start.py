"""A calibration as the start of a training: cut and fitted without labels, every step tunes what is left."""

from __future__ import annotations

from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.run.calibrated_widths import Chosen, keep_by_calibration
from dtp_edge.run.calibration_set import affordable, calibration_set
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.task import Task
from dtp_edge.run.trials import RIDGE
from dtp_edge.surgery import Compact, compact, refit
from dtp_edge.surgery.norm_statistics import restate_norms

__all__ = ["calibrated_start", "require_no_masks"]


def require_no_masks(options: Options) -> None:
    """Raise `InputError` where a run that begins with masks is to start with a calibration."""
    if options.warm is not None:
        raise InputError(
            "a warm start begins with masks, and start=calibration learns none",
            where="start",
            hint="Leave one of them out.",
        )


def calibrated_start(task: Task, data: Any, options: Options, listener: Listener) -> tuple[Chosen, Compact]:
    """Cut the network as it is now by its own outputs on training inputs, and fit what is left to them.

    Returns what was chosen, and the compact network as it was fitted.

    **Raises:** `InputError` for data that nothing good can come of.
    """
    network = task.network
    asked: dict[str, Any] = {"images": options.images, "seed": options.seed, "objective": options.objective}
    inputs = calibration_set(data, network, task.whole, **asked)
    batches = [*inputs.fitted, *inputs.held_out]
    listener.begin("measuring what every width costs")
    chosen = keep_by_calibration(task, batches, options.seed)
    listener.begin("fitting what is left to the dense network")
    cut = compact(network, chosen.keep)
    dense = dict(network.graph_module.state_dict())
    given = affordable(batches)
    refit(network, cut, dense, given, ridge=RIDGE, seed=options.seed, streams=True)
    restate_norms(cut.graph_module, given)  # a training takes its own statistics
    return chosen, cut
