from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from limner.contracts import Condition, ImageSpec
from limner.models import KLCodecConfig, PatchCritic, VQCodecConfig
from limner.objectives import AdamWConfig, Batch, Context, KLReconstruction, ReconstructionConfig, VQReconstruction
from limner.objectives.reconstruction import apart

SPEC = ImageSpec(1, (16, 16), "L")


def batch(n: int = 6) -> Batch:
    draws = torch.Generator().manual_seed(0)
    return Batch(torch.rand(n, 1, 16, 16, generator=draws) * 2 - 1, Condition(), torch.arange(n))


def context(n: int = 6, progress: float = 0.0, update: str = "codec") -> Context:
    return Context(0, torch.arange(n), update, progress, {}, batch=n)


def kl(critic: bool = False, maps: nn.Module | None = None, **settings: float) -> KLReconstruction:
    torch.manual_seed(0)
    codec = KLCodecConfig(width=8, channels=2).codec(SPEC)
    config = ReconstructionConfig(adversarial=0.5 if critic else 0.0, **settings)  # type: ignore[arg-type]
    return KLReconstruction(
        codec, PatchCritic(SPEC, width=4) if critic else None, config, AdamWConfig(lr=1e-3), AdamWConfig(), maps
    )


def vq(**settings: object) -> VQReconstruction:
    torch.manual_seed(0)
    codec = VQCodecConfig(width=8, channels=2, codes=8, **settings).codec(SPEC)  # type: ignore[arg-type]
    return VQReconstruction(codec, None, ReconstructionConfig(), AdamWConfig(), AdamWConfig())


def test_the_loss_is_the_sum_of_its_parts() -> None:
    told = kl(kl=0.1).codec_loss(batch(), context())
    assert float(told["loss"].detach()) == pytest.approx(float(told["error"] + 0.1 * told["divergence"]), rel=1e-5)


def test_latents_are_followed_until_they_are_of_size_one() -> None:
    one = kl()
    x, at = batch(), context()
    for _ in range(400):
        one.followed(at, one.codec_loss(x, at))
    mean, log_variance = one.codec.posterior(x.images)
    z = (mean + (0.5 * log_variance).exp() * at.noise("latents", tuple(mean.shape[1:]))).detach()
    assert float(one.codec.mean) == pytest.approx(float(z.mean()), abs=1e-3)
    assert float(one.codec.deviation) == pytest.approx(float(z.std()), rel=0.01)
    before = float(one.codec.mean)
    one.followed(at, {"latents": torch.tensor(math.nan), "squares": torch.tensor(math.nan)})
    assert float(one.codec.mean) == before


def test_a_critic_pulls_as_strongly_as_the_rest() -> None:
    """At the last layer, where it has the weight 1; and only from its beginning on."""
    one = kl(critic=True, critic_from=0.4)
    assert "adversarial" not in one.codec_loss(batch(), context(progress=0.3))
    late = context(progress=0.5)
    told = one.codec_loss(batch(), late)
    back = one.through(batch(), late)[0]
    assert one.critic is not None
    parts = ((back - batch().images).abs().mean(), -one.critic(back, Condition()).mean())
    sizes = [torch.autograd.grad(part, one.last(), retain_graph=True)[0].norm() for part in parts]
    assert float(told["weight"]) == pytest.approx(float(sizes[0] / (sizes[1] + 1e-4)), rel=1e-4)


def test_a_critic_waits_without_a_gradient() -> None:
    one = kl(critic=True)
    assert one.critic is not None
    one.critic_loss(batch(), context(update="critic"))["loss"].backward()
    assert all(part.grad is None or not part.grad.any() for part in one.critic.parameters())
    told = one.critic_loss(batch(), context(progress=0.9, update="critic"))
    assert 0 <= float(told["real"]) <= 1
    assert float(told["loss"].detach()) > 0


def test_codes_become_the_means_of_their_latents() -> None:
    one, x = vq(), batch()
    at = context()
    told = one.codec_loss(x, at)
    told["loss"].backward()
    one.followed(at, told)  # the first time: all of what there is
    with torch.no_grad():
        for _ in range(30):
            at = context()
            with torch.enable_grad():
                one.codec_loss(x, at)
            one.followed(at, {"loss": torch.zeros(())})
        rows = one.codec.latents(x.images).movedim(1, -1).reshape(-1, 2)
        tokens = one.codec.nearest(one.codec.latents(x.images)).reshape(-1)
    assert len(tokens.unique()) == 8, "no code is dead"
    error = (rows - one.codec.codes[tokens]).square().mean()
    assert float(error) < 0.3 * float(rows.var(0).mean())


def test_a_dead_code_becomes_a_latent_and_a_live_one_stays() -> None:
    one, x = vq(), batch()
    for _ in range(2):
        at = context()
        told = one.codec_loss(x, at)
        one.followed(at, told)
    before = one.codec.codes.clone()
    one.codec.counts[3] = 0.0
    one.codec.codes[3] = 1e6
    at = context()
    told = one.codec_loss(x, at)
    one.followed(at, told)
    rows = at.shared["rows"]
    assert float((rows - one.codec.codes[3]).square().sum(1).min()) == 0
    others = [i for i in range(8) if i != 3]
    torch.testing.assert_close(one.codec.codes[others], before[others], rtol=0.2, atol=0.2)


def test_slopes_pass_codes_as_if_they_were_not_there() -> None:
    one = vq()
    one.codec_loss(batch(), context())["loss"].backward()
    assert all(part.grad is not None for part in one.codec.encoder.parameters())
    rounded = vq(levels=(3, 3))
    rounded.codec_loss(batch(), context())["loss"].backward()
    assert all(part.grad is not None for part in rounded.codec.encoder.parameters())


class Edges(nn.Module):
    """Maps that are known: the picture, and its differences."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [torch.cat([x, 1 - x], dim=1), torch.cat([x.diff(dim=2), torch.ones_like(x[:, :, 1:])], dim=1)]


def test_features_apart() -> None:
    x = batch().images
    assert float(apart(Edges(), x, x)) == 0
    black, white = torch.full((1, 1, 4, 4), -1.0), torch.full((1, 1, 4, 4), 1.0)
    # unit vectors at right angles in the first map, equal ones in the second
    assert float(apart(Edges(), black, white)) == pytest.approx(2.0)
    leaf = x.clone().requires_grad_()
    told = kl(maps=Edges()).codec_loss(Batch(x, Condition(), torch.arange(6)), context())
    assert float(told["features"]) > 0
    apart(Edges(), leaf, -x).backward()
    assert leaf.grad is not None
