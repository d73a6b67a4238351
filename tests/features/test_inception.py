"""Inception-v3 of 2015: its layout as published, its resize by hand, its files, its mistakes. Weights are random."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from limner.errors import UserError
from limner.features import Extractor, classify, extract, load_extractor, scores
from limner.features import weights as files
from limner.features.inception import Inception, average, tf_resize
from limner.metrics import Moments, evaluate


def _noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def net() -> Inception:
    torch.manual_seed(0)
    made = Inception().eval().requires_grad_(False)
    for name, buffer in made.named_buffers():  # statistics that a normaliser shows
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return made


@pytest.fixture(scope="module")
def file(net: Inception, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def extractor(file: Path) -> Extractor:
    return load_extractor(f"inception={file}")


def test_the_published_names_and_shapes(net: Inception) -> None:
    state = {name: tuple(t.shape) for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert len(state) == 94 * 5 + 2  # each convolution with its normaliser's four tensors, and the classifier
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_5d.branch3x3dbl_3.bn.bias": (96,),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6c.branch7x7_3.conv.weight": (192, 160, 7, 1),
        "Mixed_6e.branch7x7dbl_4.conv.weight": (192, 192, 7, 1),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch1x1.conv.weight": (320, 2048, 1, 1),
        "fc.weight": (1008, 2048),
        "fc.bias": (1008,),
    }.items():
        assert state[name] == shape
    # Without its classifier the network has 21,785,568 parameters, in every library.
    assert sum(p.numel() for p in net.parameters()) == 21_785_568 + 1008 * 2049


def test_sizes_along_the_way(net: Inception) -> None:
    seen: dict[str, tuple[int, ...]] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, tuple(out.shape[1:])))
        for name, module in net.named_children()
        if name != "fc"
    ]
    assert net.features(torch.zeros(1, 3, 299, 299)).shape == (1, 2048)
    for hook in hooks:
        hook.remove()
    assert seen["Conv2d_1a_3x3"] == (32, 149, 149)
    assert seen["Conv2d_2b_3x3"] == (64, 147, 147)
    assert seen["Conv2d_4a_3x3"] == (192, 71, 71)
    assert [seen[f"Mixed_5{x}"] for x in "bcd"] == [(256, 35, 35), (288, 35, 35), (288, 35, 35)]
    assert {seen[f"Mixed_6{x}"] for x in "abcde"} == {(768, 17, 17)}
    assert [seen[f"Mixed_7{x}"] for x in "abc"] == [(1280, 8, 8), (2048, 8, 8), (2048, 8, 8)]


def test_averages_leave_the_padding_out_and_the_last_block_takes_the_maximum(net: Inception) -> None:
    assert torch.equal(average(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 4, 4))
    for name, channels, side, pool in (
        ("Mixed_5b", 192, 9, average),
        ("Mixed_6b", 768, 9, average),
        ("Mixed_7b", 1280, 8, average),
        ("Mixed_7c", 2048, 8, lambda x: F.max_pool2d(x, 3, 1, 1)),
    ):
        x = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(1))
        block = net.get_submodule(name)
        pooled = net.get_submodule(f"{name}.branch_pool")(pool(x))
        torch.testing.assert_close(block(x)[:, -pooled.shape[1] :], pooled)


def test_the_forks_of_the_last_blocks_are_joined_in_order(net: Inception) -> None:
    x = torch.randn(1, 1280, 8, 8, generator=torch.Generator().manual_seed(2))
    part = net.get_submodule("Mixed_7b")
    one = part.branch3x3_1(x)
    expected = [part.branch1x1(x), part.branch3x3_2a(one), part.branch3x3_2b(one)]
    torch.testing.assert_close(part(x)[:, : 320 + 2 * 384], torch.cat(expected, dim=1))


def _by_formula(picture: np.ndarray, size: int) -> np.ndarray:
    """TensorFlow 1's legacy bilinear resize, pixel by pixel, from its definition: source = place * scale."""
    height, width = picture.shape
    down, across = (np.float32(np.float32(side) / np.float32(size)) for side in (height, width))
    out = np.empty((size, size), np.float32)
    for i in range(size):
        y = np.float32(i) * down
        top, dy = int(y), np.float32(y - np.float32(int(y)))
        bottom = min(top + 1, height - 1)
        for j in range(size):
            x = np.float32(j) * across
            left, dx = int(x), np.float32(x - np.float32(int(x)))
            right = min(left + 1, width - 1)
            above = picture[top, left] + (picture[top, right] - picture[top, left]) * dx
            below = picture[bottom, left] + (picture[bottom, right] - picture[bottom, left]) * dx
            out[i, j] = above + (below - above) * dy
    return out


@pytest.mark.parametrize(("height", "width", "size"), [(2, 2, 4), (28, 28, 61), (32, 20, 75), (90, 130, 60), (7, 1, 9)])
def test_the_resize_is_tensorflows_bit_for_bit(height: int, width: int, size: int) -> None:
    picture = _noise((height, width), 3).astype(np.float32)
    found = tf_resize(torch.from_numpy(picture)[None, None], size)[0, 0].numpy()
    np.testing.assert_array_equal(found, _by_formula(picture, size))


def test_the_resize_of_known_pictures() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]])[None, None]
    expected = [[0, 0.5, 1, 1], [1, 1.5, 2, 2], [2, 2.5, 3, 3], [2, 2.5, 3, 3]]
    assert tf_resize(x, 4)[0, 0].tolist() == expected
    same = torch.rand(2, 3, 299, 299)
    assert torch.equal(tf_resize(same, 299), same)
    # Nothing is smoothed: of a shrunk picture every other pixel is never looked at.
    assert torch.equal(tf_resize(same, 13), same[:, :, ::23, ::23])


def test_features_are_those_of_the_scaled_picture(net: Inception, extractor: Extractor) -> None:
    images = _noise((2, 40, 30, 3))
    x = (tf_resize(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 299) - 128) / 128
    features = net.features(x)
    torch.testing.assert_close(extractor(images), features, rtol=1e-4, atol=1e-5)
    logits = torch.from_numpy(scores(extractor, images))
    torch.testing.assert_close(logits, features @ net.fc.weight.T, rtol=1e-4, atol=1e-5)
    assert classify(extractor, images).tolist() == logits.argmax(1).tolist()
    assert (extractor.dim, logits.shape) == (2048, (2, 1008))


def test_statistics_do_not_depend_on_batches(extractor: Extractor) -> None:
    images = _noise((3, 24, 24, 3), 1)
    features = torch.from_numpy(extract(extractor, images, batch=2))
    torch.testing.assert_close(features, extractor(images), rtol=1e-4, atol=1e-5)
    moments = Moments.of(features)
    np.testing.assert_allclose(moments.covariance[0], np.cov(features.double().numpy().T), rtol=1e-6, atol=1e-12)


def test_grey_is_repeated_and_alpha_composited_on_white(extractor: Extractor) -> None:
    grey = _noise((1, 16, 16, 1))
    torch.testing.assert_close(extractor(grey), extractor(np.repeat(grey, 3, axis=3)))
    clear = _noise((1, 16, 16, 4))
    clear[..., 3] = 0
    torch.testing.assert_close(extractor(clear), extractor(np.full((1, 16, 16, 3), 255, np.uint8)))
    clear[..., 3] = 255
    torch.testing.assert_close(extractor(clear), extractor(np.ascontiguousarray(clear[..., :3])))


def test_both_kinds_of_file_are_one_network(net: Inception, extractor: Extractor, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    # As the published file has it: no count of batches.
    save_file({k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}, path)
    other = load_extractor(f"inception={path}")
    assert other.fingerprint == extractor.fingerprint
    images = _noise((1, 8, 8, 3))
    torch.testing.assert_close(other(images), extractor(images))


def test_scores_have_their_published_names_and_the_receipt_its_resize(extractor: Extractor) -> None:
    # Names do not depend on what is seen, and looking takes seconds: pixels stand for features here.
    quick = replace(extractor, forward=lambda images: torch.from_numpy(images.reshape(-1, 2048) / 255.0).float())
    images, real = _noise((20, 32, 64, 1)), _noise((20, 32, 64, 1), 1)
    report = evaluate(images, real, extractor=quick, metrics=("inception_score",))
    (name, score), *more = report.scores.items()
    assert (name, more) == ("inception_score_20", [])
    assert 1 <= score.value <= 1008
    assert "TensorFlow 1 bilinear 299x299" in str(score.receipt)
    assert extractor.published["fd"] == "fid_inception"
    # These weights are random: a reader of "fid" must be told.
    assert any("not the published file" in note for note in report.notes)


@pytest.mark.slow
def test_a_frechet_distance_over_it_is_called_fid(extractor: Extractor) -> None:
    report = evaluate(_noise((24, 8, 8, 3)), _noise((30, 8, 8, 3), 1), extractor=extractor, metrics=("fd",))
    (score,) = report.scores.values()
    assert score.name == "fid_inception_24"
    assert 0 < score.low <= score.value <= score.high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("Mixed_6b.branch1x1.conv.weight"), "lacks Mixed_6b.branch1x1.conv.weight"),
        (lambda s: s.update({"AuxLogits.fc.bias": torch.zeros(3)}), "unknown AuxLogits.fc.bias"),
        (lambda s: s.update({"fc.weight": torch.zeros(1000, 2048)}), "other shapes for fc.weight"),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_foreign_weights_are_refused_by_name(net: Inception, tmp_path: Path, change: object, message: str) -> None:
    state = dict(net.state_dict())
    change(state)  # type: ignore[operator]
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(UserError, match=message) as error:
        load_extractor(f"inception={path}")
    assert "\n" not in str(error.value)


def test_what_would_run_code_is_refused(net: Inception, tmp_path: Path) -> None:
    path = tmp_path / "pickled.pth"
    torch.save(torch.nn.Sequential(torch.nn.Linear(1, 1)), path)
    with pytest.raises(UserError, match="cannot read"):
        load_extractor(f"inception={path}")


def test_a_download_is_checked_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMNER_MIRROR", raising=False)
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path))
    content = b"weights"
    row = files.Published("https://127.0.0.1:9/inception.pth", hashlib.sha256(content).hexdigest(), len(content))
    monkeypatch.setitem(files.PUBLISHED, "inception", row)
    with pytest.raises(UserError, match=r"127\.0\.0\.1.*cannot be downloaded"):
        files.find("inception", None)
    kept = tmp_path / "downloads" / "weights" / "inception.pth"
    assert not list(kept.parent.iterdir())
    kept.write_bytes(content)
    assert files.find("inception", None) == kept
    kept.write_bytes(b"damaged")
    with pytest.raises(UserError, match="not the file it should be"):
        files.find("inception", None)


def test_the_published_file_is_named_in_full() -> None:
    row = files.PUBLISHED["inception"]
    assert row.url.startswith("https://")
    # The file's name ends in the beginning of its checksum.
    assert row.url.endswith(f"-{row.sha256[:8]}.pth")
    assert len(row.sha256) == 64
