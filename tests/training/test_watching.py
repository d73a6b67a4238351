"""What a run is told of its samples: a photocopier, in the place of a network, is named as one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.codecs import Identity
from limner.contracts import Condition, Denoiser, Level, Model, Prediction, SampleConfig
from limner.data import open_dataset
from limner.training.report import write_report
from limner.training.watching import Watcher


class Photocopier(Denoiser):
    """Takes a training picture for every noise."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self.pictures = torch.nn.Parameter(pictures, requires_grad=False)

    def forward(self, x: Tensor, at: Level, cond: Condition) -> Prediction:
        which = (x.flatten(1)[:, :9].sum(dim=1).abs() * 1000).long() % len(self.pictures)
        return Prediction(self.pictures[which])


def test_a_photocopier_is_named_in_the_runs_measures_and_on_its_page(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=noise)
    dataset = open_dataset(str(tmp_path / "noise.npz"), progress=False)
    pictures = torch.from_numpy(dataset.images.copy()).permute(0, 3, 1, 2) / 127.5 - 1
    sampling = SampleConfig(steps=1, solver="euler")
    model = Model(Photocopier(pictures), Identity(), dataset.spec, (), sampling)
    rows = Watcher(tmp_path, dataset, 4, "wavelets", 0, None).judge(model, 60)
    assert rows["near_copies_pixels_60"]["value"] == 1
    notes = json.loads((tmp_path / "measures.json").read_text())["notes"]
    assert sum("repeats what it was trained on" in note for note in notes) == 1
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": "copier", "data": {}}))
    assert "repeats what it was trained on" in write_report(tmp_path).read_text()
