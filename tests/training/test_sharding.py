"""A network cut up over two processes is trained as a whole one is, and saved as one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import parts
import pytest
import torch
from parts import ALL, FIRST, trainer

import limner
from limner.config import from_json
from limner.data import Dataset, open_dataset
from limner.distributed import ALONE
from limner.errors import UserError
from limner.objectives import Objective
from limner.recipes import resume
from limner.tensors import load_tensors
from limner.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from limner.training.config import TrainingConfig
from limner.training.sharding import shard
from processes import limner as command
from processes import run


@pytest.fixture(scope="module")
def folder(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process does with whole networks, and two with networks that are cut up."""
    out = tmp_path_factory.mktemp("parts")
    dataset = open_dataset(str(bars), cache=out / "cache", progress=False)
    one = trainer(dataset, ALONE)
    for _ in range(FIRST):
        one.iterate()
    save_checkpoint(out / "alone", one.state, one.progress, 1)
    run(parts.together, bars, out, seconds=300)
    return out


@pytest.fixture(scope="module")
def dataset(bars: Path, folder: Path) -> Dataset:
    return open_dataset(str(bars), cache=folder / "cache", progress=False)


def test_steps_are_those_of_whole_networks(folder: Path, dataset: Dataset) -> None:
    one = trainer(dataset, ALONE)
    logs = []
    while not one.done:
        logged = one.iterate()
        logs.append(torch.stack([logged["loss"], logged["gradient_norm"]]))
    together = load_tensors(folder / "logs.safetensors")[0]["logs"]
    torch.testing.assert_close(together, torch.stack(logs), rtol=1e-7, atol=0)
    end = load_tensors(folder / "end.safetensors")[0]
    whole = {**one.objective.state_dict(), **{f"ema.{n}": v for n, v in one.state.ema.modules.state_dict().items()}}
    assert end.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(end[name], value, rtol=0, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}")


def test_saved_by_two_it_goes_on_alone(folder: Path, dataset: Dataset) -> None:
    """To the bit what was saved, and then to where the two went."""
    one = trainer(dataset, ALONE)
    one.progress = load_checkpoint(folder / "together", one.state)
    assert one.progress.iteration == FIRST
    save_checkpoint(folder / "together-saved-alone", one.state, one.progress, 1)
    saved, again = (load_tensors(checkpoints(folder / name)[-1])[0] for name in ("together", "together-saved-alone"))
    assert saved.keys() == again.keys()
    assert {name.split(".")[0] for name in saved} == {"objective", "ema", "profile0", "optimizer"}
    for name, value in saved.items():
        assert torch.equal(value, again[name]), name
    while not one.done:
        one.iterate()
    assert one.progress.iteration == ALL
    end = load_tensors(folder / "end.safetensors")[0]
    for name, value in one.objective.state_dict().items():
        torch.testing.assert_close(end[name], value, rtol=0, atol=1e-8)


def test_saved_alone_it_goes_on_in_parts(folder: Path) -> None:
    saved, again = (load_tensors(checkpoints(folder / name)[-1])[0] for name in ("alone", "alone-saved-together"))
    assert saved.keys() == again.keys()
    for name, value in saved.items():
        assert torch.equal(value, again[name]), name


@pytest.mark.parametrize("shard", ["none", "full"])
def test_what_one_process_meets_takes_all_back(folder: Path, shard: str) -> None:
    """The processes themselves hold what they did against each other; here is what they left."""
    (path,) = checkpoints(folder / f"faults-{shard}")
    tensors, about = load_tensors(path)
    assert about["iteration"] == ALL
    assert (about["rollbacks"], about["skips"], about["rate"]) == (1, 2, 0.5)
    assert all(bool(value.isfinite().all()) for value in tensors.values())


@pytest.mark.slow
def test_a_whole_run_in_parts(bars: Path, tmp_path: Path) -> None:
    """Grids, checkpoints, a roll-back's anchors, the snapshot, the report; then a resume by one process."""
    out = tmp_path / "run"
    settings = ["--net.width=16", "--training.batch=8", "--training.shard=full", "--training.precision=float32",
                "--training.recovery.window=2", "--training.recovery.skips=2", "--training.recovery.apart=2",
                "--training.ema-profiles", "0.05", "0.1", "--training.ema-copies=4",
                "--watch.grids=1", "--watch.judge=40", "--watch.pictures=4", "--sampling.steps=2"]  # fmt: skip
    run(command, "train", "flow", "--data", bars, *settings, "--images", 64, "--out", out)
    assert json.loads((out / "done.json").read_text())["processes"] == 2
    drawn = limner.sample(limner.load(out), 4)
    checkpoints(out / "checkpoints")[-1].unlink()
    (out / "done.json").unlink()
    resume(out, show=False)
    assert np.abs(drawn.astype(int) - limner.sample(limner.load(out), 4).astype(int)).mean() < 2
    assert len(list((out / "ema").iterdir())) == 4


def test_what_cannot_be_cut_up_is_one_line() -> None:
    with pytest.raises(UserError, match="is for denoisers; Objective needs its networks whole"):
        shard(Objective(), [], ALONE)
    with pytest.raises(UserError, match="shard"):
        from_json(TrainingConfig, {"shard": "half"}, "here")
