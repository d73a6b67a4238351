"""The codec of models that work on pixels."""

from __future__ import annotations

from torch import Tensor

from limner.contracts import Codec, ImageSpec


class Identity(Codec):
    """Pictures are what the model sees."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z

    def latent_spec(self, spec: ImageSpec) -> ImageSpec:
        return spec
