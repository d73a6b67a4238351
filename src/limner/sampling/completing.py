"""``complete``: pictures of which a part is known, and the rest is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from limner.contracts import Autoregressor, ExtendConfig, Model, Tokenizer
from limner.errors import UserError, within
from limner.sampling import extending
from limner.sampling.draw import BATCH, as_they_draw, resolve, to_pixels
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
) -> Completed:
    """Write a part of pictures anew, by a model that writes. What is known stays as it is, to the bit.

    A token is written anew where it stands for a pixel that is to be; what the codec then makes of known pixels is
    replaced by these.

    Args:
        model: of an autoregressive network, on pixels or on tokens.
        pictures: (N, H, W, C), uint8, or uint16 for a model of 16 bits.
        mask: (H, W), true where a pixel is to be written.
        ways: in which each picture is completed, side by side: what is known before the first such pixel is read once.
        label: of all pictures, or one each; None takes the classes in turn.
        prompt: of a model that reads texts, what all pictures show, or one text each; None takes those that it
            remembers in turn.
        seed: way j of picture i is sample ``i * ways + j`` of it.
        temperature, top_k, top_p, guidance: override the model's defaults.
        config: replaces them as a whole.
        batch: samples written together; only memory and speed depend on it.

    Raises:
        UserError: the model does not write, or pictures or mask are not of its kind.
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
    guided = net if settings.guidance == 1 else extending.Guided(net, settings.guidance)
    cond = condition_for(model, n, label, prompt).to(device)
    fresh = touched(torch.from_numpy(mask).to(device), codec, spec)
    half = (2**spec.bits - 1) / 2
    together = max(1, batch // ways)
    done = []
    for first in range(0, n, together):
        part = slice(first, first + together)
        x = torch.from_numpy(pictures[part].astype(np.float32)).to(device).permute(0, 3, 1, 2) / half - 1
        samples = torch.arange(first * ways, (first + len(x)) * ways, device=device)
        every = torch.arange(first, first + len(x), device=device).repeat_interleave(ways)
        with as_they_draw(net), torch.no_grad():
            known = extending.Known(written_of(x, codec, spec), fresh, ways)
            values = extending.written(guided, cond.index(every), samples, settings, seed=seed, known=known)
            drawn = codec.decode(latents_of(values, codec, spec)).clamp(-1, 1)
        done.append(to_pixels(drawn, spec.bits).reshape(len(x), ways, *pictures.shape[1:]))
    whole = np.where(mask[..., None], np.concatenate(done), pictures[:, None])
    order = fresh.cpu().numpy()
    if not isinstance(codec, Tokenizer):
        return Completed(whole, unseen(order))
    return Completed(whole, unseen(order), kept=int((~order).sum()), tokens=len(order))


def unseen(fresh: npt.NDArray[np.bool_]) -> float:
    """Share of what is known that lies after the first value that is written, of values in the order of writing."""
    order = fresh.ravel()
    if not order.any() or order.all():
        return 0.0
    return float((~order[int(order.argmax()) :]).sum() / (~order).sum())
