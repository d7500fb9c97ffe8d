"""Graphs of one size of image, and what a graph that preprocesses cannot do to an image of another."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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
    resize = steps.resize
    if isinstance(resize, tuple):
        rows, across = (round(edge * now / before) for edge, now, before in zip(resize, size, steps.crop))
        resize = (rows, across)
    elif resize is not None:
        resize = round(resize * max(size) / max(steps.crop))
    fitted = replace(steps, resize=resize, crop=(height, width))
    note = (
        f"the file takes images of {height} x {width} alone, and does not say how to make them: {fitted.sizes}, "
        f"mean {list(steps.mean)} and std {list(steps.std)} are assumed"
    )
    return replace(images, preprocess=fitted), (note,)


def check_pixels(name: str, shape: Sequence[int], steps: Preprocess, fixed: tuple[int, ...] = ()) -> None:
    """Refuse an image (H, W, C) that a graph which preprocesses would cut differently than we do, or blow up.

    Of a graph that takes one size alone (``fixed``), any other.

    Raises:
        ValueError: names it.
    """
    if fixed and tuple(shape[:2]) != fixed:
        raise ValueError(f"{name}: {shape[1]}x{shape[0]}, and the graph takes images of {fixed[1]}x{fixed[0]} alone")
    if steps.resize is None and (shape[0] < steps.crop[0] or shape[1] < steps.crop[1]):
        wanted = f"{steps.crop[1]}x{steps.crop[0]}"
        raise ValueError(f"{name}: {shape[1]}x{shape[0]} is smaller than the {wanted} that the graph takes of it")
    try:
        steps.resized(shape[0], shape[1])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
