"""What several networks are made of."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.distributed import ALONE, World, summed

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zeroed(layer: Layer) -> Layer:
    """The same layer with weights of zero: what it adds begins as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def padded(x: Tensor, side: int) -> Tensor:
    """x (N, C, H, W) with its right and lower edge repeated, up to multiples of ``side``."""
    pad = (-x.shape[3] % side, -x.shape[2] % side)
    return F.pad(x, (0, pad[0], 0, pad[1]), mode="replicate") if any(pad) else x


def to_multiple(value: float, of: int) -> int:
    """The nearest positive multiple."""
    return max(of, round(value / of) * of)


def wide(x: Tensor) -> Tensor:
    """x in float32 at least: what is summed over layers, and norms, are not for the narrow types of products."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def narrow(x: Tensor) -> Tensor:
    """x in the type that products of it will be made in: what goes into several of them is cast once."""
    return x.to(narrow_type(x))


def narrow_type(x: Tensor) -> torch.dtype:
    """The type that products of x will be made in."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return x.dtype
    return torch.get_autocast_dtype(kind)


def silu(x: Tensor) -> Tensor:
    """SiLU, in the memory of x itself where no gradient will ask for x: it must be nobody else's."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def scaled(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x * scale + shift, broadcast, where no gradient will ask for x in its memory: it must be nobody else's."""
    return torch.addcmul(shift, x, scale) if torch.is_grad_enabled() else torch.addcmul(shift, x, scale, out=x)


#: So few have nothing from a convolution but its beginning.
_FEW_TOKENS = 128


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Products of each token (N, L, D) or pixel (N, H, W, D) with a weight (out, D).

    On processors, in float32, they are a 1x1 convolution over channels_last maps, which is the same memory: the library
    of convolutions uses all of a processor's vector units, that of products half of them where its maker did not make
    the processor too (1.6 to 2 times as long on an EPYC with AVX-512, docs/report-card.md)."""
    if x.ndim == 4:
        return pointwise(x.flatten(1, 2), weight, bias).reshape(*x.shape[:3], -1)
    few = x.ndim != 3 or x.shape[:2].numel() < _FEW_TOKENS
    if few or x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    # Few long rows, for the gradient of the weights, but 16, below which a single thread is given plain products.
    rows = x.contiguous().view(math.gcd(x.shape[:2].numel(), 16), 1, -1, x.shape[2]).permute(0, 3, 1, 2)
    maps = F.conv2d(rows, weight[:, :, None, None], bias)
    return maps.permute(0, 2, 3, 1).reshape(*x.shape[:2], -1)


class Pointwise(nn.Linear):
    """A linear layer of each token (N, L, D) or pixel (N, H, W, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight, self.bias)


class GroupNorm(nn.GroupNorm):
    """Group norm of what it is given in float32 at least, as autocast has it on GPUs. On processors torch's own of
    bfloat16 takes four times as long, and its gradient for the weights alone, of channels_last maps, breaks the
    process (torch 2.13)."""

    def forward(self, x: Tensor) -> Tensor:
        x = wide(x)
        if x.device.type == "cpu" and not x.requires_grad and torch.is_grad_enabled():
            x = x.contiguous()
        return super().forward(x)


class Together(nn.Module):
    """What looks at a whole batch, of all processes.

    Attributes:
        world: the processes; :func:`limner.models.layers.together` sets it.
    """

    world: World = ALONE


class BatchNorm(nn.BatchNorm2d, Together):
    """Batch norm over the batches of all processes together, as one process would have it."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.world.size == 1:
            return super().forward(x)
        told = torch.stack(
            [x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), torch.full_like(x[0, :, 0, 0], x[:, 0].numel())]
        )
        total, squares, count = summed(told, self.world).unbind()
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        if self.track_running_stats:
            assert self.num_batches_tracked is not None
            assert self.running_mean is not None
            assert self.running_var is not None
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            n = count.detach()
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(variance.detach() * n / (n - 1).clamp_min(1), share)
        scale = (variance + self.eps).rsqrt()
        shift = -mean * scale
        if self.affine:
            scale, shift = scale * self.weight, torch.addcmul(self.bias, shift, self.weight)
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None])


class BatchSpread(Together):
    """How much the pictures of a batch differ, of all processes together (minibatch standard deviation, Karras et al.
    2018, section 3): one map (N, 1, H, W) from (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        count = summed(x.new_full((1,), len(x)), self.world)
        mean = summed(x.sum(0), self.world) / count
        variance = summed((x - mean).square().sum(0), self.world) / count
        return (variance + 1e-8).sqrt().mean().expand(len(x), 1, *x.shape[2:])


def together(module: nn.Module, world: World) -> None:
    """Have all parts of ``module`` that look at a whole batch see that of all processes."""
    for part in module.modules():
        if isinstance(part, Together):
            part.world = world
