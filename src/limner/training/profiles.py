"""Averages of weights chosen after the training (Karras et al. 2024, *Analyzing and improving the training dynamics of
diffusion models* (EDM2), section 3 and appendix C).

A power-function average weighs the weights at time tau by p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1), up to now, t.
Its width is the standard deviation of that profile as a share of t, sigma_rel. Two of them are kept beside a training,
now and then a copy of both is put aside, and afterwards the sum of copies is found whose profile is nearest, by least
squares, to that of any other width.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.distributed import World
from limner.errors import UserError, within
from limner.shards import on_first
from limner.tensors import load_tensors, save_tensors
from limner.training.ema import EMA

FOLDER = "ema"
#: Widths that a profile may have. At 0.2887 its exponent is zero: all weights count alike.
NARROWEST, WIDEST = 0.005, 0.28
_SUFFIX = ".safetensors"


def exponent(width: float) -> float:
    """gamma of the profile whose sigma_rel is ``width``: sigma_rel² = (gamma + 1) / ((gamma + 2)² (gamma + 3))."""
    within("the width of an average", width, NARROWEST, WIDEST)
    square = width**-2
    return float(np.roots([1.0, 7.0, 16.0 - square, 12.0 - square]).real.max())


def power_decay(step: int, gamma: float) -> float:
    """What the average keeps of itself at the step of this number, counted from 1: (1 - 1 / t)^(gamma + 1)."""
    return float((1 - 1 / step) ** (gamma + 1))


@dataclass(frozen=True)
class Profile:
    """That of an average at a time: ``time`` in steps, ``gamma`` its exponent."""

    time: float
    gamma: float

    def __matmul__(self, other: Profile) -> float:
        """The integral over all times of the product of two profiles (appendix C.2)."""
        first, last = (self, other) if self.time <= other.time else (other, self)
        both = self.gamma + other.gamma + 1
        # As a power of a ratio below one, which large exponents do not overflow.
        ratio = (first.time / last.time) ** last.gamma
        return float((self.gamma + 1) * (other.gamma + 1) / both * ratio / last.time)


def weights(known: Sequence[Profile], wanted: Profile) -> tuple[list[float], float]:
    """The factors on known profiles whose sum is nearest to the wanted one, and how far that is from it, as a share of
    its norm.

    The factors add up to one, as the profiles' integrals are: weights that stand still are met exactly. (The paper
    leaves that to the least squares, which miss it by half a per cent for wide profiles.)
    """
    count = len(known)
    products = np.array([[a @ b for b in known] for a in known])
    targets = np.array([a @ wanted for a in known])
    system = np.ones((count + 1, count + 1))
    system[:count, :count], system[count, count] = products, 0.0
    # Profiles that nearly coincide make the system nearly singular; the smallest solution is the one to take.
    factors = np.linalg.lstsq(system, np.append(targets, 1.0), rcond=1e-12)[0][:count]
    own = wanted @ wanted
    square = factors @ products @ factors - 2 * factors @ targets + own
    return [float(factor) for factor in factors], math.sqrt(max(0.0, square) / own)


def put_aside(folder: Path, averages: dict[float, EMA], seen: int, step: int, world: World) -> None:
    """Write ``folder/IMAGES.safetensors``: the averages by their widths, parameters alone, in half precision.

    Half precision has a relative error of 2^-12, as in the paper. The factors of a sum enlarge it by the sum of their
    absolute values: 1.5 between 0.05 and 0.15 where 0.05 and 0.1 were kept, 4 at 0.04, 28 at 0.02. bfloat16's 2^-9
    would be seen. What half precision cannot hold is written in full.
    """
    tensors: dict[str, Tensor] = {}
    for number, average in enumerate(averages.values()):
        named = {f"{number}.{name}": value for name, value in average.modules.named_parameters()}
        tensors |= on_first(named, world)

    def write() -> None:
        halved = {name: _halved(value) for name, value in tensors.items()}
        save_tensors(folder / f"{seen:012d}{_SUFFIX}", halved, about={"step": step, "widths": list(averages)})

    world.lead(write)


def _halved(value: Tensor) -> Tensor:
    half = value.half()
    return half if bool(half.isfinite().all()) else value


def drop_after(folder: Path, seen: int) -> None:
    """Delete what was put aside after so many images: the run was taken back."""
    for path in _kept(folder):
        if int(path.stem) > seen:
            path.unlink(missing_ok=True)


def _kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit()) if folder.is_dir() else []


@dataclass(frozen=True)
class Reconstruction:
    """An average made afterwards.

    Attributes:
        parameters: of the network, float32, by name.
        error: the distance of its profile from the one asked for, as a share of that one's norm.
        copies: how many copies it was made of.
    """

    parameters: dict[str, Tensor]
    error: float
    copies: int


def reconstructed(folder: Path, width: float, names: Collection[str]) -> Reconstruction:
    """The average of the given width at the end of what was put aside.

    Args:
        folder: what :func:`put_aside` wrote into.
        width: sigma_rel.
        names: of all tensors of the network, which may be one of several that were averaged.

    Raises:
        UserError: nothing of this network was put aside, or a file is damaged.
    """
    wanted = exponent(width)
    files = _kept(folder)
    if not files:
        raise UserError(f"{folder} holds no averages; train with --training.ema-profiles 0.05 0.1 to keep them")
    abouts = [load_tensors(path)[1] for path in files]
    known = [Profile(about["step"], exponent(one)) for about in abouts for one in about["widths"]]
    factors, error = weights(known, Profile(max(one.time for one in known), wanted))
    sums: dict[str, dict[str, Tensor]] = {}
    offset = 0
    for path, about in zip(files, abouts, strict=True):
        for full, value in load_tensors(path)[0].items():
            number, network, name = full.split(".", 2)
            if name in names:
                parts = sums.setdefault(network, {})
                part = parts.setdefault(name, torch.zeros(value.shape, dtype=torch.float64))
                part.add_(value, alpha=factors[offset + int(number)])
        offset += len(about["widths"])
    # Several networks may share some names; the one that was meant shares most.
    parameters = max(sums.values(), key=len, default={})
    if not parameters:
        raise UserError(f"{folder} does not fit the run's snapshot: it holds none of its tensors")
    return Reconstruction({name: value.float() for name, value in parameters.items()}, error, len(known))
