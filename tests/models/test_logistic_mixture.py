from __future__ import annotations

import itertools

import pytest
import torch

from limner.models.logistic_mixture import LogisticMixture, parameters


def mixture(n: int, channels: int, levels: int, components: int = 3) -> LogisticMixture:
    torch.manual_seed(channels)
    return LogisticMixture(torch.randn(n, parameters(channels, components)).double(), channels, levels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_all_values_of_a_pixel_have_probability_one_together(channels: int) -> None:
    levels = 5
    said = mixture(1, channels, levels)
    every = torch.tensor(list(itertools.product(range(levels), repeat=channels)))
    alike = LogisticMixture(said.said.expand(len(every), -1), channels, levels)
    torch.testing.assert_close(float(alike.log_prob(every).exp().sum()), 1.0, rtol=1e-12, atol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_pixel_is_as_likely_as_its_channels_one_after_the_other(channels: int) -> None:
    said, values = mixture(50, channels, 16), torch.randint(0, 16, (50, channels))
    chain = super(LogisticMixture, said).log_prob(values)
    torch.testing.assert_close(said.log_prob(values), chain, rtol=1e-12, atol=1e-12)


def test_what_is_drawn_is_as_frequent_as_it_is_likely() -> None:
    """Uniforms on a grid, so that counts are expected ones but for the grid's cells at the edges of values."""
    levels, side = 8, 400
    said = mixture(1, 2, levels)
    places = (torch.arange(side).double() + 0.5) / side
    grid = torch.cartesian_prod(places, places)
    uniforms = torch.stack([grid[:, 0], grid[:, 1], torch.full_like(grid[:, 0], 0.5)], dim=1)
    alike = LogisticMixture(said.said.expand(len(uniforms), -1), 2, levels)
    counts = torch.bincount(alike.draw(uniforms)[:, 0], minlength=levels) / len(uniforms)
    expected = torch.softmax(said.logits(torch.empty(1, 0, dtype=torch.int64)), dim=-1)[0]
    torch.testing.assert_close(counts.double(), expected, rtol=0, atol=0.005)


def test_a_later_channel_follows_an_earlier_one() -> None:
    """One narrow component whose green is half of its red."""
    said = torch.tensor([[0.0, 0.1, 0.2, -6.0, -6.0, torch.atanh(torch.tensor(0.5))]]).double()
    drawn = LogisticMixture(said, 2, 256).draw(torch.full((1, 3), 0.5).double())
    red = float(drawn[0, 0]) / 127.5 - 1
    assert int(drawn[0, 1]) == round((0.2 + 0.5 * red + 1) * 127.5)
