from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.contracts import Condition, ImageSpec, Level, RefineConfig
from limner.models import PRECONDITIONINGS, Preconditioned, UNet, UNetConfig
from limner.sampling import Guided, autoguidance, classifier_free, clipped

SPEC = ImageSpec(1, (6, 5), "L")


def random_net(seed: int, channels: int = 1) -> Preconditioned:
    """A small network with random weights everywhere, also where training begins at zero."""
    raw = UNet(UNetConfig(width=8, multipliers=(1,)), SPEC, 3, channels)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in raw.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return Preconditioned(raw, PRECONDITIONINGS["flow"], 0.5).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def net() -> Preconditioned:
    return random_net(2)


def noisy(times: list[float]) -> tuple[Tensor, Level]:
    sigma = torch.tensor(times)
    generator = torch.Generator().manual_seed(3)
    return torch.randn(len(times), *SPEC.shape, generator=generator), Level(1 - sigma, sigma)


class Rows:
    """How many pictures the network sees, call by call."""

    def __init__(self, net: Preconditioned) -> None:
        self.calls: list[int] = []
        self.hook = net.register_forward_pre_hook(lambda _, given: self.calls.append(len(given[0])))

    def __enter__(self) -> list[int]:
        return self.calls

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


def test_a_weight_of_one_is_no_guidance(net: Preconditioned) -> None:
    assert classifier_free(net, 1.0) is net


@settings(max_examples=20, deadline=None)
@given(weight=st.floats(-2, 8))
def test_linear_in_the_weight(net: Preconditioned, weight: float) -> None:
    x, at = noisy([0.1, 0.5, 1.0])
    label = torch.tensor([0, 1, 2])
    steered, free = (net(x, at, Condition(one)).x0 for one in (label, torch.full((3,), -1)))
    assert float((steered - free).abs().max()) > 0.05
    guided = classifier_free(net, weight)(x, at, Condition(label)).x0
    torch.testing.assert_close(guided, free + weight * (steered - free), rtol=1e-4, atol=1e-5)


def test_it_costs_only_where_it_is_on(net: Preconditioned) -> None:
    """One call for all; outside the interval, whose ends belong to it, a sample is seen once and left as it is."""
    x, at = noisy([0.125, 0.25, 0.5, 0.75, 0.875])
    cond = Condition(torch.tensor([0, 1, 2, 0, 1]))
    plain = net(x, at, cond).x0
    for lowest, highest, on in ((0.0, 1.0, 5), (0.25, 0.75, 3), (0.3, 0.6, 1), (0.9, 1.0, 0), (0.6, 0.4, 0)):
        with Rows(net) as seen:
            guided = classifier_free(net, 3.0, lowest, highest)(x, at, cond).x0
        assert seen == [5 + on]
        moved = (guided - plain).abs().amax(dim=(1, 2, 3)) > 1e-3
        assert moved.tolist() == [lowest <= t <= highest for t in at.sigma.tolist()]


def test_the_interval_goes_by_the_ratio_of_a_level(net: Preconditioned) -> None:
    x, at = noisy([0.2, 0.5, 0.8])
    guide, cond = classifier_free(net, 3.0, 0.4, 0.6), Condition(torch.tensor([0, 1, 2]))
    scaled = guide(4 * x, Level(4 * at.alpha, 4 * at.sigma), cond).x0
    torch.testing.assert_close(scaled, guide(x, at, cond).x0, rtol=1e-4, atol=1e-5)


def test_samples_of_a_mixed_batch_do_not_meet(net: Preconditioned) -> None:
    x, at = noisy([0.1, 0.4, 0.6, 0.9])
    cond, guide = Condition(torch.tensor([2, -1, 0, 1])), classifier_free(net, 2.5, 0.3, 0.95)
    together = guide(x, at, cond).x0
    for i in range(4):
        one = slice(i, i + 1)
        alone = guide(x[one], at.index(one), cond.index(one)).x0
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-5)


def test_the_null_label_has_nothing_to_be_steered_to(net: Preconditioned) -> None:
    x, at = noisy([0.2, 0.6, 0.9])
    free = Condition(torch.full((3,), -1))
    torch.testing.assert_close(classifier_free(net, 7.0)(x, at, free).x0, net(x, at, free).x0, rtol=1e-4, atol=1e-4)


def test_a_model_without_labels_draws_as_it_would() -> None:
    net = Preconditioned(UNet(UNetConfig(width=8, multipliers=(1,)), SPEC, 0), PRECONDITIONINGS["edm"], 0.5)
    net.requires_grad_(False)
    x, at = noisy([0.2, 0.6])
    torch.testing.assert_close(classifier_free(net, 3.0)(x, at, Condition()).x0, net(x, at, Condition()).x0)


def test_a_worse_model_guides_by_its_difference_and_only_in_the_interval(net: Preconditioned) -> None:
    """Both see the label; outside of the interval the worse one is not asked."""
    worse = random_net(4)
    x, at = noisy([0.1, 0.5, 0.9])
    cond = Condition(torch.tensor([0, 1, 2]))
    good, bad = net(x, at, cond).x0, worse(x, at, cond).x0
    with Rows(worse) as seen:
        guided = autoguidance(net, worse, 2.5, 0.3, 0.6)(x, at, cond).x0
    assert seen == [1]
    expected = good.clone()
    expected[1] = bad[1] + 2.5 * (good[1] - bad[1])
    torch.testing.assert_close(guided, expected, rtol=1e-4, atol=1e-5)
    assert autoguidance(net, worse, 1.0) is net


@pytest.mark.parametrize("times", [[0.2, 0.5, 0.9], [0.2, 0.25, 0.9]])
def test_a_learned_variance_is_that_of_the_condition(times: list[float]) -> None:
    """Wherever guidance is on, and beside samples where it is."""
    net = random_net(6, channels=2)
    x, at = noisy(times)
    cond = Condition(torch.tensor([0, 1, 2]))
    alone, guided = net(x, at, cond), classifier_free(net, 2.0, 0.4, 0.6)(x, at, cond)
    assert alone.variance is not None
    assert guided.variance is not None
    torch.testing.assert_close(guided.variance, alone.variance, rtol=1e-4, atol=1e-5)


def test_a_guided_denoiser_holds_its_weights_once(net: Preconditioned) -> None:
    x, at = noisy([0.2, 0.9])
    cond = Condition(torch.tensor([0, 2]))
    for weight in (1.0, 3.0):
        guided = Guided(net, RefineConfig(guidance=weight))
        assert [*guided.state_dict()] == [f"net.{name}" for name in net.state_dict()]
        assert torch.equal(guided(x, at, cond).x0, classifier_free(net, weight)(x, at, cond).x0)


def test_clipped_pictures_are_within_their_range(net: Preconditioned) -> None:
    x, at = noisy([0.2, 0.9])
    cond = Condition(torch.tensor([0, 2]))
    free, kept = net(10 * x, at, cond).x0, clipped(net)(10 * x, at, cond).x0
    assert float(free.abs().max()) > 1
    assert torch.equal(kept, free.clamp(-1, 1))
