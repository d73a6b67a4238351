"""``complete``: pictures of which a part is known, and the rest is written."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from limner.contracts import Autoregressor, Condition, ExtendConfig, Model, Tokenizer
from limner.errors import UserError, within
from limner.sampling import extending
from limner.sampling.draw import BATCH, as_they_draw, resolve, to_pixels, together
from limner.sampling.prompts import Label, Prompt, condition_for
from limner.writing import latents_of, touched, written_of


@dataclass(frozen=True)
class Completed:
    """Pictures, completed.

    Attributes:
        pictures: (N, ways, H, W, C), uint8 or uint16.
        unseen: share of the known pixels, or tokens, that lie after the first one that was written anew: a model that
            writes in order does not know them when it writes what lies before, and what is written need not fit them.
        kept: of a model that writes tokens, how many of a picture's were not written, because all pixels that they
            stand for are known ...
        tokens: ... and how many there are; 0 of a model that writes pixels.
    """

    pictures: npt.NDArray[np.uint8 | np.uint16]
    unseen: float
    kept: int = 0
    tokens: int = 0


def complete(
    model: Model,
    pictures: npt.NDArray[np.uint8 | np.uint16],
    mask: npt.NDArray[np.bool_],
    *,
    ways: int = 1,
    label: Label = None,
    prompt: Prompt = None,
    seed: int = 0,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    guidance: float | None = None,
    config: ExtendConfig | None = None,
    batch: int = BATCH,
    memory: float | None = None,
) -> Completed:
    """Write a part of pictures anew, by a model that writes. What is known stays as it is, to the bit.

    A token is written anew where it stands for a pixel that is to be; what the codec then makes of known pixels is
    replaced by these.

    Args:
        model: of an autoregressive network, on pixels or on tokens.
        pictures: (N, H, W, C), uint8, or uint16 for a model of 16 bits.
        mask: (H, W), true where a pixel is to be written.
        ways: in which each picture is completed, side by side: what is known before the first such pixel is read once.
        label: of all pictures, or one each; None leaves open what they show, and then nothing is guided.
        prompt: of a model that reads texts, the same.
        seed: way j of picture i is sample ``i * ways + j`` of it.
        temperature, top_k, top_p, guidance: override the model's defaults.
        config: replaces them as a whole.
        batch: samples written together; only memory and speed depend on it.
        memory: GiB that what is kept of these may take, as for :func:`limner.sample`.

    Raises:
        UserError: the model does not write, or knows no picture without its class or text and is not given these;
            pictures or mask are not of its kind; memory does not hold one of them.
    """
    net, spec, codec, n = model.net, model.spec, model.codec, len(pictures)
    if not isinstance(net, Autoregressor):
        raise UserError("completing is for models that write, such as pixelcnn++; this one does not")
    within("ways", ways, 1, 10_000)
    if pictures.shape[1:] != (*spec.size, spec.channels) or pictures.dtype != f"uint{spec.bits}" or not n:
        wanted = f"(N, {spec.size[0]}, {spec.size[1]}, {spec.channels}) uint{spec.bits}"
        raise UserError(f"the pictures are {pictures.shape} {pictures.dtype}; this model knows {wanted}")
    if mask.shape != spec.size or mask.dtype != np.bool_:
        raise UserError(f"the mask is {mask.shape} {mask.dtype}; it has to be {spec.size} of true and false")
    settings = resolve(model, config, temperature=temperature, top_k=top_k, top_p=top_p, guidance=guidance)
    assert isinstance(settings, ExtendConfig)
    device = next(net.parameters()).device
    cond, settings = _told(model, n, label, prompt, settings)
    cond = cond.to(device)
    guided = extending.guided(model, settings)
    fresh = touched(torch.from_numpy(mask).to(device), codec, spec)
    half = (2**spec.bits - 1) / 2
    many, some = _shares(model, settings, cond, ways, batch, memory)
    done = []
    for first in range(0, n, many):
        numbers = torch.arange(first, min(first + many, n), device=device)
        given = torch.from_numpy(pictures[first : first + many].astype(np.float32)).to(device)
        x = given.permute(0, 3, 1, 2) / half - 1
        parts = []
        with as_they_draw(net), torch.no_grad():
            values = written_of(x, codec, spec)
            for way in range(0, ways, some):
                which = torch.arange(way, min(way + some, ways), device=device)
                known = extending.Known(values, fresh, len(which))
                samples = (numbers[:, None] * ways + which).flatten()
                told = cond.index(numbers.repeat_interleave(len(which)))
                anew = extending.written(guided, told, samples, settings, seed=seed, known=known)
                drawn = to_pixels(codec.decode(latents_of(anew, codec, spec)).clamp(-1, 1), spec.bits)
                parts.append(drawn.reshape(len(x), -1, *pictures.shape[1:]))
        done.append(np.concatenate(parts, axis=1))
    whole = np.where(mask[..., None], np.concatenate(done), pictures[:, None])
    order = fresh.cpu().numpy()
    if not isinstance(codec, Tokenizer):
        return Completed(whole, unseen(order))
    return Completed(whole, unseen(order), kept=int((~order).sum()), tokens=len(order))


def _told(model: Model, n: int, label: Label, prompt: Prompt, config: ExtendConfig) -> tuple[Condition, ExtendConfig]:
    """What n pictures are said to show, and how they are written then: away from "any" to "any" nothing is guided."""
    steered = bool(model.labels) or model.text is not None
    if not steered or label is not None or prompt is not None:
        return condition_for(model, n, label, prompt), config
    if not model.unconditional:
        what = "class" if model.text is None else "text"
        raise UserError(
            f"this model was always told the {what} of a picture, and these have none: give --"
            f"{'label' if model.text is None else 'prompt'}"
        )
    return condition_for(model, n, None, None).dropped(), replace(config, guidance=1.0)


def _shares(
    model: Model, config: ExtendConfig, cond: Condition, ways: int, batch: int, memory: float | None
) -> tuple[int, int]:
    """How many pictures are completed together, and in how many ways at once. What is known of a picture is kept once
    more while it is copied for several ways."""
    each = ways + (ways > 1)
    found = together(model, config, cond, batch=max(1, batch // ways) * each, memory=memory).batch
    return (found // each, ways) if found >= each else (1, max(1, found - 1))


def unseen(fresh: npt.NDArray[np.bool_]) -> float:
    """Share of what is known that lies after the first value that is written, of values in the order of writing."""
    order = fresh.ravel()
    if not order.any() or order.all():
        return 0.0
    return float((~order[int(order.argmax()) :]).sum() / (~order).sum())
