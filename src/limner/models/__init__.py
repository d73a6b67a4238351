"""Networks that keep a contract, one architecture a file."""

from limner.models.preconditioning import PRECONDITIONINGS, Preconditioned
from limner.models.unet import UNet, UNetConfig

__all__ = ["PRECONDITIONINGS", "Preconditioned", "UNet", "UNetConfig"]
