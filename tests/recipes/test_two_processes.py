"""Every recipe on two processes does what it does on one."""

from __future__ import annotations

from pathlib import Path

import doubles
import pytest
import torch
from doubles import iterate, trainer, weights
from test_every_recipe import pictures_for
from torch import Tensor

from limner.data import open_dataset
from limner.distributed import ALONE
from limner.recipes import RECIPES
from limner.tensors import load_tensors
from limner.training.checkpoint import load_checkpoint, save_checkpoint
from processes import run

Told = dict[str, dict[str, Tensor]]
#: The recipe whose weights are compared in every run of the tests; those of the others take minutes.
ONE = "flow"
ALL = tuple(sorted(RECIPES))
#: Where one iteration is looked at in every run, when layers that begin with zeros have left them; and by ``slow``.
EARLY, LATE = (0, 4), (0, 50)


def compared(bars: Path, folder: Path, starts: tuple[int, ...], ends: tuple[str, ...]) -> dict[str, tuple[Told, Told]]:
    """By recipe, what one process does from its states, and what two do from the same states: one iteration from each
    of ``starts``, and the weights at the end of the recipes ``ends``."""
    alone: dict[str, Told] = {}
    for name in ALL:
        dataset = open_dataset(str(pictures_for(name, bars)), cache=folder / "cache", progress=False)
        told = alone.setdefault(name, {})
        # In whole batches, which takes half the time: only iterations that are compared cut them.
        on_the_way = trainer(name, dataset, ALONE, parts=1)
        for start in starts:
            while on_the_way.progress.iteration < start:
                on_the_way.iterate()
            save_checkpoint(folder / name / str(start), on_the_way.state, on_the_way.progress, keep=1)
            one = trainer(name, dataset, ALONE)
            one.progress = load_checkpoint(folder / name / str(start), one.state)
            told[str(start)] = iterate(one)
            if start == 0 and name in ends:
                while not one.done:
                    one.iterate()
                told["end"] = weights(one)
    run(doubles.together, bars, folder, ALL, starts, ends, seconds=900)
    return {
        name: (told, {at: load_tensors(folder / name / f"together-{at}.safetensors")[0] for at in told})
        for name, told in alone.items()
    }


@pytest.fixture(scope="module")
def both(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Told, Told]]:
    return compared(bars, tmp_path_factory.mktemp("early"), EARLY, (ONE,))


@pytest.fixture(scope="module")
def later(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Told, Told]]:
    return compared(bars, tmp_path_factory.mktemp("late"), LATE, ALL)


@pytest.mark.parametrize("start", EARLY)
@pytest.mark.parametrize("name", ALL)
def test_one_iteration_agrees(both: dict[str, tuple[Told, Told]], name: str, start: int) -> None:
    iterations_agree(*(told[str(start)] for told in both[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_one_iteration_agrees_later(later: dict[str, tuple[Told, Told]], name: str) -> None:
    iterations_agree(*(told["50"] for told in later[name]))


def iterations_agree(alone: dict[str, Tensor], together: dict[str, Tensor]) -> None:
    """Every update's reduced gradients, what is logged, loss state and buffers, to 1e-9 of their size."""
    assert alone.keys() == together.keys()
    assert any("gradient" in key for key in alone)
    for key, value in alone.items():
        assert value.dtype == together[key].dtype
        apart = (value - together[key]).double().norm()
        assert apart <= 1e-9 * value.double().norm(), f"{key}: {apart}"


def test_weights_agree_after_a_hundred_steps(both: dict[str, tuple[Told, Told]]) -> None:
    weights_agree(*both[ONE])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ALL) - {ONE}))
def test_weights_of_others_agree_after_a_hundred_steps(later: dict[str, tuple[Told, Told]], name: str) -> None:
    weights_agree(*later[name])


def weights_agree(one: Told, two: Told) -> None:
    alone, together = one["end"], two["end"]
    assert alone.keys() == together.keys()
    for key, value in alone.items():
        torch.testing.assert_close(together[key], value, rtol=0, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
