"""Precision, recall, density, coverage and near copies: the peer's numbers, exact cases, properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.metrics import Manifold, Overlap, find_copies, overlap
from limner.metrics.distances import Points, nearest


def _features(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def _compare(real: Tensor, fake: Tensor, k: int = 5, block: int = 2**24) -> Overlap:
    side = Manifold.of(real, k, block=block)
    return overlap(side, Manifold.of(fake, k, origin=side.points.origin, block=block), block=block)


def _four(o: Overlap) -> tuple[float, float, float, float]:
    return o.precision, o.recall, o.density, o.coverage


@pytest.mark.parametrize(
    ("n", "m", "d", "shift", "k"), [(300, 200, 8, 0.3, 5), (150, 400, 84, 0.1, 3), (90, 90, 2, 1, 1)]
)
def test_prdc_agrees(n: int, m: int, d: int, shift: float, k: int) -> None:
    from prdc import compute_prdc

    real, fake = _features(n, d, 1), _features(m, d, 2, shift)
    peer = compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=k)
    expected = tuple(peer[name] for name in ("precision", "recall", "density", "coverage"))
    np.testing.assert_allclose(_four(_compare(real, fake, k)), expected, rtol=0, atol=1e-6)


@given(st.integers(7, 60), st.integers(7, 60), st.integers(1, 6), st.integers(1, 500), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_blocks_change_nothing_and_roles_swap(n: int, m: int, d: int, block: int, seed: int) -> None:
    real, fake = _features(n, d, seed), _features(m, d, seed + 99, 0.2)
    whole, pieces, swapped = _compare(real, fake), _compare(real, fake, block=block), _compare(fake, real)
    assert _four(whole) == _four(pieces)
    assert (whole.precision, whole.recall) == (swapped.recall, swapped.precision)


def test_sets_far_apart_and_equal_sets() -> None:
    real = _features(100, 4, 0)
    assert _four(_compare(real, _features(100, 4, 1, 1e3))) == (0, 0, 0, 0)
    same = _compare(real, real)
    assert same.precision == same.recall == same.coverage == 1.0


def test_a_lost_cluster_costs_recall_alone_and_stray_samples_precision_alone() -> None:
    real = torch.cat([_features(200, 3, 0), _features(200, 3, 1, 50.0)])
    lost = _compare(real, _features(400, 3, 2))
    assert lost.recall < 0.5
    assert lost.precision > 0.9
    stray = _compare(real, torch.cat([real + 0.01, _features(200, 3, 4, -40.0)]))
    assert stray.precision == pytest.approx(2 / 3, abs=0.02)
    assert stray.recall > 0.98


@given(st.integers(3, 40), st.integers(1, 5), st.integers(1, 100), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_nearest_equals_sorting(n: int, d: int, block: int, seed: int) -> None:
    x = _features(n, d, seed, 100.0)
    points = Points.of(x)
    distances, indices = nearest(points, points, 2, skip_self=True, block=block)
    full = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    expected = full.topk(2, largest=False)
    torch.testing.assert_close(distances, expected.values, rtol=1e-9, atol=1e-9)
    assert (indices != torch.arange(n)[:, None]).all()


def test_exact_copies_lie_at_distance_zero() -> None:
    x = _features(50, 30, 0, 1e4)
    for dtype in (torch.float64, torch.float32):
        points = Points.of(x, dtype=dtype)
        distances, indices = nearest(points, points, 1)
        assert (distances == 0).all()
        assert indices.flatten().tolist() == list(range(50))


def test_fewer_points_than_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="no 5 neighbours"):
        Manifold.of(_features(5, 2, 0))
    with pytest.raises(ValueError, match="cannot be compared"):
        overlap(Manifold.of(_features(9, 2, 0), 3), Manifold.of(_features(9, 2, 1), 4))


def test_planted_copies_are_found_and_nothing_else() -> None:
    side = 8
    training = torch.rand(400, side * side, generator=torch.Generator().manual_seed(0))
    new = torch.rand(60, side * side, generator=torch.Generator().manual_seed(1))
    plain = training[:20] + 0.02 * _features(20, side * side, 2)
    flipped = training[20:40].reshape(-1, side, side).flip(2).reshape(20, -1)
    samples = torch.cat([plain, flipped, new])
    mirrored = samples.reshape(-1, side, side).flip(2).reshape(len(samples), -1)
    found = find_copies(samples, mirrored, Points.of(training, dtype=torch.float32))
    assert found.near.tolist() == [True] * 40 + [False] * 60
    assert found.index[:40].tolist() == list(range(40))
    assert found.mirrored[:40].tolist() == [False] * 20 + [True] * 20
    assert found.share == pytest.approx(0.4)


def test_the_view_with_the_smaller_ratio_counts_and_not_the_nearer_one() -> None:
    """As it is, a sample lies among many pictures; its mirror image is farther from all, and a copy of one."""
    crowd = torch.zeros(60, 4) + 0.01 * torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    alone = torch.tensor([[10.0, 0, 0, 0]])
    training = Points.of(torch.cat([crowd, alone]), dtype=torch.float32)
    found = find_copies(torch.full((1, 4), 0.5), torch.tensor([[10.0, 1.2, 0, 0]]), training)
    assert (found.near.item(), found.mirrored.item(), found.index.item()) == (True, True, 60)
    assert found.neighbours.shape == found.distances.shape == (1, 4)
    assert found.distances[0, 0].item() == pytest.approx(1.2, rel=1e-4)
    assert (found.distances.diff(dim=1) >= 0).all()


def test_copies_of_a_set_of_doubles() -> None:
    training = torch.ones(60, 4)
    found = find_copies(torch.ones(3, 4), torch.ones(3, 4), Points.of(training, dtype=torch.float32))
    assert found.near.all()
