"""A made-up report for tests of the page. No number in it was measured on any device.

The layer list is that of ResNet-20 (or a chain of `n_layers` convolutions), its MACs are counted, and
its times are MACs over an invented speed plus an invented overhead.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

SPEED = 2.0e6  # invented: MACs a millisecond
OVERHEAD_MS = 0.02  # invented
KERNELS = {1: "conv1x1", 3: "conv3x3"}
GREY = (  # a JPEG of 8 x 8 grey pixels
    "data:image/jpeg;base64,"
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAKBueIx4ZKCMgoy0qqC+8P//8Nzc8P//////////////////////////////////////"
    "////////////////////wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAI"
    "AQEAAD8AP//Z"
)
LABEL = "FIXTURE: made-up numbers for tests of the page, not a run"


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _chain(n_layers: int) -> list[tuple[str, int, int, int, int, int]]:
    """Return (name, c_in, c_out, spatial side, kernel size, kept outputs) for each layer."""
    rows = [("conv1", 3, 16, 32, 3, 16)]
    blocks = max(1, (n_layers - 2) // 6)
    c_in = 16
    for stage, (width, side) in enumerate(((16, 32), (32, 16), (64, 8)), start=1):
        for block in range(blocks):
            kept = max(4, 4 * round(width / 4 * (0.35 + 0.4 * math.sin(1.7 * block + stage) ** 2)))
            rows.append((f"layer{stage}.{block}.conv1", c_in, width, side, 3, kept))
            rows.append((f"layer{stage}.{block}.conv2", width, width, side, 3, width))
            c_in = width
    rows.append(("fc", 64, 10, 1, 1, 10))
    return rows


def _time(macs: float) -> float:
    return round(macs / SPEED + OVERHEAD_MS, 5)


def _layers(chain: list[tuple[str, int, int, int, int, int]]) -> list[dict[str, Any]]:
    layers, previous_kept = [], 3
    for name, c_in, c_out, side, kernel, kept in chain:
        dense = c_in * c_out * side * side * kernel * kernel
        kept_in = previous_kept if name.endswith("conv2") else c_in
        pruned = kept_in * kept * side * side * kernel * kernel
        layers.append(
            {
                "name": name,
                "module": name,
                "kernel": "gemm" if name == "fc" else KERNELS[kernel],
                "dense_latency_ms": _time(dense),
                "pruned_latency_ms": _time(pruned),
                "dense_macs": dense,
                "pruned_macs": pruned,
                "dense_weight_bytes": 4 * c_in * c_out * kernel * kernel,
                "pruned_weight_bytes": 4 * kept_in * kept * kernel * kernel,
                "dense_shape": [1, c_out, side, side] if side > 1 else [1, c_out],
                "pruned_shape": [1, kept, side, side] if side > 1 else [1, kept],
                "source": "fitted",
                "fused_into": None,
            }
        )
        if name.endswith("conv1") and name != "conv1":
            layers.append(
                {
                    "name": name.replace("conv1", "relu1"),
                    "module": name.replace("conv1", "relu1"),
                    "kernel": "fused",
                    "dense_latency_ms": 0.0,
                    "pruned_latency_ms": 0.0,
                    "dense_macs": 0,
                    "pruned_macs": 0,
                    "dense_shape": [1, c_out, side, side],
                    "pruned_shape": [1, kept, side, side],
                    "source": "fitted",
                    "fused_into": name,
                }
            )
        previous_kept = kept
    return layers


def _depth(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Every block is a branch; the second one of the first stage is gone, and its layers cost nothing."""
    rows: dict[str, dict[str, Any]] = {}
    for layer in layers:
        block = layer["name"].rpartition(".")[0] or None
        layer["branch"] = block
        if block is None:
            continue
        row = rows.setdefault(block, {"name": block, "gone": block == "layer1.1", "saves_latency_ms": 0.0})
        row["saves_latency_ms"] = round(row["saves_latency_ms"] + layer["dense_latency_ms"], 5)
        row["saves_macs"] = row.get("saves_macs", 0) + layer["dense_macs"]
        row["saves_params"] = row.get("saves_params", 0) + layer.get("dense_weight_bytes", 0) // 4
        row["loss_rise"] = 0.01 * len(rows)
        if row["gone"]:
            layer |= {"pruned_latency_ms": 0.0, "pruned_macs": 0, "pruned_weight_bytes": 0, "kernel": "gone"}
    refused = [{"name": "head add", "code": "free", "reason": "what serves it alone costs nothing (add)"}]
    return {"branches": list(rows.values()), "refused": refused}


def _groups(chain: list[tuple[str, int, int, int, int, int]], total_ms: float) -> list[dict[str, Any]]:
    groups = []
    for name, c_in, c_out, side, _, kept in chain:
        if not name.endswith(".conv1"):
            continue
        per_channel = (c_in + c_out) * side * side * 9 / SPEED
        stairs = [
            {"width": w, "latency_ms": round(total_ms + (math.ceil(w / 4) * 4 - kept) * per_channel, 5)}
            for w in range(1, c_out + 1)
        ]
        following = min(c_out, kept + 4)
        extra = round((following - kept) * per_channel * (0 if name == "layer3.1.conv1" else 1), 5)
        groups.append(
            {
                "name": name.removesuffix(".conv1"),
                "kind": "channels",
                "kept": kept,
                "total": c_out,
                "step": 4,
                "next_free_step": None if kept == c_out else {"width": following, "extra_latency_ms": extra},
                "staircase": stairs,
                "layers": [name, name.replace("conv1", "conv2")],
            }
        )
    return groups


def _curves() -> list[dict[str, Any]]:
    curves = []
    for step in range(0, 120):
        masking = step < 60
        done = min(1.0, step / 40)
        curves.append(
            {
                "step": step * 10,
                "phase": "masks" if masking else "fine-tune",
                "budget_fraction": round(1 - 0.5 * done, 4) if masking else None,
                "target_fraction": round(1 - 0.5 * min(1.0, step / 38), 4) if masking else None,
                "softness_fraction": round(math.exp(-step / 15), 4) if masking else None,
                "loss": round(0.9 * math.exp(-(step % 60) / 25) + 0.12 + 0.02 * math.sin(step), 4),
                "accuracy": round(0.97 - 0.3 * math.exp(-(step % 60) / 12), 4) if step % 6 == 0 else None,
            }
        )
    return curves


def _memory(chain: list[tuple[str, int, int, int, int, int]]) -> dict[str, Any]:
    dense = [{"layer": n, "live_bytes": 4 * s * s * (i + o)} for n, i, o, s, _, _ in chain]
    pruned = [{"layer": n, "live_bytes": 4 * s * s * (i + k)} for n, i, _, s, _, k in chain]
    return {"dense": dense, "pruned": pruned, "limit_bytes": 144 * 1024}


def _budgets(layers: list[dict[str, Any]], memory: dict[str, Any]) -> list[dict[str, Any]]:
    dense_ms = sum(layer["dense_latency_ms"] for layer in layers)
    pruned_ms = sum(layer["pruned_latency_ms"] for layer in layers)

    def row(metric: str, unit: str, dense: float, pruned: float, **more: Any) -> dict[str, Any]:
        empty = {"asked_text": None, "limit": None, "fits": None, "relative_error_of_profile": 0.0}
        values = {"metric": metric, "unit": unit, "dense_predicted": dense, "pruned_predicted": pruned}
        return {
            **values,
            **empty,
            "dense_measured": None,
            "pruned_measured": None,
            "measurement": None,
            **more,
        }

    return [
        row(
            "latency_ms",
            "ms",
            dense_ms,
            pruned_ms,
            asked_text="70%",
            limit=0.7 * dense_ms,
            fits=pruned_ms <= 0.7 * dense_ms,
            relative_error_of_profile=0.06,
            dense_measured=1.04 * dense_ms,
            pruned_measured=1.02 * pruned_ms,
            measurement={
                "runtime": "onnxruntime",
                "threads": 1,
                "repeats": 50,
                "ratio": 1.02 * pruned_ms / (1.04 * dense_ms),
                "ratio_low": pruned_ms / (1.06 * dense_ms),
                "ratio_high": pruned_ms / dense_ms,
                "date": "2026-01-01",
                "text": "dense and pruned interleaved in one process",
            },
        ),
        row(
            "peak_ram_bytes",
            "bytes",
            max(p["live_bytes"] for p in memory["dense"]),
            max(p["live_bytes"] for p in memory["pruned"]),
            asked_text="144KiB",
            limit=144 * 1024,
            fits=max(p["live_bytes"] for p in memory["pruned"]) <= 144 * 1024,
            relative_error_of_profile=None,
        ),
        row(
            "flash_bytes",
            "bytes",
            sum(layer.get("dense_weight_bytes", 0) for layer in layers),
            sum(layer.get("pruned_weight_bytes", 0) for layer in layers),
        ),
        row(
            "macs",
            "MACs",
            sum(layer["dense_macs"] for layer in layers),
            sum(layer["pruned_macs"] for layer in layers),
        ),
        row(
            "params",
            "parameters",
            sum(layer.get("dense_weight_bytes", 0) for layer in layers) // 4,
            sum(layer.get("pruned_weight_bytes", 0) for layer in layers) // 4,
        ),
    ]


def _formats() -> list[dict[str, Any]]:
    """A file with an operator left behind, and one that was not made."""
    left = {"name": "gelu_7", "kind": "aten::gelu", "share": 0.06, "change": "Use a hard swish instead."}
    placement = {
        "unit": "XNNPACK",
        "by": "predicted time",
        "delegated": 0.94,
        "operators": 22,
        "taken": [
            {"kind": "Conv2d", "count": 19, "share": 0.9},
            {"kind": "FullyConnected", "count": 1, "share": 0.04},
        ],
        "left": [left],
    }
    pte = {
        "format": "pte",
        "precision": "fp32",
        "runtime": "executorch",
        "version": "1.5.1",
        "status": "ok",
        "detail": "",
        "install": None,
        "files": ["model.pte"],
        "bytes": 1_100_000,
        "max_abs_diff": 2.4e-7,
        "relative_error": 1.1e-7,
        "same_top1": 1.0,
        "latency_ms": 1.9,
        "rewrites": {"folded_norms": 19, "splits_as_slices": 0},
        "memory_bytes": 196_608,
        "memory_of": "a memory plan (made up)",
        "predicted_ram_bytes": 180_224.0,
        "placement": placement,
    }
    missing = {"format": "ncnn", "precision": "fp32", "runtime": "ncnn", "status": "missing"}
    return [pte, missing | {"detail": "No module named 'ncnn'", "install": "dtp-edge env ncnn", "files": []}]


def example_report(n_layers: int = 20) -> dict[str, Any]:
    """Return a full, valid, made-up report of a network with about `n_layers` weighted layers."""
    chain = _chain(n_layers)
    layers, memory = _layers(chain), _memory(chain)
    depth = _depth(layers)
    budgets = _budgets(layers, memory)
    return {
        "schema_version": "1.4",
        "tool": {"name": "dtp_edge", "version": "0.1.0", "commit": None},
        "versions": {"torch": "2.13.0", "onnx": "1.20.0", "onnxruntime": "1.24.0", "python": "3.11.7"},
        "run": {
            "command": "prune-for-device resnet20 --device example-board --latency 70% --ram 144KiB --seed 0",
            "seed": 0,
            "date": "2026-01-01T12:00:00+00:00",
            "duration_s": 148.2,
            "parts_s": {"scores": 3.1, "base": 40.0, "masks": 41.2, "fine-tune": 30.5, "control": 25.0},
            "mode": "trained",
            "data": "digits",
            "machine": {"os": "Linux", "cpu": "invented", "cores": 2, "memory_bytes": 8 * 2**30},
            "settings": {"note": LABEL, "epochs": 12},
        },
        "model": {
            "name": "resnet20",
            "parameters": int(budgets[4]["dense_predicted"]),
            "pruned_parameters": int(budgets[4]["pruned_predicted"]),
            "weights_sha256": _sha("dense"),
            "weights_from": "trained in this run",
            "inputs": [{"name": "input", "shape": [1, 3, 32, 32], "dtype": "float32"}],
        },
        "device": {
            "name": "example-board",
            "title": "Example board (fixture)",
            "chip": "invented 4-lane core",
            "runtime": "example runtime",
            "runtime_version": "1.0",
            "precision": "fp32",
            "threads": 1,
            "provenance": "derived",
            "provenance_text": LABEL,
            "relative_error": 0.06,
            "error_text": "Made up; a real profile names the networks that were held out.",
            "profile_sha256": _sha("profile"),
            "ram_bytes": 512 * 1024,
            "flash_bytes": 2 * 2**20,
        },
        "budgets": budgets,
        "depth": depth,
        "accuracy": {
            "metric": "top-1 accuracy",
            "higher_is_better": True,
            "base": 0.961,
            "control": 0.967,
            "at_cut": 0.913,
            "pruned": 0.964,
            "int8": 0.961,
            "n_test": 360,
            "split": "made up",
        },
        "layers": layers,
        "groups": _groups(chain, budgets[0]["pruned_predicted"]),
        "memory": memory,
        "curves": _curves(),
        "pictures": {"split": "hold-out", "rows": [dict.fromkeys(("wanted", "dense", "pruned"), GREY)] * 2},
        "calibration": {
            "samples": 410,
            "held_out": 102,
            "output_error": 0.084,
            "agreement": 0.93,
            "layers_fitted": 9,
            "layers": 10,
        },
        "int8": {
            "method": "percentile",
            "how": "trained with rounding",
            "accuracy": 0.961,
            "fp32_accuracy": 0.964,
            "wanted_holdout": 0.951,
            "float_layers": [],
            "trials": [
                {"how": "calibrated", "holdout": 0.93, "float_layers": []},
                {"how": "trained with rounding", "holdout": 0.959, "float_layers": []},
            ],
            "training": {"epochs": 2.0, "seconds": 31.0},
            "sensitivity": [{"layer": "conv1.weight", "error": 0.031}],
        },
        "formats": _formats(),
        "frozen": [
            {"name": "fc", "reason": "its outputs are outputs of the network"},
            {"name": "layer1 (residual stream)", "reason": "left whole on request (--exclude layer1)"},
        ],
        "checks": [
            {
                "name": "masked = compact",
                "passed": True,
                "value": 3.1e-7,
                "limit": 1e-4,
                "detail": "8 inputs",
            },
            {"name": "torch = ONNX Runtime", "passed": True, "value": 8.4e-7, "limit": 1e-4, "detail": None},
            {"name": "onnx.checker", "passed": True, "value": None, "limit": None, "detail": "opset 18"},
            {
                "name": "latency within budget",
                "passed": True,
                "value": budgets[0]["pruned_predicted"],
                "limit": budgets[0]["limit"],
                "detail": "on the final widths",
            },
        ],
        "files": [
            {"path": "model.onnx", "bytes": 801_234, "sha256": _sha("onnx"), "what": "the pruned network"},
            {"path": "model.safetensors", "bytes": 798_000, "sha256": _sha("st"), "what": "its weights"},
            {"path": "widths.json", "bytes": 3_210, "sha256": _sha("widths"), "what": "its widths"},
        ],
        "suggestions": [
            "4 more channels in layer3.1 cost nothing on this device.",
            "RAM has 8 % left; latency is what binds.",
        ],
        "warnings": [LABEL],
        "extra": {},
    }


if __name__ == "__main__":
    target = Path(__file__).with_name("example_report.json")
    target.write_text(json.dumps(example_report(), indent=1) + "\n", encoding="utf-8")
