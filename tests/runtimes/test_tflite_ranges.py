"""LiteRT's int8 ranges hold every sample, with a stand-in that merges ranges as the quantiser does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dtp_edge.runtimes.formats import stored_network, to_tflite


def average(known: dict, seen: dict) -> dict:
    """What ai-edge-quantizer does where nothing else is asked for."""
    return {k: 0.95 * known[k] + 0.05 * seen[k] for k in seen} if known else seen


class Calibrator:
    def __init__(self, path: str, num_threads: int = 16, qsv_update_func: Any = average) -> None:
        self.merge, self.ranges = qsv_update_func, {}

    def calibrate(self, data: dict, recipe: object) -> None:
        for feed in data["sig"]:
            (x,) = feed.values()
            self.ranges["y"] = self.merge(self.ranges.get("y", {}), {"min": x.min(), "max": x.max()})

    def get_model_qsvs(self) -> dict:
        return self.ranges


class Quantizer:
    made: dict = {}  # noqa: RUF012

    def __init__(self, path: str) -> None:
        self.path = path

    def load_quantization_recipe(self, recipe: object) -> None: ...

    def calibrate(self, data: dict) -> dict:
        ranges = Calibrator(self.path)
        ranges.calibrate(data, None)
        return ranges.get_model_qsvs()

    def quantize(self, ranges: dict) -> Any:
        Quantizer.made = ranges
        return SimpleNamespace(export_model=lambda path: Path(path).write_bytes(b"int8"))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    signatures = {"sig": {"inputs": ["args_0"]}}
    interpreter = SimpleNamespace(get_signature_list=lambda: signatures)
    manager = SimpleNamespace(load_quantization_recipe=lambda recipe: None)
    parts = {
        "calibrator": SimpleNamespace(Calibrator=Calibrator),
        "quantizer": SimpleNamespace(Quantizer=Quantizer),
        "recipe": SimpleNamespace(static_wi8_ai8=lambda: "static"),
        "recipe_manager": SimpleNamespace(RecipeManager=lambda: manager),
    }
    package, litert = ModuleType("ai_edge_quantizer"), ModuleType("ai_edge_litert.interpreter")
    vars(package).update(parts)
    vars(litert)["Interpreter"] = lambda model_path: interpreter
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", package)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", litert)


@pytest.mark.usefixtures("stand_in")
def test_ranges_hold_every_sample(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(size=(40, 1, 8)).astype(np.float32)
    to_tflite.quantise("draft.tflite", str(tmp_path / "m.tflite"), [samples])
    assert Quantizer.made == {"y": {"min": samples.min(), "max": samples.max()}}
    assert (tmp_path / "m.tflite").read_bytes() == b"int8"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_float_file_is_never_the_target(tmp_path, monkeypatch, precision):
    """`write_tflite` lets both lie in one folder, and the quantiser writes over nothing."""

    class Converted:
        def export(self, path):
            assert not os.path.exists(path)
            Path(path).write_text("float")

    def quantised(source, target, samples):
        assert Path(source).read_text() == "float"
        assert not os.path.exists(target)
        Path(target).write_text("int8")

    fake = SimpleNamespace(convert=lambda module, example: Converted(), to_channel_last_io=None)
    monkeypatch.setitem(sys.modules, "litert_torch", fake)
    monkeypatch.setattr(to_tflite, "quantise", quantised)
    example = (np.zeros((1, 3), np.float32),)
    monkeypatch.setattr(stored_network, "stored_network", lambda job: (None, example))
    for name in ("draft.tflite", "model.tflite"):
        target = tmp_path / name
        job = {"folder": str(tmp_path), "target": str(target), "precision": precision}
        to_tflite.make(job, [np.zeros((4, 1, 3), np.float32)])
        assert target.read_text() == ("float" if precision == "fp32" else "int8")
        target.unlink()
        for left in tmp_path.iterdir():
            left.unlink()
