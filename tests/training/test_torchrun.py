"""Training, drawing and judging by several processes, as a user starts them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from limner.cli import main
from limner.distributed import World
from limner.recipes import resume
from limner.tensors import load_tensors
from limner.training.checkpoint import checkpoints
from limner.training.describing import environment, warn_if_changed
from limner.training.snapshot import load
from processes import Ended, Together, limner

SETTINGS = [
    "--net.width=16",
    "--training.batch=16",
    "--training.precision=float32",
    "--watch.judge=0",
    "--watch.grids=1",
    "--watch.pictures=8",
    "--sampling.steps=2",
]


def told(ended: list[Ended]) -> list[str]:
    """What limner says of mistakes, whichever process says it."""
    return [line for one in ended for line in one.err.splitlines() if line.startswith("limner: ")]


def end(run: Path) -> dict[str, Tensor]:
    return load_tensors(checkpoints(run / "checkpoints")[-1])[0]


@contextmanager
def one_thread() -> Iterator[None]:
    """As each of several processes has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Weights of two runs whose sums were rounded in other orders."""
    assert a.keys() == b.keys()
    for name, value in a.items():
        if name.startswith(("objective.", "ema.")):
            torch.testing.assert_close(b[name], value, rtol=0, atol=2e-3, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="module")
def alone(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, one thread, with a checkpoint at every iteration."""
    out = tmp_path_factory.mktemp("alone") / "run"
    with one_thread():
        main(
            ["train", "flow", "--data", str(bars), *SETTINGS, "--images", "160", "--out", str(out),
             "--training.checkpoint-seconds=0", "--training.keep=10"]
        )  # fmt: skip
    return out


def test_torchrun_trains_as_one_process_does(bars: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "limner.cli"]
    done = subprocess.run(
        [*command, "train", "flow", "--data", str(bars), *SETTINGS, "--images", "160", "--out", str(out), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 160  # said once
    close(end(alone), end(out))
    assert json.loads((out / "done.json").read_text())["processes"] == 2
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == [16 * i for i in range(1, 11)]
    assert [path.name for path in sorted((out / "samples").iterdir())] == [
        path.name for path in sorted((alone / "samples").iterdir())
    ]
    assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_to_one_stops_all_and_another_number_goes_on(
    bars: Path, alone: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    settings = [*SETTINGS, "--training.checkpoint-seconds", 0.01]
    processes = Together(limner, "train", "flow", "--data", bars, *settings, "--images", 160, "--out", out)
    until = time.monotonic() + 60
    while not checkpoints(out / "checkpoints") and time.monotonic() < until:
        time.sleep(0.01)
    processes.processes[1].send(number)  # the one that writes nothing
    ended = processes.end()
    stood = int(checkpoints(out / "checkpoints")[-1].stem)
    assert stood < 160
    assert [one.code for one in ended] == [128 + number] * 2, ended
    assert told(ended) == [f"limner: saved after {stood} images; go on with: limner train --resume {out}"]
    assert "the run has not ended" in (out / "report.html").read_text()
    resume(out, show=False)
    close(end(alone), end(out))
    assert json.loads((out / "done.json").read_text())["processes"] == 1
    assert load(out).labels == ("0", "1")


def test_a_signal_to_one_while_all_judge_stops_all(bars: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = [*SETTINGS[:3], "--watch.judge=100000", "--watch.grids=0", "--watch.guidances", 2]
    processes = Together(limner, "train", "flow", "--data", bars, *settings, "--images", 32, "--out", out)
    until = time.monotonic() + 60
    while not (out / "snapshot" / "config.json").exists() and time.monotonic() < until:
        time.sleep(0.01)
    processes.processes[1].send(signal.SIGTERM)  # the one that writes nothing
    ended = processes.end()
    assert [one.code for one in ended] == [128 + signal.SIGTERM] * 2, ended
    (line,) = told(ended)
    assert line.endswith(f"but not judged; go on with: limner train --resume {out}")
    assert "the run has not ended" in (out / "report.html").read_text()


def test_a_run_of_one_goes_on_with_two(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(alone, out)
    for path in checkpoints(out / "checkpoints")[4:]:
        path.unlink()
    (out / "done.json").unlink()
    ended = Together(limner, "train", "--resume", out).end()
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    assert "processes was 1, is 2" in ended[0].err
    close(end(alone), end(out))


@pytest.mark.slow
def test_a_budget_in_minutes_is_planned_by_one(bars: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ended = Together(limner, "train", "flow", "--data", bars, *SETTINGS, "--minutes", 0.1, "--out", out).end()
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    plan = json.loads((out / "recipe.json").read_text())["plan"]
    assert plan["images_per_second"] > 0
    assert json.loads((out / "done.json").read_text())["images"] == plan["images"]


def test_too_small_a_batch_is_one_line(bars: Path, tmp_path: Path) -> None:
    ended = Together(limner, "train", "flow", "--data", bars, "--training.batch=1", "--out", tmp_path / "run").end()
    assert [one.code for one in ended] == [2, 2]
    assert told(ended) == [
        "limner: a batch of 1 is too small for 2 processes; give --training.batch 2 or more, or start fewer processes"
    ]
    assert not (tmp_path / "run").exists()
    assert not any("Traceback" in one.err for one in ended)


def test_what_cannot_be_shared_out_leaves_nothing_behind(bars: Path, tmp_path: Path) -> None:
    args = ["train", "consistency", "--data", bars, *SETTINGS, "--training.shard=full", "--out", tmp_path / "run"]
    ended = Together(limner, *args).end()
    assert [one.code for one in ended] == [2, 2], ended
    (line,) = told(ended)
    assert line.startswith("limner: --training.shard full is for denoisers; ")
    assert not (tmp_path / "run").exists()


def test_a_mistake_that_one_process_meets_ends_all(bars: Path, tmp_path: Path) -> None:
    """Its cache cannot be written: the others hear of it, and only one line is said."""
    each = {1: {"LIMNER_CACHE": "/proc/nowhere"}}
    ended = Together(limner, "train", "flow", "--data", bars, *SETTINGS, "--out", tmp_path / "run", each=each).end(60)
    assert [one.code for one in ended] == [2, 2], ended
    (line,) = told(ended)
    assert "cannot write the data cache" in line
    assert not any("Traceback" in one.err for one in ended)


def test_a_killed_process_ends_all(bars: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    processes = Together(limner, "train", "flow", "--data", bars, *SETTINGS, "--images", 1_000_000, "--out", out,
                         "--training.checkpoint-seconds", 0.01)  # fmt: skip
    until = time.monotonic() + 60
    while not checkpoints(out / "checkpoints") and time.monotonic() < until:
        time.sleep(0.05)
    processes.processes[1].kill()
    first, second = processes.end(60)
    assert second.code == -signal.SIGKILL
    assert first.code == 2
    (line,) = told([first])
    assert line.startswith("limner: another process of this run has ended (")
    assert line.endswith("); what was saved before is whole")
    assert "Traceback" not in first.err


def test_two_draw_and_judge_what_one_does(
    alone: Path, bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """300 pictures are three batches: one process draws two of them. 1,100 are three that are looked at."""
    draw = ["sample", str(alone), "-n", "300", "--seed", "11", "--out"]
    judge = ["evaluate", str(alone), "--reference", str(bars), "-n", "1100", "--json"]
    with one_thread():
        main([*draw, str(tmp_path / "one")])
        capsys.readouterr()
        main(judge)
    scores = json.loads(capsys.readouterr().out)
    ended = Together(limner, *draw, tmp_path / "two").end()
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    assert [bool(one.out) for one in ended] == [True, False]
    files = [
        sorted(path.relative_to(tmp_path / one) for path in (tmp_path / one).rglob("*.png")) for one in ("one", "two")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 300
    for file in files[0]:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    ended = Together(limner, *judge).end()
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    assert json.loads(ended[0].out) == scores


@pytest.mark.slow
def test_twenty_runs_without_a_hang(bars: Path, tmp_path: Path) -> None:
    """Two and three processes in turn, through measuring, grids, checkpoints, judging."""
    settings = ["--net.width=8", "--training.batch=8", "--watch.grids=2", "--watch.judge=40", "--watch.pictures=4"]
    for i in range(20):
        budget = ["--minutes", 0.1] if i % 4 == 0 else ["--images", 80]
        out = tmp_path / str(i)
        processes = Together(
            limner, "train", "flow", "--data", bars, *settings, "--sampling.steps=1",
            "--training.checkpoint-seconds=0.05", *budget, "--out", out, size=2 + i % 2,
        )  # fmt: skip
        ended = processes.end(180)
        assert [one.code for one in ended] == [0] * (2 + i % 2), [one.err for one in ended]
        assert (out / "report.html").exists()


def test_the_number_of_processes_is_part_of_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    before = environment()
    del before["processes"]  # as runs have it that began before there could be several
    warn_if_changed(before)
    assert capsys.readouterr().err == ""
    warn_if_changed(before, World(0, 2))
    assert "processes was 1, is 2" in capsys.readouterr().err
