from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.contracts import Condition, Generator, Noise
from limner.objectives import AdamWConfig, Batch, Context, Drifting, DriftingConfig
from limner.objectives.drifting import field


def by_the_page(made: Tensor, real: Tensor, temperature: float) -> Tensor:
    """Algorithm 2 with loops: every made picture against every real and every other made one."""
    n, m = len(made), len(real)
    kernel = torch.zeros(n, m + n, dtype=made.dtype)
    for i in range(n):
        for j in range(m):
            kernel[i, j] = torch.exp(-(made[i] - real[j]).norm() / temperature)
        for j in range(n):
            if i != j:
                kernel[i, m + j] = torch.exp(-(made[i] - made[j]).norm() / temperature)
    near = (kernel / kernel.sum(1, keepdim=True) * (kernel / kernel.sum(0, keepdim=True))).sqrt()
    out = torch.zeros_like(made)
    for i in range(n):
        for j in range(m):
            for k in range(n):
                out[i] += near[i, j] * near[i, m + k] * (real[j] - made[k])
    return out


def drift(made: Tensor, real: Tensor, temperature: float) -> Tensor:
    distances = torch.cat([torch.cdist(made, real), torch.cdist(made, made)], dim=1) / temperature
    counted = torch.cat([torch.ones(len(made), len(real)), 1 - torch.eye(len(made))], dim=1).bool()
    return field(made, real, distances, counted)


@given(n=st.integers(2, 6), m=st.integers(1, 6), temperature=st.floats(0.2, 5))
@settings(max_examples=20, deadline=None)
def test_the_field_is_that_of_the_paper(n: int, m: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(n * 7 + m)
    made, real = (torch.randn(count, 3, generator=generator).double() for count in (n, m))
    torch.testing.assert_close(drift(made, real, temperature), by_the_page(made, real, temperature))


def test_pictures_drift_to_real_ones_and_apart() -> None:
    made, real = torch.tensor([[0.0, -0.1], [0.0, 0.1]]).double(), torch.tensor([[3.0, 1.0], [3.0, -1.0]]).double()
    moved = drift(made, real, 1.0)
    assert (moved[:, 0] > 0).all()
    assert float(moved[0, 1]) < 0 < float(moved[1, 1])


class Points(Generator):
    """Codes, moved and stretched."""

    code = 2

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.stretch = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.eye(2) * 0.1)

    def synthesize(self, w: Tensor, cond: Condition, noise: Noise) -> Tensor:
        return (w @ self.stretch + self.shift).reshape(-1, 1, 1, 2)


def taught(classes: int) -> tuple[Points, list[float]]:
    """A generator after some hundred steps on an ellipse around (2, -1)."""
    one = Points()
    objective = Drifting(one, DriftingConfig(temperatures=(0.2, 1.0)), AdamWConfig(lr=2e-2))
    (optimizer,) = objective.optimizers().values()
    draws, told = torch.Generator().manual_seed(0), []
    for step in range(400):
        samples = torch.arange(step * 128, (step + 1) * 128)
        images = torch.randn(128, 1, 1, 2, generator=draws) * torch.tensor([1.0, 0.3]) + torch.tensor([2.0, -1.0])
        cond = Condition(samples % classes if classes else None)
        losses = objective.loss(Batch(images, cond, samples), Context(0, samples, "drift", 0.0, batch=128))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.param_groups[0]["lr"] = 2e-2 * (1 - step / 400)
        optimizer.step()
        told.append(float(losses["drift"]))
    return one, told


@pytest.mark.parametrize("classes", [0, 3])
def test_a_generator_comes_to_lie_where_the_pictures_do(classes: int) -> None:
    one, told = taught(classes)
    torch.testing.assert_close(one.shift.detach(), torch.tensor([2.0, -1.0]), rtol=0, atol=0.15)
    spread = (one.stretch.detach().T @ one.stretch.detach()).diagonal().sqrt()
    torch.testing.assert_close(spread, torch.tensor([1.0, 0.3]), rtol=0.3, atol=0)
    assert sum(told[-20:]) < 0.3 * sum(told[:20])


def test_only_pictures_of_the_same_class_count() -> None:
    """The field of one class is the same whatever the others look like."""
    objective = Drifting(Points(), DriftingConfig(), AdamWConfig())
    made, real, samples = torch.randn(8, 2), torch.randn(8, 2), torch.arange(8)
    label = samples % 2
    distances = torch.cat([torch.cdist(made, real), torch.cdist(made, made)], dim=1)
    same = label[:, None] == label
    counted = torch.cat([same, same & ~torch.eye(8, dtype=torch.bool)], dim=1)
    before = field(made, real, distances, counted)
    other = real + 5 * (label == 1)[:, None]
    distances = torch.cat([torch.cdist(made, other), torch.cdist(made, made)], dim=1)
    after = field(made, other, distances, counted)
    assert torch.equal(before[label == 0], after[label == 0])
    assert not torch.allclose(before[label == 1], after[label == 1])
    alone = Batch(torch.zeros(1, 1, 1, 2), Condition(torch.tensor([0])), torch.arange(1))
    told = objective.loss(alone, Context(0, torch.arange(1), "drift", 0.0, batch=1))
    assert float(told["loss"].detach()) == 0, "a picture that has no other of its class stays"
