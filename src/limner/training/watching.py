"""What is drawn and judged while a run goes on, and at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from limner.contracts import Model
from limner.data import Dataset
from limner.data.levels import Pixels
from limner.distributed import ALONE, World
from limner.features import Extractor, extract, load_extractor
from limner.files import write_json, write_whole
from limner.metrics import Report, evaluate, remarks
from limner.metrics.distances import Points, nearest
from limner.metrics.evaluate import FEWEST
from limner.sampling import sample
from limner.training.config import WatchConfig
from limner.training.grids import grid, save_png

#: Reference pictures of the measures that compare every pair, and of the search for copies.
_REFERENCE, _COPIES = 10_000, 100_000
#: Samples in the report's table of neighbours, and training pictures beside each.
_SHOWN, _BESIDE = 12, 4
#: Judged samples are numbered from here: those of the grids are other pictures, and so are those that a guidance is
#: chosen by.
JUDGED_SEED, _TRIED_SEED = 1_000_003, 2_000_003
#: Samples of each guidance that is tried, and by what share one has to be better than the recipe's.
TRIED, _CLEARLY = 500, 0.05
MEASURES, NEIGHBOURS, SAMPLES = "measures.json", "neighbours.npz", "samples"


@dataclass(frozen=True)
class Watcher:
    """Draws and judges. Several processes share the drawing; the first one judges and writes.

    Attributes:
        folder: of the run.
        dataset: the training pictures.
        pictures: how many are in a grid.
        extractor: what the measures look with.
        seed: of the run.
        cache: folder of reference statistics.
        world: the processes that draw together; all call the same methods.
    """

    folder: Path
    dataset: Dataset
    pictures: int
    extractor: str
    seed: int
    cache: Path | None
    world: World = ALONE

    def draw_grid(self, model: Model, name: str) -> npt.NDArray[np.uint8]:
        """Draw the pictures of the run's fixed seeds into ``samples/NAME.png``; returns the grid (H, W, C)."""
        count = self.pictures
        if model.labels and len(model.labels) < count:
            count -= count % len(model.labels)  # whole rows of classes
        images = sample(model, count, seed=self.seed, world=self.world)
        columns = len(model.labels) if 5 <= len(model.labels) <= 16 else math.ceil(math.sqrt(count * 1.6))
        picture = grid(images, columns=min(columns, count))
        self.world.lead(lambda: save_png(picture, self.folder / SAMPLES / f"{name}.png"))
        shown = np.asarray(picture)
        return shown[..., None] if shown.ndim == 2 else shown

    def measure(self, model: Model, count: int) -> dict[str, dict[str, Any]]:
        """A few measures of ``count`` samples, by the name that carries the protocol."""
        images = sample(model, count, seed=self.seed + JUDGED_SEED, world=self.world)
        few = ("fd", "precision", "recall", "coverage")
        return self.world.lead(lambda: _by_name(self._evaluate(images, few, 2_000, baseline=False)))

    def guided(self, model: Model, guidances: Sequence[float]) -> dict[float, float]:
        """The Fréchet distance of a few samples of each guidance in turn, up to one worse than the one before."""
        distances: dict[float, float] = {}
        for guidance in dict.fromkeys(guidances):
            images = sample(model, TRIED, guidance=guidance, seed=self.seed + _TRIED_SEED, world=self.world)
            before = next(reversed(distances.values()), math.inf)
            distances[guidance] = self.world.lead(lambda images=images: self._distance(images))  # type: ignore[misc]
            if distances[guidance] > before:
                break
        return distances

    def _distance(self, images: Pixels) -> float:
        return self._evaluate(images, ("fd",), _REFERENCE, baseline=False).value("fd")

    def judge(self, model: Model, count: int) -> dict[str, dict[str, Any]]:
        """All measures of ``count`` samples, and what real held-out pictures score, into ``measures.json``."""
        images = sample(model, count, seed=self.seed + JUDGED_SEED, world=self.world)
        return self.world.lead(lambda: self._judged(images))

    def _judged(self, images: npt.NDArray[np.uint8]) -> dict[str, dict[str, Any]]:
        overlap = ("fd", "kid", "precision", "recall", "density", "coverage")
        compared = self._evaluate(images, overlap, _REFERENCE, baseline=True)
        copied = self._evaluate(images, ("originality",), _COPIES, baseline=True)
        rows = _by_name(compared) | _by_name(copied)
        content = compared.to_dict()
        content["scores"] |= copied.to_dict()["scores"]
        content["baseline"] |= copied.to_dict()["baseline"]
        content["near_copies"] = copied.to_dict().get("near_copies", [])
        scores = {score.metric: score for report in (compared, copied) for score in report.scores.values()}
        told = remarks(scores, {**compared.baseline, **copied.baseline})  # all measures together contradict each other
        content["notes"] = [*told, *compared.notes]
        content["rows"] = [{"name": name, **row} for name, row in rows.items()]
        write_json(self.folder / MEASURES, content)
        self._neighbours(images)
        return rows

    def _evaluate(self, images: Pixels, metrics: tuple[str, ...], most: int, *, baseline: bool) -> Report:
        return evaluate(
            images,
            _thinned(self.dataset, most),
            extractor=_eyes(self.extractor, self.dataset),
            metrics=metrics,
            seed=self.seed,
            baseline=baseline,
            cache=self.cache,
        )

    def _neighbours(self, images: Pixels) -> None:
        """The training pictures nearest to a few samples, for the report."""
        height, width, channels = images.shape[1:]
        pixels = load_extractor("pixels", shape=(height, width, channels))
        shown = images[:: max(1, len(images) // _SHOWN)][:_SHOWN]
        training = _thinned(self.dataset, _COPIES)
        points = Points.of(torch.from_numpy(extract(pixels, training.images)), dtype=torch.float32)
        queries = Points.of(torch.from_numpy(extract(pixels, shown)), points.origin, torch.float32)
        many = min(50, len(points))
        distance, index = nearest(queries, points, many)
        near = distance[:, 0] < 0.5 * distance.mean(dim=1)
        beside = index[:, :_BESIDE].numpy()
        content = {
            "samples": shown,
            "nearest": training.images[beside.reshape(-1)].reshape(*beside.shape, *images.shape[1:]),
            "distance": distance[:, :_BESIDE].numpy(),
            "near": near.numpy(),
        }
        write_whole(self.folder / NEIGHBOURS, lambda path: _save_arrays(path, content))


def best_guidance(distances: Mapping[float, float]) -> float:
    """That of the least distance, if it is clearly less than the first one's."""
    own, best = next(iter(distances)), min(distances, key=lambda one: distances[one])
    return best if distances[best] < (1 - _CLEARLY) * distances[own] else own


def judgeable(dataset: Dataset, count: int) -> int:
    """How many samples can be judged against this set: none if either is too few."""
    return count if count >= FEWEST and len(dataset) >= 2 * FEWEST else 0


def measurable(dataset: Dataset, times: int) -> int:
    """How many times samples can be measured against this set: never if it is too small."""
    return times if len(dataset) >= FEWEST else 0


def check_watch(watch: WatchConfig, dataset: Dataset) -> str:
    """Open what will look at the samples, if anything may, so that a run does not fail on it at its end.

    Returns:
        What will not be done because there are too few pictures, mostly "".

    Raises:
        UserError: there is no such extractor, or it cannot see these pictures.
    """
    if measurable(dataset, watch.measures or 0) or judgeable(dataset, FEWEST if watch.judge is None else watch.judge):
        _eyes(watch.extractor, dataset)
    undone = []
    if watch.measures and not measurable(dataset, watch.measures):
        undone.append(f"measured on the way, which takes {FEWEST}")
    if watch.judge != 0 and len(dataset) < 2 * FEWEST:
        undone.append(f"judged at the end, which takes {2 * FEWEST}")
    return f"only {len(dataset)} pictures: samples are not {', nor '.join(undone)}" if undone else ""


def _eyes(extractor: str, dataset: Dataset) -> Extractor:
    height, width, channels = dataset.images.shape[1:]
    return load_extractor(extractor, shape=(height, width, channels))


def _thinned(dataset: Dataset, most: int) -> Dataset:
    """At most so many pictures, evenly spaced: sources are often sorted by class."""
    if len(dataset) <= most:
        return dataset
    return dataset.subset(np.arange(0, len(dataset), math.ceil(len(dataset) / most)))


def _by_name(report: Report) -> dict[str, dict[str, Any]]:
    return {
        row.name: {
            "value": row.value,
            "low": row.low,
            "high": row.high,
            "real": row.real,
            "better": row.better,
            "receipt": row.receipt,
        }
        for row in report.rows()
    }


def _save_arrays(path: Path, content: dict[str, npt.NDArray[Any]]) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **content)  # type: ignore[arg-type]
