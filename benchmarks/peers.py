"""Two peers on MNIST, made of the diffusers library: as its course publishes it, and tuned for two cores.

Neither is limner's code nor limner's idea of them: networks, schedulers, averages and optimisers are the library's.
Budgets count like limner's: from the start of the call, set-up and measuring included, drawing and judging not. Reading
the data and importing the libraries, which limner's own budget pays for, is free for them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from limner.tensors import fill, load_tensors, save_tensors
from limner.training.costs import counted

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Draw = Callable[[int, int], Pixels]
"""(how many, seed) to pictures (N, 28, 28, 1); picture i was asked for the digit i % 10."""
Guidance = float
Guess = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy pictures, time steps (N,), digits (N,)) to what the scheduler expects of a network."""
#: Steps of the course's network, drawn by DDIM: its own 1,000 would take hours for 10,000 pictures.
COURSE_STEPS = 20
#: The tuned peer is judged with that one of these which suits its network best: a longer training asks for less.
GUIDANCES: tuple[Guidance, ...] = (1.0, 1.25, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class Training:
    """What a peer's network saw, in how many seconds, and FLOPs of one forward pass of one picture.

    ``paces`` are images/s of forward and backward passes in each kind of arithmetic, where they were measured.
    """

    images: int
    seconds: float
    flops: float
    arithmetic: str = "float32"
    paces: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A trained peer."""

    net: nn.Module
    training: Training

    def save(self, path: Path) -> None:
        save_tensors(path, self.net.state_dict(), asdict(self.training))

    @staticmethod
    def of(path: Path, net: nn.Module) -> Trained:
        """What was saved, in a network of the same shape."""
        tensors, about = load_tensors(path)
        fill(net, tensors, str(path))
        return Trained(net, Training(**about))


def _pictures(images: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float().div(127.5).sub(1)


class CourseNet(nn.Module):
    """The class-conditional MNIST network of the diffusion course, unit 2: the label as four more channels."""

    def __init__(self) -> None:
        super().__init__()
        self.class_emb = nn.Embedding(10, 4)
        self.model = UNet2DModel(
            sample_size=28,
            in_channels=1 + 4,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        n, _, height, width = x.shape
        planes = self.class_emb(label)[:, :, None, None].expand(n, 4, height, width)
        out: Tensor = self.model(torch.cat([x, planes], 1), t).sample
        return out


def course(images: Pixels, label: Labels, seed: int, minutes: tuple[float, ...]) -> Iterator[Trained]:
    """Batch 128, Adam 1e-3, mean squared error of the noise, 1,000 steps of the squared-cosine schedule, float32.

    One training, as it stood after each of ``minutes``, which rise: its rate is constant, so that a shorter training is
    the beginning of a longer one.
    """
    began = time.monotonic()
    left = list(minutes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = CourseNet()
        noise_schedule = _course_schedule()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        flops = counted(lambda: net(torch.zeros(1, 1, 28, 28), torch.zeros(1), torch.zeros(1).long()))
        seen = 0
        for x, y in _loader(images, label, 128, seed):
            noise = torch.randn_like(x)
            t = torch.randint(0, 999, (len(x),))
            loss = F.mse_loss(net(noise_schedule.add_noise(x, noise, t), t, y), noise)  # type: ignore[arg-type]
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            seen += len(x)
            elapsed = time.monotonic() - began
            if elapsed >= left[0] * 60:
                yield Trained(net, Training(seen, elapsed, flops))
                left.pop(0)
                if not left:
                    break


def _course_schedule() -> DDPMScheduler:
    made: DDPMScheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    return made


def course_draws(net: nn.Module) -> dict[Guidance, Draw]:
    """How the course's network draws; it was not trained for guidance."""
    scheduler = DDIMScheduler.from_config(_course_schedule().config, timestep_spacing="trailing")
    return {1.0: lambda n, seed: _ddim(scheduler, net.eval(), n, seed, (1, 28, 28), COURSE_STEPS, fold=1)}


def _loader(images: Pixels, label: Labels, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """As the course has it: tensors of the whole set in a shuffling DataLoader, again and again."""
    generator = torch.Generator().manual_seed(seed)
    whole = TensorDataset(_pictures(images), torch.from_numpy(label))
    loader = DataLoader(whole, batch, shuffle=True, generator=generator)
    while True:
        yield from loader


Predicted = Literal["epsilon", "sample", "v_prediction"]


@dataclass(frozen=True)
class Tuning:
    """Settings of the tuned peer. The defaults are those that are judged."""

    prediction: Predicted = "v_prediction"
    zero_snr: bool = True
    blocks: int = 1
    attention: bool = False
    batch: int = 64
    rate: float = 2e-3
    warm_up: float = 0.05
    drop: float = 0.1
    steps: int = 20

    def schedule(self) -> DDPMScheduler:
        made: DDPMScheduler = DDPMScheduler(
            num_train_timesteps=1000,
            beta_schedule="squaredcos_cap_v2",
            prediction_type=self.prediction,
            rescale_betas_zero_snr=self.zero_snr,
        )
        return made


@dataclass(frozen=True)
class Kind:
    """Square pictures of an even side, and their classes."""

    channels: int = 1
    side: int = 28
    classes: int = 10

    @property
    def folded(self) -> tuple[int, int, int]:
        """Shape of a picture whose 2x2 pixels are channels."""
        return 4 * self.channels, self.side // 2, self.side // 2


DIGITS = Kind()


def unet(channels: tuple[int, int], how: Tuning, kind: Kind = DIGITS) -> UNet2DModel:
    """The library's U-Net on 2x2 unshuffled pixels; the label after the last is the null label."""
    made: UNet2DModel = UNet2DModel(
        sample_size=kind.folded[1],
        in_channels=kind.folded[0],
        out_channels=kind.folded[0],
        layers_per_block=how.blocks,
        block_out_channels=channels,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        num_class_embeds=kind.classes + 1,
        add_attention=how.attention,
        attention_head_dim=channels[1] // 2,
    )
    return made


@lru_cache
def sized(target: float, how: Tuning, kind: Kind = DIGITS) -> tuple[tuple[int, int], float]:
    """Channels of the two resolutions, nearest to doubling, that count within 5 % of ``target`` FLOPs a picture.

    The search is the benchmark's, not the peer's, and is not part of its budget.
    """
    best: tuple[float, tuple[int, int], float] | None = None
    for first in range(8, 76, 4):
        for second in range(first, 3 * first + 1, 4):
            flops = _flops(unet((first, second), how, kind), kind)
            off, ratio = abs(flops / target - 1), abs(math.log(second / first / 2))
            if off <= 0.05 and (best is None or (ratio, off) < (best[0], abs(best[2] / target - 1))):
                best = (ratio, (first, second), flops)
            if flops > 1.05 * target:
                break
    if best is None:
        raise ValueError(f"no network within 5 % of {target / 1e6:.1f} MFLOPs")
    return best[1], best[2]


def _flops(net: UNet2DModel, kind: Kind) -> float:
    return counted(lambda: net(torch.zeros(1, *kind.folded), torch.zeros(1), torch.zeros(1).long()))


@dataclass(frozen=True)
class Lesson:
    """One forward and backward pass of the tuned peer over the next batch."""

    net: UNet2DModel
    schedule: DDPMScheduler
    batches: Iterator[tuple[Tensor, Tensor]]
    how: Tuning
    kind: Kind

    def step(self, autocast: bool) -> None:
        x, y = next(self.batches)
        y = torch.where(torch.rand(len(y)) < self.how.drop, self.kind.classes, y)
        noise, t = torch.randn_like(x), torch.randint(0, 1000, (len(x),))
        at = cast(torch.IntTensor, t)  # as the library's annotations have it
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = self.net(self.schedule.add_noise(x, noise, at), t, y).sample
        targets: dict[Predicted, Callable[[], Tensor]] = {
            "epsilon": lambda: noise,
            "sample": lambda: x,
            "v_prediction": lambda: self.schedule.get_velocity(x, noise, at),
        }
        loss = F.mse_loss(out.float(), targets[self.how.prediction]())
        loss.backward()  # type: ignore[no-untyped-call]

    def paces(self) -> dict[str, float]:
        """Images/s of each precision, the best of five steps after one that warms up."""
        paces = {}
        for name, autocast in (("bfloat16", True), ("float32", False)):
            times = []
            for _ in range(6):
                begun = time.monotonic()
                self.step(autocast)
                times.append(time.monotonic() - begun)
            paces[name] = self.how.batch / min(times[1:])
        self.net.zero_grad()
        return paces

    def train(self, progress: Callable[[int], float], autocast: bool) -> int:
        """Train until ``progress`` (of images seen) is 1; the weights end up averaged. Returns images seen."""
        how, weights = self.how, list(self.net.parameters())
        optimizer = torch.optim.AdamW(weights, lr=how.rate, betas=(0.9, 0.99), weight_decay=0.0)
        # The window grows as the 0.75th power of the steps, so that it needs no knowledge of how many there will be.
        ema = EMAModel(weights, decay=0.9999, use_ema_warmup=True, power=0.75, foreach=True)
        seen, done = 0, 0.0
        while done < 1:
            rate = how.rate * min(1.0, (done + 1e-3) / how.warm_up) * _cooled(done, how.warm_up)
            for group in optimizer.param_groups:
                group["lr"] = rate
            self.step(autocast)
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.step(weights)
            seen += how.batch
            done = progress(seen)
        ema.copy_to(weights)
        return seen


def _cooled(done: float, warm_up: float) -> float:
    """A cosine from 1 to 0 after the warm-up."""
    return 0.5 * (1 + math.cos(math.pi * max(0.0, done - warm_up) / (1 - warm_up)))


def _batches(images: Pixels, label: Labels, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Unshuffled pictures and labels, epoch after epoch, without a loader's overhead for each picture."""
    x = F.pixel_unshuffle(_pictures(images), 2)
    y = torch.from_numpy(label)
    generator = torch.Generator().manual_seed(seed)
    while True:
        for which in torch.split(torch.randperm(len(x), generator=generator), batch):
            if len(which) == batch:
                yield x[which].contiguous(memory_format=torch.channels_last), y[which]


def lesson(images: Pixels, label: Labels, seed: int, target: float, how: Tuning, kind: Kind) -> Lesson:
    """A new tuned peer; torch's own generator must have been seeded."""
    net = cast(UNet2DModel, tuned_net(target, how, kind))
    return Lesson(net, how.schedule(), _batches(images, label, how.batch, seed), how, kind)


def tuned(
    images: Pixels,
    label: Labels,
    minutes: float,
    seed: int,
    target: float = 85e6,
    how: Tuning | None = None,
    kind: Kind = DIGITS,
    shown: int | None = None,
) -> Trained:
    """Unshuffled pixels, averaged weights, a rate cooled to zero in the budget, classifier-free guidance, and whichever
    precision is faster here; ``target`` FLOPs a picture, to 5 %. ``shown`` images are a length instead of minutes."""
    how = how or Tuning()
    flops = sized(target, how, kind)[1]
    began = time.monotonic()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        one = lesson(images, label, seed, target, how, kind)
        paces = one.paces()
        arithmetic = max(paces, key=lambda name: paces[name])

        def progress(seen: int) -> float:
            return (time.monotonic() - began) / (minutes * 60) if shown is None else seen / shown

        seen = one.train(progress, arithmetic == "bfloat16")
    return Trained(one.net, Training(seen, time.monotonic() - began, flops, arithmetic, paces))


def tuned_net(target: float, how: Tuning | None = None, kind: Kind = DIGITS) -> nn.Module:
    """The tuned peer's network, untrained."""
    how = how or Tuning()
    net: nn.Module = unet(sized(target, how, kind)[0], how, kind).to(memory_format=torch.channels_last)  # type: ignore[call-arg]
    return net


def tuned_draws(net: nn.Module, how: Tuning | None = None, kind: Kind = DIGITS) -> dict[Guidance, Draw]:
    """How a tuned peer draws, by its guidance."""
    how = how or Tuning()
    net.eval()

    def plain(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        out: Tensor = net(x, t, y).sample
        return out

    def guided(guidance: Guidance, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        both = plain(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, torch.full_like(y, kind.classes)]))
        with_label, without = both.chunk(2)
        return without + guidance * (with_label - without)

    def draw(guess: Guess, n: int, seed: int) -> Pixels:
        config = how.schedule().config
        scheduler = DDIMScheduler.from_config(config, timestep_spacing="trailing", clip_sample=False)
        return _ddim(scheduler, guess, n, seed, kind.folded, how.steps, fold=2)

    return {g: partial(draw, plain if g == 1 else partial(guided, g)) for g in GUIDANCES}


@torch.no_grad()
def _ddim(
    scheduler: DDIMScheduler, net: Guess, n: int, seed: int, shape: tuple[int, int, int], steps: int, *, fold: int
) -> Pixels:
    """Draw pictures of 10 classes in turn by the library's DDIM scheduler; ``fold`` pixels squared are channels."""
    generator = torch.Generator().manual_seed(seed)
    scheduler.set_timesteps(steps)
    parts = []
    for first in range(0, n, 250):
        y = torch.arange(first, min(first + 250, n)) % 10
        x = torch.randn(len(y), *shape, generator=generator)
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t.expand(len(y)), y), t, x, return_dict=False)[0]
        x = F.pixel_shuffle(x, fold)
        parts.append(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)
