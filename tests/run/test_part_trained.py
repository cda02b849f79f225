"""A part under the training engine: the whole learns and is judged, the part is cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.small_part import Hits, Images, Net, Own, data
from torch import nn

import dtp_edge as dtp
from dtp_edge.training import Recipe

DEVICE = "rpi4-ncnn-fp32-1t"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, dtp.PruneResult]:
    net, out = Net(), tmp_path_factory.mktemp("runs") / "part"
    recipe = Recipe(base_epochs=3, mask_epochs=3, tune_epochs=3, batch_size=16)
    result = dtp.prune_for_device(
        net,
        ([torch.rand(3, 12, 12)],),
        device=DEVICE,
        budget=dtp.Budget(latency="60%"),
        data=data(),
        objective=Own(),
        part="body",
        recipe=recipe,
        depth=False,
        out=out,
    )
    return net, result


def test_the_whole_learns_and_is_judged(run) -> None:
    net, result = run
    accuracy = result.report["accuracy"]
    assert accuracy["pruned"] > 0.9
    assert accuracy["control"] > 0.9
    for part in ("before", "head"):
        own, now = getattr(net, part).weight, getattr(result.module, part).weight
        assert not torch.equal(own, now)
        assert torch.equal(now, getattr(result.masked, part).weight)
    assert not torch.equal(result.module.norm.running_mean, net.norm.running_mean)


def test_what_was_judged_is_what_is_given_back(run) -> None:
    _, result = run
    hits = Hits()
    for batch in Images(48, 3).ordered(16):
        hits.update(result.module.eval()(batch["images"]), batch)
    assert hits.compute() == pytest.approx(result.report["accuracy"]["pruned"])


def test_the_folder_gives_it_back_too(run) -> None:
    _, result = run
    loaded = dtp.load_pruned(Path(result.out), whole=Net()).eval()
    x = torch.rand(2, 4, 12, 12)
    torch.testing.assert_close(loaded.body(x), result.module.eval().body(x))
    assert torch.equal(loaded.norm.running_mean, result.module.norm.running_mean)
    assert torch.equal(loaded.head.weight, result.module.head.weight)
