from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.contracts import Condition, ImageSpec
from limner.errors import UserError
from limner.models import AdversarialNetConfig, DCGANConfig, R3GANConfig, ResidualGANConfig, StyleGAN2Config
from limner.models.critic import halvings

NETS: dict[str, AdversarialNetConfig] = {
    "dcgan": DCGANConfig(width=4, code=6, most=8),
    "residual": ResidualGANConfig(width=4, code=6, most=8),
    "attention": ResidualGANConfig(width=4, code=7, most=8, spectral="both", attention=16, chunks=True, unshuffle=1),
    "spectral": ResidualGANConfig(width=4, code=6, most=8, spectral="critic", attention=64),
    "stylegan2": StyleGAN2Config(width=4, code=6, most=8),
    "r3gan": R3GANConfig(width=4, code=6, most=8, group=4, bases=2),
}


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(3, *shape)


@given(st.integers(1, 600), st.integers(8, 600), st.booleans())
def test_halvings(shorter: int, longer: int, wide: bool) -> None:
    height, width = (shorter, longer) if wide else (longer, shorter)
    sizes = halvings((height, width))
    assert sizes[0] == (height, width)
    assert max(sizes[-1]) <= 7
    for (a, b), (c, d) in pairwise(sizes):
        assert max(a, b) > 7
        assert 0 <= 2 * c - a <= 1
        assert 0 <= 2 * d - b <= 1


@pytest.mark.parametrize(("size", "side"), [((28, 28), 2), ((64, 48), 4), ((96, 96), 8), ((20, 20), 1), ((8, 8), 1)])
def test_pictures_are_folded_by_their_size(size: tuple[int, int], side: int) -> None:
    spec = ImageSpec(1, size, "L")
    for config in (ResidualGANConfig(width=4, most=8), StyleGAN2Config(width=4, most=8), R3GANConfig(width=4, most=8)):
        assert config.generator(spec, 0).unshuffle == config.critic(spec, 0).unshuffle == side
        as_told = replace(config, unshuffle=2).generator(spec, 0).unshuffle
        assert as_told == (1 if max(size) < 15 else 2)


@torch.no_grad()
@pytest.mark.parametrize("fold", [1, 2, 4])
@pytest.mark.parametrize(
    "config", [ResidualGANConfig(width=16), StyleGAN2Config(width=16), R3GANConfig(width=16)], ids=lambda c: c.kind
)
def test_no_place_of_a_fold_is_preferred(config: ResidualGANConfig | StyleGAN2Config | R3GANConfig, fold: int) -> None:
    """Where maps are smaller than pictures, what is drawn between them is no pattern of their distance."""
    torch.manual_seed(0)
    net = replace(config, unshuffle=fold).generator(ImageSpec(1, (64, 64), "L"), 0)
    drawn = net.synthesize(net.latent(torch.randn(64, net.code), Condition()), Condition(), noise)[..., 8:-8, 8:-8]
    of_places = F.pixel_unshuffle(drawn, 4).mean((0, 2, 3))
    assert float(of_places.std() / drawn.std()) < 0.05


@pytest.mark.parametrize("name", NETS)
def test_too_small_a_picture(name: str) -> None:
    for make in (NETS[name].generator, NETS[name].critic):
        with pytest.raises(UserError, match="the pictures are 7x3"):
            make(ImageSpec(1, (3, 7), "L"), 0)


@pytest.mark.parametrize("name", NETS)
@given(height=st.integers(1, 40), width=st.integers(8, 40), channels=st.integers(1, 4), classes=st.sampled_from([0, 3]))
@settings(max_examples=12, deadline=None)
def test_any_size(name: str, height: int, width: int, channels: int, classes: int) -> None:
    """Of pictures, and of every parameter's gradient."""
    spec, n = ImageSpec(channels, (height, width), "L"), 3
    generator, critic = NETS[name].generator(spec, classes), NETS[name].critic(spec, classes)
    cond = Condition(torch.arange(n) if classes else None)
    made = generator(torch.randn(n, generator.code), cond, noise)
    assert made.shape == (n, *spec.shape)
    assert float(made.detach().abs().max()) <= 1
    score = critic(made, cond)
    assert score.shape == (n,)
    score.sum().backward()
    assert all(p.grad is not None for net in (generator, critic) for p in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_a_class_changes_pictures_and_scores(name: str) -> None:
    spec = ImageSpec(1, (16, 16), "L")
    generator, critic = NETS[name].generator(spec, 3).eval(), NETS[name].critic(spec, 3).eval()
    z = torch.randn(1, generator.code).expand(3, -1)
    for part in [*generator.parameters(), *critic.parameters()]:
        if not part.any():  # what begins as nothing
            nn.init.normal_(part, 0.0, 0.1)
    made = generator(z, Condition(torch.arange(3)), noise)
    assert float((made[0] - made[1]).detach().abs().max()) > 1e-5
    score = critic(made[:1].expand(3, -1, -1, -1), Condition(torch.arange(3)))
    assert len({round(float(one), 7) for one in score.detach()}) == 3


@pytest.mark.parametrize("name", ["residual", "attention", "spectral", "r3gan"])
def test_a_critic_judges_each_picture_alone(name: str) -> None:
    """Which the penalty on slopes needs."""
    critic = NETS[name].critic(ImageSpec(1, (16, 16), "L"), 0).eval()
    x = torch.randn(5, 1, 16, 16)
    torch.testing.assert_close(critic(x, Condition())[:2], critic(x[:2], Condition()))


def test_spectral_norms_bound_slopes() -> None:
    """The largest singular value of each matrix of the critic is about 1 once the estimate has settled."""
    critic = NETS["attention"].critic(ImageSpec(1, (16, 16), "L"), 3).train()
    for _ in range(50):
        critic(torch.randn(2, 1, 16, 16), Condition(torch.tensor([0, 1])))
    weights = [m.weight for m in critic.modules() if hasattr(m, "parametrizations")]
    assert len(weights) > 8
    for weight in weights:
        assert float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.02)
