"""Networks that keep a contract, one architecture a file."""

from limner.models.dit import DiT, DiTConfig
from limner.models.preconditioning import PRECONDITIONINGS, Preconditioned, PreconditionedFlowMap, Row
from limner.models.unet import UNet, UNetConfig

NetConfig = UNetConfig | DiTConfig
"""The shapes of all raw networks; ``fitted`` to pictures, they ``build`` one."""

__all__ = [
    "PRECONDITIONINGS",
    "DiT",
    "DiTConfig",
    "NetConfig",
    "Preconditioned",
    "PreconditionedFlowMap",
    "Row",
    "UNet",
    "UNetConfig",
]
