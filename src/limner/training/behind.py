"""What is trained behind a codec: on the latents of pictures instead of their pixels (Rombach et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from limner.contracts import Codec, DataStats, ImageSpec, Tokenizer
from limner.data import Augment, Dataset
from limner.data.cache import cache_root
from limner.data.encoded import Moments, drawn, measured, moments
from limner.distributed import World
from limner.errors import UserError
from limner.objectives import Batch
from limner.training.snapshot import CodecConfig, read_snapshot


@dataclass(frozen=True)
class Behind:
    """A codec that has been trained, and what it makes of a run's pictures.

    Attributes:
        config: rebuilds the codec.
        codec: between the pictures and what is trained.
        stats: of the latents.
        moments: of all pictures' latents, where they are kept.
    """

    config: CodecConfig
    codec: Codec
    stats: DataStats
    moments: Moments | None = None

    @property
    def spec(self) -> ImageSpec:
        """Of the latents."""
        return self.codec.latent_spec(self.config.spec)

    @torch.no_grad()
    def encoded(self, batch: Batch, seed: int) -> Batch:
        """Latents of a batch of pictures, other ones each time."""
        return replace(batch, images=drawn(*self.codec.moments(batch.images), seed=seed, samples=batch.samples))


def behind(
    source: str | Path, dataset: Dataset, augment: Augment, world: World, *, cache: Path | None, show: bool
) -> Behind:
    """The codec in a run or a snapshot folder, and the latents of a training's pictures: kept, where no change of the
    pictures makes new ones of them.

    Raises:
        UserError: there is no codec, or it is for other pictures, or its latents are no numbers to be refined.
    """
    config, codec = read_snapshot(source)
    if not isinstance(config, CodecConfig) or not isinstance(codec, Codec):
        raise UserError(f"{source} is no codec; train one with: limner train kl-codec")
    if isinstance(codec, Tokenizer):
        raise UserError(
            f"the latents of {source} are codes, and refining noise needs latents of a normal distribution; train a "
            "codec with: limner train kl-codec"
        )
    if config.spec != dataset.spec:
        height, width = config.spec.size
        raise UserError(
            f"the codec {source} is for {_words(config.spec)} pictures, and these are {_words(dataset.spec)}; give "
            f"--data.size {height} {width} --data.mode {config.spec.mode}, or train another codec on these"
        )
    codec.to(world.device).requires_grad_(False).eval()
    if dataset.feed is not None or augment.crop or augment.rotate or augment.colour:
        return Behind(config, codec, measured(dataset, codec, world.device))

    def kept(show: bool) -> Moments:
        mirror = augment.mirrors(dataset.mirror_ok)
        return moments(dataset, codec, mirror=mirror, root=cache_root(cache), device=world.device, show=show)

    made: list[Moments] = []
    world.lead(lambda: made.append(kept(show)))
    found = made[0] if made else kept(False)
    return Behind(config, codec, found.stats, found)


def _words(spec: ImageSpec) -> str:
    return f"{spec.size[0]}x{spec.size[1]} {spec.mode}" + (f" of {spec.bits} bits" if spec.bits != 8 else "")
