"""Ultralytics' detectors: cut in their own class, trained by their own loss, read by their own reader."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_yolo import detector, pictures

import dtp_edge as dtp
from dtp_edge.graph.libraries.library import library_of
from dtp_edge.training import Recipe, load_data
from dtp_edge.training.objectives.ultralytics import Ultralytics

pytestmark = pytest.mark.more
DEVICE, SIZE = "rpi4-ncnn-fp32-1t", 64
IMAGE = torch.rand(1, 3, SIZE, SIZE)


@pytest.fixture(autouse=True)
def ultralytics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "settings"))
    return pytest.importorskip("ultralytics", exc_type=Exception)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dtp.PruneResult]:
    pytest.importorskip("ultralytics", exc_type=Exception)
    model, out = detector(), tmp_path_factory.mktemp("runs") / "yolo"
    with torch.no_grad():
        model.model[2].cv1.conv.weight[:8] *= 0.1  # of the halves one goes sooner
    budget = dtp.Budget(latency="60%")
    return model, dtp.prune_for_device(model, IMAGE, device=DEVICE, budget=budget, out=out)


def test_its_class_and_its_outputs_stay(run) -> None:
    model, result = run
    assert type(result.module) is type(model)
    assert any(type(part).__name__.startswith("Uneven") for part in result.module.modules())
    assert "forward_head" not in vars(result.module.model[-1])
    with torch.no_grad():
        own, now = model(IMAGE), result.module.eval()(IMAGE)
        assert now[0].shape == own[0].shape
        assert [f.shape[2:] for f in now[1]["feats"]] == [f.shape[2:] for f in own[1]["feats"]]
        assert all(f.abs().sum() > 0 for f in now[1]["feats"])
        torch.testing.assert_close(now[0], result.masked.eval()(IMAGE)[0], rtol=1e-4, atol=1e-4)
    assert not any("cv2.conv" in name for name, _ in result.frozen), "maps are no output"


def test_attention_cut_to_other_sizes_keeps_its_class() -> None:
    from dtp_edge.run.traced import traced
    from dtp_edge.surgery import compact

    network, _ = traced(detector(), (IMAGE,))
    keep = np.ones(network.n_atoms, dtype=bool)
    inner = [group for group in network.groups if group.kind == "inner" and "attn" in group.name]
    assert len(inner) == 2
    for group, left in zip(inner, (3, 5), strict=True):
        keep[group.start + left : group.stop] = False
    found = compact(network, keep)
    assert found.kind == "module", found.reason
    assert "UnevenAttention" in {type(part).__name__ for part in found.module.modules()}


def test_other_sizes_and_batches_run(run) -> None:
    model, result = run
    for batch, side in ((3, 64), (2, 96), (1, 128)):
        x = torch.rand(batch, 3, side, side)
        assert result.module.eval()(x)[0].shape == model(x)[0].shape


def test_the_file_is_read_by_yolo_with_the_same_boxes(run, ultralytics: Any) -> None:
    import onnxruntime

    _, result = run
    reader = ultralytics.YOLO(str(result.onnx), task="detect")
    image = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    seen = reader.predict(image, imgsz=SIZE, conf=0.001, iou=0.7, max_det=300, verbose=False)[0]
    assert seen.names == {0: "disc", 1: "square", 2: "bar"}
    session = onnxruntime.InferenceSession(str(result.onnx))
    assert [o.name for o in session.get_outputs()] == ["output0"]
    given = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / 255
    raw = torch.from_numpy(session.run(None, {"images": given})[0])
    from ultralytics.utils.nms import non_max_suppression

    alone = non_max_suppression(raw, 0.001, 0.7, max_det=300)[0]
    alone[:, :4] = alone[:, :4].clamp(0, SIZE)
    assert len(alone) == len(seen.boxes) > 0
    torch.testing.assert_close(alone, seen.boxes.data, rtol=1e-4, atol=1e-3)


def test_the_folder_gives_the_class_back(run) -> None:
    _, result = run
    found = dtp.load_pruned(result.out, like=detector(seed=1))
    assert type(found).__name__ == "DetectionModel"
    with torch.no_grad():
        torch.testing.assert_close(found.eval()(IMAGE)[0], result.module.eval()(IMAGE)[0])


def test_a_graph_carries_what_its_loss_reads(run) -> None:
    from ultralytics.utils.loss import v8DetectionLoss

    model, result = run
    graph = dtp.load_pruned(result.out)
    library_of(model).carry(graph, model)  # type: ignore[union-attr]
    batch = {
        "batch_idx": torch.zeros(1),
        "cls": torch.ones(1, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.3, 0.4]]),
    }
    assert (graph.nc, graph.names) == (3, model.names)
    loss = graph.criterion(graph(IMAGE), batch)[0].sum()
    wanted = v8DetectionLoss(model)(result.module.eval()(IMAGE), batch)[0].sum()
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-4)


def test_its_trainer_goes_on(run, ultralytics: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains, saves, loads, validates at another size and exports, all by Ultralytics."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    _, result = run
    monkeypatch.chdir(tmp_path)
    data = pictures(tmp_path / "set", {"train": 16, "val": 8})

    class Trainer(DetectionTrainer):
        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
            return result.module

    before = {name: t.detach().clone() for name, t in result.module.named_parameters()}
    options = {"imgsz": SIZE, "workers": 0, "device": "cpu", "plots": False, "verbose": False}
    yolo = ultralytics.YOLO("yolo11n.yaml", task="detect", verbose=False)
    yolo.train(trainer=Trainer, data=str(data), epochs=1, batch=8, project=str(tmp_path), name="t", **options)
    loaded = ultralytics.YOLO(str(tmp_path / "t/weights/last.pt"))
    shapes = {name: t.shape for name, t in loaded.model.named_parameters()}
    assert shapes == {name: t.shape for name, t in before.items()}
    assert any(not torch.equal(t.float(), before[name]) for name, t in loaded.model.named_parameters())
    assert loaded.val(data=str(data), **(options | {"imgsz": 96})).box.map >= 0
    file = loaded.export(format="onnx", imgsz=SIZE, simplify=False, opset=18, verbose=False)
    assert Path(file).is_file()


def _data(folder: Path) -> Any:
    return load_data(f"yolo:{pictures(folder, {'train': 48, 'val': 16, 'test': 16})}", SIZE, 0)


def test_a_sample_is_a_function_of_row_and_seed(tmp_path: Path) -> None:
    data = _data(tmp_path / "set")
    one, two, other = (data.train.dataset[index] for index in ((3, 5), (3, 5), (3, 6)))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["img"], other["img"])
    assert not list(tmp_path.rglob("*.cache")), "its cache is a pickle"


def test_a_row_alone_is_read_as_it_is(tmp_path: Path) -> None:
    from PIL import Image

    data = _data(tmp_path / "set")
    file, row = data.train.dataset.own.im_files[3], data.train.dataset[3]
    x = np.asarray(Image.open(file)).transpose(2, 0, 1).astype(np.float32) / 255
    torch.testing.assert_close(row["img"], torch.from_numpy(x))
    assert not torch.equal(data.train.dataset[(3, 5)]["img"], row["img"])
    torch.testing.assert_close(data.train.dataset[3]["img"], row["img"])


def test_it_is_calibrated_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dtp_edge.cli import prune_main

    data, file = pictures(tmp_path / "set", {"train": 48, "val": 16}), tmp_path / "net.py"
    file.write_text(
        "import sys, torch\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from helpers.small_yolo import detector\n"
        "def net(): return detector(), torch.rand(1, 3, 64, 64)\n"
    )
    with pytest.raises(SystemExit) as stop:
        prune_main(
            [f"{file}:net", "--device", DEVICE, "--latency", "80%", "--calibrate", f"yolo:{data}",
             "--workers", "0", "--input-shape", "3,64,64", "--no-depth", "--out", str(tmp_path / "run")]
        )  # fmt: skip
    assert stop.value.code == 0, capsys.readouterr()
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["run"]["data"] == "yolo"
    assert report["calibration"]["output_error"] < 1


def test_parts_of_a_batch_are_the_batch(tmp_path: Path) -> None:
    data, model = _data(tmp_path / "set"), detector()
    objective = Ultralytics.of(data)
    objective.begin(model, Recipe())
    batch = next(data.train.ordered(6))
    parts = objective.parts(batch, 3)
    assert [objective.size(part) for part in parts] == [2, 2, 2]
    for name in ("img", "cls", "bboxes"):
        assert torch.equal(torch.cat([part[name] for part in parts]), batch[name])
    with torch.no_grad():
        whole = objective.loss(model(batch["img"]), batch)
        own = model.loss({**batch}, model(batch["img"]))[0].sum() / 6  # Ultralytics' own
    torch.testing.assert_close(whole, own)


def test_a_perfect_detector_has_all_of_map(tmp_path: Path) -> None:
    data = _data(tmp_path / "set")
    objective, batch = Ultralytics.of(data), next(data.test.ordered(8))
    anchors = torch.zeros(8, 7, 1)
    for i in range(8):
        own = batch["batch_idx"] == i
        anchors[i, :4, 0] = batch["bboxes"][own][0] * SIZE
        anchors[i, 4 + int(batch["cls"][own][0]), 0] = 0.9
    metric = objective.metric()
    metric.update((anchors, {}), batch)
    assert metric.compute() == pytest.approx(1.0)
    anchors[:, 0] += SIZE  # all beside
    metric = objective.metric()
    metric.update((anchors, {}), batch)
    assert metric.compute() == pytest.approx(0.0)


CHILD = """
import sys
sys.path[:0] = {paths!r}
import torch
torch.set_num_threads(1)
import dtp_edge as dtp
from helpers.small_yolo import detector
from dtp_edge.training import Recipe, load_data
recipe = Recipe(mask_epochs=2, tune_epochs=2, batch_size=8, refit_images=8, recalibrate_batches=2)
result = dtp.prune_for_device(
    detector(), torch.zeros(1, 3, 64, 64), device="rpi4-ncnn-fp32-1t", budget=dtp.Budget(latency="60%"),
    depth=False, data=load_data("yolo:{data}", 64, 0), recipe=recipe, out="{out}",
    resume="resume" in sys.argv,
)
print(result.report["accuracy"]["pruned"])
"""


@pytest.mark.timeout(900)
def test_killed_and_resumed_it_ends_as_one_that_was_not(tmp_path: Path) -> None:
    data = pictures(tmp_path / "set", {"train": 48, "val": 16, "test": 16})
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

    def start(out: str, *words: str) -> subprocess.Popen[str]:
        code = CHILD.format(paths=paths, data=data, out=tmp_path / out)
        return subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)

    whole = start("whole")
    said = whole.communicate()[0]
    assert whole.returncode == 0
    stopped = start("cut")
    while stopped.poll() is None and not list((tmp_path / "cut").glob("checkpoint/fine-tune*")):
        time.sleep(0.05)
    os.kill(stopped.pid, signal.SIGKILL)
    stopped.wait()
    assert not (tmp_path / "cut/report.json").exists()
    again = start("cut", "resume")
    assert again.communicate()[0].splitlines()[-1] == said.splitlines()[-1]
    one, two = (dtp.load_pruned(tmp_path / name).state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[name], two[name]) for name in one)
