"""What can be done with the codes of a generator: walks between pictures, the code of a picture, directions."""

from limner.latents.directions import along, label_direction, semantic_directions
from limner.latents.inversion import Inverted, invert_pictures
from limner.latents.walks import WALKS, lerp, slerp, walk

__all__ = [
    "WALKS",
    "Inverted",
    "along",
    "invert_pictures",
    "label_direction",
    "lerp",
    "semantic_directions",
    "slerp",
    "walk",
]
