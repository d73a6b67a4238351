from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from limner.contracts import Condition, Noise, StyleGenerator
from limner.objectives import Context
from limner.objectives.regularizers import mixed, orthogonality, path_lengths


class Sum(StyleGenerator):
    """Pictures are a fixed matrix times the sum of styles."""

    code, styles = 3, 4

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        return (w.sum(1) @ self.matrix.T).reshape(-1, 1, 4, 4)


def context(n: int) -> Context:
    return Context(0, torch.arange(n), "path", 0.0)


def test_orthogonality_of_rows() -> None:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 2.0]]))
    assert float(orthogonality(layer).detach()) == 0
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert float(orthogonality(layer).detach()) == 2 * (1 * 3 + 2 * 4) ** 2


def test_lengths_of_paths_of_a_linear_generator() -> None:
    """|M^T y| for y normal over the square root of the pixels: of mean square |M|² / pixels."""
    net = Sum(torch.randn(16, 3, generator=torch.Generator().manual_seed(0)))
    lengths = path_lengths(net, torch.zeros(20_000, 3), Condition(), context(20_000))
    expected = float(net.matrix.detach().square().sum()) / 16
    assert float(lengths.detach().square().mean()) == pytest.approx(expected, rel=0.03)
    lengths.mean().backward()
    assert net.matrix.grad is not None
    assert float(net.matrix.grad.abs().max()) > 0


def test_mixing_takes_another_code_from_some_place_on() -> None:
    net, z = Sum(torch.ones(16, 3)), torch.randn(4000, 3)
    styles = mixed(net, z, Condition(), 0.75, context(4000))
    own = (styles == z[:, None]).all(2)
    assert own[:, 0].all()
    assert float((~own.all(1)).float().mean()) == pytest.approx(0.75, abs=0.03)
    others = styles[~own]
    assert not (others[:, None] == z[:50]).all(2).any()
    changes = own.sum(1)[~own.all(1)]
    assert changes.unique().tolist() == [1, 2, 3]
    for pair in range(3):  # from there on, to the end
        assert not ((~own[:, pair]) & own[:, pair + 1]).any()
    assert torch.equal(mixed(net, z, Condition(), 0.0, context(4000)), z[:, None].expand(-1, 4, -1))
