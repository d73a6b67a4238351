"""The loop of a run: iterate, and now and then log, draw, measure and save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from limner.contracts import Model
from limner.training.budget import Plan
from limner.training.checkpoint import Progress, save_checkpoint, save_return
from limner.training.clock import Clock, Measuring, wait
from limner.training.profiles import FOLDER, drop_after, put_aside
from limner.training.recovery import Recovery
from limner.training.stopping import Interrupted
from limner.training.tracking import Bar, Tracker
from limner.training.trainer import Trainer
from limner.training.watching import Watcher

CHECKPOINTS = "checkpoints"
#: Lines of metrics that a run writes, and seconds between two looks at the bar.
_LINES, _GLANCE = 400, 1.0
#: Samples measured on the way, at most.
_MEASURED = 500


class Loop:
    """Runs a trainer to its end.

    Args:
        trainer: stands where the run stands.
        plan: of the run, where there is one yet.
        measuring: how the plan comes to be, where the budget is in minutes.
        recovery: takes the trainer back where its numbers are not finite.
        watcher: draws and measures.
        averaged, raw: the model with either set of weights.
        folder: of the run.
        show: draw a progress bar.
        stop: signals that asked to stop, filled by :func:`limner.training.stopping.stop_requests`.
    """

    def __init__(
        self,
        trainer: Trainer,
        plan: Plan | None,
        measuring: Measuring | None,
        recovery: Recovery,
        watcher: Watcher,
        averaged: Model,
        raw: Model,
        folder: Path,
        *,
        show: bool,
        stop: list[int],
    ) -> None:
        seen = trainer.progress.seen
        self.trainer, self.recovery, self.watcher, self.folder = trainer, recovery, watcher, folder
        self.averaged, self.raw = averaged, raw
        self.world = trainer.world
        self.clock = Clock(trainer, measuring, stop)
        self.tracker = self._tracker(seen)
        self.bar = Bar(seen, show=show)
        self._lined = self._saved = seen
        self._glanced = time.monotonic()
        self._lines_apart = 0.0
        self.plan: Plan | None = None
        if plan is not None:
            self._adopt(plan)

    def run(self) -> None:
        """Iterate until the plan's images are seen.

        Raises:
            Interrupted: a signal came; the state is saved.
            UserError: the loss is not finite again and again, or the disk is full; the last checkpoint is sound.
        """
        with self.bar:
            try:
                while not self.trainer.done:
                    logged = self.trainer.iterate()
                    self.bar.say(self.recovery.look())
                    if self.recovery.hopeless:
                        self._go_back()
                        continue
                    self._log(logged)
                    self._beside(logged)
            finally:
                self.tracker.close()

    def _beside(self, logged: dict[str, Tensor]) -> None:
        """What is due beside training."""
        agreed, measuring = self.clock.ask(self.plan, logged), self.clock.measuring
        if agreed.settle and measuring is not None:
            self._adopt(measuring.settle(self.clock.pace(measuring, logged)))
        if agreed.measured:
            self.clock.measuring = None
        if agreed.abort:
            raise Interrupted(self.folder, 0, agreed.stop)
        if self.plan is None:
            return
        self._watch()
        if agreed.stop or agreed.save or self.trainer.done:
            self._save()
        if agreed.stop:
            raise Interrupted(self.folder, self._saved, agreed.stop)

    def _tracker(self, seen: int) -> Tracker:
        return Tracker(self.folder if self.world.first else None, seen)

    def _adopt(self, plan: Plan) -> None:
        seen = self.trainer.progress.seen
        self.plan, self.trainer.images = plan, plan.images
        self.bar.length(plan.images)
        self._lines_apart = plan.images / _LINES
        copies = self.trainer.config.ema_copies if self.trainer.state.profiles else 0
        self._copies = [*_moments(copies - 1, plan.images, seen), plan.images] if copies else []
        self._grids = _moments(plan.grids, plan.images, seen)
        self._measures = _moments(plan.measures, plan.images, seen)

    def _log(self, logged: dict[str, Tensor]) -> None:
        seen, now = self.trainer.progress.seen, time.monotonic()
        glance = now - self._glanced >= _GLANCE
        due = seen - self._lined >= self._lines_apart or self.trainer.done
        line = glance if self.plan is None else due
        if not line and not glance:
            return
        values, rate = wait(logged), self.clock.rate()
        self.bar.update(seen, rate, values.get("loss", next(iter(values.values()))))
        self._glanced = now
        if line:
            self._lined = seen
            told = {**values, "lr": self.trainer.rate(), "images_per_second": rate, **_faults(self.trainer.progress)}
            # JSON knows no number that is not finite; a skipped step is counted instead.
            self.tracker.scalars(seen, self.clock.spent(), {k: v for k, v in told.items() if math.isfinite(v)})

    def _watch(self) -> None:
        """Draw, measure and put averages aside where the plan says so; what that takes is no training."""
        seen, begun = self.trainer.progress.seen, time.monotonic()
        if any(due and seen >= due[0] for due in (self._grids, self._measures)):
            self.trainer.settle()
        if self._copies and seen >= self._copies[0]:
            self._copies = [at for at in self._copies if at > seen]
            put_aside(
                self.folder / FOLDER, self.trainer.state.profiles, seen, self.trainer.progress.iteration, self.world
            )
        if self._grids and seen >= self._grids[0]:
            self._grids = [at for at in self._grids if at > seen]
            self.tracker.pictures(seen, "averaged", self.watcher.draw_grid(self.averaged, f"{seen:012d}"))
            self.tracker.pictures(seen, "raw", self.watcher.draw_grid(self.raw, f"{seen:012d}_raw"))
        if self._measures and seen >= self._measures[0]:
            self._measures = [at for at in self._measures if at > seen]
            self.tracker.measures(seen, self.clock.spent(), self.watcher.measure(self.averaged, _MEASURED))
        self.clock.watched += time.monotonic() - begun

    def _save(self, save: Callable[..., object] = save_checkpoint) -> None:
        """Write a checkpoint, unless the state is known to be spoilt: then the run is taken back soon."""
        if not self.recovery.sound:
            return
        trainer = self.trainer
        trainer.progress = replace(trainer.progress, seconds=self.clock.spent())
        save(self.folder / CHECKPOINTS, trainer.state, trainer.progress, trainer.config.keep, self.world)
        self._saved = trainer.progress.seen
        self.clock.saved()

    def _go_back(self) -> None:
        """To an earlier state. What was told of the way from there is told anew, as after a resume."""
        before = self.trainer.progress
        self.bar.say(self.recovery.go_back())
        self.clock.went_back(before)
        seen = self._lined = self.trainer.progress.seen
        self.tracker.close()
        self.tracker = self._tracker(seen)
        if self.plan is not None:
            self._adopt(self.plan)
            self._save(save_return)
            self.world.lead(lambda: drop_after(self.folder / FOLDER, seen))


def _faults(progress: Progress) -> dict[str, float]:
    """What a sound run has no curve of."""
    counts = {"skipped_steps": progress.skips, "roll_backs": progress.rollbacks}
    return {name: float(count) for name, count in counts.items() if count}


def _moments(count: int, images: int, seen: int) -> list[int]:
    """So many points inside the run, evenly spaced, without those that have passed."""
    points = [images * (i + 1) // (count + 1) for i in range(count)]
    return [point for point in points if point > seen]
