"""What every network that writes promises, by one test each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from limner.contracts import Autoregressor, Condition, ImageSpec
from limner.distributions import Categorical, Distribution
from limner.errors import UserError
from limner.models import AutoregressorNetConfig, DalleConfig, GPTConfig, PixelCNNConfig, PixelCNNPPConfig, VARConfig
from limner.models.dalle import Dalle
from limner.models.logistic_mixture import LogisticMixture
from limner.models.pixelcnn import PixelCNN
from limner.models.pixelcnn_pp import PixelCNNPP
from limner.models.scales import brought_down, brought_up, mixing
from limner.models.transformer import WritingTransformer
from limner.text import TextConfig

SPECS = {
    "grey": ImageSpec(1, (6, 7), "L"),
    "colours": ImageSpec(3, (8, 8), "RGB"),
    "smaller than its maps": ImageSpec(3, (3, 2), "RGB"),
    "of odd sizes": ImageSpec(2, (5, 9), "latents"),
    "a row": ImageSpec(1, (1, 11), "L"),
    "tokens": ImageSpec(1, (4, 3), "tokens", codes=50),
    "scales of tokens": ImageSpec(1, (5, 4), "tokens", codes=50, scales=((1, 1), (2, 2), (3, 2), (5, 4))),
    "one scale": ImageSpec(1, (2, 3), "tokens", codes=50, scales=((2, 3),)),
}
CNN = PixelCNNPPConfig(width=6, most=10, components=3)
NETS: dict[str, AutoregressorNetConfig] = {
    "pixelcnn++ of one size": replace(CNN, sizes=1),
    "pixelcnn++ of two": replace(CNN, sizes=2),
    "pixelcnn++": CNN,
    "pixelcnn": PixelCNNConfig(width=48, depth=4),
    "gpt": GPTConfig(width=16, depth=2, heads=2),
    "var": VARConfig(width=16, depth=2, heads=2),
    "dalle": DalleConfig(width=16, depth=2, heads=2, text=TextConfig(300, 5)),
}


def fits(config: AutoregressorNetConfig, spec: ImageSpec) -> bool:
    """Whether the network is for such pictures."""
    try:
        config.autoregressor(spec, 0)
    except UserError:
        return False
    return True


def pairs(specs: dict[str, ImageSpec]) -> dict[str, tuple[AutoregressorNetConfig, ImageSpec]]:
    """Every network on all that it is for."""
    return {
        f"{name} of {what}": (config, spec)
        for name, config in NETS.items()
        for what, spec in specs.items()
        if fits(config, spec)
    }


PAIRS = pairs(SPECS)
LARGEST = pairs({name: SPECS[name] for name in ("colours", "scales of tokens")})
#: All pictures of three values can be listed.
FEW = pairs(
    {
        "grey": ImageSpec(1, (2, 3), "L"),
        "colours": ImageSpec(3, (1, 2), "RGB"),
        "tokens": ImageSpec(1, (2, 3), "tokens", codes=5),
        "scales": ImageSpec(1, (2, 3), "tokens", codes=5, scales=((1, 1), (2, 3))),
    }
)


@dataclass(frozen=True)
class Case:
    net: Autoregressor
    spec: ImageSpec

    @property
    def numbers(self) -> int:
        """Values of a picture."""
        return sum(self.net.sites)

    def whole(self, values: Tensor, cond: Condition, site: int) -> Distribution:
        """What a whole pass says of a site."""
        net = self.net
        if isinstance(net, PixelCNNPP):
            row, column = divmod(site, net.size[1])
            said = net.said(values.reshape(len(values), *net.size, net.channels), cond)[:, row, column]
            return LogisticMixture(said, net.channels, net.levels)
        assert isinstance(net, WritingTransformer | PixelCNN)
        first = sum(net.sites[:site])
        return Categorical(net.said(values, cond)[:, first : first + net.sites[site]])

    def shorter(self, levels: int) -> None:
        """Of an alphabet of so many."""
        if isinstance(self.net, PixelCNNPP | PixelCNN):
            self.net.levels = levels
        if isinstance(self.net, WritingTransformer | PixelCNN):
            head, known = self.net.head, self.spec.levels
            for part in (head.weight, head.bias, *head.buffers()):
                part.data = part.data.reshape(-1, known, *part.shape[1:])[:, :levels].flatten(0, 1)


def case(config: AutoregressorNetConfig, spec: ImageSpec, classes: int = 3) -> Case:
    """With weights that say something at every layer."""
    torch.manual_seed(0)
    net = config.autoregressor(spec, classes).double()
    for part in net.parameters():
        part.data += 0.2 * torch.randn_like(part)
    return Case(net.eval(), spec)


def told(n: int) -> Condition:
    """Labels, the null label among them, and texts of all lengths, for who hears them."""
    numbers = torch.arange(5 * n).reshape(n, 5) % 300
    return Condition(torch.arange(n) % 4 - 1, torch.where(torch.arange(5) < torch.arange(n)[:, None] % 6, numbers, -1))


def written(net: Autoregressor, uniforms: Callable[[int], Tensor], cond: Condition) -> tuple[Tensor, Tensor]:
    """Values (N, T) and their ln p (N, S), a site at a time from what is kept."""
    assert cond.label is not None
    state, said = net.init_state(len(cond.label), cond)
    values, nats = [], []
    for site in range(len(net.sites)):
        values.append(said.draw(uniforms(site)))
        nats.append(said.log_prob(values[-1]))
        if site + 1 < len(net.sites):
            state, said = net.step(values[-1], state)
    return torch.cat(values, dim=1), torch.stack(nats, dim=1)


def written_anew(one: Case, uniforms: Callable[[int], Tensor], cond: Condition) -> Tensor:
    """The same by a whole pass for each site."""
    assert cond.label is not None
    values = torch.zeros(len(cond.label), one.numbers, dtype=torch.int64)
    first = 0
    for site, length in enumerate(one.net.sites):
        values[:, first : first + length] = one.whole(values, cond, site).draw(uniforms(site))
        first += length
    return values


def uniforms_of(one: Case, n: int, dtype: torch.dtype) -> Callable[[int], Tensor]:
    torch.manual_seed(1)
    drawn = torch.rand(len(one.net.sites), n, 1 + max(one.net.sites)).to(dtype)
    return lambda site: drawn[site, :, : 1 + one.net.sites[site]]


@pytest.mark.parametrize(("config", "spec"), PAIRS.values(), ids=PAIRS.keys())
@torch.no_grad()
def test_what_is_kept_writes_the_same_as_whole_passes(config: AutoregressorNetConfig, spec: ImageSpec) -> None:
    one, cond = case(config, spec), told(5)
    uniforms = uniforms_of(one, 5, torch.float64)
    values, nats = written(one.net, uniforms, cond)
    assert torch.equal(values, written_anew(one, uniforms, cond))
    torch.testing.assert_close(nats, one.net.log_prob(values, cond), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("config", "spec"), LARGEST.values(), ids=LARGEST.keys())
@torch.no_grad()
def test_it_does_so_in_float32(config: AutoregressorNetConfig, spec: ImageSpec) -> None:
    one, cond = case(config, spec), told(5)
    one.net.float()
    values, nats = written(one.net, uniforms_of(one, 5, torch.float32), cond)
    torch.testing.assert_close(nats, one.net.log_prob(values, cond), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("config", "spec"), PAIRS.values(), ids=PAIRS.keys())
@torch.no_grad()
def test_a_site_hears_all_before_it_and_nothing_after(config: AutoregressorNetConfig, spec: ImageSpec) -> None:
    one, cond = case(config, spec), told(1)
    values = torch.randint(0, spec.levels, (1, one.numbers))
    before = one.net.log_prob(values, cond)
    first = 0
    for site, length in enumerate(one.net.sites):
        other, here = values.clone(), slice(first, first + length)
        other[:, here] = (other[:, here] + spec.levels // 2) % spec.levels
        moved = (one.net.log_prob(other, cond) - before).abs()[0]
        assert float(moved[:site].sum()) == 0
        assert float(moved[site + 1 :].min() if site + 1 < len(moved) else 1) > 0, site
        first += length


@pytest.mark.parametrize(("config", "spec"), FEW.values(), ids=FEW.keys())
@torch.no_grad()
def test_all_pictures_have_probability_one_together(config: AutoregressorNetConfig, spec: ImageSpec) -> None:
    one = case(config, spec)
    one.shorter(3)
    every = torch.tensor(list(itertools.product(range(3), repeat=one.numbers)))
    for label in (-1, 0, 2):
        total = one.net.log_prob(every, Condition(torch.full((len(every),), label))).sum(1).exp().sum()
        torch.testing.assert_close(float(total), 1.0, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("config", "spec"), LARGEST.values(), ids=LARGEST.keys())
@torch.no_grad()
def test_a_class_is_heard_and_no_class_is_the_null_label(config: AutoregressorNetConfig, spec: ImageSpec) -> None:
    one = case(config, spec)
    values = torch.randint(0, spec.levels, (2, one.numbers))
    null, first = (one.net.log_prob(values, Condition(torch.full((2,), label))) for label in (-1, 0))
    torch.testing.assert_close(one.net.log_prob(values, Condition()), null)
    assert float((first - null).abs().min()) > 0


def dalle() -> Dalle:
    net = case(NETS["dalle"], SPECS["tokens"]).net
    assert isinstance(net, Dalle)
    return net


@torch.no_grad()
def test_a_text_is_heard_and_one_without_tokens_is_no_text() -> None:
    net, values = dalle(), torch.randint(0, 50, (2, 12))
    text = torch.tensor([[3, 200, 7, -1, -1], [3, 201, 7, -1, -1]])
    first, other = net.log_prob(values[:1].expand(2, -1), Condition(text=text))
    assert float((first - other).abs().min()) > 0
    none = net.log_prob(values, Condition(text=torch.full((2, 5), -1)))
    assert torch.equal(net.log_prob(values, Condition()), none)
    assert float((net.log_prob(values, Condition(text=text)) - none).abs().min()) > 0


@torch.no_grad()
def test_a_texts_tokens_follow_from_those_before_them_and_from_no_picture() -> None:
    net, values = dalle(), torch.randint(0, 50, (1, 12))
    text = torch.tensor([[3, 200, 7, 299, -1]])
    sites, words = net.log_probs(values, Condition(text=text))
    assert torch.equal(sites, net.log_prob(values, Condition(text=text)))
    assert words.shape == (1, 5)
    assert float(words[0, 4]) == 0
    assert float(words[0, :4].max()) < 0
    assert torch.equal(net.log_probs((values + 1) % 50, Condition(text=text))[1], words)
    for place in range(4):
        other = text.clone()
        other[0, place] = 100
        moved = (net.log_probs(values, Condition(text=other))[1] - words).abs()[0, :4]
        assert float(moved[:place].sum()) == 0
        assert float(moved[place:].min()) > 0


@torch.no_grad()
def test_all_first_words_have_probability_one_together() -> None:
    net, text = dalle(), torch.full((300, 5), -1)
    text[:, 0] = torch.arange(300)
    words = net.log_probs(torch.zeros(300, 12, dtype=torch.int64), Condition(text=text))[1]
    torch.testing.assert_close(float(words[:, 0].exp().sum()), 1.0, rtol=1e-12, atol=0)


@pytest.mark.parametrize("spec", [SPECS["grey"], ImageSpec(3, (4, 5), "RGB")])
def test_what_pixelcnn_says_follows_from_every_value_before_and_no_other(spec: ImageSpec) -> None:
    net = case(NETS["pixelcnn"], spec).net
    assert isinstance(net, PixelCNN)
    values = torch.randint(0, 256, (1, len(net.sites))).double()
    some = torch.randn(256).double()
    slopes = torch.autograd.functional.jacobian(lambda given: (net.said(given, told(1)) @ some)[0], values)[:, 0]
    before = torch.ones_like(slopes).tril(-1).bool()
    assert float(slopes[~before].abs().max()) == 0
    assert float(slopes[before].abs().min()) > 0


@pytest.mark.parametrize("config", [PixelCNNConfig(), GPTConfig()])
def test_what_tells_values_apart_writes_bytes(config: PixelCNNConfig | GPTConfig) -> None:
    with pytest.raises(UserError, match="8 bits"):
        config.autoregressor(ImageSpec(1, (4, 4), "L", 16), 0)


def test_heads_of_a_transformer_share_its_width() -> None:
    with pytest.raises(UserError, match="multiple of 12"):
        GPTConfig(width=20, heads=3)


def test_tokens_are_written_as_the_codec_makes_them() -> None:
    tokens, scales = SPECS["tokens"], SPECS["scales of tokens"]
    with pytest.raises(UserError, match="the codec makes 4: train var"):
        GPTConfig().autoregressor(scales, 0)
    with pytest.raises(UserError, match=r"vq-codec --net.scales 1 2 \.\.\. 4"):
        VARConfig().autoregressor(tokens, 0)
    for config in (CNN, PixelCNNConfig()):
        with pytest.raises(UserError, match="leave --codec out"):
            config.autoregressor(tokens, 0)


def test_a_scale_is_told_the_sum_of_those_before_it() -> None:
    """As the codec makes it of codes: up to the finest map, and down to its own."""
    sizes = SPECS["scales of tokens"].scales
    mixed, maps = mixing(sizes), [torch.randn(6, *size) for size in sizes]
    told = mixed @ torch.cat([one.flatten(1) for one in maps], dim=1).t()
    total, first = torch.zeros(1, 6, *sizes[-1]), 0
    for size, one in zip(sizes, maps, strict=True):
        here = told[first : first + size[0] * size[1]].t().reshape(1, 6, *size)
        torch.testing.assert_close(here, brought_down(total, size), rtol=1e-5, atol=1e-5)
        total, first = total + brought_up(one[None], sizes[-1]), first + size[0] * size[1]
