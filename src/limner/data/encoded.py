"""Pictures as a codec sees them: the moments of their latents, encoded once and kept.

A training draws other latents of the same moments in each epoch. Mirrored pictures have moments of their own; any other
change of the pictures makes new ones, which are not kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from limner import random
from limner.contracts import Codec, DataStats
from limner.data.cache import bar, locked, put_in_place
from limner.data.dataset import Dataset
from limner.data.levels import to_float
from limner.data.order import Rows
from limner.data.survey import Progress
from limner.errors import UserError
from limner.files import write_json

_VERSION = 2
_MEAN, _DEVIATION, _META = "mean.npy", "deviation.npy", "meta.json"
#: Pictures encoded together, and pictures whose latents are measured where they are not kept.
_TOGETHER, _MEASURED = 64, 2_048
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

    def batch(self, which: Rows, mirrored: npt.NDArray[np.bool_] | None) -> tuple[Tensor, Tensor]:
        """Mean and deviation, (N, c, h, w) float32 each, of these pictures, or of their mirror images."""
        view = np.zeros(len(which), np.int64) if mirrored is None else mirrored.astype(np.int64)
        parts = (self.mean, self.deviation)
        mean, deviation = (torch.from_numpy(part[which, view].astype(np.float32)) for part in parts)
        return mean, deviation


def drawn(mean: Tensor, deviation: Tensor, *, seed: int, samples: Tensor) -> Tensor:
    """Latents (N, c, h, w) of these moments: a pure function of them, the seed and each sample's place in the run."""
    noise = random.normal(seed, samples, "codec/latents", shape=tuple(mean.shape[1:]))
    return torch.addcmul(mean, deviation, noise.to(mean.dtype)).contiguous(memory_format=torch.channels_last)


def moments(
    dataset: Dataset, codec: Codec, *, mirror: bool, root: Path, device: torch.device, show: bool = True
) -> Moments:
    """Those of all pictures, encoded now if nobody has done so with the same codec.

    Args:
        dataset: the pictures.
        codec: whose weights do not change any more.
        mirror: whether the mirrored pictures are wanted too.
        root: of the cache.
        device: of the codec.
        show: draw progress on standard error.

    Raises:
        UserError: the cache cannot be written.
    """
    views = 2 if mirror else 1
    words = json.dumps([_VERSION, views, fingerprint(codec), dataset.fingerprint])
    folder = root / "latents" / hashlib.sha256(words.encode()).hexdigest()[:32]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock"), show):
            if not (folder / _META).is_file():
                partial = folder.with_suffix(f".{os.getpid()}")
                shutil.rmtree(partial, ignore_errors=True)  # of a process of that number that was killed
                try:
                    with bar(show, dataset.report.source) as progress:
                        _encode(dataset, codec, views, partial, device, progress)
                    put_in_place(partial, folder)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write the latents' cache in '{folder}': {reason}; make room, or set LIMNER_CACHE"
        ) from error
    try:
        told = json.loads((folder / _META).read_text(encoding="utf-8"))
        mean, deviation = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (_MEAN, _DEVIATION))
        return Moments(mean, deviation, DataStats(tuple(told["mean"]), float(told["std"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"the latents kept in '{folder}' are damaged ({error}); delete that folder") from error


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of the names, shapes and values of a module's weights and buffers, 64 hex digits."""
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _encode(dataset: Dataset, codec: Codec, views: int, into: Path, device: torch.device, told: Progress) -> None:
    into.mkdir()
    sums = _Sums()
    shape = (len(dataset), views, *codec.latent_spec(dataset.spec).shape)
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    with ExitStack() as opened:
        # Written in order and not through a map, in which a full disk would end the process.
        files = [opened.enter_context((into / name).open("wb")) for name in (_MEAN, _DEVIATION)]
        for file in files:
            np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, len(dataset), _TOGETHER):
            part = slice(first, min(first + _TOGETHER, len(dataset)))
            pictures = _pictures(dataset, part, device)
            seen = [codec.moments(pictures.flip(3) if view else pictures) for view in range(views)]
            for file, of_views in zip(files, zip(*seen, strict=True), strict=True):
                file.write(torch.stack(of_views, dim=1).float().cpu().numpy().astype("<f2").tobytes())
            for one in seen:
                sums.add(*one)
            told("encoding", part.stop, len(dataset))
    stats = sums.stats()
    write_json(into / _META, {"mean": stats.mean, "std": stats.std})


@torch.no_grad()
def measured(dataset: Dataset, codec: Codec, device: torch.device) -> DataStats:
    """Mean and spread of latents, of some pictures."""
    some = dataset.subset(np.linspace(0, len(dataset) - 1, min(len(dataset), _MEASURED)).astype(np.int64))
    sums = _Sums()
    for first in range(0, len(some), _TOGETHER):
        sums.add(*codec.moments(_pictures(some, slice(first, first + _TOGETHER), device)))
    return sums.stats()


def _pictures(dataset: Dataset, part: slice, device: torch.device) -> Tensor:
    values = torch.from_numpy(to_float(np.ascontiguousarray(dataset.images[part])))
    return values.permute(0, 3, 1, 2).to(device)


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
