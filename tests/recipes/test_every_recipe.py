"""One test for all recipes: whatever is added to RECIPES is held to the same promises."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from untrained import fresh

import limner
from limner.config import from_json, to_json
from limner.contracts import Codec, RefineConfig
from limner.distributed import ALONE
from limner.models import (
    CodecNetConfig,
    DalleConfig,
    DCGANConfig,
    DiTConfig,
    GPTConfig,
    KLCodecConfig,
    PaletteConfig,
    PixelCNNConfig,
    PixelCNNPPConfig,
    R3GANConfig,
    ResidualGANConfig,
    StyleGAN2Config,
    UNetConfig,
    VAEConfig,
    VARConfig,
    VQCodecConfig,
)
from limner.models.layers import Together
from limner.recipes import RECIPES, AnyRecipe, CaptionedRecipe, TokenRecipe, recipe, resume, train
from limner.tensors import load_tensors
from limner.text import TextConfig
from limner.training.captions import reading_of
from limner.training.checkpoint import checkpoints
from limner.training.config import WatchConfig
from limner.training.opening import before_it, lesson_of
from limner.training.snapshot import load

IMAGES, BATCH = 160, 16
SLOW = pytest.mark.slow
SHAPES: dict[type, dict[str, object]] = {
    UNetConfig: {"width": 16, "multipliers": (1, 2), "attention": (1,), "dropout": 0.1},
    DiTConfig: {"width": 24, "depth": 2, "heads": 2, "dropout": 0.1},
    DCGANConfig: {"width": 8, "code": 8},
    VAEConfig: {"width": 6, "code": 4, "couplings": 2},
    ResidualGANConfig: {"width": 6, "code": 8, "most": 12},
    StyleGAN2Config: {"width": 6, "code": 8, "most": 12},
    PixelCNNPPConfig: {"width": 6, "most": 12, "blocks": 1, "components": 3, "dropout": 0.1},
    PixelCNNConfig: {"width": 6, "depth": 1, "dropout": 0.1},
    GPTConfig: {"width": 16, "depth": 1, "heads": 2, "dropout": 0.1},
    VARConfig: {"width": 16, "depth": 1, "heads": 2, "dropout": 0.1},
    DalleConfig: {"width": 16, "depth": 1, "heads": 2, "dropout": 0.1, "text": TextConfig(280, 8)},
    KLCodecConfig: {"width": 6, "channels": 2},
    VQCodecConfig: {"width": 6, "channels": 2, "codes": 12},
    PaletteConfig: {"colours": 12},
    R3GANConfig: {"width": 8, "code": 8, "most": 16, "group": 4, "expansion": 2},
}
#: Of what cannot do without one.
CODECS: dict[type, CodecNetConfig] = {
    GPTConfig: VQCodecConfig(width=6, channels=2, codes=12),
    VARConfig: VQCodecConfig(width=6, channels=2, codes=12, scales=(1, 2, 4)),
    DalleConfig: VQCodecConfig(width=6, channels=2, codes=12),
}


def small(name: str, **training: object) -> AnyRecipe:
    """The recipe on a network that trains in seconds, with a dropout, whose noise resuming must repeat too."""
    chosen = recipe(name, "tiny")
    few = {"steps": 4} if isinstance(chosen.sampling, RefineConfig) else {}
    if isinstance(chosen, TokenRecipe):
        chosen = dataclasses.replace(chosen, codec=str(fresh(CODECS[type(chosen.net)])))
    return dataclasses.replace(
        chosen,
        net=dataclasses.replace(chosen.net, **SHAPES[type(chosen.net)]),
        training=dataclasses.replace(
            chosen.training, batch=BATCH, precision="float32", **{"checkpoint_seconds": 0.0, "keep": 1000} | training
        ),
        watch=dataclasses.replace(chosen.watch, grids=1, measures=0, judge=40, pictures=8),
        sampling=dataclasses.replace(chosen.sampling, **few),
    )


def pictures_for(name: str, bars: Path) -> Path:
    """Those that the recipe can learn: some need captions."""
    return bars.with_name("captioned") if isinstance(recipe(name), CaptionedRecipe) else bars


def name_of(run: Path) -> str:
    """The recipe of a run."""
    return str(json.loads((run / "recipe.json").read_text())["recipe"])


@pytest.fixture(scope="module", params=sorted(RECIPES))
def run(request: pytest.FixtureRequest, bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed, with a checkpoint at every iteration."""
    out = tmp_path_factory.mktemp(request.param) / "run"
    train(small(request.param), str(pictures_for(request.param, bars)), out=out, images=IMAGES, show=False)
    return out


def test_a_run_has_all_its_parts(run: Path) -> None:
    for part in (
        "recipe.json",
        "snapshot/config.json",
        "snapshot/model.safetensors",
        "snapshot/card.md",
        "metrics.jsonl",
        "report.html",
        "measures.json",
        "samples/final.png",
        "tensorboard",
        "data_report.json",
        "done.json",
    ):
        assert (run / part).exists(), part
    assert not list(run.rglob("*.tmp"))
    page, card = (run / "report.html").read_text(), (run / "snapshot/card.md").read_text()
    codec = isinstance(load(run).net, Codec)  # draws nothing, and is not asked whether it copies
    assert (run / "neighbours.npz").exists() != codec
    assert ("near_copies" in (run / "measures.json").read_text()) != codec
    assert ("limner reconstruct" in page) == codec
    assert ("limner sample" in page) != codec
    assert ("limner.sample" in card) != codec


@pytest.mark.parametrize("kept", [0.4, *(pytest.param(kept, marks=SLOW) for kept in (0.0, 0.1, 0.9))])
def test_resumed_equals_undisturbed_bit_for_bit(run: Path, tmp_path: Path, kept: float) -> None:
    """A kill leaves the checkpoints so far, and perhaps half of the next: that is what the resumed run finds."""
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    shutil.rmtree(broken / "snapshot")
    (broken / "done.json").unlink()
    saved = checkpoints(broken / "checkpoints")
    lost = saved[int(kept * len(saved)) :]
    assert lost
    for path in lost:
        path.unlink()
    (broken / "checkpoints" / ".000000009999.safetensors.1.tmp").write_bytes(b"half")
    with open(broken / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"images": 99, "lo')
    resume(broken, show=False)
    assert not list(broken.rglob("*.tmp"))
    last, again = (checkpoints(one / "checkpoints")[-1] for one in (run, broken))
    assert last.name == again.name
    assert json.loads((run / "done.json").read_text())["images"] == int(last.stem) <= IMAGES
    expected, found = load_tensors(last)[0], load_tensors(again)[0]
    assert expected.keys() == found.keys()
    assert {name.split(".")[0] for name in found} == {"objective", "ema", "optimizer"}
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    assert (run / "snapshot/model.safetensors").read_bytes() == (broken / "snapshot/model.safetensors").read_bytes()
    assert (run / "samples/final.png").read_bytes() == (broken / "samples/final.png").read_bytes()


def test_micro_batches_give_the_same_weights(run: Path, bars: Path, tmp_path: Path) -> None:
    """Without dropout, whose noise is drawn a batch at a time, cutting a batch only changes the order of sums, but for
    what looks at whole batches, and sees their parts."""
    name = name_of(run)
    source = str(pictures_for(name, bars))
    settings, pictures = small(name), limner.open_dataset(source, progress=False)
    before = before_it(settings.codec_source(), settings, pictures, ALONE, show=False)
    objective = lesson_of(settings, pictures, ALONE, before, reading_of(settings, pictures, ALONE)).objective
    if any(isinstance(part, Together) for part in objective.modules()):
        pytest.skip("it looks at whole batches")
    ends = []
    for parts in (1, 3):
        settings = small(name, accumulate=parts, checkpoint_seconds=60.0)
        if hasattr(settings.net, "dropout"):
            settings = dataclasses.replace(settings, net=dataclasses.replace(settings.net, dropout=0.0))
        settings = dataclasses.replace(settings, watch=WatchConfig(grids=0, judge=0))
        out = tmp_path / str(parts)
        train(settings, source, out=out, images=2 * BATCH, show=False)
        ends.append(load_tensors(checkpoints(out / "checkpoints")[-1])[0])
    for key, value in ends[0].items():
        if key.startswith("objective."):
            torch.testing.assert_close(ends[1][key], value, rtol=0, atol=2e-3)


def test_the_snapshot_draws_by_seed_whatever_the_batch(run: Path) -> None:
    model = load(run)
    if isinstance(model.net, Codec):
        with pytest.raises(limner.UserError, match="draws none of its own"):
            limner.sample(model, 9)
        return
    whole = limner.sample(model, 9, seed=2**41 + 3)
    for batch in (1, 7, 64):
        drawn = limner.sampling.sample(model, 9, seed=2**41 + 3, batch=batch)
        assert np.abs(drawn.astype(int) - whole.astype(int)).max() <= 1
    assert not np.array_equal(whole, limner.sample(model, 9, seed=3))
    assert whole.shape == (9, 13, 11, 1)
    assert model.labels == (() if model.text else ("0", "1"))


def test_settings_survive_json(run: Path) -> None:
    settings = small(name_of(run))
    assert from_json(type(settings), to_json(settings), "here") == settings


def test_without_labels(run: Path, bars: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(small(name_of(run)), conditional=False)
    if isinstance(settings, CaptionedRecipe):
        with pytest.raises(limner.UserError, match="leave --no-conditional out"):
            train(settings, str(bars), out=tmp_path / "run", images=BATCH, show=False)
        return
    train(settings, str(bars), out=tmp_path / "run", images=BATCH, show=False)
    model = load(tmp_path / "run")
    assert model.labels == ()
    if isinstance(model.net, Codec):
        return
    assert limner.sample(model, 2).shape == (2, 13, 11, 1)
    with pytest.raises(limner.UserError, match="without labels"):
        limner.sample(model, 2, label=0)
    with pytest.raises(limner.UserError, match=r"without labels|guidance is not for this model|takes no guidance"):
        limner.sample(model, 2, guidance=2.0)


@pytest.mark.parametrize("name", ["imagegpt", "flow"])
def test_what_was_always_told_the_class_is_not_guided(name: str, bars: Path, tmp_path: Path) -> None:
    settings: Any = small(name)
    assert settings.sampling.guidance > 1
    always = dataclasses.replace(settings, objective=dataclasses.replace(settings.objective, label_dropout=0.0))
    train(always, str(bars), out=tmp_path / "run", images=BATCH, show=False)
    model = load(tmp_path / "run")
    assert limner.sample(model, 2).shape == (2, 13, 11, 1)
    with pytest.raises(limner.UserError, match="was always told"):
        limner.sample(model, 2, guidance=2.0)


def test_a_recipe_of_classes_asks_for_some(bars: Path, tmp_path: Path) -> None:
    """And takes a user's word that there shall be none (test_without_labels)."""
    with np.load(bars) as content:
        np.savez(tmp_path / "none.npz", images=content["images"])
        np.savez(tmp_path / "one.npz", images=content["images"], labels=np.zeros(len(content["images"]), np.int64))
    for name, have in (("none", "none"), ("one", "one")):
        with pytest.raises(limner.UserError, match=f"these have {have}: put them into folders"):
            train(small("biggan"), str(tmp_path / f"{name}.npz"), out=tmp_path / "run", images=BATCH, show=False)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["dcgan", "stylegan2", "r3gan", "drift", "vae"])
def test_fewer_pictures_than_a_batch(name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", images=np.random.default_rng(0).integers(0, 255, (5, 9, 12, 3), dtype=np.uint8))
    result = train(small(name), str(tmp_path / "few.npz"), out=tmp_path / "run", images=2 * BATCH, show=False)
    assert limner.sample(load(result.folder), 3).shape == (3, 9, 12, 3)
