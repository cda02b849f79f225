"""Block outputs of cut networks against the same channels of the dense one, by the labels alone."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_training import fingerprint, small_data, small_recipe
from torch import Tensor, nn

from dtp_edge.errors import InputError
from dtp_edge.graph import PrunableNetwork, masked_forward, trace_network
from dtp_edge.graph.block_outputs import block_outputs
from dtp_edge.surgery import compact
from dtp_edge.training import Recipe
from dtp_edge.training.distil import BlockDistillation
from dtp_edge.training.taps import Taps
from dtp_edge.zoo import create


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


class Residual(nn.Module):
    """Two blocks on one stream: `[B, 1, 8, 8] -> [B, 10]`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.linear = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.blocks(self.stem(x)).mean((2, 3)))


class Encoder(nn.Module):
    """Attention and MLP with residuals: `[B, 6, 12] -> [B, 6, 12]`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True)
        self.last = nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(self.first(x)))


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
                if tensor.dim() > 1:
                    tensor.mul_(5 / max(1, tensor[0].numel()) ** 0.5)
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.5)
    return model.eval()


def half(network: PrunableNetwork, seed: int = 0) -> np.ndarray:
    rng, keep = np.random.default_rng(seed), np.ones(network.n_atoms, dtype=bool)
    for g in network.groups:
        keep[g.start + rng.permutation(g.stop - g.start)[: (g.stop - g.start) // 2]] = False
    return keep


CASES = {
    "in place": (Residual, (4, 1, 8, 8)),
    "a graph": (lambda: create("resnet8"), (4, 3, 32, 32)),
    "masks on activations": (Encoder, (4, 6, 12)),
    "stages": (lambda: create("vgg19"), (2, 3, 32, 32)),
}


@pytest.mark.parametrize("case", CASES)
def test_compact_and_masked_are_as_far_from_the_dense_network(case: str) -> None:
    """Two ways to one number: channels that were cut away, and channels that a mask weighs with 0."""
    build, shape = CASES[case]
    torch.manual_seed(0)
    model, x = randomised(build()), torch.randn(shape)
    network = trace_network(model, (x,))
    keep = half(network)
    cut = compact(network, keep)
    base = copy.deepcopy(model)
    blocks = BlockDistillation.of_compact(network, keep, cut.module, base, in_graph=cut.kind == "graph")
    assert blocks is not None
    assert blocks.places
    cut.module(x)
    one = blocks(x)
    blocks.close()
    mask = torch.as_tensor(keep, dtype=torch.float32)
    masked = BlockDistillation.of_masked(network, lambda: mask, base)
    assert masked is not None
    masked_forward(network, None, mask, x)
    other = masked(x)
    masked.close()
    if case != "masks on activations":  # there the graph runs, which has outputs that are no module's
        assert {p.theirs for p in masked.places} >= {p.theirs for p in blocks.places}
        assert float(one.detach()) > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    one.backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in cut.module.parameters())


def test_the_term_is_the_formula() -> None:
    model, x = randomised(Residual()), torch.randn(4, 1, 8, 8)
    network = trace_network(model, (x,))
    assert [p.module for p in block_outputs(network)] == ["blocks.0", "blocks.1"]
    keep = half(network)
    (stream,) = (g for g in network.groups if ("linear.weight", 1) in g.members)
    kept = np.flatnonzero(keep[stream.start : stream.stop])
    cut = compact(network, keep)
    assert cut.kind == "module"
    blocks = BlockDistillation.of_compact(network, keep, cut.module, copy.deepcopy(model), in_graph=False)
    assert blocks is not None
    cut.module(x)
    found = float(blocks(x).detach())
    expected = []
    with torch.no_grad():
        s, t = cut.module.stem(x), model.stem(x)
        for ours, theirs in zip(cut.module.blocks, model.blocks, strict=True):
            s, t = ours(s), theirs(t)
            wanted = t[:, kept]
            expected.append(float(((s - wanted) ** 2).mean() / (wanted**2).mean()))
    assert found == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_same_network_is_no_distance_away() -> None:
    model, x = randomised(Residual()), torch.randn(4, 1, 8, 8)
    network = trace_network(model, (x,))
    blocks = BlockDistillation.of_masked(network, lambda: torch.ones(network.n_atoms), copy.deepcopy(model))
    assert blocks is not None
    network.module(x)
    assert float(blocks(x).detach()) < 1e-10


def test_closing_leaves_graph_and_module_as_they_were() -> None:
    model, x = randomised(create("resnet8")), torch.randn(2, 3, 32, 32)
    network = trace_network(model, (x,))
    graph = compact(network, half(network), in_place=False).graph_module
    before, want = str(graph.graph), graph(x)
    nodes = [p.node for p in block_outputs(network)]
    taps = Taps(learning=True).on_nodes(graph, nodes)
    torch.testing.assert_close(graph(x), want, rtol=0, atol=0)
    assert list(taps.take()) == nodes
    with torch.no_grad():
        graph(x)
    assert not taps.take()  # what is scored is not kept
    taps.close()
    assert str(graph.graph) == before
    torch.testing.assert_close(graph(x), want, rtol=0, atol=0)


def test_a_network_without_blocks_has_nothing_to_compare() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    network = trace_network(model, (torch.randn(2, 6),))
    assert BlockDistillation.of_masked(network, lambda: torch.ones(8), copy.deepcopy(model)) is None


def test_own_loop_brings_blocks_nearer() -> None:
    import dtp_edge as dtp

    torch.manual_seed(0)
    model, x = randomised(Residual()), torch.randn(16, 1, 8, 8)
    pruner = dtp.TransportPruner(
        model, x[:2], device="rpi4-ncnn-fp32-1t", budget=dtp.Budget(macs="60%"), total_steps=8
    )
    pruner.eval()
    blocks = pruner.blocks(model)
    assert blocks is not None
    optimizer = torch.optim.Adam(pruner.parameters(), lr=1e-3)
    seen = []
    for _ in range(30):
        pruner(x)
        term = blocks(x)
        term.backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
        seen.append(float(term.detach()))
    assert pruner.is_hard
    assert seen[-1] < 0.8 * max(seen)


def test_a_whole_run_says_so_and_resumes_to_the_same(tmp_path: Path) -> None:
    found = []
    for weight, folder in ((0.0, None), (4.0, None), (4.0, tmp_path / "run")):
        recipe = small_recipe(block_distill=weight, base_epochs=1, ema=0.0)
        found.append(fingerprint(run(recipe, folder)))
    assert found[0]["sums"] != found[1]["sums"]
    assert found[1] == found[2]
    again = fingerprint(run(recipe, tmp_path / "run", stop=5))
    assert again == found[2]


def run(recipe: Recipe, folder: Path | None, stop: int | None = None):  # type: ignore[no-untyped-def]
    """A whole training; with `stop` it is interrupted in the fine-tuning and resumed."""
    from dtp_edge.measure import load_profile
    from dtp_edge.run.task import Task
    from dtp_edge.training import run_training
    from dtp_edge.transport import Budget

    def once(resume: bool, progress):  # type: ignore[no-untyped-def]
        torch.manual_seed(recipe.seed)
        model = Residual()
        network = trace_network(model, (torch.zeros(1, 1, 8, 8),))
        task = Task.of(network, load_profile("rpi4-ncnn-fp32-1t"), Budget(macs="50%"))
        cuts: list = []

        def cut(keep: np.ndarray) -> nn.Module:
            cuts.append((keep, compact(network, keep)))
            return cuts[-1][1].module

        def compare(teacher: nn.Module) -> BlockDistillation | None:
            keep, done = cuts[-1]
            return BlockDistillation.of_compact(
                network, keep, done.module, teacher, in_graph=done.kind == "graph"
            )

        return run_training(
            model, small_data(), recipe, make_learner=task.learner, cut=cut, compare=compare,
            checkpoint_dir=folder, resume=resume, progress=progress, control=False, checkpoint_seconds=0.0,
        )  # fmt: skip

    if stop is None:
        return once(False, None)

    def progress(phase: str, done: int, total: int, info: object) -> None:
        if phase == "fine-tune" and done == stop:
            raise KeyboardInterrupt

    from dtp_edge.errors import Interrupted

    with pytest.raises(Interrupted):
        once(False, progress)
    return once(True, None)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(InputError, match="block_distill"):
        Recipe(block_distill=-1.0)


@pytest.mark.parametrize("in_place", [True, False])
def test_what_follows_a_block_that_went_is_compared_with_what_it_gave(in_place: bool) -> None:
    torch.manual_seed(0)
    model, x = randomised(Residual()), torch.randn(4, 1, 8, 8)
    network = trace_network(model, (x,), depth=True)
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[next(b.atom for b in network.branches if b.name == "blocks.1")] = False
    cut = compact(network, network.settled(keep), in_place=in_place)
    assert (cut.kind == "module") == in_place
    blocks = BlockDistillation.of_compact(network, keep, cut.module, model, in_graph=not in_place)
    assert blocks is not None
    cut.module(x)
    found = float(blocks(x).detach())
    with torch.no_grad():
        first = model.blocks[0](model.stem(x))
        second = model.blocks[1](first)
    assert found == pytest.approx(float(((first - second) ** 2).sum() / (second**2).sum()), rel=1e-4)
