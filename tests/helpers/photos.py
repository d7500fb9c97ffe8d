"""Images that have everything a photograph has."""

import numpy as np


def photo(height, width, seed=0):
    """Smooth gradients, edges and noise, as (H, W, 3) bytes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / (7 + 5 * c)) * np.cos(y / (11 - 2 * c)) * 60 + 128 + 40 * (x > width / 3) for c in range(3)]
    return (np.stack(waves, -1) + rng.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)
