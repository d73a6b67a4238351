"""The Fréchet distance: known Gaussians, peers, properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.metrics import Moments, frechet_distance, kernel_distance, merged, mmd
from limner.metrics.intervals import jackknife


def _gaussian(mean: Tensor, covariance: Tensor) -> Moments:
    """Moments that stand for this very Gaussian."""
    return Moments(2, mean[None].double(), covariance[None].double())


def _features(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale + shift


def _covariance(d: int, rank: int, seed: int) -> Tensor:
    root = _features(d, rank, seed).double()
    return root @ root.T / rank


def test_diagonal_gaussians() -> None:
    a, b = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 4.0, 1.0])
    means = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([3.0, 1.0, -2.0])
    expected = 9 + 16 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    distance = frechet_distance(_gaussian(means[0], a.diag()), _gaussian(means[1], b.diag()))
    assert distance == pytest.approx(expected, rel=1e-12)


def test_full_covariances_that_commute() -> None:
    base = torch.linalg.qr(_features(16, 16, 0).double()).Q
    a, b = torch.linspace(0.1, 5, 16).double(), torch.linspace(3, 0.01, 16).double()
    expected = float((a.sqrt() - b.sqrt()).square().sum())
    zero = torch.zeros(16)
    distance = frechet_distance(_gaussian(zero, base @ a.diag() @ base.T), _gaussian(zero, base @ b.diag() @ base.T))
    assert distance == pytest.approx(expected, rel=1e-9)


def test_full_covariances_against_scipy() -> None:
    from scipy.linalg import sqrtm

    a, b = _covariance(24, 60, 1), _covariance(24, 40, 2)
    cross = np.trace(sqrtm((a @ b).numpy())).real
    expected = float(a.trace() + b.trace()) - 2 * cross
    zero = torch.zeros(24)
    assert frechet_distance(_gaussian(zero, a), _gaussian(zero, b)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("rank_a", "rank_b"), [(1, 1), (3, 12), (12, 3), (5, 5)])
def test_singular_covariances(rank_a: int, rank_b: int) -> None:
    """tr (A B)^½ is the nuclear norm of the product of any roots, here of thin ones."""
    roots = _features(12, rank_a, 3).double(), _features(12, rank_b, 4).double()
    a, b = (root @ root.T for root in roots)
    cross = torch.linalg.matrix_norm(roots[0].T @ roots[1], "nuc")
    expected = float(a.trace() + b.trace() - 2 * cross)
    zero = torch.zeros(12)
    # The square root of rounding, 1e-8, is what float64 leaves of singular directions.
    assert frechet_distance(_gaussian(zero, a), _gaussian(zero, b)) == pytest.approx(expected, rel=1e-6)


def test_sampled_gaussians_come_near_their_distance() -> None:
    a, b = _features(40_000, 4, 5), _features(40_000, 4, 6, shift=1.0, scale=2.0)
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(4 + 4, rel=0.02)


@given(st.integers(2, 40), st.integers(1, 8), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_properties(n: int, d: int, groups: int, seed: int) -> None:
    a = _features(n * groups, d, seed).reshape(n, groups, d)
    b = _features(n * groups, d, seed + 1000, shift=0.5, scale=1.7).reshape(n, groups, d)
    left, right = Moments.of(a), Moments.of(b)
    distance = frechet_distance(left, right)
    assert distance >= 0
    assert distance == pytest.approx(frechet_distance(right, left), rel=1e-5, abs=1e-5)
    assert frechet_distance(left, left) == pytest.approx(0, abs=1e-5)
    moved = frechet_distance(left, Moments.of(a.double() + torch.arange(d)))
    assert moved == pytest.approx(float(torch.arange(d).square().sum()), rel=1e-5, abs=1e-5)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_batches_change_nothing(sizes: list[int], seed: int) -> None:
    x = _features(sum(sizes), 5, seed, shift=1e3)
    whole, parts = Moments.of(x), merged([Moments.of(part) for part in x.split(sizes)])
    assert parts.count == whole.count == len(x)
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.covariance, whole.covariance, rtol=1e-8, atol=1e-9)
    if len(x) > 1:
        expected = np.atleast_2d(np.cov(x.double().numpy().T))
        np.testing.assert_allclose(whole.covariance[0].numpy(), expected, rtol=1e-8, atol=1e-9)


def test_groups_are_averaged() -> None:
    a, b = _features(60, 6, 1).reshape(60, 3, 2), _features(60, 6, 2).reshape(60, 3, 2)
    each = [frechet_distance(Moments.of(a[:, g]), Moments.of(b[:, g])) for g in range(3)]
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(sum(each) / 3, rel=1e-9)


def test_jackknife_of_a_mean_covers_the_truth() -> None:
    """Of 200 intervals for a mean that is 3, about 95 % hold it."""
    held = 0
    for seed in range(200):
        blocks = [Moments.of(part) for part in _features(200, 1, seed, shift=3.0).split(20)]
        value = float(merged(blocks).mean)
        low, high = jackknife(blocks, lambda m: float(m.mean), value)
        held += low <= 3.0 <= high
    assert 180 <= held <= 199


class _Flat(torch.nn.Module):
    """The custom extractor that torchmetrics is given: pixels, flattened."""

    num_features = 12

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).to(torch.float32)


def _pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(0, 256, (300, 3, 2, 2), generator=generator, dtype=torch.uint8)
    b = torch.randint(40, 200, (250, 3, 2, 2), generator=generator, dtype=torch.uint8)
    return a, b


def test_torchmetrics_agrees_on_the_frechet_distance() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    a, b = _pictures()
    peer = FrechetInceptionDistance(feature=_Flat(), normalize=False, input_img_size=(3, 2, 2))
    peer.set_dtype(torch.float64)
    peer.update(a, real=True)
    peer.update(b, real=False)
    ours = frechet_distance(Moments.of(a.flatten(1)), Moments.of(b.flatten(1)))
    assert ours == pytest.approx(float(peer.compute()), rel=1e-3)


def test_torchmetrics_agrees_on_the_kernel_distance() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    a, b = _pictures()
    b = torch.cat([b, b[:50] // 2])
    peer = KernelInceptionDistance(feature=_Flat(), subsets=1, subset_size=300)
    peer.update(a, real=True)
    peer.update(b, real=False)
    ours = kernel_distance(a.flatten(1), b.flatten(1), size=300)
    assert (ours.subsets, ours.size) == (1, 300)
    assert ours.mean == pytest.approx(float(peer.compute()[0]), rel=1e-3)


def test_kernel_distance_is_unbiased_and_keyed() -> None:
    a, b = _features(1200, 3, 1), _features(900, 3, 2)
    first = kernel_distance(a, b, subsets=20, size=200, seed=3)
    assert first == kernel_distance(a, b, subsets=20, size=200, seed=3)
    assert first != kernel_distance(a, b, subsets=20, size=200, seed=4)
    assert abs(first.mean) < 4 * first.std
    assert kernel_distance(a, b + 1, subsets=20, size=200).mean > 1
    with pytest.raises(ValueError, match="two samples"):
        kernel_distance(a[:1], b)


def test_mmd_of_two_points_by_hand() -> None:
    a, b = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [3.0]])
    within = (1 * 2 + 1) ** 3 + (0 * 3 + 1) ** 3
    across = (1 + (3 + 1) ** 3 + 1 + (6 + 1) ** 3) / 4
    assert mmd(a, b) == pytest.approx(within - 2 * across)


def test_a_part_taken_away_leaves_the_rest() -> None:
    x = _features(300, 6, 3, 50.0).reshape(300, 2, 3)
    rest = Moments.of(x).without(Moments.of(x[:70]))
    expected = Moments.of(x[70:])
    assert rest.count == 230
    torch.testing.assert_close(rest.mean, expected.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(rest.scatter, expected.scatter, rtol=1e-9, atol=1e-9)
