"""What codecs are taught: to give pictures back (van den Oord et al. 2017; Esser et al. 2021; Rombach et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.contracts import Codec
from limner.distributed import gathered
from limner.errors import within
from limner.models import Critic, KLCodec, VQCodec
from limner.models.layers import Together
from limner.objectives.adversarial import GAMES
from limner.objectives.elbo import divergence
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers

#: Of codes that are followed: how much of the past a batch leaves, and the share of the mean use below which one is
#: dead (Razavi et al. 2019, appendix A.1; Dhariwal et al. 2020, section 3.1 for the revival).
_KEPT, _DEAD = 0.99, 0.03
#: How fast the size of latents is followed.
_FOLLOWED = 0.02
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class ReconstructionConfig:
    """What is weighed.

    Attributes:
        kl: weight of the latents' divergence from N(0, 1), in nats a pixel value, of ``kl-codec``.
        commitment: weight of the distance of latents to their codes, of ``vq-codec``.
        perceptual: weight of the distance of features ...
        extractor: ... of this network: squeezenet, resnet-cifar, lenet, inception, dinov2 or clip, also with weights as
            "squeezenet=FILE"; "" for none.
        adversarial: weight of a patch critic's part beside the rest, in shares of its gradient; 0 is off ...
        critic_from: ... and from which share of the training on it plays.
    """

    kl: float = 1e-3
    commitment: float = 0.25
    perceptual: float = 1.0
    extractor: str = ""
    adversarial: float = 0.0
    critic_from: float = 0.3

    def __post_init__(self) -> None:
        within("objective.kl", self.kl, 0, 1e6)
        within("objective.commitment", self.commitment, 0, 1e6)
        within("objective.perceptual", self.perceptual, 0, 1e6)
        within("objective.adversarial", self.adversarial, 0, 1e6)
        within("objective.critic-from", self.critic_from, 0, 1)


class Reconstruction(Objective, Together):
    """Pictures through a codec and back; what passes between is the codec's own business, in :meth:`through`.

    Logged: "loss", "error" (the mean absolute one), "features" (where a network looks), "adversarial" and its "weight",
    and what :meth:`through` tells.
    """

    ema = ("codec",)

    def __init__(
        self,
        codec: Codec,
        critic: Critic | None,
        config: ReconstructionConfig,
        optimizer: OptimizerConfig,
        critic_optimizer: OptimizerConfig,
        maps: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.codec, self.critic, self.config, self.maps = codec, critic, config, maps
        self._optimizers = {"codec": optimizer, "critic": critic_optimizer}

    def optimizers(self) -> Optimizers:
        built = self._optimizers["codec"].build("codec", self.codec)
        if self.critic is not None:
            built |= self._optimizers["critic"].build("critic", self.critic)
        return built

    def updates(self) -> list[Update]:
        def own(player: str) -> tuple[str, ...]:
            return tuple(one for one in self.optimizers() if one.split(".")[0] == player)

        updates = [Update("codec", own("codec"), ("codec",), self.codec_loss, after=self.followed)]
        if self.critic is not None:
            updates.append(Update("critic", own("critic"), ("critic",), self.critic_loss))
        return updates

    def through(self, batch: Batch, context: Context) -> tuple[Tensor, Tensor, Losses]:
        """Pictures back, what passing through is charged, and what to log."""
        raise NotImplementedError

    def followed(self, context: Context, told: Losses) -> None:
        """What the codec has learned of its latents besides weights."""

    def last(self) -> Tensor:
        """The last layer's weight, on which gradients are compared."""
        raise NotImplementedError

    def codec_loss(self, batch: Batch, context: Context) -> Losses:
        back, charged, told = self.through(batch, context)
        error = (back - batch.images).abs().mean()
        loss = error
        told["error"] = error.detach()
        if self.maps is not None and self.config.perceptual:
            features = apart(self.maps, back, batch.images)
            loss = loss + self.config.perceptual * features
            told["features"] = features.detach()
        if self.critic is not None and context.progress >= self.config.critic_from:
            scores = self.critic(back, batch.cond)
            game = GAMES["hinge"].generator(scores, scores).mean()
            weight = self._balance(loss, game, len(batch.samples) / max(1, context.batch))
            loss = loss + self.config.adversarial * weight * game
            told |= {"adversarial": game.detach(), "weight": weight}
        return {"loss": loss + charged, **told}

    def critic_loss(self, batch: Batch, context: Context) -> Losses:
        assert self.critic is not None
        if context.progress < self.config.critic_from:
            return {"loss": torch.stack([part.sum() for part in self.critic.parameters()]).sum() * 0.0}
        with torch.no_grad():
            back = self.through(batch, context)[0]
        real, made = self.critic(batch.images, batch.cond), self.critic(back, batch.cond)
        loss = GAMES["hinge"].critic(real, made).mean()
        return {"loss": loss, "real": (real > 0).to(loss.dtype).mean(), "made": (made < 0).to(loss.dtype).mean()}

    def _balance(self, loss: Tensor, game: Tensor, share: float) -> Tensor:
        """The weight at which both pull as strongly at the last layer (Esser et al. 2021, equation 7), by the gradients
        of all processes."""
        last = self.last()
        sizes = []
        for part in (loss, game):
            (slope,) = torch.autograd.grad(part, last, retain_graph=True)
            sizes.append(self.world.add_up(slope.detach() * share).norm())
        weight: Tensor = (sizes[0] / (sizes[1] + 1e-4)).clamp(0, 1e4)
        return weight


class KLReconstruction(Reconstruction):
    """Through latents of a normal distribution each. Also logged: "divergence", in nats a pixel value."""

    codec: KLCodec

    def through(self, batch: Batch, context: Context) -> tuple[Tensor, Tensor, Losses]:
        mean, log_variance = self.codec.posterior(batch.images)
        z = mean + (0.5 * log_variance).exp() * context.noise("latents", tuple(mean.shape[1:]))
        nats = divergence(mean, log_variance).sum() / batch.images.numel()
        seen = z.detach()
        told = {"divergence": nats.detach(), "latents": seen.mean(), "squares": seen.square().mean()}
        return self.codec.decoded(z), self.config.kl * nats, told

    @torch.no_grad()
    def followed(self, context: Context, told: Losses) -> None:
        for followed, value in ((self.codec.mean, told["latents"]), (self.codec.square, told["squares"])):
            new = followed.lerp(value.to(followed.dtype), _FOLLOWED)
            followed.copy_(torch.where(new.isfinite(), new, followed))

    def last(self) -> Tensor:
        weight: Tensor = self.codec.decoder.head.weight
        return weight


class VQReconstruction(Reconstruction):
    """Through codes, which follow the latents that they stand for. Also logged: "commitment", and "use", the share of
    codes that are used."""

    codec: VQCodec

    def through(self, batch: Batch, context: Context) -> tuple[Tensor, Tensor, Losses]:
        codec = self.codec
        z = codec.latents(batch.images)
        codes, parts, numbers = codec.quantized(z)
        told = {"use": codec.use().to(z.dtype)}
        if context.update == "codec" and torch.is_grad_enabled():
            rows = torch.cat([part.movedim(1, -1).flatten(0, -2) for part in parts])
            self._note(rows, torch.cat([one.flatten() for one in numbers]), context)
        passed = z + (codes - z).detach()
        if codec.rounded:
            return codec.decode(passed), z.new_zeros(()), told
        commitment = (z - codes).square().mean()
        return codec.decode(passed), self.config.commitment * commitment, told | {"commitment": commitment.detach()}

    def _note(self, rows: Tensor, numbers: Tensor, context: Context) -> None:
        """What the codes will follow, of all micro-batches of an iteration: rows (M, channels) and the numbers (M,) of
        their codes."""
        rows, shared = rows.to(self.codec.codes.dtype), context.shared
        new = {
            "counts": torch.zeros_like(self.codec.counts).index_add_(0, numbers, torch.ones_like(rows[:, 0])),
            "sums": torch.zeros_like(self.codec.codes).index_add_(0, numbers, rows),
        }
        for name, value in new.items():
            shared[name] = shared[name] + value if name in shared else value
        shared.setdefault("rows", rows)

    @torch.no_grad()
    def followed(self, context: Context, told: Losses) -> None:
        """Codes are the running means of the latents nearest to them; those that hardly any latent is near to become
        latents of this batch."""
        codec, shared = self.codec, context.shared
        before = codec.codes * codec.counts[:, None]  # the sums of latents that the codes are the means of
        counts, sums = (self.world.add_up(shared[name].clone()) for name in ("counts", "sums"))
        rows = gathered(shared["rows"], self.world)
        sound = told["loss"].isfinite() & rows.isfinite().all()
        first = codec.counts.sum() == 0
        kept = torch.where(first, 0.0, _KEPT)
        new_counts = codec.counts * kept + counts * (1 - kept)
        codec.counts.copy_(torch.where(sound, new_counts, codec.counts))
        if codec.rounded:
            return
        new_sums = before * kept + sums * (1 - kept)
        mean = codec.counts.mean()
        dead = codec.counts < _DEAD * mean
        # Any latent of the batch will do, another one for each code.
        places = (torch.arange(codec.tokens, device=rows.device).double() * _GOLDEN).frac()
        fresh = rows[(places * len(rows)).long()]
        codes = torch.where(dead[:, None], fresh, new_sums / codec.counts.clamp_min(1e-12)[:, None])
        new_counts = torch.where(dead, mean, codec.counts)
        codec.codes.copy_(torch.where(sound, codes, codec.codes))
        codec.counts.copy_(torch.where(sound, new_counts, codec.counts))

    def last(self) -> Tensor:
        weight: Tensor = self.codec.decoder.head.weight
        return weight


def apart(maps: nn.Module, pictures: Tensor, truth: Tensor) -> Tensor:
    """The perceptual distance (): squared differences of unit features, averaged over places and summed over maps
    (Zhang et al. 2018, equation 1, with weights of 1)."""
    with torch.no_grad():
        wanted = [_unit(one) for one in maps((truth + 1) / 2)]
    found = [_unit(one) for one in maps((pictures + 1) / 2)]
    return torch.stack([(a - b).square().sum(1).mean() for a, b in zip(found, wanted, strict=True)]).sum()


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt()
