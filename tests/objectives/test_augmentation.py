from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.objectives import ADA, Augment, Context, DiffAugment, NoAugment
from limner.objectives.augmentation import _coloured, _moved, _rectangle, _warped, augmented

KINDS: list[Augment] = [NoAugment(), DiffAugment(), ADA(), ADA(flip=True, rotate=False, color=False)]
ONE = torch.ones(())


def context(samples: Tensor, seed: int = 0) -> Context:
    return Context(seed, samples, "critic", 0.0)


def pictures(n: int = 6, channels: int = 3, height: int = 10, width: int = 14) -> Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("augment", KINDS)
@given(channels=st.integers(1, 4), height=st.integers(1, 12), width=st.integers(1, 12), strength=st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_a_picture_is_changed_alone(augment: Augment, channels: int, height: int, width: int, strength: float) -> None:
    """In whatever batch it is, and slopes pass through."""
    x, samples, p = pictures(5, channels, height, width), torch.arange(5), torch.tensor(strength)
    whole = augmented(x, augment, p, context(samples), "real")
    assert whole.shape == x.shape
    assert bool(whole.isfinite().all())
    torch.testing.assert_close(augmented(x[2:4], augment, p, context(samples[2:4]), "real"), whole[2:4])
    leaf = x.clone().requires_grad_()
    augmented(leaf, augment, p, context(samples), "real").square().sum().backward()
    assert leaf.grad is not None


@pytest.mark.parametrize("augment", [NoAugment(), ADA(), ADA(flip=True)])
def test_nothing_changes_at_no_strength(augment: Augment) -> None:
    x = pictures()
    torch.testing.assert_close(
        augmented(x, augment, torch.zeros(()), context(torch.arange(6)), "real"), x, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("augment", KINDS[1:])
def test_real_and_made_are_changed_apart_and_anew(augment: Augment) -> None:
    x = pictures(1).expand(6, -1, -1, -1)
    one = augmented(x, augment, ONE, context(torch.arange(6)), "real")
    assert not torch.equal(one, augmented(x, augment, ONE, context(torch.arange(6)), "made"))
    assert not torch.equal(one, augmented(x, augment, ONE, context(torch.arange(6), seed=1), "real"))
    assert len({float(each.sum()) for each in one}) == 6


def test_moves() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    moved = _moved(x, torch.tensor([1]), torch.tensor([-2]))
    assert moved[0, 0].tolist() == [[0, 0, 0, 0], [2, 3, 0, 0], [6, 7, 0, 0]]


def test_a_cutout_is_of_its_size_and_stays_inside() -> None:
    x = torch.zeros(1, 3, 10, 20)
    inside = _rectangle(x, torch.tensor([0.5]), torch.tensor([0.5]), 0.5)
    assert inside.shape == (1, 1, 10, 20)
    assert inside.sum() == 4 * 10 or inside.sum() == 6 * 10  # the middle lies between two pixels
    corner = _rectangle(x, torch.tensor([0.0]), torch.tensor([0.0]), 0.5)
    assert corner[0, 0, :2, :5].all()
    assert 0 < float(corner.sum()) <= 3 * 6


def numbers(*values: float) -> list[Tensor]:
    return [torch.tensor([value], dtype=torch.float64) for value in values]


def test_a_quarter_turn_and_a_mirror() -> None:
    square = torch.randn(1, 2, 6, 6).double()
    turned = _warped(square, *numbers(1, math.pi / 2, 1, 1, 0, 0))
    assert any(torch.allclose(turned, square.rot90(k, (2, 3)), atol=1e-6) for k in (1, 3))
    wide = torch.randn(1, 1, 4, 8).double()
    torch.testing.assert_close(_warped(wide, *numbers(-1, 0, 1, 1, 0, 0)), wide.flip(3))
    torch.testing.assert_close(_warped(wide, *numbers(1, math.pi, 1, 1, 0, 0)), wide.flip(2, 3))


def test_turns_keep_shapes_of_wide_pictures() -> None:
    """A disc stays a disc: axes are as long as they are in pixels."""
    rows, columns = torch.meshgrid(torch.arange(21.0) - 10, torch.arange(61.0) - 30, indexing="ij")
    disc = ((rows.square() + columns.square()).sqrt() < 6).double()[None, None]
    turned = _warped(disc, *numbers(1, 0.7, 1, 1, 0, 0))
    assert float((turned - disc).abs().mean()) < 0.02
    doubled = _warped(disc, *numbers(1, 0, 1.5, 1, 0, 0))
    assert float(doubled.sum() / disc.sum()) == pytest.approx(2.25, rel=0.05)


@given(st.floats(-math.pi, math.pi), st.floats(0.1, 4))
def test_colours_turn_around_greys(hue: float, saturation: float) -> None:
    matrix = _coloured(torch.tensor([saturation]).double(), torch.tensor([hue]).double())[0]
    grey = torch.ones(3).double()
    torch.testing.assert_close(matrix @ grey, grey)
    assert float(torch.linalg.det(matrix)) == pytest.approx(saturation**2, rel=1e-5)
    torch.testing.assert_close(_coloured(*numbers(1, 0))[0], torch.eye(3).double())


def test_the_likelihood_follows_the_critic() -> None:
    """Up where it knows more real pictures than the target asks for, down where fewer, within 0 and 1."""
    ada = ADA(target=0.6, images=1000)
    up = ada.followed(torch.tensor(0.5), torch.tensor(0.9), 100)
    assert float(up) == pytest.approx(0.6)
    assert float(ada.followed(torch.tensor(0.5), torch.tensor(0.7), 100)) == pytest.approx(0.4)
    assert float(ada.followed(torch.tensor(0.95), torch.tensor(1.0), 100)) == 1
    assert float(ada.followed(torch.tensor(0.05), torch.tensor(0.0), 100)) == 0
    assert float(ada.followed(torch.tensor(0.5), torch.tensor(math.nan), 100)) == 0.5
