"""What a newcomer gets wrong: each has its exit code, a sentence that helps, and leaves nothing behind."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dtp_edge import cli
from dtp_edge.zoo import create

DEVICE = "rpi4-ncnn-fp32-1t"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            cli.prune_main(list(arguments))
        return int(stopped.value.code or 0), capsys.readouterr().err

    return run


def test_infeasible_budget_is_refused_before_training_with_a_table(call, tmp_path: Path) -> None:
    code, said = call("resnet8", "--device", DEVICE, "--latency", "1%", "--out", "run")
    assert code == 3
    assert "smallest" in said
    assert "latency" in said
    assert "ms" in said
    assert not (tmp_path / "run").exists()


def test_unknown_device_names_the_nearest(call) -> None:
    code, said = call("resnet8", "--device", "rpi4-ncnn-fp32", "--latency", "50%")
    assert code == 2
    assert "rpi4-ncnn-fp32-1t" in said


def test_unknown_model_names_the_nearest(call) -> None:
    code, said = call("resnet21", "--device", DEVICE, "--latency", "50%")
    assert code == 2
    assert "resnet20" in said


@pytest.mark.parametrize("budget", ["fast", "-5%", "0ms", "120%", "12parsecs", "nan"])
def test_a_budget_that_means_nothing(call, budget: str) -> None:
    code, said = call("resnet8", "--device", DEVICE, f"--latency={budget}")
    assert code == 2
    assert budget in said


def test_missing_answers_are_asked_for(call) -> None:
    assert call()[0] == 2
    assert "--device" in call("resnet8", "--latency", "50%")[1]
    assert "budget" in call("resnet8", "--device", DEVICE)[1]


def _weights_missing(path: Path) -> None:
    pass


def _weights_truncated(path: Path) -> None:
    save_file({k: v.contiguous() for k, v in create("resnet8").state_dict().items()}, path)
    path.write_bytes(path.read_bytes()[:2000])


def _weights_with_code(path: Path) -> None:
    class Boom:
        def __reduce__(self):
            return (Path.touch, (path.with_name("executed"),))

    path.write_bytes(pickle.dumps({"conv1.weight": Boom()}))


def _weights_nan(path: Path) -> None:
    state = {k: v.clone().contiguous() for k, v in create("resnet8").state_dict().items()}
    next(v for v in state.values() if v.is_floating_point()).fill_(float("nan"))
    save_file(state, path)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (_weights_missing, "w.safetensors"),
        (_weights_truncated, "w.safetensors"),
        (_weights_with_code, "w.pt"),
        (_weights_nan, "w.safetensors"),
    ],
)
def test_a_checkpoint_that_cannot_be_used(call, tmp_path: Path, make, name: str) -> None:
    make(tmp_path / name)
    code, said = call("resnet8", "--weights", name, "--device", DEVICE, "--latency", "60%", "--out", "run")
    assert code == 2
    assert "next:" in said
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("spec", ["cifar10:empty", "imagefolder:empty", "fashion-mnist:empty", "nothing"])
def test_data_that_is_not_there(call, tmp_path: Path, spec: str) -> None:
    (tmp_path / "empty").mkdir()
    code, said = call(
        "resnet8", "--data", spec, "--device", DEVICE, "--latency", "60%", "--epochs", "1", "--out", "run"
    )
    assert code == 2
    assert "next:" in said
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_network(call, tmp_path: Path) -> None:
    save_file({"classifier.weight": torch.zeros(3, 3)}, tmp_path / "w.safetensors")
    code, said = call("resnet8", "--weights", "w.safetensors", "--device", DEVICE, "--latency", "60%")
    assert code == 2
    assert "w.safetensors" in said


def test_a_finished_run_is_not_overwritten_by_accident(call, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.json").write_text("{}")
    code, said = call("resnet8", "--device", DEVICE, "--latency", "60%", "--out", "run")
    assert code == 2
    assert "--force" in said
