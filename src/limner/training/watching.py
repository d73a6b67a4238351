"""What is drawn and judged while a run goes on, and at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from limner.contracts import Model
from limner.data import Dataset
from limner.data.levels import Pixels
from limner.distributed import World
from limner.features import Extractor, load_extractor
from limner.files import write_json, write_whole
from limner.metrics import Report, evaluate, remarks
from limner.metrics.evaluation import FEWEST
from limner.training.config import WatchConfig
from limner.training.grids import grid, save_png
from limner.training.showing import Showing

#: Reference pictures of all measures of a run, so that one name is one protocol, and of the search for copies.
_REFERENCE, _COPIES = 10_000, 100_000
#: Samples in the report's table of neighbours.
_SHOWN = 12
#: Judged samples are numbered from here: those of the grids are other pictures, and so are those that a guidance is
#: chosen by.
JUDGED_SEED, _TRIED_SEED = 1_000_003, 2_000_003
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
        showing: what is drawn and judged.
    """

    folder: Path
    dataset: Dataset
    pictures: int
    extractor: str
    seed: int
    cache: Path | None
    world: World
    showing: Showing

    def draw_grid(self, model: Model, name: str) -> npt.NDArray[np.uint8]:
        """Draw the pictures of the run's fixed seeds into ``samples/NAME.png``; returns the grid (H, W, C)."""
        images, columns = self.showing.shown(model, self.pictures)
        picture = grid(images, columns=columns)
        self.world.lead(lambda: save_png(picture, self.folder / SAMPLES / f"{name}.png"))
        shown = np.asarray(picture)
        return shown[..., None] if shown.ndim == 2 else shown

    def measure(self, model: Model, count: int) -> dict[str, dict[str, Any]]:
        """A few measures of ``count`` samples, by the name that carries the protocol."""
        images = self.showing.judged(model, count, JUDGED_SEED)
        few = ("fd", "precision", "recall", "coverage")
        return self.world.lead(lambda: _by_name(self._evaluate(images, few, _REFERENCE, baseline=False)))

    def guided(self, model: Model, guidances: Sequence[float], count: int) -> dict[float, float]:
        """The Fréchet distance of ``count`` samples of each guidance in turn, up to one worse than the one before."""
        distances: dict[float, float] = {}
        for guidance in dict.fromkeys(guidances):
            images = self.showing.judged(model, count, _TRIED_SEED, guidance)
            before = next(reversed(distances.values()), math.inf)
            distances[guidance] = self.world.lead(lambda images=images: self._distance(images))  # type: ignore[misc]
            if distances[guidance] > before:
                break
        return distances

    def _distance(self, images: Pixels) -> float:
        return self._evaluate(images, ("fd",), _REFERENCE, baseline=False).value("fd")

    def judge(self, model: Model, count: int) -> dict[str, dict[str, Any]]:
        """All measures of ``count`` samples, and what real held-out pictures score, into ``measures.json``."""
        images = self.showing.judged(model, count, JUDGED_SEED)
        own = self.showing.measures(model, images)
        return self.world.lead(lambda: self._judged(images, own))

    def _judged(self, images: Pixels, own: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        overlap = ("fd", "kid", "precision", "recall", "density", "coverage")
        compared = self._evaluate(images, overlap, _REFERENCE, baseline=True)
        rows, content = own | _by_name(compared), compared.to_dict()
        if not self.showing.draws:
            content["rows"] = [{"name": name, **row} for name, row in rows.items()]
            write_json(self.folder / MEASURES, content)
            return rows
        copied = self._evaluate(images, ("originality",), _COPIES, baseline=True)
        rows |= _by_name(copied)
        content["scores"] |= copied.to_dict()["scores"]
        content["baseline"] |= copied.to_dict()["baseline"]
        content["near_copies"] = copied.to_dict().get("near_copies", [])
        scores = {score.metric: score for report in (compared, copied) for score in report.scores.values()}
        told = remarks(scores, {**compared.baseline, **copied.baseline})  # all measures together contradict each other
        content["notes"] = [*told, *compared.notes]
        content["rows"] = [{"name": name, **row} for name, row in rows.items()]
        searched, held = min(len(self.dataset), _COPIES), self.dataset.report.used
        if searched < held:
            content["notes"].append(f"near copies were looked for among {searched:,} of {held:,} training pictures")
            content["rows"][-1] |= {"searched": searched, "of": held}
        write_json(self.folder / MEASURES, content)
        self._neighbours(images, copied)
        return rows

    def _evaluate(self, images: Pixels, metrics: tuple[str, ...], most: int, *, baseline: bool) -> Report:
        return evaluate(
            images,
            self.dataset,
            extractor=_eyes(self.extractor, self.dataset),
            metrics=metrics,
            n_reference=most,
            seed=self.seed,
            baseline=baseline,
            cache=self.cache,
        )

    def _neighbours(self, images: Pixels, copied: Report) -> None:
        """The training pictures nearest to a few samples, for the report."""
        assert copied.copies is not None
        found, many = copied.copies, len(copied.looked_at)
        shown = np.arange(0, many, max(1, many // _SHOWN))[:_SHOWN]
        beside = found.neighbours[shown].numpy()
        content = {
            "samples": images[[copied.looked_at[i] for i in shown]],
            "nearest": self.dataset.images[beside.reshape(-1)].reshape(*beside.shape, *images.shape[1:]),
            "distance": found.distances[shown].numpy(),
            "near": found.near[shown].numpy(),
        }
        write_whole(self.folder / NEIGHBOURS, lambda path: _save_arrays(path, content))


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
