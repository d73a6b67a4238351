"""Folders of runs: two trainings never meet in one, and what a kill leaves is in nobody's way."""

from __future__ import annotations

import itertools
import re
import signal
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from limner.distributed import ALONE
from limner.errors import UserError
from limner.recipes import RUNS, numbered, recipe, train
from limner.training.folders import LOCK, RECIPE, claimed, sweep, taken_up, vacant
from processes import Process


def refused(place: AbstractContextManager[object], line: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"), place:
        pass


def test_a_place_is_claimed_once(tmp_path: Path) -> None:
    first, second = tmp_path / "deep" / "run", tmp_path / "other"
    with claimed([first], ALONE) as held:
        assert held == first
        assert vacant(first), "nothing is in it but its lock"
        refused(claimed([first], ALONE), f"a training is under way in {first}; wait until it has ended")
        with claimed([first, second], ALONE) as other:
            assert other == second
    with claimed([first], ALONE) as held:
        assert held == first


def test_what_is_taken_stays_as_it_is(tmp_path: Path) -> None:
    full, file = tmp_path / "full", tmp_path / "file"
    (full / "mine").mkdir(parents=True)
    file.write_text("mine")
    for place in (full, file):
        hint = f"choose another --out, or go on with: limner train --resume {place}"
        refused(claimed([place], ALONE), f"{place} already exists; {hint}")
    with claimed([full, file, tmp_path / "free"], ALONE) as held:
        assert held == tmp_path / "free"
    assert [one.name for one in full.iterdir()] == ["mine"]
    refused(claimed([file / "run"], ALONE), f"{file / 'run'} cannot be written: Not a directory; choose another folder")


def test_runs_without_a_name_take_the_next_number(bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the other one has not written anything yet."""
    monkeypatch.chdir(tmp_path)
    plain = recipe("flow", "tiny")
    settings = replace(
        plain,
        net=replace(plain.net, width=8),
        training=replace(plain.training, batch=8, precision="float32"),
        watch=replace(plain.watch, grids=0, judge=0, pictures=1),
        sampling=replace(plain.sampling, steps=1),
    )
    with claimed(numbered("flow-bars"), ALONE) as other:
        assert other == RUNS / "flow-bars-1"
        assert train(settings, str(bars), images=8, show=False).folder == RUNS / "flow-bars-2"
        with pytest.raises(UserError, match="under way"):
            train(settings, str(bars), out=other, images=8, show=False)
    assert train(settings, str(bars), images=8, show=False).folder == other
    assert [*itertools.islice(numbered("demo", 2), 2)] == [RUNS / "demo-2", RUNS / "demo-3"]


def hold(folder: Path) -> None:
    with taken_up(folder, ALONE):
        (folder / "held").touch()
        time.sleep(60)


def test_a_killed_training_lets_go(tmp_path: Path) -> None:
    refused(taken_up(tmp_path, ALONE), f"{tmp_path} is not a run: it has no recipe.json")
    assert not [*tmp_path.iterdir()]
    (tmp_path / RECIPE).write_text("{}")
    process = Process(hold, tmp_path)
    until = time.monotonic() + 60
    while not (tmp_path / "held").exists() and time.monotonic() < until:
        time.sleep(0.01)
    refused(taken_up(tmp_path, ALONE), f"a training is under way in {tmp_path}; wait until it has ended")
    process.kill()
    assert process.end().code == -signal.SIGKILL
    with taken_up(tmp_path, ALONE):
        assert (tmp_path / LOCK).exists()


def test_halves_of_files_are_swept_away(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "mine").mkdir()
    for name in (".recipe.json.7.tmp", "part/.one.png.7.tmp", "part/one.png", "mine/.one.png.7.tmp", "mine.tmp"):
        (tmp_path / name).touch()
    sweep(tmp_path, ("", "part", "never made"))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["mine.tmp", "mine/.one.png.7.tmp", "part/one.png"]
