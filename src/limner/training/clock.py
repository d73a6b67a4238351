"""When a run does what else there is to do beside training: by the clock, and by signals."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from limner.training.budget import Pace, Plan, settled
from limner.training.checkpoint import Progress
from limner.training.trainer import Trainer

#: Seconds of training that a budget is measured by, at least, however long set-up took.
_LEAST_MEASURED = 1.0
#: Seconds between two moments at which several processes ask each other, and the most iterations.
_ASKING, _SELDOM = 0.2, 100


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


class Clock:
    """Keeps the time of a sitting, and says what is due.

    Args:
        trainer: stands where the sitting begins.
        measuring: how the plan comes to be, where the budget is in minutes.
        stop: signals that asked to stop, filled by :func:`limner.training.stopping.stop_requests`.
        now: seconds that never go back.

    Attributes:
        measuring: None once the plan is made for good.
        watched: seconds that went into drawing and measuring.
    """

    def __init__(
        self,
        trainer: Trainer,
        measuring: Measuring | None,
        stop: list[int],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trainer, self.measuring, self.stop, self._now = trainer, measuring, stop, now
        self.watched = 0.0
        self._begun = self._saved = now()
        self._earlier = trainer.progress.seconds
        self._first, self._started = trainer.progress.seen, trainer.progress.iteration
        self._warm: tuple[int, float] | None = None
        self._asked = 0

    def spent(self) -> float:
        """Seconds of training in all sittings."""
        return self._earlier + self._now() - self._begun

    def rate(self) -> float:
        """Images per second of this sitting."""
        return (self.trainer.progress.seen - self._first) / max(self._training(), 1e-9)

    def saved(self) -> None:
        """A checkpoint was written."""
        self._saved = self._now()

    def went_back(self, before: Progress) -> None:
        """The run was taken back from there; what this sitting has trained still counts."""
        self._first -= before.seen - self.trainer.progress.seen
        self._started -= before.iteration - self.trainer.progress.iteration
        self._warm, self._asked = None, 0

    def ask(self, plan: Plan | None, logged: dict[str, Tensor]) -> Agreed:
        """What to do, as the clock of the first process and signals to any of them say.

        Alone, every iteration asks. Several processes ask each other some times a second, for asking takes time.

        Args:
            plan: of the run, where there is one yet.
            logged: by the last iteration.
        """
        world, iteration = self.trainer.world, self.trainer.progress.iteration
        if world.size == 1:
            return self._own(plan, logged)
        if iteration < self._asked and not self.trainer.done:
            return Agreed()
        own = self._own(plan, logged)
        pace = self._training() / max(iteration - self._started, 1)
        apart = max(1, min(_SELDOM, int(_ASKING / max(pace, 1e-9))))
        numbers = (int(own.save), int(own.settle), int(own.measured), int(own.abort), apart)
        stop, *told = world.most(own.stop, *(number if world.first else 0 for number in numbers))
        if stop and not self.stop:
            self.stop.append(stop)
        save, settle, measured, abort, apart = told
        self._asked = iteration + (1 if stop else apart)
        return Agreed(stop, bool(save), bool(settle), bool(measured), bool(abort))

    def pace(self, measuring: Measuring, logged: dict[str, Tensor]) -> Pace:
        """How the run has begun."""
        seen, (first, begun) = self.trainer.progress.seen, self._warm or (0, 0.0)
        wait(logged)
        return Pace(seen, (seen - first) / (self._training() - begun), self._now() - measuring.started)

    def _training(self) -> float:
        """Seconds of this sitting, but for those that were watched."""
        return self._now() - self._begun - self.watched

    def _own(self, plan: Plan | None, logged: dict[str, Tensor]) -> Agreed:
        """What this process would do. A budget in minutes settles its plan when enough is known of the run's pace, or
        at once if the run is asked to stop: what it has learned can be saved with a plan alone. If it is asked to stop
        so early that nothing is known, next to nothing is lost."""
        stop, measuring, seen = self.stop[0] if self.stop else 0, self.measuring, self.trainer.progress.seen
        now = self._now()
        save = now - self._saved >= self.trainer.config.checkpoint_seconds
        if measuring is None:
            return Agreed(stop, save)
        if self._warm is None:  # the first iteration is slow, and says nothing of the others
            wait(logged)
            self._warm = seen, self._training()
        known = self._training() - self._warm[1] >= _LEAST_MEASURED
        spent = now - measuring.started
        over = plan is not None and settled(plan, seen, self.trainer.config)
        last = over or spent >= measuring.last
        due = last or (plan is None and (spent >= measuring.first or bool(stop)))
        settle = due and known
        abort = plan is None and bool(stop) and not settle
        return Agreed(stop, save, settle, over or (last and known), abort)


def wait(logged: dict[str, Tensor]) -> dict[str, float]:
    """What was logged, as numbers; waits for the device."""
    return {name: float(value) for name, value in logged.items()}
