"""Mixed aspect ratios: sizes that suit the pictures, batches of one size, an order without state."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import limner
from limner.contracts import DataStats, ImageSpec
from limner.data import DataConfig, DataReport, Dataset, open_dataset
from limner.data.buckets import STRIDE, Buckets, assign, candidates, choose
from limner.errors import UserError
from limner.recipes import recipe, resume, train
from limner.tensors import load_tensors
from limner.training.checkpoint import checkpoints


@given(st.integers(64, 512 * 512))
def test_sizes_are_multiples_of_about_one_area(area):
    for height, width in candidates(area):
        assert height % STRIDE == width % STRIDE == 0
        assert max(height, width) <= 4 * min(height, width)
        side = min(height, width)
        assert abs(height * width - area) <= max(height, width) * STRIDE or side == STRIDE
    if area >= 48 * 48:
        ratios = [width / height for height, width in candidates(area)]
        assert min(ratios) < 0.5
        assert max(ratios) > 2


def test_the_sizes_that_pictures_have_are_chosen():
    found = Counter({(64, 64): 5, (128, 32): 9, (300, 1200): 2, (48, 80): 1})
    sizes = choose(found, 64 * 64, 3)
    assert set(sizes) == {(64, 64), (128, 32), (32, 128)}
    assert [sizes[i] for i in assign(list(found), sizes)] == [(64, 64), (128, 32), (32, 128), (64, 64)]
    assert choose(found, 64 * 64, 1) == [(128, 32)]  # the median of 17
    assert len(choose(found, 64 * 64, 64)) == 4


@given(
    st.dictionaries(
        st.tuples(st.integers(1, 3000), st.integers(1, 3000)), st.integers(1, 100), min_size=1, max_size=30
    ),
    st.integers(256, 256 * 256),
    st.integers(1, 9),
)
def test_more_sizes_never_cut_more_off(found, area, most):
    def cut(sizes):
        chosen = np.array(sizes)[assign(list(found), sizes)]
        own = np.array(list(found))
        misses = np.abs(np.log(own[:, 1] / own[:, 0]) - np.log(chosen[:, 1] / chosen[:, 0]))
        return float(misses @ np.array(list(found.values())))

    few, more = choose(Counter(found), area, most), choose(Counter(found), area, most + 1)
    assert len(few) <= most
    assert cut(more) <= cut(few) + 1e-9


def part(count, side, start):
    images = np.zeros((count, 8, side, 1), np.uint8)
    label = np.arange(start, start + count)
    report = DataReport("test", count)
    return Dataset(ImageSpec(1, (8, side), "L"), images, label, (), None, str(side), report, DataStats((0.0,), 0.5))


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 12), st.integers(0, 2**64), st.integers(1, 6)
)
def test_every_picture_is_seen_as_often_as_any_other(held, count, seed, epochs):
    parts = tuple(part(n, 8 * (i + 1), 100 * i) for i, n in enumerate(held))
    times: Counter[int] = Counter()
    batches = sum(epochs * n // count for n in held)  # of so many epochs, to the last whole batch of each part
    for number in range(batches):
        chosen, rows = Buckets(parts).batch(seed, number * count, count)
        assert len(rows) == count
        times.update(chosen.label[rows].tolist())
    for i, n in enumerate(held):
        of_part = [times[100 * i + k] for k in range(n)]
        assert sum(of_part) == epochs * n // count * count
        assert max(of_part) - min(of_part) <= 1


def test_sizes_take_turns_and_the_seed_decides_which():
    parts = (part(300, 8, 0), part(100, 16, 1000))
    turns = [[Buckets(parts).batch(seed, at * 4, 4)[0] is parts[0] for at in range(100)] for seed in (1, 1, 2)]
    assert turns[0] == turns[1] != turns[2]
    assert sum(turns[0]) == 75
    assert 20 < sum(a != b for a, b in zip(turns[0], turns[0][1:], strict=False)) < 60


def test_batches_begin_at_multiples():
    with pytest.raises(ValueError, match="multiples of 4"):
        Buckets((part(9, 8, 0),)).batch(0, 6, 4)


def read(source, cache, **options):
    return open_dataset(DataConfig(str(source), **options), cache=cache, progress=False)


@pytest.fixture
def mixed(noise, encoded, make_folder):
    """90 grey pictures in three shapes and two classes, one of them broken."""
    shapes = [(32, 32), (16, 64), (48, 24)]
    files = {}
    for i in range(90):
        height, width = shapes[i % 3]
        files[f"{'ab'[i % 2]}/{i:02d}.png"] = encoded(noise(height, width, seed=i))
    files["a/broken.png"] = b"broken"
    return make_folder(files)


def test_pictures_keep_their_shape(mixed, noise, cache):
    data = read(mixed, cache, buckets=4, size=(32, 32))
    assert data.report.used == 90
    assert data.report.skipped == (("a/broken.png", "text, not a picture"),)
    sizes = {one.spec.size: len(one) for one in data.feed.parts}
    assert sizes == {(32, 32): 30, (16, 64): 30, (48, 24): 30}
    assert all(one.labels == ("a", "b") for one in data.feed.parts)
    square = next(one for one in data.feed.parts if one.spec.size == (32, 32))
    assert {image.tobytes() for image in square.images} == {noise(32, 32, seed=i).tobytes() for i in range(0, 90, 3)}
    values = np.concatenate([one.images.reshape(-1) for one in data.feed.parts]) / 127.5 - 1
    assert data.stats.mean == pytest.approx([values.mean()], abs=1e-9)
    assert data.stats.std == pytest.approx(values.std(), rel=1e-6)
    assert any("in 3 sizes" in note for note in data.report.notes)
    assert read(mixed, cache, buckets=4, size=(32, 32)).fingerprint == data.fingerprint
    assert len(read(mixed, cache, buckets=1, size=(32, 32))) == 90
    assert read(mixed, cache, buckets=4, size=(32, 32), limit=50).report.used <= 50


def test_an_array_has_one_size(noise, tmp_path, cache):
    np.savez(tmp_path / "s.npz", images=noise(5, 4, 4))
    with pytest.raises(UserError, match="leave buckets out"):
        read(tmp_path / "s.npz", cache, buckets=3)
    with pytest.raises(UserError, match="buckets is -1"):
        DataConfig("x", buckets=-1)


def test_a_training_on_buckets_goes_on_exactly_and_draws_any_size(mixed, tmp_path):
    chosen = recipe("flow", "tiny")
    settings = dataclasses.replace(
        chosen,
        net=dataclasses.replace(chosen.net, width=16, multipliers=(1,)),
        training=dataclasses.replace(chosen.training, batch=16, precision="float32", checkpoint_seconds=0.0, keep=1000),
        watch=dataclasses.replace(chosen.watch, grids=0, measures=0, judge=40, pictures=4),
        sampling=dataclasses.replace(chosen.sampling, steps=2),
    )
    run, broken = tmp_path / "run", tmp_path / "broken"
    train(settings, DataConfig(str(mixed), buckets=4, size=(32, 32)), out=run, images=160, show=False)
    shutil.copytree(run, broken)
    for path in checkpoints(broken / "checkpoints")[4:]:
        path.unlink()
    (broken / "done.json").unlink()
    resume(broken, show=False)
    expected, found = (load_tensors(checkpoints(one / "checkpoints")[-1])[0] for one in (run, broken))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    model = limner.load(run)
    for size in ((16, 64), (48, 24), (20, 20)):
        assert limner.sample(model, 2, size=size).shape == (2, *size, 1)
    assert limner.sample(model, 2).shape[1:3] == model.spec.size
    with pytest.raises(UserError, match="height is 0"):
        limner.sample(model, 2, size=(0, 4))
