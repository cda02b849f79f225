"""Inputs without labels: pictures in one folder, arrays in one file, batches of a function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dtp_edge.errors import InputError
from dtp_edge.training import load_inputs


def test_arrays_come_in_the_order_of_the_file_samples_mixed_and_again(tmp_path: Path) -> None:
    a, b = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40)
    np.savez(tmp_path / "x.npz", second=b, first=a)
    batches = load_inputs(f"npz:{tmp_path / 'x.npz'}")
    for _ in range(2):
        read = list(batches)
        assert [len(batch[0]) for batch in read] == [32, 8]
        rows = torch.cat([one for one, _ in read]).numpy()
        assert rows.tolist() != b.tolist()
        np.testing.assert_array_equal(np.sort(rows), b)
        assert read[0][1].dtype == torch.float32
        np.testing.assert_allclose(torch.cat([other for _, other in read]).numpy(), a[rows], rtol=1e-6)


def test_a_file_as_data_has_it_is_read_as_there(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(40) % 3)
    np.savez(tmp_path / "alone.npz", x=x)
    np.savez(tmp_path / "ready.npz", x=x.astype(np.float32))
    for name in ("x", "alone"):
        data = load_inputs(f"npz:{tmp_path / name}.npz")
        assert max(data.std) < 1, "pictures are normalised"
    assert len(next(iter(load_inputs(f"npz:{tmp_path / 'ready.npz'}")))[0]) == 32


def test_pictures_are_not_of_one_class_first(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for kind, red in (("a", 0), ("b", 255)):
        (tmp_path / kind).mkdir()
        for i in range(32):
            image.new("RGB", (8, 8), (red, 0, 0)).save(tmp_path / kind / f"{i:02}.png")
    first = next(iter(load_inputs(f"images:{tmp_path}", 8, 0)))
    bright = int((first[:, 0].mean((1, 2)) > 0).sum())
    assert 8 < bright < 24


@pytest.mark.parametrize("kind", ["damaged", "uneven", "missing"])
def test_files_that_hold_no_samples_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    if kind == "damaged":
        path.write_bytes(b"PK no archive")
    elif kind == "uneven":
        np.savez(path, a=np.zeros(3), b=np.zeros(4))
    with pytest.raises(InputError) as caught:
        load_inputs(f"npz:{path}")
    assert caught.value.hint


def test_pictures_of_one_folder_have_the_size_asked_for(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in ("a.png", "b.jpg", "c.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no picture")
        else:
            image.new("RGB", (50, 40), (200, 10, 10)).save(tmp_path / name)
    (batch,) = load_inputs(f"images:{tmp_path}", 24, 0)
    assert batch.shape == (2, 3, 24, 24)
    with pytest.raises(InputError, match="no pictures"):
        load_inputs(f"images:{_with(tmp_path / 'd', 'x.txt')}")


def _with(folder: Path, name: str) -> Path:
    folder.mkdir()
    (folder / name).write_text("")
    return folder


def test_a_function_may_return_batches(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import torch\ndef batches():\n    return [torch.zeros(4, 2)] * 3\n")
    assert len(list(load_inputs(f"{path}:batches"))) == 3
