"""Networks by the name of their library: built, run, and told where they cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dtp_edge.errors import InputError
from dtp_edge.zoo import resolve_model
from dtp_edge.zoo.sources.registry import find, prefixes


def test_the_sources() -> None:
    assert prefixes() == ["smp", "timm", "torchaudio", "torchvision", "transformers", "ultralytics"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("ultralytic:yolo11n", "Did you mean ultralytics:yolo11n"),
        ("ultralytics:best.pt", "is a pickle, which runs code"),
    ],
)
def test_what_needs_no_package(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve_model(spec)


@pytest.mark.parametrize("prefix", ["smp", "torchaudio", "transformers", "ultralytics"])
def test_an_absent_package_is_told(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("segmentation_models_pytorch", "torchaudio.models", "transformers", "ultralytics.nn.tasks"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"cannot be imported") as told:
        find(prefix, "anything")
    assert "pip install" in told.value.hint


@pytest.mark.more
def test_ultralytics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    pytest.importorskip("ultralytics", exc_type=Exception)
    module, (x,), info = resolve_model("ultralytics:yolo11n", num_classes=4, input_shape=(1, 64, 64))
    assert (type(module).__name__, tuple(x.shape), info.trained) == ("DetectionModel", (1, 1, 64, 64), False)
    assert module(x)[0].shape[1] == 4 + 4
    assert type(resolve_model("ultralytics:yolov8n-seg", input_shape=(3, 64, 64))[0]).__name__ == (
        "SegmentationModel"
    )
    with pytest.raises(InputError, match="Did you mean ultralytics:yolo11n"):
        resolve_model("ultralytics:yolo11nn")


@pytest.mark.more
def test_smp() -> None:
    pytest.importorskip("segmentation_models_pytorch", exc_type=Exception)
    module, (x,), _ = resolve_model("smp:unet-mobilenet_v2", num_classes=5, input_shape=(1, 64, 64))
    assert module(x).shape == (1, 5, 64, 64)
    for name, words in (("unett", "smp:unet"), ("unet-resnet19", "smp:unet-resnet18")):
        with pytest.raises(InputError, match=words):
            resolve_model(f"smp:{name}")


@pytest.mark.more
def test_torchaudio() -> None:
    pytest.importorskip("torchaudio", exc_type=Exception)
    module, (x,), info = resolve_model("torchaudio:conv_tasnet_base")
    assert (tuple(x.shape), info.input_shape) == ((1, 1, 16_000), (1, 16_000))
    assert isinstance(module, torch.nn.Module)
    with pytest.raises(InputError, match="Did you mean torchaudio:conv_tasnet_base"):
        resolve_model("torchaudio:conv_tasnet_bse")


@pytest.fixture
def small(tmp_path: Path) -> Any:
    """A folder as `save_pretrained` writes it, of a network with its weights."""
    transformers = pytest.importorskip("transformers", exc_type=Exception)
    config = transformers.DistilBertConfig(
        vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=20, num_labels=3
    )
    torch.manual_seed(0)
    own = transformers.DistilBertForTokenClassification(config)
    own.save_pretrained(tmp_path / "net")
    return own.eval(), tmp_path / "net"


@pytest.mark.more
def test_transformers_of_a_folder(small: Any) -> None:
    own, folder = small
    module, example, info = resolve_model(f"transformers:{folder}")
    assert type(module) is type(own)
    assert info.trained
    assert [tuple(x.shape) for x in example] == [(1, 20), (1, 20)]
    assert torch.equal(module(*example).logits, own(*example).logits)
    module, example, info = resolve_model(f"transformers:{folder / 'config.json'}", input_shape=(7,))
    assert (info.trained, tuple(example[0].shape)) == (False, (1, 7))
    module, example, _ = resolve_model(f"transformers:{folder}:SequenceClassification", num_classes=6)
    assert module(*example).logits.shape == (1, 6)


@pytest.mark.more
def test_transformers_that_cannot_be_had(small: Any, tmp_path: Path) -> None:
    _, folder = small
    faults = {
        str(tmp_path / "none"): "holds no config.json",
        "distilbrt": "Did you mean transformers:distilbert",
        f"{folder}:TokenClasification": "TokenClassification",
    }
    for spec, words in faults.items():
        with pytest.raises(InputError, match=words):
            resolve_model(f"transformers:{spec}")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"distilbert"', '"nothing"'))
    with pytest.raises(InputError, match="is no configuration"):
        resolve_model(f"transformers:{folder}")
    (folder / "config.json").write_text(text)
    (folder / "model.safetensors").write_bytes(b"none")
    with pytest.raises(InputError, match="cannot be read"):
        resolve_model(f"transformers:{folder}")
