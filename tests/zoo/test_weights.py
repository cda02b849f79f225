"""Checkpoints are data: what is sound loads strictly, everything else is refused with a sentence."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.zoo import create, load_weights, read_weights, resolve_model

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
