"""Image to float32 NCHW, exactly as each source's own evaluation did it.

No torch here.  On 8-bit images the pixels are those of torchvision's and timm's
transforms (torchvision/transforms/functional.py, timm/data/transforms_factory.py) and
of mmpretrain's (mmpretrain/datasets/transforms/processing.py); the tests compare them.

Images are turned as their EXIF orientation says, as mmpretrain (its decoder is OpenCV) and transformers do.
torchvision's and timm's evaluation does not: ``Preprocess.evaluated_upright`` tells which a source's own was.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densenet.depth import Say, silent
from densenet.pixels import ImageSource, decode, name_of
from densenet.preprocess import RESAMPLE, TORCHVISION, Preprocess
from densenet.volumes import load_volume

__all__ = ["ImageSource", "decode", "load", "load_many"]


def load(
    source: ImageSource, preprocess: Preprocess = TORCHVISION, *, upright: bool = True, say: Say = silent
) -> NDArray[np.float32]:
    """One image, ready for a network.

    Args:
        source: a path, a Pillow image, or uint8 pixels of shape (H, W, 3) RGB or (H, W) grey; of volumes see
            :func:`densenet.volumes.load_volume`.
        preprocess: what to do with it.
        upright: whether to turn it as its EXIF orientation says.
        say: is told how it was read, where that was a choice: a line that many images share.

    Returns:
        float32 of shape (1, channels, *preprocess.crop).

    Raises:
        ValueError: the file is missing, no image, damaged, too large, or of values that no rule fits; names the file.
    """
    if preprocess.of_volumes:
        return load_volume(source, preprocess, say)
    image = decode(source, preprocess.channels, window=preprocess.window, upright=upright, say=say)
    pixels = _crop(_resize(image, preprocess, name_of(source)), preprocess.size)
    if preprocess.order == "bgr":
        pixels = pixels[..., ::-1]
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (preprocess.mean, preprocess.std))
    # As planes first: rows are counted with faster than threes.
    values = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)
    values /= np.float32(255)
    values -= mean
    values /= std
    return values[None]


def load_many(
    sources: Sequence[ImageSource], preprocess: Preprocess = TORCHVISION, *, upright: bool = True, say: Say = silent
) -> NDArray[np.float32]:
    """Several images as one batch, float32 of shape (N, channels, *preprocess.crop); see :func:`load`.

    Raises:
        ValueError: as :func:`load`, for the first source that cannot be read; or volumes of several sizes.
    """
    if preprocess.of_volumes:
        return np.concatenate([load(source, preprocess, say=say) for source in sources])
    batch = np.empty((len(sources), preprocess.channels, *preprocess.crop), np.float32)
    for i, source in enumerate(sources):
        batch[i] = load(source, preprocess, upright=upright, say=say)[0]
    return batch


def _resize(image: Image.Image, preprocess: Preprocess, name: str) -> NDArray[np.uint8]:
    """Pixels of shape (H, W, C), the short edge or both as asked for."""
    try:
        height, width = preprocess.resized(image.height, image.width)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if image.size == (width, height):
        pixels = np.asarray(image)
    elif preprocess.antialias:
        pixels = np.asarray(image.resize((width, height), RESAMPLE[preprocess.interpolation]))
    else:
        pixels = _resize_like_opencv(np.atleast_3d(np.asarray(image)), height, width)
    return np.atleast_3d(pixels)


def _resize_like_opencv(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """cv2.resize(..., interpolation=INTER_LINEAR) of (H, W, C) bytes, bit for bit.

    Weights are multiples of 1/2048, and between the two passes low bits are dropped
    (OpenCV, modules/imgproc/src/resize.cpp).
    """

    def axis(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
        at = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
        low = np.floor(at).astype(np.intp)
        part = at - low.astype(np.float32)
        near, far = (np.rint(w * np.float32(2048)).astype(np.int32) for w in (1 - part, part))
        return low.clip(0, old - 1), (low + 1).clip(0, old - 1), near[:, None], far[:, None]

    top, bottom, near_y, far_y = axis(pixels.shape[0], height)
    left, right, near_x, far_x = axis(pixels.shape[1], width)

    def rows(which: NDArray[np.intp]) -> NDArray[np.int32]:
        picked = pixels[which].astype(np.int32)
        return (picked[:, left] * near_x + picked[:, right] * far_x) >> 4

    total = ((rows(top) * near_y[..., None]) >> 16) + ((rows(bottom) * far_y[..., None]) >> 16)
    return ((total + 2) >> 2).clip(0, 255).astype(np.uint8)


def _crop(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Centre crop of (H, W, C), black around where the image is smaller (torchvision's center_crop)."""
    short = [max(want - have, 0) for want, have in zip(size, pixels.shape)]
    if any(short):
        pixels = np.pad(pixels, [(n // 2, (n + 1) // 2) for n in short] + [(0, 0)])
    # round() goes to the even neighbour at .5, as in torchvision.
    y, x = (round((have - want) / 2) for want, have in zip(size, pixels.shape))
    return pixels[y : y + size[0], x : x + size[1]]
