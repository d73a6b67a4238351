"""Faults injected into losses, gradients and data: a run recovers or stops, and what it saved is finite."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from limner.contracts import Condition, DataStats, ImageSpec
from limner.data import DataConfig
from limner.errors import UserError
from limner.objectives import Batch, Context, Denoising, Losses, Objective, Optimizers, Update
from limner.objectives.muon import Muon
from limner.recipes import RefineRecipe, recipe
from limner.tensors import load_tensors
from limner.text import Reading
from limner.training.checkpoint import (
    TrainingState,
    anchors,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
    save_return,
)
from limner.training.config import Budget, RecoveryConfig, TrainingConfig
from limner.training.ema import EMA
from limner.training.job import Lesson
from limner.training.recovery import Recovery
from limner.training.run import resume, start
from limner.training.schedules import Constant
from limner.training.soundness import SKIPPED, SOUND, Verdicts, decide_on_device, finite
from limner.training.tracking import records
from limner.training.trainer import Trainer

BATCH = 8
Place = Literal["loss", "gradient", "data"]
PLACES: tuple[Place, ...] = ("loss", "gradient", "data")
BROKEN = (math.nan, math.inf, -math.inf)


class Regression(Objective):
    """A small network with a buffer, taught to halve; faults come as ``faults`` says, at samples of the run."""

    ema = ("net",)

    def __init__(self, place: Place, value: float, faults: Callable[[int], bool]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.net = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 4))
        self.place, self.value, self.faults = place, value, faults

    def optimizers(self) -> Optimizers:
        first, last = list(self.net[0].parameters()), list(self.net[2].parameters())
        return {
            "adamw": torch.optim.AdamW([*last, first[1]], lr=1e-2, fused=True),
            "muon": Muon([first[0]], lr=1e-2),
        }

    def updates(self) -> list[Update]:
        return [Update("fit", ("adamw", "muon"), ("net",), self.loss)]

    def loss(self, batch: Batch, context: Context) -> Losses:
        x = batch.images.flatten(1)
        fault = self.faults(int(batch.samples[0]))
        if fault and self.place == "data":
            x = x * self.value
        out = self.net(x)
        if fault and self.place == "gradient":
            out.register_hook(lambda grad: grad * self.value)
        loss = (out - x / 2).square().mean()
        return {"loss": loss * self.value if fault and self.place == "loss" else loss}


def batches(first: int, count: int) -> Batch:
    samples = torch.arange(first, first + count)
    return Batch((samples[:, None, None, None] * torch.tensor([0.1, 0.2, 0.3, 0.4])).cos(), Condition(), samples)


def trainer(objective: Objective, images: int = 40 * BATCH, **recovery: object) -> Trainer:
    config = TrainingConfig(batch=BATCH, schedule=Constant(warm_up=0), recovery=RecoveryConfig(**recovery))  # type: ignore[arg-type]
    return Trainer(objective, config, batches, images=images, precision="float32", seed=1)


def state_of(run: Trainer) -> list[Tensor]:
    kept = [*run.objective.state_dict().values(), *run.state.ema.modules.state_dict().values()]
    for optimizer in run.state.optimizers.values():
        kept += [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return [value.clone() for value in kept]


@given(st.sampled_from(PLACES), st.sampled_from(BROKEN), st.integers(0, 19))
@settings(max_examples=30)
def test_a_fault_costs_its_step_and_nothing_else(place: Place, value: float, at: int) -> None:
    """Weights and optimisers are as before; the run then goes on as one whose optimisers were not called that time."""
    run = trainer(Regression(place, value, lambda sample: sample == at * BATCH))
    clean = trainer(Regression(place, value, lambda sample: False))
    for i in range(20):
        before = state_of(run)
        run.iterate()
        if i == at:
            average = len(run.state.ema.modules.state_dict())
            weights = len(run.objective.state_dict())
            after = state_of(run)
            unchanged = [*range(weights), *range(weights + average, len(before))]
            assert all(torch.equal(before[j], after[j]) for j in unchanged)
            clean.progress, clean.verdicts = run.progress, Verdicts(torch.device("cpu"))
            clean.state.ema.update(0.0, torch.tensor(True))
        else:
            clean.iterate()
        assert all(bool(value.isfinite().all()) for value in state_of(run))
    assert [verdict for _, verdict in run.verdicts.told(20)] == [SKIPPED if i == at else SOUND for i in range(20)]
    for a, b in zip(run.objective.parameters(), clean.objective.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_the_average_takes_in_no_weights_that_are_not_finite(poison: float) -> None:
    run = trainer(Regression("loss", 1.0, lambda sample: False))
    run.iterate()
    average = copy.deepcopy(run.state.ema.modules.state_dict())
    with torch.no_grad():
        next(run.objective.parameters())[0] = poison
    run.iterate()
    for name, value in run.state.ema.modules.state_dict().items():
        assert torch.equal(value, average[name])


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_device_decides_for_itself(name: str) -> None:
    """What a GPU does, which no one waits for: the same step where it is sound, none at all where it is not."""
    runs = [trainer(Regression("gradient", math.nan, lambda sample: sample == 3 * BATCH)) for _ in range(2)]
    for run in runs:
        for _ in range(3):
            run.iterate()
    waiting, deciding = (run.state.optimizers[name] for run in runs)
    for sound in (False, True):
        before = state_of(runs[1])
        for run in runs:
            batch = batches((3 if not sound else 4) * BATCH, BATCH)
            run.objective.zero_grad()
            loss = run.updates[0].loss(batch, Context(1, batch.samples, "fit", 0.0))["loss"]
            loss.backward()  # type: ignore[no-untyped-call]
        if sound:
            waiting.step()
        decide_on_device(torch.tensor(sound), deciding)
        assert getattr(deciding, "found_inf", None) is None
        if not sound:
            assert all(torch.equal(a, b) for a, b in zip(before, state_of(runs[1]), strict=True))
    for a, b in zip(state_of(runs[0]), state_of(runs[1]), strict=True):
        assert torch.equal(a, b)


@given(
    st.lists(st.sampled_from([0.0, 1.0, -1e15, math.nan, math.inf, -math.inf]), min_size=1, max_size=5),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_finite_sees_every_value(values: list[float], dtype: torch.dtype) -> None:
    tensors = [torch.tensor([value, 1.0], dtype=dtype) for value in values] + [torch.arange(3)]
    assert bool(finite(tensors)) == all(map(math.isfinite, values))


def taught(run: Trainer, folder: Path, beginning: Callable[[], Objective]) -> Recovery:
    """Iterate to the end with a recovery, as the loop does, a checkpoint at every iteration."""
    recovery = Recovery(run, run.config.recovery, folder, beginning)
    while not run.done:
        run.iterate()
        recovery.look()
        if recovery.hopeless:
            recovery.go_back()
            save_return(folder, run.state, run.progress, keep=2)
        elif recovery.sound:
            save_checkpoint(folder, run.state, run.progress, keep=2)
    return recovery


@given(st.sampled_from(PLACES), st.sampled_from(BROKEN), st.integers(0, 36), st.integers(1, 8), st.integers(0, 3))
@settings(max_examples=15)
def test_bursts_of_faults_are_recovered_from_or_end_the_run(
    tmp_path_factory: pytest.TempPathFactory, place: Place, value: float, at: int, length: int, times: int
) -> None:
    """``times`` times the faults come when the run passes; then they are gone. A run bears two returns."""
    folder = tmp_path_factory.mktemp("run")
    passes: list[int] = []

    def faults(sample: int) -> bool:
        passes.extend([sample] * (sample == at * BATCH))
        return at * BATCH <= sample < (at + length) * BATCH and len(passes) <= times

    run = trainer(Regression(place, value, faults), skips=3, window=10, lower=0.25, rollbacks=2, apart=10)
    returns = times if min(length, 40 - at) >= 3 else 0
    beginning = Regression(place, value, faults)
    if returns > 2:
        with pytest.raises(UserError, match=r"after 2 returns to an earlier state and at 0.0625 of the learning rate"):
            taught(run, folder, lambda: copy.deepcopy(beginning))
    else:
        taught(run, folder, lambda: copy.deepcopy(beginning))
        assert run.done
        assert run.progress.rollbacks == returns
        assert run.progress.rate == 0.25**returns
        assert run.rate() == pytest.approx(1e-2 * 0.25**returns)
        assert run.progress.skips >= min(length, 40 - at, 3) * (times > 0)
    again = trainer(Regression(place, value, faults))
    for path in (*checkpoints(folder), *anchors(folder)):
        assert all(bool(tensor.isfinite().all()) for tensor in load_tensors(path)[0].values())
    if checkpoints(folder):
        progress = load_checkpoint(folder, again.state)
        assert progress.seen == int(checkpoints(folder)[-1].stem)


def test_a_return_goes_behind_the_first_fault(tmp_path: Path) -> None:
    seen: list[int] = []

    def faults(sample: int) -> bool:
        seen.append(sample // BATCH)
        return sample // BATCH in (19, 21, 23) and len(seen) <= 24

    objective = Regression("loss", math.nan, faults)
    run = trainer(objective, skips=3, window=10, apart=10)
    taught(run, tmp_path, lambda: objective)
    assert seen[:24] == list(range(24))
    assert seen[24:] == list(range(10, 40))  # the state at 20 already lacks a step
    assert [int(path.stem.removeprefix("anchor-")) for path in anchors(tmp_path)] == [160, 240, 320]


def test_what_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    run = trainer(Regression("loss", 1.0, lambda sample: False))
    run.iterate()
    save_checkpoint(tmp_path, run.state, run.progress, keep=1)
    run.iterate()
    for broken in (
        next(run.objective.parameters()),
        next(run.state.ema.modules.parameters()),
        next(iter(run.state.optimizers["adamw"].state.values()))["exp_avg_sq"],
    ):
        kept = broken.detach().clone()
        with torch.no_grad():
            broken.flatten()[0] = math.nan
        with pytest.raises(UserError, match="is not finite and was not saved"):
            save_checkpoint(tmp_path, run.state, run.progress, keep=1)
        with torch.no_grad():
            broken.copy_(kept)
    assert [path.stem for path in checkpoints(tmp_path)] == [f"{BATCH:012d}"]


def test_all_that_an_optimiser_knows_goes_to_its_device(tmp_path: Path) -> None:
    """The count of steps too, which torch's fused optimisers have there."""
    run = trainer(Regression("loss", 1.0, lambda sample: False))
    run.iterate()
    save_checkpoint(tmp_path, run.state, run.progress, keep=1)
    there = Regression("loss", 1.0, lambda sample: False).to("meta")
    state = TrainingState(there, EMA(there, there.ema), there.optimizers())
    load_checkpoint(tmp_path, state)
    kept = [value for one in state.optimizers.values() for known in one.state.values() for value in known.values()]
    assert len(kept) == 3 * 3 + 1
    assert {value.device.type for value in kept} == {"meta"}


@dataclass(frozen=True)
class Fragile(RefineRecipe):
    """A recipe whose loss is not finite from iteration ``low`` to ``high`` while the learning rate is not lowered.

    At iteration ``photo`` it has its run's folder copied, as a kill would leave it.
    """

    low: int = 5
    high: int = 6
    bears: float = 0.6
    photo: int = -1
    folder: str = ""

    def lesson(
        self, spec: ImageSpec, labels: tuple[str, ...], stats: DataStats, reading: Reading | None = None
    ) -> Lesson:
        plain = super().lesson(spec, labels, stats, reading)
        return replace(plain, objective=FragileDenoising(cast(Denoising, plain.objective), self))


class FragileDenoising(Denoising):
    def __init__(self, plain: Denoising, how: Fragile) -> None:
        super().__init__(plain.denoiser, plain.config, plain.optimizer)
        self.how = how
        self.built: Optimizers = {}

    def optimizers(self) -> Optimizers:
        self.built = super().optimizers()
        return self.built

    def loss(self, batch: Batch, context: Context) -> Losses:
        losses = super().loss(batch, context)
        iteration = int(batch.samples[0]) // 16
        folder, photo = Path(self.how.folder), Path(f"{self.how.folder}-photo")
        # A fast machine comes so far in the trial before the run, too, which writes no checkpoints.
        if iteration == self.how.photo and not photo.exists() and checkpoints(folder / "checkpoints"):
            shutil.copytree(folder, photo)
        rates = [group["lr"] for one in self.built.values() for group in one.param_groups if isinstance(one, Muon)]
        if self.how.low <= iteration <= self.how.high and max(rates, default=0.0) > self.how.bears * 1.2e-2:
            losses["loss"] = losses["loss"] * math.nan
        return losses


def fragile(folder: Path, **how: object) -> Fragile:
    plain = recipe("flow", "tiny")
    training = TrainingConfig(
        batch=16,
        precision="float32",
        schedule=Constant(warm_up=0),
        checkpoint_seconds=0.0,
        keep=3,
        recovery=RecoveryConfig(skips=2, window=4, apart=4, rollbacks=2),
    )
    return Fragile(
        recipe="flow",
        net=replace(plain.net, width=16, dropout=0.1),
        objective=plain.objective,
        optimizer=plain.optimizer,
        training=training,
        sampling=replace(plain.sampling, steps=2),
        watch=replace(plain.watch, grids=0, judge=0),
        folder=str(folder),
        **how,  # type: ignore[arg-type]
    )


def test_a_run_that_was_taken_back_is_resumed_bit_for_bit(bars: Path, tmp_path: Path) -> None:
    """Killed after the first of two faults, with a checkpoint of the way that is then left."""
    how = fragile(tmp_path / "run", photo=6)
    start(how, DataConfig(str(bars)), tmp_path / "run", Budget(images=160), show=False)
    done = json.loads((tmp_path / "run" / "done.json").read_text())
    assert (done["skipped_steps"], done["roll_backs"]) == (2, 1)
    lines = records(tmp_path / "run" / "metrics.jsonl")
    assert [line["images"] for line in lines] == [16 * i for i in range(1, 11)]
    assert [line.get("roll_backs", 0) for line in lines] == [0, 0, 0, 0, *[1] * 6]
    assert lines[-1]["lr"] == pytest.approx(lines[0]["lr"] / 2)
    killed = tmp_path / "run-photo"
    assert int(checkpoints(killed / "checkpoints")[-1].stem) == 96
    resume(killed, lambda name, plain: how, show=False)
    (a, about), (b, other) = (load_tensors(checkpoints(one / "checkpoints")[-1]) for one in (tmp_path / "run", killed))
    assert a.keys() == b.keys()
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert {**about, "seconds": 0, "interrupted": 0} == {**other, "seconds": 0, "interrupted": 0}
    assert not anchors(killed / "checkpoints")


def test_a_run_that_never_recovers_ends_with_one_line(bars: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"after 2 returns to an earlier state and at 0.25 of the learning rate"
    ) as told:
        start(
            fragile(tmp_path / "run", bears=0.0),
            DataConfig(str(bars)),
            tmp_path / "run",
            Budget(images=160),
            show=False,
        )
    assert "\n" not in str(told.value)
    found = checkpoints(tmp_path / "run" / "checkpoints")
    assert found
    assert all(bool(tensor.isfinite().all()) for path in found for tensor in load_tensors(path)[0].values())


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"skips": 0}, "training.recovery.skips is 0; give a number from 1 to 100"),
        ({"lower": 2.0}, "training.recovery.lower is 2; give a number from 0 to 1"),
        ({"apart": 50}, "training.recovery.apart is 50; give a number from 100 to 10,000,000"),
    ],
)
def test_settings_out_of_bounds(wrong: dict[str, float], line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}$"):
        RecoveryConfig(**wrong)  # type: ignore[arg-type]
