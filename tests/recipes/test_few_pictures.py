"""What is said before a training that shows few pictures again and again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_every_recipe import small

from limner.data import Augment
from limner.objectives import ADA
from limner.recipes import AdversarialRecipe, recipe, train
from limner.training.config import WatchConfig


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("flow", "--augment.crop 2"),
        ("dit", "--augment.crop 2"),
        ("consistency", "--augment.crop 2"),
        ("vae", "train flow --augment.crop 2"),
        ("drift", "train flow --augment.crop 2"),
        ("stylegan2", "--objective.augment.kind ada"),
    ],
)
def test_pictures_shown_often_come_back(name: str, told: str) -> None:
    one = recipe(name)
    (said,) = one.advice(685.0, 64)
    assert "about 685 times" in said
    assert told in said
    assert one.advice(78.0, 64) == []


def test_who_follows_it_is_not_told_again() -> None:
    assert replace(recipe("flow"), augment=Augment(crop=1)).advice(1e4, 28) == []
    gan = recipe("dcgan")
    assert isinstance(gan, AdversarialRecipe)
    (said,) = replace(gan, objective=replace(gan.objective, augment=ADA())).advice(1e4, 28)
    assert "ada" not in said
    assert recipe("kl-codec").advice(1e4, 28) == []


def test_it_is_said_before_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "few.npz", images=np.random.default_rng(0).integers(0, 255, (5, 9, 12, 1), dtype=np.uint8))
    quick = replace(small("dcgan", checkpoint_seconds=60.0), watch=WatchConfig(grids=0, judge=0))
    train(quick, str(tmp_path / "few.npz"), out=tmp_path / "run", images=5 * 210)
    said = capsys.readouterr().err.splitlines()
    at = next(i for i, line in enumerate(said) if "each picture about 210 times" in line)
    assert said[at + 1].startswith("each picture is shown about 210 times")
