from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.contracts import Codec, Condition, ImageSpec, Tokenizer
from limner.errors import UserError
from limner.models import KLCodecConfig, Palette, PaletteConfig, PatchCritic, VQCodec, VQCodecConfig

CONFIGS = {
    "kl": KLCodecConfig(width=4, channels=3, most=8),
    "kl-8": KLCodecConfig(width=4, channels=3, most=8, factor=8, blocks=2, unshuffle=4),
    "kl-4": KLCodecConfig(width=4, channels=3, most=8, unshuffle=4),
    "kl-1": KLCodecConfig(width=4, channels=3, most=8, unshuffle=1),
    "kl-2": KLCodecConfig(width=4, channels=3, most=8, factor=2),
    "vq": VQCodecConfig(width=4, channels=3, most=8, codes=11),
    "fsq": VQCodecConfig(width=4, most=8, levels=(5, 4, 3)),
    "scales": VQCodecConfig(width=4, channels=3, most=8, codes=11, scales=(1, 2, 3)),
    "palette": PaletteConfig(colours=7),
}
#: Those that fit whatever size pictures have.
OF_ANY_SIZE = sorted(set(CONFIGS) - {"scales"})


def codec(name: str, spec: ImageSpec) -> Codec:
    torch.manual_seed(0)
    return CONFIGS[name].codec(spec).eval()


@pytest.mark.parametrize("name", OF_ANY_SIZE)
@given(height=st.integers(1, 40), width=st.integers(1, 40), channels=st.integers(1, 4))
@settings(max_examples=8, deadline=None)
def test_any_size(name: str, height: int, width: int, channels: int) -> None:
    spec = ImageSpec(channels, (height, width), "L")
    one = codec(name, spec)
    x = torch.randn(3, *spec.shape)
    with torch.no_grad():
        z = one.encode(x)
        assert z.shape == (3, *one.latent_spec(spec).shape)
        assert one.decode(z).shape == x.shape
        torch.testing.assert_close(one.encode(x[:1]), z[:1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_latents_of_several_scales_have_one_length() -> None:
    """However far all of them have moved together: a coarse code would take that up, and never stand still."""
    spec = ImageSpec(1, (12, 12), "L")
    one = codec("scales", spec)
    assert isinstance(one, VQCodec)
    one.encoder.around.bias.fill_(300)
    one.encoder.around.bias[0] = -300
    z = one.latents(torch.randn(5, *spec.shape))
    torch.testing.assert_close(z.square().mean(1), torch.ones(5, 3, 3), rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match=r"net.channels is 1; with net.scales give 2 or more"):
        VQCodecConfig(channels=1, scales=(1, 2))


def test_latents_are_brought_to_size_and_back() -> None:
    spec = ImageSpec(1, (16, 16), "L")
    one = KLCodecConfig(width=4, channels=3).codec(spec)
    x = torch.randn(4, 1, 16, 16)
    with torch.no_grad():
        plain = one.posterior(x)[0]
        one.mean.fill_(0.5)
        one.square.fill_(4.25)
        torch.testing.assert_close(one.encode(x), (plain - 0.5) / 2)
        torch.testing.assert_close(one.decode(one.encode(x)), one.decoded(plain))


@pytest.mark.parametrize("name", ["kl", "kl-8", "kl-4"])
@torch.no_grad()
def test_a_fresh_codec_is_a_linear_map_of_each_place(name: str) -> None:
    one = codec(name, ImageSpec(2, (32, 32), "LA")).double()
    a, b = torch.randn(2, 2, 2, 32, 32).double()
    nothing = one.encode(torch.zeros_like(a))
    torch.testing.assert_close(one.encode(a + b) - nothing, one.encode(a) + one.encode(b) - 2 * nothing)
    side = 32 // nothing.shape[2]
    other = a.clone()
    other[:, :, side : 2 * side, 2 * side : 3 * side] += 1
    changed = (one.encode(other) - one.encode(a)).abs().sum(1) > 0
    assert changed[:, 1, 2].all()
    assert changed.sum() == 2


@pytest.mark.parametrize("name", ["vq", "fsq"])
@torch.no_grad()
def test_codes_are_the_nearest_ones(name: str) -> None:
    one = codec(name, ImageSpec(1, (16, 16), "L"))
    assert isinstance(one, VQCodec)
    z = torch.rand(2, 3, 5, 4) * 2 - 1
    tokens = one.nearest(z)
    rows = z.movedim(1, -1).reshape(-1, 3)
    nearest = torch.cdist(rows.double(), one.codes.double()).argmin(1).reshape(2, 5, 4)
    assert torch.equal(tokens, nearest)
    embedded = one.looked_up(tokens)
    assert embedded.shape == z.shape
    assert torch.equal(one.nearest(embedded), tokens)


@pytest.mark.parametrize("name", ["vq", "fsq", "scales", "palette"])
@torch.no_grad()
def test_tokens_are_read_again(name: str) -> None:
    spec = ImageSpec(2, (10, 7), "LA")
    one = codec(name, spec)
    assert isinstance(one, Tokenizer)
    written, x = one.token_spec(spec), torch.randn(3, 2, 10, 7)
    tokens = one.tokenize(x)
    assert tokens.shape == (3, *written.shape)
    assert int(tokens.max()) < one.tokens == written.levels
    torch.testing.assert_close(one.embed(tokens), one.encode(x), rtol=1e-6, atol=1e-6)
    if written.scales:
        return  # what is coarse may be said in several ways
    every = torch.arange(3 * written.values).reshape(3, -1) % one.tokens
    assert isinstance(one, VQCodec | Palette)
    assert torch.equal(one.nearest(one.embed(every)).flatten(1), every)


@pytest.mark.parametrize(("name", "side"), [("vq", 4), ("fsq", 4), ("palette", 1)])
def test_tokens_that_a_mask_touches(name: str, side: int) -> None:
    one = codec(name, ImageSpec(1, (10, 7), "L"))
    assert isinstance(one, Tokenizer)
    for row in range(10):
        for column in range(7):
            mask = torch.zeros(10, 7, dtype=torch.bool)
            mask[row, column] = True
            place = row // side * -(-7 // side) + column // side
            assert one.touched(mask).nonzero().flatten().tolist() == [place]
    assert not one.touched(torch.zeros(10, 7, dtype=torch.bool)).any()


def test_combinations_of_levels() -> None:
    one = codec("fsq", ImageSpec(1, (8, 8), "L"))
    assert isinstance(one, VQCodec)
    assert one.tokens == 60
    codes = one.looked_up(torch.arange(60)[None, None])[0, :, 0].T
    assert len({tuple(row.tolist()) for row in codes}) == 60
    assert codes.min() == -1
    assert codes.max() == 1


def test_the_use_of_codes() -> None:
    one = codec("vq", ImageSpec(1, (8, 8), "L"))
    assert isinstance(one, VQCodec)
    one.counts.copy_(torch.tensor([100.0] * 5 + [0.5] * 6))
    assert float(one.use()) == pytest.approx(5 / 11)


def test_patches_are_judged_each() -> None:
    """A change in a corner changes the scores there alone."""
    critic = PatchCritic(ImageSpec(2, (64, 64), "L"), width=4)
    x = torch.randn(1, 2, 64, 64)
    scores = critic(x, Condition())
    side = round(scores.shape[1] ** 0.5)
    assert scores.shape == (1, side * side)
    assert side == 16


@pytest.mark.parametrize(
    "wrong",
    [{"factor": 3}, {"factor": 1}, {"channels": 0}, {"width": 0}, {"unshuffle": 3}, {"unshuffle": 8}],
)
def test_mistakes(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"net.{next(iter(wrong))}"):
        KLCodecConfig(**wrong)
    with pytest.raises(UserError, match="combinations"):
        VQCodecConfig(levels=(200, 200, 200))


@torch.no_grad()
def test_every_scale_stands_for_what_those_before_it_leave() -> None:
    one = codec("scales", ImageSpec(1, (12, 9), "L"))
    assert isinstance(one, VQCodec)
    assert one.token_spec(ImageSpec(1, (12, 9), "L")).scales == ((1, 1), (2, 2), (3, 3))
    z = torch.randn(4, 3, 3, 3)
    latents, parts, numbers = one.quantized(z)
    assert [part.shape[2:] for part in parts] == [number.shape[1:] for number in numbers] == [(1, 1), (2, 2), (3, 3)]
    torch.testing.assert_close(parts[0][:, :, 0, 0], z.mean((2, 3)))
    assert torch.equal(numbers[2], one.nearest(parts[2]))
    torch.testing.assert_close(latents - one.looked_up(numbers[2]), z - parts[2])
    corner = torch.zeros(12, 9, dtype=torch.bool)
    corner[11, 0] = True
    assert one.touched(corner).nonzero().flatten().tolist() == [0, 3, 11]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scales": (2, 1, 3)}, "numbers that grow"),
        ({"scales": (1, 2, 2)}, "numbers that grow"),
        ({"scales": (1, 3), "levels": (3, 3)}, "leave net.levels out"),
        ({"scales": (1, 2)}, "of these pictures it has to end with 3"),
    ],
)
def test_mistaken_scales(changes: dict[str, tuple[int, ...]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        VQCodecConfig(**changes).codec(ImageSpec(1, (12, 9), "L"))  # type: ignore[arg-type]
