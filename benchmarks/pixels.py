"""Pictures as benchmarks have them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def eight_bit(images: npt.NDArray[np.uint8 | np.uint16]) -> npt.NDArray[np.uint8]:
    """The same pictures, known to have 8 bits a value."""
    if images.dtype != np.uint8:
        raise SystemExit("this benchmark takes pictures of 8 bits a value")
    return np.asarray(images, np.uint8)
