"""Readers against files written here from known arrays, and batches as a function of (seed, epoch, batch)."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dtp_edge.errors import InputError
from dtp_edge.training import DataSource, from_arrays, load_data
from dtp_edge.training.data.augment import Augment

RNG = np.random.default_rng(0)


def _source(count: int = 40, augment: Augment | None = None) -> DataSource:
    images = torch.from_numpy(RNG.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8))
    labels = torch.arange(count) % 4
    return from_arrays("made", (images, labels), (images[:8], labels[:8]), augment=augment)


def test_digits_splits_are_disjoint_fixed_and_normalised() -> None:
    data, again = load_data("digits"), load_data("digits")
    assert (data.num_classes, data.input_shape) == (10, (1, 32, 32))
    assert len(data.train) + len(data.holdout) + len(data.test) == 1797
    x, y = next(data.holdout.ordered(1000))
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert torch.equal(x, next(again.holdout.ordered(1000))[0])
    train = torch.cat([b for b, _ in data.train.ordered(500)])
    assert abs(float(train.mean())) < 0.02
    assert abs(float(train.std()) - 1) < 0.02
    rows = {t.numpy().tobytes() for t in train}
    assert not rows & {t.numpy().tobytes() for t in x}
    assert next(iter(data.calibration(3))).shape == (1, 1, 32, 32)
    assert len(list(data.calibration(5))) == 5


def test_batches_depend_only_on_seed_epoch_and_number() -> None:
    split = _source(augment=Augment(shift=2, flip=True)).train
    whole = list(split.shuffled(8, seed=1, epoch=3))
    assert len(whole) == len(split) // 8
    late = list(split.shuffled(8, seed=1, epoch=3, start=2))
    for (x, y), (x2, y2) in zip(whole[2:], late, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    for other in ({"seed": 2, "epoch": 3}, {"seed": 1, "epoch": 4}):
        assert not torch.equal(whole[0][0], next(split.shuffled(8, **other))[0])


def test_processes_share_each_batch() -> None:
    split = _source().train
    whole = [y for _, y in split.shuffled(8, seed=0, epoch=0)]
    parts = [[y for _, y in split.shuffled(8, seed=0, epoch=0, rank=r, world=2)] for r in (0, 1)]
    for y, even, odd in zip(whole, *parts, strict=True):
        assert torch.equal(y[::2], even)
        assert torch.equal(y[1::2], odd)


def test_augmentation_is_a_shift_and_a_mirror() -> None:
    """Brute force: every augmented image is one of the crops of the padded original, or its mirror."""
    images = torch.from_numpy(RNG.integers(1, 256, (32, 1, 6, 6), dtype=np.uint8))
    out = Augment(shift=1, flip=True)(images, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    seen = set()
    for before, after in zip(padded, out, strict=True):
        options = {}
        for top in range(3):
            for left in range(3):
                crop = before[:, top : top + 6, left : left + 6]
                options[crop.numpy().tobytes()] = (top, left, False)
                options[crop.flip(2).contiguous().numpy().tobytes()] = (top, left, True)
        seen.add(options[after.contiguous().numpy().tobytes()])
    assert len(seen) > 8  # they differ from image to image


def _jpegs(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=100, subsampling=0)
        parts.append(buffer.getvalue())
    offsets = np.cumsum([0] + [len(p) for p in parts]).astype(np.int64)
    return np.frombuffer(b"".join(parts), np.uint8), offsets


def _write_npz(folder: Path, **changes: np.ndarray) -> np.ndarray:
    flat = np.repeat(RNG.integers(0, 256, (30, 1, 1, 3), dtype=np.uint8), 32, 1).repeat(32, 2)
    data, offsets = _jpegs(flat)
    labels = (np.arange(30) % 10).astype(np.uint8)
    arrays = {
        f"{p}_{n}": a
        for p in ("train", "test")
        for n, a in (("jpeg", data), ("offsets", offsets), ("labels", labels))
    }
    np.savez(folder / "cifar10_jpeg.npz", **(arrays | changes))
    return flat


def test_cifar_npz(tmp_path: Path) -> None:
    flat = _write_npz(tmp_path)
    data = load_data(f"cifar10:{tmp_path}")
    assert (len(data.test), data.num_classes, data.input_shape) == (30, 10, (3, 32, 32))
    x, y = next(data.test.ordered(30))
    back = x * torch.tensor(data.std).view(1, 3, 1, 1) + torch.tensor(data.mean).view(1, 3, 1, 1)
    wanted = torch.from_numpy(flat).permute(0, 3, 1, 2).float() / 255
    assert float((back - wanted).abs().max()) < 3 / 255  # JPEG of one flat colour
    assert y.tolist() == [i % 10 for i in range(30)]


@pytest.mark.parametrize(
    "changes",
    [
        {"train_offsets": np.arange(31, dtype=np.int64)[::-1].copy()},
        {"train_offsets": np.arange(31, dtype=np.int64) + 10**9},
        {"test_labels": np.full(30, 12, np.uint8)},
        {"train_jpeg": np.zeros(10**6, np.uint8)},
        {"train_labels": np.array([object()] * 30)},
    ],
)
def test_damaged_cifar_npz(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    _write_npz(tmp_path, **changes)
    with pytest.raises(InputError):
        load_data(f"cifar10:{tmp_path}")


def _npy(shape: str, data: bytes = b"", padding: int = 0) -> bytes:
    """An array file whose header may say anything."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}{' ' * padding}\n".encode()
    return b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + data


GIANTS = {
    "more values than the file": _npy("(10000000000000,)"),
    "more values than can be counted": _npy(f"({10**40},)"),
    "a long header": _npy("(1,)", b"0", padding=4_000_000),
    "many dimensions": _npy(f"({'1,' * 3_000})", b"0"),
    "a bomb": _npy(f"({1 << 29},)"),  # and as many zeros
}


@pytest.mark.parametrize("name", GIANTS)
def test_giant_headers_of_cifar_npz(name: str, tmp_path: Path) -> None:
    _write_npz(tmp_path)
    with zipfile.ZipFile(tmp_path / "cifar10_jpeg.npz") as archive:
        members = {m: archive.read(m) for m in archive.namelist()}
    members["train_labels.npy"] = GIANTS[name]
    with zipfile.ZipFile(
        tmp_path / "cifar10_jpeg.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        for member, content in members.items():
            with archive.open(member, "w") as stream:
                stream.write(content)
                for _ in range((1 << 9) * (member == "train_labels.npy" and name == "a bomb")):
                    stream.write(bytes(1 << 20))
    assert (tmp_path / "cifar10_jpeg.npz").stat().st_size < 4_000_000
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(InputError, match=r"cifar10_jpeg\.npz"):
        load_data(f"cifar10:{tmp_path}")
    assert time.process_time() - started < 5
    assert tracemalloc.get_traced_memory()[1] < 1 << 28
    tracemalloc.stop()


def _write_batches(folder: Path) -> np.ndarray:
    """CIFAR-10's own layout, pickled as Python 2 wrote it (bytes keys, protocol 2)."""
    folder.mkdir(parents=True, exist_ok=True)
    first = np.zeros(0)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        images = RNG.integers(0, 256, (10, 3072), dtype=np.uint8)
        batch = {
            b"data": images,
            b"labels": list(range(10)),
            b"batch_label": b"x",
            b"filenames": [b"a.png"] * 10,
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        first = images if name == "test_batch" else first
    return first


def test_cifar_batches(tmp_path: Path) -> None:
    images = _write_batches(tmp_path / "cifar-10-batches-py")
    for folder in (tmp_path, tmp_path / "cifar-10-batches-py"):
        data = load_data(f"cifar10:{folder}")
        assert len(data.train) + len(data.holdout) == 50
        assert torch.equal(data.test.images.reshape(10, -1), torch.from_numpy(images))


def test_cifar_batches_run_no_code(tmp_path: Path) -> None:
    _write_batches(tmp_path)
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (os.mkdir, (str(ran),))

    (tmp_path / "data_batch_3").write_bytes(pickle.dumps({b"data": Evil(), b"labels": []}, protocol=2))
    with pytest.raises(InputError, match="not data"):
        load_data(f"cifar10:{tmp_path}")
    assert not ran.exists()
    (tmp_path / "data_batch_3").write_bytes(b"\x80\x02}")
    with pytest.raises(InputError, match="not a CIFAR-10 batch"):
        load_data(f"cifar10:{tmp_path}")
    (tmp_path / "data_batch_3").unlink()
    with pytest.raises(InputError, match="missing"):
        load_data(f"cifar10:{tmp_path}")


def _write_idx(path: Path, array: np.ndarray) -> None:
    head = b"\0\0\x08" + bytes([array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    content = head + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("below", ["", "FashionMNIST/raw"])
def test_fashion_mnist(tmp_path: Path, suffix: str, below: str) -> None:
    folder = tmp_path / below
    folder.mkdir(parents=True, exist_ok=True)
    images = RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        _write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
        _write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", (np.arange(20) % 10).astype(np.uint8))
    data = load_data(f"fashion-mnist:{tmp_path}")
    assert data.input_shape == (1, 28, 28)
    assert torch.equal(data.test.images[:, 0], torch.from_numpy(images))
    target = folder / f"train-images-idx3-ubyte{suffix}"
    target.write_bytes(target.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"truncated|complete idx"):
        load_data(f"fashion-mnist:{tmp_path}")


def test_image_folder(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("val", 3)):
        for label, name in enumerate(("ant", "bee")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (40 + i, 30), (label * 200, 10, i)).save(tmp_path / part / name / f"{i}.png")
    data = load_data(f"imagefolder:{tmp_path}", image_size=16, workers=0)
    assert (data.num_classes, data.input_shape, len(data.test)) == (2, (3, 16, 16), 6)
    assert len(data.train) + len(data.holdout) == 24
    x, y = next(data.test.ordered(6))
    assert y.tolist() == [0, 0, 0, 1, 1, 1]
    red = x[:, 0].mean((1, 2)) * data.std[0] + data.mean[0]
    assert torch.allclose(red, y * 200 / 255, atol=0.01)
    again = [x for x, _ in data.train.shuffled(4, seed=0, epoch=0)]
    assert all(
        torch.equal(a, b) for a, (b, _) in zip(again, data.train.shuffled(4, seed=0, epoch=0), strict=True)
    )
    late = next(data.train.shuffled(4, seed=0, epoch=0, start=1))[0]
    assert torch.equal(late, again[1])
    (tmp_path / "val" / "bee" / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0\.png"):
        list(data.test.ordered(6))


def _pictures(folder: Path, splits: dict[str, int], classes: tuple[str, ...] = ("ant", "bee")) -> Path:
    for split, count in splits.items():
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (90 * label, 0, i)).save(folder / split / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Test"),
        ("Training", "Testing"),
        ("train", "valid"),
        ("TRAIN", "Validation"),
        ("train_set", "val"),
    ],
)
def test_splits_have_many_names_and_are_not_classes(tmp_path: Path, train: str, test: str) -> None:
    data = load_data(f"imagefolder:{_pictures(tmp_path, {train: 12, test: 3})}", 8, workers=0)
    assert (data.num_classes, len(data.train) + len(data.holdout), len(data.test)) == (2, 24, 6)
    assert {p.parts[-3] for p, _ in data.test.dataset.files} == {test}
    assert f"{train} to train, a tenth of it to choose by, {test} to test" in data.folders


def test_of_three_splits_the_middle_one_is_held_out(tmp_path: Path) -> None:
    folder = _pictures(tmp_path, {"train": 12, "valid": 4, "Test": 3})
    (folder / "extra").mkdir()
    data = load_data(f"imagefolder:{folder}", 8, workers=0)
    assert (len(data.train), len(data.holdout), len(data.test)) == (24, 8, 6)
    assert {p.parts[-3] for p, _ in data.holdout.dataset.files} == {"valid"}
    assert "valid to choose by, Test to test; not read: extra" in data.folders


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": 12, "Train": 12}, "both the train split"),
        ({"train": 12, "val": 3, "validation": 3}, "both the val split"),
        ({"val": 12, "test": 3}, "no train beside it"),
        ({"train/test": 12, "train/ant": 12}, "class folder 'test' looks like a split"),
        ({"ant": 12, "test": 3}, "class folder 'test' looks like a split"),
        ({"train": 12, "validation": 3}, "class folder 'train' looks like a split"),
    ],
)
def test_folders_that_may_be_splits_or_classes_are_refused(
    tmp_path: Path, splits: dict[str, int], said: str
) -> None:
    for name, count in splits.items():
        flat = said.startswith("class folder")
        _pictures(tmp_path, {"": 0}, ()) if flat else _pictures(tmp_path, {name: count})
        if flat:
            (tmp_path / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8)).save(tmp_path / name / f"{i}.png")
    with pytest.raises(InputError, match=said):
        load_data(f"imagefolder:{tmp_path}", 8, workers=0)


def test_a_class_may_be_called_train_among_others(tmp_path: Path) -> None:
    folder = _pictures(tmp_path, {"": 12}, ("bus", "car", "train"))
    assert load_data(f"imagefolder:{folder}", 8, workers=0).num_classes == 3


BROKEN = {
    "cut.png": lambda good: good[: len(good) // 2],
    "chunk.png": lambda good: good[:40] + b"\xff" * 30 + good[70:],
    "postscript.png": lambda good: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "empty.png": lambda good: b"",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_picture_is_named_by_its_path(tmp_path: Path, kind: str) -> None:
    folder = _pictures(tmp_path, {"train": 12, "val": 1})
    path = folder / "val" / "bee" / "0.png"
    Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(BROKEN[kind](path.read_bytes()))
    with pytest.raises(InputError, match=r"cannot be read") as caught:
        list(load_data(f"imagefolder:{folder}", 8, workers=0).test.ordered(4))
    assert caught.value.where == str(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_among_the_pictures_does_not_hang(tmp_path: Path) -> None:
    folder = _pictures(tmp_path, {"train": 12, "val": 1})
    os.mkfifo(folder / "val" / "bee" / "1.png")
    with pytest.raises(InputError, match="a pipe or a device"):
        list(load_data(f"imagefolder:{folder}", 8, workers=0).test.ordered(4))


def test_image_folder_workers_give_the_same(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.fromarray(RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(
                tmp_path / name / f"{i}.png"
            )
    one, two = (load_data(f"imagefolder:{tmp_path}", image_size=8, workers=w) for w in (0, 2))
    for (x, y), (x2, y2) in zip(
        one.train.shuffled(4, seed=3, epoch=1), two.train.shuffled(4, seed=3, epoch=1), strict=True
    ):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


OWN = """
import torch
from torch.utils.data import IterableDataset, TensorDataset

Y = torch.arange(24) % 4


def half(): return (TensorDataset(torch.randn(24, 3, 8, 8).half(), Y),) * 2
def double(): return (TensorDataset(torch.randn(24, 3, 8, 8).double(), Y),) * 2
def signals(): return (TensorDataset(torch.randn(24, 1, 100), Y),) * 2
def features(): return (TensorDataset(torch.randn(24, 7), Y),) * 2


class Stream(IterableDataset):
    def __iter__(self): return iter([(torch.zeros(3, 8, 8), 0)] * 24)


class NoLength:
    def __getitem__(self, i): return torch.zeros(3, 8, 8), 0


def stream(): return Stream(), Stream()
def no_length(): return NoLength(), NoLength()
"""


@pytest.mark.parametrize(
    ("name", "shape"),
    [("half", (3, 8, 8)), ("double", (3, 8, 8)), ("signals", (1, 100)), ("features", (7,))],
)
def test_samples_of_any_precision_and_shape_come_as_float32(
    tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    data = load_data(f"{tmp_path}/own.py:{name}", workers=0)
    x, _ = next(data.train.shuffled(4, seed=0, epoch=0))
    assert data.input_shape == shape
    assert x.dtype == torch.float32
    assert tuple(x.shape) == (4, *shape)
    assert next(iter(data.calibration(1))).shape == (1, *shape)


@pytest.mark.parametrize("name", ["stream", "no_length"])
def test_data_without_numbers_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(InputError, match="cannot be read by index") as caught:
        load_data(f"{tmp_path}/own.py:{name}", workers=0)
    assert "list(dataset)" in (caught.value.hint or "")


def test_data_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n"
        "class Set(torch.utils.data.Dataset):\n"
        "    def __len__(self): return 20\n"
        "    def __getitem__(self, i): return torch.full((1, 4, 4), float(i)), i % 3\n"
        "def pair(): return Set(), Set()\n"
        "def one(): return Set()\n"
        "class Odd(Set):\n"
        "    def __getitem__(self, i): return 'x', 0\n"
        "def odd(): return Odd(), Odd()\n"
    )
    data = load_data(f"{path}:pair", workers=0)
    assert (data.num_classes, data.input_shape, len(data.train), len(data.holdout)) == (3, (1, 4, 4), 18, 2)
    assert len({float(x[0, 0, 0]) for b, _ in data.train.shuffled(6, seed=0, epoch=0) for x in b}) == 18
    for name, words in (("one", "Return a"), ("odd", "float tensor"), ("absent", "no function")):
        with pytest.raises(InputError, match=words):
            load_data(f"{path}:{name}")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("cifar:x", "Did you mean cifar10"),
        ("cifar10", "folder is missing"),
        ("cifar10:{tmp}/absent", "no such folder"),
        ("cifar10:{tmp}/empty", "folder is empty"),
        ("imagefolder:{tmp}/empty", "folder is empty"),
        ("cifar10:{tmp}", "no CIFAR-10"),
        ("fashion-mnist:{tmp}", "no idx files"),
        ("imagefolder:{tmp}", "no pictures"),
    ],
)
def test_unusable_data(tmp_path: Path, spec: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=words):
        load_data(spec.format(tmp=tmp_path))


def test_network_and_data_must_fit() -> None:
    from dtp_edge.training import check_compatible
    from dtp_edge.zoo import create

    data = _source()
    net = create("resnet8", 4).train()
    check_compatible(data, net, (torch.zeros(1, 3, 8, 8),))
    assert net.training
    for module, x, words in (
        (create("resnet8", 5), torch.zeros(1, 3, 8, 8), "4 classes"),
        (net, torch.zeros(1, 3, 16, 16), "inputs are"),
        (torch.nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 8, 8), "classifier"),
    ):
        with pytest.raises(InputError, match=words):
            check_compatible(data, module, (x,))
