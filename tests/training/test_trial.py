"""The moment of training before a run: what it finds, what it leaves alone, what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_trainer import Line, batches

from limner.contracts import Precision
from limner.training.config import TrainingConfig
from limner.training.describing import expectation, expected_images
from limner.training.trial import has_bfloat16, tried

HALF = has_bfloat16(torch.device("cpu"))


def clock(*seconds: float) -> Iterator[float]:
    """A reading before and one after each precision's second iteration, which takes so many seconds."""
    now = 0.0
    for one in seconds:
        yield now
        now += one
        yield now  # whether it is enough
        yield now  # for the pace


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_was_asked_for_is_taken(precision: Precision) -> None:
    objective, ticks = Line(), clock(0.5)
    trial = tried(objective, TrainingConfig(batch=16, precision=precision), batches, seed=1, clock=lambda: next(ticks))
    assert trial.precision == precision
    assert trial.images_per_second == 32
    assert trial.memory > 2**20
    assert float(objective.net.weight) == 0, "a trial teaches nothing"
    assert objective.net.weight.grad is None


@pytest.mark.skipif(not HALF, reason="this processor has no bfloat16")
@pytest.mark.parametrize(("half", "full", "precision"), [(1, 2, "bfloat16"), (2, 1, "float32"), (1.9, 2, "float32")])
def test_bfloat16_has_to_pay(half: float, full: float, precision: Precision) -> None:
    ticks = clock(half, full)
    trial = tried(Line(), TrainingConfig(batch=16), batches, seed=1, clock=lambda: next(ticks))
    assert trial.precision == precision
    assert trial.images_per_second == pytest.approx(16 / (half if precision == "bfloat16" else full))


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({"minutes": 5.0, "images": None}, "5 minutes show 29,000 images, each picture about 29 times"),
        ({"minutes": None, "images": 72_000}, "about 12 minutes show 72,000 images, each picture about 72 times"),
        ({"minutes": 0.1, "images": None}, "0.1 minutes show 0 images, each picture at most once"),
        ({"minutes": None, "images": 100}, "about a second show 100 images, each picture at most once"),
        ({"minutes": None, "images": 1_000}, "about 10 seconds show 1,000 images, each picture at most once"),
        ({"minutes": None, "images": 10**6}, "about 3 hours show 1,000,000 images, each picture about 1,000 times"),
    ],
)
def test_what_is_to_be_expected(budget: dict[str, Any], told: str) -> None:
    data = {"pictures": 1_000, "size": [24, 32], "mode": "RGB"}
    images = expected_images(budget, 100.0, 10.0)
    said = expectation({"recipe": "flow", "data": data, "budget": budget}, 481_233, 100.0, 3 * 2**29, images)
    assert said == (
        "flow: 481,233 parameters, 1,000 pictures of 32x24 RGB; here about 100 images/s and 1.5 GiB, so that " + told
    )
