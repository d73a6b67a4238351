"""Colours that are the means of the pixels nearest to them: k-means as a descent (Bottou and Bengio 1995)."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.distributed import gathered
from limner.models import Palette
from limner.models.layers import Together
from limner.objectives.objective import Batch, Context, Losses, Objective, Update
from limner.objectives.optimizers import OptimizerConfig, Optimizers

#: How much of the past a batch leaves in the counts; the share of the mean count below which a colour is idle; and the
#: share of the training after which idle ones stay where they are, so that averages find them.
_KEPT, _IDLE, _MOVED_UNTIL = 0.9, 0.01, 0.7


class Clustering(Objective, Together):
    """The squared distance of pixels to their nearest colours. One that no pixel is near goes to where pixels are worst
    off.

    Logged: "loss", and "use", the share of colours that stand for pixels.
    """

    ema = ("codec",)

    def __init__(self, palette: Palette, optimizer: OptimizerConfig) -> None:
        super().__init__()
        self.codec, self._optimizer = palette, optimizer

    def optimizers(self) -> Optimizers:
        return self._optimizer.build("codec", self.codec)

    def updates(self) -> list[Update]:
        return [Update("codec", tuple(self.optimizers()), ("codec",), self.distance, after=self.followed)]

    def distance(self, batch: Batch, context: Context) -> Losses:
        """Of a pixel, summed over channels."""
        palette, shared = self.codec, context.shared
        tokens = palette.nearest(batch.images)
        apart = (palette.looked_up(tokens) - batch.images).square().sum(1)
        numbers = tokens.flatten()
        counts = torch.zeros_like(palette.counts).index_add_(
            0, numbers, torch.ones_like(numbers, dtype=palette.counts.dtype)
        )
        shared["counts"] = shared["counts"] + counts if "counts" in shared else counts
        # Of the first micro-batch: the pixels that are farthest from their colours, in the same order everywhere.
        values, places = apart.detach().flatten().sort(descending=True, stable=True)
        rows = batch.images.movedim(1, -1).flatten(0, -2)[places[: palette.tokens]]
        shared.setdefault("worst", torch.cat([values[: palette.tokens, None], rows], dim=1))
        used = (palette.counts > _IDLE * palette.counts.mean()).to(apart.dtype).mean()
        return {"loss": apart.mean(), "use": used}

    @torch.no_grad()
    def followed(self, context: Context, told: Losses) -> None:
        palette = self.codec
        counts = self.world.add_up(context.shared["counts"].clone())
        worst = gathered(context.shared["worst"], self.world)
        sound = told["loss"].isfinite() & worst.isfinite().all()
        new = palette.counts.lerp(counts, 1 - _KEPT)
        palette.counts.copy_(torch.where(sound, new, palette.counts))
        if context.progress >= _MOVED_UNTIL:
            return
        idle = (palette.counts < _IDLE * palette.counts.mean()) & sound
        order = worst[:, 0].argsort(descending=True, stable=True)[: palette.tokens]
        places = (idle.cumsum(0) - 1).clamp_min(0)  # each idle one's turn among them
        idle = idle & (places < len(order))
        fresh: Tensor = worst[order[places.clamp_max(len(order) - 1)], 1:].to(palette.colours.dtype)
        palette.colours.copy_(torch.where(idle[:, None], fresh, palette.colours))
        palette.counts.copy_(torch.where(idle, palette.counts.mean(), palette.counts))
