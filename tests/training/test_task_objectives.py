"""Losses and metrics of the tasks against what is counted here by hand, one element after the other."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dtp_edge.errors import InputError
from dtp_edge.training.objectives.ctc import CTC
from dtp_edge.training.objectives.detection import Detection
from dtp_edge.training.objectives.image_to_image import ImageToImage
from dtp_edge.training.objectives.interval import of_resampling, wilson
from dtp_edge.training.objectives.keypoints import Keypoints
from dtp_edge.training.objectives.main_output import softened
from dtp_edge.training.objectives.segmentation import Segmentation
from dtp_edge.training.objectives.sequence_classification import SequenceClassification
from dtp_edge.training.objectives.structural_similarity import StructuralSimilarity
from dtp_edge.training.objectives.token_classification import TokenClassification

RNG = torch.Generator().manual_seed(3)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=RNG)


def integers(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(high, shape, generator=RNG)


def judged(objective, pairs):
    pytest.importorskip("torchmetrics")
    metric = objective.metric()
    for outputs, batch in pairs:
        metric.update(outputs, batch)
    return metric


def test_the_loss_of_masks_leaves_ignored_pixels_out() -> None:
    logits, mask = normal(3, 4, 5, 6), integers(4, 3, 5, 6)
    mask[0, :2] = 255
    wanted = [
        -float(F.log_softmax(logits[b, :, i, j].double(), 0)[mask[b, i, j]])
        for b, i, j in itertools.product(range(3), range(5), range(6))
        if mask[b, i, j] != 255
    ]
    loss = Segmentation(4).loss(logits, (None, mask))
    assert float(loss) == pytest.approx(np.mean(wanted), rel=1e-5)
    hf, torchvision = SimpleNamespace(logits=logits), {"out": logits, "aux": logits}
    assert float(Segmentation(4).loss(hf, (None, mask))) == pytest.approx(float(loss))
    assert float(Segmentation(4).loss(torchvision, (None, mask))) == pytest.approx(1.5 * float(loss))
    assert float(Segmentation(4).loss(logits, (None, torch.full_like(mask, 255)))) == 0.0
    with pytest.raises(InputError, match="3 classes, the network's output has 4"):
        Segmentation(3).refuse(None, logits)  # type: ignore[arg-type]


def test_one_logit_a_pixel_is_that_of_class_one() -> None:
    logit, mask = normal(2, 1, 4, 4), integers(2, 2, 4, 4)
    wanted = F.binary_cross_entropy_with_logits(logit[:, 0], mask.float())
    assert float(Segmentation(2).loss(logit, (None, mask))) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.more
def test_mean_iou_is_that_of_all_pixels() -> None:
    batches = [(normal(4, 5, 6, 7), (None, integers(4, 4, 6, 7))) for _ in range(3)]  # class 4 never occurs
    for outputs, (_, mask) in batches:
        mask[:, 0] = 255
        outputs[:, 4] = -100
    pred = np.concatenate([o.argmax(1).numpy().ravel() for o, _ in batches])
    true = np.concatenate([m.numpy().ravel() for _, (_, m) in batches])
    seen = true != 255
    ious = [
        ((pred == c) & (true == c) & seen).sum() / (((pred == c) | (true == c)) & seen).sum()
        for c in range(4)
    ]
    metric = judged(Segmentation(5), batches)
    assert metric.compute() == pytest.approx(np.mean(ious), rel=1e-6)
    low, high = metric.interval()
    assert low < metric.compute() < high
    halves = [judged(Segmentation(5), batches[:1]), judged(Segmentation(5), batches[1:])]
    halves[0].merge([halves[1].state()])
    assert halves[0].compute() == pytest.approx(metric.compute(), rel=1e-9)


def test_the_interval_by_resampling_is_wilsons_where_both_apply() -> None:
    hits = (torch.rand(400, generator=RNG) < 0.7).double()
    rows = torch.stack([hits, torch.ones(400)], 1)
    low, high = of_resampling(rows, lambda sums: sums[:, 0] / sums[:, 1]) or (0, 0)
    wanted = wilson(float(hits.mean()), 400) or (0, 0)
    assert (low, high) == pytest.approx(wanted, abs=0.01)
    assert of_resampling(rows[:5], lambda sums: sums[:, 0]) is None


def test_softened_is_the_divergence_of_each_place() -> None:
    ours, theirs = normal(2, 3, 4).double(), normal(2, 3, 4).double()
    terms = []
    for b, i in itertools.product(range(2), range(4)):
        p, q = (torch.softmax(t[b, :, i] / 2.0, 0) for t in (theirs, ours))
        terms.append(4.0 * float((p * (p / q).log()).sum()))
    assert float(softened(ours, theirs, 2.0)) == pytest.approx(np.mean(terms), rel=1e-9)


@pytest.mark.more
def test_psnr_is_the_mean_over_images() -> None:
    wanted = torch.rand(5, 3, 8, 8, generator=RNG)
    made = wanted + 0.1 * normal(5, 3, 8, 8)
    clipped = made.clamp(0, 1)
    each = [10 * math.log10(1 / float((a - b).square().mean())) for a, b in zip(clipped, wanted, strict=True)]
    metric = judged(ImageToImage(), [(made[:2], (None, wanted[:2])), (made[2:], (None, wanted[2:]))])
    assert metric.compute() == pytest.approx(np.mean(each), rel=1e-5)
    half = 1.96 * np.std(each, ddof=1) / math.sqrt(5)
    assert metric.interval() == pytest.approx((np.mean(each) - half, np.mean(each) + half), rel=1e-5)
    big = torch.rand(3, 3, 16, 16, generator=RNG)
    assert judged(StructuralSimilarity(), [(big, (None, big))]).compute() == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(InputError, match="output is"):
        ImageToImage().loss(made[..., :4], (None, wanted))


def _distance(a: list[int], b: list[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


@pytest.mark.more
def test_the_character_error_rate_is_edits_over_symbols() -> None:
    logits = normal(6, 12, 5)
    targets = {"symbols": integers(4, 6, 4) + 1, "lengths": torch.tensor([4, 3, 2, 4, 1, 4])}
    edits = total = 0
    for b in range(6):
        path = [k for k, _ in itertools.groupby(logits[b].argmax(1).tolist()) if k]
        wanted = targets["symbols"][b, : targets["lengths"][b]].tolist()
        edits, total = edits + _distance(wanted, path), total + len(wanted)
    assert judged(CTC(), [(logits, (None, targets))]).compute() == pytest.approx(edits / total, rel=1e-6)


def test_the_loss_of_ctc_adds_all_alignments() -> None:
    logits, text = normal(1, 4, 3), [2, 1]
    logs = F.log_softmax(logits[0].double(), 1)
    total = 0.0
    for path in itertools.product(range(3), repeat=4):
        if [k for k, _ in itertools.groupby(path) if k] == text:
            total += math.exp(sum(float(logs[t, s]) for t, s in enumerate(path)))
    targets = {"symbols": torch.tensor([text]), "lengths": torch.tensor([2])}
    wanted = -math.log(total) / 2  # torch's mean is over symbols
    assert float(CTC().loss(logits, (None, targets))) == pytest.approx(wanted, rel=1e-5)
    twice = {"symbols": torch.tensor([[1, 1, 2]]), "lengths": torch.tensor([3])}
    assert math.isfinite(float(CTC().loss(logits, (None, twice))))
    with pytest.raises(InputError, match="3 symbols needs 4 steps, the network gives 2"):
        CTC().loss(logits, (None, twice | {"input_share": torch.tensor([0.5])}))


@pytest.mark.more
def test_f1_of_tokens_and_sequences() -> None:
    from sklearn.metrics import f1_score

    logits, labels = normal(4, 7, 3), integers(3, 4, 7)
    labels[:, 5:] = -100
    kept = labels != -100
    truth = f1_score(labels[kept], logits.argmax(2)[kept], average="macro")
    outputs = SimpleNamespace(logits=logits)
    objective = TokenClassification(3)
    assert judged(objective, [(outputs, ({}, labels))]).compute() == pytest.approx(truth, rel=1e-6)
    plain = F.cross_entropy(logits[kept], labels[kept])
    assert float(objective.loss(outputs, ({}, labels))) == pytest.approx(float(plain), rel=1e-5)
    right = float((logits.argmax(2) == labels)[kept].float().mean())
    accuracy = judged(TokenClassification(3, judged_by="accuracy"), [(outputs, ({}, labels))])
    assert accuracy.compute() == pytest.approx(right, rel=1e-6)
    one, classes = normal(40, 4), integers(4, 40)
    truth = f1_score(classes, one.argmax(1), average="macro")
    assert judged(SequenceClassification(4), [(one, (None, classes))]).compute() == pytest.approx(
        truth, rel=1e-6
    )


@pytest.mark.more
def test_keypoints_are_read_off_coordinates_and_hills() -> None:
    points = torch.rand(3, 4, 2, generator=RNG) * 0.8 + 0.1
    seen = torch.ones(3, 4, 1)
    seen[0, 0] = 0
    off = points + torch.tensor([0.03, 0.04])
    off[0, 0] += 0.5  # counts nowhere
    batch = (None, torch.cat([points, seen], 2))
    assert judged(Keypoints(), [(off, batch)]).compute() == pytest.approx(5.0, rel=1e-4)
    assert judged(Keypoints(), [(off.flatten(1), batch)]).compute() == pytest.approx(5.0, rel=1e-4)
    from dtp_edge.training.objectives.keypoints import _hills

    maps = _hills(points, 24, 32)
    assert judged(Keypoints(), [(maps, (None, points))]).compute() < 1.5  # of a cell of 100/24
    assert float(Keypoints().loss(maps, (None, points))) == 0.0
    assert float(Keypoints().loss(maps + 0.1, (None, points))) > 0
    with pytest.raises(InputError, match="the data has 4 points"):
        Keypoints().loss(points[:, :3], (None, points))


@pytest.mark.more
def test_detection_counts_boxes() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]])
    target = {"boxes": boxes, "labels": torch.tensor([0, 3])}
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    batch = (torch.rand(2, 3, 48, 48), [target, empty])
    pytest.importorskip("torchvision", exc_type=Exception)
    none = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    right = {"boxes": boxes, "scores": torch.tensor([0.9, 0.8]), "labels": torch.tensor([1, 4])}
    one = {"boxes": boxes[:1], "scores": torch.tensor([0.9]), "labels": torch.tensor([1])}
    loose = right | {
        "boxes": torch.tensor([[0.0, 0, 10, 8.2], [20, 20, 40, 40]])
    }  # IoU 0.82: 7 of 10 thresholds
    for outputs, wanted in ((right, 1.0), (none, 0.0), (one, 0.5), (loose, (0.7 + 1.0) / 2)):
        found = judged(Detection(), [([outputs, none], batch)]).compute()
        assert found == pytest.approx(wanted, abs=1e-6)


def test_a_detector_is_called_with_images_and_targets() -> None:
    target = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([2])}
    batch = (torch.rand(2, 3, 8, 8), [target, target])
    inputs = Detection().inputs(batch)
    assert [image.shape for image in inputs.args[0]] == [(3, 8, 8)] * 2
    assert int(inputs.args[1][0]["labels"]) == 3
    assert int(Detection(background=False).inputs(batch).args[1][0]["labels"]) == 2
    assert [Detection().size(part) for part in Detection().parts(batch, 2)] == [1, 1]
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(2.5)}
    assert float(Detection().loss(losses, batch)) == 3.5
    for outputs in ([], torch.zeros(3)):
        with pytest.raises(InputError, match="not a dict of its losses"):
            Detection().loss(outputs, batch)
    with pytest.raises(InputError, match="not a list of boxes"):
        Detection().refuse(None, torch.zeros(3))  # type: ignore[arg-type]
