from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from limner.contracts import ImageSpec
from limner.models import UNet, UNetConfig
from limner.objectives import AdamWConfig, MuonConfig
from limner.objectives.muon import Muon, orthogonalized

SHAPES = [(16, 16), (16, 40), (40, 16), (64, 64), (32, 288), (128, 20)]


def matrices(shape: tuple[int, int], count: int = 3) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    given = matrices(shape)
    u, s, v = torch.linalg.svd(given, full_matrices=False)
    out = orthogonalized([matrices(other) for other in SHAPES])[SHAPES.index(shape)]
    found = torch.diagonal(u.mT @ out @ v.mT, dim1=1, dim2=2)
    well = s > 0.02 * given.norm(dim=(1, 2))[:, None]
    assert float(found[well].min()) > 0.6
    assert float(found.max()) < 1.3
    torch.testing.assert_close((u * found[:, None, :]) @ v, out, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_by_the_published_iteration(shape: tuple[int, int]) -> None:
    """Jordan et al. 2024: X <- a X + (b A + c A²) X with A = X Xᵀ, five times, one matrix at a time in float64."""
    for one in matrices(shape).double():
        x = one.mT if shape[0] > shape[1] else one
        x = x / x.norm()
        for _ in range(5):
            a = x @ x.mT
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        expected = x.mT if shape[0] > shape[1] else x
        torch.testing.assert_close(orthogonalized([one[None].float()])[0][0].double(), expected, rtol=1e-3, atol=1e-4)


def fit(optimizer: torch.optim.Optimizer, layer: nn.Module, steps: int) -> float:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(256, 20, generator=generator)
    y = x @ torch.randn(20, 24, generator=generator)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (layer(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    return float(loss)


def test_descends_and_goes_on_after_a_round_trip_of_its_state() -> None:
    with torch.random.fork_rng():
        layer = nn.Linear(20, 24, bias=False)
    optimizer = Muon(layer.parameters(), lr=0.1)
    first, last = fit(optimizer, layer, 1), fit(optimizer, layer, 60)
    assert last < 0.1 * first
    other = copy.deepcopy(layer)
    again = Muon(other.parameters(), lr=0.1)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    fit(optimizer, layer, 5)
    fit(again, other, 5)
    assert torch.equal(layer.weight, other.weight)


def test_weight_decay_shrinks_without_a_gradient_to_follow() -> None:
    p = nn.Parameter(torch.ones(16, 16))
    p.grad = torch.zeros(16, 16)
    Muon([p], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(p.detach(), torch.full((16, 16), 0.95))


def test_a_convolution_is_the_matrix_of_its_output_channels() -> None:
    generator = torch.Generator().manual_seed(3)
    weight, grad = (torch.randn(16, 4, 3, 3, generator=generator) for _ in range(2))
    conv = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
    plain = nn.Parameter(weight.reshape(16, 36).clone())
    conv.grad, plain.grad = grad.contiguous(memory_format=torch.channels_last), grad.reshape(16, 36).clone()
    for p in (conv, plain):
        Muon([p], lr=0.1).step()
    torch.testing.assert_close(conv.detach().reshape(16, 36), plain.detach())


def test_muon_takes_what_lies_inside_and_adamw_the_rest() -> None:
    net = UNet(UNetConfig(width=16, multipliers=(1, 2)), ImageSpec(1, (8, 8), "L"), 10)
    built = MuonConfig(lr=0.01, rest=AdamWConfig(lr=0.003)).build("net", net)
    inside, rest = ({id(p) for p in built[name].param_groups[0]["params"]} for name in ("net.muon", "net.rest"))
    assert not inside & rest
    assert inside | rest == {id(p) for p in net.parameters()}
    assert id(net.down[0].conv0.weight) in inside  # type: ignore[union-attr]
    assert {id(net.head.weight), id(net.embed_label.weight), id(net.norm.weight)} <= rest  # type: ignore[union-attr]
    assert AdamWConfig().build("net", net).keys() == {"net"}
