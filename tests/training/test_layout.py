"""Images that a permute left channels-last do not reach the convolution that oneDNN computes wrongly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.training.layout import arrange_weights, arranged, strided_pointwise

CPU = torch.device("cpu")
# Twelve channels into a strided 1 x 1 convolution: see dtp_edge/training/layout.py.
CHILD = """
import dataclasses, sys
import torch
from torch import nn
sys.path.insert(0, sys.argv[1])
from helpers.small_training import small_data, small_recipe
from dtp_edge.training.run import open_session, train_base

torch.set_num_threads(int(sys.argv[2]))
data = small_data()
images = data.train.images.repeat(1, 3, 1, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
images = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
train = dataclasses.replace(data.train, images=images, mean=(0.5,) * 3, std=(1.0,) * 3)
data = dataclasses.replace(data, train=train, holdout=train.subset(torch.arange(50)))
torch.manual_seed(0)
convolutions = nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 14, 1, 2), nn.ReLU()
net = nn.Sequential(*convolutions, nn.Flatten(), nn.LazyLinear(10))
net(images[:1].float())
train_base(net, open_session(data, small_recipe(base_epochs=1, ema=0.0, batch_size=45)))
print(" ".join(f"{v:.5f}" for v in net[2].weight.flatten()[:20].tolist()))
"""


def child(threads: int) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parents[1]), str(threads)],
        capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [float(v) for v in done.stdout.split()]


def test_two_threads_train_what_one_does() -> None:
    pytest.importorskip("accelerate")
    assert child(2) == pytest.approx(child(1), abs=1e-3)


def test_images_lie_as_asked() -> None:
    x = torch.randn(2, 5, 4, 3).to(memory_format=torch.channels_last)
    assert arranged(x, False).is_contiguous()
    assert arranged(x, True).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(arranged(x, False), x)
    sound = torch.randn(2, 5)
    assert arranged(sound, True) is sound


def test_weights_of_a_channels_last_network_are_laid_out_plainly() -> None:
    net = nn.Conv2d(12, 14, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before, held = net.weight.detach().clone(), net.weight
    arrange_weights(net, False, CPU)
    assert net.weight is held
    assert net.weight.is_contiguous()
    torch.testing.assert_close(net.weight.detach(), before)


def test_channels_last_is_refused_where_a_cpu_computes_it_wrongly() -> None:
    net = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 14, 3, 2), nn.Conv2d(14, 16, 1, 2))
    with pytest.raises(InputError, match="channels_last is not safe on a CPU with 2,"):
        arrange_weights(net, True, CPU)
    arrange_weights(net[:2], True, CPU)
    arrange_weights(net, True, torch.device("cuda"))


def test_strided_pointwise_convolutions_are_found_in_a_graph_too() -> None:
    net = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 14, 3, 2), nn.Conv2d(14, 16, 1, (1, 2)), nn.ReLU())
    graph = torch.export.export(net.eval(), (torch.randn(2, 3, 8, 8),)).module()
    assert list(strided_pointwise(net)) == ["2"]
    assert list(strided_pointwise(graph)) == ["2"]


def test_a_frozen_weight_in_a_graph_is_looked_at_too() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kernel", torch.randn(14, 12, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, self.kernel, stride=2)

    graph = torch.export.export(Frozen().eval(), (torch.randn(2, 12, 8, 8),)).module()
    assert list(strided_pointwise(graph)) == ["kernel"]
