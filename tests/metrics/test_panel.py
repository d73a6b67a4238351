"""The panel: sentences where measures contradict each other, and silence where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from limner.features import Extractor, Images
from limner.metrics import METRICS, Receipt, Score, better, disagreements, evaluate, remarks
from limner.metrics.measures import LABEL_ACCURACY, way
from limner.metrics.per_class import WITHIN
from limner.training.report_tables import meaning

_RECEIPT = Receipt("wavelets", "0" * 12, "none", 1000, 1000, "1" * 64, 0, "95 %")


def _score(metric: str, value: float, half: float) -> Score:
    return Score(metric, f"{metric}_wavelets_1k", value, value - half, value + half, _RECEIPT)


def _scores(**changed: float) -> dict[str, Score]:
    values = {"fd": 1.2, "kid": 0.01, "precision": 0.93, "recall": 0.94, "density": 1.0, "coverage": 0.95,
              "originality": 0.004} | changed  # fmt: skip
    halves = {"fd": 0.1, "kid": 0.003, "originality": 0.003}
    return {metric: _score(metric, value, halves.get(metric, 0.02)) for metric, value in values.items()}


REAL = _scores(fd=0.5, kid=0.005)


def test_a_sound_generator_is_left_in_peace() -> None:
    assert remarks(_scores(), REAL) == ()
    assert remarks(REAL, REAL) == ()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"recall": 0.4}, ["fd_wavelets_1k (1.2, real 0.5) is near", "recall_wavelets_1k (0.4", "dropped modes"]),
        ({"coverage": 0.5, "recall": 0.3}, ["recall_wavelets_1k (0.3", "coverage_wavelets_1k (0.5", "are not"]),
        ({"fd": 50, "kid": 2, "recall": 0.4}, ["precision_wavelets_1k (0.93", "recall_wavelets_1k", "dropped modes"]),
        ({"precision": 0.3}, ["many single samples look like no real picture"]),
        ({"originality": 0.3}, ["30.0% of the samples are near copies", "0.4%", "fd_wavelets_1k rewards copying"]),
        ({"fd": 50, "kid": 2, "originality": 0.3}, ["repeats what it was trained on"]),
        ({"fd": 50, "kid": 2, "precision": 0.5, "density": 1.4, "coverage": 0.5}, ["the most typical pictures"]),
        ({"kid": 0.9}, ["trust neither alone"]),
        ({"fd": 90}, ["kid_wavelets_1k (0.01, real 0.005) is near", "fd_wavelets_1k (90", "trust neither alone"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_contradictions_are_told(changed: dict[str, float], says: list[str]) -> None:
    (told,) = remarks(_scores(**changed), REAL)
    for words in says:
        assert words in told
    assert not told.endswith(".")


def test_what_may_be_chance_is_not_told() -> None:
    unsure = _scores(recall=0.4) | {"recall": replace(_score("recall", 0.4, 0.02), high=0.99)}
    assert remarks(unsure, REAL) == ()
    assert remarks(_scores(originality=0.3), {}) == ()
    assert remarks(_scores(recall=0.1), {"originality": REAL["originality"]}) == ()


def test_distances_of_different_counts_are_never_near() -> None:
    scores = _scores(kid=2, precision=0.3)
    assert any("fd_wavelets_1k (1.2, real 0.5) is near" in said for said in remarks(scores, REAL))
    fewer = {metric: replace(score, receipt=replace(_RECEIPT, n=200)) for metric, score in REAL.items()}
    assert remarks(scores, fewer) == ()
    assert any("kid_wavelets_1k (0.01" in said for said in remarks(_scores(precision=0.3), fewer))


def test_all_is_bad_is_no_contradiction() -> None:
    bad = _scores(fd=90, kid=3, precision=0.1, recall=0.1, density=0.1, coverage=0.1)
    assert remarks(bad, REAL) == ()


def test_better_needs_intervals_that_are_apart_and_knows_the_way() -> None:
    low, high = _score("fd", 1, 0.4), _score("fd", 2, 0.4)
    assert (better(low, high), better(high, low)) == (1, -1)
    assert better(low, _score("fd", 1.7, 0.4)) == 0
    assert better(_score("recall", 0.9, 0.01), _score("recall", 0.5, 0.01)) == 1


def test_generators_that_are_ranked_differently() -> None:
    a = [_score("fd", 1, 0.1), _score("recall", 0.5, 0.02), _score("coverage", 0.8, 0.1)]
    b = [_score("fd", 2, 0.1), _score("recall", 0.9, 0.02), _score("coverage", 0.8, 0.1)]
    (told,) = disagreements({"one": a, "two": b})
    assert told.startswith("fd_wavelets_1k prefers one to two, and recall_wavelets_1k prefers two to one")
    assert "coverage" not in told
    assert disagreements({"one": a, "same": a}) == ()
    assert disagreements({"one": a[:1], "two": b[:1]}) == ()
    other = replace(_score("fd", 9, 0.1), name="fd_lenet_1k"), replace(_score("fd", 3, 0.1), name="fd_lenet_1k")
    (told,) = disagreements({"one": [a[0], other[0]], "two": [b[0], other[1]]})
    assert "fd_lenet_1k prefers two to one" in told


def _plane(images: Images) -> torch.Tensor:
    """Pictures of 4×4 pixels that mean a place: their first two pixels."""
    return torch.from_numpy(np.ascontiguousarray(images)).float().flatten(1)[:, :2]


_PLANE = Extractor("plane", 2, "0" * 12, "none", (1,), _plane)


def _ring(n: int, kinds: list[int], seed: int) -> np.ndarray:
    """Places about some of eight points on a circle."""
    rng = np.random.default_rng(seed)
    turn = np.pi / 4 * rng.choice(kinds, n)
    images = rng.integers(0, 256, (n, 4, 4, 1))
    images[:, 0, :2, 0] = 128 + 90 * np.stack([np.cos(turn), np.sin(turn)], 1) + rng.normal(0, 4, (n, 2))
    return images.clip(0, 255).astype(np.uint8)


def test_dropped_modes_that_the_frechet_distance_cannot_see_are_told() -> None:
    """Four of eight kinds, with the mean and covariance of all eight: by the distance alone it is as good as real."""
    real = _ring(2500, list(range(8)), 1)
    metrics = ("fd", "precision", "recall", "coverage")
    half = evaluate(_ring(500, [0, 2, 4, 6], 2), real, extractor=_PLANE, metrics=metrics, baseline=True)
    assert any("dropped modes" in said for said in half.remarks)
    assert half.to_dict()["remarks"] == list(half.remarks)
    whole = evaluate(_ring(500, list(range(8)), 3), real, extractor=_PLANE, metrics=metrics, baseline=True)
    assert whole.remarks == ()


def test_a_photocopier_is_told_from_a_generator() -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (1000, 8, 8, 1), dtype=np.uint8)
    metrics = ("fd", "recall", "originality")
    copied = evaluate(real[:200], real, metrics=metrics, baseline=True)
    assert any("repeats what it was trained on; fd_wavelets_200 rewards copying" in said for said in copied.remarks)
    new = evaluate(rng.integers(0, 256, (200, 8, 8, 1), dtype=np.uint8), real, metrics=metrics, baseline=True)
    assert new.remarks == ()


def test_every_measure_says_which_way_is_good_and_density_ranks_nobody() -> None:
    for name in (*METRICS, *(f"class_{name}" for name in WITHIN), LABEL_ACCURACY):
        assert way(name) in ("lower", "higher")
        start = METRICS[name].label or name if name in METRICS else name
        assert meaning(f"{start}_wavelets_2k").endswith(".")
    assert meaning("fid_inception_10k") != meaning("fd_inception_10k")
    assert better(_score("density", 1.4, 0.1), _score("density", 0.9, 0.1)) == 0
    assert better(_score("class_density", 1.4, 0.1), _score("class_density", 0.9, 0.1)) == 0
    assert better(_score("class_coverage", 0.9, 0.01), _score("class_coverage", 0.5, 0.01)) == 1
