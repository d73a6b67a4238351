from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limner.codecs import Identity
from limner.contracts import Condition, DecodeConfig, Generator, ImageSpec, Model, Noise, RefineConfig
from limner.errors import UserError
from limner.models import PRECONDITIONINGS, Preconditioned, UNet, UNetConfig
from limner.sampling import evaluations, log_likelihood, sample
from limner.sampling.decoding import codes, truncated

SPEC = ImageSpec(1, (4, 3), "L")


class Mapped(Generator):
    """w = z + 5 on average; a picture is w and a little noise."""

    code = 12

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.1))

    def latent(self, z: Tensor, cond: Condition) -> Tensor:
        return z + 5

    def center(self, cond: Condition) -> Tensor:
        return torch.tensor(5.0)

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        made: Tensor = (w - 5).reshape(-1, 1, 4, 3) * self.scale + 0.01 * noise("grain", (1, 4, 3))
        return made if cond.label is None else made + cond.label.reshape(-1, 1, 1, 1) / 4


@pytest.fixture
def model() -> Model:
    return Model(Mapped().eval(), Identity(), SPEC, ("a", "b"), DecodeConfig())


def test_a_picture_does_not_see_its_batch(model: Model) -> None:
    whole = sample(model, 33, seed=2**40 + 1, batch=33)
    for batch in (1, 7, 64):
        assert np.array_equal(sample(model, 33, seed=2**40 + 1, batch=batch), whole)
    assert not np.array_equal(sample(model, 33, seed=3), whole)
    assert evaluations(model.defaults) == 1


def test_a_cut_normal_distribution() -> None:
    """Its moments are known, and a cut too wide to matter changes nothing but the method."""
    samples = torch.arange(4000)
    for cut in (0.5, 1.0, 2.0):
        z = codes(7, samples, 16, cut)
        assert float(z.abs().max()) <= cut
        density = math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi)
        variance = 1 - 2 * cut * density / math.erf(cut / math.sqrt(2))
        assert float(z.mean()) == pytest.approx(0, abs=0.01)
        assert float(z.var()) == pytest.approx(variance, rel=0.02)
    assert float(codes(7, samples, 16, 100.0).var()) == pytest.approx(1, rel=0.02)
    assert bool(codes(7, samples, 16, 100.0).isfinite().all())


def test_truncation_draws_codes_to_their_mean(model: Model) -> None:
    net = model.net
    assert isinstance(net, Generator)
    w = torch.randn(5, 12) + 5
    torch.testing.assert_close(truncated(net, w, Condition(), 0.25), 5 + 0.25 * (w - 5))
    assert truncated(net, w, Condition(), 1.0) is w
    spreads = [float(sample(model, 200, label=0, truncation=psi).std()) for psi in (1.0, 0.5, 0.0)]
    assert spreads[0] > 1.8 * spreads[1] > 3 * spreads[2]
    assert float(sample(model, 200, label=0, cut=0.1).std()) < spreads[1]


def test_settings_of_the_other_way_are_refused(model: Model) -> None:
    for given, says in (
        ({"steps": 4}, "steps is not for this model: it decodes a code in one pass and knows cut, truncation"),
        ({"guidance": 2.0}, "guidance is not for this model"),
        ({"config": RefineConfig()}, "RefineConfig is not for this model"),
        ({"guide": model}, "leave --guide out"),
        ({"truncation": 11.0}, "truncation is 11"),
    ):
        with pytest.raises(UserError, match=says):
            sample(model, 2, **given)  # type: ignore[arg-type]
    refining = Model(
        Preconditioned(UNet(UNetConfig(width=8), SPEC, 2), PRECONDITIONINGS["flow"], 0.5),
        Identity(),
        SPEC,
        ("a", "b"),
        RefineConfig(steps=2, guidance=1.5),
    )
    with pytest.raises(UserError, match="the model that guides must refine noise too"):
        sample(refining, 2, guide=model)
    with pytest.raises(UserError, match="this model knows no likelihood"):
        log_likelihood(model, np.zeros((2, 4, 3, 1), np.uint8))
