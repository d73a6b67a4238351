"""Pictures as a codec sees them: the moments of their latents, or their tokens, encoded once and kept.

A training draws other latents of the same moments in each epoch. Mirrored pictures have moments and tokens of their
own; any other change of the pictures makes new ones, which are not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from limner import random
from limner.contracts import Codec, DataStats, Tokenizer
from limner.data.dataset import Dataset
from limner.data.kept import Making, damaged, kept, parts
from limner.data.order import Rows

#: Pictures whose latents are measured where they are not kept.
_MEASURED = 2_048
Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Moments:
    """Of the latents of a data set's pictures.

    Attributes:
        mean, deviation: (N, views, c, h, w), read-only maps of files; the second view, where there is one, is of the
            mirrored pictures.
        stats: of the latents.
    """

    mean: Halves
    deviation: Halves
    stats: DataStats

    def batch(self, which: Rows, mirrored: npt.NDArray[np.bool_] | None, *, seed: int, samples: Tensor) -> Tensor:
        """Latents (N, c, h, w) of these pictures, or of their mirror images."""
        mean, deviation = (_rows(part, which, mirrored) for part in (self.mean, self.deviation))
        return drawn(mean, deviation, seed=seed, samples=samples)


@dataclass(frozen=True)
class Tokens:
    """Of a data set's pictures.

    Attributes:
        numbers: of codes, (N, views, T), a read-only map of a file, as for :class:`Moments`.
    """

    numbers: npt.NDArray[np.uint16 | np.uint32]

    def batch(self, which: Rows, mirrored: npt.NDArray[np.bool_] | None, *, seed: int, samples: Tensor) -> Tensor:
        """Tokens (N, T) of these pictures, or of their mirror images: whole numbers, in the type of pictures."""
        return _rows(self.numbers, which, mirrored)


def _rows(part: npt.NDArray[Any], which: Rows, mirrored: npt.NDArray[np.bool_] | None) -> Tensor:
    view = np.zeros(len(which), np.int64) if mirrored is None else mirrored.astype(np.int64)
    return torch.from_numpy(part[which, view].astype(np.float32))


def drawn(mean: Tensor, deviation: Tensor, *, seed: int, samples: Tensor) -> Tensor:
    """Latents (N, c, h, w) of these moments: a pure function of them, the seed and each sample's place in the run."""
    noise = random.normal(seed, samples, "codec/latents", shape=tuple(mean.shape[1:]))
    return torch.addcmul(mean, deviation, noise.to(mean.dtype)).contiguous(memory_format=torch.channels_last)


def moments(
    dataset: Dataset, codec: Codec, *, mirror: bool, root: Path, device: torch.device, show: bool = True
) -> Moments:
    """Those of all pictures, encoded now if nobody has done so with the same codec.

    Args, and what is raised: as for :func:`limner.data.kept.kept`.
    """
    sums = _Sums()

    def encode(pictures: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = codec.moments(pictures)
        sums.add(mean, deviation)
        return mean, deviation

    def told() -> dict[str, Any]:
        stats = sums.stats()
        return {"mean": stats.mean, "std": stats.std}

    halves = ("<f2", codec.latent_spec(dataset.spec).shape)
    making = Making(2, {"mean.npy": halves, "deviation.npy": halves}, encode, told)
    found = kept(dataset, codec, making, mirror=mirror, root=root, device=device, show=show)
    try:
        mean, deviation = found.files
        return Moments(mean, deviation, DataStats(tuple(found.told["mean"]), float(found.told["std"])))
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(found.folder, error) from error


def tokens(
    dataset: Dataset, codec: Tokenizer, *, mirror: bool, root: Path, device: torch.device, show: bool = True
) -> Tokens:
    """Those of all pictures, as :func:`moments`."""
    spec = codec.token_spec(dataset.spec)
    kind = "<u2" if spec.codes <= 2**16 else "<u4"
    making = Making(
        f"tokens 2 {spec.scales}", {"tokens.npy": (kind, spec.shape)}, lambda pictures: (codec.tokenize(pictures),)
    )
    (numbers,) = kept(dataset, codec, making, mirror=mirror, root=root, device=device, show=show).files
    return Tokens(numbers)


@torch.no_grad()
def measured(dataset: Dataset, codec: Codec, device: torch.device) -> DataStats:
    """Mean and spread of latents, of some pictures."""
    some = dataset.subset(np.linspace(0, len(dataset) - 1, min(len(dataset), _MEASURED)).astype(np.int64))
    sums = _Sums()
    for pictures in parts(some, device):
        sums.add(*codec.moments(pictures))
    return sums.stats()


class _Sums:
    """Of latents, for their mean and spread."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, mean: Tensor, deviation: Tensor) -> None:
        mean, deviation = mean.double().cpu(), deviation.double().cpu()
        self.count += mean[:, 0].numel()
        self.total = self.total + mean.sum((0, 2, 3))
        self.squares = self.squares + (mean.square() + deviation.square()).sum((0, 2, 3))

    def stats(self) -> DataStats:
        mean = self.total / self.count
        variance = (self.squares / self.count - mean.square()).clamp_min(0).mean()
        return DataStats(tuple(mean.tolist()), float(variance.sqrt()))
