"""What a generator is charged for beside its game."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from limner.contracts import Condition, StyleGenerator
from limner.objectives.objective import Context


def orthogonality(network: nn.Module) -> Tensor:
    """The sum of the squared products of all pairs of different rows, over all matrices and convolutions inside (Brock
    et al. 2019, equation 3)."""
    parts = [p for p in network.parameters() if p.ndim >= 2]
    total = parts[0].new_zeros(())
    for part in parts:
        rows = part.flatten(1)
        product = rows @ rows.T
        total = total + product.square().sum() - product.diagonal().square().sum()
    return total


def path_lengths(generator: StyleGenerator, z: Tensor, cond: Condition, context: Context) -> Tensor:
    """How far pictures move, in a random direction y, for a step of a style: |J^T y|, (N,) (Karras et al. 2020,
    equation 4)."""
    w = generator.latent(z, cond)[:, None].expand(-1, generator.styles, -1).requires_grad_()
    pictures = generator.synthesize(w, cond, context.noise)
    direction = context.noise("direction", tuple(pictures.shape[1:])) / math.sqrt(math.prod(pictures.shape[2:]))
    (slope,) = torch.autograd.grad((pictures * direction).sum(), w, create_graph=True)
    return slope.square().sum(2).mean(1).sqrt()


def mixed(generator: StyleGenerator, z: Tensor, cond: Condition, share: float, context: Context) -> Tensor:
    """Styles (N, styles, K) of which a ``share`` of pictures takes those of another code from a random place on (style
    mixing, Karras et al. 2019, section 3.1)."""
    one = generator.latent(z, cond)
    other = generator.latent(context.noise("other-code", tuple(z.shape[1:])), cond)
    drawn = context.uniform("mixing", (2,))
    places = torch.arange(generator.styles, device=z.device)
    first = 1 + (drawn[:, 1, None] * (generator.styles - 1)).floor()  # of the other's; at least one of each
    changed = (drawn[:, :1] < share) & (places >= first)
    return torch.where(changed[..., None], other[:, None], one[:, None])
