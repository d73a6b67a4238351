"""Linear probes: how well the classes of pictures can be read off what each layer of a model makes of them (Chen et al.
2020, *Generative pretraining from pixels*, sections 2.4 and 4.1).

A model that writes is told no class and sees whole pictures; of each layer, what it makes of them is averaged over all
tokens, and a multinomial logistic regression on that names the class. The same regression on the pixels themselves is
what a layer has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from limner.contracts import Condition, Model
from limner.data import Dataset
from limner.errors import UserError, within
from limner.metrics.choice import choose
from limner.metrics.intervals import wilson
from limner.models.transformer import WritingTransformer
from limner.sampling.draw import as_they_draw
from limner.writing import written_of

#: One of so many pictures is held out, as of real pictures elsewhere; fewest of either kind.
_HELD_SHARE, _FEWEST = 5, 4
#: Values of activations, of all tokens of the pictures that are looked at together, at most.
_TOGETHER = 2**22
#: Of L-BFGS: a slope this small is none, and so many steps are too many.
_SLOPE, _STEPS = 1e-7, 2_000


@dataclass(frozen=True)
class Probe:
    """How well classes are read off some features.

    Attributes:
        name: "layer 3", the input of the block that has three before it; the last is what the head is given. Or
            "pixels".
        accuracy: share of the held-out pictures whose class is named.
        low, high: its 95 % interval (Wilson), of the choice of held-out pictures.
    """

    name: str
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Probed:
    """What :func:`probe` returns.

    Attributes:
        layers: from the first block's input to that of the head.
        pixels: the same of the pixels.
        trained, held: how many pictures the regressions were fitted to, and judged on.
    """

    layers: tuple[Probe, ...]
    pixels: Probe
    trained: int
    held: int

    @property
    def best(self) -> Probe:
        """The first of the best layers; that it was chosen by the same held-out pictures flatters it a little."""
        return max(self.layers, key=lambda one: one.accuracy)


def probe(model: Model, dataset: Dataset, *, n: int | None = None, seed: int = 0, penalty: float = 1e-3) -> Probed:
    """How well every layer's features tell the classes of labelled pictures apart.

    A keyed fifth of the pictures is held out from the regressions. The model may have been trained on any of them;
    their classes, if it was ever told any, are kept from it here.

    Args:
        model: of a transformer that writes, on pixels or tokens: imagegpt, vqgpt, var, dalle.
        dataset: pictures like the model's, with classes, which need not be those of the model.
        n: how many of them, a keyed choice; None takes all.
        seed: of both choices.
        penalty: half of it times the squared weights is added to the mean cross-entropy, of features of mean 0 and
            deviation 1.

    Raises:
        UserError: the model is another one, or the pictures are of another kind, too few, or without classes.
    """
    net = model.net
    if not isinstance(net, WritingTransformer):
        raise UserError("a probe is for transformers that write: imagegpt, vqgpt, var or dalle; this model is none")
    if dataset.spec != model.spec:
        raise UserError(f"the pictures are {_kind(dataset)}; this model knows {_kind(model)}")
    if dataset.label is None or len(dataset.labels) < 2:
        raise UserError("the pictures have no classes to be told apart; put them into folders, one a class")
    within("penalty", penalty, 0, 1e6)
    which = choose(len(dataset), len(dataset) if n is None else n, seed, "probe").numpy()
    held = choose(len(which), len(which) // _HELD_SHARE, seed, "held-out")
    if len(held) < _FEWEST:
        raise UserError(f"a probe needs {_HELD_SHARE * _FEWEST} pictures at least, and there are {len(which)}")
    rest = torch.ones(len(which), dtype=torch.bool).index_fill(0, held, False).nonzero()[:, 0]
    label = torch.from_numpy(dataset.label[which])
    pixels, features = _seen(model, net, dataset.images, which)

    def read(name: str, x: Tensor) -> Probe:
        fitted = fit(x[rest], label[rest], len(dataset.labels), penalty)
        share = float((fitted.scores(x[held]).argmax(1) == label[held]).double().mean())
        return Probe(name, share, *wilson(share, len(held)))

    layers = tuple(read(f"layer {number}", x) for number, x in enumerate(features))
    return Probed(layers, read("pixels", pixels), len(rest), len(held))


def _kind(of: Model | Dataset) -> str:
    spec = of.spec
    return f"{spec.mode} of {spec.size[0]}x{spec.size[1]} and {spec.bits} bits"


@torch.no_grad()
def _seen(
    model: Model, net: WritingTransformer, images: npt.NDArray[np.uint8 | np.uint16], which: npt.NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Pixels (N, P) and every layer's features (L, N, D) of the chosen pictures."""
    device, half = next(net.parameters()).device, (2**model.spec.bits - 1) / 2
    many = max(1, _TOGETHER // (sum(net.sites) * net.dim))
    pixels, features = [], []
    with as_they_draw(net):
        for first in range(0, len(which), many):
            part = images[which[first : first + many]].astype(np.float32)
            x = torch.from_numpy(part).permute(0, 3, 1, 2) / half - 1
            values = written_of(x.to(device), model.codec, model.spec)
            features.append(net.features(values, Condition()).cpu())
            pixels.append(x.flatten(1))
    return torch.cat(pixels), torch.cat(features, dim=1)


@dataclass(frozen=True)
class Regression:
    """Multinomial logistic regression.

    Attributes:
        mean, scale: by which features are brought to mean 0 and deviation 1, (D,) float64.
        weight: (D, K).
        bias: (K,).
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def scores(self, x: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D)."""
        return (x.double() - self.mean) * self.scale @ self.weight + self.bias


def fit(x: Tensor, label: Tensor, classes: int, penalty: float) -> Regression:
    """The regression of least mean cross-entropy and half the penalty times the squared weights, by L-BFGS in float64.

    With a penalty there is one such. A feature that does not vary is not heard.

    Args:
        x: features (N, D).
        label: (N,), below ``classes``.
    """
    x = x.double()
    mean, spread = x.mean(0), x.std(0, correction=0)
    varies = spread > 1e-9 * x.abs().amax(0)
    scale = torch.where(varies, 1 / spread.where(varies, torch.ones_like(spread)), 0.0)
    z = (x - mean) * scale
    weight, bias = z.new_zeros(x.shape[1], classes), z.new_zeros(classes)
    solver = torch.optim.LBFGS(
        [weight.requires_grad_(), bias.requires_grad_()],
        max_iter=_STEPS,
        tolerance_grad=_SLOPE,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        solver.zero_grad()
        with torch.enable_grad():
            value = F.cross_entropy(z @ weight + bias, label) + penalty / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return Regression(mean, scale, weight.detach(), bias.detach())
