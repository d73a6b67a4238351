"""Signals, kills, full disks and damaged files: nothing is lost, and one line says what to do."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from limner.errors import UserError
from limner.recipes import RefineRecipe, recipe, resume, train
from limner.tensors import load_tensors
from limner.training.checkpoint import checkpoints
from limner.training.run import point_to
from limner.training.snapshot import load
from limner.training.stopping import Interrupted
from limner.training.tracking import records
from processes import Process, limner

SETTINGS = [
    "--net.width=16",
    "--training.batch=16",
    "--training.precision=float32",
    "--watch.judge=0",
    "--watch.grids=0",
    "--sampling.steps=2",
]


def end(run: Path) -> dict[str, torch.Tensor]:
    """The newest checkpoint's tensors; copies, because the file itself is mapped and a test may cut it."""
    return {name: value.clone() for name, value in load_tensors(checkpoints(run / "checkpoints")[-1])[0].items()}


def wait_for(path: Path, process: Process, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(path.glob(pattern)):
        assert process.running(), process.end()
        assert time.monotonic() < deadline
        time.sleep(0.01)


LENGTH = ["--images", 960, "--training.checkpoint-seconds", 0.02]


@pytest.fixture(scope="module")
def undisturbed(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    ended = Process(limner, "train", "flow", "--data", bars, *SETTINGS, *LENGTH, "--out", out).end()
    assert ended.code == 0, ended.err
    return end(out)


@pytest.mark.parametrize(
    "number", [*(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGINT, signal.SIGTERM)), signal.SIGKILL]
)
def test_a_signal_costs_nothing(
    bars: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor], number: signal.Signals
) -> None:
    process = Process(limner, "train", "flow", "--data", bars, *SETTINGS, *LENGTH, "--out", tmp_path / "run")
    wait_for(tmp_path / "run" / "checkpoints", process, "0*.safetensors")
    with pytest.raises(UserError, match="a training is under way"):
        resume(tmp_path / "run", show=False)
    process.send(number)
    ended = process.end(60)
    if number == signal.SIGKILL:
        assert ended.code == -number
    else:
        assert ended.code == 128 + number
        assert f"limner train --resume {tmp_path / 'run'}" in ended.err
        assert "Traceback" not in ended.err
        assert "the run has not ended" in (tmp_path / "run" / "report.html").read_text()
    stood = int(checkpoints(tmp_path / "run" / "checkpoints")[-1].stem)
    assert 0 < stood < 960
    resume(tmp_path / "run", show=False)
    found = end(tmp_path / "run")
    assert all(torch.equal(value, found[name]) for name, value in undisturbed.items())
    assert json.loads((tmp_path / "run" / "done.json").read_text())["interrupted"] == 1


def quick() -> RefineRecipe:
    """The recipe of SETTINGS."""
    small = recipe("flow", "tiny")
    return replace(
        small,
        training=replace(small.training, batch=16, precision="float32"),
        watch=replace(small.watch, judge=0, grids=0),
        sampling=replace(small.sampling, steps=2),
    )


def stopped(bars: Path, run: Path, minutes: float, when: Callable[[], bool]) -> str:
    """What is said by a run of so many minutes that gets a SIGTERM as soon as ``when`` is true."""

    def stop() -> None:
        while not when():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Interrupted) as told:
        train(quick(), str(bars), out=run, minutes=minutes, show=False)
    return str(told.value)


def plan_of(run: Path) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads((run / "recipe.json").read_text())["plan"])


def test_a_run_in_minutes_is_the_run_in_images_that_its_plan_names(bars: Path, tmp_path: Path) -> None:
    """Also when it was stopped while its budget was measured: it keeps what it has learned, and settles anew."""
    minutes, images = tmp_path / "minutes", tmp_path / "images"
    told = stopped(bars, minutes, 0.25, lambda: len(records(minutes / "metrics.jsonl")) >= 2)  # a line a second
    assert told.startswith("saved after")
    first = plan_of(minutes)
    stood = int(checkpoints(minutes / "checkpoints")[-1].stem)
    resume(minutes, show=False)
    plan = plan_of(minutes)
    assert plan["images_per_second"] != first["images_per_second"]
    assert 0 < stood <= min(first["images"], plan["images"]) / 2
    train(quick(), str(bars), out=images, images=plan["images"], show=False)
    a, b = end(minutes), end(images)
    assert a.keys() == b.keys()
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_a_run_that_was_stopped_in_its_first_second_begins_anew(bars: Path, tmp_path: Path) -> None:
    told = stopped(bars, tmp_path / "run", 0.1, (tmp_path / "run" / "tensorboard").exists)
    assert told == f"stopped before there was anything to save; go on with: limner train --resume {tmp_path / 'run'}"
    resume(tmp_path / "run", show=False)
    assert load(tmp_path / "run").labels == ("0", "1")


def on_a_small_disk(*args: object) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    limner(*args)


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(bars: Path, tmp_path: Path) -> None:
    """A limit on file size stands in for the disk's end: the kernel refuses the bytes in the same place."""
    ended = Process(on_a_small_disk, "train", "flow", "--data", bars, *SETTINGS, "--images", 320,
                    "--out", tmp_path / "run").end(60)  # fmt: skip
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert "cannot be written" in ended.err or "disk is full" in ended.err
    assert not list((tmp_path / "run").rglob("*.tmp"))
    resume(tmp_path / "run", show=False)
    assert load(tmp_path / "run").labels == ("0", "1")


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="nothing here refuses root a write")
def test_a_device_without_space() -> None:
    from limner.files import write_whole

    def fill(path: Path) -> None:
        with open("/dev/full", "w") as file:
            file.write("x" * 100_000)

    with pytest.raises(UserError, match="disk is full"):
        write_whole(Path("/tmp/limner-never-there"), fill)


def test_damaged_checkpoints_and_snapshots(bars: Path, tmp_path: Path) -> None:
    settings = replace(quick(), training=replace(quick().training, checkpoint_seconds=0.0))
    train(settings, str(bars), out=tmp_path / "run", images=96, show=False)
    older, newest = checkpoints(tmp_path / "run" / "checkpoints")
    whole = end(tmp_path / "run")
    newest.write_bytes(newest.read_bytes()[:1000])
    (tmp_path / "run" / "done.json").unlink()
    resume(tmp_path / "run", show=False)  # from the older one
    assert all(torch.equal(value, end(tmp_path / "run")[name]) for name, value in whole.items())

    weights = tmp_path / "run" / "snapshot" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged or cut off"):
        load(tmp_path / "run")
    config = tmp_path / "run" / "snapshot" / "config.json"
    config.write_text(config.read_text()[:40])
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path / "run")

    for path in checkpoints(tmp_path / "run" / "checkpoints"):
        path.write_bytes(b"")
    (tmp_path / "run" / "done.json").unlink()
    with pytest.raises(UserError, match="damaged or cut off"):
        resume(tmp_path / "run", show=False)
    assert older.exists()


def bars_again(bars: Path, place: Path) -> Path:
    """The same pictures elsewhere."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(bars.read_bytes())
    return place


def test_changed_pictures_are_noticed_and_moved_ones_found(bars: Path, tmp_path: Path) -> None:
    import numpy as np

    run, source = tmp_path / "run", bars_again(bars, tmp_path / "set.npz")
    train(quick(), str(source), out=run, images=16, show=False)
    (run / "done.json").unlink()
    np.savez(source, images=np.zeros((50, 13, 11, 1), np.uint8) + np.arange(50, dtype=np.uint8)[:, None, None, None])
    with pytest.raises(UserError, match="have changed"):
        resume(run, show=False)
    before = (run / "recipe.json").read_bytes()
    moved = bars_again(bars, tmp_path / "moved" / "set.npz")
    for wrong, says in ((source, "have changed"), (tmp_path / "nowhere.npz", "no data at")):
        with pytest.raises(UserError, match=says):
            point_to(run, str(wrong), show=False)
        assert (run / "recipe.json").read_bytes() == before
    limner("train", "--resume", run, "--data", moved)
    written = json.loads((run / "recipe.json").read_text())
    assert written["source"]["source"] == written["data"]["source"] == str(moved)
    assert written["sittings"] == 2


def test_a_finished_run_is_told_and_left_as_it_is(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = replace(quick(), watch=replace(quick().watch, judge=40))
    first = train(settings, str(bars), out=run, images=16, show=False)
    (run / "report.html").unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    again = resume(run)
    assert f"{run} is finished already; its report is {run / 'report.html'}" in capsys.readouterr().err
    assert (again.images, again.measures, again.report) == (first.images, first.measures, first.report)
    assert again.seconds == {name: pytest.approx(value, abs=0.001) for name, value in first.seconds.items()}
    assert (run / "report.html").exists()
    assert {path: path.read_bytes() for path in before} == before
    (run / "done.json").write_text("{")
    resume(run, show=False)
    assert json.loads((run / "done.json").read_text())["interrupted"] == 1


def test_a_signal_while_a_run_is_judged_is_heard(bars: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [*SETTINGS[:3], "--watch.judge=100000", "--watch.grids=0", "--watch.guidances", 2]
    process = Process(limner, "train", "flow", "--data", bars, *settings, "--images", 32, "--out", run)
    wait_for(run / "snapshot", process, "config.json")
    process.send(signal.SIGTERM)
    ended = process.end(60)
    assert ended.code == 128 + signal.SIGTERM, ended.err
    line = (
        f"limner: trained to the end, with a snapshot in {run}, but not judged; go on with: limner train --resume {run}"
    )
    assert ended.err.splitlines()[-1] == line
    assert "the run has not ended" in (run / "report.html").read_text()
    assert not (run / "done.json").exists()
    assert load(run).labels == ("0", "1")
    plan = json.loads((run / "recipe.json").read_text())
    plan["plan"] |= {"judge": 40, "tries": 0}
    (run / "recipe.json").write_text(json.dumps(plan))
    assert resume(run, show=False).measures


def test_a_report_that_cannot_be_written_hides_no_interruption(bars: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = Process(limner, "train", "flow", "--data", bars, *SETTINGS, "--images", 1_000_000, "--out", run,
                      "--training.checkpoint-seconds", 0.02)  # fmt: skip
    wait_for(run / "checkpoints", process, "0*.safetensors")
    (run / "report.html").mkdir()
    process.send(signal.SIGINT)
    ended = process.end(60)
    assert ended.code == 130, ended.err
    why, line = ended.err.splitlines()[-2:]
    assert why.startswith(f"no report was written: {run / 'report.html'} cannot be written")
    assert line.startswith("limner: saved after")
