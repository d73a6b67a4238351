"""The exponential moving average of weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limner.shards import local


def ema_decay(batch: int, seen: int, half_life: float, warm_up: float) -> float:
    """The weight that the average keeps in one step.

    Args:
        batch: images of this step.
        seen: images seen before it.
        half_life: in images.
        warm_up: the half-life is at most this share of the images seen, so that the first weights, which are noise,
            are soon forgotten (Karras et al. 2022 use 0.05).
    """
    return float(0.5 ** (batch / max(min(half_life, warm_up * seen), 1e-6)))


class EMA:
    """Averaged copies of some submodules of ``root``: parameters are averaged, buffers copied.

    Attributes:
        modules: the averaged copies by the names of the originals.
    """

    def __init__(self, root: nn.Module, names: Sequence[str]) -> None:
        originals = {name: root.get_submodule(name) for name in names}
        self.modules = nn.ModuleDict({name: copy.deepcopy(module) for name, module in originals.items()})
        self.modules.requires_grad_(False).eval()
        self._originals = originals
        self.aim()

    def aim(self) -> None:
        """Look up the tensors; call it when parameters were replaced, as sharding does."""
        originals, averages = self._originals.values(), self.modules.values()
        self._source = [local(p) for module in originals for p in module.parameters()]
        self._target = [local(p) for module in averages for p in module.parameters()]
        self._source_buffers = [b for module in originals for b in module.buffers()]
        self._target_buffers = [b for module in averages for b in module.buffers()]

    @torch.no_grad()
    def update(self, decay: float, sound: Tensor) -> None:
        """Take in the weights as they are now, unless ``sound`` (), a bool on their device, is false."""
        source, buffers = self._source, self._source_buffers
        if sound.device.type != "cpu":  # nothing waits for the device: what is not sound is replaced by what was there
            source = [torch.where(sound, new, old) for new, old in zip(source, self._target, strict=True)]
            buffers = [torch.where(sound, new, old) for new, old in zip(buffers, self._target_buffers, strict=True)]
        elif not bool(sound):
            return
        if self._target:
            torch._foreach_lerp_(self._target, source, 1 - decay)
        for target, new in zip(self._target_buffers, buffers, strict=True):
            target.copy_(new)
