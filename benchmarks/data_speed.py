"""How fast pictures come: decoding a zip of small PNG files once, and batches from the cache, beside a plain loop.

    python benchmarks/data_speed.py [--images 50000] [--runs 3] [--json out.json]

The zip holds smooth random pictures with a little noise, about as many bytes a picture as CIFAR-10's. The peer is what
many scripts do: a ``Dataset`` that opens each picture with Pillow, in a ``DataLoader`` with one worker a core, every
epoch anew. All figures are images a second, medians of the runs; the order of what is timed alternates.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limner.data import Augment, DataConfig, gather, open_dataset, order
from limner.data.survey import workers

SIDE, BATCH, CLASSES = 32, 256, 10
TARGETS = {"decode": 15_000, "batches": 150_000}


@dataclass(frozen=True)
class Speeds:
    """Images a second of one run."""

    decode: float
    batches: float
    peer: float


def pictures(count: int, seed: int) -> npt.NDArray[np.uint8]:
    """(count, 32, 32, 3): coarse random fields, enlarged, with noise."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(count, 3, 6, 6)).astype(np.float32))
    fields = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").permute(0, 2, 3, 1).numpy()
    noisy = fields * 50 + 128 + rng.normal(size=fields.shape) * 5
    return np.clip(noisy, 0, 255).astype(np.uint8)


def make_zip(path: Path, count: int) -> int:
    """Write the zip, stored, one folder a class; returns the bytes of its pictures."""
    total = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for start in range(0, count, 5000):
            for i, picture in enumerate(pictures(min(5000, count - start), start), start):
                file = io.BytesIO()
                Image.fromarray(picture).save(file, "PNG")
                archive.writestr(f"class{i % CLASSES}/{i:06d}.png", file.getvalue())
                total += file.tell()
    return total


def time_ours(path: Path, cache: Path, batches: int) -> tuple[float, float]:
    start = time.perf_counter()
    dataset = open_dataset(DataConfig(str(path)), cache=cache, progress=False)
    decode = len(dataset) / (time.perf_counter() - start)
    augment, seen = Augment(flip=True), 0
    order(0, 0, BATCH, len(dataset))  # an epoch's permutation is drawn once; over the epochs it is paid for below
    start = time.perf_counter()
    for step in range(batches):
        indices = order(0, step * BATCH, BATCH, len(dataset))
        images, _ = gather(dataset, indices, augment=augment, seed=0, samples=torch.arange(seen, seen + BATCH))
        seen += len(images)
    return decode, seen / (time.perf_counter() - start)


class ZipPictures(Dataset[tuple[Tensor, int]]):
    """The peer's data set: Pillow on every access."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            self._names = archive.namelist()
        self._archive: zipfile.ZipFile | None = None

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self._archive is None:  # each worker opens its own
            self._archive = zipfile.ZipFile(self._path)
        name = self._names[index]
        with Image.open(io.BytesIO(self._archive.read(name))) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1
        if torch.rand(()) < 0.5:
            pixels = pixels.flip(2)
        return pixels, int(name[5])


def time_peer(path: Path, batches: int) -> float:
    data = ZipPictures(path)
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=workers(len(data)))
    start, seen = time.perf_counter(), 0
    for (images, _), _step in zip(loader, range(batches), strict=False):
        seen += len(images)
    return seen / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--peer-batches", type=int, default=80)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.zip"
        size = make_zip(path, options.images)
        runs = []
        for run in range(options.runs):
            peer = time_peer(path, options.peer_batches) if run % 2 else None
            decode, batches = time_ours(path, Path(folder) / f"cache{run}", options.batches)
            runs.append(Speeds(decode, batches, peer or time_peer(path, options.peer_batches)))
    medians = {name: statistics.median(getattr(run, name) for run in runs) for name in ("decode", "batches", "peer")}
    result = {
        "images": options.images,
        "bytes_per_image": round(size / options.images),
        "threads": torch.get_num_threads(),
        "runs": [vars(run) for run in runs],
        "median": medians,
        "batches_over_peer": medians["batches"] / medians["peer"],
        "decode_over_peer": medians["decode"] / medians["peer"],
        "meets": {name: medians[name] >= target for name, target in TARGETS.items()},
    }
    print(json.dumps(result, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
