"""The loop against formulas worked out here: loss, schedule, accumulation, averages, statistics."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_training import SmallNet, small_data, small_recipe
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.training import (
    Recipe,
    TensorBoardLog,
    evaluate,
    fine_tune,
    open_session,
    read_csv,
    recalibrate,
    train_base,
    write_csv,
)
from dtp_edge.training.loss import training_loss


def test_loss_is_hintons() -> None:
    torch.manual_seed(0)
    student, teacher, labels = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    recipe = Recipe(distill=0.3, temperature=2.0)
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    soft = (p * (p / q).log()).sum(1).mean() * 4
    hard = -student.log_softmax(1)[torch.arange(5), labels].mean()
    wanted = 0.7 * hard + 0.3 * soft
    torch.testing.assert_close(training_loss(student, labels, teacher, recipe), wanted)
    torch.testing.assert_close(training_loss(student, labels, None, recipe), hard)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "step", "onecycle"])
def test_schedules_rise_and_stay_in_range(name: str) -> None:
    recipe = Recipe(schedule=name, warmup=0.2)
    rates = [recipe.rate(i, 50) for i in range(50)]
    assert all(0 <= r <= 1 for r in rates)
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) > 0.95
    if name == "cosine":
        assert math.isclose(rates[30], 0.5)
        assert rates[-1] < 0.01


@pytest.mark.parametrize(
    "bad",
    [
        {"schedule": "cosin"},
        {"optimizer": "adam"},
        {"batch_size": 0},
        {"mask_epochs": -1.0},
        {"mask_epochs": float("nan")},
        {"distill": 1.5},
        {"mixed_precision": "int8"},
    ],
)
def test_recipes_that_make_no_sense(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Recipe(**bad)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        Recipe.for_epochs(0)


def test_epochs_are_split() -> None:
    recipe = Recipe.for_epochs(5, masks=True, seed=3)
    assert recipe.mask_epochs + recipe.tune_epochs == 5
    assert recipe.mask_epochs > 0
    assert (recipe.seed, recipe.base_epochs) == (3, 0)
    usual = Recipe.for_epochs(5)
    assert (usual.mask_epochs, usual.tune_epochs) == (0, 5), "a calibration decides"


def test_accumulated_parts_are_the_whole_batch() -> None:
    """Without batch norm, a batch in parts has the same gradient."""
    results = []
    for parts in (1, 4):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        recipe = small_recipe(base_epochs=0.3, accumulate=parts, ema=0.0, batch_size=60)
        train_base(net, open_session(small_data(), recipe))
        results.append(net[1].weight.detach())
    torch.testing.assert_close(results[0], results[1])


def test_learning_learns_and_the_best_remains() -> None:
    torch.manual_seed(0)
    net, data = SmallNet(), small_data()
    session = open_session(data, small_recipe(base_epochs=5, ema=0.0, base_learning_rate=0.1))
    rows = train_base(net, session)
    scored = [r["holdout_accuracy"] for r in rows if "holdout_accuracy" in r]
    assert len(scored) == 5
    assert max(scored) > 0.8
    assert evaluate(net, data.holdout) == max(scored)
    assert [r["step"] for r in rows] == list(range(1, 101))


def test_training_that_does_harm_leaves_what_it_began_with() -> None:
    data, module = small_data(), SmallNet()
    train_base(module, open_session(data, small_recipe(base_epochs=4)))
    before, start = evaluate(module, data.holdout), copy.deepcopy(module.state_dict())
    assert before > 0.5
    curve = fine_tune(module, open_session(data, small_recipe(tune_learning_rate=5.0)), None, epochs=1)
    assert max(r.get("holdout_accuracy", 0.0) for r in curve) < before
    assert evaluate(module, data.holdout) == before
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, start[name]), name


def test_average_of_the_weights() -> None:
    from dtp_edge.training.ema import Average

    net = nn.Linear(2, 1, bias=False)
    average = Average(net, 0.5)
    value = net.weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            net.weight.copy_(torch.full((1, 2), float(step)))
        average.update(net)
        decay = min(0.5, step / (step + 10))
        value = decay * value + (1 - decay) * step
    with average.swapped_in(net):
        torch.testing.assert_close(net.weight.detach(), value)
    assert float(net.weight.detach()[0, 0]) == 5.0


def test_batch_norm_is_re_estimated() -> None:
    """The first norm's statistics are those of its input over the very batches, worked out by hand."""
    torch.manual_seed(0)
    net, data = SmallNet(), small_data()
    with torch.no_grad():
        net.bn1.running_mean.fill_(9)
        net.bn1.running_var.fill_(9)
    assert recalibrate(net, data, 5, batch_size=50, seed=1) == 3
    batches = [x for x, _ in data.train.shuffled(50, seed=1, epoch=0)][:5]
    outs = [net.conv1(x) for x in batches]
    torch.testing.assert_close(net.bn1.running_mean, torch.stack([o.mean((0, 2, 3)) for o in outs]).mean(0))
    torch.testing.assert_close(net.bn1.running_var, torch.stack([o.var((0, 2, 3)) for o in outs]).mean(0))
    assert net.bn1.momentum == 0.1
    assert net.training


def test_batch_norm_of_a_graph_is_re_estimated_as_in_its_module() -> None:
    from dtp_edge.graph import trace_network
    from dtp_edge.surgery import compact

    torch.manual_seed(0)
    net, data = SmallNet(), small_data()
    network = trace_network(net, (torch.zeros(1, 1, 8, 8),))
    graph = compact(network, np.ones(network.n_atoms, dtype=bool)).graph_module
    with torch.no_grad():
        graph.get_buffer("bn2.running_var").fill_(9)
    assert recalibrate(net, data, 5, batch_size=50, seed=1) == 3
    assert recalibrate(graph, data, 5, batch_size=50, seed=1) == 3
    for name in ("bn1", "bn2", "bn3"):
        for kind in ("running_mean", "running_var"):
            one, other = graph.get_buffer(f"{name}.{kind}"), net.get_buffer(f"{name}.{kind}")
            assert one.data_ptr() != other.data_ptr()
            torch.testing.assert_close(one, other, msg=f"{name}.{kind}")
    assert recalibrate(graph, data, 0) == 0


def test_no_decay_on_norms_biases_and_scores() -> None:
    from dtp_edge.training.optimizer import make_optimizer

    net = SmallNet()
    net.scores = nn.Parameter(torch.zeros(4, 4))
    optimizer = make_optimizer(net, Recipe(), 0.1, [net.scores], 0.7)
    decays = {id(p): (g["weight_decay"], g["rate"]) for g in optimizer.param_groups for p in g["params"]}
    assert decays[id(net.conv1.weight)] == (5e-4, 0.1)
    assert decays[id(net.bn1.weight)] == decays[id(net.linear.bias)] == (0.0, 0.1)
    assert decays[id(net.scores)] == (0.0, 0.7)
    assert len(decays) == len(list(net.parameters()))


def test_a_loss_that_is_not_finite_stops() -> None:
    net = SmallNet()
    with torch.no_grad():
        net.conv1.weight.fill_(float("inf"))
    with pytest.raises(InputError, match="no longer finite"):
        train_base(net, open_session(small_data(), small_recipe(ema=0.0)))


def test_distillation_pulls_towards_the_teacher() -> None:
    """With wrong labels, only the student that listens to the teacher learns the digits."""
    data = small_data()
    torch.manual_seed(0)
    teacher = SmallNet(dropout=0.0)
    train_base(teacher, open_session(data, small_recipe(base_epochs=6, base_learning_rate=0.2, ema=0.0)))
    wrong = dataclasses.replace(data.train, labels=(data.train.labels + 1) % 10)
    accuracies = []
    for weight in (0.0, 1.0):
        torch.manual_seed(1)
        student = SmallNet(dropout=0.0)
        session = open_session(
            dataclasses.replace(data, train=wrong),
            small_recipe(tune_epochs=6, tune_learning_rate=0.2, ema=0.0, distill=weight),
        )
        fine_tune(student, session, copy.deepcopy(teacher))
        accuracies.append(evaluate(student, data.test))
    assert accuracies[0] < 0.3
    assert accuracies[1] > 0.6


def test_curves_are_written(tmp_path: Path) -> None:
    rows = [
        {"phase": "masks", "step": 1, "loss": 0.5, "costs": {"macs": 3.0}},
        {"phase": "x", "step": 1, "holdout_accuracy": 1.0},
    ]
    text = write_csv(tmp_path / "curve.csv", rows).read_text().splitlines()
    assert text == ["phase,step,loss,holdout_accuracy,costs.macs", "masks,1,0.5,,3.0", "x,1,,1.0,"]
    old = tmp_path / "old.csv"
    old.write_text("phase,step,loss,hardness,kept\nmasks,1,0.5,2.5,0.75\n")
    assert read_csv(old) == [
        {"phase": "masks", "step": "1", "loss": "0.5", "softness": "2.5", "mean_mask": "0.75"}
    ]
    assert read_csv(tmp_path / "curve.csv")[0]["costs.macs"] == "3.0"
    pytest.importorskip("tensorboard")
    TensorBoardLog(tmp_path / "board")("masks", 1, 1, rows[0])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert events.Scalars("masks/costs.macs")[0].value == 3.0


def test_moving_keeps_the_tensors_that_a_graph_shares() -> None:
    from dtp_edge.training.runtime import move

    net = SmallNet()
    before = [id(t) for t in (*net.parameters(), *net.buffers())]
    move(net, "cpu")
    assert [id(t) for t in (*net.parameters(), *net.buffers())] == before


def test_long_curves_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    from dtp_edge.training import loop

    monkeypatch.setattr(loop, "_MAX_ROWS", 5)
    rows = train_base(SmallNet(), open_session(small_data(), small_recipe(base_epochs=2, ema=0.0)))
    assert [r["step"] for r in rows] == [8, 16, 20, 24, 32, 40]


def test_channels_last_changes_the_layout_and_nothing_else() -> None:
    data = small_data()
    train = data.train
    colour = dataclasses.replace(train, images=train.images.repeat(1, 3, 1, 1), mean=(0.5,) * 3, std=(1,) * 3)
    results, layouts = [], []
    for wanted in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))

        def note(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            if module.training:
                layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

        net.register_forward_pre_hook(note)
        session = open_session(
            dataclasses.replace(data, train=colour, holdout=colour.subset(torch.arange(50))),
            small_recipe(base_epochs=0.3, ema=0.0, channels_last=wanted),
        )
        train_base(net, session)
        results.append(net[0].weight.detach())
    half = len(layouts) // 2
    assert not any(layouts[:half])
    assert all(layouts[half:])
    assert half >= 4
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-5)


def test_the_cut_network_is_fitted_before_it_is_scored_and_tuned() -> None:
    """`refit` gets the base (not what the masks left) and training images; at the cut it has been applied."""
    from helpers.small_training import small_run

    seen: list[tuple[nn.Module, list[tuple[torch.Tensor]]]] = []

    def fit(dense: nn.Module, batches: list[tuple[torch.Tensor]]) -> None:
        seen.append((dense, batches))

    outcome = small_run(None, small_recipe(ema=0.0, refit_images=100), refit=fit, control=False)
    (dense, ((images,),)) = seen[0]
    assert images.shape == (100, 1, 8, 8)
    assert evaluate(dense, small_data().test) == outcome.accuracy["base"]
    small_run(None, small_recipe(ema=0.0, refit_images=0), refit=fit, control=False)
    assert len(seen) == 1
    from dtp_edge.training.refit_inputs import refit_batches

    large = dataclasses.replace(small_data(), input_shape=(1, 512, 512))
    ((images,),) = refit_batches(large, small_recipe())
    assert len(images) == 16
