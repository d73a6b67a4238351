"""The evidence lower bound: the objective of variational autoencoders (Kingma and Welling 2014, equation 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from limner.contracts import Autoencoding, Condition
from limner.errors import within
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers


@dataclass(frozen=True)
class ELBOConfig:
    """What is weighed.

    Attributes:
        beta: weight of the codes' part (Higgins et al. 2017); the bound is that of 1.
        free_bits: bits that each number of a code may tell for nothing (Kingma et al. 2016, appendix C.8; of each
            picture and not of a batch's mean, which would depend on how the batch is cut).
    """

    beta: float = 1.0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        within("objective.beta", self.beta, 0, 1000)
        within("objective.free-bits", self.free_bits, 0, 100)


class ELBO(Objective):
    """A picture through a code drawn from its posterior.

    Logged, all in bits a dimension of the picture but the last: "loss", "bound" (with beta 1, without free bits),
    "pictures" (given their codes), "codes" (given the prior), and "active", the share of a code's numbers that tell
    more than a hundredth of a bit beyond a normal distribution.
    """

    ema = ("generator",)

    def __init__(self, generator: Autoencoding, config: ELBOConfig, optimizer: OptimizerConfig, levels: int) -> None:
        super().__init__()
        self.generator, self.config, self.optimizer, self.levels = generator, config, optimizer, levels

    def optimizers(self) -> Optimizers:
        return self.optimizer.build("generator", self.generator)

    def updates(self) -> list[Update]:
        return [Update("elbo", optimizers=tuple(self.optimizers()), params=("generator",), loss=self.loss)]

    def loss(self, batch: Batch, context: Context) -> Losses:
        x, net = batch.images, self.generator
        if net.continuous:
            x = x + (context.uniform("dequantize", tuple(x.shape[1:])) - 0.5) * (2 / (self.levels - 1))
        mean, log_variance = net.posterior(x, batch.cond)
        w = mean + (0.5 * log_variance).exp() * context.noise("code", (net.code,))
        pictures = -net.log_prob(x, w, batch.cond).mean()
        each = self.told(mean, log_variance, w, batch.cond)
        codes = each.sum(1).mean()
        free = self.config.free_bits * math.log(2)
        charged = each.clamp_min(free).sum(1).mean() if free else codes
        unit = 1 / (x[0].numel() * math.log(2))
        return {
            "loss": (pictures + self.config.beta * charged) * unit,
            "bound": ((pictures + codes) * unit).detach(),
            "pictures": (pictures * unit).detach(),
            "codes": (codes * unit).detach(),
            "active": (divergence(mean, log_variance) > 0.01 * math.log(2)).to(x.dtype).mean().detach(),
        }

    def told(self, mean: Tensor, log_variance: Tensor, w: Tensor, cond: Condition) -> Tensor:
        """What a code from this posterior tells beyond the prior, in nats of each number, (N, code): on average over
        the posterior where codes are normal, otherwise of w, drawn from it, and of the entropy on average."""
        z, log_det = self.generator.inverse_latent(w, cond)
        if z is w:
            return divergence(mean, log_variance)
        return 0.5 * (z.square() - 1 - log_variance) - log_det[:, None] / self.generator.code


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of each number, in nats (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
