"""``hf:``: data sets that ``datasets`` itself wrote, in each of the ways that they lie on a disk. No network here."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from limner.data import DataConfig, open_dataset, pinned
from limner.data.hub import Address
from limner.errors import UserError

datasets = pytest.importorskip("datasets", reason="needs the extra hub")
import pyarrow.parquet  # noqa: E402


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")


def read(source, cache, **settings):
    return open_dataset(DataConfig(str(source), **settings), cache=cache, progress=False)


@pytest.fixture
def rows(noise):
    pictures = noise(9, 6, 5, 3)
    content = {
        "id": [f"x{i}" for i in range(9)],
        "image": [Image.fromarray(picture) for picture in pictures],
        "label": [i % 3 for i in range(9)],
        "text": [f" picture {i}" for i in range(9)],
    }
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog", "elk"]),
            "text": datasets.Value("string"),
        }
    )
    return datasets.Dataset.from_dict(content, features=features), pictures


def saved(rows, tmp_path, kind):
    folder = tmp_path / kind
    if kind == "saved":
        rows.save_to_disk(folder)
    elif kind == "splits":
        datasets.DatasetDict({"train": rows, "test": rows.select(range(2))}).save_to_disk(folder)
    elif kind == "parquet":
        folder.mkdir()
        rows.to_parquet(folder / "train-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("kind", ["saved", "splits", "parquet"])
def test_columns_become_pictures_classes_and_captions(kind, rows, tmp_path, cache):
    table, pictures = rows
    data = read(f"hf:{saved(table, tmp_path, kind)}", cache)
    assert np.array_equal(data.images, pictures)
    assert data.label.tolist() == [0, 1, 2] * 3
    assert data.labels == ("cat", "dog", "elk")
    assert data.captions == tuple(f"picture {i}" for i in range(9))
    assert data.report.notes == ("left out: id",)
    assert read(f"hf:{tmp_path / kind}", cache).fingerprint == data.fingerprint


def test_a_folder_of_pictures_is_what_it_is_without_the_library(make_folder, noise, encoded, cache):
    files = {f"train/{'ab'[i % 2]}/{i}.png": encoded(picture) for i, picture in enumerate(noise(6, 6, 5, 3))}
    folder = make_folder(files)
    data = read(f"hf:{folder}", cache)
    plain = read(folder / "train", cache)
    assert data.labels == plain.labels == ("a", "b")
    assert data.fingerprint == plain.fingerprint


def test_splits(rows, tmp_path, cache, monkeypatch):
    folder = saved(rows[0], tmp_path, "splits")
    assert len(read(f"hf:{folder}@test", cache)) == 2
    with pytest.raises(UserError, match="did you mean 'train'"):
        read(f"hf:{folder}@trian", cache)
    monkeypatch.chdir(tmp_path)
    data = read("hf:./splits@test", cache)
    fixed = pinned(DataConfig("hf:./splits@test"), data)
    assert fixed.source == f"hf:{folder}@test"
    monkeypatch.chdir("/")
    assert read(fixed.source, cache).fingerprint == data.fingerprint


def test_files_come_as_they_are(tmp_path, cache):
    """Not decoded by somebody else on the way: 16 bits stay, what is broken is listed, and what is missing too."""
    deep = np.random.default_rng(0).integers(0, 2**16, (4, 6, 5), dtype=np.uint16)
    files = []
    for picture in deep:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        files.append({"bytes": file.getvalue(), "path": None})
    broken = [{"bytes": b"no picture", "path": None}, None, {"bytes": None, "path": "/nowhere/1.png"}]
    table = datasets.Dataset.from_dict({"img": files + broken}, features=datasets.Features({"img": datasets.Image()}))
    (tmp_path / "deep").mkdir()
    pyarrow.parquet.write_table(table.data.table, tmp_path / "deep" / "train.parquet")
    data = read(f"hf:{tmp_path / 'deep'}", cache)
    assert np.array_equal(data.images[..., 0], deep)
    reasons = dict(data.report.skipped)
    assert "text, not a picture" in reasons["train/4"]
    assert reasons["train/5"] == "its row holds no picture"
    assert "which is not on this disk" in reasons["train/6"]


def test_classes_that_are_numbers_and_rows_without_one(noise, tmp_path, cache):
    pictures = noise(5, 4, 4, 3)
    table = datasets.Dataset.from_dict(
        {"picture": [Image.fromarray(p) for p in pictures], "label": [4, None, 0, 1, 1], "other": [1.5] * 5},
        features=datasets.Features(
            {"picture": datasets.Image(), "label": datasets.Value("int64"), "other": datasets.Value("float32")}
        ),
    )
    table.save_to_disk(tmp_path / "numbers")
    data = read(f"hf:{tmp_path / 'numbers'}", cache)
    assert data.labels == ("0", "1", "2", "3", "4")
    assert data.label.tolist() == [4, 0, 1, 1]
    assert np.array_equal(data.images, pictures[[0, 2, 3, 4]])
    assert data.report.skipped == (("all/1", "has no class"),)
    assert data.captions is None


def test_one_line_for_what_cannot_be_had(rows, tmp_path, cache):
    words = datasets.Dataset.from_dict({"words": ["a", "b"]})
    words.save_to_disk(tmp_path / "words")
    (tmp_path / "none").mkdir()
    rows[0].select([]).to_parquet(tmp_path / "none" / "train.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "state.json").write_text(json.dumps({"x": 1}))
    for source, word in (
        ("hf:nobody/nothing-of-that-name", "hf:nobody/nothing-of-that-name"),
        ("hf:nobody/nothing:config@train", "cannot be loaded"),
        ("hf:", "names no data set"),
        (f"hf:{tmp_path / 'words'}", "no column of pictures; it has: words (Value)"),
        (f"hf:{tmp_path / 'none'}", "no data"),
        (f"hf:{tmp_path / 'empty'}", "cannot be loaded"),
        (f"hf:{tmp_path / 'damaged'}", "cannot be loaded"),
    ):
        with pytest.raises(UserError) as caught:
            read(source, cache)
        assert word in str(caught.value)
        assert "\n" not in str(caught.value)


def test_without_the_extra_the_line_says_what_to_install(monkeypatch, cache):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'limner\[hub\]'"):
        read("hf:someone/something", cache)


def test_addresses():
    assert Address.of("hf:a/b") == Address("a/b", None, None)
    assert Address.of("hf:a/b:c@d") == Address("a/b", "c", "d")
    assert Address.of("hf:a/b@train[:10]") == Address("a/b", None, "train[:10]")
