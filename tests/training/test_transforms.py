"""torchvision's transforms v2 as augmentation: draws are the run's; the fast batch version is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dtp_edge.training import from_arrays, load_data
from dtp_edge.training.data.augment import Augment
from dtp_edge.training.data.transforms import PerImage, seeded

pytestmark = pytest.mark.more
RNG = np.random.default_rng(0)


@pytest.fixture
def v2() -> Any:
    return pytest.importorskip("torchvision.transforms.v2", exc_type=Exception)


def test_the_batch_version_can_give_what_v2_gives_and_nothing_else(v2: Any) -> None:
    image = torch.from_numpy(RNG.integers(1, 256, (1, 6, 6), dtype=np.uint8))
    theirs = v2.Compose([v2.RandomCrop(6, padding=1), v2.RandomHorizontalFlip()])
    many = image[None].repeat(600, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    ours = {x.contiguous().numpy().tobytes() for x in Augment(shift=1, flip=True)(many, generator)}
    reached = {x.contiguous().numpy().tobytes() for x in PerImage(theirs)(many, generator)}
    assert len(reached) == 18  # 3 x 3 places, mirrored or not
    assert ours == reached


def test_draws_depend_on_the_seed_alone(v2: Any) -> None:
    image = torch.from_numpy(RNG.integers(0, 256, (3, 16, 16), dtype=np.uint8))
    transform = v2.RandomResizedCrop(8, antialias=True)
    torch.manual_seed(1)
    first = seeded(transform, image, 5)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(seeded(transform, image, 5), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(seeded(transform, image, 6), first)


def test_own_arrays_with_a_v2_transform(v2: Any) -> None:
    images = torch.from_numpy(RNG.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8))
    labels = torch.arange(40) % 4
    augment = v2.Compose([v2.RandomRotation(30), v2.ColorJitter(brightness=0.5)])
    split = from_arrays("made", (images, labels), (images[:8], labels[:8]), augment=augment).train
    whole = [x for x, _ in split.shuffled(8, seed=1, epoch=2)]
    late = [x for x, _ in split.shuffled(8, seed=1, epoch=2, start=2)]
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], late, strict=True))
    assert not torch.equal(whole[0], next(split.shuffled(8, seed=1, epoch=3))[0])


def test_image_folders_are_transformed_by_v2(v2: Any, tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for i in range(12):
            pixels = RNG.integers(0, 256, (40, 52, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    data = load_data(f"imagefolder:{tmp_path}", image_size=14, workers=0)
    assert data.name == "imagefolder"
    path, label = data.test.dataset.files[int(data.test.rows[0])]
    usual = v2.Compose([v2.Resize(16, antialias=True), v2.CenterCrop(14), v2.ToImage()])
    wanted = v2.functional.to_dtype(usual(Image.open(path).convert("RGB")), torch.float32, scale=True)
    x, y = next(data.test.ordered(1))
    assert int(y) == label
    back = x[0] * torch.tensor(data.std).view(3, 1, 1) + torch.tensor(data.mean).view(3, 1, 1)
    torch.testing.assert_close(back, wanted.as_subclass(torch.Tensor), atol=1e-5, rtol=0)
    one, again = (next(data.train.shuffled(6, seed=3, epoch=1))[0] for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, next(data.train.shuffled(6, seed=4, epoch=1))[0])
