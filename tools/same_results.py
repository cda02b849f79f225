"""Five runs whose results must not change when code only moves: record them before, compare them after.

    python tools/same_results.py record FILE.json
    python tools/same_results.py compare FILE.json

What is kept of a run: its widths, the checksum of the ONNX file, and every number of the report that is no
time, date, path or version. `compare` prints what differs and exits with 1 if anything does.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.zoo import create, resolve_model

# versions before branches could go have no such argument
WIDTHS_ALONE = {"depth": False} if "depth" in inspect.signature(dtp.prune_for_device).parameters else {}
NOT_COMPARED = {
    "seconds",
    "duration",
    "created",
    "date",
    "versions",
    "environment",
    "command",
    "machine",
    "measured",
    "out",
}


def run_resnet20(out: Path) -> Any:
    torch.manual_seed(0)
    budget = dtp.Budget(latency="50%")
    model, example = create("resnet20"), torch.randn(1, 3, 32, 32)
    return dtp.prune_for_device(model, example, device="rpi4-ncnn-fp32-1t", budget=budget, out=out)


def run_mobilenet(out: Path) -> Any:
    torch.manual_seed(1)
    budget = dtp.Budget(ram="60%", flash="50%", latency="60%")
    model, example = create("mobilenetv2"), torch.randn(1, 3, 32, 32)
    return dtp.prune_for_device(model, example, device="stm32h747-cubeai-int8", budget=budget, out=out)


def run_trained(out: Path) -> Any:
    torch.manual_seed(0)  # the network has random weights
    model, example, _ = resolve_model("demonet")
    budget = dtp.Budget(latency="60%", flash="50%")
    device = "stm32l4r5-cubeai-int8"
    return dtp.prune_for_device(
        model, example, device=device, budget=budget, data="digits", epochs=2, out=out, **WIDTHS_ALONE
    )


class Attention(nn.Module):
    """One block of attention and one feed-forward part, between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.qkv, self.out = nn.Linear(16, 64), nn.Linear(64, 192), nn.Linear(64, 64)
        self.up, self.down, self.head = nn.Linear(64, 128), nn.Linear(128, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inside(x)
        q, k, v = (t.unflatten(-1, (4, 16)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        x = x + self.down(nn.functional.gelu(self.up(x)))
        return self.head(x.mean(1))


def run_attention(out: Path) -> Any:
    torch.manual_seed(2)
    budget = dtp.Budget(macs="50%")
    model, example = Attention(), torch.randn(1, 24, 16)
    return dtp.prune_for_device(model, example, device="rpi5-ncnn-fp16-1t", budget=budget, out=out)


def run_onnx(out: Path) -> Any:
    torch.manual_seed(3)
    file = out.parent / "source.onnx"
    torch.onnx.export(create("dscnn").eval(), (torch.randn(1, 1, 49, 10),), file, dynamo=True, verbose=False)
    model, example, _ = resolve_model(str(file))
    budget = dtp.Budget(latency="60%")
    return dtp.prune_for_device(model, example, device="stm32h747-cubeai-int8", budget=budget, out=out)


RUNS: dict[str, Callable[[Path], Any]] = {
    "resnet20": run_resnet20,
    "mobilenetv2": run_mobilenet,
    "demonet-trained": run_trained,
    "attention": run_attention,
    "onnx-in": run_onnx,
}


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of a report with its path, but those that two runs may differ in."""
    if isinstance(value, dict):
        for key, part in value.items():
            if not any(word in str(key) for word in NOT_COMPARED):
                yield from numbers(part, f"{path}/{key}")
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from numbers(part, f"{path}/{i}")
    elif isinstance(value, (int, float, bool)):
        if path.endswith("/softness_fraction"):  # reports up to 1.1 held 1 minus it
            path, value = path.replace("softness_fraction", "hardness"), 1.0 - value
        yield path, value


def results() -> dict[str, Any]:
    found = {}
    for name, run in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            result = run(Path(folder) / "out")
            onnx = hashlib.sha256(Path(result.onnx).read_bytes()).hexdigest()
            leaves = dict(numbers(result.report))
        found[name] = {"widths": result.widths, "onnx_sha256": onnx, "report": leaves}
        print(f"{name}: {onnx[:12]}, {len(leaves)} numbers", flush=True)
    return json.loads(json.dumps(found))


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            if key.startswith(("/run/duration_s", "/run/parts_s")):
                continue
            yield from differences(
                before.get(key), after.get(key), f"{path}{key}" if path == "" else f"{path} {key}"
            )
    elif before != after:
        yield f"{path}: {before} before, {after} now"


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ("record", "compare"):
        print(__doc__)
        return 2
    torch.set_num_threads(1)
    found, file = results(), Path(sys.argv[2])
    if sys.argv[1] == "record":
        file.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    rows = list(differences(json.loads(file.read_text()), found))
    print("\n".join(rows[:40]) or "the same, bit for bit")
    return 1 if rows else 0


if __name__ == "__main__":
    sys.exit(main())
