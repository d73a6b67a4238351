"""What a network's blocks make of a picture, as another one may look at it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from limner.contracts import Condition, ImageSpec, Level
from limner.models import PRECONDITIONINGS, DiTConfig, NetConfig, Preconditioned, UNetConfig, dit, unet

SPEC = ImageSpec(3, (13, 10), "RGB")
NETS: list[tuple[NetConfig, type[nn.Module], list[tuple[int, int, int]]]] = [
    (UNetConfig(width=8, multipliers=(1, 2), unshuffle=1), unet.Block,
     [(8, 14, 10), (16, 7, 5), (16, 7, 5)]),
    (DiTConfig(width=24, depth=3, heads=2, patch=2), dit.Block, [(24, 7, 5), (24, 7, 5)]),
]  # fmt: skip


@pytest.mark.parametrize(("config", "block", "shapes"), NETS, ids=["unet", "dit"])
def test_features_are_what_the_blocks_say(
    config: NetConfig, block: type[nn.Module], shapes: list[tuple[int, int, int]]
) -> None:
    net = config.build(SPEC, 4, 3)
    said: list[Tensor] = []
    for module in net.modules():
        if isinstance(module, block):
            module.register_forward_hook(lambda _, __, out: said.append(out))
    model = Preconditioned(net, PRECONDITIONINGS["flow"], 0.5, (0.1,))
    x = torch.linspace(-1, 1, 2 * 3 * 13 * 10).reshape(2, 3, 13, 10)
    half = torch.full((2,), 0.5)
    with torch.no_grad():
        model(x, Level(half, half), Condition(torch.tensor([0, 3])))
        expected = said[: len(shapes)]
        said.clear()
        found = model.features(x, Level(half, half), Condition(torch.tensor([0, 3])))
    assert len(said) == len(shapes)  # and no block has worked for nothing
    assert [tuple(one.shape[1:]) for one in found] == shapes
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other if other.ndim == 4 else other.transpose(1, 2).reshape(one.shape))
