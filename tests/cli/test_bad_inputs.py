"""What else can be wrong with what is typed and the files it names: what, where, what next, exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from dtp_edge import cli
from dtp_edge.measure import load_profile
from dtp_edge.zoo import create

DEVICE = "rpi4-ncnn-fp32-1t"
BUDGET = ("--device", DEVICE, "--latency", "90%")
Call = Callable[..., tuple[int, str, str]]

NETWORKS = """
import sys

import torch
from torch import nn


def build():
    layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    return nn.Sequential(*layers), torch.zeros(1, 3, 8, 8)


def leaves():
    sys.exit(7)


def no_rows():
    return build()[0], torch.zeros(0, 3, 8, 8)


def costs_nothing():
    return nn.Flatten(), torch.zeros(1, 3, 4, 4)
"""

DATA = """
import torch
from torch.utils.data import Dataset, TensorDataset


def pair(x=None, y=None, test_y=None):
    x = torch.randn(40, 3, 8, 8) if x is None else x
    y = torch.arange(40) % 10 if y is None else y
    return TensorDataset(x, y), TensorDataset(x, y if test_y is None else test_y)


def good(): return pair()
def nothing(): return None
def words(): return ["a"] * 30, ["b"] * 30
def bytes_(): return pair(x=torch.zeros(40, 3, 8, 8, dtype=torch.uint8))
def nan(): return pair(x=torch.full((40, 3, 8, 8), float("nan")))
def grey(): return pair(x=torch.randn(40, 1, 8, 8))
def three(): return pair(y=torch.arange(40) % 3)
def shares(): return pair(y=torch.rand(40))
def onehot(): return pair(y=torch.eye(10)[torch.arange(40) % 10])
def below(): return pair(y=torch.arange(40) % 10 - 1)
def more_in_test(): return pair(test_y=torch.arange(40) % 12)


class Broken(Dataset):
    targets = list(range(10)) * 4

    def __len__(self): return 40

    def __getitem__(self, i):
        if i == 7:
            raise KeyError("seven")
        return torch.zeros(3, 8, 8), i % 10


def broken(): return Broken(), Broken()
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "n.py").write_text(NETWORKS)
    (tmp_path / "d.py").write_text(DATA)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(cli.cli, list(arguments), "dtp-edge")
        said = capsys.readouterr()
        return code, said.out, " ".join(said.err.split())

    return run


def lacking(result: tuple[int, str, str], what: str) -> list[str]:
    """Return what a refusal lacks: its exit code, the words `what`, and what to do next."""
    code, _, said = result
    missing = [f"exit code 2, not {code}"] if code != 2 else []
    return missing + [f"{words!r} in {said!r}" for words in (what, "next:") if words not in said]


def profile(path: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(json.dumps(load_profile(DEVICE).document))
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--latency", "50KiB"), "'50KiB' has the unit 'KiB'; known are ms"),
        (("--ram", "50ms"), "'50ms' has the unit 'ms'; known are b"),
        (("--flash", "0"), "'0' is not a finite number above 0"),
        (("--ram", "-1KiB"), "'-1KiB' is not a finite number above 0"),
        (("--latency", "60,5%"), "cannot read '60,5%'"),
        (("--latency", ""), "name a budget"),
        (("--latency", "60%", "--seed", "-1"), "'--seed': -1 is not in the range"),
        (("--latency", "60%", "--epochs", "1.5"), "'--epochs': '1.5' is not a whole number"),
        (("--latency", "60%", "--tensorboard"), "--tensorboard needs --data"),
        (("--latency", "60%", "--out", ""), "--out: the folder has no name"),
    ],
)
def test_values_of_options(call: Call, words: tuple[str, ...], what: str) -> None:
    assert not lacking(call("prune", "resnet8", "--device", DEVICE, *words), what)


def test_a_budget_above_the_dense_cost_is_pointed_out(call: Call) -> None:
    """50 is 50 ms, of a network that takes 3: perhaps 50 % was meant."""
    code, out, _ = call("prune", "resnet8", "--device", DEVICE, "--latency", "50", "--plan")
    assert code == 0
    assert "nothing has to be pruned" in " ".join(out.split())
    assert "50%" in out
    assert (
        "nothing has to be"
        not in call("prune", "resnet8", "--device", DEVICE, "--latency", "50%", "--plan")[1]
    )


def test_a_device_that_is_named_twice_is_planned_once(call: Call) -> None:
    both = f"{DEVICE}, {DEVICE}"
    code, out, _ = call("prune", "n.py:build", "--device", both, "--latency", "90%", "--plan", "--json")
    assert code == 0
    assert len(json.loads(out)) == 1


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("n.py:leaves", "n.py:14: leaves() failed: SystemExit: 7"),
        ("n.py:no_rows", "shape [0, 3, 8, 8] is empty"),
        ("n.py:costs_nothing", "the dense network's latency is 0"),
        ("folder.py:build", "folder.py: is a folder"),
        ("folder.onnx", "folder.onnx: is a folder"),
        ("empty.onnx", "is not a valid ONNX file"),
        ("weights.safetensors", "goes to --weights"),
        ("", "There are demonet"),
    ],
)
def test_models(call: Call, tmp_path: Path, model: str, what: str) -> None:
    for name in ("folder.py", "folder.onnx"):
        (tmp_path / name).mkdir()
    (tmp_path / "empty.onnx").touch()
    assert not lacking(call("prune", model, *BUDGET, "--plan"), what)


def onnx_file(path: Path, shape: list[int | str]) -> None:
    weight = numpy_helper.from_array(np.ones((16, 3, 3, 3), np.float32), "w")
    last = numpy_helper.from_array(np.ones((4, 16, 3, 3), np.float32), "v")
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    nodes += [
        helper.make_node("Conv", ["b", "v"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 1, 1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight, last])
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), path)


def test_an_onnx_file_that_leaves_its_size_free_is_told_it(call: Call, tmp_path: Path) -> None:
    onnx_file(tmp_path / "free.onnx", ["N", 3, "H", "W"])
    onnx_file(tmp_path / "batch.onnx", ["N", 3, 12, 12])
    assert not lacking(
        call("prune", "free.onnx", *BUDGET, "--plan"),
        "leaves the size of its input 'x' free: [N, 3, H, W]",
    )
    costs = []
    for side in ("12", "24"):
        shape = f"3,{side},{side}"
        code, out, err = call("prune", "free.onnx", *BUDGET, "--plan", "--json", "--input-shape", shape)
        assert code == 0, err
        costs.append(next(r for r in json.loads(out)[0]["rows"] if r["metric"] == "macs")["dense"])
    assert costs[1] > 4 * costs[0]
    assert call("prune", "batch.onnx", *BUDGET, "--plan")[0] == 0
    wrong = call("prune", "batch.onnx", *BUDGET, "--plan", "--input-shape", "3,20,20")
    assert not lacking(wrong, "--input-shape: batch.onnx brings its own input of [3, 12, 12]")


@pytest.mark.parametrize("shape", ["3x32x32", "0,3,3", "3,99999999,99999999"])
def test_input_shapes(call: Call, shape: str) -> None:
    assert not lacking(call("prune", "resnet8", *BUDGET, "--plan", "--input-shape", shape), "--input-shape: ")


@pytest.mark.parametrize("name", ["file", "file/inside", "n" * 300, "/proc/nothing"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    call: Call, tmp_path: Path, name: str
) -> None:
    if name.startswith("/proc") and not Path("/proc").is_dir():
        pytest.skip("this system has no /proc")
    (tmp_path / "file").write_text("mine")
    result = call("prune", "n.py:build", *BUDGET, "--out", name)
    assert not lacking(result, "Name another --out folder")
    assert "tracing" not in result[2]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_refused_run_leaves_no_folder(call: Call, tmp_path: Path) -> None:
    assert call("prune", "n.py:build", "--device", DEVICE, "--latency", "1%", "--out", "a/b")[0] == 3
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda d: d["kernels"]["conv1x1"].update(macs_per_second=float("nan")),
            "nan is not a finite number",
        ),
        (lambda d: d["limits"].update(ram_bytes=-5), "$.limits.ram_bytes: -5"),
        (lambda d: d.update(kernels={}), "$.kernels"),
        (lambda d: d.update(threads="four"), "$.threads: 'four' is not of type 'integer'"),
        (lambda d: d.update(schema_version=99), "schema version 99 is unknown"),
    ],
)
def test_profiles_that_are_wrong_inside(
    call: Call, tmp_path: Path, change: Callable[[dict], object], what: str
) -> None:
    profile(tmp_path / "p.json", change)
    assert not lacking(call("prune", "resnet8", "--device", "p.json", "--latency", "80%", "--plan"), what)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, "\xe9"])
def test_profiles_that_are_no_profiles(call: Call, tmp_path: Path, text: str) -> None:
    (tmp_path / "p.json").write_bytes(text.encode("latin-1"))
    assert not lacking(call("devices", "p.json"), "p.json: ")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("nothing", "nothing() returned NoneType"),
        ("words", "a sample is str, not (tensor, class)"),
        ("bytes_", "is torch.uint8 [3, 8, 8], not a float tensor [C, H, W], [C, L]"),
        ("nan", "the first sample holds NaN"),
        ("grey", "grey becomes RGB by x.expand"),
        ("three", "the data has 3 classes, the network's output has 10"),
        ("shares", "not a whole number from 0 up"),
        ("onehot", "become one by argmax()"),
        ("below", "the class of sample 0 is tensor(-1)"),
        ("more_in_test", "the test set has the class 11, the training set only 0 to 9"),
        ("broken", 'in __getitem__ (raise KeyError("seven"))'),
    ],
)
def test_data_that_a_function_returns(call: Call, name: str, what: str) -> None:
    result = call("prune", "n.py:build", "--data", f"d.py:{name}", *BUDGET, "--epochs", "1", "--out", "run")
    assert not lacking(result, what)
    assert not Path("run", "report.json").exists()


@pytest.mark.parametrize(
    "change", ["learning_rate=-1", "gradient_clip=0", "refit_images=-5", "temperature=inf"]
)
def test_a_recipe_that_means_nothing(call: Call, change: str) -> None:
    words = ("--data", "d.py:good", *BUDGET, "--set", change, "--out", "run")
    assert not lacking(call("prune", "n.py:build", *words), "Its default is")


def pictures(folder: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(8):
                pixels = np.full((12, 12), 20 * i, np.uint8)
                image.fromarray(pixels, "L").save(folder / split / name / f"{i}.png")


def _other_class(folder: Path) -> None:
    (folder / "val" / "dog").rename(folder / "val" / "wolf")


def _empty_class(folder: Path) -> None:
    (folder / "train" / "emu").mkdir()


def _no_picture(folder: Path) -> None:
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_other_class, "val: has the class 'wolf', which train does not have"),
        (_empty_class, "emu: there are no pictures"),
        (_no_picture, ".png: the picture cannot be read"),
    ],
)
def test_folders_of_pictures(call: Call, tmp_path: Path, change: Callable[[Path], None], what: str) -> None:
    """The last of them is found by a worker process, whose errors come without its traceback."""
    pictures(tmp_path / "pets")
    change(tmp_path / "pets")
    words = (
        "--data",
        "imagefolder:pets",
        *BUDGET,
        "--epochs",
        "1",
        "--workers",
        "1",
        "--input-shape",
        "3,8,8",
    )
    result = call("prune", "demonet", *words, "--out", "run")
    assert not lacking(result, what)
    assert "Traceback" not in result[2]


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("csv:t.csv", "t.csv: line 3: b is 'x', not a number"),
        ("csv:absent.csv", "no such file"),
        ("csv", "the file is missing"),
        ("npz:a.npz", "a.npz: x has 12 samples, y 9"),
        ("coco:pics,boxes.json", "boxes.json: annotations[0]: the box is empty: 0 x 4"),
        ("segfolder:pics", "no folder images in it"),
        ("segfolders:pics", "Did you mean segfolder, "),
    ],
)
def test_data_by_name(call: Call, spec: str, what: str) -> None:
    Path("t.csv").write_text("a,b,label\n1,2,0\n1,x,1\n")
    np.savez("a.npz", x=np.zeros((12, 3, 8, 8), np.float32), y=np.zeros(9, np.int64))
    Path("pics").mkdir()
    Path("pics", "a.txt").write_text("")
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 0, 4]}
    image = {"id": 1, "file_name": "a.png", "width": 8, "height": 8}
    document = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "a"}]}
    Path("boxes.json").write_text(json.dumps(document))
    result = call("prune", "n.py:build", "--data", spec, *BUDGET, "--epochs", "1", "--out", "run")
    assert not lacking(result, what)
    assert not Path("run").exists()


def test_a_folder_with_no_test_pictures_keeps_some_for_it(tmp_path: Path) -> None:
    from dtp_edge.training import load_data

    pictures(tmp_path / "pets")
    shutil.rmtree(tmp_path / "pets" / "val")
    data = load_data(f"imagefolder:{tmp_path / 'pets'}", 8)
    assert data.num_classes == 2
    assert len(data.test) == 3


def test_names_in_any_script_work(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "Ünï cødé 网络 😀"
    folder.mkdir()
    (folder / "mödel net.py").write_text(NETWORKS)
    torch.manual_seed(0)
    save_file(
        {k: v.contiguous() for k, v in create("resnet8").state_dict().items()}, folder / "权重.safetensors"
    )
    code, _, err = call("prune", f"{folder}/mödel net.py:build", *BUDGET, "--out", f"{folder}/rün 1")
    assert code == 0, err
    assert (folder / "rün 1" / "report.json").exists()
    assert call("prune", "resnet8", "--weights", f"{folder}/权重.safetensors", *BUDGET, "--plan")[0] == 0


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("profile", "measure", "--threads", "9999"), "more than this machine's"),
        (("profile", "measure", "--out", "folder"), "folder: cannot be written"),
        (("profile", "kit", "folder"), "folder: is a folder"),
        (("profile", "fit", "empty.csv", "--like", DEVICE, "--out", "f.json"), "too few to fit"),
        (("check", "m.onnx", "--timeout", "0"), "'--timeout': 0.0 is not in the range"),
        (("check", "m.onnx", "--memory", "0"), "'--memory': 0 is not in the range"),
        (("check", "m.onnx", "--repeats", "-3"), "'--repeats': -3 is not in the range"),
        (("report", "folder"), "there is no report here"),
    ],
)
def test_other_commands(call: Call, tmp_path: Path, words: tuple[str, ...], what: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.csv").touch()
    assert not lacking(call(*words), what)
