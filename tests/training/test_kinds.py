"""Data sets by name: what is read is what was written, and what is wrong is named with its file and entry."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small_sets
from hypothesis import given, settings
from hypothesis import strategies as st

from dtp_edge.errors import InputError
from dtp_edge.training import load_data
from dtp_edge.training.data.coco_file import checked
from dtp_edge.training.data.registry import Ask, kinds, table


def refused(spec: str, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_data(spec, workers=0)
    said = caught.value.message()
    assert all(word in said for word in words), said
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_each_kind_is_one_short_file_and_stands_in_the_docs() -> None:
    root = Path(__file__).parents[2]
    for path in (root / "dtp_edge" / "training" / "data" / "kinds").glob("*.py"):
        assert path.read_text(encoding="utf-8").count("\n") <= 150, path
    assert table() in (root / "docs" / "data.md").read_text(encoding="utf-8")
    for kind in kinds().values():
        assert kind.form.split(":")[0] == kind.name


def test_numbers_behind_a_name() -> None:
    ask, found = Ask("wavfolder:a,b,mels=10,rate=8000", "a,b,mels=10,rate=8000").options(
        {"mels": 40, "rate": 1}
    )
    assert (ask.rest, found) == ("a,b", {"mels": 10.0, "rate": 8000.0})
    for rest, word in (("a,mel=3", "mels"), ("a,mels=x", "not a number"), ("a,mels=-1", "above 0")):
        with pytest.raises(InputError, match=word):
            Ask(f"wavfolder:{rest}", rest).options({"mels": 40})


CSV = "a,b,label\n" + "".join(f"{i},{-i * 0.5},{'xyz'[i % 3]}\n" for i in range(30))


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(CSV)
    data = load_data(f"csv:{path}")
    assert (data.num_classes, data.input_shape, data.task) == (3, (2,), "classification")
    assert data.facts["classes"] == ["x", "y", "z"]
    for split in (data.train, data.holdout, data.test):
        for x, y in split.ordered(100):
            a = (x * torch.tensor(data.std) + torch.tensor(data.mean))[:, 0].round().long()
            assert torch.equal(a % 3, y)
    path.write_text("target,a\n" + "".join(f"{i * 0.1},{i}\n" for i in range(30)))
    data = load_data(f"csv:{path}")
    assert (data.num_classes, data.task) == (None, "regression")
    path.write_text(
        "a,y,split\n" + "".join(f"{i},{i % 2},{('train', 'dev', 'Test')[i % 3]}\n" for i in range(60))
    )
    data = load_data(f"csv:{path}")
    assert [len(s) for s in (data.train, data.holdout, data.test)] == [20, 20, 20]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no lines"),
        ("a,label\n", "no lines"),
        ("label\n1\n", "two columns"),
        (CSV.replace("7,-3.5", "7,?"), "line 9: b is '?'"),
        (CSV.replace("7,-3.5", "7,nan"), "line 9: b is 'nan'"),
        (CSV.replace("7,-3.5", "7,"), "line 9: b is empty"),
        (CSV.replace("7,-3.5,y", "7,-3.5"), "line 9: label is empty"),
        (CSV.replace("7,-3.5,y", "7,-3.5,y,9"), "line 9 has 4 fields"),
        (CSV[:41] + "5,x\n", "too few"),
        ("a,label,split\n" + "1,0,train\n" * 20 + "1,0,spare\n", "line 22: split is 'spare'"),
    ],
)
def test_a_wrong_table_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    refused(f"csv:{path}", words, str(path))


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="ab,\n\"'1.e-nx\x00\t", max_size=200))
def test_any_table_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text("a,label\n" + text)
    try:
        data = load_data(f"csv:{path}")
    except InputError:
        return
    x, _ = next(data.train.ordered(1000))
    assert bool(torch.isfinite(x).all())


RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8)
TASKS: dict[str, tuple[np.ndarray, np.ndarray | None, str, int | None]] = {
    "classes": (IMAGES, np.arange(30) % 4, "classification", 4),
    "masks": (IMAGES, np.where(IMAGES[:, 0] > 250, 255, IMAGES[:, 0] % 3), "segmentation", 3),
    "numbers": (RNG.normal(size=(30, 5)), RNG.normal(size=(30, 2)), "regression", None),
    "labels": (IMAGES, (np.arange(60) % 2).reshape(30, 2).astype(bool), "multi-label", 2),
    "images": (IMAGES, RNG.integers(0, 256, (30, 3, 16, 16), dtype=np.uint8), "image-to-image", None),
    "floats": (RNG.random((30, 1, 8, 8)), RNG.random((30, 1, 8, 8)), "image-to-image", None),
    "nothing": (RNG.normal(size=(30, 5)), None, "no-labels", None),
}


@pytest.mark.parametrize("name", TASKS)
def test_what_is_wanted_says_the_task(tmp_path: Path, name: str) -> None:
    x, y, task, classes = TASKS[name]
    np.savez(tmp_path / "a.npz", x=x, **({} if y is None else {"y": y}))
    data = load_data(f"npz:{tmp_path / 'a.npz'}")
    assert (data.task, data.num_classes, data.input_shape) == (task, classes, x.shape[1:])
    batch = next(data.test.ordered(100))
    if y is None:
        assert tuple(batch.shape) == (6, 5)
        return
    inputs, wanted = batch
    assert inputs.dtype == torch.float32
    assert wanted.shape[1:] == y.shape[1:]
    rows = torch.randperm(30, generator=torch.Generator().manual_seed(8))[:6]
    scale = 255 if y.dtype == np.uint8 and task == "image-to-image" else 1
    np.testing.assert_allclose(wanted.double() * scale, y[rows].astype(float), rtol=1e-5)
    if x.dtype == np.uint8:
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (data.mean, data.std))
        np.testing.assert_allclose((inputs * std + mean) * 255, x[rows], atol=1e-3)


def test_arrays_of_splits(tmp_path: Path) -> None:
    parts = {"train": 20, "val": 5, "test": 7}
    arrays = {f"{v}_{p}": np.zeros((n, 3), np.float32) if v == "x" else np.arange(n) % 2
              for p, n in parts.items() for v in "xy"}  # fmt: skip
    np.savez(tmp_path / "a.npz", **arrays)
    data = load_data(f"npz:{tmp_path / 'a.npz'}")
    assert [len(s) for s in (data.train, data.holdout, data.test)] == [20, 5, 7]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": None}, "holds"),
        ({"z": np.zeros(3)}, "'z', which is neither x nor y"),
        ({"y": np.arange(29)}, "30 samples, y 29"),
        ({"y": np.array(["a"] * 30)}, "y is <U1"),
        ({"x": np.where(np.arange(150).reshape(30, 5) == 27, np.nan, 1.0)}, "x[5] holds NaN"),
        ({"y": np.where(np.arange(30) == 4, -2, 0)}, "y of train[4] has the class -2"),
        ({"x": np.zeros(30)}, "x is [30]"),
        ({"y": np.zeros((30, 2, 2, 2, 2), np.int64)}, "which task"),
    ],
)
def test_a_wrong_array_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    arrays = {"x": np.zeros((30, 5)), "y": np.arange(30) % 2} | changes
    np.savez(tmp_path / "a.npz", **{k: v for k, v in arrays.items() if v is not None})
    refused(f"npz:{tmp_path / 'a.npz'}", words, "a.npz")


def test_a_class_beyond_those_of_training_is_named(tmp_path: Path) -> None:
    x = np.zeros((20, 4))
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(20) % 2, x_test=x, y_test=np.arange(20) % 3)
    refused(f"npz:{tmp_path / 'a.npz'}", "y of test[2] has the class 2, not one from 0 to 1")


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_no_reason_to_fail(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    path.write_bytes(content)
    refused(f"npz:{path}", "a.npz")


def with_entry(path: str, value: Any) -> dict[str, Any]:
    """A document with one entry changed, as in `annotations.3.bbox`; the value REMOVE takes it away."""
    document = small_sets.coco_document()
    *way, last = path.split(".")
    at: Any = document
    for step in way:
        at = at[int(step) if step.isdigit() else step]
    at[int(last) if last.isdigit() else last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("annotations.3.bbox", [1, 1, 0, 5], "annotations[3]: the box is empty"),
        ("annotations.3.bbox", [1, 1, 5], "annotations[3]: bbox is [1, 1, 5]"),
        ("annotations.3.bbox", [30, 1, 9, 5], "annotations[3]: the box [30.0, 1.0, 9.0, 5.0] reaches out"),
        ("annotations.3.bbox", [40, 40, 0.5, 0.5], "annotations[3]"),
        ("annotations.3.category_id", 4, "annotations[3]: category_id 4"),
        ("annotations.3.image_id", 5, "annotations[3]: image_id 5"),
        ("annotations.3.image_id", None, "annotations[3]: image_id is 'None'"),
        ("annotations.3", 5, "annotations[3]: is not an object"),
        ("annotations", [], "no list of annotations"),
        ("categories.1.id", 90, "categories[1]: the id 90 is given twice"),
        ("images.2.id", 7, "images[2]: the id 7 is given twice"),
        ("images.2.file_name", "../../etc/passwd", "images[2]: file_name"),
        ("images.2.file_name", "/etc/passwd", "images[2]: file_name"),
        ("images.2.file_name", 3, "images[2]: file_name"),
        ("images.2.width", 0, "images[2]: width and height are 0"),
    ],
)
def test_a_wrong_entry_is_named(path: str, value: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(with_entry(path, value), Path("pictures"), "boxes.json")
    assert words in caught.value.message()
    assert "boxes.json" in caught.value.message()


def test_ids_become_classes_in_their_order_and_boxes_stay() -> None:
    found = checked(small_sets.coco_document(), Path("pictures"), "boxes.json")
    assert found.classes == ["car", "toothbrush"]
    assert found.found[4].labels == [1, 0]
    assert found.found[4].boxes == [(6.0, 3.0, 18.0, 11.0), (6.0, 13.0, 18.0, 21.0)]
    crowd = checked(with_entry("annotations.0.iscrowd", 1), Path("pictures"), "boxes.json")
    assert (crowd.crowds, crowd.found[0].labels) == (1, [0])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 200) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "bbox", "image_id", "category_id", "file_name"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    place=st.sampled_from(
        [
            f"{part}.{i}{key}"
            for part in ("images", "annotations", "categories")
            for i in (0, 3)
            for key in ("", ".id", ".bbox", ".image_id", ".category_id", ".file_name", ".width")
            if not (part == "categories" and i)
        ]
    ),
    value=JSON,
)
def test_any_entry_is_read_or_named(place: str, value: Any) -> None:
    try:
        found = checked(with_entry(place, value), Path("pictures"), "boxes.json")
    except InputError:
        return
    for one in found.found:
        assert one.path.parts[0] == "pictures"
        assert ".." not in one.path.parts
        for x1, y1, x2, y2 in one.boxes:
            assert 0 <= x1 < x2 <= one.size[0]
            assert 0 <= y1 < y2 <= one.size[1]
    assert all(0 <= label < 2 for one in found.found for label in one.labels)


@pytest.fixture
def torchvision() -> Any:
    return pytest.importorskip("torchvision", exc_type=Exception)


@pytest.mark.more
def test_pictures_with_boxes(tmp_path: Path, torchvision: Any) -> None:
    data = load_data(f"coco:{small_sets.coco(tmp_path)}", 64, 0)
    assert (data.num_classes, data.input_shape, data.task) == (2, (), "detection")
    (images, targets), *_ = data.test.ordered(4)
    assert tuple(images.shape) == (4, 3, 64, 64)
    assert type(images) is torch.Tensor
    assert float(images.max()) <= 1
    for target in targets:
        left = float(target["boxes"][0, 0]) / 2 - 2
        np.testing.assert_allclose(target["boxes"][0] / 2, [left + 2, 3, left + 14, 11], atol=1e-5)
        assert target["labels"].tolist() == [1, 0]
    one = [t["boxes"] for _, ts in data.train.shuffled(4, seed=0, epoch=0) for t in ts]
    two = [t["boxes"] for _, ts in data.train.shuffled(4, seed=0, epoch=0) for t in ts]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, (_, ts) in zip(one, data.train.ordered(1), strict=False) for b in
                   [ts[0]["boxes"]])  # fmt: skip
    assert all(type(t) is torch.Tensor and t.shape[1:] == (4,) for t in one)


@pytest.mark.more
def test_pictures_and_entries_that_do_not_fit(tmp_path: Path, torchvision: Any) -> None:
    spec = f"coco:{small_sets.coco(tmp_path)}"
    small_sets.write_png(tmp_path / "images" / "003.png", np.zeros((32, 40, 3), np.uint8))
    refused(spec, "003.png", "40x32, its entry says 32x32")
    (tmp_path / "images" / "003.png").write_bytes(b"no picture")
    refused(spec, "003.png", "cannot be read")
    (tmp_path / "images" / "003.png").unlink()
    refused(spec, "003.png", "no such file")
    refused(f"coco:{tmp_path / 'images'}", "this is not a folder and a file")
    document = small_sets.coco_document() | {"categories": [{"id": 3}, {"id": 90}]}
    (tmp_path / "other.json").write_text(json.dumps(document))
    small_sets.coco(tmp_path)
    refused(f"{spec},{tmp_path / 'images'},{tmp_path / 'other.json'}", "other categories")


@pytest.mark.more
def test_pictures_with_masks(tmp_path: Path, torchvision: Any) -> None:
    data = load_data(f"segfolder:{small_sets.segfolder(tmp_path)}", 8, 0)
    assert (data.num_classes, data.input_shape, data.task) == (3, (3, 8, 8), "segmentation")
    images, masks = next(data.test.ordered(9))
    red = ((images[:, 0, 0, 0] * 0.229 + 0.485) * 255 / 60).round().long()
    assert torch.equal(masks[:, 3, 0], red)
    assert bool((masks[:, :, 4:] == 255).all())
    assert bool((masks[:, :, :4] == red[:, None, None]).all())
    for images, masks in data.train.shuffled(4, seed=1, epoch=0):  # moved together, in train too
        red = ((images[:, 0, 0, 0] * 0.229 + 0.485) * 255 / 60).round().long()
        assert bool(((masks == red[:, None, None]) | (masks == 255)).all())
    one, two = (next(data.train.shuffled(4, seed=1, epoch=0))[1] for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.more
def test_masks_of_splits_and_names(tmp_path: Path, torchvision: Any) -> None:
    folder = small_sets.segfolder(tmp_path, splits=("train", "val", "test"))
    (folder / "classes.txt").write_text("a\nb\nc\nd\n")
    data = load_data(f"segfolder:{folder}", 8, 0)
    assert [len(s) for s in (data.train, data.holdout, data.test)] == [20, 20, 20]
    assert (data.num_classes, data.facts["classes"]) == (4, ["a", "b", "c", "d"])


@pytest.mark.parametrize(
    "fault", ["size", "colours", "class", "no mask", "no picture", "no folder", "damaged"]
)
def test_a_wrong_mask_is_named(tmp_path: Path, fault: str) -> None:
    folder = small_sets.segfolder(tmp_path)
    (folder / "classes.txt").write_text("a\nb\nc\n")
    mask, words = folder / "masks" / "004.png", ["004.png"]
    if fault == "size":
        small_sets.write_png(mask, np.zeros((16, 8), np.uint8))
        words.append("the mask is 8x16, its picture 16x16")
    elif fault == "colours":
        small_sets.write_png(mask, np.zeros((16, 16, 3), np.uint8))
        words.append("colours (RGB)")
    elif fault == "class":
        small_sets.write_png(mask, np.where(np.arange(256).reshape(16, 16) == 37, 7, 0).astype(np.uint8))
        words.append("the class 7 at column 5, row 2")
    elif fault == "no mask":
        mask.unlink()
        words.append("has no mask")
    elif fault == "no picture":
        (folder / "images" / "004.png").unlink()
        words.append("has no picture")
    elif fault == "no folder":
        (folder / "masks").rename(folder / "other")
        words = ["no folder masks"]
    else:
        mask.write_bytes(b"\x89PNG no")
        words.append("cannot be read")
    refused(f"segfolder:{folder}", *words)


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=200), begin=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]))
def test_any_bytes_are_no_mask(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, begin: bytes
) -> None:
    folder = small_sets.segfolder(tmp_path_factory.mktemp("seg"), count=2)
    (folder / "masks" / "001.png").write_bytes(begin + content)
    refused(f"segfolder:{folder}", "001.png")


@pytest.mark.more
def test_recordings(tmp_path: Path) -> None:
    pytest.importorskip("torchaudio", exc_type=Exception)
    pytest.importorskip("soundfile")
    data = load_data(f"wavfolder:{small_sets.wavfolder(tmp_path / 'a')},mels=20", workers=0)
    assert (data.num_classes, data.input_shape) == (2, (1, 49, 20))
    x, y = next(data.test.ordered(8))
    energy = (x * data.std[0] + data.mean[0]).exp().mean((1, 2))
    loudest = energy.argmax(1)
    assert set(zip(y.tolist(), (loudest > 8).tolist(), strict=True)) == {(0, True), (1, False)}  # high, low
    again = load_data(f"wavfolder:{small_sets.wavfolder(tmp_path / 'b', rate=32_000)},mels=20", workers=0)
    at_32k = next(again.test.ordered(8))[0]
    assert float((at_32k.exp().mean((1, 2)).argmax(1) - x.exp().mean((1, 2)).argmax(1)).abs().max()) <= 1
    one, two = (next(data.train.shuffled(4, seed=3, epoch=1))[0] for _ in range(2))
    assert torch.equal(one, two)
    (tmp_path / "a" / "low" / "3.wav").write_bytes(b"RIFF")
    refused(f"wavfolder:{tmp_path / 'a'}", "3.wav", "cannot be read")
    small_sets.write_wav(tmp_path / "a" / "low" / "3.wav", np.zeros(0))
    refused(f"wavfolder:{tmp_path / 'a'}", "3.wav", "empty")


@pytest.mark.more
def test_texts_of_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"input_ids": list(range(1, 3 + i % 4)), "labels": [i % 3] * (2 + i % 4)} for i in range(30)]
    rows = [row | {"attention_mask": [1] * len(row["input_ids"])} for row in rows]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "a"))
    data = load_data(f"hf:{tmp_path / 'a'}", workers=0)
    assert (data.task, data.num_classes, data.input_shape) == ("token-classification", 3, ())
    inputs, labels = next(data.test.ordered(6))
    assert {name: tuple(t.shape) for name, t in inputs.items()} == {
        "input_ids": (6, 5),
        "attention_mask": (6, 5),
    }
    assert torch.equal(labels == -100, inputs["attention_mask"] == 0)
    broken = [*rows[:9], rows[9] | {"labels": [0]}, *rows[10:]]
    datasets.DatasetDict({"train": datasets.Dataset.from_list(broken)}).save_to_disk(str(tmp_path / "b"))
    refused(f"hf:{tmp_path / 'b'}", "train, row 9", "labels 1")
    sequences = [{"input_ids": [1, 2], "label": i % 2} for i in range(30)]
    test = [{"input_ids": [1, 2], "label": 2}] * 3
    both = {"train": datasets.Dataset.from_list(sequences), "test": datasets.Dataset.from_list(test)}
    datasets.DatasetDict(both).save_to_disk(str(tmp_path / "c"))
    refused(f"hf:{tmp_path / 'c'}", "test, row 0", "label holds 2, not a class from 0 to 1")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("no data set")
    refused(f"hf:{tmp_path / 'd'}", "cannot be read as a data set")


OWN = """
import torch
from dtp_edge.training.objectives.regression import Regression

class Pairs(torch.utils.data.Dataset):
    def __init__(self, n): self.n = n
    def __len__(self): return self.n
    def __getitem__(self, i):
        i, seed = i if isinstance(i, tuple) else (i, 0)
        return {"a": torch.full((i % 3 + 1,), float(i)), "seed": seed}, torch.tensor([float(i)])

def padded(samples):
    return {"a": torch.nn.utils.rnn.pad_sequence([s["a"] for s, _ in samples], True),
            "seeds": [s["seed"] for s, _ in samples]}, torch.stack([y for _, y in samples])

BASE = {"train": Pairs(20), "test": Pairs(6), "objective": Regression(), "loader": {"collate_fn": padded}}
def good(): return BASE | {"augments": True}
def by_name(): return BASE | {"objective": "regression", "num_classes": 3, "facts": {"x": 1}}
def typo(): return BASE | {"holdouts": 1}
def shuffled(): return BASE | {"loader": {"batch_size": 3}}
def no_test(): return {"train": Pairs(20)}
def strange(): return BASE | {"objective": 3}
def stream(): return BASE | {"test": iter([])}
"""


def test_a_dict_of_a_task(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    data = load_data(f"{tmp_path}/own.py:good", workers=0)
    assert (data.task, data.num_classes, len(data.train), len(data.holdout), len(data.test)) == (
        *("regression", None), *(18, 2, 6),
    )  # fmt: skip
    assert data.objective is not None
    (inputs, y), *_ = data.train.shuffled(6, seed=1, epoch=0)
    assert tuple(inputs["a"].shape) == (6, 3)
    assert len(set(inputs["seeds"])) == 6
    assert torch.equal(inputs["a"].max(1).values, y[:, 0])
    named = load_data(f"{tmp_path}/own.py:by_name", workers=0)
    assert (named.task, named.objective, named.num_classes, named.facts) == ("regression", None, 3, {"x": 1})
    for name, words in (
        ("typo", "no 'holdouts'"),
        ("shuffled", "no 'batch_size'"),
        ("no_test", "has no test"),
        ("strange", "the objective is int"),
        ("stream", "cannot be read by index"),
    ):
        refused(f"{tmp_path}/own.py:{name}", words)


def test_a_deviation_of_nothing_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,label\n" + "".join(f"5,{i},{i % 2}\n" for i in range(20)))
    x, _ = next(load_data(f"csv:{tmp_path / 't.csv'}").train.ordered(20))
    assert math.isfinite(float(x.abs().max()))
