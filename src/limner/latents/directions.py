"""Directions of codes along which pictures change in one way."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from limner.contracts import Model
from limner.errors import UserError, within
from limner.latents.codes import condition, drawn_styles, generator_of, place_of, synthesized
from limner.sampling.draw import to_pixels


def semantic_directions(model: Model, count: int = 5) -> Tensor:
    """Unit directions (count, K) of w along which the layers that hear it change most, the strongest first: the
    eigenvectors of the sum of A^T A over their matrices A (SeFa, Shen and Zhou 2021, equation 6).

    Raises:
        UserError: more directions than a code has numbers, or a model that refines noise.
    """
    matrices = [part / part.norm(dim=1, keepdim=True).clamp_min(1e-12) for part in generator_of(model).hearing()]
    size = matrices[0].shape[1]
    within("count", count, 1, size)
    gram = torch.stack([part.double().T @ part.double() for part in matrices]).sum(0)
    _, vectors = torch.linalg.eigh(gram)
    found: Tensor = vectors.T.flip(0)[:count]
    # An eigenvector's sign is anyone's: the largest number is positive.
    at = found.abs().argmax(1, keepdim=True)
    signed: Tensor = found * found.gather(1, at).sign()
    return signed.float()


def label_direction(codes: Tensor, there: Tensor) -> Tensor:
    """The unit direction (K,) in which codes of a kind of pictures lie from the others: Fisher's linear discriminant,
    which is the normal of the hyperplane that tells them apart (Shen et al. 2020, *InterFaceGAN*).

    Args:
        codes: (N, K).
        there: (N,) bool, which pictures are of the kind.

    Raises:
        UserError: fewer than two of either.
    """
    of, others = codes[there].double(), codes[~there].double()
    if min(len(of), len(others)) < 2:
        raise UserError(
            f"of {len(codes)} pictures {len(of)} are of this kind: a direction takes two of it and two others at least"
        )
    scatter = torch.cat([of - of.mean(0), others - others.mean(0)])
    spread = scatter.T @ scatter / len(scatter)
    # As much of a round spread as there are few pictures for many numbers (Ledoit and Wolf's idea, at a plain share).
    share = min(0.5, codes.shape[1] / len(codes))
    round_one = torch.eye(len(spread), dtype=spread.dtype, device=spread.device) * spread.diagonal().mean()
    normal: Tensor = torch.linalg.solve(torch.lerp(spread, round_one, share), of.mean(0) - others.mean(0))
    unit: Tensor = normal / normal.norm().clamp_min(1e-300)
    return unit.float()


def along(
    model: Model,
    directions: Tensor,
    *,
    number: int = 0,
    reach: float = 3.0,
    frames: int = 7,
    label: int | str | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Pictures (directions * frames, H, W, C): picture ``number`` moved along each direction, by -reach to +reach times
    what codes are spread along it.

    Args:
        model: a generator.
        directions: (D, K), unit, of w.
        number, label, seed: of the picture, as for ``sample``.
        reach: in standard deviations.
        frames: of each direction.
    """
    within("reach", reach, 0, 1000)
    within("frames", frames, 1, 1000)
    device = place_of(model)
    many, w = drawn_styles(model, list(range(512)), label, seed), drawn_styles(model, [number], label, seed)
    directions = directions.to(device)
    spread = (many @ directions.T).std(0)
    steps = torch.linspace(-reach, reach, frames, device=device)
    moved = w + (steps[None, :, None] * spread[:, None, None] * directions[:, None]).flatten(0, 1)
    return to_pixels(synthesized(model, moved, condition(model, len(moved), label), number, seed), model.spec.bits)
