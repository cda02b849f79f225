"""From the compact network to files that were read back and checked, and to measured times."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

import dtp_edge
from dtp_edge.archive import save_pruned
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import PrunableNetwork
from dtp_edge.measure import is_this_machine, time_onnx
from dtp_edge.onnx import check_onnx, export_onnx
from dtp_edge.onnx.interface import interface_of
from dtp_edge.proof import Check, require
from dtp_edge.surgery import Compact

if TYPE_CHECKING:
    from dtp_edge.run.pipeline import RunContext

CALIBRATION_SAMPLES = 256


@dataclass
class Delivery:
    """What was delivered: checks with their numbers, times measured here, int8 accuracy if any."""

    checks: list[Check]
    measured: dict[str, Any] = field(default_factory=dict)  # dense_ms, pruned_ms, spread, threads, how
    int8: dict[str, Any] = field(default_factory=dict)
    stage: Path | None = None


def deliver(
    network: PrunableNetwork,
    keep: np.ndarray,
    compacted: Compact,
    cost: NetworkCost,
    *,
    context: RunContext,
    stage: Path | None,
    checks: list[Check],
) -> Delivery:
    """Export, read back, compare; quantise and time where asked.

    With `stage` None the files live in a temporary folder and only the proof and the times remain.

    **Raises:** `CheckError` if ONNX Runtime disagrees with torch on the file as read back.
    """
    delivery = Delivery(checks=list(checks), stage=stage)
    context.begin("exporting ONNX, and comparing it in ONNX Runtime")
    with _folder(stage) as folder:
        path = export_onnx(
            compacted.module,
            network.example_inputs,
            folder / "model.onnx",
            dynamic_batch=context.dynamic_batch,
            metadata=_metadata(network, keep, cost, context),
            interface=interface_of(network.module),
            opset=context.opset,
        )
        delivery.checks.append(check_onnx(path, compacted.module, network.example_inputs))
        require(delivery.checks)
        save_pruned(folder, compacted, network, keep, {"seed": context.seed, "device": cost.profile.name})
        if context.int8:
            context.begin("calibrating int8")
            delivery.int8 = _quantise(path, context)
        if context.measure and is_this_machine(cost.profile):
            context.begin("timing dense and pruned in turns")
            delivery.measured = _measure(network, path, cost, delivery)
    return delivery


@contextmanager
def _folder(stage: Path | None) -> Iterator[Path]:
    if stage is not None:
        yield stage
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)


def weights_sha256(model: nn.Module) -> str:
    """Checksum of the weights that were pruned: names, shapes and bytes in the order of the state dict."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _metadata(
    network: PrunableNetwork, keep: np.ndarray, cost: NetworkCost, context: RunContext
) -> dict[str, str]:
    data = context.data
    normalised = {} if data is None else {"mean": data.mean, "std": data.std}
    return {
        **{f"dtp_edge.input_{name}": json.dumps(value) for name, value in normalised.items()},
        "dtp_edge.version": dtp_edge.__version__,
        "dtp_edge.device": cost.profile.name,
        "dtp_edge.budget": "" if context.budget is None else str(context.budget),
        "dtp_edge.widths": json.dumps(network.widths(keep)),
        "dtp_edge.dense_weights_sha256": context.dense_sha256,
    }


def _measure(network: PrunableNetwork, pruned: Path, cost: NetworkCost, delivery: Delivery) -> dict[str, Any]:
    """Time the dense and the pruned file in turns, in one process."""
    with tempfile.TemporaryDirectory() as temporary:
        dense = export_onnx(network.module, network.example_inputs, Path(temporary) / "dense.onnx")
        files = [dense, pruned]
        if delivery.int8:
            files.append(pruned.with_name("model.int8.onnx"))
        timings = time_onnx(files, threads=cost.profile.threads)
    names = ["dense", "pruned", "int8"]
    measured: dict[str, Any] = {"threads": cost.profile.threads, "runtime": cost.profile.runtime.name}
    for name, timing in zip(names, timings, strict=False):
        measured[f"{name}_ms"], measured[f"{name}_spread"] = timing.latency_ms, timing.spread
        measured["repeats"] = timing.repeats
    # Round by round: a slow minute hits both.
    ratios = np.divide(timings[1].samples_ms, timings[0].samples_ms)
    measured["ratio_low"], measured["ratio"], measured["ratio_high"] = np.percentile(ratios, [25, 50, 75])
    return measured


def _quantise(path: Path, context: RunContext) -> dict[str, Any]:
    from dtp_edge.int8 import quantize_onnx
    from dtp_edge.onnx import evaluate_onnx

    target = path.with_name("model.int8.onnx")
    calibration = context.data.calibration(CALIBRATION_SAMPLES)
    result = quantize_onnx(path, target, calibration, method=context.int8_method)
    test = context.data.test
    return {
        "method": result.method,
        "tried": [asdict(row) for row in result.tried],
        "accuracy": evaluate_onnx(target, test.ordered(256)),
        "fp32_accuracy": evaluate_onnx(path, test.ordered(256)),
        "bytes": target.stat().st_size,
    }
