from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from limner.contracts import Condition, ImageSpec
from limner.distributions import Distribution
from limner.models import PixelCNNPPConfig
from limner.models.logistic_mixture import LogisticMixture
from limner.models.pixelcnn_pp import PixelCNNPP

SPECS = {
    "grey": ImageSpec(1, (6, 7), "L"),
    "colours": ImageSpec(3, (8, 8), "RGB"),
    "smaller than its maps": ImageSpec(3, (3, 2), "RGB"),
    "of odd sizes": ImageSpec(2, (5, 9), "latents"),
    "a row": ImageSpec(1, (1, 11), "L"),
}


def network(spec: ImageSpec, classes: int = 3, **shape: int) -> PixelCNNPP:
    """With weights that say something at every layer."""
    torch.manual_seed(0)
    net = PixelCNNPPConfig(**{"width": 6, "most": 10, "components": 3, **shape}).autoregressor(spec, classes).double()
    for part in net.parameters():
        part.data += 0.2 * torch.randn_like(part)
    return net.eval()


def classes(n: int) -> Condition:
    return Condition(torch.arange(n) % 4 - 1)  # the null label among them


def written(net: PixelCNNPP, uniforms: Tensor, cond: Condition) -> tuple[Tensor, Tensor]:
    """Values (N, T) and their ln p (N, S), a site at a time from what is kept."""
    state, said = net.init_state(len(uniforms), cond)
    values, told = [], []
    for site in range(len(net.sites)):
        values.append(said.draw(uniforms[:, site]))
        told.append(said.log_prob(values[-1]))
        if site + 1 < len(net.sites):
            state, said = net.step(values[-1], state)
    return torch.cat(values, dim=1), torch.stack(told, dim=1)


def written_anew(net: PixelCNNPP, uniforms: Tensor, cond: Condition) -> Tensor:
    """The same by a whole pass for each pixel."""
    values = torch.zeros(len(uniforms), *net.size, net.channels, dtype=torch.int64)
    for site in range(len(net.sites)):
        row, column = divmod(site, net.size[1])
        said: Distribution = LogisticMixture(net.said(values, cond)[:, row, column], net.channels, net.levels)
        values[:, row, column] = said.draw(uniforms[:, site])
    return values.flatten(1)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@pytest.mark.parametrize("sizes", [1, 2, 3])
@torch.no_grad()
def test_what_is_kept_writes_the_same_as_whole_passes(spec: ImageSpec, sizes: int) -> None:
    net, cond = network(spec, sizes=sizes), classes(5)
    uniforms = torch.rand(5, len(net.sites), spec.channels + 1).double()
    values, told = written(net, uniforms, cond)
    assert torch.equal(values, written_anew(net, uniforms, cond))
    torch.testing.assert_close(told, net.log_prob(values, cond), rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_it_does_so_in_float32() -> None:
    net, cond = network(SPECS["colours"]).float(), classes(5)
    values, told = written(net, torch.rand(5, len(net.sites), 4), cond)
    torch.testing.assert_close(told, net.log_prob(values, cond), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@torch.no_grad()
def test_a_pixel_hears_all_before_it_and_nothing_after(spec: ImageSpec) -> None:
    net, cond, sites = network(spec), classes(1), math.prod(spec.size)
    values = torch.randint(0, 256, (1, *spec.size, spec.channels))
    said = net.said(values, cond).flatten(0, 2)
    for site in range(sites):
        other = values.clone()
        other.view(sites, -1)[site] = (other.view(sites, -1)[site] + 128) % 256
        moved = (net.said(other, cond).flatten(0, 2) - said).abs().sum(1)
        assert float(moved[: site + 1].max()) == 0
        assert float(moved[site + 1 :].min() if site + 1 < sites else 1) > 0, site


@pytest.mark.parametrize(("spec", "levels"), [(ImageSpec(1, (2, 3), "L"), 3), (ImageSpec(3, (1, 2), "RGB"), 3)])
@torch.no_grad()
def test_all_pictures_have_probability_one_together(spec: ImageSpec, levels: int) -> None:
    net = network(spec, sizes=2)
    net.levels = levels
    every = torch.tensor(list(itertools.product(range(levels), repeat=sum(net.sites))))
    for label in (-1, 0, 2):
        total = net.log_prob(every, Condition(torch.full((len(every),), label))).sum(1).exp().sum()
        torch.testing.assert_close(float(total), 1.0, rtol=1e-12, atol=0)
