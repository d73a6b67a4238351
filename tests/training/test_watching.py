"""What a run is told of its samples: a photocopier, in the place of a network, is named as one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.codecs import Identity
from limner.contracts import Condition, Denoiser, Level, Model, Prediction, RefineConfig
from limner.data import Dataset, open_dataset
from limner.distributed import ALONE
from limner.errors import UserError
from limner.recipes import RefineRecipe, recipe, train
from limner.training.config import WatchConfig
from limner.training.guiding import best_guidance
from limner.training.report import write_report
from limner.training.showing import Samples
from limner.training.snapshot import load
from limner.training.watching import Watcher, check_watch


class Photocopier(Denoiser):
    """Takes a training picture for every noise."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self.pictures = torch.nn.Parameter(pictures, requires_grad=False)

    def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
        which = (x.flatten(1)[:, :9].sum(dim=1).abs() * 1000).long() % len(self.pictures)
        return Prediction(self.pictures[which])


class Steered(Photocopier):
    """Draws training pictures as they are under one guidance, too bright under a weaker one and too dark under a
    stronger one."""

    def __init__(self, pictures: Tensor, right: float) -> None:
        super().__init__(pictures)
        self.right = right

    def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
        assert cond.label is not None
        off = torch.where(cond.label < 0, 0.5, 0.5 * (1 - 1 / self.right)).reshape(-1, 1, 1, 1)
        return Prediction(super().forward(x, at, cond).x0 + off)


def noise(folder: Path, count: int, low: int = 0, high: int = 256) -> Dataset:
    images = np.random.default_rng(0).integers(low, high, (count, 8, 8, 1), dtype=np.uint8)
    np.savez(folder / "noise.npz", images=images)
    return open_dataset(str(folder / "noise.npz"), progress=False)


def watcher_of(folder: Path, dataset: Dataset, extractor: str, cache: Path | None) -> Watcher:
    return Watcher(folder, dataset, 4, extractor, 0, cache, ALONE, Samples(dataset, 0, ALONE))


def test_a_photocopier_is_named_in_the_runs_measures_and_on_its_page(tmp_path: Path) -> None:
    dataset = noise(tmp_path, 200)
    pictures = torch.from_numpy(dataset.images.copy()).permute(0, 3, 1, 2) / 127.5 - 1
    sampling = RefineConfig(steps=1, solver="euler")
    model = Model(Photocopier(pictures), Identity(), dataset.spec, (), sampling)
    rows = watcher_of(tmp_path, dataset, "wavelets", None).judge(model, 60)
    assert rows["near_copies_pixels_60"]["value"] == 1
    notes = json.loads((tmp_path / "measures.json").read_text())["notes"]
    assert sum("repeats what it was trained on" in note for note in notes) == 1
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": "copier", "data": {}}))
    assert "repeats what it was trained on" in write_report(tmp_path).read_text()


def test_what_looks_at_the_samples_is_opened_before_a_run_if_anything_will_look(tmp_path: Path) -> None:
    dataset = noise(tmp_path, 40)
    for watch in (WatchConfig(extractor="wavelet"), WatchConfig(extractor="wavelet", judge=0, measures=1)):
        with pytest.raises(UserError, match="did you mean 'wavelets'"):
            check_watch(watch, dataset)
    assert check_watch(WatchConfig(extractor="wavelet", judge=0), dataset) == ""
    assert check_watch(WatchConfig(measures=1), dataset) == ""


def test_too_few_pictures_are_neither_measured_nor_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_watch(WatchConfig(measures=1, judge=0), noise(tmp_path, 20)) == ""
    noise(tmp_path, 12)
    plain = recipe("flow", "tiny")
    settings = replace(
        plain,
        net=replace(plain.net, width=8),
        training=replace(plain.training, batch=8, precision="float32"),
        watch=WatchConfig(pictures=1, grids=0, measures=2),
        sampling=replace(plain.sampling, steps=1),
    )
    assert train(settings, str(tmp_path / "noise.npz"), out=tmp_path / "run", images=24).measures == {}
    plan = json.loads((tmp_path / "run" / "recipe.json").read_text())["plan"]
    assert (plan["measures"], plan["judge"]) == (0, 0)
    told = "measured on the way, which takes 20, nor judged at the end, which takes 40"
    assert f"only 12 pictures: samples are not {told}\n" in capsys.readouterr().err


@pytest.mark.parametrize(("right", "tried"), [(1.25, [1.25, 2.0]), (2.0, [1.25, 2.0, 3.0]), (3.0, [1.25, 2.0, 3.0])])
def test_the_guidance_that_suits_the_pictures_is_found(tmp_path: Path, right: float, tried: list[float]) -> None:
    """Looking no further than to one that is worse than that before it."""
    dataset = noise(tmp_path, 200, 100, 156)
    pictures = torch.from_numpy(dataset.images.copy()).permute(0, 3, 1, 2) / 127.5 - 1
    sampling = RefineConfig(steps=1, solver="euler", guidance=1.25)
    model = Model(Steered(pictures, right), Identity(), dataset.spec, ("a", "b"), sampling)
    distances = watcher_of(tmp_path, dataset, "wavelets", None).guided(model, (1.25, 2.0, 3.0), 500)
    assert [*distances] == tried
    assert min(distances, key=lambda one: distances[one]) == right
    assert best_guidance(distances) == pytest.approx(right, abs=0.4)


def test_a_run_draws_with_the_guidance_that_suits_it(bars: Path, tmp_path: Path) -> None:
    plain = recipe("flow", "tiny")
    assert isinstance(plain, RefineRecipe)
    settings = replace(
        plain,
        net=replace(plain.net, width=8),
        training=replace(plain.training, batch=16, precision="float32"),
        sampling=replace(plain.sampling, steps=2, guidance=60.0),
        watch=replace(plain.watch, grids=0, judge=500, pictures=4),
    )
    train(settings, str(bars), out=tmp_path / "run", images=160, show=False)
    distances = json.loads((tmp_path / "run" / "done.json").read_text())["guidances"]
    assert [*distances][:2] == ["60", "2"]
    assert load(tmp_path / "run").defaults == replace(
        settings.sampling, guidance=best_guidance({float(one): distance for one, distance in distances.items()})
    )
    assert "Distances of samples by their guidance" in (tmp_path / "run" / "report.html").read_text()


class Sorted(Photocopier):
    """Takes training pictures of the class that it is asked for; ``pictures`` (classes, N, C, H, W)."""

    def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
        assert cond.label is not None
        which = (x.flatten(1)[:, :9].sum(dim=1).abs() * 1000).long() % self.pictures.shape[1]
        return Prediction(self.pictures[cond.label, which])


def levels(folder: Path, label: np.ndarray) -> Dataset:
    """Noise about a level of grey for each class, 4×4."""
    rng = np.random.default_rng(0)
    images = (30 + 60 * label)[:, None, None, None] + rng.integers(-20, 21, (len(label), 4, 4, 1))
    np.savez(folder / "levels.npz", images=images.astype(np.uint8), labels=label)
    return open_dataset(str(folder / "levels.npz"), progress=False)


def perfect(dataset: Dataset) -> Model:
    """Draws pictures of each class as they are."""
    own = [dataset.images[dataset.label == k] for k in range(len(dataset.labels))]
    few = min(map(len, own))
    pictures = torch.from_numpy(np.stack([one[:few] for one in own])).permute(0, 1, 4, 2, 3) / 127.5 - 1
    sampling = RefineConfig(steps=1, solver="euler", guidance=1.0)
    return Model(Sorted(pictures), Identity(), dataset.spec, dataset.labels, sampling)


def test_samples_have_the_classes_in_the_proportions_of_the_training_pictures(tmp_path: Path) -> None:
    """A perfect generator of a set of which nine tenths are of one class, on the way, at the end and in between."""
    dataset = levels(tmp_path, (np.arange(1000) % 10 == 0).astype(np.int64))
    watcher, model = watcher_of(tmp_path, dataset, "wavelets", None), perfect(dataset)
    rows = watcher.judge(model, 200)
    real = rows["fd_wavelets_200"]["real"]
    assert rows["fd_wavelets_200"]["value"] < 2 * real
    assert watcher.measure(model, 200)["fd_wavelets_200"]["value"] == rows["fd_wavelets_200"]["value"]
    assert watcher.guided(model, (1.0,), 200)[1.0] < 2 * real


def test_one_name_is_one_protocol_within_a_run_and_all_classes_stay_in_the_reference(tmp_path: Path) -> None:
    """Three classes in turn, of which every third picture would be one; and a picture too many does not halve a set."""
    dataset = levels(tmp_path, np.arange(20_002) % 3)
    watcher, model = watcher_of(tmp_path, dataset, "pixels", tmp_path / "cache"), perfect(dataset)
    judged, measured = watcher.judge(model, 300), watcher.measure(model, 300)
    for name, row in measured.items():
        assert {key: row[key] for key in ("value", "receipt")} == {
            key: judged[name][key] for key in ("value", "receipt")
        }
    assert "300 samples, 10000 reference pictures" in measured["fd_pixels_300"]["receipt"]
    assert measured["fd_pixels_300"]["value"] < 2 * judged["fd_pixels_300"]["real"]


def test_copies_go_by_the_sets_own_numbers_and_the_page_says_among_how_many_they_were_looked_for(
    tmp_path: Path,
) -> None:
    """As of a stream, of which only a part is kept: the rest was never looked at."""
    dataset = noise(tmp_path, 100_050)
    part = replace(dataset, report=replace(dataset.report, used=1_200_000))
    pictures = torch.from_numpy(dataset.images[::1000].copy()).permute(0, 3, 1, 2) / 127.5 - 1
    model = Model(Photocopier(pictures), Identity(), dataset.spec, (), RefineConfig(steps=1, solver="euler"))
    watcher_of(tmp_path, part, "pixels", tmp_path / "cache").judge(model, 40)
    content = json.loads((tmp_path / "measures.json").read_text())
    assert content["near_copies"]
    assert all(copy["training"] % 1000 == 0 for copy in content["near_copies"])
    told = "looked for among 100,000 of 1,200,000"
    assert any(told in note for note in content["notes"])
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": "copier", "data": {}}))
    page = write_report(tmp_path).read_text()
    assert page.count(f"training pictures, {told}") == 1
    assert f"in pixels, {told}" in page
    with np.load(tmp_path / "neighbours.npz") as found:
        near = found["near"]
        assert np.array_equal(found["nearest"][near, 0], found["samples"][near])
        assert near.any()
