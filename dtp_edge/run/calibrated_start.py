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

__all__ = ["calibrated_start", "cut_by_calibration", "require_no_masks"]


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
    asked: dict[str, Any] = {"images": options.images, "seed": options.seed, "objective": options.objective}
    inputs = calibration_set(data, task.network, task.whole, **asked)
    listener.begin("measuring what every width costs, and fitting what is left")
    return cut_by_calibration(task, [*inputs.fitted, *inputs.held_out], options.seed)


def cut_by_calibration(task: Task, batches: list[tuple[Any, ...]], seed: int = 0) -> tuple[Chosen, Compact]:
    """Cut the network as it is now by what `batches` of inputs show, and fit what is left to it; its norms
    are left so that a training, which takes its own statistics, changes nothing at once."""
    network = task.network
    chosen = keep_by_calibration(task, batches, seed)
    cut = compact(network, chosen.keep)
    dense = dict(network.graph_module.state_dict())
    given = affordable(batches)
    refit(network, cut, dense, given, ridge=RIDGE, seed=seed, streams=True)
    restate_norms(cut.graph_module, given)
    return chosen, cut
