"""What is trained behind a codec: on the latents of pictures instead of their pixels (Rombach et al. 2022), or on their
tokens (van den Oord et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from limner.contracts import Codec, DataStats, ImageSpec, Tokenizer
from limner.data import Augment, Dataset
from limner.data.cache import cache_root
from limner.data.encoded import Moments, Tokens, drawn, measured, moments, tokens
from limner.data.kept import Kept
from limner.distributed import World
from limner.errors import UserError
from limner.objectives import Batch
from limner.training.snapshot import CodecConfig, read_snapshot

T = TypeVar("T")


@dataclass(frozen=True)
class Behind:
    """A codec that has been trained, and what it makes of a run's pictures: latents.

    Attributes:
        config: rebuilds the codec.
        codec: between the pictures and what is trained.
        stats: of the latents.
        kept: of all pictures, where it is.
    """

    config: CodecConfig
    codec: Codec
    stats: DataStats
    kept: Kept | None = None

    @property
    def spec(self) -> ImageSpec:
        """Of what is learned."""
        return self.codec.latent_spec(self.config.spec)

    @torch.no_grad()
    def encoded(self, batch: Batch, seed: int) -> Batch:
        """What is learned of a batch of pictures: latents, other ones each time."""
        return replace(batch, images=drawn(*self.codec.moments(batch.images), seed=seed, samples=batch.samples))


@dataclass(frozen=True)
class BehindTokens(Behind):
    """The same of tokens; ``stats`` are of the pictures."""

    codec: Tokenizer

    @property
    def spec(self) -> ImageSpec:
        return self.codec.token_spec(self.config.spec)

    @torch.no_grad()
    def encoded(self, batch: Batch, seed: int) -> Batch:
        return replace(batch, images=self.codec.tokenize(batch.images).to(batch.images.dtype))


def behind(
    source: str | Path,
    dataset: Dataset,
    augment: Augment,
    world: World,
    *,
    writes: bool = False,
    cache: Path | None,
    show: bool,
) -> Behind:
    """The codec in a run or a snapshot folder, and what it makes of a training's pictures: kept, where no change of the
    pictures makes something new of them.

    Args:
        source: of the codec.
        dataset: the pictures.
        augment: how they are changed.
        world: the processes.
        writes: whether tokens are wanted, and not latents.
        cache: of what is kept.
        show: draw progress on standard error.

    Raises:
        UserError: there is no codec, or it is for other pictures, or makes of them what cannot be learned so.
    """
    config, codec = read_snapshot(source)
    kind = "vq-codec" if writes else "kl-codec"
    if not isinstance(config, CodecConfig) or not isinstance(codec, Codec):
        raise UserError(f"{source} is no codec; train one with: limner train {kind}")
    if isinstance(codec, Tokenizer) != writes:
        why = (
            "are no codes, and what writes needs tokens"
            if writes
            else "are codes, and refining noise needs latents of a normal distribution"
        )
        raise UserError(f"the latents of {source} {why}; train a codec with: limner train {kind}")
    if config.spec != dataset.spec:
        height, width = config.spec.size
        raise UserError(
            f"the codec {source} is for {_words(config.spec)} pictures, and these are {_words(dataset.spec)}; give "
            f"--data.size {height} {width} --data.mode {config.spec.mode}, or train another codec on these"
        )
    codec.to(world.device).requires_grad_(False).eval()
    anew = dataset.feed is not None or augment.crop or augment.rotate or augment.colour
    mirror, root, device = augment.mirrors(dataset.mirror_ok), cache_root(cache), world.device

    def kept_tokens(show: bool) -> Tokens:
        assert isinstance(codec, Tokenizer)
        return tokens(dataset, codec, mirror=mirror, root=root, device=device, show=show)

    def kept_moments(show: bool) -> Moments:
        return moments(dataset, codec, mirror=mirror, root=root, device=device, show=show)

    if isinstance(codec, Tokenizer):
        return BehindTokens(config, codec, dataset.stats, None if anew else _first(kept_tokens, world, show))
    if anew:
        return Behind(config, codec, measured(dataset, codec, device))
    found = _first(kept_moments, world, show)
    return Behind(config, codec, found.stats, found)


def _first(make: Callable[[bool], T], world: World, show: bool) -> T:
    """What the first process makes and the others then find, told whether to show progress."""
    made: list[T] = []
    world.lead(lambda: made.append(make(show)))
    return made[0] if made else make(False)


def _words(spec: ImageSpec) -> str:
    return f"{spec.size[0]}x{spec.size[1]} {spec.mode}" + (f" of {spec.bits} bits" if spec.bits != 8 else "")
