"""How an autoregressive model draws: site by site, by inverse CDF of keyed uniforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from limner import random
from limner.contracts import Autoregressor, Condition, ExtendConfig, Model
from limner.distributions import Categorical, Distribution
from limner.errors import UserError
from limner.sampling.keeping import Kept, kept_by
from limner.writing import latents_of, written_spec

Change = Callable[[Tensor], Tensor]


def checked(model: Model, config: ExtendConfig, guide: Model | None) -> None:
    """Raises a UserError where another model is to guide this one, or its pictures are to have another size, or it is
    to be guided by what it does not know."""
    assert isinstance(model.net, Autoregressor)
    if guide is not None:
        raise UserError("a model that guides is for models that refine noise; leave --guide out")
    if sum(model.net.sites) != written_spec(model.codec, model.spec).values:
        raise UserError("this model writes pictures of one size; leave --size out")
    if config.guidance != 1 and not model.labels and model.text is None:
        raise UserError("this model was trained without labels, so that there is nothing to guide to; leave it out")
    if config.guidance != 1 and not model.unconditional:
        told = "class" if model.text is None else "text"
        raise UserError(
            f"this model was always told the {told}, and guidance needs what it draws without one: give a guidance of "
            "1 (to limner train: --sampling.guidance 1), or train with --objective.label-dropout 0.1"
        )


def extended(
    model: Model, cond: Condition, samples: Tensor, config: ExtendConfig, *, seed: int, guide: Model | None
) -> Tensor:
    """What the codec decodes (N, C, H, W) of the samples of the given global indices."""
    net = guided(model, config)
    return latents_of(written(net, cond, samples, config, seed=seed), model.codec, model.spec)


def kept(model: Model, cond: Condition, config: ExtendConfig) -> Kept:
    """What is kept of pictures while they are written."""
    return kept_by(guided(model, config), cond)


def guided(model: Model, config: ExtendConfig) -> Autoregressor:
    """The network as it writes."""
    assert isinstance(model.net, Autoregressor)
    return model.net if config.guidance == 1 else Guided(model.net, config.guidance)


@dataclass(frozen=True)
class Known:
    """Pictures of which a part is known.

    Attributes:
        values: (M, T) of M pictures; N = M x ``ways`` are written, those of a picture one after the other.
        fresh: (T,) bool, which values are written anew; those of a site that know of each other are so together.
        ways: in which each picture is completed.
    """

    values: Tensor
    fresh: Tensor
    ways: int


def written(
    net: Autoregressor,
    cond: Condition,
    samples: Tensor,
    config: ExtendConfig,
    *,
    seed: int,
    known: Known | None = None,
) -> Tensor:
    """What is written, (N, T), of samples: a function of (seed, sample, condition, settings), and of what is known."""
    known = known or Known(samples.new_zeros(len(samples), sum(net.sites)), samples.new_ones(sum(net.sites)).bool(), 1)
    change, values = _change(config), known.values.repeat_interleave(known.ways, dim=0)
    ends = [*accumulate(net.sites)]
    sites = [slice(end - length, end) for end, length in zip(ends, net.sites, strict=True)]
    told = known.fresh.tolist()
    fresh = [any(told[site]) for site in sites]
    uniforms = random.uniform(seed, samples, "sites", shape=(ends[-1] + len(sites),))
    begin = fresh.index(True) if True in fresh else len(sites)
    state, said = net.init_state(len(known.values), cond.index(slice(None, None, known.ways)))
    for site in sites[:begin]:  # what is known of all ways is written once
        if site.stop < ends[-1]:
            state, said = net.step(known.values[:, site], state)
    if known.ways > 1:
        every = torch.arange(len(known.values), device=samples.device).repeat_interleave(known.ways)
        state, said = state.index(every), said.index(every)
    for number in range(begin, len(sites)):
        site = sites[number]
        if fresh[number]:
            given = changed(said, change) if change else said
            drawn = given.draw(uniforms[:, site.start + number : site.stop + number + 1])
            values[:, site] = torch.where(known.fresh[site], drawn, values[:, site])
        if number + 1 < len(sites):
            state, said = net.step(values[:, site], state)
    return values


@dataclass
class _Both:
    """What is kept of n pictures with their condition, and then of the same without."""

    state: Any
    n: int

    def index(self, which: Tensor) -> _Both:
        return _Both(self.state.index(torch.cat([which, which + self.n])), len(which))


class Guided(Autoregressor):
    """Classifier-free guidance of logits, free + w (conditional - free), each value's given those before it.

    Args:
        net: knows the null label.
        w: 1 is off.
    """

    def __init__(self, net: Autoregressor, w: float) -> None:
        super().__init__()
        self.net, self.w = net, w

    @property
    def sites(self) -> tuple[int, ...]:
        return self.net.sites

    def init_state(self, n: int, cond: Condition) -> tuple[_Both, Distribution]:
        state, said = self.net.init_state(2 * n, Condition.cat([cond, cond.dropped()]))
        return _Both(state, n), self._between(said, n)

    def step(self, value: Tensor, state: _Both) -> tuple[_Both, Distribution]:
        kept, said = self.net.step(torch.cat([value, value]), state.state)
        return _Both(kept, state.n), self._between(said, state.n)

    def _between(self, said: Distribution, n: int) -> Distribution:
        return _Between(said.index(slice(0, n)), said.index(slice(n, 2 * n)), self.w)


class _Between(Distribution):
    def __init__(self, cond: Distribution, free: Distribution, w: float) -> None:
        self.cond, self.free, self.w, self.values = cond, free, w, cond.values

    def index(self, which: Tensor | slice) -> _Between:
        return _Between(self.cond.index(which), self.free.index(which), self.w)

    def logits(self, before: Tensor) -> Tensor:
        cond, free = (torch.log_softmax(one.logits(before), dim=-1) for one in (self.cond, self.free))
        return torch.lerp(free, cond, self.w)


class _Changed(Distribution):
    def __init__(self, said: Distribution, change: Change) -> None:
        self.said, self.change, self.values = said, change, said.values

    def index(self, which: Tensor | slice) -> _Changed:
        return _Changed(self.said.index(which), self.change)

    def logits(self, before: Tensor) -> Tensor:
        return self.change(self.said.logits(before))


def changed(said: Distribution, change: Change) -> Distribution:
    """With every value's logits changed."""
    return Categorical(change(said.said)) if isinstance(said, Categorical) else _Changed(said, change)


def _change(config: ExtendConfig) -> Change | None:
    if config.temperature == 1 and not config.top_k and config.top_p == 1:
        return None

    def change(logits: Tensor) -> Tensor:
        return top_p(top_k(logits / config.temperature, config.top_k), config.top_p)

    return change


def top_k(logits: Tensor, k: int) -> Tensor:
    """Only the k likeliest values, and those as likely as the last of them; 0 leaves all."""
    if not 0 < k < logits.shape[-1]:
        return logits
    least = logits.topk(k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Only the likeliest values that hold a share p together (Holtzman et al. 2020); 1 leaves all."""
    if p >= 1:
        return logits
    ordered, places = logits.sort(dim=-1, descending=True, stable=True)
    share = torch.softmax(ordered, dim=-1)
    beyond = share.cumsum(-1) - share >= p  # never the first
    return logits.masked_fill(beyond.gather(-1, places.argsort(dim=-1)), -torch.inf)
