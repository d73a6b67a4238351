"""Four words for one prediction."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.contracts import Bound, Condition, Level, Prediction

NUMBER = st.floats(-3, 3).map(lambda value: torch.full((1, 1, 1, 1), value, dtype=torch.float64))
WEIGHT = st.floats(0.01, 10).map(lambda value: torch.tensor([value], dtype=torch.float64))


@settings(deadline=None)
@given(x0=NUMBER, noise=NUMBER, alpha=WEIGHT, sigma=WEIGHT)
def test_every_word_comes_back_as_the_picture(
    x0: torch.Tensor, noise: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor
) -> None:
    at = Level(alpha, sigma)
    x = alpha * x0 + sigma * noise
    said = Prediction(x0)
    torch.testing.assert_close(said.noise(x, at), noise, rtol=1e-7, atol=1e-7 * 3000)
    for back, word in (
        (Prediction.of_noise, said.noise(x, at)),
        (Prediction.of_velocity, said.velocity(x, at)),
        (Prediction.of_v, said.v(x, at)),
    ):
        torch.testing.assert_close(back(x, at, word).x0, x0, rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(x0=NUMBER, noise=NUMBER, sigma=st.floats(0.1, 1), share=st.floats(0, 0.9))
def test_a_move_tells_what_it_went_by(x0: torch.Tensor, noise: torch.Tensor, sigma: float, share: float) -> None:
    at, to = (
        Level(*(torch.tensor([value], dtype=torch.float64) for value in (1 - t, t))) for t in (sigma, share * sigma)
    )
    x = (1 - sigma) * x0 + sigma * noise
    landed = Prediction(x0).moved(x, at, to)
    torch.testing.assert_close(landed, (1 - share * sigma) * x0 + share * sigma * noise, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(Prediction.of_move(x, at, landed, to).x0, x0, rtol=1e-6, atol=1e-6)


def test_v_is_the_circles_tangent() -> None:
    """d/da of cos(a) x0 + sin(a) noise, and rectified flow's is d/dt of (1 - t) x0 + t noise."""
    x0, noise, a = (torch.tensor(value, dtype=torch.float64) for value in (0.4, -1.3, 0.7))
    a.requires_grad_(True)
    x = a.cos() * x0 + a.sin() * noise
    (slope,) = torch.autograd.grad(x, a)
    at = Level(a.cos().detach().reshape(1), a.sin().detach().reshape(1))
    said = Prediction(x0.reshape(1, 1, 1, 1))
    assert said.v(x.detach().reshape(1, 1, 1, 1), at).item() == pytest.approx(slope.item())
    assert said.velocity(x.detach().reshape(1, 1, 1, 1), at).item() == pytest.approx(-1.7)


@pytest.mark.parametrize("of", [Prediction.of_velocity, Prediction.of_v])
def test_pure_noise_is_no_obstacle_to_v_and_the_velocity(of: object) -> None:
    at = Level(torch.zeros(1), torch.ones(1))
    x = torch.full((1, 1, 1, 1), 0.3)
    word = {Prediction.of_velocity: 0.3 + 0.8, Prediction.of_v: 0.8}[of]  # type: ignore[index]
    torch.testing.assert_close(of(x, at, torch.full_like(x, word)).x0, torch.full_like(x, -0.8))  # type: ignore[operator]


def test_bits_per_dimension() -> None:
    """A fair coin a dimension is one bit."""
    assert Bound(torch.tensor([10 * math.log(0.5)]), "exact").bits_per_dimension(10).item() == pytest.approx(1.0)


def test_a_condition_of_two_parts_goes_together() -> None:
    """Label and text are moved, chosen, set free and joined alike."""
    label, text = torch.tensor([2, 0, 1]), torch.arange(12).reshape(3, 4)
    both, some = Condition(label, text), Condition(text=text)
    freed = both.dropped(torch.tensor([True, False, True]))
    assert freed.label is not None
    assert freed.text is not None
    assert freed.label.tolist() == [-1, 0, -1]
    assert freed.text.tolist() == [[-1] * 4, [4, 5, 6, 7], [-1] * 4]
    assert some.dropped().label is None
    assert torch.equal(some.dropped().text, torch.full((3, 4), -1))
    assert torch.equal(both.index(slice(1, 3)).text, text[1:])
    joined = Condition.cat([both, freed])
    assert torch.equal(joined.label, torch.cat([label, freed.label]))
    assert torch.equal(joined.text, torch.cat([text, freed.text]))
    with pytest.raises(ValueError, match="with and without a label"):
        Condition.cat([both, some])
    assert Condition.cat([Condition(), Condition()]) == Condition()
