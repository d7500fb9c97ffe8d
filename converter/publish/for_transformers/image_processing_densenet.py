"""What images go through before a DenseNet, for transformers: resize, centre crop, scale to 0..1, normalise.

transformers runs this file from the repository that it is in, where ``trust_remote_code=True`` allows it.  It needs
numpy, Pillow and transformers, reads and writes no files, and reaches no network.  transformers' own processors resize
and crop otherwise, by a pixel or a level of grey; this one gives the pixels of the network's own evaluation.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature


class DenseNetImageProcessor(BaseImageProcessor):  # type: ignore[misc]
    """Images to ``pixel_values``, float32 (N, channels, height, width).

    The fields are those of preprocessor_config.json, as transformers names them.  ``image_mean`` has one number for
    each channel, three of colours (red first), one of grey; ``do_flip_channel_order`` puts blue first at the end, for
    networks that take BGR; without ``antialias`` images are resized as OpenCV's INTER_LINEAR does it.
    """

    model_input_names = ("pixel_values",)

    def __init__(
        self,
        size: dict[str, int] | None = None,
        crop_size: dict[str, int] | None = None,
        image_mean: list[float] | None = None,
        image_std: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        said = {"do_resize": True, "resample": 2, "antialias": True, "do_flip_channel_order": False, **kwargs}
        super().__init__(**said)
        self.do_resize, self.resample, self.antialias = said["do_resize"], said["resample"], said["antialias"]
        self.do_flip_channel_order = said["do_flip_channel_order"]
        self.size = size or {"shortest_edge": 256}
        self.crop_size = crop_size or {"height": 224, "width": 224}
        self.image_mean, self.image_std = image_mean or [0.0, 0.0, 0.0], image_std or [1.0, 1.0, 1.0]

    def preprocess(self, images: Any, return_tensors: Any = None, **_: Any) -> BatchFeature:
        """One image or several: Pillow's, or arrays of bytes (H, W), (H, W, 3) or (3, H, W).

        Raises:
            ValueError: an image has more than 8 bits, or no pixels of the kind.
        """
        single = isinstance(images, Image.Image) or getattr(images, "ndim", 4) < 4
        arrays = [self._array(image) for image in ([images] if single else images)]
        return BatchFeature({"pixel_values": np.stack(arrays)}, tensor_type=return_tensors)

    def _array(self, image: Any) -> NDArray[Any]:
        pixels = np.atleast_3d(self._resized(opened(image).convert("L" if len(self.image_mean) == 1 else "RGB")))
        pixels = cropped(pixels, self.crop_size["height"], self.crop_size["width"])
        mean, std = np.array(self.image_mean, np.float32), np.array(self.image_std, np.float32)
        values = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        if self.do_flip_channel_order:
            values = values[..., ::-1]
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def _resized(self, image: Image.Image) -> NDArray[Any]:
        """Pixels with both edges, or the short one, as asked for; the long one is rounded down."""
        if not self.do_resize:
            return np.asarray(image)
        width, height = image.size
        if "shortest_edge" in self.size:
            edge = self.size["shortest_edge"]
            long = int(edge * max(width, height) / min(width, height))
            wanted = (edge, long) if width <= height else (long, edge)
        else:
            wanted = (self.size["width"], self.size["height"])
        if wanted == image.size:
            return np.asarray(image)
        if self.antialias:
            return np.asarray(image.resize(wanted, self.resample))
        return like_opencv(np.atleast_3d(np.asarray(image)), *wanted)


def opened(image: Any) -> Image.Image:
    """A Pillow image of 8 bits a channel."""
    if not isinstance(image, Image.Image):
        values: NDArray[Any] = np.asarray(image)
        if values.dtype != np.uint8 or values.ndim not in (2, 3):
            raise ValueError(f"an image is Pillow's or bytes (H, W, 3), not {values.dtype} {values.shape}")
        if values.ndim == 3 and values.shape[2] not in (1, 3):
            values = values.transpose(1, 2, 0)
        return Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2:] == (1,) else values))
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"an image of more than 8 bits (mode {image.mode}): scale its values to 0..255 first")
    return image.convert("RGBA") if image.mode == "PA" or "transparency" in image.info else image


def cropped(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The centre of (H, W, C), with black around what is smaller."""
    short = [max(want - have, 0) for want, have in zip((height, width), pixels.shape)]
    pixels = np.pad(pixels, [(n // 2, (n + 1) // 2) for n in short] + [(0, 0)])
    y, x = (round((have - want) / 2) for want, have in zip((height, width), pixels.shape))
    return pixels[y : y + height, x : x + width]


def like_opencv(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """cv2.resize(..., interpolation=INTER_LINEAR) of (H, W, C) bytes: weights are multiples of 1/2048."""

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
    result: NDArray[np.uint8] = ((total + 2) >> 2).clip(0, 255).astype(np.uint8)
    return result
