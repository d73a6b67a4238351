"""The Fréchet distance between two sets of features, each taken as a Gaussian (Dowson and Landau 1982).

|m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^(1/2)), in float64. The last term is the sum of the square roots of the eigenvalues
of the *symmetric* matrix Lᵀ S2 L with L Lᵀ = S1: nothing imaginary can come out, and covariances may be singular.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and covariance of features in float64, a group at a time.

    Attributes:
        count: how many samples.
        mean: (G, d).
        scatter: (G, d, d), the sum of outer products of deviations from the mean.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @staticmethod
    def of(features: Tensor) -> Moments:
        """Of features (N, d), or of G groups of features (N, G, d)."""
        grouped = features[:, None] if features.ndim == 2 else features
        x = grouped.detach().to("cpu", torch.float64).transpose(0, 1)
        mean = x.mean(dim=1)
        deviations = x - mean[:, None]
        return Moments(x.shape[1], mean, deviations.transpose(1, 2) @ deviations)

    def merge(self, other: Moments) -> Moments:
        """Those of both sets together, without loss (Chan, Golub and LeVeque 1983, equation 2.1)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        between = apart[:, :, None] * apart[:, None, :] * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    def without(self, other: Moments) -> Moments:
        """Those of the rest, ``other`` being of a part of these samples: what :meth:`merge` adds is taken away."""
        count = self.count - other.count
        apart = (other.mean - self.mean) * (self.count / count)
        between = apart[:, :, None] * apart[:, None, :] * (count * other.count / self.count)
        return Moments(count, other.mean - apart, self.scatter - other.scatter - between)

    @property
    def covariance(self) -> Tensor:
        """(G, d, d), unbiased; zero for a single sample."""
        return self.scatter / max(self.count - 1, 1)


@dataclass(frozen=True, eq=False)
class Reference:
    """Moments with a root L of each covariance, L Lᵀ = S, so that many sets can be compared with one."""

    mean: Tensor
    covariance: Tensor
    root: Tensor

    @staticmethod
    def of(moments: Moments) -> Reference:
        covariance = moments.covariance
        return Reference(moments.mean, covariance, _root(covariance))

    def distance(self, moments: Moments) -> float:
        """The mean over groups of the squared Fréchet distance."""
        covariance = moments.covariance
        inner = self.root.transpose(1, 2) @ covariance @ self.root
        # Symmetric but for rounding; the decomposition reads the lower triangle alone.
        cross = torch.linalg.eigvalsh(inner).clamp_min(0).sqrt().sum(dim=1)
        traces = _traces(self.covariance) + _traces(covariance)
        apart = (self.mean - moments.mean).square().sum(dim=1)
        # Rounding can leave a hair below zero where both sets are one.
        return float((apart + traces - 2 * cross).mean().clamp_min(0))


def merged(parts: Sequence[Moments]) -> Moments:
    """The moments of all parts together."""
    total = parts[0]
    for part in parts[1:]:
        total = total.merge(part)
    return total


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Fréchet distance between two sets of features, averaged over groups; >= 0, symmetric."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"moments of {tuple(a.mean.shape)} and {tuple(b.mean.shape)} cannot be compared")
    return Reference.of(a).distance(b)


def _traces(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2).sum(dim=1)


def _root(covariance: Tensor) -> Tensor:
    """L with L Lᵀ = S: Cholesky's, which is fast, or the eigendecomposition's where S is singular."""
    lower, info = torch.linalg.cholesky_ex(covariance)
    if not bool(info.any()):
        factor: Tensor = lower
        return factor
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp_min(0).sqrt()[:, None, :]
    return root
