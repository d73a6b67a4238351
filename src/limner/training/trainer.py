"""One trainer for every objective: it takes an iteration's updates in turn and knows nothing of what they teach."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from limner import random
from limner.contracts import Precision, arithmetic
from limner.distributed import ALONE, Reducer, World
from limner.errors import UserError
from limner.models.layers import together
from limner.objectives import Batch, Context, Objective, Update
from limner.shards import is_sharded, local
from limner.training.checkpoint import Progress, TrainingState
from limner.training.config import TrainingConfig
from limner.training.ema import EMA, ema_decay
from limner.training.profiles import exponent, power_decay
from limner.training.sharding import clipped, held, shard, squares
from limner.training.soundness import Verdicts, finite, flat, step_if

Batches = Callable[[int, int], Batch]
"""(first, count) to the batch at these positions of the run, counted in images seen; a pure function."""


class Trainer:
    """Trains an objective, an iteration at a time.

    Everything it does is a function of (seed, images seen) and the state it holds, so that a run taken up again from a
    checkpoint goes on as if nothing had happened, bit for bit on the same machine and thread count.

    Args:
        objective: what is taught.
        config: the training's settings.
        batches: where fresh data comes from.
        images: the run's length, which the schedule and the average fit; None as long as nobody knows.
        precision: of the arithmetic.
        seed: of every draw.
        world: the processes that train together. Each sees its share of every batch, and all take the same steps.

    Attributes:
        images: the run's length; it may be told later.
        state: what changes; checkpoints hold it.
        progress: where the run stands.
        precision: of the arithmetic.
        verdicts: which iterations were not sound: a step was skipped, or the weights themselves are not finite.
    """

    def __init__(
        self,
        objective: Objective,
        config: TrainingConfig,
        batches: Batches,
        *,
        images: int | None,
        precision: Precision,
        seed: int,
        world: World = ALONE,
    ) -> None:
        check_batch(config, world)
        self.objective = objective.train()
        together(objective, world)
        self.config = config
        self.batches = batches
        self.images = images
        self.seed = seed
        self.updates = objective.updates()
        ema = EMA(objective, objective.ema)
        profiles = {width: EMA(objective, objective.ema) for width in config.ema_profiles}
        self._gammas = [exponent(width) for width in profiles]
        self._sharded = config.shard == "full" and world.size > 1
        if self._sharded:
            shard(objective, [ema, *profiles.values()], world)
        self.state = TrainingState(objective, ema, objective.optimizers(), profiles)
        self.progress = Progress()
        self.precision = precision
        self._rates = {name: [g["lr"] for g in o.param_groups] for name, o in self.state.optimizers.items()}
        self.world = world
        self._trained = {u.name: _parameters(objective, u.params) for u in self.updates}
        self._reducers = {
            name: Reducer(world, [p for p in parameters if not is_sharded(p)])
            for name, parameters in self._trained.items()
        }
        self._fresh = max(u.repeat for u in self.updates)
        self._several = len({u.params for u in self.updates}) > 1
        self.device = next(objective.parameters()).device
        self.verdicts = Verdicts(self.device)
        with torch.no_grad():
            self._weights = [flat(local(tensor)) for tensor in (*objective.parameters(), *objective.buffers())]

    @property
    def done(self) -> bool:
        return self.images is not None and self.progress.seen >= self.images

    @property
    def images_per_iteration(self) -> int:
        return self.config.batch * self._fresh

    def iterate(self) -> dict[str, Tensor]:
        """All updates of one iteration. What they logged, still tensors, so that nothing waits for the device."""
        seen, batch = self.progress.seen, self.config.batch
        share = seen / self.images if self.images else 0.0
        # The rate of a step is that at its middle: the last one is above zero.
        middle = (seen + self.images_per_iteration / 2) / self.images if self.images else 0.0
        self._set_rates(self.config.schedule(self.progress.iteration + 1, min(1.0, middle)))
        low, high = self.world.share(batch)
        fresh = [self.batches(seen + i * batch + low, high - low) for i in range(self._fresh)]
        shared: dict[str, Tensor] = {}
        logged: dict[str, Tensor] = {}
        sound = torch.ones((), dtype=torch.bool, device=self.device)
        for update in self.updates:
            if self.progress.iteration % update.every:
                continue
            for i, data in enumerate(fresh[: update.repeat]):
                told, stepped = self._take(update, data, seen + i * batch + low, share, shared)
                logged |= told
                sound = sound & stepped
        with torch.no_grad():
            healthy = finite(self._weights)
            if self._sharded:
                healthy = self.world.add_up((~healthy).float()) == 0
        self.state.ema.update(ema_decay(batch, seen, self._half_life(), self.config.ema_warm_up), healthy)
        for average, gamma in zip(self.state.profiles.values(), self._gammas, strict=True):
            average.update(power_decay(self.progress.iteration + 1, gamma), healthy)
        self.verdicts.note(self.progress.iteration, ~sound, ~healthy)
        self.progress = replace(
            self.progress, seen=seen + self.images_per_iteration, iteration=self.progress.iteration + 1
        )
        return logged

    def settle(self) -> None:
        """Make the averages fit to draw with, as they stand. The next iteration finds them as if it had not been."""
        with torch.no_grad():
            self.objective.settle(self.state.ema.modules)

    def rate(self) -> float:
        """The learning rate now, of the first optimiser's first group."""
        first = next(iter(self.state.optimizers.values()))
        return float(first.param_groups[0]["lr"])

    def _take(
        self, update: Update, data: Batch, first: int, share: float, shared: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """What the update logged, and whether its step was taken: it is not where loss or gradient are not finite.
        ``first`` is the number of the data's first sample."""
        trained = self._trained[update.name]
        if self._several:
            self.objective.requires_grad_(False)
            for parameter in trained:
                parameter.requires_grad_(True)
        logged: dict[str, Tensor] = {}
        with random.scoped(self.seed, update.name, first):
            for part in _cut(len(data.samples), self._pieces()):
                piece = data.index(part)
                # Of the whole batch, however it is shared out: then sums over processes are means over it.
                weight = len(piece.samples) / self.config.batch
                context = self._context(update, piece, share, shared)
                with arithmetic(self.device, self.precision):
                    losses = update.loss(piece, context)
                (losses["loss"] * weight).backward()  # type: ignore[no-untyped-call]
                for name, value in losses.items():
                    logged[name] = logged.get(name, 0) + value.detach() * weight
        norm = self._summed(update, logged)
        logged["gradient_norm"] = norm
        # Squared, as optimisers square it: what overflows there would poison their state.
        sound = (norm.square() + logged["loss"]).isfinite()
        for name in update.optimizers:
            with arithmetic(self.device, self.precision):  # whose steps have products too
                step_if(sound, self.state.optimizers[name], wait=self._sharded)
            self.state.optimizers[name].zero_grad(set_to_none=True)
        if update.after is not None:
            told = {name: value.detach() for name, value in logged.items()}
            update.after(self._context(update, data, share, shared), told)
        if self._several:
            logged = {f"{update.name}/{name}": value for name, value in logged.items()}
        return logged, sound

    def _context(self, update: Update, data: Batch, share: float, shared: dict[str, Tensor]) -> Context:
        return Context(self.seed, data.samples, update.name, share, shared, data.images.dtype, batch=self.config.batch)

    def _summed(self, update: Update, logged: dict[str, Tensor]) -> Tensor:
        """Sum gradients, and what was logged, over the processes, and clip; returns the norm of the gradients."""
        trained = self._trained[update.name]
        if self.world.size == 1:
            return _clipped(trained, self.config.clip)
        first = trained[0]
        parts = held([p.grad for p in trained if p.grad is not None])  # summed already, to where they are held
        told = [*(value.to(first.dtype) for value in logged.values()), squares(parts, first)]
        *values, square = self._reducers[update.name](torch.stack(told)).unbind()
        logged |= dict(zip(logged, values, strict=True))
        if not self._sharded:
            return _clipped(trained, self.config.clip)
        return clipped([p.grad for p in trained if p.grad is not None], square, self.config.clip)

    def _pieces(self) -> int:
        """How many micro-batches this process cuts its share into: of about the size asked for, and as many as all
        others, which sharded networks need."""
        size, batch = self.world.size, self.config.batch
        return min(math.ceil(self.config.accumulate * math.ceil(batch / size) / batch), batch // size)

    def _half_life(self) -> float:
        """Of the average, in images; as long as the run's length is not known, its warm-up alone rules."""
        if self.config.ema_half_life is not None:
            return self.config.ema_half_life
        return math.inf if self.images is None else self.config.ema_share * self.images

    def _set_rates(self, factor: float) -> None:
        for name, optimizer in self.state.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self._rates[name], strict=True):
                group["lr"] = rate * factor * self.progress.rate


def check_batch(config: TrainingConfig, world: World) -> None:
    """Raises a UserError if some process would get no picture of a batch."""
    if config.batch < world.size:
        raise UserError(
            f"a batch of {config.batch} is too small for {world.size} processes; give --training.batch {world.size} or "
            "more, or start fewer processes"
        )


def _parameters(objective: Objective, names: tuple[str, ...]) -> list[nn.Parameter]:
    return [p for name in names for p in objective.get_submodule(name).parameters()]


def _clipped(parameters: list[nn.Parameter], clip: float) -> Tensor:
    """The norm of the gradients, which are then scaled down to a norm of ``clip``, unless that is 0."""
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    # A CPU has nothing to wait for, and small gradients need not be multiplied by 1.
    if clip and (norm.device.type != "cpu" or bool(norm > clip)):
        nn.utils.clip_grads_with_norm_(parameters, clip, norm, foreach=True)
    return norm


def _cut(count: int, parts: int) -> list[slice]:
    """Consecutive slices of as even sizes as can be."""
    edges = [count * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
