"""A calibration as the start of a training: cut and fitted without labels, every step tunes what is left."""

from __future__ import annotations

from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.run.calibrated_widths import WORK as CURVES
from dtp_edge.run.calibrated_widths import Chosen, keep_by_calibration, macs_of
from dtp_edge.run.calibration_set import affordable, calibration_set
from dtp_edge.run.known_trials import KnownTrials
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.task import Task
from dtp_edge.run.trials import RIDGE
from dtp_edge.run.trials import WORK as TRIALS
from dtp_edge.surgery import Compact, compact, refit
from dtp_edge.surgery.norm_statistics import restate_norms

__all__ = ["calibrated_start", "cut_by_calibration"]

# what a calibration may take, in shares of the tuning's multiply-accumulates, and of its usual work
SHORT, LONG = 0.6, 0.1
LEAST = 0.25


def calibrated_start(task: Task, data: Any, options: Options, listener: Listener) -> tuple[Chosen, Compact]:
    """Cut the network as it is now by its own outputs on training inputs, and fit what is left to them.

    Returns what was chosen, and the compact network as it was fitted.

    **Raises:** `InputError` for data that nothing good can come of.
    """
    asked: dict[str, Any] = {"images": options.images, "seed": options.seed, "objective": options.objective}
    try:
        inputs = calibration_set(data, task.network, task.whole, **asked)
    except InputError as error:
        hint = f"{error.hint or ''} Masks (mask_epochs above 0) are learned without a calibration."
        raise InputError(error.what, where="data", hint=hint.strip()) from error
    listener.begin("measuring what every width costs, and fitting what is left")
    effort = _effort(task, len(data.train), options)
    known = KnownTrials.of(options.shared, task.network, inputs, seed=options.seed, effort=effort)
    found = cut_by_calibration(
        task, [*inputs.fitted, *inputs.held_out], options.seed, effort=effort, errors=known.errors
    )
    known.keep()
    return found


def _effort(task: Task, samples: int, options: Options) -> float:
    """How many times the usual work a calibration may take: less before a short training, more before a
    long one."""
    training = 3 * macs_of(task) * samples * options.schedule(task.network).tune_epochs
    times = training / (CURVES + TRIALS)
    return max(LEAST, min(1.0, SHORT * times), LONG * times)


def cut_by_calibration(
    task: Task, batches: list[tuple[Any, ...]], seed: int = 0, **settings: Any
) -> tuple[Chosen, Compact]:
    """Cut the network as it is now by what `batches` of inputs show, and fit what is left to it; its norms
    are left so that a training, which takes its own statistics, changes nothing at once. `settings` are those
    of `keep_by_calibration`."""
    network = task.network
    chosen = keep_by_calibration(task, batches, seed, **settings)
    cut = compact(network, chosen.keep)
    dense = dict(network.graph_module.state_dict())
    given = affordable(batches)
    refit(network, cut, dense, given, ridge=RIDGE, seed=seed, streams=True)
    restate_norms(cut.graph_module, given)
    return chosen, cut
