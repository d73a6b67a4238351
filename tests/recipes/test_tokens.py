"""What writes the tokens of a codec: runs as a user makes them, and the tokens that they see."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_every_recipe import BATCH, name_of, small
from untrained import fresh, resumed_without_it

import limner
from limner.cli import main
from limner.contracts import ExtendConfig, ImageSpec, Tokenizer
from limner.data import Augment, Dataset
from limner.data.encoded import Tokens
from limner.distributed import ALONE
from limner.errors import UserError
from limner.models import CodecNetConfig, KLCodecConfig, PaletteConfig, VQCodecConfig
from limner.objectives import Batch
from limner.recipes import ExtendRecipe, train
from limner.sampling import complete, log_likelihood
from limner.training.behind import BehindTokens, behind
from limner.training.opening import batches_of
from limner.writing import written_of

VQ, PALETTE = VQCodecConfig(width=6, channels=2, codes=12), PaletteConfig(colours=12)
SCALES = replace(VQ, scales=(1, 2, 4))
IDS = ["vq-codec", "palette", "scales"]
SPEC = ImageSpec(1, (13, 11), "L")


def on(codec: Path, name: str = "imagegpt") -> ExtendRecipe:
    settings = small(name)
    assert isinstance(settings, ExtendRecipe)
    return replace(settings, codec=str(codec))


@pytest.fixture(scope="module", params=[(VQ, "imagegpt"), (PALETTE, "imagegpt"), (SCALES, "var")], ids=IDS)
def run(request: pytest.FixtureRequest, bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    net, name = request.param
    out = tmp_path_factory.mktemp("tokens") / "run"
    train(on(fresh(net), name), str(bars), out=out, images=4 * BATCH, show=False)
    return out


@pytest.fixture
def pictures(bars: Path) -> Dataset:
    return limner.open_dataset(str(bars), progress=False)


def seen(
    net: CodecNetConfig, pictures: Dataset, cache: Path, augment: Augment
) -> tuple[BehindTokens, Callable[[int, int], Batch], ExtendRecipe]:
    settings = replace(on(fresh(net)), augment=augment)
    made = behind(settings.codec, pictures, augment, ALONE, writes=True, cache=cache, show=False)
    assert isinstance(made, BehindTokens)
    return made, batches_of(settings, pictures, ALONE, labelled=True, behind=made), settings


def test_a_model_of_tokens_draws_pictures_and_carries_its_codec(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "snapshot", tmp_path / "alone")
    model = limner.load(tmp_path / "alone")
    assert isinstance(model.codec, Tokenizer)
    assert model.spec == SPEC
    assert sum(model.net.sites) == model.codec.token_spec(SPEC).values  # type: ignore[union-attr]
    whole = limner.sample(model, 5, seed=3)
    assert whole.shape == (5, 13, 11, 1)
    assert np.array_equal(limner.sample(model, 5, seed=3, batch=2), whole)
    assert np.array_equal(limner.sample(model, 2, first=3, label=[1, 0], seed=3), whole[3:])
    assert not np.array_equal(limner.sample(model, 5, seed=3, guidance=1000.0), whole)
    shutil.rmtree(tmp_path / "alone" / "codec")
    with pytest.raises(UserError, match="is missing; restore it"):
        limner.load(tmp_path / "alone")


def test_it_is_resumed_bit_for_bit_where_the_codec_is_gone(run: Path, bars: Path, tmp_path: Path) -> None:
    again = resumed_without_it(run / "codec", lambda gone: on(gone, name_of(run)), bars, 4 * BATCH, tmp_path)
    assert (again / "snapshot/model.safetensors").read_bytes() == (run / "snapshot/model.safetensors").read_bytes()
    assert (again / "samples/final.png").read_bytes() == (run / "samples/final.png").read_bytes()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("net", [VQ, PALETTE, SCALES], ids=IDS)
def test_kept_tokens_are_those_of_the_pictures_at_hand(
    net: CodecNetConfig, pictures: Dataset, tmp_path: Path, flip: bool
) -> None:
    made, batches, settings = seen(net, pictures, tmp_path, Augment(flip=flip))
    assert isinstance(made.kept, Tokens)
    assert made.kept.numbers.dtype == np.uint16
    assert made.kept.numbers.shape == (96, 1 + flip, made.spec.values)
    assert len(np.unique(made.kept.numbers)) > 2
    anew = batches_of(settings, pictures, ALONE, labelled=True, behind=replace(made, kept=None))
    for first in (0, 96, 1000):
        ours, theirs = batches(first, 32), anew(first, 32)
        assert torch.equal(ours.images, theirs.images)
        assert ours.cond.label is not None
        assert torch.equal(ours.cond.label, theirs.cond.label)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert len(files) == 1
    seen(net, pictures, tmp_path, Augment(flip=flip))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == files


def test_other_changes_of_the_pictures_are_encoded_anew(pictures: Dataset, tmp_path: Path) -> None:
    made, batches, _ = seen(VQ, pictures, tmp_path, Augment(crop=2))
    assert made.kept is None
    assert not list(tmp_path.rglob("*.npy"))
    assert batches(0, 8).images.shape == (8, 4 * 3)


def test_likelihoods_are_nats_a_token(
    run: Path, bars: Path, pictures: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    model = limner.load(run)
    bound = log_likelihood(model, pictures.images[:5], label=pictures.label[:5])  # type: ignore[index]
    assert bound.kind == "exact"
    assert bound.tokens == sum(model.net.sites)  # type: ignore[union-attr]
    with pytest.raises(UserError, match="nats a token, and no bits"):
        bound.bits_per_dimension(143)
    main(["likelihood", str(run), "--reference", str(bars), "-n", "10"])
    said = capsys.readouterr().out
    assert "nats a token" in said
    assert "not to be compared" in said
    main(["likelihood", str(run), "--reference", str(bars), "-n", "10", "--json"])
    values = json.loads(capsys.readouterr().out)
    assert "nats_per_token" in values
    assert "bits_per_dimension" not in values


def test_tokens_of_known_pixels_alone_are_kept(run: Path, pictures: Dataset) -> None:
    model = limner.load(run)
    assert isinstance(model.codec, Tokenizer)
    given, mask = pictures.images[:3], np.zeros((13, 11), bool)
    mask[6:9] = True
    found = complete(model, given, mask, ways=3, label=[0, 1, 0])
    touched = model.codec.touched(torch.from_numpy(mask))
    assert (found.kept, found.tokens) == (int((~touched).sum()), len(touched))
    assert 0 < found.kept < found.tokens
    assert np.array_equal(
        found.pictures[:, :, ~mask], np.broadcast_to(given[:, None], found.pictures.shape)[:, :, ~mask]
    )
    assert found.unseen > 0
    alone = complete(model, given.repeat(3, axis=0), mask, label=[0] * 3 + [1] * 3 + [0] * 3)
    assert np.array_equal(alone.pictures[:, 0], found.pictures.reshape(9, 13, 11, 1))
    whole = complete(model, given, np.ones((13, 11), bool), seed=2, label=[0, 1, 0])
    assert np.array_equal(whole.pictures[:, 0], limner.sample(model, 3, seed=2))


def test_complete_says_what_becomes_of_tokens(
    run: Path, bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["complete", str(run), "--reference", str(bars), "-n", "2", "--ways", "2", "--out", str(tmp_path / "c.png")])
    said = capsys.readouterr().out
    assert "it writes tokens" in said
    assert "put back after the codec" in said


@torch.no_grad()
def test_a_model_of_tokens_is_taught_on_what_it_is_asked_about(run: Path, pictures: Dataset) -> None:
    """The nats that a run reports are those of its likelihood."""
    model = limner.load(run)
    x = torch.from_numpy(pictures.images.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
    tokens = written_of(x, model.codec, model.spec)
    cond = limner.contracts.Condition(torch.from_numpy(pictures.label))
    told = model.net.log_prob(tokens, cond).double().sum(1)  # type: ignore[union-attr, operator]
    bound = log_likelihood(model, pictures.images, label=pictures.label)
    torch.testing.assert_close(bound.nats, told)
    assert isinstance(model.defaults, ExtendConfig)


def test_a_mistaken_codec_is_one_line(run: Path, bars: Path, tmp_path: Path) -> None:
    def refused(settings: ExtendRecipe, data: str, words: str) -> None:
        with pytest.raises(UserError, match=words):
            train(settings, data, out=tmp_path / "run", images=BATCH, show=False)
        assert not (tmp_path / "run").exists()

    refused(on(run), str(bars), "is no codec; train one with: limner train vq-codec")
    refused(on(fresh(KLCodecConfig(width=6))), str(bars), "are no codes, and what writes needs tokens")
    refused(on(fresh(VQ), "pixelcnn++"), str(bars), "writes levels.*leave --codec out")
    refused(on(fresh(VQ), "var"), str(bars), "vq-codec --net.scales 1 2")
    refused(on(fresh(SCALES), "vqgpt"), str(bars), "train var on it")
    np.savez(tmp_path / "wide.npz", images=np.zeros((40, 8, 9, 3), np.uint8))
    refused(on(fresh(VQ)), str(tmp_path / "wide.npz"), "13x11 L pictures, and these are 8x9 RGB")


@pytest.mark.parametrize("name", ["vqgpt", "var", "dalle"])
def test_what_cannot_do_without_a_codec_says_how_to_make_one(name: str, bars: Path, tmp_path: Path) -> None:
    settings = replace(on(fresh(VQ), name), codec="")
    with pytest.raises(UserError, match="train one with: limner train vq-codec --data") as said:
        train(settings, str(bars), out=tmp_path / "run", images=BATCH, show=False)
    assert "--codec runs/codec" in str(said.value)
    assert not (tmp_path / "run").exists()
