"""Checkpoints are data: what is sound loads strictly, everything else is refused with a sentence."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.zoo import create, load_weights, read_weights, resolve_model
from dtp_edge.zoo.weights import match_classes

SHARED = (
    Path(os.environ.get("DTP_EDGE_SHARED", Path(__file__).parents[2] / ".." / "shared")) / "data" / "cifar10"
)


def _net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create("resnet8")


def _same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module", "both", "compiled"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_wrappers_and_prefixes(tmp_path: Path, wrap: str, suffix: str) -> None:
    source, target = _net(0), _net(1)
    state = dict(source.state_dict())
    if wrap in ("module", "both"):
        state = {f"module.{k}": v for k, v in state.items()}
    if wrap == "compiled":
        state = {f"module._orig_mod.{k}": v for k, v in state.items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if wrap in ("state_dict", "both") else state, path)
    assert not _same(source, target)
    load_weights(target, path)
    assert _same(source, target)


def test_refusals_name_the_file_and_say_what_to_do(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    torch.save(_net().state_dict(), good)
    sound = tmp_path / "sound.safetensors"
    save_file(dict(_net().state_dict()), sound)
    (tmp_path / "cut.pt").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "cut.safetensors").write_bytes(sound.read_bytes()[:-100])
    (tmp_path / "head.safetensors").write_bytes(sound.read_bytes()[:20])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("hello, this is no checkpoint at all")
    torch.save(_net(), tmp_path / "whole.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in (
        "cut.pt",
        "cut.safetensors",
        "head.safetensors",
        "empty.pt",
        "text.pt",
        "whole.pt",
        "list.pt",
        "none.pt",
    ):
        with pytest.raises(InputError) as caught:
            load_weights(_net(), tmp_path / name)
        assert name in str(caught.value)
        assert caught.value.hint
        assert caught.value.exit_code == 2


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (os.mkdir, (str(ran),))

    torch.save({"state_dict": Evil()}, tmp_path / "zip.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("zip.pt", "raw.pt"):
        with pytest.raises(InputError, match="Python objects or code"):
            load_weights(_net(), tmp_path / name)
    assert not ran.exists()
    pickle.loads((tmp_path / "raw.pt").read_bytes())  # the payload does work where it is let
    assert ran.exists()


@pytest.mark.parametrize(
    "wrap",
    [
        *("model_state", "model_state_dict", "state_dict_ema", "ema", "model_ema", "weights", "generator"),
        *("beside_numbers", "deep", "averaged", "counters", "loss", "both"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out|.*several sets")
def test_checkpoints_as_training_programs_write_them(tmp_path: Path, wrap: str) -> None:
    source, target = _net(0), _net(1)
    state = dict(source.state_dict())
    optimizer = {"state": {i: {"exp_avg": torch.ones(3), "step": torch.tensor(3.0)} for i in range(200)}}
    made = {
        "beside_numbers": {"model": state, "best": np.float64(0.3), "n": np.int64(3), "log": np.ones(3)},
        "deep": {"hyper": {"lr": 0.1}, "parts": {"student": {"net": state}}, "optimizer": optimizer},
        "averaged": {"n_averaged": torch.tensor(4), **{f"module.{k}": v for k, v in state.items()}},
        "counters": {**state, "total_ops": torch.zeros(1), "layer1.0.total_params": torch.zeros(1)},
        "loss": {
            "state_dict": {**{f"model.{k}": v for k, v in state.items()}, "criterion.weight": torch.ones(4)}
        },
        "both": {"ema": {k: v * 0 for k, v in state.items()}, "model": state, "optimizer": optimizer},
    }.get(wrap, {wrap: {f"module.{k}": v for k, v in state.items()}, "epoch": 3, "optimizer": optimizer})
    torch.save(made, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert _same(source, target)


def test_what_is_left_out_or_chosen_is_said(tmp_path: Path) -> None:
    state = dict(_net().state_dict())
    torch.save({**state, "total_ops": torch.zeros(1)}, tmp_path / "c.pt")
    with pytest.warns(UserWarning, match="1 tensors of a loss or a counter are left out"):
        load_weights(_net(1), tmp_path / "c.pt")
    torch.save({"state_dict": state, "state_dict_ema": dict(state)}, tmp_path / "e.pt")
    with pytest.warns(UserWarning, match="several sets of weights .state_dict, state_dict_ema."):
        load_weights(_net(1), tmp_path / "e.pt")


class _Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.register_buffer("steps", torch.zeros(3, dtype=torch.int32))


KINDS = {
    "quantised": ("weight", torch.quantize_per_tensor(torch.randn(4, 4), 0.1, 0, torch.qint8), "quantised"),
    "sparse": ("weight", torch.eye(4).to_sparse(), "sparse"),
    "float8": ("weight", torch.randn(4, 4).to(torch.float8_e4m3fn), "float8_e4m3fn"),
    "complex": ("weight", torch.randn(4, 4, dtype=torch.complex64), "complex64"),
    "int8": ("weight", torch.ones(4, 4, dtype=torch.int8), "int8"),
    "bool": ("weight", torch.ones(4, 4, dtype=torch.bool), "bool"),
    "halves": ("steps", torch.tensor([0.5, 1.0, 2.0]), "float32"),
    "too large": ("steps", torch.tensor([1, 2, 2**40]), "int64"),
    "beyond float32": ("weight", torch.full((4, 4), 1e300, dtype=torch.float64), "infinite"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_another_kind_are_refused_and_not_cut_off(tmp_path: Path, kind: str) -> None:
    name, tensor, said = KINDS[kind]
    torch.save({**_Counts().state_dict(), name: tensor}, tmp_path / "w.pt")
    target = _Counts()
    before = target.weight.detach().clone()
    with pytest.raises(InputError, match=said):
        load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target.weight, before)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("weight", torch.full((4, 4), 0.5, dtype=torch.float64)),
        ("weight", torch.full((4, 4), 0.5, dtype=torch.bfloat16)),
        ("steps", torch.tensor([1, 2, 3], dtype=torch.int64)),
        ("steps", torch.tensor([1.0, 2.0, 3.0])),
    ],
)
def test_the_same_values_in_another_type_load(tmp_path: Path, name: str, tensor: torch.Tensor) -> None:
    torch.save({**_Counts().state_dict(), name: tensor}, tmp_path / "w.pt")
    target = _Counts()
    load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target.state_dict()[name].double(), tensor.double())


def test_programs_pipes_and_bombs(tmp_path: Path) -> None:
    traced = torch.jit.trace(nn.Linear(3, 2), torch.ones(1, 3))
    traced.save(str(tmp_path / "script.pt"))
    with pytest.raises(InputError, match="TorchScript archive") as caught:
        read_weights(tmp_path / "script.pt")
    assert "torch.jit.load" in (caught.value.hint or "")
    torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.ones(1, 3),)), tmp_path / "program.pt2")
    with pytest.raises(InputError, match="exported program"):
        read_weights(tmp_path / "program.pt2")
    for name in ("sparse.pt", "sparse.safetensors"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(50 * 10**9)  # takes no disk
        with pytest.raises(InputError, match="has 50000000000 bytes"):
            read_weights(tmp_path / name)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pt")
        with pytest.raises(InputError, match="a pipe or a device"):
            read_weights(tmp_path / "pipe.pt")


def test_classes_of_a_convolutional_head_follow_the_checkpoint(tmp_path: Path) -> None:
    net, other = (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, n, 1)) for n in (21, 5))
    torch.save(other.state_dict(), tmp_path / "five.pt")
    assert match_classes(net, tmp_path / "five.pt") == 5
    torch.save({**net.state_dict(), "0.weight": torch.zeros(8, 3, 5, 5)}, tmp_path / "other.pt")
    assert match_classes(net, tmp_path / "other.pt") is None
    assert match_classes(other, tmp_path / "five.pt") is None


def test_values_shapes_and_names(tmp_path: Path) -> None:
    state = dict(_net().state_dict())

    def refused(changed: dict[str, torch.Tensor], words: str) -> None:
        save_file(changed, tmp_path / "w.safetensors")
        target = _net(1)
        with pytest.raises(InputError, match=words):
            load_weights(target, tmp_path / "w.safetensors")
        assert _same(target, _net(1))  # untouched

    nan = state | {"conv1.weight": state["conv1.weight"].clone()}
    nan["conv1.weight"][0, 0, 0, 0] = float("nan")
    refused(nan, "NaN")
    refused(state | {"linear.weight": torch.zeros(12, 64)}, "shape")
    refused({k: v for k, v in state.items() if k != "linear.bias"}, "linear.bias")
    refused(state | {"extra": torch.zeros(1)}, "extra")
    counters = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    save_file(counters, tmp_path / "w.safetensors")
    load_weights(_net(1), tmp_path / "w.safetensors")  # only these may be missing


def test_classes_follow_the_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(dict(create("resnet8", 7).state_dict()), tmp_path / "seven.safetensors")
    _, _, info = resolve_model("resnet8", weights=tmp_path / "seven.safetensors")
    assert info.num_classes == 7
    with pytest.raises(InputError, match="shape"):
        resolve_model("resnet8", weights=tmp_path / "seven.safetensors", num_classes=10)


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_published_cifar_weights_load_strictly(depth: int) -> None:
    path = SHARED / f"resnet{depth}.safetensors"
    if not path.is_file():
        pytest.skip("the published CIFAR weights are not on this machine")
    module, _, info = resolve_model(f"resnet{depth}", weights=path)
    tensors = read_weights(path)
    assert info.weights_sha256 is not None
    assert all(torch.equal(module.state_dict()[k], v) for k, v in tensors.items())
