"""What scores pictures, and what its networks share with the generators that they judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from limner.contracts import Condition
from limner.errors import UserError, power_of_two, within
from limner.models.folding import LARGEST_FOLD, SMALLEST


@dataclass(frozen=True)
class PairConfig:
    """What the shapes of all pairs of networks say.

    Attributes:
        code: numbers in a code.
        width: channels of the largest maps; they double with each halving.
        most: channels of any map, at most.
    """

    code: int = 128
    width: int = 32
    most: int = 512

    def __post_init__(self) -> None:
        within("net.code", self.code, 1, 8192)
        within("net.width", self.width, 1, 4096)
        within("net.most", self.most, 1, 16384)


@dataclass(frozen=True)
class FoldedPairConfig(PairConfig):
    """Of networks that spend little on maps the size of pictures.

    Attributes:
        unshuffle: critics see pictures folded into maps of 1 / unshuffle the size, and generators have few channels
            and one convolution in larger maps; 1 is as published, and several times slower; a power of two; 0 fits it
            to the pictures, so that the longer side of those maps is 12 to 23.
    """

    unshuffle: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        within("net.unshuffle", self.unshuffle, 0, LARGEST_FOLD)
        power_of_two("net.unshuffle", self.unshuffle)


class Critic(nn.Module):
    """Tells real pictures from made ones."""

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        """Scores of pictures x (N, C, H, W), higher the more real they seem: (N,), or (N, P) of parts of each."""
        raise NotImplementedError


Wrap = Callable[[nn.Module], nn.Module]
"""What is done to every layer that has weights, such as a spectral norm."""


def plain(module: nn.Module) -> nn.Module:
    """Nothing."""
    return module


class Projection(nn.Module):
    """Scores features, and by how much they suit a class where there are classes (Miyato and Koyama 2018, equation 3).

    Args:
        features: of a picture.
        classes: number of labels; 0 scores pictures alone.
        wrap: of both layers.
    """

    def __init__(self, features: int, classes: int, wrap: Wrap = plain) -> None:
        super().__init__()
        # No bias: in games of differences it has no slope, and would drift.
        self.score = wrap(nn.Linear(features, 1, bias=False))
        self.classes: nn.Module | None = None
        if classes:
            embedding = nn.Embedding(classes, features)
            nn.init.normal_(embedding.weight, 0.0, features**-0.5)
            self.classes = wrap(embedding)

    def forward(self, features: Tensor, cond: Condition) -> Tensor:
        """(N,) from features (N, features)."""
        score: Tensor = self.score(features)[:, 0]
        if self.classes is None or cond.label is None:
            return score
        suited: Tensor = (self.classes(cond.label) * features).sum(1)
        return score + suited


def halvings(size: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of maps from a picture's down to at most 7 on the longer side, each half of the one before,
    rounded up.

    Raises:
        UserError: the picture itself is as small as that.
    """
    if max(size) <= SMALLEST:
        raise UserError(
            f"the pictures are {size[1]}x{size[0]}; these networks halve them at least once, from a longer side of "
            f"{SMALLEST + 1} pixels on: enlarge them with --data.size, or train flow"
        )
    sizes = [size]
    while max(sizes[-1]) > SMALLEST:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def doubled(width: int, most: int, levels: int) -> list[int]:
    """Channels of maps from the largest to the smallest: twice as many with each halving, and at most ``most``."""
    return [min(most, width * 2**level) for level in range(levels)]
