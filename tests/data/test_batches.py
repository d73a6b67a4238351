"""Data order, batches and augmentation as pure functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner import random
from limner.contracts import ImageSpec
from limner.data import NO_AUGMENT, Augment, DataReport, Dataset, gather, order
from limner.errors import UserError


def dataset(images, *, label=None, mirror_ok=False):
    channels = images.shape[3]
    spec = ImageSpec(channels, images.shape[1:3], {1: "L", 3: "RGB", 4: "RGBA"}[channels])
    labels = () if label is None else tuple("abc")
    report = DataReport("test", len(images))
    return Dataset(spec, images, label, labels, None, "0" * 64, report, 0.5, mirror_ok)


def batch(data, augment, n=None, seed=3, first=0):
    n = len(data) if n is None else n
    return gather(data, np.arange(n) % len(data), augment=augment, seed=seed, samples=torch.arange(first, first + n))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64), st.integers(0, 200), st.integers(0, 100), st.integers(1, 40), st.integers(0, 100))
def test_order_is_one_sequence_however_it_is_cut(seed, start, count, n, cut):
    whole = order(seed, start, count, n)
    cut = min(cut, count)
    assert np.array_equal(whole, np.concatenate([order(seed, start, cut, n), order(seed, start + cut, count - cut, n)]))
    assert whole.dtype == np.int64
    assert whole.shape == (count,)


def test_every_epoch_is_its_own_permutation():
    epochs = order(7, 0, 5 * 1000, 1000).reshape(5, 1000)
    assert (np.sort(epochs) == np.arange(1000)).all()
    for a in range(5):
        for b in range(a):
            assert (epochs[a] == epochs[b]).mean() < 0.01
    assert (order(8, 0, 1000, 1000) == epochs[0]).mean() < 0.01
    assert (order(7 + 2**40, 0, 1000, 1000) == epochs[0]).mean() < 0.01
    ranks = np.corrcoef(np.argsort(epochs[0]), np.arange(1000))[0, 1]
    assert abs(ranks) < 0.1


def test_order_cannot_be_changed_by_a_caller():
    first = order(1, 0, 10, 10)
    first[:] = 0
    assert sorted(order(1, 0, 10, 10)) == list(range(10))
    with pytest.raises(ValueError, match="n >= 1"):
        order(0, 0, 1, 0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_batch_is_the_pictures_on_minus_one_to_one(noise, channels):
    pixels = noise(9, 5, 7, channels)
    pixels[0], pixels[1] = 0, 255
    data = dataset(pixels, label=np.arange(9) % 3)
    images, label = gather(data, np.array([4, 0, 1]), augment=NO_AUGMENT, seed=0, samples=torch.arange(3))
    expected = pixels[[4, 0, 1]].astype(np.float64).transpose(0, 3, 1, 2) / 127.5 - 1
    assert images.shape == (3, channels, 5, 7)
    assert images.dtype == torch.float32
    assert np.abs(images.numpy() - expected).max() < 1e-6
    assert (images[1] == -1).all()
    assert (images[2] == 1).all()
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert label.tolist() == [1, 0, 1]
    back = torch.round((images + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(back, pixels[[4, 0, 1]])


FULL = Augment(flip=True, crop=2, rotate=20, colour=0.3)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "augment", [Augment(flip=True), Augment(crop=2), Augment(rotate=20), Augment(colour=0.3), FULL]
)
def test_changes_depend_on_seed_and_sample_alone(noise, augment, channels):
    data = dataset(noise(20, 8, 6, channels))
    whole, _ = batch(data, augment, first=8185)  # across the edge of a block of draws
    assert whole.is_contiguous(memory_format=torch.channels_last)
    assert whole.min() >= -1
    assert whole.max() <= 1
    for i in (0, 6, 7, 19):
        one, _ = gather(data, np.array([i]), augment=augment, seed=3, samples=torch.tensor([8185 + i]))
        assert torch.allclose(one[0], whole[i], atol=1e-6)
    other, _ = batch(data, augment, first=8185, seed=4)
    assert not torch.allclose(other, whole, atol=1e-3)
    assert not torch.allclose(batch(data, NO_AUGMENT)[0], whole, atol=1e-3)


def test_half_are_mirrored_by_the_published_draws(noise):
    data = dataset(noise(1, 4, 5, 3))
    images, _ = batch(data, Augment(flip=True), n=2000)
    plain = batch(data, NO_AUGMENT)[0][0]
    mirrored = (images == plain.flip(2)).all(dim=(1, 2, 3))
    assert ((images == plain).all(dim=(1, 2, 3)) ^ mirrored).all()
    assert torch.equal(mirrored, random.uniform(3, torch.arange(2000), "augment/flip") < 0.5)


@pytest.mark.parametrize(
    ("flip", "mirror_ok", "flips"), [(None, True, True), (None, False, False), (False, True, False)]
)
def test_flips_are_automatic_only_where_they_keep_the_meaning(noise, flip, mirror_ok, flips):
    data = dataset(noise(64, 4, 5, 3), mirror_ok=mirror_ok)
    changed = not torch.equal(batch(data, Augment(flip=flip))[0], batch(data, NO_AUGMENT)[0])
    assert changed == flips


def test_a_shift_moves_and_reflects():
    ramp = np.arange(6, dtype=np.uint8)[None, None, :, None] * np.ones((1, 6, 1, 1), np.uint8)
    images, _ = batch(dataset(ramp), Augment(crop=2), n=500)
    rows = {tuple(torch.round((image[0, 0] + 1) * 127.5).int().tolist()) for image in images}
    assert rows == {
        (2, 1, 0, 1, 2, 3),
        (1, 0, 1, 2, 3, 4),
        (0, 1, 2, 3, 4, 5),
        (1, 2, 3, 4, 5, 4),
        (2, 3, 4, 5, 4, 3),
    }


def test_a_shift_larger_than_the_picture_still_works(noise):
    images, _ = batch(dataset(noise(30, 3, 1, 1)), Augment(crop=9))
    assert images.shape == (30, 1, 3, 1)


def test_a_turn_keeps_a_disc_and_turns_a_bar():
    height, width = 33, 49
    y, x = np.mgrid[:height, :width] - np.array([16, 24])[:, None, None]
    disc = np.clip((12 - np.hypot(y, x)) * 40 + 128, 0, 255).astype(np.uint8)[None, ..., None]
    images, _ = batch(dataset(disc), Augment(rotate=180), n=50)
    plain = batch(dataset(disc), NO_AUGMENT)[0]
    inside = torch.from_numpy(np.hypot(y, x) < 16)  # further out, a turn reflects what lies in the picture
    assert (images - plain)[:, 0, inside].abs().mean() < 0.03  # a wrong aspect ratio would make it an ellipse
    bar = np.zeros((1, 33, 33, 1), np.uint8)
    bar[:, 15:18] = 255
    turned, _ = batch(dataset(bar), Augment(rotate=180), n=50)
    spread = (turned[:, 0].clamp(-1, 1) + 1).sum(2).std(1)
    assert spread.max() > 3 * spread.min()


def test_colour_keeps_alpha_and_saturation_keeps_grey(noise):
    data = dataset(noise(10, 6, 6, 4))
    images, _ = batch(data, Augment(colour=0.5))
    assert torch.equal(images[:, 3], batch(data, NO_AUGMENT)[0][:, 3])
    grey = dataset(np.repeat(noise(10, 6, 6, 1), 3, axis=3))
    images, _ = batch(grey, Augment(colour=0.5))
    assert (images - images[:, :1]).abs().max() < 1e-5


@pytest.mark.parametrize("wrong", [{"crop": -1}, {"rotate": 200}, {"colour": 2}])
def test_augmentation_out_of_range(wrong):
    with pytest.raises(UserError):
        Augment(**wrong)


def test_a_subset_is_a_view_where_it_can_be(noise):
    data = dataset(noise(20, 3, 3, 1), label=np.arange(20) % 3)
    even, odd = data.subset(range(0, 20, 2)), data.subset([5, 3, 9])
    assert np.shares_memory(even.images, data.images)
    assert np.array_equal(even.images, data.images[::2])
    assert np.array_equal(odd.images, data.images[[5, 3, 9]])
    assert odd.label.tolist() == [2, 0, 0]
    assert len(odd) == odd.report.used == 3
    assert len({data.fingerprint, even.fingerprint, odd.fingerprint}) == 3
    assert data.subset([5, 3, 9]).fingerprint == odd.fingerprint
    for wrong in ([], [20], [-1]):
        with pytest.raises(UserError):
            data.subset(wrong)
