"""Adversarial training: a generator against a critic (Goodfellow et al. 2014)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.contracts import Condition, Generator, StyleGenerator
from limner.errors import UserError, within
from limner.models import Critic
from limner.models.layers import BatchNorm
from limner.objectives.augmentation import ADA, Augment, NoAugment, augmented
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers
from limner.objectives.penalties import Judged, NoPenalty, Penalty
from limner.objectives.regularizers import mixed, orthogonality, path_lengths

#: A variety below this share of real pictures' is a collapse; a critic that knows more than this share of both kinds
#: leaves nothing to follow, and one that knows less of either sees nothing.
_COLLAPSED, _KNOWS, _GUESSES = 0.3, 0.97, 0.55
Game = Literal["non-saturating", "hinge", "wasserstein", "relativistic"]
#: Codes that batch norms and mean styles are measured with for the averaged generator: batches, and how many in each.
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
        augment: what is done to pictures before the critic sees them.
        orthogonal: weight of the generator's orthogonal regularisation (Brock et al. 2019, equation 3); 0 is off.
        mixing: share of pictures made of the styles of two codes (Karras et al. 2019, section 3.1).
        path_length: weight of path length regularisation (Karras et al. 2020, equation 4); 0 is off ...
        path_every: ... and each how manieth iteration looks at it.
    """

    game: Game = "non-saturating"
    critic_steps: int = 1
    penalty: Penalty = NoPenalty()  # noqa: RUF009 - frozen
    augment: Augment = NoAugment()  # noqa: RUF009 - frozen
    orthogonal: float = 0.0
    mixing: float = 0.0
    path_length: float = 0.0
    path_every: int = 8

    def __post_init__(self) -> None:
        within("objective.critic-steps", self.critic_steps, 1, 100)
        within("objective.orthogonal", self.orthogonal, 0, 1000)
        within("objective.mixing", self.mixing, 0, 1)
        within("objective.path-length", self.path_length, 0, 1e6)
        within("objective.path-every", self.path_every, 1, 10_000)


class Adversarial(Objective):
    """A generator and a critic.

    Logged: "critic/loss", "critic/real" and "critic/made" (the share of real and of made pictures that the critic takes
    for what they are), "generator/loss", and what penalties, regularisers and augmentation tell.

    Raises:
        UserError: settings of styles for a generator that has none.
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
        if (config.mixing or config.path_length) and not isinstance(generator, StyleGenerator):
            raise UserError("mixing and path-length are for generators with styles, as stylegan2 has; leave them out")
        self.generator, self.critic = generator, critic
        self.config, self.losing = config, GAMES[config.game]
        self.classes = classes
        self._optimizers = {"generator": optimizer, "critic": critic_optimizer}
        # What the run has learned of itself: how likely augmentations are, and how long paths have been.
        self.strength: Tensor
        self.path: Tensor
        self.register_buffer("strength", torch.zeros(()))
        self.register_buffer("path", torch.zeros(()))

    def optimizers(self) -> Optimizers:
        return {
            **self._optimizers["generator"].build("generator", self.generator),
            **self._optimizers["critic"].build("critic", self.critic),
        }

    def updates(self) -> list[Update]:
        config, penalty = self.config, self.config.penalty

        def own(player: str) -> tuple[str, ...]:
            return tuple(one for one in self.optimizers() if one.split(".")[0] == player)

        critic, generator = own("critic"), own("generator")
        updates = [
            Update("critic", critic, ("critic",), self.critic_loss, self._after_critic, repeat=config.critic_steps),
            Update("generator", generator, ("generator",), self.generator_loss),
        ]
        if penalty.every > 1:
            updates.append(Update("penalty", critic, ("critic",), self.penalty_loss, every=penalty.every))
        if config.path_length:
            lengths = Update(
                "path", generator, ("generator",), self.path_loss, self._after_path, every=config.path_every
            )
            updates.append(lengths)
        return updates

    def settle(self, averaged: nn.ModuleDict) -> None:
        """Measure what batch norms see of the averaged weights, which differs from what they see of others, and the
        mean of their styles."""
        generator = averaged["generator"]
        assert isinstance(generator, Generator)
        norms = [part for part in generator.modules() if isinstance(part, BatchNorm)]
        samples = torch.arange(_SETTLING * _TOGETHER, device=next(generator.parameters()).device)
        cond = Condition(samples % self.classes if self.classes else None)
        context = Context(0, samples, "settle", 0.0, dtype=next(generator.parameters()).dtype)
        if isinstance(generator, StyleGenerator):
            generator.settle(context.noise("code", (generator.code,)), cond)
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
        generator.train()
        for first in range(0, len(samples), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            self.made(generator, cond.index(some), replace(context, samples=samples[some]))
        generator.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def made(self, generator: Generator, cond: Condition, context: Context) -> Tensor:
        """Pictures (N, C, H, W) of fresh codes."""
        z = context.noise("code", (generator.code,))
        if self.config.mixing and isinstance(generator, StyleGenerator) and generator.training:
            return generator.synthesize(mixed(generator, z, cond, self.config.mixing, context), cond, context.noise)
        made: Tensor = generator(z, cond, context.noise)
        return made

    def shown(self, pictures: Tensor, name: str, context: Context) -> Tensor:
        """Pictures as the critic sees them."""
        return augmented(pictures, self.config.augment, self.strength, context, name)

    def critic_loss(self, batch: Batch, context: Context) -> Losses:
        """Of real pictures and as many made ones."""
        with torch.no_grad():
            made = self.shown(self.made(self.generator, batch.cond, context), "made", context)
        real = self.shown(batch.images, "real", context)
        penalty = self.config.penalty
        if penalty.differentiates and penalty.every == 1:
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
        if isinstance(self.config.augment, ADA):
            told["augmented"] = self.strength.to(loss.dtype)
        charged = None
        if penalty.every == 1:
            charged = penalty.loss(Judged(self.critic, batch.cond, real, made, of_real, of_made), context)
        if charged is not None:
            told["penalty"] = charged.detach()
            loss = loss + charged
        return {"loss": loss, **told}

    def penalty_loss(self, batch: Batch, context: Context) -> Losses:
        """The penalty alone, as much of it as the iterations without it would have had (lazy regularisation, Karras et
        al. 2020, section 3.1)."""
        penalty = self.config.penalty
        real = made = self.shown(batch.images, "real", context).detach().requires_grad_()
        of_real = of_made = self.critic(real, batch.cond)
        if penalty.both:
            with torch.no_grad():
                made = self.shown(self.made(self.generator, batch.cond, context), "made", context)
            of_made = self.critic(made.requires_grad_(), batch.cond)
        charged = penalty.loss(Judged(self.critic, batch.cond, real, made, of_real, of_made), context)
        assert charged is not None
        return {"loss": charged * penalty.every}

    def generator_loss(self, batch: Batch, context: Context) -> Losses:
        """Of made pictures."""
        made = self.shown(self.made(self.generator, batch.cond, context), "made", context)
        of_made = self.critic(made, batch.cond)
        of_real = of_made
        if self.losing.both:
            of_real = self.critic(self.shown(batch.images, "real", context), batch.cond)
        loss = self.losing.generator(of_real, of_made).mean()
        if not self.config.orthogonal:
            return {"loss": loss}
        charged = self.config.orthogonal * orthogonality(self.generator)
        return {"loss": loss + charged, "orthogonality": charged.detach()}

    def path_loss(self, batch: Batch, context: Context) -> Losses:
        """How far lengths of paths are from what they have been; their mean is followed over some hundred looks."""
        assert isinstance(self.generator, StyleGenerator)
        z = context.noise("code", (self.generator.code,))
        lengths = path_lengths(self.generator, z, batch.cond, context)
        loss = self.config.path_length * self.config.path_every * (lengths - self.path).square().mean()
        return {"loss": loss, "length": lengths.mean().detach()}

    @torch.no_grad()
    def _after_path(self, context: Context, told: Losses) -> None:
        length = told["length"].to(self.path.dtype)
        self.path.copy_(torch.where(length.isfinite(), self.path.lerp(length, 0.01), self.path))

    def advice(self, told: Mapping[str, float], variety: float | None) -> list[str]:
        said = []
        real, made = told.get("critic/real", 0.5), told.get("critic/made", 0.5)
        knows = f"the critic takes {real:.0%} of real and {made:.0%} of made pictures for what they are"
        if variety is not None and variety < _COLLAPSED:
            said.append(
                f"samples have {variety:.0%} of the variety of real pictures: the generator draws a few kinds of them "
                "again and again (mode collapse); a smoother critic helps most, --objective.penalty.kind zero-centred "
                "with a larger --objective.penalty.gamma, then larger batches, --training.batch"
            )
        if min(real, made) > _KNOWS and self.config.game != "wasserstein":
            said.append(
                f"{knows}: it leaves the generator little to follow, and may know the pictures by heart; change them "
                "before it sees them, --objective.augment.kind ada, or let it learn more slowly, --critic-optimizer.lr"
            )
        elif max(real, made) < _GUESSES and self.config.game != "wasserstein":
            said.append(
                f"{knows}, hardly more than by chance: a wider network, --net.width, or more --objective.critic-steps "
                "let it see more"
            )
        return said

    @torch.no_grad()
    def _after_critic(self, context: Context, told: Losses) -> None:
        self.config.penalty.after(self.critic)
        augment = self.config.augment
        if isinstance(augment, ADA):
            self.strength.copy_(augment.followed(self.strength, told["real"].to(self.strength.dtype), context.batch))
