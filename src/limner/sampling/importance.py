"""Likelihood of pictures by a variational autoencoder: the importance-weighted bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limner import random
from limner.contracts import Autoencoding, Condition


@torch.no_grad()
def weighted_bound(
    net: Autoencoding, x: Tensor, cond: Condition, samples: Tensor, levels: int, *, seed: int, codes: int
) -> Tensor:
    """ln of the mean over codes of p(x, w) / q(w | x), (N,) nats: at most ln p(x) on average, and nearer to it the more
    codes there are; with one it is the evidence lower bound (Burda et al. 2016, *Importance weighted autoencoders*,
    equation 8).

    Args:
        net: the autoencoder.
        x: pictures (N, C, H, W) in [-1, 1], at their levels.
        cond: of the pictures.
        samples: (N,) their numbers, which key the noise.
        levels: that a value may have.
        seed: of the noise.
        codes: drawn for each picture.
    """
    if net.continuous:
        x = x + (random.uniform(seed, samples, "dequantize", shape=tuple(x.shape[1:])) - 0.5) * (2 / (levels - 1))
    mean, log_variance = net.posterior(x, cond)
    total = []
    for i in range(codes):
        noise = random.normal(seed, samples, "code", i, shape=(net.code,)).to(mean.dtype)
        w = mean + (0.5 * log_variance).exp() * noise
        z, log_det = net.inverse_latent(w, cond)
        prior = -0.5 * z.square().sum(1) + log_det
        posterior = -0.5 * (noise.square() + log_variance).sum(1)
        total.append(net.log_prob(x, w, cond) + prior - posterior)
    return torch.logsumexp(torch.stack(total), dim=0) - math.log(codes)
