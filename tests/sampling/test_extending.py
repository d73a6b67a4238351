from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import limner
from limner.codecs import Identity
from limner.contracts import Condition, ExtendConfig, ImageSpec, Model
from limner.models import PixelCNNPPConfig
from limner.sampling.extending import Guided, top_k, top_p, written
from limner.writing import pictures_of, values_of

SPEC = ImageSpec(3, (5, 4), "RGB")


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    net = PixelCNNPPConfig(width=6, most=8, blocks=1, components=3).autoregressor(SPEC, 3).eval()
    for part in net.parameters():
        part.data += 0.2 * torch.randn_like(part)
    return Model(net, Identity(), SPEC, ("a", "b", "c"), ExtendConfig())


def test_a_picture_depends_on_no_other(model: Model) -> None:
    whole = limner.sample(model, 7, seed=3)
    assert whole.shape == (7, 5, 4, 3)
    assert whole.dtype == np.uint8
    assert np.array_equal(limner.sample(model, 7, seed=3, batch=2), whole)
    assert np.array_equal(limner.sample(model, 2, first=5, label=[2, 0], seed=3), whole[5:])
    assert not np.array_equal(limner.sample(model, 7, seed=4), whole)


def test_a_cold_model_writes_its_likeliest_values(model: Model) -> None:
    with torch.no_grad():
        cond, samples = Condition(torch.tensor([0, 1])), torch.arange(2)
        cold = [
            written(model.net, cond, samples, config, seed=seed)
            for seed in (0, 1)
            for config in (ExtendConfig(temperature=0.001), ExtendConfig(top_k=1), ExtendConfig(top_p=1e-6))
        ]
    for other in cold[1:]:
        assert torch.equal(other, cold[0])


@torch.no_grad()
def test_guidance_of_one_is_none_and_of_zero_is_no_class(model: Model) -> None:
    cond, samples = Condition(torch.tensor([0, 1, 2])), torch.arange(3)
    plain = written(model.net, cond, samples, ExtendConfig(top_p=0.999999), seed=0)  # draws by tables, as guidance does
    assert torch.equal(written(Guided(model.net, 1.0), cond, samples, ExtendConfig(), seed=0), plain)
    free = written(model.net, cond.dropped(), samples, ExtendConfig(top_p=0.999999), seed=0)
    assert torch.equal(written(Guided(model.net, 0.0), cond, samples, ExtendConfig(), seed=0), free)
    strong = written(Guided(model.net, 3.0), cond, samples, ExtendConfig(), seed=0)
    assert not torch.equal(strong, plain)


@torch.no_grad()
def test_guided_logits_are_what_the_formula_says(model: Model) -> None:
    cond, none = Condition(torch.tensor([1, 2])), torch.empty(2, 0, dtype=torch.int64)
    given, free = (
        torch.log_softmax(model.net.init_state(2, one)[1].logits(none), dim=-1) for one in (cond, cond.dropped())
    )
    found = Guided(model.net, 2.5).init_state(2, cond)[1].logits(none)
    torch.testing.assert_close(found, free + 2.5 * (given - free))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 3}, "steps is not for this model: it writes site by site"),
        ({"truncation": 0.5}, "truncation is not for this model"),
        ({"size": (8, 8)}, "pictures of one size"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": -1}, "top_k is -1"),
    ],
)
def test_mistakes_get_a_line(model: Model, changes: dict[str, object], said: str) -> None:
    with pytest.raises(limner.UserError, match=said):
        limner.sample(model, 2, **changes)  # type: ignore[arg-type]


def test_guidance_needs_a_model_that_knows_both(model: Model) -> None:
    with pytest.raises(limner.UserError, match="always told the class"):
        limner.sample(replace(model, unconditional=False), 2, guidance=2.0)
    with pytest.raises(limner.UserError, match="without labels"):
        limner.sample(replace(model, labels=()), 2, guidance=2.0)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=20, unique=True), st.integers(0, 25))
def test_top_k_leaves_the_likeliest(logits: list[int], k: int) -> None:
    said = torch.tensor(logits).double()
    left = top_k(said, k)
    kept = min(k, len(logits)) if k else len(logits)
    assert left.isfinite().sum() == kept
    assert set(left[left.isfinite()].tolist()) == set(said.sort(descending=True).values[:kept].tolist())


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20, unique=True), st.floats(1e-6, 1))
def test_top_p_leaves_the_fewest_that_hold_the_share(logits: list[float], p: float) -> None:
    said = torch.tensor(logits).double()
    share, left = torch.softmax(said, 0), top_p(said, p).isfinite()
    assert float(share[left].sum()) >= p - 1e-9
    assert float(share[left].min()) >= float(share[~left].max() if (~left).any() else 0)
    assert float(share[left].sum() - share[left].min()) < p or left.sum() == 1


@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_written_of_pictures_is_read_again(bits: int) -> None:
    spec = ImageSpec(3, (4, 5), "RGB", bits)
    values = torch.randint(0, 2**bits, (2, 60))
    x = pictures_of(values, spec, torch.float64)
    assert x.shape == (2, 3, 4, 5)
    assert float(x.min()) >= -1
    assert float(x.max()) <= 1
    assert torch.equal(values_of(x, spec), values)
    assert values_of(x, spec)[0, 3:6].tolist() == values_of(x[:, :, :, 1:2], replace(spec, size=(4, 1)))[0, :3].tolist()


@torch.no_grad()
def test_likelihood_is_exact(model: Model) -> None:
    pictures = limner.sample(model, 6, label=[0, 1, 2, 0, 1, 2])
    label = np.array([0, 1, 2, 0, 1, 2])
    bound = limner.log_likelihood(model, pictures, label=label, batch=4)
    assert bound.kind == "exact"
    values = values_of(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1, SPEC)
    told = model.net.log_prob(values, Condition(torch.from_numpy(label))).double().sum(1)
    torch.testing.assert_close(bound.nats, told)
    other = limner.log_likelihood(model, pictures, label=(label + 1) % 3)
    assert not torch.allclose(other.nats, bound.nats)
