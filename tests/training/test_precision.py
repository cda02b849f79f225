"""Mixed precision: convolutions in bfloat16; weights, scores, masks, duals and the loss as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_training import SmallNet, small_data, small_recipe, small_run

from dtp_edge.errors import InputError
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.run.task import Task
from dtp_edge.surgery import compact
from dtp_edge.training import Recipe, learn_masks, open_session
from dtp_edge.training.loss import training_loss
from dtp_edge.training.runtime import Runtime
from dtp_edge.transport import Budget, MaskLearner


def _learner(steps: int) -> MaskLearner:
    torch.manual_seed(0)
    network = trace_network(SmallNet(), (torch.zeros(1, 1, 8, 8),))
    return Task.of(network, load_profile("rpi4-ncnn-fp32-1t"), Budget(macs="50%")).learner(steps)


def test_masks_and_scores_keep_their_precision() -> None:
    steps = small_recipe(mask_epochs=0.2).steps(0.2, 20)
    learner, seen = _learner(steps), []
    learner.module.conv2.register_forward_hook(lambda _m, _x, out: seen.append(out.dtype))
    session = open_session(small_data(), small_recipe(mask_epochs=0.2, mixed_precision="bf16", ema=0.0))
    before = learner.scores.detach().clone()
    learn_masks(learner, session, None)
    assert set(seen[:steps]) == {torch.bfloat16}
    assert learner.scores.dtype == learner.mask().dtype == torch.float32
    assert learner.log_odds.dtype == learner.duals.dtype == learner.offset.dtype == torch.float64
    assert {p.dtype for p in learner.parameters()} == {torch.float32}
    assert not torch.equal(before, learner.scores.detach())
    final = learner.cost.evaluate(learner.network.layers.sizes(learner.harden().astype(float)))
    assert final["macs"] <= learner.limits["macs"]
    learner.module(torch.zeros(1, 1, 8, 8))
    assert seen[-1] == torch.float32  # the network is its own again


def test_score_gradient_is_that_of_float32_within_rounding() -> None:
    x, y = next(small_data().train.shuffled(64, seed=0, epoch=0))
    gradients = []
    for enabled in (False, True):
        learner = _learner(20).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = learner(x)
        training_loss(logits, y, None, Recipe()).backward()
        gradients.append(learner.scores.grad.double())
    plain, mixed = gradients
    assert float(torch.nn.functional.cosine_similarity(plain, mixed, dim=0)) > 0.98
    assert 0.9 < float(mixed.norm() / plain.norm()) < 1.1


def test_whole_run_is_as_good_and_says_its_precision() -> None:
    """Precisions follow one another in one process: accelerate alone would refuse the second."""
    changes: dict[str, Any] = {"base_epochs": 3, "tune_epochs": 2, "base_learning_rate": 0.1, "ema": 0.0}
    found = {
        p: small_run(None, small_recipe(**changes, mixed_precision=p), control=False) for p in ("no", "bf16")
    }
    assert [f.recipe["mixed_precision"] for f in found.values()] == ["no", "bf16"]
    plain, mixed = (float(f.accuracy["pruned"] or 0) for f in found.values())
    assert mixed > 0.7
    assert abs(plain - mixed) < 0.06
    assert all(p.dtype == torch.float32 for p in found["bf16"].module.parameters())


def test_loss_of_half_precision_logits_is_computed_in_float32() -> None:
    logits, teacher = (10 * torch.randn(64, 10, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    logits, teacher = logits.bfloat16(), teacher.bfloat16()
    labels = torch.arange(64) % 10
    loss = training_loss(logits, labels, teacher, Recipe())
    assert loss.dtype == torch.float32
    wanted = training_loss(logits.double().float(), labels, teacher.double().float(), Recipe())
    np.testing.assert_allclose(float(loss), float(wanted), rtol=1e-6)


def test_the_launcher_may_choose_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch --mixed_precision bf16` says so in the environment; the recipe goes first."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert open_session(small_data(), small_recipe()).recipe.mixed_precision == "bf16"
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    assert open_session(small_data(), small_recipe()).recipe.mixed_precision == "no"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in fp16")
def test_fp16_on_a_cpu_is_refused_in_our_words() -> None:
    with pytest.raises(InputError, match="fp16 needs a GPU"):
        open_session(small_data(), small_recipe(mixed_precision="fp16"))
    assert open_session(small_data(), small_recipe(mixed_precision="bf16")).recipe.mixed_precision == "bf16"


def test_a_graph_trains_in_the_mode_it_is_in() -> None:
    """Under mixed precision a compact graph uses the batch's statistics in training, the running ones after.

    accelerate keeps the forward that it finds, and a graph writes another one for each mode.
    """

    torch.manual_seed(0)
    network = trace_network(SmallNet(dropout=0.0), (torch.zeros(2, 1, 8, 8),))
    graph = compact(network, np.ones(network.n_atoms, dtype=bool)).graph_module
    runtime = Runtime(Recipe(mixed_precision="bf16"))
    optimizer = torch.optim.SGD(graph.parameters(), lr=0.1)
    wrapped, _ = runtime.prepare(graph, optimizer)
    x = 3 + 5 * torch.randn(16, 1, 8, 8)
    wrapped.train()
    before = graph.state_dict()["bn1.running_mean"].clone()
    trained = wrapped(x)
    assert not torch.equal(graph.state_dict()["bn1.running_mean"], before)
    wrapped.eval()
    before = graph.state_dict()["bn1.running_mean"].clone()
    evaluated = wrapped(x)
    assert torch.equal(graph.state_dict()["bn1.running_mean"], before)
    assert (trained - evaluated).abs().max() > 0.01
    runtime.release(wrapped)
    assert "forward" not in vars(graph)
    assert not torch.is_autocast_enabled("cpu")
