"""Whether numbers are finite, decided where they are: nothing waits for the device to find out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

#: What is said of an iteration: all is finite, a step was skipped, the weights themselves are not finite.
SOUND, SKIPPED, POISONED = 0, 1, 2
#: So many iterations later a device has surely told, and asking costs nothing.
_LAG = 2
#: Tensors of at most so many values are looked at together.
_SMALL = 2**15
#: Verdicts that nobody asks for are kept no longer than this.
_KEPT = 1000


def finite(tensors: Iterable[Tensor]) -> Tensor:
    """Whether all values of floating-point tensors of one device are finite, as a tensor () of that device.

    It looks at sums, so that values whose sum overflows count as not finite.
    """
    kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.numel():
            small, large = kinds.setdefault(tensor.dtype, ([], []))
            (small if tensor.numel() <= _SMALL else large).append(tensor)
    sums = []
    for small, large in kinds.values():
        # To look at a hundred small tensors takes longer than to copy them into one and look at that.
        together = [torch.cat([one.flatten() for one in small])] if small else []
        sums.append(torch.stack([one.sum() for one in (*together, *large)]).sum())
    return torch.stack([one.isfinite() for one in sums]).all() if sums else torch.tensor(True)


def flat(tensor: Tensor) -> Tensor:
    """The same values in the order of memory, (N,), a view where they lie without gaps."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(-1)


def step_if(sound: Tensor, optimizer: torch.optim.Optimizer, *, wait: bool = False) -> None:
    """Take the optimiser's step where ``sound`` (), a bool on the device, is true, and change nothing otherwise.

    Optimisers that take ``found_inf`` (torch's fused ones, as for its gradient scaler, and Muon) decide on the device.
    For others it waits, and so it does if asked to, and on a CPU, which has nothing to wait for.
    """
    if wait or sound.device.type == "cpu" or not getattr(optimizer, "_step_supports_amp_scaling", False):
        if bool(sound):
            optimizer.step()
        return
    decide_on_device(sound, optimizer)


def decide_on_device(sound: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """The half of :func:`step_if` that never waits."""
    optimizer.found_inf = (~sound).float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


class Verdicts:
    """What is said of the last iterations, :data:`SOUND`, :data:`SKIPPED` or :data:`POISONED`.

    Attributes:
        lag: a verdict is told so many iterations late, the same number in every run on such a device.
    """

    def __init__(self, device: torch.device) -> None:
        self.lag = 0 if device.type == "cpu" else _LAG
        self._pending: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque(maxlen=_KEPT)

    def note(self, iteration: int, skipped: Tensor, poisoned: Tensor) -> None:
        """``skipped`` and ``poisoned`` are tensors () bool of one device."""
        verdict = torch.where(poisoned, POISONED, torch.where(skipped, SKIPPED, SOUND))
        if verdict.device.type != "cuda":
            self._pending.append((iteration, verdict, None))
            return
        host = torch.empty((), dtype=verdict.dtype, pin_memory=True)
        host.copy_(verdict, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending.append((iteration, host, event))

    def told(self, before: int) -> Iterator[tuple[int, int]]:
        """(iteration, verdict) of the iterations below ``before`` that have not been told yet."""
        while self._pending and self._pending[0][0] < before:
            iteration, verdict, event = self._pending.popleft()
            if event is not None:
                event.synchronize()
            yield iteration, int(verdict)

    def forget(self) -> None:
        self._pending.clear()
