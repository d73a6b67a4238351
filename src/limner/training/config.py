"""What a user may choose about the training itself, whatever is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from limner.errors import UserError, within
from limner.training.schedules import Cooldown, Schedule


@dataclass(frozen=True)
class RecoveryConfig:
    """What is done about losses, gradients and weights that are not finite.

    The step is skipped. Several skipped soon after each other, or weights that are not finite, take the run back to an
    earlier state and lower its learning rate; too many of those end it. All of it depends on iterations alone, never on
    the clock, so that a run with faults repeats bit for bit too.

    Attributes:
        skips: so many iterations with a skipped step within ``window`` take the run back.
        window: in iterations.
        lower: factor on the learning rate each time.
        rollbacks: how many times at most; the next one ends the run.
        apart: iterations between the states that a run may be taken back to, at least ``window``.
    """

    skips: int = 3
    window: int = 100
    lower: float = 0.5
    rollbacks: int = 3
    apart: int = 1000

    def __post_init__(self) -> None:
        within("training.recovery.skips", self.skips, 1, self.window)
        within("training.recovery.window", self.window, 1, 1_000_000)
        within("training.recovery.lower", self.lower, 0, 1)
        within("training.recovery.rollbacks", self.rollbacks, 0, 1000)
        within("training.recovery.apart", self.apart, self.window, 10_000_000)


@dataclass(frozen=True)
class TrainingConfig:
    """The Trainer's settings.

    Attributes:
        batch: images of one optimiser step.
        accumulate: micro-batches that a batch is cut into where memory is short; the gradients are the same, but for
            dropout and batch norms.
        clip: largest norm of an update's gradients; 0 is off.
        precision: of the networks' arithmetic (weights stay float32). "auto" measures whether bfloat16 pays.
        schedule: of the learning rate.
        ema_half_life: in images; None takes ``ema_share`` of the run.
        ema_share: half-life of the weights' average as a share of the run's images.
        ema_warm_up: the half-life is at most this share of the images seen so far.
        ema_profiles: widths of power-function averages (EDM2's sigma_rel) that are kept beside the training, such as
            0.05 0.1; with two of them, "limner ema" makes averages of any width afterwards. None by default: each
            takes the memory of the weights once more.
        ema_copies: how often they are put aside during the run.
        checkpoint_seconds: the most work, in seconds, that a kill can cost.
        keep: how many of the newest checkpoints stay.
        shard: "full" has each of several processes hold a share of weights, gradients, averages and optimiser state,
            for networks that outgrow one device (FSDP2); "none" has each hold all, which is faster.
        recovery: what is done about what is not finite.
    """

    batch: int = 64
    accumulate: int = 1
    clip: float = 1.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    schedule: Schedule = field(default_factory=Cooldown)
    ema_half_life: float | None = None
    ema_share: float = 0.05
    ema_warm_up: float = 0.1
    ema_profiles: tuple[float, ...] = ()
    ema_copies: int = 32
    checkpoint_seconds: float = 30.0
    keep: int = 2
    shard: Literal["none", "full"] = "none"
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)

    def __post_init__(self) -> None:
        within("training.batch", self.batch, 1, 2**20)
        within("training.accumulate", self.accumulate, 1, self.batch)
        within("training.clip", self.clip, 0)
        within("training.ema-share", self.ema_share, 0, 1)
        within("training.ema-warm-up", self.ema_warm_up, 0, 1)
        if self.ema_half_life is not None:
            within("training.ema-half-life", self.ema_half_life, 0)
        for width in self.ema_profiles:
            within("training.ema-profiles", width, 0.005, 0.28)
        if len({*self.ema_profiles}) < len(self.ema_profiles) or len(self.ema_profiles) > 8:
            raise UserError(f"training.ema-profiles are {self.ema_profiles}; give at most 8, all different")
        within("training.ema-copies", self.ema_copies, 2, 10_000)
        within("training.checkpoint-seconds", self.checkpoint_seconds, 0, 3600)
        within("training.keep", self.keep, 1, 10_000)


@dataclass(frozen=True)
class WatchConfig:
    """What is drawn and measured on the way. None lets the budget decide, so that watching stays a small share of it.

    Attributes:
        pictures: how many are in a sample grid.
        grids: how many times grids are drawn before the end.
        measures: how many times the samples are measured before the end.
        judge: how many samples are judged at the end; 0 judges none.
        extractor: what the measures look with; a network takes its weights as "lenet=FILE".
        guidances: tried in turn at the end beside the recipe's own, where there is one and the budget has time for a
            few hundred samples of each: if samples come clearly nearer to the pictures so, the run's becomes the best
            of them, or what lies best between them.
    """

    pictures: int = 40
    grids: int | None = None
    measures: int | None = None
    judge: int | None = None
    extractor: str = "wavelets"
    guidances: tuple[float, ...] = (2.0, 3.0, 4.5)

    def __post_init__(self) -> None:
        within("watch.pictures", self.pictures, 1, 1024)
        for guidance in self.guidances:
            within("watch.guidances", guidance, 0, 1000)
        for name in ("grids", "measures", "judge"):
            value = getattr(self, name)
            if value is not None:
                within(f"watch.{name}", value, 0, 1_000_000)


@dataclass(frozen=True)
class Budget:
    """How long to train: minutes of wall-clock, or images seen. Exactly one is given."""

    minutes: float | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.images is None):
            raise UserError("give the budget as --minutes or as --images, one of them")
        if self.minutes is not None:
            within("minutes", self.minutes, 0.05, 60 * 24 * 365)
        if self.images is not None:
            within("images", self.images, 1, 10**12)
