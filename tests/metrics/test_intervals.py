"""Intervals: keyed, and holding what they should about as often as they say, on Gaussians of known distance."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limner.metrics import Manifold, Moments, inception_score, kernel_distance, merged, overlap
from limner.metrics.choice import partition, resampled, shuffled
from limner.metrics.frechet import Reference
from limner.metrics.intervals import GROUPS, Interval, bootstrap, jackknife, share_of_groups, wilson

#: Trials, and the bounds on how many of these intervals hold the truth: 95 % of 120 is 114, with deviation 2.4. The
#: lower bound leaves room for a spread that is itself estimated; the upper one refuses intervals that hold always.
#: ``benchmarks/intervals.py`` counts more of them, on real pictures.
TRIALS, LEAST, MOST = 120, 105, 119


def _normal(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale + shift


def _held(score: Callable[[Tensor, int], tuple[float, Interval]], draw: Callable[[int], Tensor]) -> int:
    """How many of the intervals hold the mean of the score over samples: what it is at this count, bias included."""
    found = [score(draw(10_000 + seed), seed) for seed in range(TRIALS)]
    truth = sum(value for value, _ in found) / TRIALS
    return sum(low <= truth <= high for _, (low, high) in found)


def test_the_interval_of_the_frechet_distance_on_gaussians() -> None:
    reference = Reference.of(Moments.of(_normal(2000, 6, 1)))

    def score(x: Tensor, seed: int) -> tuple[float, Interval]:
        groups = partition(len(x), GROUPS, seed, "test")
        blocks = [Moments.of(x[groups == group]) for group in range(GROUPS)]
        value = reference.distance(merged(blocks))
        return value, jackknife(blocks, reference.distance, value)

    assert LEAST <= _held(score, lambda seed: _normal(300, 6, seed, shift=0.3, scale=1.2)) <= MOST


def test_a_bootstrap_of_pictures_would_raise_the_frechet_distance_and_the_jackknife_does_not() -> None:
    """Why the distance has no ordinary bootstrap: doubled samples count as a fault."""
    reference = Reference.of(Moments.of(_normal(4000, 12, 1)))
    x = _normal(150, 12, 2)
    value = reference.distance(Moments.of(x))
    doubled = [reference.distance(Moments.of(x[row])) for row in resampled(150, 40, 0, "test")]
    assert min(doubled) > value  # the whole "distribution" lies above the score
    groups = partition(150, GROUPS, 0, "test")
    low, high = jackknife([Moments.of(x[groups == g]) for g in range(GROUPS)], reference.distance, value)
    assert low < value < high


@pytest.mark.parametrize("shift", [0.4, pytest.param(0.0, marks=pytest.mark.slow)], ids=["apart", "same"])
def test_the_interval_of_kid(shift: float) -> None:
    real = _normal(120, 8, 1)

    def score(x: Tensor, seed: int) -> tuple[float, Interval]:
        found = kernel_distance(x, real, subsets=10, size=100, seed=seed)
        return found.mean, bootstrap(found.terms, found.mean, seed=seed, stream="kid", draws=200)

    # Where both sets are one the spread of the terms is mostly noise, and the interval too wide rather than too narrow.
    assert LEAST <= _held(score, lambda seed: _normal(150, 8, seed, shift)) <= (MOST if shift else TRIALS)


@pytest.mark.parametrize("metric", ["recall", "coverage", "density"])
def test_the_intervals_of_overlap(metric: str) -> None:
    real = Manifold.of(_normal(200, 3, 1))

    def score(x: Tensor, seed: int) -> tuple[float, Interval]:
        groups = partition(len(x), GROUPS, seed, "test")
        o = overlap(real, Manifold.of(x, origin=real.points.origin, groups=groups))
        if metric == "density":
            return o.density, bootstrap(o.inside / o.k, o.density, seed=seed, stream="density", draws=200)
        left_out = o.recall_without if metric == "recall" else o.coverage_without
        assert left_out is not None
        value = o.recall if metric == "recall" else o.coverage
        return value, share_of_groups(value, left_out, len(x))

    assert LEAST <= _held(score, lambda seed: _normal(200, 3, seed, shift=0.6, scale=0.7)) <= MOST


def test_the_interval_of_the_inception_score() -> None:
    def score(x: Tensor, seed: int) -> tuple[float, Interval]:
        found = inception_score(x)
        return found.mean, bootstrap(found.terms, found.mean, seed=seed, stream="is", draws=200)

    assert LEAST <= _held(score, lambda seed: _normal(400, 6, seed, scale=2.0)) <= MOST


def test_what_is_left_out_is_what_leaving_out_gives() -> None:
    real, fake = Manifold.of(_normal(80, 4, 1)), _normal(90, 4, 2, 0.3)
    groups = partition(90, GROUPS, 5, "test")
    o = overlap(real, Manifold.of(fake, origin=real.points.origin, groups=groups), block=999)
    assert o.recall_without is not None
    assert o.coverage_without is not None
    for group in range(GROUPS):
        rest = overlap(real, Manifold.of(fake[groups != group], origin=real.points.origin))
        assert float(o.recall_without[group]) == pytest.approx(rest.recall, abs=1e-12)
        assert float(o.coverage_without[group]) == pytest.approx(rest.coverage, abs=1e-12)


def test_groups_and_draws_are_keyed_and_touch_no_global_state() -> None:
    before = torch.get_rng_state()
    first = bootstrap(_normal(50, 1, 0)[:, 0], 0.0, seed=3, stream="x")
    torch.rand(3)
    assert bootstrap(_normal(50, 1, 0)[:, 0], 0.0, seed=3, stream="x") == first
    assert bootstrap(_normal(50, 1, 0)[:, 0], 0.0, seed=4, stream="x") != first
    assert bootstrap(_normal(50, 1, 0)[:, 0], 0.0, seed=3, stream="y") != first
    torch.set_rng_state(before)
    whole, tail = resampled(9, 20, 1, "x"), resampled(9, 5, 1, "x", first=15)
    assert torch.equal(whole[15:], tail)


@given(st.integers(10, 300), st.integers(0, 99))
def test_a_partition_is_even_and_a_shuffle_whole(count: int, seed: int) -> None:
    sizes = partition(count, GROUPS, seed, "x").bincount(minlength=GROUPS)
    assert int(sizes.max() - sizes.min()) <= 1
    assert shuffled(count, seed, "x").sort().values.tolist() == list(range(count))
    rows = resampled(count, 3, seed, "x")
    assert 0 <= int(rows.min()) <= int(rows.max()) < count


def test_draws_are_uniform() -> None:
    found = resampled(7, 20_000, 0, "x").flatten().bincount().double()
    expected = 20_000.0
    assert float(((found - expected).square() / expected).sum()) < 22.5  # chi-square, 6 degrees, once in a thousand


@given(st.floats(0, 1), st.integers(20, 5000))
def test_shares_stay_within_their_bounds(share: float, count: int) -> None:
    low, high = share_of_groups(share, torch.full((GROUPS,), share, dtype=torch.float64), count)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    # Values that spread as those of independent samples do give Wilson's own interval, with Student's quantile.
    spread = (share * (1 - share) / count / (GROUPS - 1)) ** 0.5
    left_out = share + spread * torch.tensor([1.0, -1.0] * (GROUPS // 2), dtype=torch.float64)
    if 0.01 < share < 0.99:
        assert share_of_groups(share, left_out, count) == pytest.approx(wilson(share, count, 2.262157), abs=1e-9)


@pytest.mark.parametrize("count", [7, 40, 1000, 33.3])
def test_the_ends_of_none_and_of_all_are_exact(count: float) -> None:
    assert wilson(0.0, count)[0] == 0.0
    assert wilson(1.0, count)[1] == 1.0
    assert 0 < wilson(0.0, count)[1] < 1
    assert 0 < wilson(1.0, count)[0] < 1
