"""The command line as a user meets it: real exit codes, and real processes where more than one line is at stake."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from limner.cli import main
from limner.commands import measure_lines
from limner.gallery import LIST, class_folder, in_turn
from limner.recipes import RECIPES
from processes import Process, limner


@pytest.fixture(scope="module")
def run(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    done = Process(
        limner, "train", "flow", "--data", bars, "--out", out, "--images", 64, "--training.batch", 16, "--net.width=16",
        "--watch.judge", 40, "--watch.grids", 0, "--json",
    ).end()  # fmt: skip
    assert done.code == 0, done.err
    told = json.loads(done.out)
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
    (["train", "flow", "--dataa", "BARS"], "did you mean '--data'"),
    (["evaluate", "x", "--referense", "BARS"], "did you mean '--reference'"),
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
    (["train", "--resume", "RUN", "--size", "tiny"], "--size and --resume do not go together"),
    (["train", "--resume=RUN", "--images=3"], "--images and --resume do not go together"),
    (["train", "--data", "BARS", "--resume", "RUN", "--no-conditional"], "--no-conditional and --resume do not"),
    (["train", "--resume", "RUN", "--data.limit", "3"], "--data.limit and --resume do not go together"),
    (["train", "edm", "--resume", "RUN"], "edm and --resume do not go together"),
    (["sample", "RUN", "--label", "2", "--out", "NEW.png"], "out of range"),
    (["sample", "RUN", "--label", "seven", "--out", "NEW.png"], "label 'seven' is unknown"),
    (["sample", "RUN", "--prompt", "a bar", "--out", "NEW.png"], "trained without captions; leave --prompt out"),
    (["sample", "RUN", "--solver", "huen", "--out", "NEW.png"], "did you mean 'heun'"),
    (["sample", "RUN", "--steps", "0", "--out", "NEW.png"], "steps is 0"),
    (["sample", "RUN", "-n", "0", "--out", "NEW.png"], "n is 0"),
    (["sample", "RUN", "--memory", "1", "--out", "NEW.png"], "a limit of memory is for models that write"),
    (["sample", "RUN", "--out", "FILE"], "already exists"),
    (["sample", "RUN", "--out", "NEW.jpg"], ".png"),
    (["sample", "EMPTY", "--out", "NEW.png"], "has no snapshot"),
    (["evaluate", "RUN", "--reference", "BARS", "--metrics", "fdd"], "did you mean 'fd'"),
    (["evaluate", "RUN", "--reference", "BARS", "--extractor", "wavelet"], "did you mean 'wavelets'"),
    (["evaluate", "RUN"], "--reference"),
    (["evaluate", "RUN", "--reference", "BARS", "--metrics", "inception_score"], "names classes"),
    (["evaluate", "RUN", "--reference", "BARS", "--extractor", "nowhere:see"], "no module 'nowhere'"),
    (["compare", "RUN", "--reference", "BARS"], "two runs at least"),
    (["compare", "RUN", "BARS"], "--reference"),
    (["compare", "RUN", "BARS", "--reference", "BARS", "--out", "FILE"], "FILE is a file"),
    (["ema", "RUN"], "holds no averages"),
    (["ema", "EMPTY"], "is no finished run"),
    (["ema", "RUN", "--width", "2"], "the width of an average is 2"),
    (["train", "flow", "--data", "BARS", "--training.ema-profiles", "0.9"], "training.ema-profiles is 0.9"),
    (["train", "flow", "--data", "BARS", "--training.recovery.apart", "7"], "training.recovery.apart is 7"),
    (["train", "--data", "BARS", "edm"], "the recipe comes first: limner train edm"),
    (["train", "--data", "BARS", "edn"], "did you mean 'edm'"),
    (["train", "flow", "--data", "BARS", "--watch.extractor", "wavelet"], "did you mean 'wavelets'"),
    (["train", "flow", "--data", "BARS", "--watch.extractor", "lenet=FILE.pth"], "no weights for extractor 'lenet'"),
    (["train", "flow", "--data", "BARS", "--optimizer.lr", "-1"], "optimizer.lr of Muon is -1"),
    (["train", "flow", "--data", "BARS", "--optimizer.momentum", "1"], "optimizer.momentum of Muon is 1"),
    (["train", "flow", "--data", "BARS", "--optimizer.rest.betas", "0.9", "1"], "optimizer.betas of AdamW is 1"),
    (["train", "flow", "--data", "BARS", "--optimizer.rest.eps=-1"], "optimizer.eps of AdamW is -1"),
    (
        ["train", "flow", "--data", "BARS", "--optimizer.rest.weight-decay=nan"],
        "optimizer.weight-decay of AdamW is nan",
    ),
    (["train", "flow", "--data", "BARS", "--training.kind", "x"], "unknown option '--training.kind'"),
    (["train", "flow", "--data", "BARS", "--sampling.kind=heun"], "unknown option '--sampling.kind'"),
    (["train", "flow", "--data", "BARS", "--seed.kind", "3"], "unknown option '--seed.kind'"),
    (["train", "flow", "--data", "BARS", "--seed.x.kind", "y"], "unknown option '--seed.x.kind'"),
    (["train", "flow", "--data", "BARS", "--sampling.solver", "jump"], "train one with: limner train consistency"),
    (["train", "consistency", "--data", "BARS", "--sampling.guidance", "2"], "takes no guidance and no clipping"),
    (["train", "consistency", "--data", "BARS", "--sampling.clip"], "takes no guidance and no clipping"),
    (["train", "ddpm", "--data", "BARS", "--no-conditional", "--sampling.steps", "2000"], "2000 steps are more than"),
    (["train", "ddpm", "--data", "BARS", "--no-conditional", "--sampling.spacing", "trailng"], "mean 'trailing'"),
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
    command = [sys.executable, "-m", "limner.cli", "train", "flwo", "--data", "mnist"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr == "limner: unknown recipe 'flwo'; did you mean 'flow'?\n"
    assert done.stdout == ""


def test_samples_as_a_grid_and_as_files_by_class(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sample", str(run), "-n", "6", "--seed", "5", "--out", str(tmp_path / "grid.png"), "--json"])
    assert json.loads(capsys.readouterr().out)["labels"] == ["0", "1"] * 3
    assert Image.open(tmp_path / "grid.png").mode == "L"
    main(["sample", str(run), "-n", "6", "--label", "1", "--out", str(tmp_path / "files")])
    files = sorted((tmp_path / "files" / "1").glob("*.png"))
    assert len(files) == 6
    assert Image.open(files[0]).size == (11, 13)
    main(["sample", str(run), "-n", "6", "--out", str(tmp_path / "grid.png"), "--overwrite"])


def with_little_memory(*args: object) -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 2**31, held + 2**31))
    limner(*args)


@pytest.mark.skipif(sys.platform != "linux", reason="where a process's size is read differs")
def test_a_lack_of_memory_is_one_line(run: Path, tmp_path: Path) -> None:
    args = ["sample", run, "-n", 128, "--size", 8192, 8192, "--out", tmp_path / "new"]
    ended = Process(with_little_memory, *args, env={"OMP_NUM_THREADS": "1"}).end()
    assert ended.code == 2, ended.err
    assert ended.err.startswith("limner: memory has run out: train with")
    assert not (tmp_path / "new").exists()


def test_a_draw_replaces_an_earlier_one_and_nothing_else(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "files"
    main(["sample", str(run), "-n", "6", "--out", str(out)])
    mine = ["1/mine.png", "mine/text.txt", "samples/000000000064.png", "1.png", "000001.png", "0/000009.png"]
    for name in mine:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    main(["sample", str(run), "-n", "2", "--label", "1", "--out", str(out), "--overwrite"])
    left = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert left == sorted([LIST, "1/000000.png", "1/000001.png", *mine])
    assert [*map(str, (out / "0").iterdir())] == [str(out / "0/000009.png")], "a class that was not drawn"


def test_a_draw_never_takes_the_place_of_somebody_elses_pictures(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logos, elsewhere = tmp_path / "logos", tmp_path / "elsewhere"
    for folder in (logos, elsewhere):
        folder.mkdir()
        (folder / "000001.png").write_text("mine")
    draw = ["sample", str(run), "-n", "4", "--out", str(logos), "--overwrite"]

    def refused(name: str) -> None:
        with pytest.raises(SystemExit):
            main(draw)
        line = capsys.readouterr().err.splitlines()[-1]
        assert line == f"limner: {logos / name} is not of an earlier draw and would be lost; choose another --out"
        assert (elsewhere / "000001.png").read_text() == (logos / "000001.png").read_text() == "mine"

    main(draw)  # into folders of classes
    (logos / "1" / "000001.png").unlink()
    (logos / "1" / "000001.png").symlink_to(elsewhere / "000001.png")
    refused("1/000001.png")
    (logos / "1" / "000001.png").unlink()
    (logos / "1" / "000003.png").unlink()
    (logos / "1").rmdir()
    (logos / "1").symlink_to(elsewhere)
    refused("1/000001.png")
    (logos / "1").unlink()
    main(draw)
    for folders in ([".."], ["/tmp"], ["a/b"], [".hidden"], []):
        (logos / LIST).write_text(json.dumps({"pictures": 4, "folders": folders}))
        with pytest.raises(SystemExit):
            main(draw)
        assert "folders are not those of a draw" in capsys.readouterr().err
    (logos / LIST).unlink()
    refused("0/000000.png")


def test_single_files_are_written_as_they_are_drawn(run: Path, tmp_path: Path) -> None:
    """Whoever stops the drawing has what was drawn so far, to the bit, and may draw again."""
    out, whole = tmp_path / "stopped", tmp_path / "whole"
    args = ["sample", run, "-n", 100_000, "--steps", 1, "--out", out]
    drawing = Process(limner, *args)
    until = time.monotonic() + 60
    while len(list(out.glob("?/*.png"))) < 200 and time.monotonic() < until:
        time.sleep(0.01)
    drawing.send(signal.SIGINT)
    ended = drawing.end()
    assert ended.code == 130, ended.err
    found = sorted(path.relative_to(out) for path in out.glob("?/*.png"))
    assert 200 <= len(found) < 100_000
    assert not list(out.rglob("*.tmp"))
    limner("sample", run, "-n", 300, "--steps", 1, "--out", whole)
    for path in found[:300]:
        if (whole / path).exists():
            assert (out / path).read_bytes() == (whole / path).read_bytes(), path
    limner("sample", run, "-n", 2, "--steps", 1, "--out", out, "--overwrite")
    assert len(list(out.glob("?/*.png"))) == 2


def test_every_class_has_a_folder_of_its_own() -> None:
    names = ["Ab", "Л", "ab", "%0041b", "\U0001f600", "😀 b", "..", "a/b", "ä", "a\u0308", "\udc80"]
    folders = [class_folder(name) for name in names]
    assert folders[:3] == ["%0041b", "%041b", "ab"]
    assert len(set(folders)) == len(names)
    in_turn(names, 3)  # raises where one of them is no folder that a list may name


def test_small_measures_are_not_rounded_away() -> None:
    row = {"value": 0.00128, "low": 0.0009871, "high": 1234.5, "real": None, "better": "lower"}
    assert measure_lines({"kid": row}) == ["  kid   0.00128  [0.0009871, 1234] (lower is better)"]


def test_a_run_is_judged(run: Path, bars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--metrics", "fd", "recall", "originality", "--json"]
    main(["evaluate", str(run), "--reference", str(bars), "-n", "60", *asked])
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert sorted(scores) == ["fd_wavelets_60", "near_copies_pixels_60", "recall_wavelets_60_k5"]
    main(["evaluate", str(bars), "--reference", str(bars), "--metrics", "fd", "--json"])
    same = json.loads(capsys.readouterr().out)["scores"]
    assert same["fd_wavelets_96"]["value"] == pytest.approx(0, abs=1e-6)


def test_a_run_is_judged_within_its_classes(run: Path, bars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["evaluate", str(run), "--reference", str(bars), "-n", "60", "--metrics", "fd", "--per-class"]
    main([*args, "--json"])
    found = json.loads(capsys.readouterr().out)["per_class"]
    assert list(found["classes"]) == ["0", "1"]
    assert sorted(found["means"]) == ["class_coverage_wavelets_60_k5", "class_fd_wavelets_60"]
    main(args)
    told = capsys.readouterr().out
    assert "within classes:" in told
    assert "fd_wavelets_30" in told


@pytest.mark.parametrize("args", [[], ["--help"], ["--version"], ["recipes"]], ids=" ".join)
def test_what_tells_about_itself(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(args)
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("command", ["recipes", "train", "ema", "sample", "evaluate", "likelihood", "compare", "demo"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: limner {command}" in told
    assert "--json" in told


def test_recipes_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes", "--json"])
    assert {"flow", "edm", "dcgan"} <= json.loads(capsys.readouterr().out)["recipes"].keys()
    main(["recipes", "flow", "--json"])
    told = json.loads(capsys.readouterr().out)["recipes"]
    assert set(told["flow"]["sizes"]) == {"tiny", "small", "base", "large"}
    costs = [told["flow"]["sizes"][size]["flops_per_image"] for size in ("tiny", "small", "base", "large")]
    assert costs == sorted(costs)


#: One of each class of settings; of others, what each is made of takes seconds to count.
COUNTED = ("flow", "consistency", "dcgan", "drift", "vae", "vqgpt", "var", "dalle", "kl-codec", "vq-codec", "palette")


@pytest.mark.parametrize(
    "name", [*COUNTED, *(pytest.param(one, marks=pytest.mark.slow) for one in sorted(set(RECIPES) - set(COUNTED)))]
)
def test_every_recipe_tells_its_cost(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes", name, "--json"])
    sizes = json.loads(capsys.readouterr().out)["recipes"][name]["sizes"].values()
    for cost in ("parameters", "flops_per_image"):
        told = [size[cost] for size in sizes]
        assert told[0] > 0
        assert told == sorted(told)


def test_another_kind_of_a_part_brings_its_own_settings(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    main(
        ["train", "edm", "--data", str(bars), "--out", str(out), "--images", "16", "--training.batch=16",
         "--optimizer.kind", "adamw", "--optimizer.lr", "0.01", "--training.schedule.kind=cooldown",
         "--training.schedule.cool-down=0.5", "--net.width=8", "--watch.judge=0", "--watch.grids=0"]
    )  # fmt: skip
    written = json.loads((out / "recipe.json").read_text())["config"]
    assert written["optimizer"] == {
        "kind": "adamw", "lr": 0.01, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.0,
    }  # fmt: skip
    assert written["training"]["schedule"] == {"kind": "cooldown", "warm_up": 30, "cool_down": 0.5}


def test_a_closed_pipe_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "limner.cli", "recipes"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert "Traceback" not in done.stderr
