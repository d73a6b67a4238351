"""What is trained behind a codec: runs as a user makes them, and the latents that they see."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_every_recipe import BATCH, small
from untrained import resumed_without_it

import limner
from limner.contracts import ImageSpec, RefineConfig
from limner.data import Augment, Dataset
from limner.data.encoded import Moments, measured, moments
from limner.distributed import ALONE
from limner.errors import UserError
from limner.models import KLCodec
from limner.objectives import Batch
from limner.recipes import FlowMapRecipe, RefineRecipe, recipe, train
from limner.sampling import log_likelihood, resolve
from limner.training.behind import Behind, behind
from limner.training.opening import batches_of, lesson_of


@pytest.fixture(scope="module")
def codec(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("codec") / "run"
    train(small("kl-codec"), str(bars), out=out, images=2 * BATCH, show=False)
    return out


@pytest.fixture(scope="module")
def run(codec: Path, bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("latents") / "run"
    train(on(codec), str(bars), out=out, images=4 * BATCH, show=False)
    return out


def on(codec: Path, name: str = "flow") -> RefineRecipe:
    settings = small(name)
    assert isinstance(settings, RefineRecipe)
    return replace(settings, codec=str(codec))


@pytest.fixture
def pictures(bars: Path) -> Dataset:
    return limner.open_dataset(str(bars), progress=False)


def seen(
    codec: Path, pictures: Dataset, cache: Path, augment: Augment
) -> tuple[Behind, Callable[[int, int], Batch], RefineRecipe]:
    settings = replace(on(codec), augment=augment)
    made = behind(codec, pictures, augment, ALONE, cache=cache, show=False)
    return made, batches_of(settings, pictures, ALONE, labelled=True, behind=made), settings


def test_a_model_of_latents_draws_pictures_and_carries_its_codec(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "snapshot", tmp_path / "alone")
    model = limner.load(tmp_path / "alone")
    assert isinstance(model.codec, KLCodec)
    assert model.spec == ImageSpec(1, (13, 11), "L")
    assert model.codec.latent_spec(model.spec) == ImageSpec(2, (4, 3), "latents")
    assert limner.sample(model, 3).shape == (3, 13, 11, 1)
    assert limner.sample(model, 2, size=(22, 15)).shape == (2, 22, 15, 1)
    shutil.rmtree(tmp_path / "alone" / "codec")
    with pytest.raises(UserError, match="is missing; restore it"):
        limner.load(tmp_path / "alone")


def test_it_is_resumed_bit_for_bit_where_the_codec_is_gone(codec: Path, run: Path, bars: Path, tmp_path: Path) -> None:
    again = resumed_without_it(codec, on, bars, 4 * BATCH, tmp_path)
    assert (again / "snapshot/model.safetensors").read_bytes() == (run / "snapshot/model.safetensors").read_bytes()
    assert (again / "samples/final.png").read_bytes() == (run / "samples/final.png").read_bytes()


@pytest.mark.parametrize("flip", [False, True])
def test_kept_latents_are_those_of_the_pictures_at_hand(
    codec: Path, pictures: Dataset, tmp_path: Path, flip: bool
) -> None:
    kept, batches, settings = seen(codec, pictures, tmp_path, Augment(flip=flip))
    assert isinstance(kept.kept, Moments)
    assert kept.kept.mean.shape[1] == 1 + flip
    fresh = replace(kept, kept=None)
    anew = batches_of(settings, pictures, ALONE, labelled=True, behind=fresh)
    for first in (0, 96, 1000):
        ours, theirs = batches(first, 32), anew(first, 32)
        torch.testing.assert_close(ours.images, theirs.images, rtol=2e-3, atol=2e-3)
        assert ours.cond.label is not None
        assert torch.equal(ours.cond.label, theirs.cond.label)
        assert torch.equal(ours.samples, theirs.samples)
    plain = batches_of(settings, pictures, ALONE, labelled=False, behind=kept)
    assert plain(0, 4).cond.label is None


def test_each_epoch_draws_other_latents_of_the_same_moments(codec: Path, pictures: Dataset, tmp_path: Path) -> None:
    kept, batches, _ = seen(codec, pictures, tmp_path, Augment())
    assert isinstance(kept.kept, Moments)
    epochs = [pictures.batch(0, i * 96, 96)[1] for i in range(200)]
    drawn = torch.stack([batches(i * 96, 96).images[np.argsort(rows)] for i, rows in enumerate(epochs)])
    assert torch.equal(batches(96, 96).images, batches(96, 96).images)
    mean, deviation = (
        torch.from_numpy(part[:, 0].astype(np.float32)) for part in (kept.kept.mean, kept.kept.deviation)
    )
    z = (drawn.mean(0) - mean) / deviation * 200**0.5
    assert float(z.abs().max()) < 6
    torch.testing.assert_close(drawn.std(0) / deviation, torch.ones_like(mean), rtol=0, atol=0.35)


def test_they_are_encoded_once_and_measured_right(codec: Path, pictures: Dataset, tmp_path: Path) -> None:
    made, _, _ = seen(codec, pictures, tmp_path, Augment())
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert len(files) == 2
    again, _, _ = seen(codec, pictures, tmp_path, Augment())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == files
    assert again.stats == made.stats
    x = torch.from_numpy(pictures.images.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        mean, deviation = made.codec.moments(x)
    z = torch.addcmul(mean[None], deviation[None], torch.randn(400, *mean.shape))
    assert made.stats.mean == pytest.approx(mean.mean((0, 2, 3)).tolist(), abs=1e-5)
    spread = (z - z.mean((0, 1, 3, 4), keepdim=True)).square().mean().sqrt()
    assert made.stats.std == pytest.approx(float(spread), rel=0.01)
    assert measured(pictures, made.codec, torch.device("cpu")).std == pytest.approx(made.stats.std, rel=1e-5)
    flipped = moments(pictures, made.codec, mirror=True, root=tmp_path, device=torch.device("cpu"), show=False)
    with torch.no_grad():
        mirror = made.codec.moments(x.flip(3))[0]
    assert np.abs(flipped.mean[:, 1] - mirror.numpy()).max() < 1e-2


def test_a_full_disk_and_damage_are_one_line(codec: Path, pictures: Dataset, tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"latents' cache.*make room"):
            seen(codec, pictures, tmp_path, Augment())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [path for path in (tmp_path / "latents").iterdir() if path.is_dir()]
    seen(codec, pictures, tmp_path, Augment())
    (cut,) = tmp_path.rglob("mean.npy")
    cut.write_bytes(cut.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"damaged.*delete that folder"):
        seen(codec, pictures, tmp_path, Augment())


def test_other_changes_of_the_pictures_are_encoded_anew(codec: Path, pictures: Dataset, tmp_path: Path) -> None:
    made, batches, _ = seen(codec, pictures, tmp_path, Augment(crop=2))
    assert made.kept is None
    assert not list(tmp_path.rglob("*.npy"))
    assert batches(0, 8).images.shape == (8, 2, 4, 3)


def test_a_map_is_taught_on_the_latents_of_its_teacher(run: Path, codec: Path, bars: Path, tmp_path: Path) -> None:
    settings = small("consistency")
    assert isinstance(settings, FlowMapRecipe)
    train(replace(settings, teacher=str(run)), str(bars), out=tmp_path / "map", images=BATCH, show=False)
    assert limner.sample(limner.load(tmp_path / "map"), 2).shape == (2, 13, 11, 1)
    with pytest.raises(UserError, match="leave --codec out"):
        replace(settings, teacher=str(run), codec=str(codec))


def test_bounds_of_pixels_are_none_of_latents(codec: Path, bars: Path, pictures: Dataset) -> None:
    settings = on(codec, "ddpm")
    assert settings.sampling.clip
    made = behind(codec, pictures, settings.augment, ALONE, cache=None, show=False)
    lesson = lesson_of(settings, pictures, ALONE, made)
    assert isinstance(lesson.model.defaults, RefineConfig)
    assert not lesson.model.defaults.clip
    assert not lesson.model_of(lesson.model.net).defaults.clip  # type: ignore[union-attr]


def test_what_latents_cannot_be_asked(run: Path, codec: Path, bars: Path, pictures: Dataset, tmp_path: Path) -> None:
    model = limner.load(run)
    with pytest.raises(UserError, match="latents only"):
        log_likelihood(model, pictures.images[:2])
    train(on(codec, "edm"), str(bars), out=tmp_path / "other", images=BATCH, show=False)
    other = limner.load(tmp_path / "other")
    resolve(model, None, other, guidance=2.0)
    with torch.no_grad():
        next(other.codec.parameters()).add_(1.0)
    with pytest.raises(UserError, match="latents of the same codec"):
        resolve(model, None, other, guidance=2.0)


def test_a_mistaken_codec_is_one_line(codec: Path, run: Path, bars: Path, tmp_path: Path) -> None:
    def refused(source: Path, data: str, words: str) -> None:
        with pytest.raises(UserError, match=words):
            train(on(source), data, out=tmp_path / "run", images=BATCH, show=False)
        assert not (tmp_path / "run").exists()

    refused(run, str(bars), "is no codec; train one with: limner train kl-codec")
    refused(tmp_path / "nowhere", str(bars), "does not exist")
    train(small("vq-codec"), str(bars), out=tmp_path / "vq", images=BATCH, show=False)
    refused(tmp_path / "vq", str(bars), "are codes")
    np.savez(tmp_path / "wide.npz", images=np.zeros((40, 8, 9, 3), np.uint8))
    refused(codec, str(tmp_path / "wide.npz"), "13x11 L pictures, and these are 8x9 RGB; give --data.size 13 11")


def test_what_decodes_codes_takes_no_codec() -> None:
    assert not hasattr(recipe("dcgan", "tiny"), "codec")
    assert recipe("dcgan", "tiny").codec_source() == ""
