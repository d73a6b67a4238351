"""A flow map that is distilled from a trained denoiser, matched and not: runs as a user makes them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_every_recipe import BATCH, small

import limner
from limner.errors import UserError
from limner.objectives import MatchingConfig
from limner.recipes import FlowMapRecipe, resume, train
from limner.tensors import load_tensors
from limner.training.checkpoint import checkpoints


@pytest.fixture(scope="module", params=["flow", "dit"])
def teacher(request: pytest.FixtureRequest, bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "run"
    train(small(request.param), str(bars), out=out, images=2 * BATCH, show=False)
    return out


def student(teacher: Path, pull: float = 0.3) -> FlowMapRecipe:
    settings = small("consistency")
    assert isinstance(settings, FlowMapRecipe)
    objective = replace(settings.objective, matching=MatchingConfig(pull=pull))
    return replace(settings, objective=objective, teacher=str(teacher))


def end(run: Path) -> dict[str, torch.Tensor]:
    return load_tensors(checkpoints(run / "checkpoints")[-1])[0]


def test_a_matched_map_is_trained_saved_and_resumed(teacher: Path, bars: Path, tmp_path: Path) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    train(student(teacher), str(bars), out=run, images=4 * BATCH, show=False)
    whole = end(run)
    first = load_tensors(checkpoints(run / "checkpoints")[0])[0]
    stems = [name for name in whole if name.endswith("other.net.stem.weight")]
    assert stems
    assert all(not torch.equal(first[name], whole[name]) for name in stems)
    shutil.copytree(run, again)
    shutil.rmtree(again / "snapshot")
    (again / "done.json").unlink()
    for path in checkpoints(again / "checkpoints")[2:]:
        path.unlink()
    resume(again, show=False)
    found = end(again)
    assert found.keys() == whole.keys()
    assert all(torch.equal(value, found[name]) for name, value in whole.items())
    model = limner.load(run)  # needs no teacher
    assert limner.sample(model, 3).shape == (3, 13, 11, 1)


def test_without_a_pull_there_is_no_other_denoiser(teacher: Path, bars: Path, tmp_path: Path) -> None:
    train(student(teacher, pull=0.0), str(bars), out=tmp_path / "run", images=BATCH, show=False)
    assert not [name for name in end(tmp_path / "run") if "other" in name]


def test_pictures_without_classes(bars: Path, tmp_path: Path) -> None:
    """Of a teacher that nothing guides."""
    free = replace(small("flow"), conditional=False)
    train(free, str(bars), out=tmp_path / "teacher", images=BATCH, show=False)
    taught = replace(student(tmp_path / "teacher"), conditional=False)
    train(taught, str(bars), out=tmp_path / "run", images=2 * BATCH, show=False)
    assert limner.sample(limner.load(tmp_path / "run"), 3).shape == (3, 13, 11, 1)


def test_noise_that_a_teacher_says_teaches_no_jumps(bars: Path, tmp_path: Path) -> None:
    train(small("ddpm"), str(bars), out=tmp_path / "ddpm", images=BATCH, show=False)
    with pytest.raises(UserError, match="says the noise"):
        train(student(tmp_path / "ddpm"), str(bars), out=tmp_path / "run", images=BATCH, show=False)


def test_what_cannot_teach_is_one_line(teacher: Path, bars: Path, tmp_path: Path) -> None:
    train(student(teacher, pull=0.0), str(bars), out=tmp_path / "map", images=BATCH, show=False)
    with pytest.raises(UserError, match="is no plain denoiser"):
        train(student(tmp_path / "map"), str(bars), out=tmp_path / "run", images=BATCH, show=False)
    with pytest.raises(UserError, match="give the --data and the --conditional"):
        train(replace(student(teacher), conditional=False), str(bars), out=tmp_path / "run", images=BATCH, show=False)
    with pytest.raises(UserError, match="does not exist; give a run"):
        train(student(tmp_path / "nothing"), str(bars), out=tmp_path / "run", images=BATCH, show=False)
    assert not (tmp_path / "run").exists()
