"""What is said of decoded pictures as a whole: a digest and statistics, both exact."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from limner.contracts import DataStats
from limner.data.levels import Pixels
from limner.data.survey import workers

_BYTES, _EXACT = 4 * 2**20, 2**12


def seal(images: Pixels) -> tuple[bytes, DataStats]:
    """A digest of the pixels, and their statistics (from exact sums)."""
    block, channels = max(1, _BYTES // (images[0].size * images.itemsize)), images.shape[3]

    def one(start: int) -> tuple[bytes, npt.NDArray[np.uint64], int]:
        values = np.asarray(images[start : start + block]).reshape(-1, channels)
        whole = len(values) // _EXACT * _EXACT
        sums = [_sums(values[:whole].reshape(-1, _EXACT, channels)), _sums(values[whole:][None])]
        digest = hashlib.blake2b(values.reshape(-1).data).digest()
        return digest, sums[0][0] + sums[1][0], sums[0][1] + sums[1][1]

    with ThreadPoolExecutor(workers(len(images))) as pool:
        parts = list(pool.map(one, range(0, len(images), block)))
    totals = [sum(int(total[channel]) for _, total, _ in parts) for channel in range(channels)]
    means = [total / (images.size // channels) for total in totals]
    square = sum(squares for _, _, squares in parts) / images.size
    variance = square - sum(mean**2 for mean in means) / channels
    half = np.iinfo(images.dtype).max / 2
    stats = DataStats(tuple(mean / half - 1 for mean in means), max(variance, 0.0) ** 0.5 / half)
    return b"".join(digest for digest, _, _ in parts), stats


def _sums(rows: Pixels) -> tuple[npt.NDArray[np.uint64], int]:
    """The sum of each channel's values and of all values' squares, of rows (R, P, C). Of 8 bits, 32 hold the squares
    of one row of up to 66,051 values; of 16 bits, 64 hold those of any row."""
    flat = rows.reshape(len(rows), rows.shape[1] * rows.shape[2])
    wide = np.uint32 if rows.itemsize == 1 else np.uint64
    squares = np.einsum("ij,ij->i", flat, flat, dtype=wide)
    return rows.sum(axis=1, dtype=wide).sum(axis=0, dtype=np.uint64), int(squares.sum(dtype=np.uint64))
