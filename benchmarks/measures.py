"""The measures beside their peers: how far the numbers agree, and how much faster the Fréchet distance is.

    python benchmarks/measures.py [--dim 2048] [--repeats 5] [--out FILE.md]

Needs scipy, torchmetrics and prdc (the extra "dev"). Ratios are of medians; the runs alternate.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.metrics import Manifold, Moments, frechet_distance, kernel_distance, overlap


def _features(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    """Correlated features with a spectrum that falls, as those of networks do."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator) * torch.linspace(1, 0.05, d)
    mixed = x + 0.1 * x.flip(1) + shift * torch.randn(d, generator=generator)
    return mixed.clamp_min(-0.5)


class _Given(torch.nn.Module):
    """An extractor for torchmetrics: pictures that are features already."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).float()


def speed(dim: int, repeats: int) -> list[str]:
    """Seconds of the Fréchet distance from two covariances, here and by scipy's matrix square root."""
    from scipy.linalg import sqrtm

    a, b = (Moments.of(_features(dim * 3, dim, seed, 0.1)) for seed in (1, 2))
    first, second = a.covariance[0].numpy(), b.covariance[0].numpy()

    def peer() -> float:
        cross = np.trace(sqrtm(first @ second)).real
        apart = (a.mean - b.mean).square().sum()
        return float(apart + np.trace(first) + np.trace(second) - 2 * cross)

    frechet_distance(a, b)  # the first call of a process also wakes its threads
    ours_s, peer_s, ours, theirs = [], [], 0.0, 0.0
    for _ in range(repeats):
        seconds, ours = _timed(lambda: frechet_distance(a, b))
        ours_s.append(seconds)
        seconds, theirs = _timed(peer)
        peer_s.append(seconds)
    mine, other = statistics.median(ours_s), statistics.median(peer_s)
    return [
        f"| Fréchet distance at {dim} dimensions, ours over scipy.linalg.sqrtm | {other / mine:.1f} × faster "
        f"({mine:.2f} s, {other:.2f} s; {repeats} runs, {torch.get_num_threads()} threads) |",
        f"| the same, relative difference | {abs(ours / theirs - 1):.1e} |",
    ]


def agreement() -> list[str]:
    """Relative and absolute differences from torchmetrics and prdc over the same features."""
    from prdc import compute_prdc
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    generator = torch.Generator().manual_seed(0)
    a = torch.randint(0, 256, (1500, 3, 4, 4), generator=generator, dtype=torch.uint8)
    b = torch.randint(30, 220, (1500, 3, 4, 4), generator=generator, dtype=torch.uint8)
    fid = FrechetInceptionDistance(feature=_Given(48), input_img_size=(3, 4, 4)).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=_Given(48), subsets=1, subset_size=1500)
    for peer in (fid, kid):
        peer.update(a, real=True)
        peer.update(b, real=False)
    frechet = frechet_distance(Moments.of(a.flatten(1)), Moments.of(b.flatten(1)))
    kernel = kernel_distance(a.flatten(1), b.flatten(1), size=1500).mean

    real, fake = _features(2000, 84, 1), _features(1800, 84, 2, 0.05)
    side = Manifold.of(real)
    ours = overlap(side, Manifold.of(fake, origin=side.points.origin))
    theirs = compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=5)
    apart = max(abs(getattr(ours, name) - theirs[name]) for name in ("precision", "recall", "density", "coverage"))
    return [
        f"| Fréchet distance, relative difference from torchmetrics | {abs(frechet / float(fid.compute()) - 1):.1e} |",
        f"| KID on one subset of all, relative difference from torchmetrics | "
        f"{abs(kernel / float(kid.compute()[0]) - 1):.1e} |",
        f"| precision, recall, density, coverage: largest difference from prdc | {apart:.1e} |",
    ]


def manifold(count: int) -> list[str]:
    """Seconds of all four manifold measures of ``count`` real and generated features of 84 dimensions."""
    real, fake = _features(count, 84, 1), _features(count, 84, 2, 0.05)

    def run() -> float:
        side = Manifold.of(real)
        return overlap(side, Manifold.of(fake, origin=side.points.origin)).recall

    seconds, _ = _timed(run)
    return [f"| precision, recall, density, coverage of {count} × {count} × 84 | {seconds:.0f} s |"]


def _timed(run: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    value = run()
    return time.perf_counter() - start, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--manifold", type=int, default=10_000, help="samples of each side for the manifold measures")
    parser.add_argument("--out", type=Path, help="write the table here too")
    args = parser.parse_args()
    lines = ["| what | measured |", "|---|---|", *agreement(), *speed(args.dim, args.repeats), *manifold(args.manifold)]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
