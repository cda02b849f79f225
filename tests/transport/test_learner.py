"""The learner around a traced network: an ordinary module that trains, saves, compiles and distributes."""

from __future__ import annotations

import copy
import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from benchmarks.problems.toy import ChainCost
from dtp_edge.errors import InputError
from dtp_edge.graph import masked_forward, trace_network
from dtp_edge.transport import MaskLearner, initial_scores


def small_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(12, 24), nn.BatchNorm1d(24), nn.GELU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4)
    )


@functools.cache
def traced():
    return trace_network(small_net(), (torch.randn(2, 12),))


def make_learner(total_steps: int = 30, share: float = 0.5, **options: object) -> MaskLearner:
    network = copy.deepcopy(traced())
    sizes = network.layers.sizes(np.ones(network.n_atoms))
    cost = ChainCost(12, 4, widths=len(sizes))
    metrics = options.pop("metrics", ("macs",))
    assert isinstance(metrics, tuple)
    limits = {m: share * cost.evaluate(sizes)[m] for m in metrics}
    return MaskLearner(network, cost, limits, total_steps, **options)  # type: ignore[arg-type]


def batch(i: int, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(i)
    x = torch.randn(size, 12, generator=generator)
    return x, (x[:, :4] * x[:, 4:8]).argmax(1)


def train(learner: MaskLearner, module: nn.Module, steps: range) -> None:
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.05)
    for i in steps:
        x, y = batch(i)
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.step()


def test_ends_hard_within_the_budget() -> None:
    learner = make_learner()
    softness = []
    for i in range(30):
        train(learner, learner, range(i, i + 1))
        log = learner.log()
        softness.append(log["softness"])
        if i < 29:
            assert log["costs"]["macs"] <= learner.limits_now()["macs"]
    assert learner.is_hard
    assert softness[-1] == 0.0
    mask = learner.mask()
    assert set(mask.tolist()) == {0.0, 1.0}
    assert learner.log()["budget_used"] <= 1.0
    assert learner.log()["budget_used"] > 0.9
    np.testing.assert_array_equal(learner.harden(), mask.numpy().astype(bool))
    train(learner, learner, range(30, 33))  # more steps tune under the hard masks
    np.testing.assert_array_equal(learner.harden(), mask.numpy().astype(bool))


@pytest.mark.parametrize("steps", [20, 80, 320])
def test_epsilon_follows_the_number_of_steps(steps: int) -> None:
    """Log-odds per score at the end, and so the softness, do not depend on how long the run is."""
    learner = make_learner(steps)
    assert learner.epsilon / steps == pytest.approx(make_learner(1000).epsilon / 1000)
    for _ in range(steps - 1):
        learner.step()
    assert learner.log()["softness"] < 0.02 * learner.network.n_atoms
    learner.step()
    assert learner.log()["softness"] == 0.0


def test_forward_is_the_masked_network_and_scores_get_gradients() -> None:
    learner = make_learner()
    learner.eval()
    x, _ = batch(0)
    expected = masked_forward(learner.network, learner.module, learner.mask(), (x,))
    torch.testing.assert_close(learner(x), expected)
    learner(x).square().mean().backward()
    assert learner.scores.grad is not None
    assert float(learner.scores.grad.abs().max()) > 0


def test_the_users_network_keeps_its_weights_names() -> None:
    learner = make_learner()
    names = {name for name, _ in learner.named_parameters()}
    assert names == {"scores"} | {f"module.{name}" for name, _ in small_net().named_parameters()}
    groups = learner.parameter_groups(0.1, weight_decay=1e-4, score_lr=0.5)
    assert groups[1]["params"][0] is learner.scores
    assert groups[1]["weight_decay"] == 0
    assert sum(len(g["params"]) for g in groups) == len(names)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dual": "single"},
        {"metrics": ("peak_ram_bytes", "flash_bytes")},
        {"metrics": ("peak_ram_bytes", "flash_bytes"), "dual": "single"},
    ],
)
def test_saved_state_continues_bit_by_bit(options: dict[str, object], tmp_path: Path) -> None:
    whole = make_learner(**options)  # type: ignore[arg-type]
    train(whole, whole, range(20))
    first = make_learner(**options)  # type: ignore[arg-type]
    train(first, first, range(11))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = make_learner(**options)  # type: ignore[arg-type]
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(second, second, range(11, 20))
    for (name, a), b in zip(whole.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num()), name


def test_hard_masks_survive_saving() -> None:
    learner = make_learner(total_steps=5)
    train(learner, learner, range(5))
    other = make_learner(total_steps=5)
    other.load_state_dict(learner.state_dict())
    assert other.is_hard
    assert torch.equal(other.mask(), learner.mask())


def test_single_sinkhorn_step_follows_the_exact_dual() -> None:
    exact, single = make_learner(200), make_learner(200, dual="single")
    gaps = []
    for _ in range(199):
        exact.step()
        single.step()
        gaps.append(abs(single.log()["costs"]["macs"] / single.limits_now()["macs"] - 1))
    assert max(gaps[100:]) < 0.05
    assert single.meter.evaluations < exact.meter.evaluations
    assert (exact.harden() == single.harden()).mean() > 0.95


def test_layer_wise_ratios_are_the_papers_mode() -> None:
    network = trace_network(small_net(), (torch.randn(2, 12),))
    cost = ChainCost(12, 4, widths=len(network.layers.widths))
    shares = dict.fromkeys([g.name for g in network.groups], 0.5)
    learner = MaskLearner(network, cost, {}, 20, layer_keep=shares)
    while not learner.is_hard:
        learner.step()
    assert [kept / total for kept, total in network.widths(learner.harden()).values()] == [0.5, 0.5]
    scores = initial_scores(network)
    for g in network.groups:
        keep = learner.harden()[g.start : g.stop]
        assert scores[g.start : g.stop][keep].min() > scores[g.start : g.stop][~keep].max()


def test_autocast() -> None:
    learner = make_learner()
    x, y = batch(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(learner(x), y)
    loss.backward()
    assert learner.scores.grad is not None
    assert bool(torch.isfinite(learner.scores.grad).all())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_equals_eager(backend: str) -> None:
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler")
    torch._dynamo.reset()
    eager = make_learner()
    compiled = copy.deepcopy(eager)
    fast = torch.compile(compiled, backend=backend)
    train(eager, eager, range(5))
    train(compiled, fast, range(5))  # type: ignore[arg-type]
    for (name, a), b in zip(eager.state_dict().items(), compiled.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-4, atol=1e-5, msg=name)


def _worker(rank: int, world: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    torch.set_num_threads(1)
    learner = make_learner(12)
    wrapped = nn.parallel.DistributedDataParallel(learner)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.05)
    for i in range(12):
        x, y = batch(2 * i + rank)  # every rank sees other data
        nn.functional.cross_entropy(wrapped(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.step()
    keep = {n: t for n, t in learner.state_dict().items() if "running" not in n and "num_batches" not in n}
    torch.save(keep, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_stay_identical(tmp_path: Path) -> None:
    mp.spawn(_worker, args=(2, str(tmp_path)), nprocs=2)  # type: ignore[attr-defined]
    first, second = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in range(2))
    assert all(torch.equal(first[name].nan_to_num(), second[name].nan_to_num()) for name in first)
    assert bool(first["hard_mask"].any())


@pytest.mark.parametrize(
    "options",
    [{"total_steps": 0}, {"dual": "both"}, {"scores": np.full(40, np.nan)}],
)
def test_refuses(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        make_learner(**options)  # type: ignore[arg-type]


def test_training_that_diverged_is_named() -> None:
    learner = make_learner()
    learner.scores.data[3] = float("nan")
    with pytest.raises(InputError, match="diverged"):
        learner.step()
