"""Training and sampling beside diffusers at equal counted FLOPs and precision, and against the arithmetic alone.

    python benchmarks/speed.py --net dit --data cifar10 --precision float32 --rounds 10

Sides, each a process of its own, taking turns of a few seconds:

- ``train``: limner's Trainer, as ``training_speed.py`` has it, and ``train-peer``, a plain loop as diffusers' scripts
  have it around the library's network of the same kind, whose counted FLOPs are the same to 5 %;
- ``draw``: ``limner.sample`` by DDIM without guidance, and ``draw-peer``, the library's DDIM scheduler and network;
  The U-Net has two peers. ``published`` has the form of google/ddpm-cifar10-32 (four levels, two blocks each,
  attention at the second, on pixels), as the library's scripts have it, in few channels. ``tuned`` was given what
  limner has: folded pixels, two levels, channels_last;
- ``train-alone``, ``draw-alone``: the matrix products and convolutions of limner's network alone, operands ready
  (``products.py``): the share of their speed that training and sampling reach.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import torch
import tyro
from torch import Tensor, nn

import peers
import products
from limner import open_dataset
from limner.contracts import Condition, Level, Precision, RefineConfig, arithmetic
from limner.data import Dataset
from limner.distributed import ALONE
from limner.recipes import Size, recipe
from limner.sampling import sample
from limner.training.costs import counted
from limner.training.opening import lesson_of
from training_speed import Training, Turns, ours, plain, work

NETS = {"unet": "flow", "dit": "dit"}
#: Of one picture.
STEPS = 10
#: Pictures drawn together.
BATCH = 128


@dataclass(frozen=True)
class Args:
    """What to do.

    Attributes:
        net: which of limner's networks.
        peer: of the U-Net.
        data: the pictures.
        size: of the recipe.
        precision: of all sides' products.
        seconds: of a turn.
        rounds: turns of each side.
        profile: also print where training's time goes.
        side: only work on this side, for the parent process.
    """

    net: Literal["unet", "dit"] = "unet"
    peer: Literal["published", "tuned"] = "published"
    data: str = "cifar10"
    size: Size = "tiny"
    precision: Precision = "float32"
    seconds: float = 5.0
    rounds: int = 10
    profile: bool = False
    side: str = ""


def our_model(args: Args, dataset: Dataset) -> Any:
    return lesson_of(recipe(NETS[args.net], args.size), dataset, ALONE).model


def inputs(dataset: Dataset, n: int) -> tuple[Tensor, Level, Condition]:
    t = torch.linspace(0.05, 0.95, n)
    return torch.randn(n, *dataset.spec.shape), Level(1 - t, t), Condition(torch.arange(n) % len(dataset.labels))


def folded_by(args: Args, dataset: Dataset) -> int:
    """Pixels, each way, that the peer sees as channels: as many as limner's U-Net folds, where it was tuned."""
    net = our_model(args, dataset).net.net
    return int(net.unshuffle) if args.net == "unet" and args.peer == "tuned" else 1


@lru_cache
def peer(args: Args) -> tuple[nn.Module, float]:
    """The library's network with FLOPs nearest to limner's, and its FLOPs."""
    dataset = open_dataset(args.data, progress=False)
    target = counted(lambda: our_model(args, dataset).net(*inputs(dataset, 1)))
    if args.net == "unet" and args.peer == "tuned":
        kind = peers.Kind(dataset.spec.channels, dataset.spec.size[0], len(dataset.labels))
        return Peer(peers.tuned_net(target, kind=kind), "class_labels"), peers.sized(target, peers.Tuning(), kind)[1]
    make: Callable[..., nn.Module]
    widths: list[tuple[int, ...]]
    if args.net == "dit":
        make, widths = _dit(args, dataset), [(width,) for width in range(8, 1025, 4)]
    else:  # as good as doubling
        make = _published(dataset)
        widths = [(first, 2 * first + more) for first in range(4, 129) for more in range(-2, 3)]
    best: tuple[float, tuple[int, ...], float] | None = None
    for width in widths:
        flops = _flops_of_shape(make, width, dataset.spec.shape)
        if flops is None:
            continue
        off = abs(flops / target - 1)
        if best is None or off < best[0]:
            best = off, width, flops
        if flops > 1.5 * target:
            break
    assert best is not None
    if best[0] > 0.05:
        raise SystemExit(f"the peer nearest in FLOPs is {best[0]:.0%} off")
    return make(*best[1]), best[2]


def _flops_of_shape(make: Callable[..., nn.Module], width: tuple[int, ...], shape: tuple[int, ...]) -> float | None:
    """Counted without weights or arithmetic, so that a search takes seconds; None where no network is so wide."""
    try:
        with torch.device("meta"):
            module = make(*width).to("meta")
            one = torch.zeros(1)
            return counted(lambda: module(torch.zeros(1, *shape), one, one.long()))
    except ValueError:  # as the library says it of widths that its norms cannot divide
        return None


class Peer(nn.Module):
    """The library's network as a function of (x, t in 0 … 1000, label)."""

    def __init__(self, net: nn.Module, label: str) -> None:
        super().__init__()
        self.net = net
        self.label = label

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        out: Tensor = self.net(x, timestep=t, **{self.label: label}).sample
        return out


def _dit(args: Args, dataset: Dataset) -> Callable[[int], nn.Module]:
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    own = cast(Any, recipe("dit", args.size).net).fitted(dataset.spec.size)

    def make(width: int) -> nn.Module:
        heads = min((h for h in range(1, width + 1) if width % h == 0), key=lambda h: abs(h - own.heads))
        net = DiTTransformer2DModel(
            num_attention_heads=heads,
            attention_head_dim=width // heads,
            in_channels=dataset.spec.channels,
            out_channels=dataset.spec.channels,
            num_layers=own.depth,
            sample_size=dataset.spec.size[0],
            patch_size=own.patch,
            num_embeds_ada_norm=11,
        )
        return Peer(net, "class_labels")

    return make


def _published(dataset: Dataset) -> Callable[[int, int], nn.Module]:
    from diffusers.models.unets.unet_2d import UNet2DModel

    if any(side % 8 for side in dataset.spec.size):
        raise SystemExit("the published U-Net halves pictures three times; give --peer tuned or other --data")

    def make(first: int, inner: int) -> nn.Module:
        net = UNet2DModel(
            sample_size=dataset.spec.size[0],
            in_channels=dataset.spec.channels,
            out_channels=dataset.spec.channels,
            layers_per_block=2,
            block_out_channels=(first, inner, inner, inner),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=None,  # one head
            norm_num_groups=math.gcd(first, inner, 32),
            num_class_embeds=len(dataset.labels),
        )
        return Peer(net, "class_labels")

    return make


def train_peer(args: Args, dataset: Dataset) -> Training:
    module, _ = peer(args)
    batch = recipe(NETS[args.net], args.size).training.batch
    fold = folded_by(args, dataset)
    return plain(lambda x, t, label: module(x, t * 1000, label), module, dataset, batch, fold, args.precision)


def draw_ours(args: Args, dataset: Dataset) -> Training:
    model = our_model(args, dataset)
    config = RefineConfig(steps=STEPS, solver="ddim")
    return repeated(lambda: sample(model, BATCH, config=config, batch=BATCH, precision=args.precision), BATCH)


def draw_peer(args: Args, dataset: Dataset) -> Training:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    module, _ = peer(args)
    p = folded_by(args, dataset)
    shape = (dataset.spec.channels * p * p, dataset.spec.size[0] // p, dataset.spec.size[1] // p)
    scheduler = DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    label = torch.arange(BATCH) % 10

    @torch.no_grad()
    def draw() -> None:
        scheduler.set_timesteps(STEPS)
        x = torch.randn(BATCH, *shape)
        if args.net == "unet" and args.peer == "tuned":
            x = x.contiguous(memory_format=torch.channels_last)
        for t in scheduler.timesteps:
            with arithmetic(x.device, args.precision):
                said = module(x, t.expand(BATCH), label)
            x = scheduler.step(said.float(), t, x, return_dict=False)[0]
        x = nn.functional.pixel_shuffle(x, p)
        ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()

    module.eval()
    return repeated(draw, BATCH)


def repeated(work: Callable[[], object], images: int) -> Training:
    def go(seconds: float) -> float:
        begun, done = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            work()
            done += images
        return done / (time.monotonic() - begun)

    return go


def alone(args: Args, dataset: Dataset, *, training: bool) -> Training:
    """Images/s of the products and convolutions of one step of training, or of sampling."""
    net = our_model(args, dataset).net
    batch = recipe(NETS[args.net], args.size).training.batch if training else BATCH
    given = inputs(dataset, batch)

    def train() -> None:
        with arithmetic(torch.device("cpu"), args.precision):
            x0 = net(*given).x0
        x0.square().mean().backward()

    @torch.no_grad()
    def draw() -> None:
        with arithmetic(torch.device("cpu"), args.precision):
            net(*given)

    def go(seconds: float) -> float:
        begun, best = time.monotonic(), float("inf")
        while time.monotonic() - begun < seconds:
            best = min(best, products.seconds_alone(train if training else draw))
        return batch / best / (1 if training else STEPS)

    return go


def side(args: Args, dataset: Dataset, folder: Path) -> Training:
    sides: dict[str, Callable[[], Training]] = {
        "train": lambda: ours(dataset, args.size, folder, NETS[args.net], args.precision),
        "train-peer": lambda: train_peer(args, dataset),
        "train-alone": lambda: alone(args, dataset, training=True),
        "draw": lambda: draw_ours(args, dataset),
        "draw-peer": lambda: draw_peer(args, dataset),
        "draw-alone": lambda: alone(args, dataset, training=False),
    }
    return sides[args.side]()


SIDES = ("train", "train-peer", "train-alone", "draw", "draw-peer", "draw-alone")


def main(args: Args) -> None:
    dataset = open_dataset(args.data, progress=False)
    if args.side or args.profile:
        with tempfile.TemporaryDirectory() as folder:
            go = side(replace(args, side=args.side or "train"), dataset, Path(folder))
            work(go, profiled=args.profile)
        return
    which = ("--net", args.net, "--peer", args.peer, "--size", args.size)
    options = (*which, "--data", args.data, "--precision", args.precision)
    sides = {name: Turns(__file__, "--side", name, *options) for name in SIDES}
    for one in sides.values():
        one.take(2)
    told = [{name: one.take(args.seconds)["rate"] for name, one in sides.items()} for _ in range(args.rounds)]
    for one in sides.values():
        one.process.communicate()
    flops = counted(lambda: our_model(args, dataset).net(*inputs(dataset, 1)))
    both = f"{flops / 1e6:.1f} MFLOPs, the peer {peer(args)[1] / 1e6:.1f}"
    beside = f" ({args.peer})" if args.net == "unet" else ""
    print(f"{args.net} {args.size}, {args.data}, {args.precision}: {both}{beside}\n")
    print("| what | images/s | the peer's | ratio (median) | share of the arithmetic alone (median) |")
    print("|---|---|---|---|---|")
    for what in ("train", "draw"):
        rates = {name: statistics.median(turn[f"{what}{name}"] for turn in told) for name in ("", "-peer")}
        ratio = statistics.median(turn[what] / turn[f"{what}-peer"] for turn in told)
        share = statistics.median(turn[what] / turn[f"{what}-alone"] for turn in told)
        print(f"| {what} | {rates['']:.0f} | {rates['-peer']:.0f} | {ratio:.2f} | {share:.0%} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
