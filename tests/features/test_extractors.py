"""Extractors: transforms with known answers, networks on real data, and mistakes."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from limner.errors import UserError
from limner.features import EXTRACTORS, classify, extract, load_extractor
from limner.features.lenet import LeNet
from limner.features.wavelets import octave_weights, packets, prepared_size

MIRROR = os.environ.get("LIMNER_MIRROR")
real_data = pytest.mark.skipif(not MIRROR, reason="LIMNER_MIRROR names no folder with real pictures and weights")


def _noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _members(path: str, under: str, count: int) -> np.ndarray:
    with zipfile.ZipFile(Path(str(MIRROR)) / path) as archive:
        names = [n for n in archive.namelist() if f"{under}/" in n and n.lower().endswith((".png", ".jpg"))]
        return np.stack([np.asarray(Image.open(io.BytesIO(archive.read(n))).convert("RGB")) for n in names[:count]])


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_packets_are_orthonormal(channels: int, level: int, tall: int, wide: int, seed: int) -> None:
    x = torch.from_numpy(_noise((2, channels, tall * 2**level, wide * 2**level), seed)).double()
    p = packets(x, level)
    assert p.shape == (2, channels, 4**level, tall, wide)
    torch.testing.assert_close(p.square().sum(dim=(1, 2, 3, 4)), x.square().sum(dim=(1, 2, 3)))
    gram = p.flatten(1) @ p.flatten(1).T
    torch.testing.assert_close(gram, x.flatten(1) @ x.flatten(1).T)


def test_packets_of_known_pictures() -> None:
    flat = torch.full((1, 1, 16, 16), 0.25)
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    p = packets(torch.cat([flat, checks[None, None].float() - 0.5]))
    assert p[0, 0, :, 0, 0].nonzero().flatten().tolist() == [0]
    assert p[0, 0, 0, 0, 0] == pytest.approx(0.25 * 16)
    # Alternating pixels are the diagonal band of level 1, constant from there on: band 3 of 4, then 0, 0, 0.
    assert p[1, 0, :, 0, 0].nonzero().flatten().tolist() == [3 * 64]


def test_octaves_weigh_alike() -> None:
    weights = octave_weights()
    assert [round(40 / float(w) ** 2) for w in weights[[0, 1, 4, 16, 64, 255]]] == [1, 3, 12, 48, 192, 192]
    assert float(weights.square().sum()) == pytest.approx(5 * 40)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (17, 40, 4), (5, 9, 1), (300, 200, 3)])
def test_wavelets_take_any_picture(shape: tuple[int, int, int]) -> None:
    extractor = load_extractor("wavelets", shape=shape)
    images = _noise((7, *shape))
    features = extract(extractor, images, batch=3)
    assert features.shape == (7, extractor.dim)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, extractor(images).numpy(), rtol=1e-4, atol=1e-5)
    groups = extractor.groups(images)
    assert groups.shape[:2] == (7, 256)
    assert max(prepared_size(*shape[:2])) <= 128


def test_wavelets_do_not_see_colour_under_full_transparency() -> None:
    clear = _noise((2, 16, 16, 4))
    clear[..., 3] = 0
    extractor = load_extractor("wavelets", shape=(16, 16, 4))
    np.testing.assert_array_equal(*extractor(clear).numpy())


def test_fingerprints_tell_extractors_apart_and_stay() -> None:
    a, b = (load_extractor("wavelets", shape=s) for s in ((28, 28, 1), (64, 64, 3)))
    assert a.fingerprint == b.fingerprint
    assert a.fingerprint != load_extractor("pixels", shape=(28, 28, 1)).fingerprint


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMNER_MIRROR", raising=False)
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"not weights")
    other = tmp_path / "other.pth"
    torch.save({"convnet.c1.weight": torch.zeros(6, 1, 5, 5), "what.is": torch.zeros(3)}, other)
    pickled = tmp_path / "pickled.pth"
    torch.save(LeNet(), pickled)
    for name, message in (
        ("wavelet", "did you mean 'wavelets'"),
        ("lenet", "needs its weights"),
        (f"lenet={tmp_path / 'none.pth'}", "no weights"),
        ("lenet=~nobody-of-this-name/x.pth", "no weights"),
        ("dinov2=~nobody-of-this-name/x", "no model"),
        (f"lenet={bad}", "cannot read"),
        (f"lenet={pickled}", "cannot read"),
        (f"lenet={other}", "lacks"),
        (f"squeezenet={other}", "lacks"),
        (f"resnet-cifar={other}", "layer1"),
        (f"wavelets={other}", "has no weights"),
    ):
        with pytest.raises(UserError, match=message) as error:
            load_extractor(name, shape=(28, 28, 1))
        assert "\n" not in str(error.value)


def test_weights_that_are_damaged_or_of_another_kind(tmp_path: Path) -> None:
    packed = tmp_path / "packed.npz"
    np.savez_compressed(packed, a=np.zeros(1000))
    damaged = bytearray(packed.read_bytes())
    damaged[30 + sum(struct.unpack_from("<HH", damaged, 26))] = 0xFF  # the first block's kind
    packed.write_bytes(damaged)
    words = tmp_path / "words.npz"
    np.savez(words, a=np.array(["no weight"]))
    cut = tmp_path / "cut.safetensors"
    save_file(LeNet().state_dict(), cut)
    cut.write_bytes(cut.read_bytes()[:-100])
    for path in (packed, words, cut):
        with pytest.raises(UserError, match="cannot read the weights") as error:
            load_extractor(f"lenet={path}", shape=(28, 28, 1))
        assert "\n" not in str(error.value)


def test_weights_by_path_give_a_working_extractor(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = LeNet()
    path = tmp_path / "lenet.safetensors"
    save_file(net.state_dict(), path)
    extractor = load_extractor("lenet", path)
    images = _noise((5, 28, 28, 1))
    padded = torch.nn.functional.pad(torch.from_numpy(images).permute(0, 3, 1, 2) / 255, (2, 2, 2, 2))
    with torch.no_grad():
        torch.testing.assert_close(extractor(images), net.features(padded))
        assert classify(extractor, images).tolist() == net(padded).argmax(1).tolist()
    with pytest.raises(UserError, match=r"reads grey.*RGB"):
        extractor(_noise((2, 28, 28, 3)))


def test_pictures_of_another_shape_are_refused() -> None:
    extractor = load_extractor("pixels", shape=(8, 8, 3))
    with pytest.raises(UserError, match="set up for"):
        extract(extractor, _noise((3, 8, 9, 3)))
    with pytest.raises(UserError, match="does not name classes"):
        classify(extractor, _noise((3, 8, 8, 3)))
    networks = {"lenet", "resnet-cifar", "squeezenet", "inception", "dinov2", "clip"}
    assert set(EXTRACTORS) == {"wavelets", "pixels", *networks}


@real_data
def test_lenet_reads_digits() -> None:
    folder = Path(str(MIRROR)) / "mnist"
    count = 3000
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(16 + count * 784), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + count), np.uint8, offset=8)
    assert (classify(load_extractor("lenet"), images) == labels).mean() > 0.98


@real_data
def test_resnet_reads_objects() -> None:
    kinds = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    extractor = load_extractor("resnet-cifar")
    right = [classify(extractor, _members("cifar10/train10k.zip", kind, 20)) == i for i, kind in enumerate(kinds)]
    assert np.mean(right) > 0.98


@real_data
def test_squeezenet_knows_daisies() -> None:
    found = classify(load_extractor("squeezenet"), _members("flowers/train96.zip", "daisy", 32))
    assert (found == 985).mean() > 0.5  # "daisy" of ImageNet's 1,000
    grey = _members("flowers/train96.zip", "daisy", 2).mean(axis=3, keepdims=True).astype(np.uint8)
    extractor = load_extractor("squeezenet")
    torch.testing.assert_close(extractor(grey), extractor(np.repeat(grey, 3, axis=3)))
    clear = np.zeros((1, 20, 20, 4), np.uint8)
    torch.testing.assert_close(extractor(clear), extractor(np.full((1, 20, 20, 3), 255, np.uint8)))
