"""Every level of 8 and of 16 bits, into float32 and back, on every way that pictures take."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from limner.contracts import DataStats, ImageSpec
from limner.data import NO_AUGMENT, Augment, DataReport, Dataset, gather
from limner.data.levels import bits_of, to_float, with_bits
from limner.errors import UserError
from limner.features import load_extractor
from limner.sampling import to_pixels


def every_level(bits):
    """One picture (1, H, W, 1) that holds each level once."""
    side = 2 ** (bits // 2)
    return np.arange(2**bits, dtype=np.uint8 if bits == 8 else np.uint16).reshape(1, side, side, 1)


def dataset(images):
    spec = ImageSpec(images.shape[3], images.shape[1:3], "L", bits_of(images))
    return Dataset(
        spec, images, None, (), None, "0" * 64, DataReport("test", len(images)), DataStats((0.0,), 0.5), mirror_ok=True
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_every_level_survives_a_batch_and_a_sample(bits):
    pixels = every_level(bits)
    images, _ = gather(dataset(pixels), np.array([0]), augment=NO_AUGMENT, seed=0, samples=torch.arange(1))
    assert images.dtype == torch.float32
    assert float(images.min()) == -1
    assert float(images.max()) == 1
    assert images.unique().numel() == 2**bits
    exact = pixels.astype(np.float64) / (2**bits - 1) * 2 - 1
    assert np.abs(images.permute(0, 2, 3, 1).numpy() - exact).max() < 1.2e-7
    back = to_pixels(images, bits)
    assert back.dtype == pixels.dtype
    assert np.array_equal(back, pixels)


def test_sixteen_bits_are_moved_and_mirrored_whole():
    pixels = every_level(16)
    changed, _ = gather(
        dataset(pixels), np.zeros(40, np.int64), augment=Augment(flip=True), seed=3, samples=torch.arange(40)
    )
    back = to_pixels(changed, 16)
    mirrored = [np.array_equal(one, pixels[0, :, ::-1]) for one in back]
    assert [np.array_equal(one, pixels[0]) for one in back] == [not one for one in mirrored]
    assert 5 < sum(mirrored) < 35
    shifted, _ = gather(
        dataset(pixels), np.zeros(4, np.int64), augment=Augment(flip=False, crop=3), seed=3, samples=torch.arange(4)
    )
    centre = to_pixels(shifted, 16)[:, 6:-6, 6:-6]
    assert all(np.isin(one, pixels).all() for one in centre)


def test_values_beyond_the_ends_are_the_ends():
    beyond = torch.tensor([-9.0, 9.0]).reshape(1, 1, 1, 2)
    assert to_pixels(beyond, 8).ravel().tolist() == [0, 255]
    assert to_pixels(beyond, 16).ravel().tolist() == [0, 65_535]


def test_eight_bits_become_sixteen_and_back():
    levels = every_level(8)
    deep = with_bits(levels, 16)
    assert deep.dtype == np.uint16
    assert (deep.min(), deep.max()) == (0, 65_535)
    assert np.array_equal(with_bits(deep, 8), levels)
    assert np.abs(to_float(deep) - to_float(levels)).max() < 1e-7
    assert with_bits(levels, 8) is levels
    nearest = np.rint(every_level(16) / 257).astype(np.uint8)
    assert np.array_equal(with_bits(every_level(16), 8), nearest)


@pytest.mark.parametrize("name", ["pixels", "wavelets"])
def test_features_see_the_low_bits_too(name):
    rng = np.random.default_rng(0)
    eight = rng.integers(0, 255, (3, 16, 16, 1), dtype=np.uint8)
    extractor = load_extractor(name, shape=(16, 16, 1))
    seen = extractor(eight)
    torch.testing.assert_close(extractor(with_bits(eight, 16)), seen, rtol=1e-5, atol=1e-6)
    finer = with_bits(eight, 16) + rng.integers(0, 128, eight.shape, dtype=np.uint16)
    moved = extractor(finer)
    assert not torch.equal(moved, seen)
    if name == "pixels":
        expected = torch.from_numpy(finer.reshape(3, -1) / 65_535)
        torch.testing.assert_close(moved.double(), expected, rtol=0, atol=1e-7)


def test_other_depths_are_no_spec():
    with pytest.raises(UserError, match="12 bits"):
        ImageSpec(1, (4, 4), "L", 12)
