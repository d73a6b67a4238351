"""Shards that are larger than the disk: decoded while they are trained on, a block of pictures at a time.

Of such a set a part lies in the cache as any other set does; it tells size, mode and statistics, and measures look at
it. What a training sees comes from the shards themselves. Every epoch goes through all shards in an order of its own;
the pictures that follow each other so are cut into blocks, and every block is shuffled by itself. Both are functions of
(seed, images seen), so nothing has to be saved to go on exactly.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from limner.data.build import row_bytes
from limner.data.config import Plan
from limner.data.dataset import Dataset
from limner.data.decode import Decoder
from limner.data.index import Index
from limner.data.levels import Pixels
from limner.data.order import Rows, shard_rows, shuffle
from limner.data.sources import PictureError
from limner.data.survey import workers
from limner.errors import UserError

#: Bytes of a block's pixels, and most pictures in one: what is kept in memory is three of them.
_BLOCK_BYTES, _BLOCK = 128 * 2**20, 8_192
_PIECE = 128  # pictures that one thread decodes in a row
_BLOCKS = 2  # kept beside the one that is being decoded ahead
BROKEN = "broken.jsonl"

Block = tuple[Pixels, Rows]  # shuffled, with their numbers


@dataclass
class Stream:
    """What a training sees of a set that is decoded as it goes.

    Attributes:
        part: the pictures of the set that lie in the cache.
        index: where all of them lie.
        plan: what they become.
        folder: where the broken ones are listed.
    """

    part: Dataset
    index: Index
    plan: Plan
    folder: Path
    _kept: OrderedDict[tuple[int, int, int], Block] = field(default_factory=OrderedDict, repr=False)
    _ahead: dict[tuple[int, int, int], list[Future[_Piece]]] = field(default_factory=dict, repr=False)
    _pool: ThreadPoolExecutor | None = field(default=None, repr=False)
    _broken: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def block(self) -> int:
        """How many pictures are shuffled together."""
        return max(1, min(_BLOCK, _BLOCK_BYTES // row_bytes(self.plan)))

    def batch(self, seed: int, first: int, count: int) -> tuple[Dataset, Rows]:
        """The pictures at the positions ``first`` to ``first + count``, and their places in the data set returned."""
        pixels, rows = [], []
        total, at = len(self.index), first
        while at < first + count:
            epoch, place = divmod(at, total)
            number, within = divmod(place, self.block)
            images, numbers = self._get(seed, epoch, number)
            taken = slice(within, min(len(numbers), within + first + count - at))
            pixels.append(images[taken])
            rows.append(numbers[taken])
            at += len(rows[-1])
        self._look_ahead(seed, *divmod(at - 1, total))
        which = np.concatenate(rows)
        label = None if self.index.label is None else np.asarray(self.index.label[which])
        return replace(self.part, images=np.concatenate(pixels), label=label, captions=None), np.arange(count)

    def close(self) -> None:
        """Let go of what is decoded ahead."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        self._ahead.clear()

    def rows(self, seed: int, epoch: int, number: int) -> tuple[Rows, Rows]:
        """The pictures of a block as they lie in the shards, and the order in which they are seen."""
        total = len(self.index)
        start, stop = number * self.block, min((number + 1) * self.block, total)
        rows = shard_rows(seed, epoch, start, stop, self.index.counts)
        return rows, shuffle(seed, torch.arange(start, stop), epoch, "data/blocks")

    def _get(self, seed: int, epoch: int, number: int) -> Block:
        key = (seed, epoch, number)
        if key not in self._kept:
            pieces = self._ahead.pop(key, None) or self._submit(key)
            self._kept[key] = self._assembled(key, [piece.result() for piece in pieces])
            while len(self._kept) > _BLOCKS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _look_ahead(self, seed: int, epoch: int, place: int) -> None:
        """Begin with the block that will be wanted next."""
        number = place // self.block + 1
        key = (seed, epoch, number) if number * self.block < len(self.index) else (seed, epoch + 1, 0)
        if key not in self._kept and key not in self._ahead:
            for pieces in self._ahead.values():  # of a seed or place that is wanted no more
                for piece in pieces:
                    piece.cancel()
            self._ahead = {key: self._submit(key)}

    def _submit(self, key: tuple[int, int, int]) -> list[Future[_Piece]]:
        rows, _ = self.rows(*key)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(workers(sys.maxsize), thread_name_prefix="limner-decode")
        pieces = [rows[start : start + _PIECE] for start in range(0, len(rows), _PIECE)]
        return [self._pool.submit(_decode, self.index, self.plan, piece) for piece in pieces]

    def _assembled(self, key: tuple[int, int, int], pieces: list[_Piece]) -> Block:
        """The block as it is seen. The places of broken pictures are filled with whole ones of the same block."""
        rows, seen = self.rows(*key)
        good = np.concatenate([piece.good for piece in pieces])
        self._list({name: why for piece in pieces for name, why in piece.bad.items()})
        if not good.any():
            name, why = next(iter(self._broken.items()))
            raise UserError(f"'{self.part.report.source}': none of {len(rows):,} pictures is usable; '{name}': {why}")
        place = np.cumsum(good) - 1  # of a good picture among the good ones
        whole = seen[good[seen]]
        chosen = np.resize(whole, len(rows))
        pixels = np.concatenate([piece.pixels for piece in pieces])
        return pixels[place[chosen]], rows[chosen]

    def _list(self, bad: dict[str, str]) -> None:
        new = {name: why for name, why in bad.items() if name not in self._broken}
        if not new:
            return
        if not self._broken:
            name, why = next(iter(new.items()))
            print(f"'{name}' cannot be used: {why}; all such are listed in {self.folder / BROKEN}", file=sys.stderr)
        self._broken |= new
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / BROKEN).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps([name, why]) + "\n" for name, why in new.items())


@dataclass(frozen=True)
class _Piece:
    """Some pictures in a row: the good ones, (N,) bool which those are, and why the others are not."""

    pixels: Pixels
    good: npt.NDArray[np.bool_]
    bad: dict[str, str]


def _decode(index: Index, plan: Plan, rows: Rows) -> _Piece:
    decoder, good, bad = Decoder(plan, len(rows)), np.ones(len(rows), bool), {}
    reader = index.store.reader()
    try:
        for place, entry in enumerate(index.entries(rows)):
            try:
                decoder.add(reader.read(entry))
            except PictureError as why:
                good[place], bad[entry.name] = False, str(why)
    finally:
        reader.close()
    return _Piece(decoder.finish(), good, bad)


def listed(folder: Path) -> tuple[tuple[str, str], ...]:
    """(name, reason) of the broken pictures that were met in earlier trainings."""
    try:
        lines = (folder / BROKEN).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    found: dict[str, str] = {}
    for line in lines:
        with suppress(ValueError, TypeError):  # a line that a kill cut off
            name, why = json.loads(line)
            found[str(name)] = str(why)
    return tuple(found.items())
