"""What a measure sees of a picture: an extractor turns pictures of 8 or 16 bits into vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from limner.errors import UserError

Images = npt.NDArray[np.uint8 | np.uint16]
Features = npt.NDArray[np.float32]

MODES: dict[int, str] = {1: "grey (1 channel)", 3: "RGB (3 channels)", 4: "RGBA (4 channels)"}


class Batches(Protocol):
    """Pictures (N, H, W, C) of which some are fetched at a time: an array, or what stands for one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Images: ...


#: What :func:`as_rgb` does, for receipts.
AS_RGB = "grey repeated to RGB, alpha composited on white"


@dataclass(frozen=True)
class Extractor:
    """Pictures (N, H, W, C) uint8 or uint16 to features (N, dim) float32, and what a receipt must say of it.

    Attributes:
        name: a row of :data:`limner.features.EXTRACTORS`, or "package.module:function".
        dim: length of a feature vector.
        fingerprint: short SHA-256 of the weights, or of the definition where there are no weights.
        resizer: how a picture reaches the size (and the channels) that the extractor sees.
        channels: the numbers of channels it takes.
        forward: one batch of pictures to features, on the device of the extractor.
        shape: (H, W, C) that it is bound to, None if it takes any size.
        packets: one batch to groups (N, P, d) of coefficients whose Fréchet distances are averaged; None if the
            Fréchet distance is that of the features.
        logits: one batch to class scores (N, K), where the network is a classifier.
        head: features (N, dim) to the same scores, where they follow from the features: then one look gives both.
        classes: names of the classes in the order of the scores, () where they are not known here.
        published: how measures begin their names over this extractor, where the field has names of its own for them:
            {"fd": "fid_inception"}.
        batch: pictures that it looks at together; what memory allows.
        limits: what its scores are known to miss, for whoever reads them; as ``benchmarks/orientation.py`` measured it.
    """

    name: str
    dim: int
    fingerprint: str
    resizer: str
    channels: tuple[int, ...]
    forward: Callable[[Images], Tensor]
    shape: tuple[int, int, int] | None = None
    packets: Callable[[Images], Tensor] | None = None
    logits: Callable[[Images], Tensor] | None = None
    head: Callable[[Tensor], Tensor] | None = None
    classes: tuple[str, ...] = ()
    published: Mapping[str, str] = field(default_factory=dict, hash=False)
    batch: int = 500
    limits: str = ""

    def __call__(self, images: Images) -> Tensor:
        """Features (N, dim) float32 of one batch, on the CPU."""
        self.check(images.shape)
        with torch.inference_mode():
            return self.forward(images).float().cpu()

    def groups(self, images: Images) -> Tensor:
        """(N, P, d) float32 of one batch: the groups whose Fréchet distances are averaged, P = 1 for most."""
        if self.packets is None:
            return self(images)[:, None]
        self.check(images.shape)
        with torch.inference_mode():
            return self.packets(images).float().cpu()

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises a UserError if pictures of this shape (N, H, W, C) cannot be read."""
        if len(shape) != 4:
            raise UserError(f"extractor '{self.name}' takes pictures (N, H, W, C); these have the shape {shape}")
        if shape[3] not in self.channels:
            takes = " or ".join(MODES[c] for c in self.channels)
            given = MODES.get(shape[3], f"{shape[3]} channels")
            raise UserError(
                f"extractor '{self.name}' reads {takes}, the pictures are {given}; choose another extractor"
            )
        if self.shape is not None and shape[1:] != self.shape:
            raise UserError(f"extractor '{self.name}' is set up for pictures {self.shape}, these are {shape[1:]}")


def as_tensor(images: Images, device: torch.device) -> Tensor:
    """Pictures (N, H, W, C) uint8 or uint16 to (N, C, H, W) float32 in [0, 1], every level of its own."""
    # A copy also where it would not be needed: a read-only memory map must not become a writable tensor. Torch can do
    # little with uint16.
    own = np.array(images, np.uint8 if images.dtype == np.uint8 else np.float32, order="C")
    pixels = torch.from_numpy(own).to(device)
    return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(float(np.iinfo(images.dtype).max))


def as_rgb(images: Images, device: torch.device) -> Tensor:
    """Pictures (N, H, W, C) uint8 or uint16 to (N, 3, H, W) float32 in [0, 255], whole numbers if they were of 8 bits:
    grey is repeated, RGBA composited on white."""
    whole = images.dtype == np.uint8
    pixels = as_tensor(images, device).mul_(255.0)
    if whole:
        pixels.round_()
    if pixels.shape[1] == 4:
        alpha = pixels[:, 3:] / 255.0
        mixed = pixels[:, :3] * alpha + 255.0 * (1.0 - alpha)
        return mixed.round_() if whole else mixed
    return pixels.expand(-1, 3, -1, -1)


def extract(extractor: Extractor, images: Batches, *, batch: int | None = None, progress: bool = False) -> Features:
    """Features (N, D) float32 of all pictures (N, H, W, C) uint8 or uint16, ``batch`` at a time, or as many as the
    extractor likes."""
    extractor.check(images.shape)
    out = np.empty((len(images), extractor.dim), dtype=np.float32)
    label = f"{extractor.name} features" if progress else None
    for part in slices(len(images), batch or extractor.batch, label):
        out[part] = extractor(images[part]).numpy()
    return out


def scores(extractor: Extractor, images: Batches, *, batch: int | None = None, progress: bool = False) -> Features:
    """Class scores (N, K) float32 of all pictures; the extractor's network must be a classifier."""
    if extractor.logits is None:
        raise UserError(f"extractor '{extractor.name}' does not name classes; 'lenet' reads digits")
    extractor.check(images.shape)
    label = f"{extractor.name} classes" if progress else None
    with torch.inference_mode():
        parts = [
            extractor.logits(images[part]).float().cpu()
            for part in slices(len(images), batch or extractor.batch, label)
        ]
    out: Features = torch.cat(parts).numpy()
    return out


def classify(extractor: Extractor, images: Images, *, batch: int | None = None) -> npt.NDArray[np.int64]:
    """The class numbers (N,) that the extractor's network gives to the pictures; it must be a classifier."""
    out: npt.NDArray[np.int64] = scores(extractor, images, batch=batch).argmax(axis=1)
    return out


def slices(count: int, batch: int, label: str | None = None) -> Iterable[slice]:
    """Consecutive slices that cover ``count`` items, under a progress bar on stderr if there is a label."""
    parts = [slice(start, min(start + batch, count)) for start in range(0, count, batch)]
    if label is None:
        return parts
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(parts, description=label, console=console, transient=True, disable=not console.is_terminal)
