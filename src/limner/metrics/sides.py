"""The two sides of a comparison, and how they are looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from limner.distributed import ALONE, World
from limner.errors import UserError
from limner.features import Extractor, Images, extract, scores
from limner.features.extractor import MODES, Batches, slices
from limner.metrics.choice import choose, partition
from limner.metrics.distances import Points
from limner.metrics.frechet import Moments, Reference, merged
from limner.metrics.intervals import GROUPS
from limner.metrics.manifold import NEIGHBOURS, Manifold, Overlap, overlap
from limner.metrics.originality import Copies, find_copies
from limner.metrics.store import Store, Tensors

#: Most pictures of a side that precision, recall, density and coverage look at.
MOST_MANIFOLD = 10_000
#: Bytes that are hashed together.
_HASHED = 2**24
Rows = npt.NDArray[np.int64]


@runtime_checkable
class HasImages(Protocol):
    """A data set: pictures (N, H, W, C) uint8 or uint16, often a memory map, and a hash of them."""

    @property
    def images(self) -> Images: ...
    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures (N, H, W, C) uint8 or uint16: all that ``whole`` holds, or its ``rows``, fetched as they are asked for.

    ``named`` gives a hash that names them.
    """

    whole: Images
    named: Callable[[], str]
    rows: Rows | None = None

    @staticmethod
    def of(source: HasImages | Images, what: str) -> Pictures:
        """``what`` names them in messages."""
        if isinstance(source, HasImages):
            pictures = Pictures(source.images, lambda: source.fingerprint)
        else:
            images = np.asarray(source)
            pictures = Pictures(images, lambda: _hashed(images))
        images = pictures.whole
        if images.ndim != 4 or images.dtype not in (np.uint8, np.uint16):
            found = f"{images.dtype} {images.shape}"
            raise UserError(f"the {what} must be uint8 or uint16 (N, H, W, C); they are {found}")
        return pictures

    @cached_property
    def fingerprint(self) -> str:
        """Computed when it is first asked for: nobody asks for that of samples."""
        return self.named()

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.whole.shape[1:])

    def __len__(self) -> int:
        return len(self.whole) if self.rows is None else len(self.rows)

    def __getitem__(self, part: slice | Rows) -> Images:
        return np.asarray(self.whole[part if self.rows is None else self.rows[part]])

    def part(self, which: Tensor) -> Pictures:
        """Those with the indices ``which``."""
        rows = which.numpy()

        def named() -> str:
            return hashlib.sha256(self.fingerprint.encode() + rows.astype("<i8").tobytes()).hexdigest()

        return Pictures(self.whole, named, rows if self.rows is None else self.rows[rows])

    def describe(self) -> str:
        height, width, channels = self.whole.shape[1:]
        return f"{height}x{width} {MODES.get(channels, f'{channels} channels')}"


def _hashed(images: Images) -> str:
    """A few pictures at a time: a memory map may be larger than the memory."""
    digest = hashlib.sha256(repr(images.shape).encode())
    step = max(1, _HASHED // max(1, images[:1].nbytes))
    for first in range(0, len(images), step):
        digest.update(np.ascontiguousarray(images[first : first + step]).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Eye:
    """An extractor with what computing takes: where results are kept, progress, and the processes that
    look at pictures together. What is not kept they share, batch by batch; what is kept the first one sees to."""

    extractor: Extractor
    store: Store
    progress: bool = False
    world: World = ALONE

    def features(self, pictures: Pictures, keep: bool) -> Tensor:
        """(N, D) float32, kept in the store if asked."""
        shape = (len(pictures), self.extractor.dim)

        def compute() -> dict[str, Tensor]:
            return {"features": torch.from_numpy(self._extract(pictures))}

        if not keep and self.world.size > 1:
            return torch.cat([seen for _, seen in self._shared(pictures, self.extractor)])
        if not keep:
            return compute()["features"]
        return self._kept(self.key(pictures, what="features"), {"features": shape}, compute)["features"]

    def logits(self, pictures: Pictures, features: Tensor | None) -> Tensor:
        """(N, K) float32 class scores, from the features where they follow from those."""
        head = self.extractor.head
        if head is not None and features is not None:
            with torch.inference_mode():
                return torch.cat([head(part).float().cpu() for part in torch.split(features, 10_000)])
        return torch.from_numpy(scores(self.extractor, pictures, progress=self.progress))

    def moments(self, pictures: Pictures, features: Tensor | None, blocks: Tensor, keep: bool) -> tuple[Moments, ...]:
        """Moments of each block, ``blocks`` (N,) naming the block of each picture from 0 on, none of them empty."""
        count = int(blocks.max()) + 1
        if self.extractor.packets is None and features is not None:
            return tuple(Moments.of(features[blocks == block]) for block in range(count))
        if not keep:
            return _moments(self._shared(pictures, self.extractor.groups), blocks, count)
        _, groups, d = self.extractor.groups(pictures[:1]).shape
        shapes = {"count": (count,), "mean": (count, groups, d), "scatter": (count, groups, d, d)}
        layout = hashlib.sha256(blocks.numpy().tobytes()).hexdigest()

        def compute() -> dict[str, Tensor]:
            parts = _moments(self._alone(pictures, self.extractor.groups), blocks, count)
            return {
                "count": torch.tensor([p.count for p in parts]),
                "mean": torch.stack([p.mean for p in parts]),
                "scatter": torch.stack([p.scatter for p in parts]),
            }

        kept = self._kept(self.key(pictures, what="moments", blocks=layout), shapes, compute)
        rows = zip(kept["count"].tolist(), kept["mean"], kept["scatter"], strict=True)
        return tuple(Moments(n, mean, scatter) for n, mean, scatter in rows)

    def key(self, pictures: Pictures, **settings: object) -> Mapping[str, object]:
        """What statistics of these pictures depend on."""
        e = self.extractor
        seen = {"extractor": e.name, "weights": e.fingerprint, "resizer": e.resizer}
        return {**seen, "pictures": pictures.fingerprint, "n": len(pictures), **settings}

    def _extract(self, images: Batches) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return extract(self.extractor, images, progress=self.progress)

    def _kept(
        self, key: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]], compute: Callable[[], Tensors]
    ) -> Tensors:
        if self.store.folder is None or self.world.size == 1:
            return self.store.get(key, shapes, compute)
        found: list[Tensors] = []
        self.world.lead(lambda: found.append(self.store.get(key, shapes, compute)))
        return found[0] if found else self.store.get(key, shapes, compute)

    def _alone(self, images: Batches, see: Callable[[Images], Tensor]) -> Iterator[tuple[slice, Tensor]]:
        label = f"{self.extractor.name} moments" if self.progress else None
        return ((part, see(images[part])) for part in slices(len(images), self.extractor.batch, label))

    def _shared(self, images: Batches, see: Callable[[Images], Tensor]) -> Iterator[tuple[slice, Tensor]]:
        """What is seen of each batch, in order; the processes take the batches in turn, and all get all."""
        if self.world.size == 1:
            yield from self._alone(images, see)
            return
        parts = list(slices(len(images), self.extractor.batch))
        for first in range(0, len(parts), self.world.size):
            together = parts[first : first + self.world.size]
            mine = together[self.world.rank] if self.world.rank < len(together) else slice(0, 1)
            seen = see(images[mine])
            gathered = seen.new_zeros(len(together), self.extractor.batch, *seen.shape[1:])
            if self.world.rank < len(together):
                gathered[self.world.rank, : len(seen)] = seen
            self.world.add_up(gathered)
            for part, rows in zip(together, gathered, strict=True):
                yield part, rows[: part.stop - part.start]


def _moments(seen: Iterable[tuple[slice, Tensor]], blocks: Tensor, count: int) -> tuple[Moments, ...]:
    """Of each block, from groups of features that come in batches."""
    out: list[Moments | None] = [None] * count
    for part, groups in seen:
        for block in sorted(set(blocks[part].tolist())):
            found = Moments.of(groups[blocks[part] == block])
            known = out[block]
            out[block] = found if known is None else known.merge(found)
    return tuple(moments for moments in out if moments is not None)


@dataclass(frozen=True, eq=False)
class Side:
    """What was seen of some pictures; None or () where no metric asked for it. ``logits`` and ``pixels`` are of samples
    only, ``training`` and ``whole`` (all of a reference, of which results are kept) of reference pictures only."""

    count: int
    features: Tensor | None = None
    blocks: tuple[Moments, ...] = ()
    logits: Tensor | None = None
    pixels: tuple[Tensor, Tensor] | None = None
    training: Points | None = None
    whole: bool = False


@dataclass(frozen=True, eq=False)
class Comparison:
    """Samples against reference pictures. What several metrics share is computed once.

    ``reference`` is the fingerprint of the reference pictures, ``pixels`` the extractor of near copies.
    """

    extractor: Extractor
    pixels: Extractor
    fake: Side
    real: Side
    reference: str
    seed: int
    store: Store

    @cached_property
    def frechet(self) -> Reference:
        return Reference.of(merged(self.real.blocks))

    @cached_property
    def features(self) -> tuple[Tensor, Tensor]:
        """(samples, reference)."""
        if self.fake.features is None or self.real.features is None:
            raise ValueError("this comparison was made without features")
        return self.fake.features, self.real.features

    @cached_property
    def overlap(self) -> Overlap:
        fake, real = self.features
        # As many of each: coverage and recall depend on both counts.
        size = min(len(fake), len(real), MOST_MANIFOLD)
        store = self.store if self.real.whole and size == len(real) else Store(None)
        real = real[choose(len(real), size, self.seed, "manifold/real")]
        fake = fake[choose(len(fake), size, self.seed, "manifold/fake")]
        real_side = self._reference_manifold(real, store)
        groups = partition(len(fake), GROUPS, self.seed, "manifold/groups")
        return overlap(real_side, Manifold.of(fake, origin=real_side.points.origin, groups=groups))

    def _reference_manifold(self, features: Tensor, store: Store) -> Manifold:
        key = {
            "extractor": self.extractor.name,
            "weights": self.extractor.fingerprint,
            "features": hashlib.sha256(features.numpy().tobytes()).hexdigest(),
            "k": NEIGHBOURS,
            "what": "radii",
        }
        made: list[Manifold] = []

        def compute() -> dict[str, Tensor]:
            made.append(Manifold.of(features))
            return {"radii": made[0].radii}

        radii = store.get(key, {"radii": (len(features),)}, compute)["radii"]
        return made[0] if made else Manifold(Points.of(features), radii, NEIGHBOURS)

    @property
    def logits(self) -> Tensor:
        """(N, K) of the samples."""
        if self.fake.logits is None:
            raise ValueError("this comparison was made without class scores")
        return self.fake.logits

    @cached_property
    def copies(self) -> Copies:
        if self.fake.pixels is None or self.real.training is None:
            raise ValueError("this comparison was made without pixels")
        return find_copies(*self.fake.pixels, self.real.training)
