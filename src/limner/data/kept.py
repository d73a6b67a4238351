"""What a codec makes of a set's pictures, made once and kept in the cache: a folder for each codec, set and views."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from limner.data.cache import bar, locked, put_in_place
from limner.data.dataset import Dataset
from limner.data.levels import to_float
from limner.data.order import Rows
from limner.data.survey import Progress
from limner.errors import UserError
from limner.files import write_json

_META = "meta.json"
#: Pictures encoded together.
_TOGETHER = 64


class Kept(Protocol):
    """What a training sees of a set's pictures, out of the cache."""

    def batch(self, which: Rows, mirrored: npt.NDArray[np.bool_] | None, *, seed: int, samples: Tensor) -> Tensor:
        """Of these pictures, or of their mirror images: a function of them, the seed and each sample's place in the
        run."""


@dataclass(frozen=True)
class Making:
    """How pictures are encoded.

    Attributes:
        version: tells this kind of files from others.
        files: (type, shape of one picture's) of each file, by its name.
        encode: pictures (N, C, H, W) to what goes into each file.
        told: what to remember of all of them, when they are encoded.
    """

    version: int | str
    files: Mapping[str, tuple[str, tuple[int, ...]]]
    encode: Callable[[Tensor], tuple[Tensor, ...]]
    told: Callable[[], dict[str, Any]] = dict


@dataclass(frozen=True)
class Found:
    """What is kept.

    Attributes:
        folder: where it lies.
        files: (N, views, ...), read-only maps; the second view, where there is one, is of the mirrored pictures.
        told: what was told of them.
    """

    folder: Path
    files: list[npt.NDArray[Any]]
    told: dict[str, Any]


def kept(
    dataset: Dataset, codec: nn.Module, making: Making, *, mirror: bool, root: Path, device: torch.device, show: bool
) -> Found:
    """What is kept, encoded now if nobody has done so with the same codec.

    Args:
        dataset: the pictures.
        codec: whose weights do not change any more.
        making: of what is kept.
        mirror: whether the mirrored pictures are wanted too.
        root: of the cache.
        device: of the codec.
        show: draw progress on standard error.

    Raises:
        UserError: the cache cannot be written, or is damaged.
    """
    views = 2 if mirror else 1
    key = json.dumps([making.version, views, fingerprint(codec), dataset.fingerprint])
    folder = root / "latents" / hashlib.sha256(key.encode()).hexdigest()[:32]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock"), show):
            if not (folder / _META).is_file():
                partial = folder.with_suffix(f".{os.getpid()}")
                shutil.rmtree(partial, ignore_errors=True)  # of a process of that number that was killed
                try:
                    with bar(show, dataset.report.source) as progress:
                        _encode(dataset, making, views, partial, device, progress)
                    put_in_place(partial, folder)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write the latents' cache in '{folder}': {reason}; make room, or set LIMNER_CACHE"
        ) from error
    try:
        told: dict[str, Any] = json.loads((folder / _META).read_text(encoding="utf-8"))
        files = [np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in making.files]
    except (OSError, ValueError) as error:
        raise damaged(folder, error) from error
    return Found(folder, files, told)


def damaged(folder: Path, error: Exception) -> UserError:
    """What is said of a folder that cannot be read."""
    return UserError(f"the latents kept in '{folder}' are damaged ({error}); delete that folder")


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of the names, shapes and values of a module's weights and buffers, 64 hex digits."""
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _encode(dataset: Dataset, making: Making, views: int, into: Path, device: torch.device, told: Progress) -> None:
    into.mkdir()
    with ExitStack() as opened:
        # Written in order and not through a map, in which a full disk would end the process.
        files = [opened.enter_context((into / name).open("wb")) for name in making.files]
        kinds = making.files.values()
        for file, (kind, shape) in zip(files, kinds, strict=True):
            header = {"descr": kind, "fortran_order": False, "shape": (len(dataset), views, *shape)}
            np.lib.format.write_array_header_1_0(file, header)
        done = 0
        for pictures in parts(dataset, device):
            seen = [making.encode(pictures.flip(3) if view else pictures) for view in range(views)]
            for file, (kind, _), of_views in zip(files, kinds, zip(*seen, strict=True), strict=True):
                file.write(torch.stack(of_views, dim=1).cpu().numpy().astype(kind).tobytes())
            done += len(pictures)
            told("encoding", done, len(dataset))
    write_json(into / _META, making.told())


def parts(dataset: Dataset, device: torch.device) -> Iterator[Tensor]:
    """All pictures, some (N, C, H, W) at a time."""
    for first in range(0, len(dataset), _TOGETHER):
        values = torch.from_numpy(to_float(np.ascontiguousarray(dataset.images[first : first + _TOGETHER])))
        yield values.permute(0, 3, 1, 2).to(device)
