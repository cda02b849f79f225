"""The built-in networks are the published ones: parameter counts, depths, names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dtp_edge import zoo
from dtp_edge.errors import InputError

# from the papers and the benchmark's own models; batch norm's running statistics not counted
PARAMETERS = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "mobilenetv2": 3_504_872,
    "resnet8": 78_186,
    "dscnn": 23_756,
    "vgg19": 20_035_018,
}


@pytest.mark.parametrize("name", zoo.names())
def test_runs_in_both_modes_and_has_its_size(name: str) -> None:
    module, (x,), info = zoo.resolve_model(name)
    assert info.num_classes == zoo.entry(name).num_classes
    if name in PARAMETERS:
        assert sum(p.numel() for p in module.parameters()) == PARAMETERS[name]
    out = module.train()(torch.cat([x, x]))
    assert out.shape == (2, info.num_classes)
    out.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_option_a_shortcut_against_a_convolution() -> None:
    """Strided slice and zero padding is a 1x1 convolution whose matrix is the identity between zeros."""
    from dtp_edge.zoo.resnet import PadShortcut

    x = torch.randn(2, 4, 6, 6)
    weight = torch.zeros(8, 4, 1, 1)
    weight[2:6, :, 0, 0] = torch.eye(4)
    assert torch.equal(PadShortcut(2)(x), F.conv2d(x, weight, stride=2))


@pytest.mark.more
def test_mobilenetv2_is_torchvisions() -> None:
    torchvision = pytest.importorskip("torchvision", exc_type=Exception)
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2().eval()
    ours = zoo.create("mobilenetv2").eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_other_channels_and_classes() -> None:
    net = zoo.create("dscnn", num_classes=10, in_channels=3)
    assert net(torch.zeros(2, 3, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("resnet21", "resnet20"),
        ("nothing.py:make", "no such file"),
        ("nothing.py", "name of the function is missing"),
        ("", "no built-in network"),
    ],
)
def test_unknown_models(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        zoo.resolve_model(spec)


def test_model_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "def good():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.zeros(1, 3, 2, 2)\n"
        "def small():\n    return nn.Linear(12, 3)\n"
        "def none():\n    return None\n"
        "def broken():\n    raise KeyError('x')\n"
    )
    _, (x,), info = zoo.resolve_model(f"{path}:good")
    assert (info.num_classes, tuple(x.shape), info.input_shape) == (3, (1, 3, 2, 2), (3, 2, 2))
    for name, words in (
        ("small", "does not run on an input"),
        ("none", "not a network"),
        ("broken", "KeyError"),
        ("absent", "no function"),
    ):
        with pytest.raises(InputError, match=words):
            zoo.resolve_model(f"{path}:{name}")
    path.write_text("import nothing_like_this")
    with pytest.raises(InputError, match="importing it failed"):
        zoo.resolve_model(f"{path}:good")


@pytest.mark.more
def test_torchvision_and_timm_names() -> None:
    pytest.importorskip("torchvision", exc_type=Exception)
    pytest.importorskip("timm", exc_type=Exception)
    assert zoo.resolve_model("torchvision:mobilenet_v3_small", num_classes=5)[2].num_classes == 5
    _, (x,), info = zoo.resolve_model("timm:mobilenetv3_small_050", input_shape=(1, 64, 64), num_classes=4)
    assert (tuple(x.shape), info.num_classes) == ((1, 1, 64, 64), 4)
    with pytest.raises(InputError, match="torchvision:resnet18"):
        zoo.resolve_model("torchvision:resnet19")
