"""From the compact network to files that were read back and checked, and to measured times."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import dtp_edge
from dtp_edge.archive import require_storable, save_pruned
from dtp_edge.archive.rest import part_meta, save_rest
from dtp_edge.errors import InputError
from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.libraries.in_file import as_in_file, port_names
from dtp_edge.graph.libraries.library import library_of
from dtp_edge.measure import is_this_machine, time_on, time_onnx
from dtp_edge.onnx import check_onnx, export_onnx
from dtp_edge.onnx.interface import Interface, interface_of
from dtp_edge.proof import Check, require
from dtp_edge.remote import remote_of
from dtp_edge.run.further_formats import make_formats, promises
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.proved import Cut
from dtp_edge.run.quantised import AWARE, CALIBRATION_SAMPLES, calibration_rows, quantise, quantised
from dtp_edge.runtimes.formats.registry import FORMATS

if TYPE_CHECKING:
    from dtp_edge.runtimes import FormatRow
    from dtp_edge.training import Objective

__all__ = ["Delivered", "deliver", "export_dense"]

DENSE = "dense.onnx"
FILES = {
    "model.onnx": "the compact network, fp32, checked in ONNX Runtime",
    "model.int8.onnx": "the compact network, int8 (QDQ)",
    "model.safetensors": "weights of the compact network",
    "rest.safetensors": "weights of the network around the part",
    "widths.json": "widths, kept channels and graph: dtp_edge.load_pruned reads it",
}


@dataclass(frozen=True)
class Delivered:
    """What was delivered of a cut: `checks` are those of the cut and of the files, all of them passed.

    `files` has a row a file (`path`, `bytes`, `sha256`, `what`), none where nothing was written; `measured`
    the times taken here (`dense_ms`, `pruned_ms`, spread, ratio), `int8` its method and headline, if any;
    `untimed` says why there are no times, where a board was asked for them and gave none; `formats` has a
    row for each further format, made or not.
    """

    cut: Cut
    checks: tuple[Check, ...]
    files: tuple[dict[str, Any], ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)
    int8: dict[str, Any] = field(default_factory=dict)
    untimed: str = ""
    formats: tuple[FormatRow, ...] = ()


def deliver(cut: Cut, options: Options, stage: Path | None, listener: Listener) -> Delivered:
    """Export, read back, compare; quantise and time where asked.

    With `stage` None the files live in a temporary folder and only the proof and the times remain.

    **Raises:** `UnsupportedError` if the network cannot be stored;
    `CheckError` if ONNX Runtime disagrees with torch on the file as read back.
    """
    network, profile = cut.task.network, cut.task.cost.profile
    require_storable(cut.compact.graph_module.graph)  # first, as the exporter would name it worse
    listener.begin("exporting ONNX, and comparing it in ONNX Runtime")
    with _folder(stage) as folder:
        module = as_in_file(cut.compact.module, network.module)
        path = export_onnx(
            module,
            network.example_inputs,
            folder / "model.onnx",
            dynamic_batch=options.dynamic_batch,
            keep_shape=not network.dynamic_batch,
            metadata=_metadata(cut, options),
            interface=_interface(cut, options),
            opset=options.opset,
            **port_names(network.module),
        )
        checks = (*cut.checks, check_onnx(path, module, network.example_inputs))
        require(checks)
        meta: dict[str, Any] = {"seed": options.seed, "device": profile.name}
        if cut.task.whole is not None:
            meta |= part_meta(cut.task.whole)
            save_rest(folder, cut.task.whole)
        save_pruned(folder, cut.compact, network, cut.keep, meta)
        int8, measured, untimed = {}, {}, ""
        if options.int8 and cut.calibration is not None:
            listener.begin("calibrating int8")
            samples = cut.calibration.inputs.arrays(CALIBRATION_SAMPLES)
            int8 = quantised(path, samples, options)  # without labels there is no accuracy
        elif options.int8 and options.data is not None:
            listener.begin("calibrating int8")
            int8 = quantise(cut, path, options.data, _aim(cut, options), options, listener)
        formats = ()
        if options.formats is not None:
            formats = make_formats(cut, options.formats, folder, _calibration(cut, options), listener)
            limit = cut.task.limits.get("peak_ram_bytes")
            checks = (*checks, *promises(formats, options.formats, limit, cut.task.cost.precision))
            require(checks)
        shutil.rmtree(folder / AWARE, ignore_errors=True)
        if options.measure and (options.on or is_this_machine(profile)):
            where = f" on {options.on}" if options.on else ""
            listener.begin(f"timing dense and pruned in turns{where}")
            try:
                measured = _measure(cut, path, options.shared, with_int8=bool(int8), on=options.on)
            except InputError as error:  # a board that went away costs its times, not what was trained
                untimed = error.message()
        return Delivered(cut, checks, _file_rows(stage, formats), measured, int8, untimed, formats)


def _aim(cut: Cut, options: Options) -> Objective:
    return options.aim() if cut.training is None else cut.training.objective


def _calibration(cut: Cut, options: Options) -> Any:
    """Return what int8 files are calibrated on; None where none are wanted."""
    if not options.int8:
        return None
    if cut.calibration is not None:
        return cut.calibration.inputs.arrays(CALIBRATION_SAMPLES)
    return None if options.data is None else calibration_rows(cut, options.data, _aim(cut, options))


def _interface(cut: Cut, options: Options) -> Interface | None:
    """Return what the source file had for its readers; int8 is made of float32 weights."""
    interface = interface_of(cut.task.network.module)
    return replace(interface, half_weights=False) if interface is not None and options.int8 else interface


@contextmanager
def _folder(stage: Path | None) -> Iterator[Path]:
    if stage is not None:
        yield stage
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)


def _file_rows(stage: Path | None, formats: tuple[FormatRow, ...]) -> tuple[dict[str, Any], ...]:
    about = {name: f"{FORMATS[row.format].about}; {row.precision}" for row in formats for name in row.files}
    found = [] if stage is None else [path for path in sorted(stage.iterdir()) if path.is_file()]
    return tuple(
        {
            "path": path.name,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "what": (FILES | about).get(path.name),
        }
        for path in found
    )


def _metadata(cut: Cut, options: Options) -> dict[str, str]:
    data: Any = options.data if options.calibrate is None else options.calibrate
    normalised = {name: getattr(data, name) for name in ("mean", "std") if hasattr(data, "train")}
    network = cut.task.network
    library = library_of(network.module)
    return {
        **({} if library is None else library.metadata(network.module, network.example_inputs)),
        **{f"dtp_edge.input_{name}": json.dumps(value) for name, value in normalised.items()},
        "dtp_edge.version": dtp_edge.__version__,
        "dtp_edge.device": cut.task.cost.profile.name,
        "dtp_edge.budget": str(options.budget),
        "dtp_edge.widths": json.dumps(cut.task.network.widths(cut.keep)),
        "dtp_edge.dense_weights_sha256": cut.task.dense_sha256,
    }


def export_dense(network: PrunableNetwork, folder: Path) -> Path:
    """Return the dense network as `dense.onnx` in `folder`, for its time; one that is there stays."""
    path = folder / DENSE
    if path.is_file():
        return path
    module = as_in_file(network.module, network.module)
    inputs, keep_shape = network.example_inputs, not network.dynamic_batch
    return export_onnx(module, inputs, path, keep_shape=keep_shape, **port_names(network.module))


def _measure(
    cut: Cut, pruned: Path, shared: Path | None, *, with_int8: bool, on: str | None
) -> dict[str, Any]:
    """Time the dense and the pruned file in turns, in one process; `on` a board, if one is named."""
    network, profile = cut.task.network, cut.task.cost.profile
    with tempfile.TemporaryDirectory() as temporary:
        dense = export_dense(network, Path(temporary) if shared is None else shared)
        files = [dense, pruned]
        if with_int8:
            files.append(pruned.with_name("model.int8.onnx"))
        if on is None:
            timings = time_onnx(files, threads=profile.threads)
        else:
            timings, _ = time_on(remote_of(on), files, profile.threads, profile=profile)
    names = ["dense", "pruned", "int8"]
    measured: dict[str, Any] = {"threads": profile.threads, "runtime": profile.runtime.name}
    if on is not None:
        measured |= {"place": on, "runtime": "ONNX Runtime"}
    for name, timing in zip(names, timings, strict=False):
        measured[f"{name}_ms"], measured[f"{name}_spread"] = timing.latency_ms, timing.spread
        measured["repeats"] = timing.repeats
    # Round by round: a slow minute hits both.
    ratios = np.divide(timings[1].samples_ms, timings[0].samples_ms)
    measured["ratio_low"], measured["ratio"], measured["ratio_high"] = np.percentile(ratios, [25, 50, 75])
    return measured
