"""prune_for_device(): the boxes in order, nothing else.

options → task (traced, priced, refused here if the budget cannot be reached) → cut (masks, surgery, proof)
→ delivery (ONNX, proof, times) → facts → result. Each is a value made once from the one before. Nothing
appears in the output folder before the last proof has passed.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.graph.arguments import ExampleInputs, example_arguments
from dtp_edge.graph.libraries.library import library_of
from dtp_edge.graph.trace import as_in_a_plain_process
from dtp_edge.onnx.opsets import refuse_opset
from dtp_edge.profiles import Profile
from dtp_edge.proof.precision import in_precision
from dtp_edge.report import write_report
from dtp_edge.run.delivery import deliver
from dtp_edge.run.facts import facts_of
from dtp_edge.run.further_formats import wanted_formats
from dtp_edge.run.options import NOBODY, Listener, Options, aim_of, inputs_of, source_of
from dtp_edge.run.outputs import first_process, refuse_finished, staged
from dtp_edge.run.proved import Cut
from dtp_edge.run.result import PruneResult
from dtp_edge.run.task import Task
from dtp_edge.transport import Budget, initial_scores

if TYPE_CHECKING:
    from dtp_edge.training import DataSource, Objective, Recipe

__all__ = ["finish", "prune", "prune_for_device", "prune_task", "seeded"]


def prune_for_device(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    device: str | Path | Profile = "host",
    budget: Budget,
    data: DataSource | str | None = None,
    objective: Objective | str | None = None,
    calibrate: DataSource | str | Iterable[Any] | None = None,
    images: int = 512,
    recipe: Recipe | None = None,
    epochs: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    exclude: Sequence[str] = (),
    depth: bool | None = None,
    part: str | None = None,
    int8: bool = False,
    dynamic_batch: bool = False,
    formats: str | Sequence[str] = (),
    require_delegated: str | float | None = None,
    ram_by: str | None = None,
    rewrites: str | Sequence[str] = "default",
    resume: bool = False,
    force: bool = False,
) -> PruneResult:
    """Prune `model` until every budget holds on `device`, and prove the result.

    **Arguments:**

    - `model`: any network that `torch.export` can trace; it is copied, never changed.
    - `example_inputs`: a tensor or tuple of tensors, batch first; a dict for inputs by keyword, which the
      files take in the order of `forward`.
    - `device`: a shipped profile's name, a path to a profile, or "host" (this machine).
    - `budget`: see `Budget`; every part of it must hold.
    - `data`: a `training.DataSource` or its spec ("digits", "cifar10:DIR", ...). Without data the run is
      one-shot: scores from the weights, no training.
    - `objective`: what is trained for: an object of a subclass of `training.Objective`, a name, or
      "FILE.py:NAME"; None: the data's own.
    - `calibrate`: inputs without labels, to prune by calibration alone: batches (tensors, tuples, dicts by
      keyword; what stands behind the inputs is left away), a `training.DataSource`, or a spec. `images`: how
      many samples of them are read. Not together with `data`.
    - `recipe`, `epochs`: how to train; `epochs` is split over masks and fine-tuning.
    - `out`: folder for the results; None writes nothing.
    - `seed`: of the order of the data and of all that is random; the caller's random state stays as it is.
    - `exclude`: names of modules to leave whole; a branch with one of them stays as well.
    - `depth`: whether whole residual branches may go; None: where there is data, or inputs to calibrate on.
    - `part`: name of the submodule to prune, where the whole cannot be traced: it alone is traced, priced,
      cut and exported, with the inputs that the whole gives it; the whole is trained and judged. With
      `calibrate` the inputs are the whole's, and the part's outputs are compared.
    - `int8`: write `model.int8.onnx` as well, calibrated on `data`; the profile must be an int8 one.
    - `dynamic_batch`: export with a free batch size.
    - `formats`: further formats, such as "pte,tflite", each made and proved in its own runtime; what could
      not be made is a row of `result.formats` with its cause. With `int8` each has both precisions.
    - `require_delegated`: the share of the predicted time ("95%") that each format's unit must take.
    - `ram_by`: the runtime whose own memory plan the RAM budget must hold in, too: "executorch" or "litert".
    - `rewrites`: names of those that formats may use so that their unit takes all, or "default"
      (what costs nothing), "all", "none"; each keeps the function, and the report says where it was used.
    - `resume`: go on from the checkpoint in `out`; `force`: replace a finished run there.

    **Raises:** `UnsupportedError` (cannot be traced), `InputError`, `BudgetError` (before any training),
    `CheckError` (a proof failed; nothing that looks finished is left).
    """
    source = source_of(data)
    options = Options(
        budget=budget,
        device=device,
        data=source,
        objective=aim_of(objective, source),
        calibrate=inputs_of(calibrate),
        images=images,
        recipe=recipe,
        epochs=epochs,
        out=None if out is None else Path(out),
        seed=seed,
        exclude=tuple(exclude),
        depth=depth,
        part=part,
        int8=int8,
        dynamic_batch=dynamic_batch,
        resume=resume,
        force=force,
        formats=wanted_formats(formats, require_delegated, ram_by, rewrites),
    )
    return prune(model, example_inputs, options)


def prune(
    model: nn.Module,
    example_inputs: ExampleInputs,
    options: Options,
    listener: Listener = NOBODY,
) -> PruneResult:
    """Prune as the options say; see `prune_for_device`."""
    started = time.monotonic()
    refuse_opset(options.opset)
    if options.calibrate is not None and options.data is not None:
        raise InputError(
            "calibrate and data exclude each other", where="calibrate", hint="Give one of them: data trains."
        )
    if options.out is not None:
        refuse_finished(options.out, force=options.force or options.resume)
    inputs = example_arguments(model, example_inputs)
    with seeded(options.seed), as_in_a_plain_process(model):
        return prune_task(Task.trace(model, inputs, options, listener), options, listener, started=started)


def prune_task(task: Task, options: Options, listener: Listener = NOBODY, *, started: float) -> PruneResult:
    """Prune a network that is traced and priced, in place: everything after the task (see `finish`)."""
    if options.calibrate is not None:
        from dtp_edge.run.calibrated import calibrate_and_cut

        cut = calibrate_and_cut(task, options, listener)
    elif options.data is None:
        listener.begin("choosing the widths")
        keep = task.harden(initial_scores(task.network))
        listener.begin("cutting, and proving that the result is the same")
        cut = Cut.of(task, keep)
    else:
        from dtp_edge.run.trained import train_and_cut

        cut = train_and_cut(task, options.data, options, listener)
    if not first_process():  # every process holds the result, the first one writes it
        options = options.silent()
    return finish(cut, options, listener, started=started)


def finish(cut: Cut, options: Options, listener: Listener = NOBODY, *, started: float) -> PruneResult:
    """Export, prove again, measure, report: everything after the cut.

    `started` is `time.monotonic()` of the run's begin.

    **Raises:** `CheckError` if the file read back computes something else.
    """
    network, out = cut.task.network, options.out
    where: AbstractContextManager[Path | None] = staged(out) if out is not None else nullcontext()
    with as_in_a_plain_process(network.module), where as stage:
        delivered = deliver(cut, options, stage, listener)
        listener.begin("writing the report")
        report = facts_of(delivered, options, seconds=time.monotonic() - started)
        if stage is not None:
            write_report(stage, report)
            if cut.training is not None:
                from dtp_edge.training import write_csv

                write_csv(stage / "curve.csv", cut.training.curves)
    module, masked, left = in_precision(network, cut.keep, cut.compact.module, cut.task.precision)
    library, whole = library_of(network.module), cut.task.whole
    if library is not None and cut.compact.kind == "module":
        module = copy.deepcopy(module)
        library.restore(module)
    elif library is not None:
        library.carry(module, network.module)
    return PruneResult(
        module=module if whole is None else whole.around(module),
        masked=masked if whole is None else whole.around(masked),
        widths=network.widths(cut.keep),
        kept=cut.compact.kept,
        frozen=[(f.name, f.reason) for f in network.frozen],
        report=report,
        onnx=None if out is None else out / "model.onnx",
        onnx_int8=out / "model.int8.onnx" if out is not None and options.int8 else None,
        out=out,
        formats=delivered.formats,
        warnings=[*options.origin.warnings, *cut.warnings, *left],
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random numbers from `seed` in the block; the caller's generators go on as if it had not been."""
    caller, on_gpus = torch.initial_seed(), torch.cuda.is_initialized()
    try:
        with quiet(), torch.random.fork_rng(range(torch.cuda.device_count()) if on_gpus else ()):
            torch.manual_seed(seed)
            yield
    finally:
        if not on_gpus:  # nothing was drawn there before, so the seed is all of the state
            torch.cuda.manual_seed_all(caller)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the caller what torch says to itself where it copies traced graphs, in the block only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        yield
