"""Image to float32 NCHW, exactly as each source's own evaluation did it.

No torch here.  On 8-bit images the pixels are those of torchvision's and timm's
transforms (torchvision/transforms/functional.py, timm/data/transforms_factory.py) and
of mmpretrain's (mmpretrain/datasets/transforms/processing.py); the tests compare them.

Like torchvision and timm this ignores EXIF orientation.  mmpretrain obeys it (its
decoder is OpenCV); on ImageNet that concerns a handful of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import floor, isfinite
from numbers import Real
from os import fspath
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Interpolation = Literal["bilinear", "bicubic"]
Source = str | Path | Image.Image | NDArray[np.uint8]

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MODES = {1: "L", 3: "RGB"}

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MAX_PIXELS = 178_956_970
"""Of an image after resizing; the figure at which Pillow refuses to decode one (2 * 1024**3 / 4 / 3)."""


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


@dataclass(frozen=True)
class Preprocess:
    """Resize, centre crop, scale to 0..1, normalise.

    Attributes:
        resize: length in pixels the short edge gets, None to keep the image's size.
        crop: height and width in pixels of the centre crop; a smaller image is padded
            with black on all sides.
        interpolation: ``bilinear`` or ``bicubic``.
        antialias: whether a smaller image averages all the pixels it replaces, as
            Pillow does.  False is OpenCV's ``INTER_LINEAR``, which reads the two nearest
            per axis whatever the scale, and exists for ``bilinear`` only.
        mean, std: per channel, of values scaled to 0..1.
        channels: 3 for RGB, 1 for grey.

    Raises:
        ValueError: a field has a value that cannot be computed with.
    """

    resize: int | None = 256
    crop: tuple[int, int] = (224, 224)
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: int = 3

    def __post_init__(self) -> None:
        for name in ("crop", "mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise ValueError(f"{name} must be a list, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        if self.resize is not None and not _is_size(self.resize):
            raise ValueError(f"resize must be a positive number of pixels or None, not {self.resize!r}")
        if len(self.crop) != 2 or not all(map(_is_size, self.crop)):
            raise ValueError(f"crop must be a height and a width in pixels, not {self.crop!r}")
        if self.interpolation not in tuple(FILTERS):
            raise ValueError(f"interpolation must be one of {', '.join(FILTERS)}, not {self.interpolation!r}")
        if not isinstance(self.antialias, bool):
            raise ValueError(f"antialias must be true or false, not {self.antialias!r}")
        if not self.antialias and self.interpolation != "bilinear":
            raise ValueError("without antialias only bilinear interpolation is defined")
        if not _is_size(self.channels) or self.channels not in MODES:
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), not {self.channels!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != self.channels or not all(_is_finite(v) for v in values):
                raise ValueError(f"{name} must be {self.channels} numbers, one per channel, not {values!r}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """The inverse of :meth:`to_dict`; absent fields take their defaults.

        Raises:
            ValueError: an unknown field, or a bad value.
        """
        known = [f.name for f in fields(cls)]
        unknown = set(values) - set(known)
        if unknown:
            raise ValueError(f"unknown field {', '.join(sorted(map(str, unknown)))}; there are {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def imagenet(
    crop: int = 224, resize: int | None = 256, interpolation: Interpolation = "bilinear", antialias: bool = True
) -> Preprocess:
    """A square crop with ImageNet's mean and standard deviation; ``crop`` and ``resize`` in pixels.

    Raises:
        ValueError: see :class:`Preprocess`.
    """
    return Preprocess(resize=resize, crop=(crop, crop), interpolation=interpolation, antialias=antialias)


def from_timm(pretrained_cfg: Mapping[str, Any], *, test_size: bool = False) -> Preprocess:
    """What timm evaluates a model with, from its ``pretrained_cfg`` (or a Hub repository's config.json).

    The arithmetic and the defaults are those of timm/data/config.py and
    timm/data/transforms_factory.py.

    Args:
        pretrained_cfg: timm's own names: input_size, crop_pct, crop_mode, interpolation, mean, std.
        test_size: use test_input_size and test_crop_pct where the model has them
            (timm's ``use_test_size=True``).

    Raises:
        ValueError: it asks for something else than a square centre crop with bilinear or
            bicubic resizing, or is malformed.
    """

    def get(key: str, default: Any) -> Any:
        value = pretrained_cfg.get(f"test_{key}") if test_size else None
        value = pretrained_cfg.get(key) if value is None else value
        return default if value is None else value

    size, crop_pct, crop_mode = get("input_size", (3, 224, 224)), get("crop_pct", 0.875), get("crop_mode", "center")
    if not isinstance(size, list | tuple) or len(size) != 3 or not all(map(_is_size, size)):
        raise ValueError(f"input_size must be channels, height and width, not {size!r}")
    if not _is_finite(crop_pct) or crop_pct <= 0:
        raise ValueError(f"crop_pct must be a positive number, not {crop_pct!r}")
    if crop_mode != "center":
        raise ValueError(f"crop_mode {crop_mode!r} is not supported, only 'center'")
    channels, height, width = size
    if height != width:
        raise ValueError(f"input_size {height}x{width} is not supported, only squares")
    return Preprocess(
        resize=floor(height / crop_pct),
        crop=(height, width),
        interpolation=get("interpolation", "bicubic"),
        mean=get("mean", IMAGENET_MEAN),
        std=get("std", IMAGENET_STD),
        channels=channels,
    )


TORCHVISION = imagenet()
"""torchvision/transforms/_presets.py, ImageClassification(crop_size=224)."""

MMPRETRAIN = imagenet(antialias=False)
"""mmpretrain configs/_base_/datasets/imagenet_bs64.py: ResizeEdge (OpenCV, bilinear), CenterCrop."""

TIMM = imagenet(interpolation="bicubic")
"""timm/models/densenet.py, every model: crop_pct 0.875, bicubic."""

TIMM_288 = imagenet(crop=288, resize=303, interpolation="bicubic")
"""timm/models/densenet.py, test_input_size and test_crop_pct (0.95) of the two ra_in1k models."""

PRESETS: Mapping[str, Preprocess] = {
    "torchvision": TORCHVISION,
    "mmpretrain": MMPRETRAIN,
    "timm": TIMM,
    "timm-288": TIMM_288,
}


def load(source: Source, preprocess: Preprocess = TORCHVISION) -> NDArray[np.float32]:
    """One image, ready for a network.

    Args:
        source: a path, a Pillow image, or uint8 pixels of shape (H, W, 3) RGB or (H, W) grey.
        preprocess: what to do with it.

    Returns:
        float32 of shape (1, channels, *preprocess.crop).

    Raises:
        ValueError: the file is missing, no image, damaged, or too large; names the file.
    """
    pixels = _crop(_resize(_open(source, preprocess.channels), preprocess, _name(source)), preprocess.crop)
    mean, std = np.array(preprocess.mean, np.float32), np.array(preprocess.std, np.float32)
    values = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def load_many(sources: Sequence[Source], preprocess: Preprocess = TORCHVISION) -> NDArray[np.float32]:
    """Several images as one batch, float32 of shape (N, channels, *preprocess.crop); see :func:`load`.

    Raises:
        ValueError: as :func:`load`, for the first source that cannot be read.
    """
    batch = np.empty((len(sources), preprocess.channels, *preprocess.crop), np.float32)
    for i, source in enumerate(sources):
        batch[i] = load(source, preprocess)[0]
    return batch


def _open(source: Source, channels: int) -> Image.Image:
    """The image in mode L or RGB, decoded."""
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3) or source.shape[2:] not in ((), (3,)):
            raise ValueError(f"an array must be uint8 (H, W, 3) or (H, W), not {source.dtype} {source.shape}")
        if not source.size:
            raise ValueError(f"the image has no pixels, its shape is {source.shape}")
        return Image.fromarray(source).convert(MODES[channels])
    name = _name(source)
    try:
        if isinstance(source, Image.Image):
            return source.convert(MODES[channels])
        with Image.open(source) as image:
            return image.convert(MODES[channels])
    except FileNotFoundError:
        raise ValueError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{name}: a folder, not an image") from None
    except PermissionError:
        raise ValueError(f"{name}: no permission to read it") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name}: more pixels than Pillow decodes; make it smaller first") from None
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not an image Pillow can read") from None
    # Pillow's decoders raise whatever a damaged file makes them stumble over: OSError,
    # SyntaxError, struct.error, IndexError ...
    except Exception as error:
        raise ValueError(f"{name}: the image is damaged ({' '.join(str(error).split())})") from error


def _name(source: Source) -> str:
    """How an error calls the source."""
    if isinstance(source, str | Path):
        return fspath(source)
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or "the image"
    return "the array"


def _resize(image: Image.Image, preprocess: Preprocess, name: str) -> NDArray[np.uint8]:
    """Pixels of shape (H, W, C), the short edge as asked for; the long one is rounded down."""
    width, height = image.size
    if preprocess.resize is not None:
        short, long = min(width, height), max(width, height)
        new_long = int(preprocess.resize * long / short)
        if preprocess.resize * new_long > MAX_PIXELS:
            raise ValueError(f"{name}: {width}x{height} is too elongated to resize its short edge")
        width, height = (preprocess.resize, new_long) if width <= height else (new_long, preprocess.resize)
    if image.size == (width, height):
        pixels = np.asarray(image)
    elif preprocess.antialias:
        pixels = np.asarray(image.resize((width, height), FILTERS[preprocess.interpolation]))
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
