"""``wavelets``: what a picture holds in every band of frequency, with no weights and no download.

Two views of one Haar wavelet-packet transform of level 4 (256 bands):

* *packets* for the Fréchet distance: the signed coefficients, grouped by band. The distance is the mean over bands, as
  in the Fréchet Wavelet Distance (Veeramacheneni, Wolter, Kuehne and Gall, ICLR 2025, arXiv:2312.15289, section 3),
  with its scale: pixels in [0, 1], Haar, level 4, no logarithm.
* *features* for distances between single pictures (KID, precision, recall, density, coverage): the logarithm of each
  band's energy, a channel at a time, beside an 8×8 thumbnail. The raw coefficients would not do: Haar's transform is
  orthonormal, so distances between them are distances between pixels, and a blurred picture lies *nearer* to real
  ones than they lie to each other (``benchmarks/orientation.py`` shows both). Octaves weigh alike: 192 of the 256
  bands are of the finest one, and unweighted a single busy picture would reach around all the noisy ones.

Neither view knows what a picture means.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.features.extractor import Extractor, Images, as_tensor
from limner.features.weights import fingerprint

LEVEL = 4
BANDS = 4**LEVEL
THUMBNAIL = 8
#: Root mean square coefficient below which a band counts as empty: about 13 grey levels of one pixel.
FLOOR = 0.05
LARGEST = 128
#: How many bands each octave counts for; its own are 192, 48, 12, 3, and 1 for what is coarser.
OCTAVE = 40

_DEFINITION = (
    f"haar level {LEVEL}; log mean square + {FLOOR}^2; thumbnail {THUMBNAIL}; octaves {OCTAVE}; "
    f"longest side {LARGEST}; v2"
)

_LIMITS = (
    "wavelets see colour, shape and texture, and not what a picture means: on real pictures that were spoilt on "
    "purpose, their recall hardly fell when most classes of CIFAR-10 or Fashion-MNIST were missing, and precision and "
    "coverage sometimes overlooked faint noise and blur; their Fréchet distance answered to all of these"
)


def packets(x: Tensor, level: int = LEVEL) -> Tensor:
    """Orthonormal Haar packets in natural order: (N, C, H, W) to (N, C, 4**level, H / 2**level, W / 2**level)."""
    h = x[:, :, None]
    for _ in range(level):
        a, b = h[..., 0::2, 0::2], h[..., 0::2, 1::2]
        c, d = h[..., 1::2, 0::2], h[..., 1::2, 1::2]
        split = (a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d)
        h = torch.stack(split, dim=3).flatten(2, 3).div_(2.0)
    return h


def octave_weights() -> Tensor:
    """(256,): the factor of each band, in natural order, that makes octaves weigh alike in squared distances."""
    digits = torch.arange(BANDS)[:, None] // 4 ** torch.arange(LEVEL - 1, -1, -1) % 4
    # The octave is that of the first split that went to a detail; the all-coarse band is an octave of its own.
    split = torch.cat([digits, torch.ones(BANDS, 1, dtype=digits.dtype)], dim=1) > 0
    octave = split.long().argmax(dim=1)
    return (OCTAVE / octave.bincount()[octave]).sqrt()


def prepared_size(height: int, width: int) -> tuple[int, int]:
    """The size at which a picture is seen, before it is padded: its own, unless a side is longer than 128."""
    longest = max(height, width)
    if longest <= LARGEST:
        return height, width
    return max(1, round(height * LARGEST / longest)), max(1, round(width * LARGEST / longest))


def _padding(height: int, width: int) -> tuple[int, int, int, int]:
    tall, wide = -height % 2**LEVEL, -width % 2**LEVEL
    return wide // 2, wide - wide // 2, tall // 2, tall - tall // 2


def load(shape: tuple[int, int, int], device: torch.device) -> Extractor:
    """The extractor ``wavelets`` for pictures (H, W, C), C = 1, 3 or 4.

    Pictures above 128 pixels are reduced, antialiased, at their aspect ratio (finer detail is not judged); sides are
    padded with their edge to multiples of 16. Colours of RGBA are multiplied by alpha: the unseen
    does not count.
    """
    height, width, channels = shape
    size = prepared_size(height, width)
    padding = _padding(*size)
    weights = octave_weights().to(device)

    def prepare(images: Images) -> Tensor:
        x = as_tensor(images, device)
        if channels == 4:
            x = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], dim=1)
        if size != (height, width):
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
        return F.pad(x, padding, mode="replicate") if any(padding) else x

    def groups(images: Images) -> Tensor:
        return packets(prepare(images)).transpose(1, 2).flatten(2)

    def features(images: Images) -> Tensor:
        x = prepare(images)
        energy = packets(x).square_().mean(dim=(3, 4))
        thumbnail = F.adaptive_avg_pool2d(x, THUMBNAIL)
        return torch.cat([thumbnail.flatten(1), energy.add_(FLOOR**2).log_().mul_(weights).flatten(1)], dim=1)

    resizer = "none" if size == (height, width) else f"bilinear antialiased {size[0]}x{size[1]}"
    if any(padding):
        resizer += f", edge padded to {size[0] + padding[2] + padding[3]}x{size[1] + padding[0] + padding[1]}"
    return Extractor(
        name="wavelets",
        dim=channels * (THUMBNAIL**2 + BANDS),
        fingerprint=fingerprint(_DEFINITION),
        resizer=resizer,
        channels=(1, 3, 4),
        forward=features,
        shape=shape,
        packets=groups,
        limits=_LIMITS,
    )
