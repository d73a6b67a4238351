"""The diffusion transformer as laws: what may change its answer and what may not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from limner.contracts import ImageSpec
from limner.errors import UserError
from limner.models import DiT, DiTConfig
from limner.models.dit import rotary
from limner.models.fused import normed_and_turned

SMALL = DiTConfig(width=24, depth=2, heads=2, patch=4)


def built(config: DiTConfig = SMALL, channels: int = 1, size: tuple[int, int] = (8, 12), classes: int = 3) -> DiT:
    """A network whose gates are open."""
    torch.manual_seed(0)
    net = config.build(ImageSpec(channels, size, "L"), classes, channels)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def pictures(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_it_begins_as_nothing() -> None:
    """Adaptive norms and the head are zero: the first prediction is the preconditioning's own."""
    net = SMALL.build(ImageSpec(1, (8, 8), "L"), 0, 1)
    assert torch.equal(net(pictures(2, 1, 8, 8), torch.zeros(2), None), torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1), (5, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_comes_out_as_it_went_in(size: tuple[int, int], channels: int) -> None:
    net = built(channels=channels, size=size)
    assert net(pictures(2, channels, *size), torch.zeros(2), torch.zeros(2).long()).shape == (2, channels, *size)


def test_another_number_of_channels_comes_out() -> None:
    net = SMALL.build(ImageSpec(3, (8, 8), "RGB"), 0, 6)
    assert net(pictures(2, 3, 8, 8), torch.zeros(2), None).shape == (2, 6, 8, 8)


def test_all_inputs_matter_to_every_pixel() -> None:
    net, x = built(), pictures(1, 1, 8, 12)
    level, label = torch.tensor([0.2]), torch.tensor([1])
    out = net(x, level, label)
    moved = x.clone()
    moved[0, 0, 7, 11] += 1
    for changed in (net(moved, level, label), net(x, level + 0.1, label), net(x, level, label + 1)):
        assert bool(((changed - out).abs() > 1e-7).all())


def test_no_label_is_the_null_label() -> None:
    net, x = built(), pictures(2, 1, 8, 12)
    assert torch.equal(net(x, torch.zeros(2), None), net(x, torch.zeros(2), torch.full((2,), -1)))


def test_a_picture_does_not_see_its_batch() -> None:
    net, x, level = built(), pictures(5, 1, 8, 12), torch.linspace(-1, 1, 5)
    whole = net(x, level, None)
    torch.testing.assert_close(net(x[3:4], level[3:4], None), whole[3:4], rtol=1e-4, atol=1e-5)


def test_turning_keeps_lengths_and_tells_only_how_far_apart_tokens_are() -> None:
    """Products of a query at one place and a key at another depend on the difference of rows and of columns alone."""
    turns = rotary(5, 7, 16, torch.device("cpu"))
    one_each = pictures(2, 16).expand(1, 35, 2, 16).contiguous()
    both = normed_and_turned(one_each[:, :, :, None], torch.ones(2, 1, 16), turns[:, None, None])
    queries, keys = (one[0, 0].reshape(5, 7, 16) for one in both)
    torch.testing.assert_close(queries.norm(dim=-1), torch.full((5, 7), 4.0))

    def product(a: tuple[int, int], b: tuple[int, int]) -> float:
        return float(queries[a] @ keys[b])

    assert product((0, 1), (2, 4)) == pytest.approx(product((2, 3), (4, 6)), abs=1e-5)
    assert product((0, 1), (2, 4)) != pytest.approx(product((0, 1), (3, 4)), abs=1e-3)
    assert product((0, 1), (2, 4)) != pytest.approx(product((0, 1), (2, 5)), abs=1e-3)


def test_checkpointing_changes_neither_answer_nor_gradients() -> None:
    """With a dropout, whose noise is drawn again when a block is computed again."""
    results = []
    for checkpointing in (False, True):
        net = built(DiTConfig(width=24, depth=2, heads=2, patch=4, dropout=0.3, checkpointing=checkpointing)).train()
        torch.manual_seed(3)
        loss = net(pictures(2, 1, 8, 12), torch.zeros(2), None).square().sum()
        loss.backward()
        results.append([loss, *(p.grad for p in net.parameters() if p.grad is not None)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("size", "patch"), [((28, 28), 4), ((32, 32), 4), ((13, 11), 2), ((12, 12), 1), ((96, 40), 8)])
def test_the_patch_that_fits(size: tuple[int, int], patch: int) -> None:
    assert DiTConfig(width=24, heads=2).fitted(size).patch == patch
    assert 7 <= -(-max(size) // patch) <= 12


@pytest.mark.parametrize("side", [768, 769, 1024, 4096])
def test_a_patch_for_large_pictures_stays_within_its_bounds(side: int) -> None:
    assert DiTConfig(width=24, heads=2).fitted((side, 64)).patch == 64


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"width": 30, "heads": 4}, "multiple of 16"), ({"depth": 0}, "net.depth"), ({"dropout": 1.0}, "net.dropout")],
)
def test_shapes_that_cannot_be(changes: dict[str, int], says: str) -> None:
    with pytest.raises(UserError, match=says):
        DiTConfig(**changes)  # type: ignore[arg-type]
