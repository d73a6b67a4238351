"""A training whose network is cut up over two processes: ``test_sharding.py`` has both at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from limner.data import Dataset, open_dataset
from limner.distributed import ALONE, World, join
from limner.models import UNetConfig
from limner.objectives import Batch, MuonConfig, muon
from limner.recipes import recipe
from limner.sampling import sample
from limner.shards import gathered, is_sharded, local, on_first
from limner.tensors import save_tensors
from limner.training.checkpoint import load_checkpoint, save_checkpoint, save_return
from limner.training.config import RecoveryConfig, TrainingConfig
from limner.training.opening import batches_of, lesson_of
from limner.training.recovery import Recovery
from limner.training.schedules import Constant
from limner.training.trainer import Trainer

#: Its matrices go to Muon and the rest to AdamW.
OPTIMIZER = MuonConfig(weight_decay=0.1)
FIRST, ALL = 4, 8


def nowhere(samples: Tensor) -> Tensor:
    return torch.zeros(len(samples), dtype=torch.bool)


def trainer(
    dataset: Dataset,
    world: World,
    shard: str = "full",
    faults: Callable[[Tensor], Tensor] = nowhere,
) -> Trainer:
    """On an odd number of rows, with attention, micro-batches that are not even, averages and clipping. ``faults`` says
    which samples are not finite."""
    settings = recipe("flow", "tiny")
    settings = replace(
        settings,
        net=UNetConfig(width=17, multipliers=(1, 2), attention=(1,)),
        optimizer=OPTIMIZER,
        training=TrainingConfig(
            batch=7,
            accumulate=3,
            clip=0.5,
            schedule=Constant(warm_up=0),
            shard=shard,  # type: ignore[arg-type]
            ema_profiles=(0.1,),
            recovery=RecoveryConfig(skips=2, window=2, apart=2),
        ),
    )
    lesson = lesson_of(settings, dataset, ALONE)
    given = batches_of(settings, dataset, ALONE, labelled=True)

    def batches(first: int, count: int) -> Batch:
        batch = given(first, count)
        return replace(
            batch, images=batch.images.double().masked_fill(faults(batch.samples)[:, None, None, None], math.nan)
        )

    return Trainer(
        lesson.objective.double(), settings.training, batches, images=7 * ALL, precision="float32", seed=0, world=world
    )


def faulty(dataset: Dataset, world: World, folder: Path, shard: str) -> None:
    """What one process alone meets, the one with the last sample of a batch, takes all back, to the same weights."""
    passes: list[int] = []

    def faults(samples: Tensor) -> Tensor:
        passes.extend(samples[samples == 7 * 3 + 6].tolist())
        return (samples // 7 >= 3) & (samples // 7 < 5) & (samples % 7 == 6) & (len(passes) == 1)

    run = trainer(dataset, world, shard, faults)
    recovery = Recovery(run, run.config.recovery, folder, lambda: trainer(dataset, ALONE).objective)
    while not run.done:
        run.iterate()
        recovery.look()
        if recovery.hopeless:
            assert run.progress.seen == 7 * 5
            recovery.go_back()
            assert run.progress.seen == 7 * 2
            save_return(folder, run.state, run.progress, 1, world)
    assert (run.progress.rollbacks, run.progress.skips, run.progress.rate) == (1, 2, 0.5)
    for values in (run.objective.state_dict(), run.state.ema.modules.state_dict()):
        mine = torch.cat([gathered([local(value)], [value])[0].double().flatten() for value in values.values()])
        assert bool(mine.isfinite().all())
        assert torch.equal(world.add_up(mine.clone()), mine * world.size)
    save_checkpoint(folder, run.state, run.progress, 1, world)


def together(bars: Path, folder: Path) -> None:
    """As one of two processes."""
    world = join()
    muon._PORTION = 5000  # several messages a step
    dataset = open_dataset(str(bars), cache=folder / "cache", progress=False)
    run = trainer(dataset, world)
    parameters = [*run.objective.parameters(), *run.state.ema.modules.parameters()]
    assert all(is_sharded(p) for p in parameters)
    held = sum(local(p).numel() for p in parameters) / sum(p.numel() for p in parameters)
    assert held < 0.6, held
    logs = []
    while not run.done:
        logged = run.iterate()
        logs.append(torch.stack([logged["loss"], logged["gradient_norm"]]))
        if run.progress.iteration == FIRST:
            save_checkpoint(folder / "together", run.state, run.progress, 1, world)
    assert [verdict for _, verdict in run.verdicts.told(ALL)] == [0] * ALL
    state = on_first(run.objective.state_dict(), world)
    averages = on_first(run.state.ema.modules.state_dict(), world)
    if world.first:
        save_tensors(folder / "end.safetensors", {**state, **{f"ema.{n}": v for n, v in averages.items()}})
        save_tensors(folder / "logs.safetensors", {"logs": torch.stack(logs)})
    again = trainer(dataset, world)
    again.progress = load_checkpoint(folder / "alone", again.state)
    save_checkpoint(folder / "alone-saved-together", again.state, again.progress, 1, world)
    for shard in ("none", "full"):
        faulty(dataset, world, folder / f"faults-{shard}", shard)
    del run, again
    lesson = lesson_of(recipe("flow", "tiny"), dataset, ALONE)
    whole = sample(lesson.model, 3, steps=2)
    parts = Trainer(lesson.objective, TrainingConfig(shard="full"), lambda first, count: None, images=64,  # type: ignore[arg-type, return-value]
                    precision="float32", seed=0, world=world)  # fmt: skip
    assert all(is_sharded(p) for p in lesson.model.net.parameters())
    for batch in (1, 2, 3):  # one process has more batches than the other, or all
        drawn = sample(lesson.model, 3, steps=2, batch=batch, world=world)
        assert abs(drawn.astype(int) - whole.astype(int)).max() <= 1
        averaged = replace(lesson.model, net=parts.state.ema.modules["denoiser"])  # type: ignore[arg-type]
        assert (sample(averaged, 3, steps=2, batch=batch, world=world) == drawn).all()
    world.leave()
