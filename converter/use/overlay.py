"""A class activation map laid over the image it is of."""

import io
from typing import Any

import numpy as np
from PIL import Image

from converter.core.checkpoint import Array
from densenet.preprocess import Preprocess

LONGEST = 768
"""Pixels of the long edge of a picture; a map has a few dozen places."""
UNSEEN = 0.35
"""How bright the parts of an image are that the network is not shown."""
STRONGEST = 0.7
"""How much of the picture the strongest place hides."""
COLOURS = ((0.0, (40, 0, 90)), (0.35, (190, 30, 110)), (0.7, (250, 130, 20)), (1.0, (255, 245, 90)))
"""From weak to strong: darker to brighter too, for whoever sees no colours."""


def overlay(image: Image.Image, heat: Array, steps: Preprocess) -> bytes:
    """An image with a map of what the network was shown of it, as a PNG; the rest is dimmed.

    Args:
        image: as it is before it is resized.
        heat: (h, w) from 0 to 1.
        steps: how it was resized and cropped.
    """
    left, top, right, bottom = shown_part(image.size, steps)
    scale = min(1.0, LONGEST / max(image.size))
    width, height = (max(1, round(n * scale)) for n in image.size)
    picture = np.asarray(image.convert("RGB").resize((width, height)), np.float32)
    x0, y0, x1, y1 = (round(n * scale) for n in (left, top, right, bottom))
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    # What of the picture the network saw, and what of that is inside it: a small image was given a black border.
    part = (max(x0, 0), max(y0, 0), min(x1, width), min(y1, height))
    spread = Image.fromarray(heat.astype(np.float32)).resize(
        (part[2] - part[0], part[3] - part[1]), Image.Resampling.BILINEAR, inside(heat, (x0, y0, x1, y1), part)
    )
    values = np.asarray(spread)[..., None].clip(0, 1)
    result = picture * UNSEEN
    seen = (slice(part[1], part[3]), slice(part[0], part[2]))
    alpha = values * STRONGEST
    result[seen] = picture[seen] * (1 - alpha) + coloured(values[..., 0]) * alpha
    file = io.BytesIO()
    Image.fromarray(result.round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def shown_part(size: tuple[int, int], steps: Preprocess) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what a network is shown of an image, in the image's own pixels.

    They lie outside the image where it is padded.
    """
    height, width = steps.resized(size[1], size[0])
    edges: list[Any] = []
    for have, want, own in ((width, steps.size[1], size[0]), (height, steps.size[0], size[1])):
        start = round((have - want) / 2) if have >= want else -((want - have) // 2)
        edges.append((start * own / have, (start + want) * own / have))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def inside(
    heat: Array, whole: tuple[int, int, int, int], part: tuple[int, int, int, int]
) -> tuple[float, float, float, float]:
    """The part of a map (h, w) that belongs to a part of the rectangle it is spread over."""
    high, wide = heat.shape
    x, y = wide / (whole[2] - whole[0]), high / (whole[3] - whole[1])
    left, top = (part[0] - whole[0]) * x, (part[1] - whole[1]) * y
    return left, top, min((part[2] - whole[0]) * x, wide), min((part[3] - whole[1]) * y, high)


def coloured(values: Array) -> Array:
    """Numbers (h, w) from 0 to 1 as colours (h, w, 3), 0 to 255."""
    at = [place for place, _ in COLOURS]
    channels = [np.interp(values, at, [colour[i] for _, colour in COLOURS]) for i in range(3)]
    result: Array = np.stack(channels, -1).astype(np.float32)
    return result
