"""The loop of a run: iterate, and now and then log, draw, measure and save."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor

from limner.contracts import Model
from limner.training.budget import Pace, Plan, settled
from limner.training.checkpoint import Progress, save_checkpoint, save_return
from limner.training.recovery import Recovery
from limner.training.tracking import Bar, Tracker
from limner.training.trainer import Trainer
from limner.training.watching import Watcher

CHECKPOINTS = "checkpoints"
#: Lines of metrics that a run writes, and seconds between two looks at the bar.
_LINES, _GLANCE = 400, 1.0
#: Seconds of training that a budget is measured by, at least, however long set-up took.
_LEAST_MEASURED = 1.0
#: Seconds between two moments at which several processes ask each other, and the most iterations.
_ASKING, _SELDOM = 0.2, 100
#: Samples measured on the way, at most.
_MEASURED = 500


class Interrupted(Exception):  # noqa: N818 - not an error
    """A signal asked the run to stop; its state is saved, but for the first second. ``number`` is the signal's."""

    def __init__(self, folder: Path, saved: int, number: int) -> None:
        stands = f"saved after {saved:,} images" if saved else "stopped before there was anything to save"
        super().__init__(f"{stands}; go on with: limner train --resume {folder}")
        self.number = number


@dataclass(frozen=True)
class Measuring:
    """How a run whose budget is in minutes comes to its length.

    Attributes:
        first: seconds of the budget, after which the length is settled.
        last: seconds after which it is settled anew and for good, unless half of the run comes sooner.
        started: ``time.monotonic()`` when the budget began.
        settle: from how the run has begun to its plan.
    """

    first: float
    last: float
    started: float
    settle: Callable[[Pace], Plan]


@dataclass(frozen=True)
class Agreed:
    """What all processes do next, beside training.

    Attributes:
        stop: the number of the signal that asked one of them to stop, 0 if none did.
        save: write a checkpoint.
        settle: make the plan.
        measured: the plan is made for good.
        abort: stop, with nothing to save.
    """

    stop: int = 0
    save: bool = False
    settle: bool = False
    measured: bool = False
    abort: bool = False


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
        stop: signals that asked to stop, filled by :func:`stop_requests`.
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
        self.averaged, self.raw, self.stop = averaged, raw, stop
        self.world = trainer.world
        self.tracker = self._tracker(seen)
        self.bar = Bar(seen, show=show)
        self._first, self._lined = seen, seen
        self._begun, self._earlier = time.monotonic(), trainer.progress.seconds
        self._saved = self._glanced = self._begun
        self._last, self._asked, self._started = seen, 0, trainer.progress.iteration
        self._watching = self._lines_apart = 0.0
        self._measuring = measuring
        self._warm: tuple[int, float] | None = None
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
                    agreed = self._agree(logged)
                    if agreed.settle and self._measuring is not None:
                        self._adopt(self._measuring.settle(self._pace(self._measuring, logged)))
                    if agreed.measured:
                        self._measuring = None
                    if agreed.abort:
                        raise Interrupted(self.folder, 0, agreed.stop)
                    if self.plan is None:
                        continue
                    self._watch()
                    if agreed.stop:
                        self._save()
                        raise Interrupted(self.folder, self._last, agreed.stop)
                    if agreed.save or self.trainer.done:
                        self._save()
            finally:
                self.tracker.close()

    def _tracker(self, seen: int) -> Tracker:
        return Tracker(self.folder if self.world.first else None, seen)

    def _agree(self, logged: dict[str, Tensor]) -> Agreed:
        """What to do beside training, as the clock of the first process and signals to any of them say.

        Alone, every iteration asks. Several processes ask each other some times a second, for asking takes time.
        """
        iteration, now = self.trainer.progress.iteration, time.monotonic()
        if self.world.size > 1 and iteration < self._asked and not self.trainer.done:
            return Agreed()
        clock = self._clock(now, logged)
        apart = 1
        if self.world.size > 1:
            pace = (now - self._begun - self._watching) / max(iteration - self._started, 1)
            apart = max(1, min(_SELDOM, int(_ASKING / max(pace, 1e-9))))
        own = [int(clock.save), int(clock.settle), int(clock.measured), int(clock.abort), apart]
        stop, *told = self.world.most(clock.stop, *(own if self.world.first else [0] * len(own)))
        if stop and not self.stop:
            self.stop.append(stop)
        save, settle, measured, abort, apart = told
        self._asked = iteration + (1 if stop else apart)
        return Agreed(stop, bool(save), bool(settle), bool(measured), bool(abort))

    def _clock(self, now: float, logged: dict[str, Tensor]) -> Agreed:
        """What this process would do. A budget in minutes settles its plan when enough is known of the run's pace, or
        at once if the run is asked to stop: what it has learned can be saved with a plan alone. If it is asked to stop
        so early that nothing is known, next to nothing is lost."""
        stop = self.stop[0] if self.stop else 0
        save = now - self._saved >= self.trainer.config.checkpoint_seconds
        measuring, seen = self._measuring, self.trainer.progress.seen
        if measuring is None:
            return Agreed(stop, save)
        if self._warm is None:  # the first iteration is slow, and says nothing of the others
            _values(logged)  # waits for the device
            self._warm = seen, time.monotonic()
        known = now - self._warm[1] - self._watching >= _LEAST_MEASURED
        spent = now - measuring.started
        over = self.plan is not None and settled(self.plan, seen, self.trainer.config)
        last = over or spent >= measuring.last
        due = last or (self.plan is None and (spent >= measuring.first or bool(stop)))
        settle = due and known
        return Agreed(
            stop,
            save,
            settle,
            measured=over or (last and known),
            abort=not settle and self.plan is None and bool(stop),
        )

    def _pace(self, measuring: Measuring, logged: dict[str, Tensor]) -> Pace:
        seen, (first, begun) = self.trainer.progress.seen, self._warm or (0, self._begun)
        _values(logged)  # waits for the device
        now = time.monotonic()
        return Pace(seen, (seen - first) / (now - begun - self._watching), now - measuring.started)

    def _adopt(self, plan: Plan) -> None:
        seen = self.trainer.progress.seen
        self.plan, self.trainer.images = plan, plan.images
        self.bar.length(plan.images)
        self._lines_apart = plan.images / _LINES
        self._grids = _moments(plan.grids, plan.images, seen)
        self._measures = _moments(plan.measures, plan.images, seen)

    def _spent(self) -> float:
        """Seconds of training in all sittings."""
        return self._earlier + time.monotonic() - self._begun

    def _log(self, logged: dict[str, Tensor]) -> None:
        seen, now = self.trainer.progress.seen, time.monotonic()
        glance = now - self._glanced >= _GLANCE
        due = seen - self._lined >= self._lines_apart or self.trainer.done
        line = glance if self.plan is None else due
        if not line and not glance:
            return
        values = _values(logged)
        rate = (seen - self._first) / max(now - self._begun - self._watching, 1e-9)
        self.bar.update(seen, rate, values.get("loss", next(iter(values.values()))))
        self._glanced = now
        if line:
            self._lined = seen
            told = {**values, "lr": self.trainer.rate(), "images_per_second": rate, **_faults(self.trainer.progress)}
            # JSON knows no number that is not finite; a skipped step is counted instead.
            self.tracker.scalars(seen, self._spent(), {k: v for k, v in told.items() if math.isfinite(v)})

    def _watch(self) -> None:
        """Draw and measure where the plan says so; what that takes is no training."""
        seen, begun = self.trainer.progress.seen, time.monotonic()
        if self._grids and seen >= self._grids[0]:
            self._grids = [at for at in self._grids if at > seen]
            self.tracker.pictures(seen, "averaged", self.watcher.draw_grid(self.averaged, f"{seen:012d}"))
            self.tracker.pictures(seen, "raw", self.watcher.draw_grid(self.raw, f"{seen:012d}_raw"))
        if self._measures and seen >= self._measures[0]:
            self._measures = [at for at in self._measures if at > seen]
            self.tracker.measures(seen, self._spent(), self.watcher.measure(self.averaged, _MEASURED))
        self._watching += time.monotonic() - begun

    def _save(self, save: Callable[..., object] = save_checkpoint) -> None:
        """Write a checkpoint, unless the state is known to be spoilt: then the run is taken back soon."""
        if not self.recovery.sound:
            return
        trainer = self.trainer
        trainer.progress = replace(trainer.progress, seconds=self._spent())
        save(self.folder / CHECKPOINTS, trainer.state, trainer.progress, trainer.config.keep, self.world)
        self._saved, self._last = time.monotonic(), self.trainer.progress.seen

    def _go_back(self) -> None:
        """To an earlier state. What was told of the way from there is told anew, as after a resume."""
        before = self.trainer.progress
        self.bar.say(self.recovery.go_back())
        seen = self.trainer.progress.seen
        self.tracker.close()
        self.tracker = self._tracker(seen)
        # So that the differences still count what this sitting has trained.
        self._first -= before.seen - seen
        self._started -= before.iteration - self.trainer.progress.iteration
        self._lined, self._warm, self._asked = seen, None, 0
        if self.plan is not None:
            self._adopt(self.plan)
            self._save(save_return)


def _values(logged: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in logged.items()}


def _faults(progress: Progress) -> dict[str, float]:
    """What a sound run has no curve of."""
    counts = {"skipped_steps": progress.skips, "roll_backs": progress.rollbacks}
    return {name: float(count) for name, count in counts.items() if count}


def _moments(count: int, images: int, seen: int) -> list[int]:
    """So many points inside the run, evenly spaced, without those that have passed."""
    points = [images * (i + 1) // (count + 1) for i in range(count)]
    return [point for point in points if point > seen]


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM fills; a second one stops at once."""
    caught: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for one, handler in before.items():
            signal.signal(one, handler)

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        restore()

    try:
        for one in (signal.SIGINT, signal.SIGTERM):
            before[one] = signal.signal(one, note)
    except ValueError:  # not in the main thread: signals are somebody else's
        before.clear()
    try:
        yield caught
    finally:
        restore()
