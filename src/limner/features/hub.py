"""``dinov2`` and ``clip``: vision transformers, loaded by the package ``transformers`` (extra ``hub``) from a folder
that it saved or by a name on its hub. Weights are safetensors; no code from the hub is run.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from limner.errors import UserError
from limner.features.extractor import AS_RGB, Extractor, Images, as_rgb
from limner.features.weights import digest
from limner.files import expanded

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
#: What is loaded where nothing is named: ViT-L/14, which FD-DINOv2 takes (Stein et al. 2023), and CLIP of that size.
DINOV2, CLIP = "facebook/dinov2-large", "openai/clip-vit-large-patch14"
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
#: Parts of a checkpoint that pictures do not need: CLIP's other half, a classifier on top.
_UNNEEDED = ("text_model.", "text_projection.", "logit_scale", "classifier.", "vision_model.embeddings.position_ids")
_MOST_SIDE = 2048


Scale = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of each colour, of pictures in [0, 1]."""


@dataclass(frozen=True)
class Eyes:
    """A vision transformer and how pictures reach it.

    Attributes:
        net: takes (N, 3, side, side), :func:`scaled`, as ``pixel_values``.
        side: of the pictures.
        scale: of their colours.
    """

    net: Any
    side: int
    scale: Scale


def dinov2(source: str | None) -> Eyes:
    """DINOv2 (Oquab et al. 2023), on the CPU, of pictures at 224×224."""
    return Eyes(_opened("dinov2", "Dinov2Model", source or DINOV2), 224, _IMAGENET)


def clip(source: str | None) -> Eyes:
    """The image half of CLIP (Radford et al. 2021), on the CPU, of pictures at the model's own size."""
    net = _opened("clip", "CLIPVisionModelWithProjection", source or CLIP)
    side = net.config.image_size
    if not isinstance(side, int) or not 1 <= side <= _MOST_SIDE:
        raise UserError(f"extractor 'clip': {source} has the image size {side}; a whole number up to {_MOST_SIDE}")
    return Eyes(net, side, _CLIP)


def load_dinov2(source: str | None, device: torch.device) -> Extractor:
    """The extractor ``dinov2``: the class token after the last norm."""
    eyes = dinov2(source)
    return _extractor("dinov2", eyes, eyes.net.config.hidden_size, device, lambda seen: seen.last_hidden_state[:, 0])


def load_clip(source: str | None, device: torch.device) -> Extractor:
    """The extractor ``clip``: image embeddings, not normalised."""
    eyes = clip(source)
    return _extractor("clip", eyes, eyes.net.config.projection_dim, device, lambda seen: seen.image_embeds)


def _extractor(name: str, eyes: Eyes, dim: int, device: torch.device, told: Callable[[Any], Tensor]) -> Extractor:
    net, side = eyes.net.to(device), eyes.side

    return Extractor(
        name=name,
        dim=dim,
        fingerprint=digest(net.state_dict()),
        resizer=f"bicubic antialiased {side}x{side}; {AS_RGB}",
        channels=(1, 3, 4),
        forward=lambda images: told(net(pixel_values=scaled(resized(images, side, device), eyes.scale))),
        batch=64,
    )


def scaled(x: Tensor, scale: Scale) -> Tensor:
    """Pictures (N, 3, H, W) in [0, 1] as a network of that scale sees them."""
    mean, std = (torch.tensor(values, device=x.device).reshape(1, 3, 1, 1) for values in scale)
    return (x - mean) / std


def resized(images: Images, side: int, device: torch.device) -> Tensor:
    """Pictures (N, H, W, C) uint8 to (N, 3, side, side) float32 in [0, 1], as Pillow's bicubic filter does it, which
    the published pipelines take: across, then down, with whole numbers in 0 to 255 after each."""
    x = as_rgb(images, device)
    for size in ((x.shape[2], side), (side, side)):
        x = F.interpolate(x, size=size, mode="bicubic", antialias=True).round_().clamp_(0.0, 255.0)
    return x / 255.0


def _opened(extractor: str, kind: str, source: str) -> Any:
    """The model of class ``kind``, float32, ready for use; every weight of it was in the checkpoint."""
    folder = expanded(source)
    local = folder.is_dir()
    if not local and (folder.exists() or not _NAME.fullmatch(source)):
        raise UserError(
            f"no model for extractor '{extractor}' at {source}; give a folder that transformers saved, or a name on "
            f"its hub, such as {DINOV2 if extractor == 'dinov2' else CLIP}"
        )
    transformers = _transformers(extractor)
    where = str(folder) if local else source
    try:
        with _quiet(transformers):
            net, info = getattr(transformers, kind).from_pretrained(
                where, output_loading_info=True, use_safetensors=True, local_files_only=local
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        said = re.split(r"(?<=\.)\s", " ".join(str(error).split()))[0][:300]  # its first sentence
        raise UserError(f"extractor '{extractor}' cannot load {source}: {said or type(error).__name__}") from error
    for what, keys in (
        ("lacks", info["missing_keys"]),
        ("has other shapes for", info["mismatched_keys"]),
        ("has the unknown", [key for key in info["unexpected_keys"] if not key.startswith(_UNNEEDED)]),
    ):
        if keys:
            raise UserError(f"{source} is not a {kind}: it {what} {', '.join(sorted(map(str, keys))[:5])}")
    return net.float().eval().requires_grad_(False)


def _transformers(extractor: str) -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise UserError(f"extractor '{extractor}' needs transformers: pip install 'limner[hub]'") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No bars and no remarks while a model is loaded: what matters of them becomes an error here."""
    log, net = transformers.utils.logging, logging.getLogger("huggingface_hub")
    level, net_level, bars = log.get_verbosity(), net.level, log.is_progress_bar_enabled()
    log.set_verbosity_error()
    net.setLevel(logging.ERROR)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        net.setLevel(net_level)
        if bars:
            log.enable_progress_bar()
