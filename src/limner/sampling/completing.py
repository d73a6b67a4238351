"""``complete``: pictures of which a part is known, and the rest is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from limner.contracts import Autoregressor, ExtendConfig, Model, Tokenizer
from limner.errors import UserError, within
from limner.sampling import extending
from limner.sampling.draw import BATCH, as_they_draw, labels_for, resolve, to_pixels
from limner.writing import pictures_of, values_of


@dataclass(frozen=True)
class Completed:
    """Pictures, completed.

    Attributes:
        pictures: (N, ways, H, W, C), uint8 or uint16.
        unseen: share of the known pixels that lie after the first one that was written anew: a model that writes in
            order does not know them when it writes what lies before, and what is written need not fit them.
    """

    pictures: npt.NDArray[np.uint8 | np.uint16]
    unseen: float


def complete(
    model: Model,
    pictures: npt.NDArray[np.uint8 | np.uint16],
    mask: npt.NDArray[np.bool_],
    *,
    ways: int = 1,
    label: int | str | list[int] | None = None,
    seed: int = 0,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    guidance: float | None = None,
    config: ExtendConfig | None = None,
    batch: int = BATCH,
) -> Completed:
    """Write a part of pictures anew, by a model that writes pixels. What is known stays as it is, to the bit.

    Args:
        model: of an autoregressive network on pixels.
        pictures: (N, H, W, C), uint8, or uint16 for a model of 16 bits.
        mask: (H, W), true where a pixel is to be written.
        ways: in which each picture is completed, side by side: what is known before the first such pixel is read once.
        label: of all pictures, or one each; None takes the classes in turn.
        seed: way j of picture i is sample ``i * ways + j`` of it.
        temperature, top_k, top_p, guidance: override the model's defaults.
        config: replaces them as a whole.
        batch: samples written together; only memory and speed depend on it.

    Raises:
        UserError: the model does not write pixels, or pictures or mask are not of its kind.
    """
    net, spec, n = model.net, model.spec, len(pictures)
    if not isinstance(net, Autoregressor) or isinstance(model.codec, Tokenizer):
        raise UserError("completing is for models that write pixels, such as pixelcnn++; this one does not")
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
    cond = labels_for(model, n, label).to(device)
    fresh = torch.from_numpy(np.repeat(mask.ravel(), spec.channels)).to(device)
    half = (2**spec.bits - 1) / 2
    together = max(1, batch // ways)
    done = []
    for first in range(0, n, together):
        part = slice(first, first + together)
        x = torch.from_numpy(pictures[part].astype(np.float64)).to(device).permute(0, 3, 1, 2) / half - 1
        samples = torch.arange(first * ways, (first + len(x)) * ways, device=device)
        known = extending.Known(values_of(x, spec), fresh, ways)
        every = torch.arange(first, first + len(x), device=device).repeat_interleave(ways)
        with as_they_draw(net), torch.no_grad():
            values = extending.written(guided, cond.index(every), samples, settings, seed=seed, known=known)
        done.append(to_pixels(pictures_of(values, spec, torch.float64), spec.bits))
    return Completed(np.concatenate(done).reshape(n, ways, *pictures.shape[1:]), unseen(mask))


def unseen(mask: npt.NDArray[np.bool_]) -> float:
    """Share of the known pixels that lie after the first one that is written."""
    order = mask.ravel()
    if not order.any() or order.all():
        return 0.0
    return float((~order[int(order.argmax()) :]).sum() / (~order).sum())
