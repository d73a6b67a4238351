"""The real sets of the mirror folder (LIMNER_MIRROR)."""

from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from limner.data import CATALOGUE, DataConfig, open_dataset

SETS = {  # name: (pictures, shape, classes)
    "mnist": (60_000, (28, 28, 1), 10),
    "fashion-mnist": (20_000, (28, 28, 1), 10),
    "cifar10": (10_000, (32, 32, 3), 10),
    "emoji": (1_410, (72, 72, 3), 0),
    "crawl-tiles": (3_174, (32, 32, 3), 7),
    "facades": (400, (128, 256, 3), 0),
    "edges2shoes": (10, (128, 256, 3), 0),
    "summer2winter": (1_097, (128, 128, 3), 2),
    "flowers": (1_467, (96, 96, 3), 5),
    "orl": (310, (112, 92, 1), 31),
    "pneumonia": (3_882, (28, 28, 1), 2),
}


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


def test_the_list_above_is_the_catalogue():
    assert set(SETS) == set(CATALOGUE)


@pytest.mark.parametrize("name", SETS)
def test_every_set_opens(name, mirror, shared_cache):
    count, shape, classes = SETS[name]
    data = open_dataset(name, cache=shared_cache, progress=False)
    assert data.images.shape == (count, *shape)
    assert data.report.skipped == ()
    assert len(data.labels) == classes
    assert (data.label is None) == (classes == 0)
    if data.label is not None:
        assert set(data.label) == set(range(classes))
    assert data.mirror_ok == (name not in ("mnist", "emoji", "facades", "edges2shoes", "pneumonia"))
    assert 0.2 < data.stats.std < 1


def test_mnist_is_what_the_files_hold(mirror, shared_cache):
    data = open_dataset("mnist", cache=shared_cache, progress=False)
    with gzip.open(mirror / "mnist" / "train-images-idx3-ubyte.gz") as file:
        assert data.images.tobytes() == file.read()[16:]
    with gzip.open(mirror / "mnist" / "train-labels-idx1-ubyte.gz") as file:
        assert data.label.astype(np.uint8).tobytes() == file.read()[8:]
    assert data.labels == tuple("0123456789")


def test_cifar_pixels_are_pillows(mirror, shared_cache):
    data = open_dataset("cifar10", cache=shared_cache, progress=False)
    with zipfile.ZipFile(mirror / "cifar10" / "train10k.zip") as archive:
        by_class = {name: sum(member.startswith(f"{name}/") for member in archive.namelist()) for name in data.labels}
        assert np.bincount(data.label).tolist() == list(by_class.values())
        names = [member for member in archive.namelist() if member.startswith("airplane/")]
        stored = {np.asarray(Image.open(io.BytesIO(archive.read(member)))).tobytes() for member in names}
    assert {image.tobytes() for image in data.images[data.label == 0]} == stored


def test_emoji_keep_their_alpha_when_asked_and_have_captions(mirror, shared_cache):
    data = open_dataset(DataConfig("emoji", mode="RGBA"), cache=shared_cache, progress=False)
    assert data.images.shape == (1410, 72, 72, 4)
    assert data.images[..., 3].min() == 0
    assert "copyright" in data.captions
    on_black = open_dataset(DataConfig("emoji", background=(0, 0, 0)), cache=shared_cache, progress=False)
    assert on_black.images[:, 0, 0].mean() < 20
    assert len({data.fingerprint, on_black.fingerprint}) == 2


def test_a_real_set_in_another_size(mirror, shared_cache):
    data = open_dataset(DataConfig("flowers", size=(32, 48), limit=100), cache=shared_cache, progress=False)
    assert data.images.shape == (100, 32, 48, 3)
    assert set(data.label) == set(range(5))


def test_built_in_glyphs_come_the_same_way(shared_cache):
    data = open_dataset("builtin:glyphs?count=200", cache=shared_cache, progress=False)
    assert len(data) == 200
    assert data.captions is not None
    assert not data.mirror_ok
    again = open_dataset("builtin:glyphs?count=200", cache=shared_cache, progress=False)
    assert again.fingerprint == data.fingerprint
