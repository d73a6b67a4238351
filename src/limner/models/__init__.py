"""Networks that keep a contract, one architecture a file."""

from limner.models.autoencoder import KLCodec, KLCodecConfig, VQCodec, VQCodecConfig
from limner.models.critic import Critic
from limner.models.dalle import DalleConfig
from limner.models.dcgan import DCGANConfig
from limner.models.dit import DiT, DiTConfig
from limner.models.gpt import GPTConfig
from limner.models.palette import Palette, PaletteConfig
from limner.models.patch_critic import PatchCritic
from limner.models.pixelcnn import PixelCNNConfig
from limner.models.pixelcnn_pp import PixelCNNPPConfig
from limner.models.preconditioning import PRECONDITIONINGS, Preconditioned, PreconditionedFlowMap, Row
from limner.models.r3gan import R3GANConfig
from limner.models.residual_gan import ResidualGANConfig
from limner.models.stylegan2 import StyleGAN2Config
from limner.models.unet import UNet, UNetConfig
from limner.models.vae import VAE, VAEConfig
from limner.models.var import VARConfig

NetConfig = UNetConfig | DiTConfig
"""The shapes of all raw networks; ``fitted`` to pictures, they ``build`` one."""

AdversarialNetConfig = DCGANConfig | ResidualGANConfig | StyleGAN2Config | R3GANConfig
"""The shapes of all pairs of networks, of which each makes a ``generator`` and a ``critic``."""

GeneratorNetConfig = AdversarialNetConfig | VAEConfig
"""The shapes of all generators."""

AutoregressorNetConfig = PixelCNNPPConfig | PixelCNNConfig | GPTConfig | VARConfig | DalleConfig
"""The shapes of all networks that write, of which each makes an ``autoregressor``."""

CodecNetConfig = KLCodecConfig | VQCodecConfig | PaletteConfig
"""The shapes of all codecs that are trained."""

__all__ = [
    "PRECONDITIONINGS",
    "VAE",
    "AdversarialNetConfig",
    "AutoregressorNetConfig",
    "CodecNetConfig",
    "Critic",
    "DCGANConfig",
    "DalleConfig",
    "DiT",
    "DiTConfig",
    "GPTConfig",
    "GeneratorNetConfig",
    "KLCodec",
    "KLCodecConfig",
    "NetConfig",
    "Palette",
    "PaletteConfig",
    "PatchCritic",
    "PixelCNNConfig",
    "PixelCNNPPConfig",
    "Preconditioned",
    "PreconditionedFlowMap",
    "R3GANConfig",
    "ResidualGANConfig",
    "Row",
    "StyleGAN2Config",
    "UNet",
    "UNetConfig",
    "VAEConfig",
    "VARConfig",
    "VQCodec",
    "VQCodecConfig",
]
