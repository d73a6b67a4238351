"""What all tools ask of a model's codes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from limner import random
from limner.contracts import Condition, Generator, Model, Noise
from limner.errors import UserError
from limner.sampling.decoding import codes
from limner.sampling.draw import as_they_draw
from limner.sampling.prompts import labels_for

#: Pictures drawn together.
_TOGETHER = 128


def generator_of(model: Model) -> Generator:
    """Its network.

    Raises:
        UserError: it draws in another way.
    """
    if isinstance(model.net, Generator):
        return model.net
    raise UserError("this is for models that decode a code, as GANs and VAEs do; this one does not")


def place_of(model: Model) -> torch.device:
    """Where its weights lie."""
    return next(model.net.parameters()).device


def drawn_codes(model: Model, numbers: list[int], seed: int) -> Tensor:
    """The codes z (N, code) of the pictures of these numbers, as ``sample`` draws them."""
    samples = torch.tensor(numbers, dtype=torch.int64, device=place_of(model))
    return codes(seed, samples, generator_of(model).code)


@torch.no_grad()
def drawn_styles(model: Model, numbers: list[int], label: int | str | None, seed: int) -> Tensor:
    """The codes w (N, K) of the pictures of these numbers, all of one class, without truncation."""
    net = generator_of(model)
    with as_they_draw(net):
        return net.latent(drawn_codes(model, numbers, seed), condition(model, len(numbers), label))


def condition(model: Model, n: int, label: int | str | list[int] | None) -> Condition:
    """One class for n pictures, or one for each: the first if none is named."""
    if model.labels and label is None:
        label = 0
    return labels_for(model, n, label).to(place_of(model))


def same_noise(number: int, seed: int, n: int, device: torch.device) -> Noise:
    """What a code leaves open, as picture ``number`` has it, for n pictures: so that only their codes tell them
    apart."""
    sample = torch.tensor([number], dtype=torch.int64, device=device)

    def noise(name: str, shape: tuple[int, ...]) -> Tensor:
        return random.normal(seed, sample, name, shape=shape).expand(n, *shape)

    return noise


@torch.no_grad()
def synthesized(model: Model, w: Tensor, cond: Condition, number: int, seed: int) -> Tensor:
    """Pictures (N, C, H, W) of codes w (N, ...), with the noise of picture ``number``."""
    net = generator_of(model)
    parts: list[Tensor] = []
    with as_they_draw(net):
        for part in _parts(len(w)):
            noise = same_noise(number, seed, len(w[part]), w.device)
            parts.append(model.codec.decode(net.synthesize(w[part], cond.index(part), noise)))
    return torch.cat(parts)


def _parts(n: int) -> Iterator[slice]:
    return (slice(first, min(first + _TOGETHER, n)) for first in range(0, n, _TOGETHER))
