"""The command line as a user meets it: real exit codes, and real processes where more than one line is at stake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from limner.cli import main


def limner(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "limner.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


@pytest.fixture(scope="module")
def run(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    done = limner(
        "train", "flow", "--data", bars, "--out", out, "--images", 64, "--training.batch", 16, "--net.width=16",
        "--watch.judge", 40, "--watch.grids", 0, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["run"] == str(out)
    assert told["images"] == 64
    assert any(name.startswith("fd_wavelets") for name in told["measures"])
    assert Path(told["report"]).is_file()
    return out


MISTAKES = [
    (["trian"], "did you mean 'train'"),
    (["train", "flwo", "--data", "mnist"], "did you mean 'flow'"),
    (["train", "flow"], "--data"),
    (["train", "flow", "--data", "mnst"], "did you mean 'mnist'"),
    (["train", "flow", "--data", "/nowhere"], "no data at '/nowhere'"),
    (["train", "flow", "--data", "EMPTY"], "EMPTY"),
    (["train", "flow", "--data", "BARS", "--net.widht", "3"], "did you mean '--net.width'"),
    (["train", "flow", "--data", "BARS", "--net.width", "wide"], "--net.width"),
    (["train", "flow", "--data", "BARS", "--net.width", "-3"], "width"),
    (["train", "flow", "--data", "BARS", "--training.batch", "0"], "training.batch"),
    (["train", "flow", "--data", "BARS", "--size", "hueg"], "unknown size 'hueg'"),
    (["train", "flow", "--data", "BARS", "--optimizer.kind", "adamv"], "did you mean 'adamw'"),
    (["train", "flow", "--data", "BARS", "--minutes", "1", "--images", "3"], "one of them"),
    (["train", "flow", "--data", "BARS", "--minutes", "-1"], "minutes"),
    (["train", "flow", "--data", "BARS", "--out", "RUN"], "already exists"),
    (["train", "flow", "--data", "BARS", "--images", "16", "--out", "FILE/run"], "FILE"),
    (["train", "flow", "--data", "BARS", "--images", "16", "--out", "/proc/run"], "/proc/run"),
    (["train", "--resume", "EMPTY"], "is not a run"),
    (["sample", "RUN", "--label", "2", "--out", "NEW.png"], "out of range"),
    (["sample", "RUN", "--label", "seven", "--out", "NEW.png"], "label 'seven' is unknown"),
    (["sample", "RUN", "--solver", "huen", "--out", "NEW.png"], "did you mean 'heun'"),
    (["sample", "RUN", "--steps", "0", "--out", "NEW.png"], "steps is 0"),
    (["sample", "RUN", "-n", "0", "--out", "NEW.png"], "n is 0"),
    (["sample", "RUN", "--out", "FILE"], "already exists"),
    (["sample", "RUN", "--out", "NEW.jpg"], ".png"),
    (["sample", "EMPTY", "--out", "NEW.png"], "has no snapshot"),
    (["evaluate", "RUN", "--reference", "BARS", "--metrics", "fdd"], "did you mean 'fd'"),
    (["evaluate", "RUN", "--reference", "BARS", "--extractor", "wavelet"], "did you mean 'wavelets'"),
    (["evaluate", "RUN"], "--reference"),
]


@pytest.mark.parametrize(("args", "says"), MISTAKES, ids=[" ".join(args) for args, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_2(
    run: Path,
    bars: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("mine")
    places = {"BARS": str(bars), "RUN": str(run)}
    with pytest.raises(SystemExit) as ended:
        main([places.get(one, one) for one in args])
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2
    assert lines[-1].startswith("limner: ")
    assert says in lines[-1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["EMPTY", "FILE"]
    assert (tmp_path / "FILE").read_text() == "mine"


def test_a_mistake_in_a_process_of_its_own() -> None:
    done = limner("train", "flwo", "--data", "mnist")
    assert done.returncode == 2
    assert done.stderr == "limner: unknown recipe 'flwo'; did you mean 'flow'?\n"
    assert done.stdout == ""


def test_samples_as_a_grid_and_as_files_by_class(run: Path, tmp_path: Path) -> None:
    done = limner("sample", run, "-n", 6, "--seed", 5, "--out", tmp_path / "grid.png", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == ["0", "1"] * 3
    assert Image.open(tmp_path / "grid.png").mode == "L"
    assert limner("sample", run, "-n", 6, "--label", 1, "--out", tmp_path / "files").returncode == 0
    files = sorted((tmp_path / "files" / "1").glob("*.png"))
    assert len(files) == 6
    assert Image.open(files[0]).size == (11, 13)
    assert limner("sample", run, "-n", 6, "--out", tmp_path / "grid.png").returncode == 2
    assert limner("sample", run, "-n", 6, "--out", tmp_path / "grid.png", "--overwrite").returncode == 0


def test_a_run_is_judged(run: Path, bars: Path) -> None:
    done = limner("evaluate", run, "--reference", bars, "-n", 60, "--metrics", "fd", "recall", "originality", "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]
    assert sorted(scores) == ["fd_wavelets_60", "near_copies_pixels_60", "recall_wavelets_60_k5"]
    same = limner("evaluate", bars, "--reference", bars, "--metrics", "fd", "--json")
    assert json.loads(same.stdout)["scores"]["fd_wavelets_96"]["value"] == pytest.approx(0, abs=1e-6)


def test_help_and_recipes() -> None:
    for args in ([], ["--help"], ["train", "--help"], ["sample", "-h"], ["recipes"], ["--version"]):
        done = limner(*args)
        assert done.returncode == 0
        assert done.stdout.strip()
    told = json.loads(limner("recipes", "--json").stdout)["recipes"]
    assert {"flow", "edm"} <= told.keys()
    assert set(told["flow"]["sizes"]) == {"tiny", "small", "base", "large"}


def test_a_closed_pipe_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "limner.cli", "recipes"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert "Traceback" not in done.stderr
