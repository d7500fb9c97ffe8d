"""Graphs of one size of image, and what a graph that preprocesses cannot do to an image of another."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from converter.core import bounds
from converter.core.model import Images
from converter.use.assumed import preprocess_for
from densenet.config import DenseNetConfig
from densenet.preprocess import MODES, Preprocess


def fixed_size(shape: Sequence[Any]) -> tuple[int, ...]:
    """Height and width of the images a graph takes, of its input's shape; empty where one of them is free."""
    if len(shape) != 4:
        return ()
    last = shape[3] in MODES and shape[1] not in MODES
    size = tuple(shape[1:3] if last else shape[2:])
    return size if all(isinstance(n, int) and n > 0 for n in size) else ()


def fitting(images: Images, config: DenseNetConfig, size: tuple[int, ...]) -> tuple[Images, tuple[str, ...]]:
    """What is known of images, made to fit a graph that takes this size alone, and a note where that assumes something.

    Raises:
        ConverterError: the network takes no ordinary images.
    """
    steps = preprocess_for(config, images)
    if not size or steps.crop == size:
        return images, ()
    height, width = size
    resize = None if steps.resize is None else round(steps.resize * max(size) / max(steps.crop))
    fitted = replace(steps, resize=resize, crop=(height, width))
    short = f"short edge {resize}, " if resize else ""
    note = (
        f"the file takes images of {height} x {width} alone, and does not say how to make them: {short}centre "
        f"{height} x {width}, mean {list(steps.mean)} and std {list(steps.std)} are assumed"
    )
    return replace(images, preprocess=fitted), (note,)


def check_pixels(name: str, shape: Sequence[int], steps: Preprocess) -> None:
    """Refuse an image (H, W, C) that a graph which preprocesses would cut differently than we do, or blow up.

    Raises:
        ValueError: names it.
    """
    short, long = sorted(shape[:2])
    if steps.resize is None and (shape[0] < steps.crop[0] or shape[1] < steps.crop[1]):
        wanted = f"{steps.crop[1]}x{steps.crop[0]}"
        raise ValueError(f"{name}: {shape[1]}x{shape[0]} is smaller than the {wanted} that the graph takes of it")
    if steps.resize is not None and steps.resize * int(steps.resize * long / short) > bounds.PIXELS:
        raise ValueError(f"{name}: {shape[1]}x{shape[0]} is too elongated to resize its short edge")
