"""``sample``: pictures from a model. A loop over a solver's step, so that a server can batch, stream and cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from limner import random
from limner.contracts import Condition, ImageSpec, Level, Model, Precision, SampleConfig, arithmetic
from limner.distributed import ALONE, World
from limner.errors import UserError, nearest, within
from limner.sampling.discretization import DISCRETIZATIONS
from limner.sampling.guidance import autoguidance, classifier_free, clipped
from limner.sampling.solver import Denoise, Memory, Solver
from limner.sampling.solvers import SOLVERS
from limner.shards import is_sharded


@dataclass
class Trajectories:
    """Samples on their way, each at its own step of its own schedule.

    Attributes:
        x: (N, C, H, W).
        samples: (N,) int64, their global indices, which key their noise.
        schedule: of (N, S + 1) tensors; a shorter schedule is padded with its end.
        step: (N,) int64, steps taken so far.
        memory: the solver's, of (N, ...) tensors.
    """

    x: Tensor
    samples: Tensor
    schedule: Level
    step: Tensor
    memory: Memory = ()

    def level(self, ahead: int = 0) -> Level:
        column = (self.step + ahead)[:, None]
        return Level(self.schedule.alpha.gather(1, column)[:, 0], self.schedule.sigma.gather(1, column)[:, 0])

    @property
    def done(self) -> Tensor:
        """(N,) bool."""
        return self.level().sigma == 0


def begin(spec: ImageSpec, samples: Tensor, schedules: list[Level], solver: Solver, *, seed: int) -> Trajectories:
    """Pure noise at the first level of each sample's schedule."""
    longest = max(len(schedule.alpha) for schedule in schedules)

    def padded(values: Tensor) -> Tensor:
        return torch.cat([values, values[-1:].expand(longest - len(values))])

    device = samples.device
    schedule = Level(
        torch.stack([padded(s.alpha) for s in schedules]).to(device),
        torch.stack([padded(s.sigma) for s in schedules]).to(device),
    )
    x = random.normal(seed, samples, "init", shape=spec.shape) * schedule.sigma[:, 0].reshape(-1, 1, 1, 1)
    return Trajectories(x, samples, schedule, torch.zeros_like(samples), solver.init(x))


@torch.no_grad()
def advance(paths: Trajectories, denoise: Denoise, solver: Solver, cond: Condition, *, seed: int) -> None:
    """One step of every sample that is not done, in place. (All must be under way: drop the done ones first.)"""

    def noise(name: str) -> Tensor:
        return random.normal(seed, paths.samples, name, paths.step, shape=tuple(paths.x.shape[1:]))

    paths.x, paths.memory = solver.step(
        denoise, paths.x, paths.level(), paths.level(ahead=1), cond, paths.memory, noise
    )
    paths.step = paths.step + 1


def checked(config: SampleConfig) -> SampleConfig:
    """The same config.

    Raises:
        UserError: nobody knows its solver or its discretization.
    """
    if config.solver not in SOLVERS:
        raise UserError(f"solver '{config.solver}' is unknown{nearest(config.solver, SOLVERS)}")
    if config.discretization not in DISCRETIZATIONS:
        raise UserError(
            f"discretization '{config.discretization}' is unknown{nearest(config.discretization, DISCRETIZATIONS)}"
        )
    return config


def resolve(model: Model, config: SampleConfig | None, guide: Model | None = None, **changes: object) -> SampleConfig:
    """The model's defaults, or ``config``, with the changes that are not None; checked."""
    known = {name: value for name, value in changes.items() if value is not None}
    resolved = checked(replace(config or model.defaults, **known))  # type: ignore[arg-type]
    if guide is not None and (guide.spec, guide.labels) != (model.spec, model.labels):
        raise UserError("the model that guides must draw pictures of the same kind and classes")
    if guide is not None and resolved.guidance == 1:
        raise UserError("a guidance of 1 is none, and the model that guides would do nothing; give --guidance 1.5, say")
    if guide is None and resolved.guidance != 1:
        if not model.labels:
            raise UserError("guidance steers towards a class, and this model was trained without labels; leave it out")
        if not model.unconditional:
            raise UserError(
                "guidance needs to know pictures without their class too, and this model was always told it; leave "
                "guidance out, or train with --objective.label-dropout 0.05"
            )
    return resolved


def evaluations(config: SampleConfig) -> int:
    """How many pictures the network sees to draw one, guidance included."""
    solver = SOLVERS[checked(config).solver](config)
    once: int = solver.evaluations(config.steps)
    if config.guidance == 1:
        return once
    at = DISCRETIZATIONS[config.discretization](config).levels(config.steps)
    times = (at.sigma / (at.alpha + at.sigma))[:-1].tolist()
    guided = sum(config.guidance_from <= time <= config.guidance_to for time in times)
    share: float = guided / len(times)
    return round(once * (1 + share))


def draw(
    model: Model,
    cond: Condition,
    samples: Tensor,
    config: SampleConfig,
    *,
    seed: int,
    batch: int,
    precision: Precision = "float32",
    guide: Model | None = None,
) -> Iterator[Tensor]:
    """Yields (B, C, H, W) float32 in [-1, 1], batch by batch, for the samples of the given global indices."""
    spec = model.codec.latent_spec(model.spec)
    solver = SOLVERS[config.solver](config)
    between = (config.guidance, config.guidance_from, config.guidance_to)
    denoise = classifier_free(model.net, *between) if guide is None else autoguidance(model.net, guide.net, *between)
    if config.clip:
        denoise = clipped(denoise)
    schedule = DISCRETIZATIONS[config.discretization](config).levels(config.steps)
    for first in range(0, len(samples), batch):
        part = slice(first, first + batch)
        these = cond.index(part)
        paths = begin(spec, samples[part], [schedule] * len(samples[part]), solver, seed=seed)
        with torch.no_grad(), arithmetic(samples.device, precision):
            for _ in range(config.steps):
                advance(paths, denoise, solver, these, seed=seed)
            yield model.codec.decode(paths.x).float().clamp(-1, 1)


@contextmanager
def as_they_draw(*nets: nn.Module) -> Iterator[None]:
    """Networks without dropout for as long as this lasts."""
    before = [net.training for net in nets]
    for net in nets:
        net.eval()
    try:
        yield
    finally:
        for net, training in zip(nets, before, strict=True):
            net.train(training)


def to_pixels(images: Tensor, bits: int) -> np.ndarray:
    """(N, C, H, W) in [-1, 1] to (N, H, W, C), uint8 for 8 bits and uint16 for 16: the nearest levels."""
    top = 2**bits - 1
    scaled = ((images + 1) * (top / 2)).round().clamp(0, top).permute(0, 2, 3, 1)
    # Torch can do little with uint16.
    whole: np.ndarray = scaled.to(torch.uint8 if bits == 8 else torch.int32).contiguous().cpu().numpy()
    return whole.astype(np.uint8 if bits == 8 else np.uint16, copy=False)


def labels_for(model: Model, n: int, label: int | str | list[int] | None) -> Condition:
    """The condition of n samples: one label for all, one each, or (None) the classes in turn.

    Raises:
        UserError: the model has no classes, or not that one.
    """
    if not model.labels:
        if label is not None:
            raise UserError("this model was trained without labels; leave --label out")
        return Condition()
    if label is None:
        return Condition(label=torch.arange(n) % len(model.labels))
    wanted = label if isinstance(label, list) else [label] * n
    if len(wanted) != n:
        raise UserError(f"{len(wanted)} labels for {n} samples; give one, or one for each")
    return Condition(label=torch.tensor([_number(model.labels, one) for one in wanted]))


def _number(labels: tuple[str, ...], label: int | str) -> int:
    if isinstance(label, str) and label in labels:
        return labels.index(label)
    try:
        number = int(label)
    except ValueError:
        raise UserError(f"label '{label}' is unknown{nearest(str(label), labels)}") from None
    if not 0 <= number < len(labels):
        raise UserError(f"label {label} is out of range; this model has {len(labels)} classes, 0 to {len(labels) - 1}")
    return number


def _at_size(model: Model, size: tuple[int, int]) -> Model:
    for name, side in zip(("height", "width"), size, strict=True):
        within(name, side, 1, 8192)
    return replace(model, spec=replace(model.spec, size=size))


def sample(
    model: Model,
    n: int,
    *,
    label: int | str | list[int] | None = None,
    seed: int = 0,
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    config: SampleConfig | None = None,
    guide: Model | None = None,
    size: tuple[int, int] | None = None,
    batch: int = 128,
    precision: Precision = "float32",
    on_progress: Callable[[int], None] | None = None,
    world: World = ALONE,
) -> np.ndarray:
    """Draw n pictures, (n, H, W, C) uint8, or uint16 from a model of 16-bit pictures.

    Picture i depends on (seed, i, its condition and the settings) alone, not on the batch size. Several processes that
    call this together take the batches in turn, and each returns all pictures, to the bit what one process draws.

    Args:
        model: from ``limner.load``.
        label: of all samples by name or number, or a number each; None takes the classes in turn.
        seed: 64 bits.
        steps, solver, guidance: override the model's defaults.
        config: replaces the model's defaults as a whole.
        guide: a worse model of the same pictures, away from which guidance then steers (autoguidance).
        size: (height, width) of the pictures; the model's own by default. Others are worth drawing where the model was
            trained on several.
        batch: samples drawn together; only memory and speed depend on it.
        precision: of the network's products; "bfloat16" is faster where the machine has it, and changes pictures a
            little.
        on_progress: called with the number of pictures that this process has done.
        world: the processes that draw together, from ``limner.join()``.

    Raises:
        UserError: a setting that the model or limner does not know.
    """
    within("n", n, 1, 10_000_000)
    if size is not None:
        model = _at_size(model, size)
    resolved = resolve(model, config, guide, steps=steps, solver=solver, guidance=guidance)
    device = next(model.net.parameters()).device
    cond = labels_for(model, n, label).to(device)
    numbers = torch.arange(n, device=device)
    in_step = any(is_sharded(p) for p in model.net.parameters())
    bits = model.spec.bits
    out = np.zeros((n, *model.spec.size, model.spec.channels), np.uint8 if bits == 8 else np.uint16)
    done = 0
    with as_they_draw(model.net, *([guide.net] if guide else [])):
        for turn in range(0, n, world.size * batch):
            first = turn + world.rank * batch
            if first >= n and not in_step:
                break
            # Who has no batch left helps the others with a sharded network, by drawing some picture for nothing.
            part = slice(first, first + batch) if first < n else slice(0, 1)
            drawn = draw(
                model,
                cond.index(part),
                numbers[part],
                resolved,
                seed=seed,
                batch=batch,
                precision=precision,
                guide=guide,
            )
            for images in drawn:
                if first < n:
                    out[part] = to_pixels(images, bits)
                    done += len(images)
                if on_progress:
                    on_progress(done)
    # Byte by byte, which any number of bits is: each picture is zero but in one process.
    world.add_up(torch.from_numpy(out.view(np.uint8)))
    return out
