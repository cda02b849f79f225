"""Other tasks than classification go through all of a run: batches of any form, own losses, own metrics."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_boxes import Centres, HeatNet, MissedCells, boxes_data, boxes_recipe, boxes_run, figures
from torch import Tensor, nn

import dtp_edge as dtp
from dtp_edge.errors import InputError, Interrupted
from dtp_edge.training import DataSource, Headline, Inputs, Objective, Recipe, evaluate, open_session
from dtp_edge.training.evaluate import score
from dtp_edge.training.feed import Feed
from dtp_edge.training.objectives import nests
from dtp_edge.training.objectives.classification import Classification
from dtp_edge.training.objectives.registry import kinds, objective_of
from dtp_edge.training.run import train_base


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dtp.PruneResult:
    return boxes_run(tmp_path_factory.mktemp("boxes") / "out", int8=True)


def test_boxes_are_learned_cut_and_judged_by_their_own_metric(run: dtp.PruneResult) -> None:
    accuracy = run.report["accuracy"]
    assert (accuracy["metric"], accuracy["unit"], accuracy["higher_is_better"]) == (
        "missed cells",
        "cells",
        False,
    )
    again = evaluate(run.module, boxes_data().test, feed=Feed(Centres(), HeatNet()))
    assert accuracy["pruned"] == pytest.approx(again)
    untrained = evaluate(HeatNet(), boxes_data().test, feed=Feed(Centres(), HeatNet()))
    assert accuracy["base"] < 0.7 * untrained
    assert accuracy["intervals"]["pruned"] == [0.9 * accuracy["pruned"], 1.1 * accuracy["pruned"]]
    macs = next(row for row in run.report["budgets"] if row["metric"] == "macs")
    assert macs["pruned_predicted"] <= 0.5 * macs["dense_predicted"]


def test_the_int8_file_is_judged_by_the_same_metric(run: dtp.PruneResult) -> None:
    from dtp_edge.run.quantised import OnnxNetwork

    assert run.onnx_int8 is not None
    file = OnnxNetwork(run.onnx_int8, {"heat": torch.zeros(1, 6, 6)})
    found = evaluate(file, boxes_data().test, 48, feed=Feed(Centres(), HeatNet()))
    assert run.report["accuracy"]["int8"] == pytest.approx(found)
    assert found != run.report["accuracy"]["pruned"]


def test_the_page_tells_the_headline_in_its_own_words(run: dtp.PruneResult) -> None:
    assert run.out is not None
    page = (run.out / "report.html").read_text()
    assert "missed cells (lower is better)" in page
    pruned = run.report["accuracy"]["pruned"]
    assert f"{pruned:.3f} cells" in page
    assert "top-1" not in page
    curve = (run.out / "curve.csv").read_text().splitlines()
    assert "holdout_metric" in curve[0].split(",")
    assert "accuracy" not in curve[0]


def test_the_best_on_the_hold_out_is_the_lowest_where_lower_is_better() -> None:
    recipe = boxes_recipe(base_epochs=4, base_learning_rate=0.3, schedule="constant")
    data, net = boxes_data(), HeatNet()
    session = open_session(data, recipe, network=net)
    rows = train_base(net, session)
    scored = [row["holdout_metric"] for row in rows if "holdout_metric" in row]
    assert len(scored) == 4
    assert evaluate(net, data.holdout, feed=session.feed) <= min(scored)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    from dtp_edge.run.options import Listener, Options
    from dtp_edge.run.pipeline import prune

    def stop(phase: str, done: int, total: int, info: object) -> None:
        if (phase, done) == ("masks", 5):
            raise KeyboardInterrupt

    options = Options(
        dtp.Budget(macs="50%"), device="stm32h747-cubeai-int8", data=boxes_data(), recipe=boxes_recipe(),
        out=tmp_path / "stopped", measure=False,
    )  # fmt: skip
    torch.manual_seed(0)
    with pytest.raises(Interrupted):
        prune(HeatNet(), torch.zeros(1, 1, 24, 24), options, Listener(stop))
    torch.manual_seed(0)
    resumed = dataclasses.replace(options, resume=True)
    first = figures(prune(HeatNet(), torch.zeros(1, 1, 24, 24), resumed))
    whole = dataclasses.replace(options, out=tmp_path / "whole")
    torch.manual_seed(0)
    assert first == figures(prune(HeatNet(), torch.zeros(1, 1, 24, 24), whole))
    run = json.loads((tmp_path / "whole/checkpoint/run.json").read_text())
    assert run["objective"] == {"name": "centres", "cell": 4}


def test_another_objective_does_not_go_on_from_the_checkpoint(tmp_path: Path) -> None:
    class Other(Centres):
        def settings(self) -> dict[str, Any]:
            return {"cell": 5}

    session = open_session(boxes_data(), boxes_recipe(), checkpoint_dir=tmp_path)
    assert session.store is not None
    with pytest.raises(InputError, match=r"objective\.cell was 4, is 5"):
        open_session(boxes_data(Other()), boxes_recipe(), checkpoint_dir=tmp_path, resume=True)


class Flat(nn.Module):
    """Two inputs, one of them by keyword, and a length for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside = nn.Linear(6, 24), nn.Linear(24, 3)

    def forward(self, x: Tensor, lengths: Tensor | None = None, *, scale: float = 1.0) -> tuple[Tensor, ...]:
        if lengths is not None:
            x = x * (torch.arange(6) < lengths[:, None])
        return (self.outside(self.inside(x).relu()) * scale,)


def test_keyword_inputs_come_in_the_order_of_forward() -> None:
    class Named(Centres):
        def inputs(self, batch: Any) -> Any:
            return Inputs((batch["x"],), {"lengths": batch["n"]})

    batch = {"x": torch.randn(4, 6), "n": torch.tensor([1, 2, 3, 6])}
    net = Flat()
    found = Feed(Named(), net).arguments(batch)
    assert found.args == (batch["x"], batch["n"])
    assert not found.kwargs
    made = Feed(Named(), net).run(net, batch)
    torch.testing.assert_close(made, net(batch["x"], lengths=batch["n"]))


def test_nests_are_moved_cast_measured_and_cut_as_one() -> None:
    @dataclasses.dataclass
    class Target:
        boxes: list[Tensor]

    batch = {"x": torch.randn(4, 2).double(), "t": [Target([torch.ones(1)]), 2, 3, 4], "name": "a", "k": (1,)}
    halves = nests.chunks(batch, 4, 2)
    assert [len(h["x"]) for h in halves] == [2, 2]
    assert halves[1]["t"] == [3, 4]
    assert halves[0]["k"] == (1,)
    assert nests.in_float32(batch)["x"].dtype == torch.float32
    assert nests.length(batch) == 4
    seen: list[Any] = []
    nests.mapped(seen.append, batch)
    assert any(isinstance(x, Tensor) and len(x) == 1 for x in seen)  # inside the dataclass
    pair = (torch.arange(2), torch.arange(2))  # not a list of two samples, but two columns of a batch of two
    assert [tuple(t.tolist() for t in half) for half in nests.chunks(pair, 2, 2)] == [([0], [0]), ([1], [1])]
    with pytest.raises(InputError, match="cannot be cut"):
        nests.chunks({"x": torch.zeros(4, 2), "index": torch.zeros(7)}, 4, 2)


def test_parts_of_a_batch_give_the_gradient_of_the_whole() -> None:
    found = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        net = HeatNet()
        for part in net.modules():
            if isinstance(part, (nn.BatchNorm2d, nn.Dropout)):
                part.eval()
                part.train = lambda mode=True, part=part: part  # type: ignore[method-assign]
        recipe = boxes_recipe(accumulate=accumulate, base_epochs=0.25, momentum=0.0, warmup=0.0)
        train_base(net, open_session(boxes_data(), recipe, network=net))
        found.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_objectives_are_found_by_name_in_their_folder_and_as_the_data_says() -> None:
    assert {"classification", "multi-label", "regression", "no-labels"} <= set(kinds())
    data = boxes_data()
    assert objective_of(None, data) is data.objective
    plain = dataclasses.replace(data, objective=None, num_classes=4)
    assert isinstance(objective_of(None, plain), Classification)
    assert objective_of("multi-label", plain).num_classes == 4  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="Did you mean regression"):
        objective_of("regresion", data)


def test_headlines_say_value_difference_and_which_is_better() -> None:
    share, noise = Headline("top-1 accuracy"), Headline("CER", "%", higher_is_better=False, decimals=1)
    peak = Headline("PSNR", "dB")
    assert [h.text(0.3125) for h in (share, noise, peak)] == ["31.25 %", "31.2 %", "0.31 dB"]
    assert [h.gap(-0.0312) for h in (share, peak)] == ["−3.1 points", "−0.03 dB"]
    assert share.gap(0.0) == "±0.0 points"
    assert share.better(0.5, 0.4)
    assert noise.better(0.4, 0.5)
    assert not noise.better(0.5, 0.4)
    assert noise.better(9.0, None)
    assert Headline.of(None).text(0.5) == "50.00 %"  # an old report's


class Means(Objective):
    """Wants the mean of each row."""

    headline = Headline("error", "", higher_is_better=False)

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        return (outputs[0] - batch[1]).square().mean()

    def metric(self) -> Any:
        return MissedCells()


def arrays(count: int = 64) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(count, 6, generator=draw)
    return [(row, row[:3] * 2) for row in x]


def flat_data(**given: Any) -> DataSource:
    from dtp_edge.training.data.dataset_split import DatasetSplit

    rows, default = torch.arange(64), torch.utils.data.default_collate
    splits = [
        DatasetSplit(arrays(), rows[a:b], collate=given.get("collate", default))
        for a, b in ((16, 64), (0, 8), (8, 16))
    ]
    chosen = {k: v for k, v in given.items() if k != "collate"}
    return DataSource("rows", None, (), (), (), *splits, **chosen)


def flat_run(
    objective: Objective | str | None = None, data: DataSource | None = None, **recipe: Any
) -> dtp.PruneResult:
    torch.manual_seed(0)
    given = {"base_epochs": 4, "mask_epochs": 2, "tune_epochs": 2, "batch_size": 16} | recipe
    return dtp.prune_for_device(
        Flat(), torch.zeros(1, 6), device="rpi4-ncnn-fp32-1t", budget=dtp.Budget(macs="60%"),
        data=flat_data() if data is None else data, objective=objective, recipe=Recipe(**given),
    )  # fmt: skip


def test_regression_and_its_r2() -> None:
    pytest.importorskip("torchmetrics")
    result = flat_run("regression")
    accuracy = result.report["accuracy"]
    assert (accuracy["metric"], accuracy["unit"]) == ("R²", "")
    rows = arrays()[8:16]
    x, y = torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows])
    with torch.no_grad():
        left = (result.module(x)[0] - y).square().sum()
    wanted = 1 - left / (y - y.mean(0)).square().sum()
    assert accuracy["pruned"] == pytest.approx(float(wanted), abs=1e-4)


def test_multi_label_and_its_mean_average_precision() -> None:
    pytest.importorskip("torchmetrics")
    from sklearn.metrics import average_precision_score

    from dtp_edge.training.data.dataset_split import DatasetSplit

    rows = [(x, (y > 0).float()) for x, y in arrays()]
    splits = [
        DatasetSplit(rows, torch.arange(64)[a:b], collate=torch.utils.data.default_collate)
        for a, b in ((24, 64), (0, 8), (8, 24))
    ]
    data = DataSource("yes or no", 3, (6,), (), (), *splits, task="multi-label")
    result = flat_run(None, data)
    x, y = torch.stack([r[0] for r in rows[8:24]]), torch.stack([r[1] for r in rows[8:24]])
    with torch.no_grad():
        scores = result.module(x)[0].sigmoid()
    wanted = average_precision_score(y.numpy(), scores.numpy(), average="macro")
    assert result.report["accuracy"]["pruned"] == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(InputError, match="4 classes"):
        flat_run(None, dataclasses.replace(data, num_classes=4))


def test_without_labels_the_dense_network_is_what_is_learned() -> None:
    """The pruned network comes nearer to it; labels are not looked at, and there is no control."""

    def collate(samples: list[Any]) -> Any:
        return (torch.stack([s[0] for s in samples]),)

    result = flat_run("no-labels", flat_data(collate=collate), base_epochs=0)
    accuracy = result.report["accuracy"]
    assert accuracy["control"] is None
    assert accuracy["base"] == 0.0
    assert accuracy["pruned"] < accuracy["at_cut"] or accuracy["pruned"] < 1e-6
    torch.manual_seed(0)
    dense, x = Flat().eval(), torch.stack([r[0] for r in arrays()[8:16]])
    with torch.no_grad():
        before, after = dense(x)[0], result.module(x)[0]
    assert accuracy["pruned"] == pytest.approx(
        float((after - before).square().sum() / before.square().sum()), rel=1e-4
    )
    with pytest.raises(InputError, match="cannot be trained first"):
        flat_run("no-labels", flat_data(collate=collate), base_epochs=1)


def test_label_smoothing_reaches_the_loss_of_classes_alone() -> None:
    objective = Classification()
    objective.begin(None, Recipe(label_smoothing=0.3))
    logits, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    smooth = nn.functional.cross_entropy(logits, y, label_smoothing=0.3)
    torch.testing.assert_close(objective.loss(logits, (None, y)), smooth)
    torch.testing.assert_close(objective.worth(logits, (None, y)), nn.functional.cross_entropy(logits, y))


def test_scores_have_their_interval() -> None:
    found = score(HeatNet(), boxes_data().holdout, 16, feed=Feed(Centres(), HeatNet()))
    assert found.interval == (0.9 * found.value, 1.1 * found.value)


@pytest.mark.parametrize("merges", [True, False])
def test_processes_share_a_split_where_their_metrics_can_be_joined(merges: bool) -> None:
    """Two take turns; without `merge` each scores all. Both come to what one process finds."""
    net, data, states, batches = HeatNet(), boxes_data(), [], [0]

    class Counted(MissedCells):
        def update(self, outputs: Any, batch: Any) -> None:
            batches[0] += 1
            super().update(outputs, batch)

    class Alone:
        def __init__(self) -> None:
            self.inner = Counted()
            self.update, self.compute = self.inner.update, self.inner.compute

    class Shared(Centres):
        def metric(self) -> Any:
            return Counted() if merges else Alone()

    class Process:
        world = 2

        def __init__(self, rank: int) -> None:
            self.rank = rank

        def gathered(self, state: Tensor) -> list[Tensor]:
            states.append(state.clone())
            return states

    feed = Feed(Shared(), net)
    wanted = evaluate(net, data.holdout, 8, feed=feed)
    batches[0] = 0
    found = [evaluate(net, data.holdout, 8, Process(rank), feed) for rank in (0, 1)]
    assert batches[0] == (4 if merges else 8)
    assert found[-1] == pytest.approx(wanted)
