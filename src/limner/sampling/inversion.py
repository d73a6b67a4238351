"""The noise that a picture would be drawn from: the deterministic solver backwards (DDIM inversion)."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.contracts import Condition, Level
from limner.errors import UserError, within
from limner.sampling.solver import Denoise


@torch.no_grad()
def invert(denoise: Denoise, x: Tensor, schedule: Level, cond: Condition, *, iterations: int = 4) -> Tensor:
    """x (N, ...) at the first level of ``schedule``, from the pictures x at its last.

    A step of ``euler`` goes by what the denoiser says at its noisy end. So each step here is a fixed point: the noisy
    end that leads to the clean one. The first iteration takes the clean end, scaled, for the noisy one, nearly as
    Dhariwal and Nichol's DDIM inversion does (2021, appendix F), which asks for the clean end's level too; further
    ones are those of Pan et al. 2023 (AIDI), and bring a picture back more exactly.

    Args:
        denoise: the denoiser, or a guided one.
        x: pictures in [-1, 1], or latents.
        schedule: (steps + 1,) levels, from noise to sigma = 0.
        cond: of the pictures.
        iterations: of the fixed point, a denoiser's evaluation each.

    Raises:
        UserError: a single step from noise alone, which says nothing of the noise.
    """
    within("iterations", iterations, 1, 100)
    count = len(schedule.alpha)
    if count == 2 and not bool(schedule.alpha[0]):
        raise UserError("one step from noise to a picture cannot be taken back; give 2 steps or more")
    for i in reversed(range(count - 1)):
        clean, noisy = (_each(schedule.index(slice(j, j + 1)), x) for j in (i + 1, i))
        x = _step_back(denoise, x, clean, noisy, cond, iterations)
    return x


def _each(level: Level, x: Tensor) -> Level:
    return Level(*(value.to(x.device, x.dtype).expand(len(x)) for value in (level.alpha, level.sigma)))


def _step_back(denoise: Denoise, x: Tensor, clean: Level, noisy: Level, cond: Condition, iterations: int) -> Tensor:
    (alpha, sigma), (next_alpha, next_sigma) = clean.like(x), noisy.like(x)
    back = next_alpha / alpha * x
    for _ in range(iterations):
        prediction = denoise(back, noisy, cond)
        if bool((noisy.alpha > 0).all()):
            eps = prediction.noise(back, noisy)
            back = next_alpha / alpha * (x - sigma * eps) + next_sigma * eps
        else:  # noise alone says nothing of itself: what is known is the picture that the denoiser guesses
            eps = (x - alpha * prediction.x0) / sigma
            back = next_alpha * prediction.x0 + next_sigma * eps
    return back
