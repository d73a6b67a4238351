"""What a run does about losses, gradients and weights that are not finite: skip, go back with a lower rate, stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from limner.errors import UserError
from limner.objectives import Objective
from limner.training.checkpoint import fresh_state, load_anchor, save_anchor
from limner.training.config import RecoveryConfig
from limner.training.soundness import POISONED, SOUND
from limner.training.trainer import Trainer


class Recovery:
    """Watches over a trainer and takes it back where going on is hopeless.

    Args:
        trainer: whose state it is.
        config: how patient it is.
        folder: where anchors and checkpoints lie.
        beginning: makes the objective anew, as it was before the first image.
    """

    def __init__(
        self, trainer: Trainer, config: RecoveryConfig, folder: Path, beginning: Callable[[], Objective]
    ) -> None:
        self.trainer, self.config, self.folder, self.beginning = trainer, config, folder, beginning
        self._poisoned: int | None = None

    @property
    def sound(self) -> bool:
        """Whether the state may be kept: nothing is known against it. Waits for the device."""
        self._learn(self.trainer.progress.iteration)
        return self._poisoned is None

    def look(self) -> str:
        """Call after every iteration: counts what was skipped, and writes an anchor where one is due.

        Returns:
            What there is to tell, mostly nothing.
        """
        before = self.trainer.progress.skips
        last = self._learn(self.trainer.progress.iteration - self.trainer.verdicts.lag)
        progress = self.trainer.progress
        if progress.iteration % self.config.apart == 0 and self.sound:
            save_anchor(self.folder, self.trainer.state, progress, self.trainer.world)
        if progress.skips == before:
            return ""
        return f"iteration {last:,}: the loss or its gradient is not finite; the step is skipped"

    @property
    def hopeless(self) -> bool:
        """Whether the run has to be taken back. At the run's end, what came last counts at once."""
        now = self.trainer.progress.iteration - (0 if self.trainer.done else self.trainer.verdicts.lag)
        if self.trainer.done and not self.sound:
            return True
        known = [one for one in self.trainer.progress.skipped if one < now]
        return len(known) >= self.config.skips or (self._poisoned is not None and self._poisoned < now)

    def go_back(self) -> str:
        """Take the run back to the last anchor before its first fault, with a lower rate; returns what to tell.

        Raises:
            UserError: it has been taken back often enough.
        """
        trainer, broken = self.trainer, self.trainer.progress
        faults = {*broken.skipped, *([] if self._poisoned is None else [self._poisoned])}
        if broken.rollbacks >= self.config.rollbacks:
            raise UserError(
                f"the loss or its gradient is not finite again and again, last near {broken.seen:,} images, after "
                f"{broken.rollbacks} returns to an earlier state and at {broken.rate:g} of the learning rate; what was "
                "saved is sound: train again with a lower --optimizer.lr or --training.precision float32"
            )
        found = load_anchor(self.folder, trainer.state, min(faults) * trainer.images_per_iteration)
        if found is None:
            fresh_state(trainer.state, self.beginning())
        trainer.progress = replace(
            broken,
            seen=found.seen if found else 0,
            iteration=found.iteration if found else 0,
            rate=broken.rate * self.config.lower,
            rollbacks=broken.rollbacks + 1,
            skipped=(),
        )
        trainer.verdicts.forget()
        self._poisoned = None
        trainer.world.most(0)  # all have read before anything is deleted
        return (
            f"{len(faults)} faults near {broken.seen:,} images: back to {trainer.progress.seen:,} images, on at "
            f"{trainer.progress.rate:g} of the learning rate"
        )

    def _learn(self, before: int) -> int:
        """Take note of verdicts on iterations below ``before``; returns the last that was not sound, or -1."""
        last, progress = -1, self.trainer.progress
        for iteration, verdict in self.trainer.verdicts.told(before):
            if verdict == SOUND:
                continue
            last = iteration
            if verdict == POISONED and self._poisoned is None:
                self._poisoned = iteration
            progress = replace(progress, skips=progress.skips + 1, skipped=(*progress.skipped, iteration))
        recent = tuple(one for one in progress.skipped if one >= progress.iteration - self.config.window)
        if recent != progress.skipped or progress.skips != self.trainer.progress.skips:
            self.trainer.progress = replace(progress, skipped=recent)
        return last
