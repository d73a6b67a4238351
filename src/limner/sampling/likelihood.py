"""``log_likelihood``: what a model thinks of pictures, by whatever it knows of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from limner import random
from limner.contracts import Autoencoding, Autoregressor, Bound, Condition, Denoiser, Model
from limner.errors import UserError, within
from limner.sampling.draw import as_they_draw
from limner.sampling.importance import weighted_bound
from limner.sampling.probability_flow import Path, density, hutchinson
from limner.sampling.prompts import told_texts
from limner.writing import written_of, written_spec

#: Bits a dimension by which an estimate may change when its steps are doubled; beyond, it is refused.
_TRUSTED = 0.05


def log_likelihood(
    model: Model,
    images: npt.NDArray[np.uint8 | np.uint16],
    *,
    label: npt.NDArray[np.int64] | None = None,
    captions: Sequence[str] | None = None,
    seed: int = 0,
    steps: int = 32,
    codes: int = 64,
    batch: int = 64,
    on_progress: Callable[[int], None] | None = None,
) -> Bound:
    """ln P of pictures, or a lower bound of it.

    Of a model that refines noise it is estimated by the probability flow, without bias but for the steps: noise spreads
    each value over its bin, and the mean of ln p there is at most ln of the bin's P (Theis et al. 2016, equation 1);
    Hutchinson's estimator takes the divergence. The denoiser is the model as it was trained, without guidance. Of a
    variational autoencoder it is importance-weighted. Of a model that writes pixels it is exact, and no bound; of one
    that writes tokens it is of the tokens that its codec makes of the pictures, given their captions where it reads
    texts, whose own likelihood is no part of it.

    Args:
        model: of a denoiser, of a variational autoencoder, or of a model that writes.
        images: (N, H, W, C), uint8, or uint16 for a model of 16 bits.
        label: (N,), or None: then the model is asked without one.
        captions: N texts, of which some may be empty, for a model that reads them; None asks without any.
        seed: of the noise.
        steps: of a denoiser's ODE; the whole is done a second time with half of them, as a check.
        codes: of an autoencoder, for each picture.
        batch: pictures together; only memory and speed depend on it.
        on_progress: called with the number of pictures done.

    Raises:
        UserError: the model knows no likelihood, the pictures are not of its kind, or the estimate cannot be trusted:
            it changes with the number of steps, or promises what no code can reach, less than 0 bits.
    """
    _checked(model, images, label, captions)
    texts = None if captions is None else told_texts(model, captions)
    told = on_progress or (lambda done: None)
    if isinstance(model.net, Autoencoding):
        within("codes", codes, 1, 100_000)
        return _weighted(model, model.net, _Pictures(images, label, texts, seed, batch, told), codes)
    if isinstance(model.net, Autoregressor):
        return _exact(model, model.net, _Pictures(images, label, texts, seed, batch, told))
    within("steps", steps, 4, 10_000)
    if not isinstance(model.net, Denoiser):
        raise UserError("this model knows no likelihood: models that refine noise or write do, such as flow, and vae")
    return _flowed(model, model.net, _Pictures(images, label, texts, seed, batch, told), steps)


@dataclass(frozen=True)
class _Pictures:
    """What is asked about, in parts."""

    images: npt.NDArray[np.uint8 | np.uint16]
    label: npt.NDArray[np.int64] | None
    texts: Tensor | None
    seed: int
    batch: int
    told: Callable[[int], None]

    def parts(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Condition]]:
        """Values as they are stored (N, C, H, W), the pictures' numbers, and their condition."""
        for first in range(0, len(self.images), self.batch):
            part = slice(first, first + self.batch)
            samples = torch.arange(first, min(first + self.batch, len(self.images)), device=device)
            values = torch.from_numpy(np.array(self.images[part], np.float32)).to(device).permute(0, 3, 1, 2)
            chosen = None if self.label is None else torch.from_numpy(self.label[part]).to(device)
            text = None if self.texts is None else self.texts[part].to(device)
            yield values, samples, Condition(chosen, text)
            self.told(first + len(samples))


def _flowed(model: Model, net: Denoiser, pictures: _Pictures, steps: int) -> Bound:
    half, seed, means = (2**model.spec.bits - 1) / 2, pictures.seed, []
    fine, coarse = Path(steps), Path(steps // 2)
    for values, samples, cond in pictures.parts(next(net.parameters()).device):
        shape = tuple(values.shape[1:])
        x = (values + random.uniform(seed, samples, "dequantize", shape=shape) - 0.5) / half - 1
        signs = torch.where(random.uniform(seed, samples, "hutchinson", shape=shape) < 0.5, -1.0, 1.0)
        with as_they_draw(net):
            walked = [density(net, x, cond, hutchinson(signs), path) for path in (fine, coarse)]
        means.append(torch.stack(walked))
    size = math.prod(model.spec.shape)
    found, check = torch.cat(means, dim=1) + size * math.log(1 / half)
    bound = Bound(found.cpu(), "lower", f"estimated by the probability flow, {steps} steps, uniform dequantization")
    _guarded(bound.bits_per_dimension(size), Bound(check.cpu(), "lower").bits_per_dimension(size), steps)
    return bound


def _exact(model: Model, net: Autoregressor, pictures: _Pictures) -> Bound:
    half, found, what = (2**model.spec.bits - 1) / 2, [], written_spec(model.codec, model.spec)
    for values, _, cond in pictures.parts(next(net.parameters()).device):
        with as_they_draw(net), torch.no_grad():
            told = net.log_prob(written_of(values / half - 1, model.codec, model.spec), cond)
        found.append(told.double().sum(1).cpu())
    of = f"{what.values} tokens, each one of {what.codes}" if what.codes else "discrete values"
    how = f"the product of all sites' probabilities, {of}"
    if model.text is not None:
        how += ", given no text" if pictures.texts is None else ", given the pictures' captions"
    return Bound(torch.cat(found), "exact", how, tokens=what.values if what.codes else 0)


def _weighted(model: Model, net: Autoencoding, pictures: _Pictures, codes: int) -> Bound:
    half, levels, found = (2**model.spec.bits - 1) / 2, 2**model.spec.bits, []
    for values, samples, cond in pictures.parts(next(net.parameters()).device):
        with as_they_draw(net):
            bound = weighted_bound(net, values / half - 1, cond, samples, levels, seed=pictures.seed, codes=codes)
        found.append(bound.cpu())
    spread = "uniform dequantization" if net.continuous else "discrete values"
    return Bound(torch.cat(found), "lower", f"importance-weighted, {codes} codes a picture, {spread}")


def _checked(
    model: Model,
    images: npt.NDArray[np.uint8 | np.uint16],
    label: npt.NDArray[np.int64] | None,
    captions: Sequence[str] | None,
) -> None:
    channels, (height, width), kind = model.spec.channels, model.spec.size, f"uint{model.spec.bits}"
    if images.ndim != 4 or images.shape[1:] != (height, width, channels) or images.dtype != kind or not len(images):
        raise UserError(
            f"the pictures are {images.shape} {images.dtype}; this model knows "
            f"(N, {height}, {width}, {channels}) {kind}"
        )
    if not isinstance(model.net, Autoregressor) and model.codec.latent_spec(model.spec) != model.spec:
        raise UserError("this model knows a likelihood of latents only, not of pictures; train one without --codec")
    if label is not None and not model.labels:
        raise UserError("this model was trained without labels; leave them out")
    if label is None and model.labels and not model.unconditional:
        raise UserError("this model was always told the class, and these pictures have none; give pictures with labels")
    if captions is not None and len(captions) != len(images):
        raise UserError(f"{len(captions)} captions for {len(images)} pictures; give one for each")
    if model.text is not None and not model.unconditional and not (captions and all(map(str.strip, captions))):
        raise UserError("this model was always told a text, and these pictures lack some; give pictures with captions")


def _guarded(bits: Tensor, check: Tensor, steps: int) -> None:
    """Few steps make nonsense of it, far below 0 bits a dimension or far above 8."""
    change = float((bits.mean() - check.mean()).abs())
    if not change <= _TRUSTED:
        raise UserError(
            f"{steps} steps are too few for a likelihood: with half of them it is {change:.2f} bits a dimension "
            f"apart; give --steps {2 * steps}"
        )
    if float(bits.mean()) < 0:
        raise UserError(
            f"the estimate is {float(bits.mean()):.2f} bits a dimension, which no model of pictures can reach: "
            "this network knows too little of low noise for a likelihood"
        )
