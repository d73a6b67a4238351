"""Shards that are decoded while they are trained on: the order is a pure function, and nothing is lost or kept."""

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.config import from_json, to_json
from limner.data import NO_AUGMENT, DataConfig, gather, open_dataset, pinned
from limner.data.order import shard_rows
from limner.errors import UserError
from limner.recipes import recipe, resume, train
from limner.tensors import load_tensors
from limner.training.checkpoint import checkpoints
from limner.training.describing import described

COUNTS = (70, 3, 0, 41, 130)


def picture(i):
    """A picture that says its number."""
    return np.full((8, 6, 1), (i % 251,), np.uint8) + np.array([0, i // 251], np.uint8).repeat(3)[None, :, None]


def number(image):
    return int(image[0, 0, 0]) + 251 * (int(image[0, 5, 0]) - int(image[0, 0, 0]))


@pytest.fixture
def shards(make_tar, encoded, tmp_path):
    """244 pictures in five shards, one of them empty."""
    i = 0
    for shard, count in enumerate(COUNTS):
        files = {}
        for _ in range(count):
            files[f"{i:04d}.png"] = encoded(picture(i))
            files[f"{i:04d}.cls"] = str(i % 3).encode()
            i += 1
        make_tar(files, f"s-{shard}.tar")
    return str(tmp_path / "s-{0..4}.tar")


def stream(source, cache, monkeypatch, block=32):
    monkeypatch.setattr("limner.data.stream._BLOCK", block)
    return open_dataset(DataConfig(source, stream="on"), cache=cache, progress=False)


def seen(data, seed, first, count):
    part, which = data.batch(seed, first, count)
    images, label = gather(part, which, augment=NO_AUGMENT, seed=seed, samples=torch.arange(first, first + count))
    pixels = torch.round((images + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    numbers = [number(one) for one in pixels]
    assert label.tolist() == [n % 3 for n in numbers]
    return numbers


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(sum),
    st.integers(0, 2**64),
    st.integers(0, 5),
    st.data(),
)
def test_an_epoch_goes_through_every_shard_whole(counts, seed, epoch, data):
    counts = np.array(counts)
    total, ends = int(counts.sum()), np.cumsum(counts)
    whole = shard_rows(seed, epoch, 0, total, counts)
    assert sorted(whole) == list(range(total))
    shard = np.searchsorted(ends, whole, side="right")
    starts = np.flatnonzero(np.diff(shard, prepend=-1))
    assert len(starts) == (counts > 0).sum()
    assert all(b == a + 1 for a, b, new in zip(whole, whole[1:], np.diff(shard) != 0, strict=False) if not new)
    cut = data.draw(st.integers(0, total))
    parts = shard_rows(seed, epoch, 0, cut, counts), shard_rows(seed, epoch, cut, total, counts)
    assert np.array_equal(np.concatenate(parts), whole)


def test_what_is_seen_is_one_sequence_however_it_is_cut(shards, cache, monkeypatch):
    data = stream(shards, cache, monkeypatch)
    total = sum(COUNTS)
    whole = seen(data, 7, 0, 3 * total)
    for epoch in range(3):
        assert sorted(whole[epoch * total : (epoch + 1) * total]) == list(range(total))
    rng = np.random.default_rng(0)
    for at in rng.integers(0, 3 * total - 40, 20):
        count = int(rng.integers(1, 40))
        assert seen(data, 7, int(at), count) == whole[at : at + count]
    data.close()
    again = stream(shards, cache, monkeypatch)
    assert seen(again, 7, 100, 16) == whole[100:116]
    assert seen(again, 8, 0, total) != whole[:total]
    assert whole[:total] != whole[total : 2 * total]
    # Neighbours in a shard are far apart in a block, and blocks hold more than one shard.
    assert np.abs(np.diff(whole[:total])).mean() > 8
    again.close()


def test_a_set_that_is_streamed_is_the_set_that_is_cached(shards, cache, monkeypatch):
    streamed = stream(shards, cache, monkeypatch)
    cached = open_dataset(DataConfig(shards, stream="off"), cache=cache, progress=False)
    assert cached.feed is None
    assert streamed.labels == cached.labels == ("0", "1", "2")
    assert streamed.spec == cached.spec
    assert np.array_equal(streamed.images, cached.images)  # the part is all of so small a set
    assert streamed.stats == cached.stats
    assert streamed.report.used == len(cached) == sum(COUNTS)
    assert any("streamed in blocks of 32" in note for note in streamed.report.notes)


def test_memory_is_bounded_by_a_few_blocks(shards, cache, monkeypatch):
    data = stream(shards, cache, monkeypatch)
    for first in range(0, 2 * sum(COUNTS), 16):
        data.batch(1, first, 16)
        held = list(data.feed._kept.values())
        assert len(held) <= 2
        assert all(len(pixels) <= 32 for pixels, _ in held)
        assert len(data.feed._ahead) <= 1
    data.close()


def test_broken_pictures_are_listed_and_their_places_filled(make_tar, encoded, tmp_path, cache, monkeypatch, capsys):
    monkeypatch.setattr("limner.data.opening._PART", 8)
    bad = {5, 6, 40}
    for shard in range(2):
        files = {}
        for i in range(shard * 30, shard * 30 + 30):
            files[f"{i:04d}.png"] = b"broken" if i in bad else encoded(picture(i))
            files[f"{i:04d}.cls"] = str(i % 3).encode()
        make_tar(files, f"s-{shard}.tar")
    source = str(tmp_path / "s-*.tar")
    data = stream(source, cache, monkeypatch, block=20)
    assert len(data) == 8
    assert data.report.skipped == ()
    epoch = seen(data, 3, 0, 60)
    assert set(epoch) == set(range(60)) - bad
    assert epoch == seen(data, 3, 0, 60)
    data.close()
    told = capsys.readouterr().err
    assert told.count("cannot be used") == 1
    again = stream(source, cache, monkeypatch, block=20)
    assert len(again.report.skipped) == 3
    assert all("text, not a picture" in why for _, why in again.report.skipped)
    assert again.report.used == 57
    assert described(again)["pictures"] == 57, "what a run says of the set is about all of it"
    assert again.fingerprint == data.fingerprint
    assert seen(again, 3, 7, 30) == epoch[7:37]
    again.close()


def test_shards_of_which_no_picture_is_left(make_tar, encoded, tmp_path, cache, monkeypatch):
    make_tar({f"{i}.png": encoded(picture(i)) for i in range(40)}, "a.tar")
    data = stream(str(tmp_path / "a.tar"), cache, monkeypatch)
    (tmp_path / "a.tar").unlink()
    with pytest.raises(UserError, match="usable"):
        data.batch(0, 0, 4)
    data.close()


def small(conditional=True):
    chosen = recipe("flow", "tiny")
    return dataclasses.replace(
        chosen,
        net=dataclasses.replace(chosen.net, width=16, multipliers=(1,)),
        training=dataclasses.replace(chosen.training, batch=16, precision="float32", checkpoint_seconds=0.0, keep=1000),
        watch=dataclasses.replace(chosen.watch, grids=0, measures=0, judge=0, pictures=4),
        sampling=dataclasses.replace(chosen.sampling, steps=2),
        conditional=conditional,
    )


def test_a_training_on_a_stream_goes_on_exactly(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("limner.data.stream._BLOCK", 32)
    monkeypatch.setattr("limner.data.opening._PART", 100)
    run, broken = tmp_path / "run", tmp_path / "broken"
    train(small(), DataConfig(shards, stream="on"), out=run, images=160, show=False)
    assert json.loads((run / "recipe.json").read_text())["source"]["stream"] == "on"
    assert json.loads((run / "recipe.json").read_text())["data"]["labels"] == ["0", "1", "2"]
    shutil.copytree(run, broken)
    for path in checkpoints(broken / "checkpoints")[4:]:
        path.unlink()
    (broken / "done.json").unlink()
    monkeypatch.chdir(tmp_path / "run")
    resume(broken, show=False)
    expected, found = (load_tensors(checkpoints(one / "checkpoints")[-1])[0] for one in (run, broken))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_when_a_source_is_streamed(shards, cache, tmp_path, make_zip, encoded, noise, monkeypatch):
    def opened(**options):
        return open_dataset(DataConfig(shards, **options), cache=cache, progress=False)

    assert opened().feed is None  # it fits
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10_000))
    assert opened().feed is None  # it lies there already
    shutil.rmtree(cache)
    data = opened()
    assert data.feed is not None  # 244 pictures of 48 bytes are more than half of it
    fixed = pinned(DataConfig(shards), data)
    assert fixed.stream == "on"
    assert from_json(DataConfig, to_json(fixed), "here") == fixed
    assert pinned(DataConfig(shards), opened(stream="off")).stream == "off"
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=40_000))
    shutil.rmtree(cache)
    assert opened().feed is None  # the archives are larger than that, the pictures are not
    with pytest.raises(UserError, match=r"only \.tar shards"):
        open_dataset(DataConfig(str(make_zip({"a.png": encoded(noise(4, 4))})), stream="on"), cache=cache)
    with pytest.raises(UserError, match="limit"):
        opened(stream="on", limit=5)
    with pytest.raises(UserError, match="stream"):
        DataConfig("x", stream="maybe")
    with pytest.raises(UserError, match="buckets or stream"):
        DataConfig("x", stream="on", buckets=3)


def test_an_index_is_made_once_and_again_when_a_shard_changes(shards, cache, make_tar, encoded, monkeypatch):
    first = stream(shards, cache, monkeypatch)
    (about,) = cache.glob("streams/*/index.json")
    stamp = about.stat().st_mtime_ns
    assert stream(shards, cache, monkeypatch).fingerprint == first.fingerprint
    assert about.stat().st_mtime_ns == stamp
    assert not list(about.parent.glob("shard-*"))
    make_tar({"1.png": encoded(picture(1)), "1.cls": b"2"}, "s-1.tar")
    assert stream(shards, cache, monkeypatch).fingerprint != first.fingerprint
