"""What is drawn into pictures: the right pixels of the right sample, and nothing else."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from dtp_edge.training import from_arrays
from dtp_edge.training.objectives.detection import Detection
from dtp_edge.training.objectives.drawing import as_pictures, data_uri, with_classes
from dtp_edge.training.objectives.image_to_image import ImageToImage
from dtp_edge.training.objectives.segmentation import Segmentation

LEVELS = torch.arange(20 * 3 * 8 * 8, dtype=torch.uint8).reshape(20, 3, 8, 8)
DATA = from_arrays("made", (LEVELS, torch.arange(20) % 2), (LEVELS, torch.arange(20) % 2))


def test_normalisation_is_undone_and_small_pictures_are_enlarged() -> None:
    x, _ = next(DATA.test.ordered(2))
    first, second = as_pictures(x, DATA)
    assert first.size == (192, 192)
    back = np.asarray(second.resize((8, 8), Image.Resampling.NEAREST)).transpose(2, 0, 1)
    wanted = np.asarray(Image.fromarray(LEVELS[1].permute(1, 2, 0).numpy()).resize((192, 192)).resize(
        (8, 8), Image.Resampling.NEAREST)).transpose(2, 0, 1)  # fmt: skip
    np.testing.assert_allclose(back.astype(int), wanted.astype(int), atol=1)
    (wide,) = as_pictures(
        torch.zeros(1, 1, 300, 1200), DATA.__class__(**(vars(DATA) | {"mean": (), "std": ()}))
    )
    assert wide.size == (192, 48)
    assert wide.mode == "RGB"


def test_classes_are_tinted_and_the_rest_is_as_it_was() -> None:
    grey = Image.new("RGB", (192, 192), (100, 100, 100))
    mask = torch.zeros(8, 8, dtype=torch.int64)
    mask[:4, :4], mask[4:, 4:] = 1, 255
    drawn = np.asarray(with_classes(grey, mask, 255))
    assert (drawn[100:, 100:] == 100).all()  # ignored
    assert (drawn[:90, 100:] == 100).all()  # class 0
    assert (drawn[:90, :90] != 100).any(-1).all()
    image = Image.open(io.BytesIO(base64.b64decode(data_uri(grey).split(",")[1])))
    assert image.size == (192, 192)


def test_a_segmentation_shows_the_largest_class() -> None:
    x, _ = next(DATA.test.ordered(1))
    mask = torch.randint(0, 3, (1, 8, 8))
    logits = torch.nn.functional.one_hot(mask, 3).permute(0, 3, 1, 2).float()
    objective = Segmentation(3)
    said, wanted = objective.pictures(logits, (x, mask), DATA), objective.pictures(None, (x, mask), DATA)
    assert np.array_equal(np.asarray(said[0]), np.asarray(wanted[0]))
    other = objective.pictures(logits.roll(1, 1), (x, mask), DATA)
    assert not np.array_equal(np.asarray(other[0]), np.asarray(wanted[0]))


def test_sure_boxes_are_framed() -> None:
    x = torch.zeros(1, 3, 64, 64)
    target = {"boxes": torch.tensor([[8.0, 16, 40, 48]]), "labels": torch.tensor([1])}
    outputs = [{"boxes": torch.tensor([[8.0, 16, 40, 48], [50, 50, 60, 60]]), "labels": torch.tensor([2, 2]),
                "scores": torch.tensor([0.9, 0.1])}]  # fmt: skip
    plain = np.asarray(as_pictures(x, DATA)[0]).astype(int)
    for found in (None, outputs):
        drawn = np.asarray(Detection().pictures(found, (x, [target]), DATA)[0]).astype(int)
        ys, xs = (np.abs(drawn - plain).sum(-1) > 0).nonzero()
        assert (xs.min(), ys.min(), xs.max(), ys.max()) == (24, 48, 120, 144)  # times 3


def test_an_image_is_shown_as_it_is() -> None:
    wanted = torch.rand(2, 3, 16, 16)
    made = ImageToImage().pictures(wanted / 2, (None, wanted), DATA)[1]
    np.testing.assert_allclose(np.asarray(made).mean() / 255, float(wanted[1].mean()) / 2, atol=0.01)


@pytest.mark.more
def test_boxes_of_ultralytics_are_framed_where_they_are() -> None:
    pytest.importorskip("ultralytics")
    from dtp_edge.training.objectives.ultralytics import Ultralytics

    box = torch.tensor([[0.375, 0.5, 0.5, 0.5]])  # of 64 pixels: 8, 16, 40, 48
    batch = {"img": torch.zeros(1, 3, 64, 64), "bboxes": box, "cls": torch.tensor([[1.0]]),
             "batch_idx": torch.zeros(1)}  # fmt: skip
    one = torch.tensor([24.0, 32, 32, 32, 0.1, 0.9, 0.2])  # x, y, w, h, then three classes
    outputs = (torch.stack([one, one * 0], 1)[None], None)
    plain = np.asarray(as_pictures(batch["img"], DATA)[0]).astype(int)
    for found in (None, outputs):
        drawn = np.asarray(Ultralytics().pictures(found, batch, DATA)[0]).astype(int)
        ys, xs = (np.abs(drawn - plain).sum(-1) > 0).nonzero()
        assert (xs.min(), ys.min(), xs.max(), ys.max()) == (24, 48, 120, 144)
