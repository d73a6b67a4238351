"""Adversarial training: a generator against a critic (Goodfellow et al. 2014)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Condition, Generator
from limner.errors import within
from limner.models import Critic
from limner.models.layers import BatchNorm
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers
from limner.objectives.penalties import Judged, NoPenalty, Penalty

Game = Literal["non-saturating", "hinge", "wasserstein", "relativistic"]
#: Codes that batch norms are measured with for the averaged generator: batches, and how many in each.
_SETTLING, _TOGETHER = 8, 128


@dataclass(frozen=True)
class Losing:
    """What the players lose, from the scores of as many real pictures as made ones, (N,) each.

    Attributes:
        critic: (real, made) to its loss of each pair.
        generator: (real, made) to its loss of each pair.
        both: whether the generator's loss looks at real pictures too.
        centred: whether the critic means 0 by a picture that may be either.
    """

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    both: bool = False
    centred: bool = True


GAMES: dict[Game, Losing] = {
    # Goodfellow et al. 2014, section 3.
    "non-saturating": Losing(
        lambda real, made: F.softplus(-real) + F.softplus(made),
        lambda real, made: F.softplus(-made),
    ),
    # Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17.
    "hinge": Losing(lambda real, made: F.relu(1 - real) + F.relu(1 + made), lambda real, made: -made),
    # Arjovsky et al. 2017, algorithm 1.
    "wasserstein": Losing(lambda real, made: made - real, lambda real, made: -made, centred=False),
    # Jolicoeur-Martineau 2018; Huang et al. 2024, equation 3.
    "relativistic": Losing(
        lambda real, made: F.softplus(made - real),
        lambda real, made: F.softplus(real - made),
        both=True,
        centred=False,
    ),
}


@dataclass(frozen=True)
class AdversarialConfig:
    """How the two play.

    Attributes:
        game: what they lose: a name of :data:`GAMES`.
        critic_steps: of the critic, each with fresh pictures, for one of the generator.
        penalty: what keeps the critic smooth.
        orthogonal: weight of the generator's orthogonal regularisation (Brock et al. 2019, equation 3); 0 is off.
    """

    game: Game = "non-saturating"
    critic_steps: int = 1
    penalty: Penalty = NoPenalty()  # noqa: RUF009 - frozen
    orthogonal: float = 0.0

    def __post_init__(self) -> None:
        within("objective.critic-steps", self.critic_steps, 1, 100)
        within("objective.orthogonal", self.orthogonal, 0, 1000)


class Adversarial(Objective):
    """A generator and a critic.

    Logged: "critic/loss", "critic/real" and "critic/made" (the share of real and of made pictures that the critic takes
    for what they are), "generator/loss", and what the penalty tells.
    """

    ema = ("generator",)

    def __init__(
        self,
        generator: Generator,
        critic: Critic,
        config: AdversarialConfig,
        optimizer: OptimizerConfig,
        critic_optimizer: OptimizerConfig,
        classes: int,
    ) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic
        self.config, self.losing = config, GAMES[config.game]
        self.classes = classes
        self._optimizers = {"generator": optimizer, "critic": critic_optimizer}

    def optimizers(self) -> Optimizers:
        return {
            **self._optimizers["generator"].build("generator", self.generator),
            **self._optimizers["critic"].build("critic", self.critic),
        }

    def updates(self) -> list[Update]:
        def update(name: str, loss: Callable[[Batch, Context], Losses], repeat: int) -> Update:
            own = tuple(one for one in self.optimizers() if one.split(".")[0] == name)
            after = self._after_critic if name == "critic" else None
            return Update(name, optimizers=own, params=(name,), loss=loss, repeat=repeat, after=after)

        return [
            update("critic", self.critic_loss, self.config.critic_steps),
            update("generator", self.generator_loss, 1),
        ]

    def settle(self, averaged: nn.ModuleDict) -> None:
        """Measure what batch norms see of the averaged weights, which differs from what they see of others."""
        generator = averaged["generator"]
        norms = [part for part in generator.modules() if isinstance(part, BatchNorm)]
        if not norms or not isinstance(generator, Generator):
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
        like = next(generator.parameters())
        generator.train()
        for first in range(0, _SETTLING * _TOGETHER, _TOGETHER):
            samples = torch.arange(first, first + _TOGETHER, device=like.device)
            context = Context(0, samples, "settle", 0.0, dtype=like.dtype)
            self.made(generator, Condition(samples % self.classes if self.classes else None), context)
        generator.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    @staticmethod
    def made(generator: Generator, cond: Condition, context: Context) -> Tensor:
        """Pictures (N, C, H, W) of fresh codes."""
        made: Tensor = generator(context.noise("code", (generator.code,)), cond, context.noise)
        return made

    def critic_loss(self, batch: Batch, context: Context) -> Losses:
        """Of real pictures and as many made ones."""
        with torch.no_grad():
            made = self.made(self.generator, batch.cond, context)
        real = batch.images
        penalty = self.config.penalty
        if penalty.differentiates:
            real, made = real.detach().requires_grad_(), made.requires_grad_()
        of_real, of_made = self.critic(real, batch.cond), self.critic(made, batch.cond)
        loss = self.losing.critic(of_real, of_made).mean()
        # Where only differences count, each picture is held against one of the other kind, whatever batch it is in.
        zero = torch.zeros_like(of_real)
        against_made, against_real = (zero, zero) if self.losing.centred else (of_made, of_real)
        told = {
            "real": (of_real > against_made).to(loss.dtype).mean(),
            "made": (of_made < against_real).to(loss.dtype).mean(),
        }
        charged = penalty.loss(Judged(self.critic, batch.cond, real, made, of_real, of_made), context)
        if charged is not None:
            told["penalty"] = charged.detach()
            loss = loss + charged
        return {"loss": loss, **told}

    def generator_loss(self, batch: Batch, context: Context) -> Losses:
        """Of made pictures."""
        made = self.made(self.generator, batch.cond, context)
        of_made = self.critic(made, batch.cond)
        of_real = self.critic(batch.images, batch.cond) if self.losing.both else of_made
        loss = self.losing.generator(of_real, of_made).mean()
        if not self.config.orthogonal:
            return {"loss": loss}
        charged = self.config.orthogonal * orthogonality(self.generator)
        return {"loss": loss + charged, "orthogonality": charged.detach()}

    def _after_critic(self, context: Context, told: Losses) -> None:
        self.config.penalty.after(self.critic)


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
