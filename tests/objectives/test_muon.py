"""Muon against its definition, one matrix at a time, and the orthogonalising inside it against its own."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from limner.contracts import arithmetic
from limner.objectives.muon import _QUINTICS as QUINTICS
from limner.objectives.muon import Muon, orthogonalized

SHAPES = [(16, 24), (24, 16), (16, 24), (20, 4, 3, 3), (20, 4, 3, 3), (16, 8, 5), (32, 40, 1, 1)]


def drawn(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def by_definition(weights: list[Tensor], grads: list[list[Tensor]], lr: float, beta: float, decay: float) -> None:
    """Jordan et al. 2024: m = beta m + (1 - beta) g; orthogonalise (1 - beta) g + beta m; the step's size is AdamW's
    (Liu et al. 2025, equation 4: 0.2 sqrt(max(rows, columns)))."""
    momenta = [torch.zeros_like(w) for w in weights]
    for step in grads:
        for w, m, g in zip(weights, momenta, step, strict=True):
            m.mul_(beta).add_(g, alpha=1 - beta)
            ahead = ((1 - beta) * g + beta * m).reshape(len(g), -1)
            w.mul_(1 - lr * decay)
            size = 0.2 * max(ahead.shape) ** 0.5
            w.sub_(lr * size * orthogonalized([ahead[None]])[0].reshape(w.shape))


def test_by_its_definition() -> None:
    weights, grads = drawn(0), [drawn(seed) for seed in (1, 2, 3)]
    params = [nn.Parameter(w.clone()) for w in weights]
    optimizer = Muon(params, lr=0.05, momentum=0.9, weight_decay=0.2)
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
        optimizer.step()
    by_definition(weights, grads, 0.05, 0.9, 0.2)
    for p, w in zip(params, weights, strict=True):
        torch.testing.assert_close(p.detach(), w, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weight", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("grad", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(16, 4, 3, 3), (16, 1, 3, 3), (16, 24, 1, 1)])
def test_memory_layouts_of_weight_and_gradient_may_differ(
    weight: torch.memory_format, grad: torch.memory_format, shape: tuple[int, ...]
) -> None:
    """A gradient in another layout than its weight used to be added with its columns in the wrong order."""
    generator = torch.Generator().manual_seed(5)
    w, g = (torch.randn(shape, generator=generator) for _ in range(2))
    conv, plain = nn.Parameter(w.contiguous(memory_format=weight).clone()), nn.Parameter(w.flatten(1).clone())
    conv.grad, plain.grad = g.contiguous(memory_format=grad).clone(), g.flatten(1).clone()
    for p in (conv, plain):
        Muon([p], lr=0.1).step()
    torch.testing.assert_close(conv.detach().flatten(1), plain.detach())


def test_memory_that_it_could_not_write_into_is_refused() -> None:
    with pytest.raises(ValueError, match="memory is in order"):
        Muon([nn.Parameter(torch.zeros(16, 8, 20).transpose(1, 2))])


def test_weights_without_a_gradient_stay() -> None:
    first, second = (nn.Parameter(torch.ones(16, 16)) for _ in range(2))
    first.grad = torch.eye(16)
    Muon([first, second], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(second.detach(), torch.ones(16, 16))
    assert not torch.equal(first.detach(), torch.ones(16, 16))


def test_a_gradient_of_zero_is_no_step_and_its_scale_does_not_count() -> None:
    weights = [nn.Parameter(torch.ones(16, 24)) for _ in range(3)]
    shape = drawn(3)[0]
    for p, g in zip(weights, (0 * shape, shape, 1000 * shape), strict=True):
        p.grad = g
        Muon([p], lr=0.1).step()
    assert torch.equal(weights[0].detach(), torch.ones(16, 24))
    torch.testing.assert_close(weights[1].detach(), weights[2].detach(), rtol=1e-4, atol=1e-5)


def test_a_restored_state_goes_on_bit_for_bit() -> None:
    """For convolutions in channels_last memory too, where the copy of the state is not."""
    params = [nn.Parameter(w.contiguous(memory_format=torch.channels_last)) for w in drawn(0) if w.ndim == 4]
    optimizer = Muon(params, lr=0.05)

    def go_on(params: list[nn.Parameter], optimizer: Muon, seeds: range) -> None:
        for seed in seeds:
            for p, g in zip(params, (g for g in drawn(seed) if g.ndim == 4), strict=True):
                p.grad = g.contiguous(memory_format=torch.channels_last)
            optimizer.step()

    go_on(params, optimizer, range(1, 4))
    others = [nn.Parameter(p.detach().clone(memory_format=torch.preserve_format)) for p in params]
    again, kept = Muon(others, lr=0.05), copy.deepcopy(optimizer.state_dict())
    for state in kept["state"].values():
        state["momentum"] = state["momentum"].contiguous()
    again.load_state_dict(kept)
    go_on(params, optimizer, range(4, 7))
    go_on(others, again, range(4, 7))
    for p, other in zip(params, others, strict=True):
        assert torch.equal(p, other)


SIDES = [(16, 16), (16, 40), (40, 16), (64, 64), (32, 288), (128, 20)]


def matrices(shape: tuple[int, int], count: int = 3) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SIDES)
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    given = matrices(shape)
    u, s, v = torch.linalg.svd(given, full_matrices=False)
    out = orthogonalized([matrices(other) for other in SIDES])[SIDES.index(shape)]
    found = torch.diagonal(u.mT @ out @ v.mT, dim1=1, dim2=2)
    well = s > 0.005 * given.norm(dim=(1, 2))[:, None]
    assert float(found[well].min()) > 0.79
    assert float(found.max()) < 1.21
    torch.testing.assert_close((u * found[:, None, :]) @ v, out, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", SIDES)
def test_orthogonalizing_by_the_published_iteration(shape: tuple[int, int]) -> None:
    """X <- a X + (b A + c A²) X with A = X Xᵀ (Jordan et al. 2024; Amsel et al. 2025, algorithm 1), one matrix at a
    time in float64."""
    for one in matrices(shape).double():
        x = one.mT if shape[0] > shape[1] else one
        x = x / x.norm()
        for a, b, c in QUINTICS:
            square = x @ x.mT
            x = a * x + (b * square + c * square @ square) @ x
        expected = x.mT if shape[0] > shape[1] else x
        torch.testing.assert_close(orthogonalized([one[None].float()])[0][0].double(), expected, rtol=1e-3, atol=1e-4)


def spectra(width: int = 56) -> dict[str, torch.Tensor]:
    """Matrices (40, width) of many kinds of singular values."""
    left, right = (torch.linalg.qr(matrices((side, 40), 1)[0])[0] for side in (40, width))
    values = {"even": torch.ones(40), "one": torch.eye(40)[0], "two": torch.eye(40)[:2].sum(0)}
    values |= {f"down to 1e-{n}": torch.logspace(0, -n, 40) for n in (1, 2, 4, 8)}
    return {name: (left * one) @ right.mT for name, one in values.items()} | {
        "drawn": matrices((40, width), 1)[0],
        "ones": torch.ones(40, width),
        "one number": torch.eye(1, 40 * width).reshape(40, width),
        "tiny": 1e-12 * matrices((40, width), 1)[0],
        "zero": torch.zeros(40, width),
    }


@pytest.mark.parametrize("name", spectra())
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("width", [40, 56, 160])
def test_singular_values_come_near_one_in_bfloat16(name: str, turned: bool, width: int) -> None:
    """What is large does not run away, though each product is rounded to three digits."""
    given = spectra(width)[name].mT if turned else spectra(width)[name]
    u, s, v = torch.linalg.svd(given, full_matrices=False)
    with arithmetic(torch.device("cpu"), "bfloat16"):
        out = orthogonalized([given[None]])[0][0]
    assert out.dtype == torch.bfloat16
    assert float(torch.linalg.matrix_norm(out.float(), 2)) < 1.23
    found = torch.diagonal(u.mT @ out.float() @ v.mT)[s > max(1e-6, 0.01 * float(given.norm()))]
    assert bool((found > 0.77).all())


def test_quintics_are_the_nearest_to_one() -> None:
    """Chebyshev: an odd polynomial of three terms is the nearest to 1 where its error has four extremes of one size
    and of alternating signs."""
    x = torch.logspace(math.log10(0.003), 0, 200_001, dtype=torch.float64)
    low, high = 0.003, 1.0
    for a, b, c in QUINTICS:
        grid = torch.linspace(low, high, 400_001, dtype=torch.float64)
        error = a * grid + b * grid**3 + c * grid**5 - 1
        turns = [error[0], *error[1:-1][(error.diff()[:-1] * error.diff()[1:]) < 0], error[-1]]
        most = float(error.abs().max())
        assert [float(e) / most for e in turns] == pytest.approx([-1, 1, -1, 1], abs=0.005)
        low, high = 1 - most, 1 + most
        x = a * x + b * x**3 + c * x**5
    assert float((x - 1).abs().max()) < 0.2


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


def test_a_closure_gives_the_gradients_and_the_loss() -> None:
    with torch.random.fork_rng():
        layer = nn.Linear(20, 24, bias=False)
    optimizer = Muon(layer.parameters(), lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = layer.weight.square().sum()
        loss.backward()
        return loss

    before = float(layer.weight.detach().square().sum())
    assert float(optimizer.step(closure).detach()) == before
    assert float(layer.weight.detach().square().sum()) < before
