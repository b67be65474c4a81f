"""Pictures for tests: plain colours with a little grain, so that models with random weights tell them apart."""

import numpy as np

from providers.runtime import Image


def picture(seed: int, height: int = 256, width: int = 320) -> Image:
    """Its sides are multiples of 32 by default: no model resizes it."""
    random = np.random.default_rng(seed)
    colour = random.integers(0, 240, 3)
    grain = random.integers(0, 16, (height, width, 3))
    picture: Image = (grain + colour).astype(np.uint8)
    return picture
