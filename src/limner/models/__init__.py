"""Networks that keep a contract, one architecture a file."""

from limner.models.critic import Critic
from limner.models.dcgan import DCGANConfig
from limner.models.dit import DiT, DiTConfig
from limner.models.preconditioning import PRECONDITIONINGS, Preconditioned, PreconditionedFlowMap, Row
from limner.models.unet import UNet, UNetConfig

NetConfig = UNetConfig | DiTConfig
"""The shapes of all raw networks; ``fitted`` to pictures, they ``build`` one."""

AdversarialNetConfig = DCGANConfig
"""The shapes of all pairs of networks, of which each makes a ``generator`` and a ``critic``."""

GeneratorNetConfig = AdversarialNetConfig
"""The shapes of all generators."""

__all__ = [
    "PRECONDITIONINGS",
    "AdversarialNetConfig",
    "Critic",
    "DCGANConfig",
    "DiT",
    "DiTConfig",
    "GeneratorNetConfig",
    "NetConfig",
    "Preconditioned",
    "PreconditionedFlowMap",
    "Row",
    "UNet",
    "UNetConfig",
]
