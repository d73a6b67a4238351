"""Networks cut up over processes (FSDP2), for denoisers that outgrow one device.

Every process holds some rows of each weight, and of its gradient, average and optimiser state. Before a part of the
network computes, its weights are put together, and dropped again afterwards; gradients are summed to where their rows
are held.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limner.contracts import Denoiser
from limner.distributed import World
from limner.errors import UserError
from limner.objectives import Denoising, Objective
from limner.shards import is_sharded, local
from limner.training.ema import EMA


def shard(objective: Objective, averages: Sequence[EMA], world: World) -> None:
    """Cut up an objective's denoisers and their averages, in place, and put everything on the process's device.

    Raises:
        UserError: as for :func:`refuse_whole`.
    """
    refuse_whole(objective)
    for root in (objective, *(average.modules for average in averages)):
        for module in root.children():
            if isinstance(module, Denoiser):
                _cut_up(module, world)
        for tensor in (*root.parameters(), *root.buffers()):
            if not is_sharded(tensor):  # the others are where they belong
                tensor.data = tensor.data.to(world.device)
    for average in averages:
        average.aim()


def refuse_whole(objective: Objective) -> None:
    """Raises a UserError if what is taught needs its networks whole, or torch is too old to cut them up."""
    if not isinstance(objective, Denoising):
        raise UserError(f"--training.shard full is for denoisers; {type(objective).__name__} needs its networks whole")
    from torch.distributed.fsdp import FSDPModule

    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise UserError(f"--training.shard full needs a newer torch than {torch.__version__}; 2.13 is known to do")


def _cut_up(denoiser: Denoiser, world: World) -> None:
    """What is taken apart is each network inside a denoiser, whose calls take and return plain tensors; of these, every
    element of a list of modules is put together on its own."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    # Torch fears for changes in place of what a network returns, which nobody here makes.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(world.device.type, (world.size,))
    for network in denoiser.children():
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        blocks = [one for m in network.modules() if isinstance(m, nn.ModuleList) for one in m]
        for part in (*reversed(blocks), network):
            if any(True for _ in part.parameters()):
                fully_shard(part, mesh=mesh, reshard_after_forward=True)
    for module in denoiser.modules():
        if isinstance(module, FSDPModule):
            # Losses are weighted by the whole batch, so that gradients add up, as they do without sharding.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def held(gradients: Sequence[Tensor]) -> list[Tensor]:
    """The rows that this process holds of the gradients that are sharded."""
    return [local(gradient) for gradient in gradients if is_sharded(gradient)]


def squares(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    """The sum of all squares, (), in the kind of number of ``like``."""
    if not tensors:
        return torch.zeros((), dtype=like.dtype, device=like.device)
    return torch.stack(torch._foreach_norm(list(tensors))).square().sum().to(like.dtype)


def clipped(gradients: Sequence[Tensor], square: Tensor, clip: float) -> Tensor:
    """The norm of gradients some of which are sharded, which are then scaled down to a norm of ``clip``, unless that
    is 0. ``square`` is the sum of the sharded ones' squares over all processes."""
    norm = (square + squares([one for one in gradients if not is_sharded(one)], square)).sqrt()
    if clip:
        torch._foreach_mul_([local(one) for one in gradients], (clip / (norm + 1e-6)).clamp(max=1.0))
    return norm
