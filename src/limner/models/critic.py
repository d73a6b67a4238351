"""What scores pictures, and what its networks share with the generators that they judge."""

from __future__ import annotations

from torch import Tensor, nn

from limner.contracts import Condition

#: Longest side of the smallest maps that a stack of halvings ends with.
_SMALLEST = 7


class Critic(nn.Module):
    """Tells real pictures from made ones."""

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        """Scores (N,) of pictures x (N, C, H, W): higher the more real they seem."""
        raise NotImplementedError


class Projection(nn.Module):
    """Scores features, and by how much they suit a class where there are classes (Miyato and Koyama 2018, equation 3).

    Args:
        features: of a picture.
        classes: number of labels; 0 scores pictures alone.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1)
        self.classes = nn.Embedding(classes, features) if classes else None
        if self.classes is not None:
            nn.init.normal_(self.classes.weight, 0.0, features**-0.5)

    def forward(self, features: Tensor, cond: Condition) -> Tensor:
        """(N,) from features (N, features)."""
        score: Tensor = self.score(features)[:, 0]
        if self.classes is None or cond.label is None:
            return score
        suited: Tensor = (self.classes(cond.label) * features).sum(1)
        return score + suited


def halvings(size: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of maps from a picture's down to at most 7 on the longer side, each half of the one before,
    rounded up."""
    sizes = [size]
    while max(sizes[-1]) > _SMALLEST:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes
