"""``sample``: pictures from a model, in whatever way it draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limner.allocator import keep_freed_memory
from limner.contracts import (
    Autoregressor,
    Codec,
    Condition,
    DecodeConfig,
    Denoiser,
    ExtendConfig,
    Generator,
    Model,
    Precision,
    ReconstructConfig,
    RefineConfig,
    SampleConfig,
    arithmetic,
)
from limner.distributed import ALONE, World
from limner.errors import UserError, within
from limner.sampling import decoding, extending, refining
from limner.sampling.keeping import Kept, Together, fitting
from limner.sampling.prompts import Label, Prompt, condition_for
from limner.shards import is_sharded

#: Samples drawn together, and most of one draw.
BATCH, MOST = 128, 10_000_000
#: What :func:`asking` has set.
_ASK: ContextVar[Callable[[], None] | None] = ContextVar("ask", default=None)


@dataclass(frozen=True)
class Way:
    """How the models of a contract draw.

    Attributes:
        config: the type of their settings.
        words: what they do, after "it".
        source: what they make pictures from.
        check: (model, settings, guide), raises a UserError for what cannot be.
        evaluations: of the network for a picture, by the settings.
        draw: (model, cond, samples, settings, seed=, guide=) to latents (N, C, H, W).
        kept: (model, cond, settings) to what is kept of pictures while they are drawn; None where it is little.
    """

    config: type[Any]
    words: str
    source: str
    check: Callable[[Model, Any, Model | None], None]
    evaluations: Callable[[Any], int]
    draw: Callable[..., Tensor]
    kept: Callable[[Model, Condition, Any], Kept] | None = None


def _refused(*args: object, **kwargs: object) -> Tensor:
    raise UserError("a codec gives pictures back and draws none of its own: limner reconstruct shows how it does")


WAYS: dict[type[Denoiser | Autoregressor | Generator | Codec], Way] = {
    Denoiser: Way(RefineConfig, "refines noise", "noise", refining.checked, refining.evaluations, refining.refined),
    Autoregressor: Way(
        ExtendConfig,
        "writes site by site",
        "uniform numbers",
        extending.checked,
        lambda _: 1,
        extending.extended,
        extending.kept,
    ),
    Codec: Way(ReconstructConfig, "gives pictures back", "", lambda *_: None, lambda _: 1, _refused),
    Generator: Way(
        DecodeConfig, "decodes a code in one pass", "codes", decoding.checked, lambda _: 1, decoding.decoded
    ),
}


def way_of(model: Model) -> Way:
    """How this model draws."""
    return next(way for contract, way in WAYS.items() if isinstance(model.net, contract))


def evaluations(config: SampleConfig) -> int:
    """How many pictures the network sees to draw one, guidance included."""
    return next(way.evaluations(config) for way in WAYS.values() if isinstance(config, way.config))


def resolve(model: Model, config: SampleConfig | None, guide: Model | None = None, **changes: object) -> SampleConfig:
    """The model's defaults, or ``config``, with the changes that are not None; checked."""
    way, given = way_of(model), config or model.defaults
    known = {name: value for name, value in changes.items() if value is not None}
    own = {field.name for field in dataclasses.fields(way.config)}
    foreign = next((name for name in known if name not in own), None)
    if foreign or not isinstance(given, way.config):
        what = foreign or type(given).__name__
        raise UserError(f"{what} is not for this model: it {way.words} and knows {', '.join(sorted(own))}")
    resolved: SampleConfig = replace(given, **known)
    way.check(model, resolved, guide)
    return resolved


def together(
    model: Model,
    config: SampleConfig | None = None,
    cond: Condition = Condition(),  # noqa: B008 - frozen
    *,
    guidance: float | None = None,
    batch: int = BATCH,
    memory: float | None = None,
    world: World = ALONE,
) -> Together:
    """How many pictures are drawn together, by :func:`sample` and all that draw: ``batch``, or of a model that writes
    as many as memory holds what is kept of (:mod:`limner.sampling.keeping`), at least one.

    Args:
        config, cond, guidance, batch, memory, world: as for :func:`sample`.

    Raises:
        UserError: one picture does not fit, or the model does not write and a limit is stated.
    """
    way, device = way_of(model), next(model.net.parameters()).device
    within("batch", batch, 1, MOST)
    if way.kept is None:
        if memory is not None:
            raise UserError(f"a limit of memory is for models that write; this one {way.words}; leave it out")
        return Together(batch)
    settings = resolve(model, config, guidance=guidance)
    return fitting(way.kept(model, cond, settings), batch, memory, device, world)


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


@contextmanager
def asking(ask: Callable[[], None]) -> Iterator[None]:
    """For as long as this lasts, draws call ``ask`` before each turn, all processes alike; what it raises ends them."""
    before = _ASK.set(ask)
    try:
        yield
    finally:
        _ASK.reset(before)


def to_pixels(images: Tensor, bits: int) -> np.ndarray:
    """(N, C, H, W) in [-1, 1] to (N, H, W, C), uint8 for 8 bits and uint16 for 16: the nearest levels."""
    top = 2**bits - 1
    scaled = ((images + 1) * (top / 2)).round().clamp(0, top).permute(0, 2, 3, 1)
    # Torch can do little with uint16.
    whole: np.ndarray = scaled.to(torch.uint8 if bits == 8 else torch.int32).contiguous().cpu().numpy()
    return whole.astype(np.uint8 if bits == 8 else np.uint16, copy=False)


def _at_size(model: Model, size: tuple[int, int]) -> Model:
    for name, side in zip(("height", "width"), size, strict=True):
        within(name, side, 1, 8192)
    return replace(model, spec=replace(model.spec, size=size))


def sample(
    model: Model,
    n: int,
    *,
    first: int = 0,
    label: Label = None,
    prompt: Prompt = None,
    seed: int = 0,
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    truncation: float | None = None,
    cut: float | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    config: SampleConfig | None = None,
    guide: Model | None = None,
    size: tuple[int, int] | None = None,
    batch: int = BATCH,
    memory: float | None = None,
    precision: Precision = "float32",
    on_progress: Callable[[int], None] | None = None,
    world: World = ALONE,
) -> np.ndarray:
    """Draw n pictures, (n, H, W, C) uint8, or uint16 from a model of 16-bit pictures.

    Picture i depends on (seed, i, its condition and the settings) alone, not on the batch size. Several processes that
    call this together take the batches in turn, and each returns all pictures, to the bit what one process draws.

    Args:
        model: from ``limner.load``.
        first: number of the first picture: those from ``first`` to ``first + n - 1`` are drawn, the same ones as in
            drawing all from 0 on.
        label: of all samples by name or number, or a number each; None takes the classes in turn.
        prompt: of a model that reads texts, what all samples are to show, or one text each; None takes those that the
            model remembers of its training in turn.
        seed: 64 bits.
        steps, solver: override the defaults of a model that refines noise.
        guidance: overrides that of a model that refines noise or writes site by site.
        truncation, cut: override the defaults of a model that decodes codes.
        temperature, top_k, top_p: override the defaults of a model that writes site by site.
        config: replaces the model's defaults as a whole.
        guide: a worse model of the same pictures, away from which guidance then steers (autoguidance).
        size: (height, width) of the pictures; the model's own by default. Others are worth drawing where the model was
            trained on several.
        batch: samples drawn together; only memory and speed depend on it.
        memory: of a model that writes: GiB that what is kept of the samples drawn together may take, for which these
            are as many as fit, at most ``batch``. By default half of what is free; infinity leaves it to ``batch``.
        precision: of the network's products; "bfloat16" is faster where the machine has it, and changes pictures a
            little.
        on_progress: called with the number of pictures that this process has done.
        world: the processes that draw together, from ``limner.join()``.

    Raises:
        UserError: a setting that the model or limner does not know, or memory that does not hold a single picture.
    """
    within("n", n, 1, MOST)
    within("first", first, 0, MOST)
    if size is not None:
        model, guide = _at_size(model, size), guide and _at_size(guide, size)
    changes: dict[str, object] = {
        "steps": steps, "solver": solver, "guidance": guidance, "truncation": truncation, "cut": cut,
        "temperature": temperature, "top_k": top_k, "top_p": top_p,
    }  # fmt: skip
    resolved, way = resolve(model, config, guide, **changes), way_of(model)
    device = next(model.net.parameters()).device
    keep_freed_memory()
    cond = condition_for(model, n, label, prompt, first).to(device)
    numbers = torch.arange(first, first + n, device=device)
    batch = together(model, resolved, cond, batch=min(batch, n), memory=memory, world=world).batch
    in_step = any(is_sharded(p) for p in model.net.parameters())
    bits = model.spec.bits
    out = np.zeros((n, *model.spec.size, model.spec.channels), np.uint8 if bits == 8 else np.uint16)
    done = 0
    with as_they_draw(model.net, *([guide.net] if guide else [])):
        for turn in range(0, n, world.size * batch):
            if ask := _ASK.get():
                ask()
            begin = turn + world.rank * batch
            if begin >= n and not in_step:
                break
            # Who has no batch left helps the others with a sharded network, by drawing some picture for nothing.
            part = slice(begin, begin + batch) if begin < n else slice(0, 1)
            with torch.no_grad(), arithmetic(device, precision):
                latents = way.draw(model, cond.index(part), numbers[part], resolved, seed=seed, guide=guide)
                height, width = model.spec.size  # a codec's pictures of other sizes than its own may be larger
                images = model.codec.decode(latents)[:, :, :height, :width].float().clamp(-1, 1)
            if begin < n:
                out[part] = to_pixels(images, bits)
                done += len(images)
            if on_progress:
                on_progress(done)
    # Byte by byte, which any number of bits is: each picture is zero but in one process.
    world.add_up(torch.from_numpy(out.view(np.uint8)))
    return out
