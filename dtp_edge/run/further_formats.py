"""The formats besides ONNX: what they are made of, the truth that each is held against, and what was asked.

A format that cannot be made leaves a row with its cause and no file; the files of the run stand. One that was
made but leaves too much time undelegated, or plans more RAM than asked, fails the run: both are promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dtp_edge.cost import NetworkCost
from dtp_edge.cost.planners import PLANNERS
from dtp_edge.errors import InputError
from dtp_edge.files.sessions import open_session
from dtp_edge.graph import mode_of
from dtp_edge.graph.leaves import batch_one, in_float64, leaves, random_like
from dtp_edge.graph.libraries.in_file import as_in_file
from dtp_edge.metrics import fraction, quantity
from dtp_edge.onnx.session import as_batches, run
from dtp_edge.proof import Check
from dtp_edge.proof.equality import in_double
from dtp_edge.run.options import Listener
from dtp_edge.run.proved import Cut
from dtp_edge.run.quantised import AWARE
from dtp_edge.runtimes import FormatRow, advice_for, make_file
from dtp_edge.runtimes.apart import difference, relative_rms
from dtp_edge.runtimes.formats.made_file import Limits, Port, Source, Truth
from dtp_edge.runtimes.formats.registry import FORMATS, chosen_formats
from dtp_edge.runtimes.rewrites import chosen_rewrites

__all__ = ["Wanted", "make_formats", "promises", "wanted_formats"]

PROBES = 4  # random inputs that fp32 files are compared on
SAMPLES, HELD_OUT_EVERY, MOST_HELD_OUT = 128, 4, 32  # of the calibration: every 4th judges int8 files
EIGHT_BITS = ("int8", "w8a8", "w8a16")
UNSAID = "Leave --require-delegated out, or the format; `dtp-edge check` shows what its runtime says."
SHOWN = 6  # operators that a message names


@dataclass(frozen=True)
class Wanted:
    """What was asked of formats: `delegated` is the share of the time that a unit must take, in [0, 1];
    `ram_by` the runtime whose plan the RAM budget is judged by, `rewrites` those that may
    be used (None: what costs nothing)."""

    names: tuple[str, ...] = ()
    delegated: float | None = None
    ram_by: str | None = None
    rewrites: tuple[str, ...] | None = None
    limits: Limits = field(default_factory=lambda: Limits(repeats=30))


def wanted_formats(
    formats: str | Sequence[str],
    require_delegated: str | float | None,
    ram_by: str | None,
    rewrites: str | Sequence[str] = "default",
) -> Wanted:
    """Return what was asked. Raises `InputError` for what contradicts itself."""
    names = chosen_formats(formats)
    share = None if require_delegated is None else share_of(require_delegated)
    if share is not None and not names:
        raise InputError(
            "it needs a format whose operators can be placed",
            where="--require-delegated",
            hint=f"Add --format {','.join(FORMATS)}.",
        )
    if ram_by is not None and ram_by not in PLANNERS.keys() & {FORMATS[name].runtime for name in names}:
        known = {one.runtime: name for name, one in FORMATS.items() if one.runtime in PLANNERS}
        hint = f"Add --format {known[ram_by]}." if ram_by in known else f"One of {', '.join(known)}."
        what = (
            f"no file of {ram_by} is asked for" if ram_by in known else f"the plan of {ram_by} is not known"
        )
        raise InputError(what, where="--ram-by", hint=hint)
    return Wanted(names, share, ram_by, chosen_rewrites(rewrites))


def share_of(given: str | float) -> float:
    share = fraction(text := str(given).strip())
    if not 0 < share <= 1:
        hint = "Write 95%, or 0.95."
        raise InputError(f"{text!r} is no share of the time", where="--require-delegated", hint=hint)
    return share


def make_formats(
    cut: Cut, wanted: Wanted, folder: Path, calibration: Any, listener: Listener
) -> tuple[FormatRow, ...]:
    """Make every format that was asked for in `folder`, where the ONNX files and the archive are.

    `calibration` gives batches of inputs where int8 files are wanted, too; else it is None.
    """
    if not wanted.names:
        return ()
    source = _source(cut, folder, calibration)
    rows = []
    for name in wanted.names:
        asked = ("fp32",) if calibration is None else ("fp32", "int8")
        for precision in [p for p in asked if p in FORMATS[name].precisions or p == asked[-1]]:
            listener.begin(f"making {FORMATS[name].files('model', precision)[0]}, and running it")
            one = FORMATS[name]
            rewrites = wanted.rewrites
            rows.append(make_file(one, precision, source, folder, limits=wanted.limits, rewrites=rewrites))
    return tuple(rows)


def _source(cut: Cut, folder: Path, calibration: Any) -> Source:
    onnx, int8 = folder / "model.onnx", folder / "model.int8.onnx"
    session = open_session(onnx)
    network = cut.task.network
    module = as_in_file(cut.compact.module, network.module)
    given = batch_one(network.example_inputs) if network.dynamic_batch else network.example_inputs
    probes = [random_like(given, seed) for seed in range(PROBES)]
    ports = tuple(
        Port(i.name, tuple(x.shape), str(x.dtype).removeprefix("torch."))
        for i, x in zip(session.get_inputs(), leaves(given), strict=True)
    )
    truth, samples = {"fp32": truth_of(module, probes)}, []
    if calibration is not None:
        batches = [list(b.values()) for b in as_batches(session, calibration, SAMPLES)]
        if session.get_inputs()[0].shape[:1] != [ports[0].shape[0]]:  # a free batch was re-cut by eights
            batches = [[x[i : i + 1] for x in batch] for batch in batches for i in range(len(batch[0]))]
        held = batches[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY][:MOST_HELD_OUT]
        fitted = [b for i, b in enumerate(batches) if i % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
        samples = [np.stack(column) for column in zip(*fitted, strict=True)]
        truth["int8"] = int8_truth(module, held, int8)
    kernels = kernel_times(cut.task.cost, network.layers.sizes(cut.keep.astype(float)))
    aware = folder / AWARE
    return Source(
        pruned=folder,
        onnx=onnx,
        ports=ports,
        truth=truth,
        onnx_int8=int8 if int8.is_file() else None,
        pruned_int8=aware if aware.is_dir() else None,
        samples=samples,
        kernels=kernels,
    )


def kernel_times(cost: NetworkCost, sizes: np.ndarray) -> list[tuple[str, float]]:
    """Return the kernels that are launched at these sizes in running order: (kind, predicted ms)."""
    return [(row.kernel, float(row.latency_ms)) for row in cost.by_layer(sizes) if row.fused_into is None]


def truth_of(module: nn.Module, probes: Sequence[tuple[Any, ...]]) -> Truth:
    """Run the network in torch, and in float64 for what its own rounding is."""
    outputs = _outputs(module, probes)
    rounding = 0.0
    try:
        exact = _outputs(in_double(module), [in_float64(x) for x in probes])
        rounding = difference(outputs, exact, quantized=False)[2]
    except (RuntimeError, TypeError):  # it does not run in float64: then float32 has to agree by itself
        pass
    inputs = [np.stack([x.numpy() for x in column]) for column in zip(*map(leaves, probes), strict=True)]
    return Truth(inputs, outputs, rounding)


def int8_truth(module: nn.Module, held: Sequence[list[np.ndarray]], int8: Path) -> Truth:
    tensors = [tuple(torch.from_numpy(x) for x in batch) for batch in held]
    outputs, error = _outputs(module, tensors), None
    inputs = [np.stack(column) for column in zip(*held, strict=True)]
    if int8.is_file():
        session = open_session(int8)
        names = [i.name for i in session.get_inputs()]
        found = [run(session, dict(zip(names, batch, strict=True))) for batch in held]
        error = relative_rms([np.stack(column) for column in zip(*found, strict=True)], outputs)
    return Truth(inputs, outputs, int8_error=error)


@torch.no_grad()
def _outputs(module: nn.Module, samples: Sequence[tuple[Any, ...]]) -> list[np.ndarray]:
    with mode_of(module, training=False):
        made = [[y.cpu().numpy() for y in leaves(module(*x))] for x in samples]
    return [np.stack(column) for column in zip(*made, strict=True)]


def promises(
    rows: Sequence[FormatRow], wanted: Wanted, ram_limit: float | None, precision: str = "fp32"
) -> list[Check]:
    """Return what was promised of the files that were made: who computes, and the RAM of a runtime's plan.

    A file of which the runtime does not say it breaks the promise. RAM is that of the file in the profile's
    `precision`, int8 or not.
    """
    checks = []
    for row in rows:
        if row.status != "ok":
            continue
        if wanted.delegated is not None:
            checks.append(_delegated(row, wanted.delegated))
        same = (row.precision == "int8") == (precision in EIGHT_BITS)
        if wanted.ram_by == row.runtime and ram_limit is not None and same:
            checks.append(_planned(row, ram_limit))
    return checks


def _planned(row: FormatRow, limit: float) -> Check:
    name = f"RAM by {row.runtime}'s plan, {row.files[0]}"
    if row.memory_bytes is None:
        detail = f"{row.runtime} says nothing of its plan for this file. {row.memory_of}".rstrip()
        return Check(name, False, float("inf"), limit, detail, "Leave --ram-by out, or judge another format.")
    asked, had = (quantity("peak_ram_bytes", v) for v in (limit, row.memory_bytes))
    hint = f"For a plan of {asked} ask for --ram {int(limit * limit / row.memory_bytes)}."
    passed = row.memory_bytes <= limit
    return Check(name, passed, float(row.memory_bytes), float(limit), f"{had}: {row.memory_of}", hint)


def _delegated(row: FormatRow, share: float) -> Check:
    name, placement = f"share left behind, {row.files[0]}", row.placement
    if placement is None:
        detail = f"{row.runtime} does not say who computes what of this file, so nothing can be promised"
        return Check(name, False, 1.0, 1 - share, detail, UNSAID)
    left = [f"{one.name} ({one.kind}, {100 * one.share:.1f} %)" for one in placement.left if one.share > 0]
    more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    behind = 1.0 - placement.delegated
    detail = f"left behind by {placement.unit}: {', '.join(left[:SHOWN])}{more}" if left else ""
    used = tuple(row.rewrites)
    advice = [text for one in placement.left if (text := advice_for(row.format, one.kind, used))]
    hint = (
        " ".join(dict.fromkeys(advice))
        or "Replace these operators in the network, or ask for a smaller share."
    )
    return Check(name, behind <= 1 - share + 1e-9, behind, 1 - share, detail, hint)
