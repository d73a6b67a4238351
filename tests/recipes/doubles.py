"""Recipes on tiny networks in float64, and what one iteration of them does; alone, or as one of several processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from test_every_recipe import pictures_for, small
from torch import Tensor

from limner.data import Dataset, open_dataset
from limner.distributed import ALONE, World, join
from limner.models.layers import Together
from limner.objectives import Batch, MuonConfig
from limner.tensors import save_tensors
from limner.training.captions import reading_of
from limner.training.checkpoint import load_checkpoint
from limner.training.opening import batches_of, before_it, lesson_of
from limner.training.trainer import Trainer

#: No even share for two processes, in micro-batches that are not even either.
BATCH, PARTS = 7, 2
#: Recipes that are taught at a third of their rate: at the whole of it steep steps make 1e-5 and more of the last bit
#: of a sum, in one process too, when it cuts its batch in another way.
SLOWED = ("dalle", "ddpm", "edm")
#: Where the weights are looked at.
END = 100


def trainer(name: str, dataset: Dataset, world: World, parts: int = PARTS) -> Trainer:
    """Without dropout, whose noise is drawn a micro-batch at a time; a batch has so many."""
    settings = small(name)
    changed: dict[str, Any] = {"dropout": 0.0} if hasattr(settings.net, "dropout") else {}
    settings = replace(settings, net=replace(settings.net, **changed))
    if name in SLOWED:
        assert isinstance(settings.optimizer, MuonConfig)
        optimizer = replace(settings.optimizer, lr=settings.optimizer.lr / 3)
        settings = replace(settings, optimizer=optimizer)
    before = before_it(settings.codec_source(), settings, dataset, ALONE, show=False)
    reading = reading_of(settings, dataset, ALONE, show=False)
    lesson = lesson_of(settings, dataset, ALONE, before, reading)
    # What looks at whole batches sees the micro-batches of one process, of which another has others.
    if any(isinstance(part, Together) for part in lesson.objective.modules()):
        parts = 1
    settings = replace(settings, training=replace(settings.training, batch=BATCH, accumulate=parts))
    given = batches_of(settings, dataset, ALONE, labelled=True, behind=before, reading=reading)

    def batches(first: int, count: int) -> Batch:
        batch = given(first, count)
        return replace(batch, images=batch.images.double())

    return Trainer(
        lesson.objective.double(),
        settings.training,
        batches,
        images=END * BATCH,
        precision="float32",  # no autocast: it would leave float64
        seed=0,
        world=world,
    )


def iterate(run: Trainer) -> dict[str, Tensor]:
    """One iteration: the gradients that each optimiser was given, what was logged, and loss state and buffers."""
    seen: dict[str, Tensor] = {}
    handles = []
    for name, optimizer in run.state.optimizers.items():

        def note(one: torch.optim.Optimizer, args: object, kwargs: object, name: str = name) -> None:
            step = sum(key.startswith(f"{name} ") for key in seen)
            for group in one.param_groups:
                for i, p in enumerate(group["params"]):
                    if p.grad is not None:
                        seen[f"{name} {step} gradient {i}"] = p.grad.clone()

        handles.append(optimizer.register_step_pre_hook(note))
    logged = run.iterate()
    for handle in handles:
        handle.remove()
    parameters = {name for name, _ in run.objective.named_parameters()}
    rest = {f"buffer {n}": v.clone() for n, v in run.objective.state_dict().items() if n not in parameters}
    return seen | {f"logged {name}": value for name, value in logged.items()} | rest


def weights(run: Trainer) -> dict[str, Tensor]:
    return {**run.objective.state_dict(), **{f"ema {n}": v for n, v in run.state.ema.modules.state_dict().items()}}


def together(bars: Path, folder: Path, names: tuple[str, ...], starts: tuple[int, ...], ends: tuple[str, ...]) -> None:
    """As one of several processes: from each state in ``folder/RECIPE/START`` one iteration, and on to the end of
    some."""
    world = join()
    for name in names:
        dataset = open_dataset(str(pictures_for(name, bars)), cache=folder / "cache", progress=False)
        for start in starts:
            run = trainer(name, dataset, world)
            run.progress = load_checkpoint(folder / name / str(start), run.state)
            assert run.progress.iteration == start
            told = iterate(run)
            if world.first:
                save_tensors(folder / name / f"together-{start}.safetensors", told)
            if start == 0 and name in ends:
                to_the_end(run, world, folder / name / "together-end.safetensors")
    world.leave()


def to_the_end(run: Trainer, world: World, path: Path) -> None:
    while not run.done:
        run.iterate()
    everywhere = torch.cat([value.double().flatten() for value in weights(run).values()])
    mine = everywhere.clone()
    assert torch.equal(world.add_up(everywhere), mine * world.size), "the processes differ"
    if world.first:
        save_tensors(path, weights(run))
