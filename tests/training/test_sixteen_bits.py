"""Pictures of 16 bits from a folder, through a training, to samples and their judgement."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limner
from limner.cli import main
from limner.training.grids import grid, save_picture
from limner.training.snapshot import CONFIG


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 grey pictures of 8x8, whose high bytes are all alike."""
    folder = tmp_path_factory.mktemp("deep") / "set"
    rng = np.random.default_rng(0)
    for i in range(64):
        shade = rng.integers(0, 256, (8, 8, 1)) + 0x8000
        save_picture(shade.astype(np.uint16), folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def run(deep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deep run") / "run"
    main(
        ["train", "flow", "--data", str(deep), "--out", str(out), "--images", "256", "--training.batch", "16",
         "--net.width=8", "--watch.judge", "40", "--watch.grids", "1", "--training.precision", "float32"]
    )  # fmt: skip
    return out


def test_a_model_of_16_bits_draws_them(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = limner.load(run)
    assert model.spec.bits == 16
    images = limner.sample(model, 12, seed=1)
    assert images.dtype == np.uint16
    # Between two high bytes lie 256 levels, and a network of 8 bits would draw one of them.
    assert len(np.unique(images)) > 200
    main(["sample", str(run), "-n", "12", "--seed", "1", "--out", str(tmp_path / "files"), "--json"])
    files = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["files"]
    written = np.stack([np.asarray(Image.open(file)) for file in files])[..., None]
    assert np.array_equal(written, images)
    main(["sample", str(run), "-n", "12", "--out", str(tmp_path / "grid.png")])
    assert Image.open(tmp_path / "grid.png").mode == "L"
    assert "of 16 bits" in (run / "snapshot" / "card.md").read_text()
    assert json.loads((run / "snapshot" / CONFIG).read_text())["spec"]["bits"] == 16
    assert (run / "report.html").is_file()


def test_measures_see_what_8_bits_cannot(
    run: Path, deep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures that are alike in their high bytes differ in the low ones."""
    for i in range(64):
        flat = np.full((8, 8, 1), 0x8080, np.uint16)
        save_picture(flat, tmp_path / "flat" / f"{i}.png")

    def score(images: Path) -> float:
        main(
            [
                "evaluate",
                str(images),
                "--reference",
                str(deep),
                "--metrics",
                "fd",
                "-n",
                "40",
                "--no-baseline",
                "--json",
            ]
        )
        (value,) = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["scores"].values()
        return float(value["value"])

    same = score(deep)
    assert score(tmp_path / "flat") > 2 * same
    assert score(run) > same


def test_a_grid_of_16_bits_is_that_of_the_nearest_8() -> None:
    eight = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    deep = eight * np.uint16(257)
    assert grid(deep).tobytes() == grid(eight).tobytes()
