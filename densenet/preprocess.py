"""What images go through before a network: resize, centre crop, scale, normalise.  No Pillow here, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import floor, isfinite, prod
from numbers import Real
from typing import Any, Literal

from densenet import bounds
from densenet.config import DenseNetConfig

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Order = Literal["rgb", "bgr"]
RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}
"""Pillow's numbers (PIL.Image.Resampling)."""
MODES = {1: "L", 3: "RGB"}
"""Pillow's modes, by number of channels."""

SMALL = 32
"""Pixels of CIFAR's images, and of networks made for them."""
CIFAR10: Mapping[str, Any] = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}
CIFAR100: Mapping[str, Any] = {"mean": (0.5071, 0.4865, 0.4409), "std": (0.2673, 0.2564, 0.2762)}
"""Of the training images, rounded as most code has them."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


@dataclass(frozen=True)
class Preprocess:
    """Resize, centre crop, scale to 0..1, normalise.

    Attributes:
        resize: length in pixels the short edge gets; or height and width, whatever the image's shape
            (torchvision's ``Resize((224, 224))``, Keras' ``target_size``); None to keep the image's size.
        crop: height and width in pixels of the centre crop; a smaller image is padded
            with black on all sides.  Of volumes three lengths, or none: then they keep theirs,
            and nothing resizes them.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``.
        antialias: whether a smaller image averages all the pixels it replaces, as
            Pillow does.  False is OpenCV's ``INTER_LINEAR``, which reads the two nearest
            per axis whatever the scale, and exists for ``bilinear`` only.
        mean, std: per channel, of values scaled to 0..1, in the network's order of channels.
        channels: 3 for RGB, 1 for grey; of volumes any number.
        window: the values that are black and white, of images of more than 8 bits; None as
            the file says, or by the rules of ``densenet.depth``.  Of volumes what becomes 0 and 1;
            None to take values as they are.
        order: ``bgr`` where the network takes blue first, as Caffe's and OpenCV's users do.

    Raises:
        ValueError: a field has a value that cannot be computed with.
    """

    resize: int | tuple[int, int] | None = 256
    crop: tuple[int, ...] = (224, 224)
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: int = 3
    window: tuple[float, float] | None = None
    order: Order = "rgb"

    def __post_init__(self) -> None:
        for name in ("crop", "mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise ValueError(f"{name} must be a list, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        self._check_resize()
        if len(self.crop) not in (0, 2, 3) or not all(map(_is_size, self.crop)):
            raise ValueError(f"crop must be a height and a width in pixels, not {self.crop!r}")
        if prod(self.crop) > (bounds.PIXELS if self.of_volumes else bounds.INPUT):
            raise ValueError(f"crop is too large: {self.crop!r}")
        if self.interpolation not in tuple(RESAMPLE):
            raise ValueError(f"interpolation must be one of {', '.join(RESAMPLE)}, not {self.interpolation!r}")
        if not isinstance(self.antialias, bool):
            raise ValueError(f"antialias must be true or false, not {self.antialias!r}")
        if not self.antialias and self.interpolation != "bilinear":
            raise ValueError("without antialias only bilinear interpolation is defined")
        if self.of_volumes and self.resize is not None:
            raise ValueError(f"resize is for images: volumes are not resized, {self.resize!r} is not None")
        if not _is_size(self.channels) or (self.channels not in MODES and not self.of_volumes):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), not {self.channels!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != self.channels or not all(_is_finite(v) for v in values):
                raise ValueError(f"{name} must be {self.channels} numbers, one per channel, not {values!r}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std!r}")
        self._check_values()

    def _check_resize(self) -> None:
        """A short edge, or both edges, of what can be held in memory."""
        both = tuple(self.resize) if isinstance(self.resize, list | tuple) else None
        if both is not None:
            object.__setattr__(self, "resize", both)
        lengths = both if both is not None else () if self.resize is None else (self.resize,)
        if not all(map(_is_size, lengths)) or (both is not None and len(both) != 2):
            raise ValueError(f"resize must be pixels of the short edge, height and width, or None, not {self.resize!r}")
        edges = [n for n in lengths if isinstance(n, int)]
        if edges and edges[0] * edges[-1] > bounds.PIXELS:
            raise ValueError(f"resize makes more than {bounds.PIXELS} pixels, {self.resize!r}")

    def _check_values(self) -> None:
        """Which values are black and white, and which channel is first."""
        if self.window is not None:
            ends = self.window
            if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(map(_is_finite, ends)):
                raise ValueError(f"window must be the values that are black and white, or None, not {ends!r}")
            if not ends[0] < ends[1]:
                raise ValueError(f"window must be a lower and a higher value, not {ends!r}")
            object.__setattr__(self, "window", tuple(ends))

        if self.order != "rgb" and (self.order != "bgr" or self.channels != 3):
            raise ValueError(f"order must be rgb, or of 3 channels bgr, not {self.order!r}")

    @property
    def of_volumes(self) -> bool:
        """Whether these are steps of volumes, not of images."""
        return len(self.crop) != 2

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of images.

        Raises:
            ValueError: these are steps of volumes.
        """
        if self.of_volumes:
            raise ValueError(f"steps of volumes, of the sizes {self.crop}, for a network of images")
        height, width = self.crop
        return height, width

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image of these after resizing, before the crop; of a long edge rounded down.

        Raises:
            ValueError: that is too large.
        """
        if self.resize is None:
            return height, width
        if isinstance(self.resize, tuple):
            return self.resize
        long = int(self.resize * max(height, width) / min(height, width))
        if self.resize * long > bounds.PIXELS:
            raise ValueError(f"{width}x{height} is too elongated to resize its short edge")
        return (long, self.resize) if width <= height else (self.resize, long)

    @property
    def sizes(self) -> str:
        """What becomes of an image's size, in words, as ``short edge 256, centre 224 x 224``."""
        centre = f"centre {' x '.join(map(str, self.crop))}"
        if isinstance(self.resize, tuple):
            both = f"both edges, to {self.resize[0]} x {self.resize[1]}"
            return both if self.resize == self.crop else f"{both}, {centre}"
        return f"short edge {self.resize}, {centre}" if self.resize else centre

    @property
    def pads(self) -> bool:
        """Whether a resized image may be smaller than the crop."""
        edges = self.resize if isinstance(self.resize, tuple) else (self.resize or 0,) * 2
        return any(edge < length for edge, length in zip(edges, self.size))

    @property
    def evaluated_upright(self) -> bool:
        """Whether the source's own evaluation turned images as their EXIF orientation says.

        OpenCV's reader does, which is who resizes without antialiasing; Pillow's, of torchvision, timm and Keras, does
        not.
        """
        return not self.antialias

    @classmethod
    def usual(cls, config: DenseNetConfig) -> Preprocess:
        """What such a network's images usually go through, where nobody says: ImageNet's, or of a small one CIFAR's.

        Raises:
            ValueError: a network of volumes, or of other channels than a photograph has.
        """
        if config.in_channels not in (1, 3) or config.spatial_dims != 2:
            what = f"{config.in_channels} channels" if config.spatial_dims == 2 else f"{config.spatial_dims} dimensions"
            raise ValueError(f"a network of {what} takes no ordinary images")
        size = config.usual_size
        values: Mapping[str, Any] = {}
        if config.in_channels == 1:
            values = {"channels": 1, "mean": (0.449,), "std": (0.226,)}
        elif size == SMALL:
            values = CIFAR100 if config.num_classes == 100 else CIFAR10
        return cls(resize=256 if size == 224 else size, crop=(size, size), **values)

    @classmethod
    def whole(cls, channels: int) -> Preprocess:
        """Volumes as they are."""
        return cls(None, (), mean=(0.0,) * channels, std=(1.0,) * channels, channels=channels)

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
        """Fields as plain JSON values; window and order, which came later, only where they are not the default."""
        unsaid = {name for name in ("window", "order") if getattr(self, name) == getattr(Preprocess, name)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in plain.items() if k not in unsaid}


def from_timm(pretrained_cfg: Mapping[str, Any]) -> Preprocess:
    """What timm evaluates a model with, from its ``pretrained_cfg`` (or a Hub repository's config.json).

    The arithmetic and the defaults are those of timm/data/config.py and
    timm/data/transforms_factory.py.

    Its names are input_size, crop_pct, crop_mode, interpolation, mean and std.  The mode ``squash`` resizes both edges.

    Raises:
        ValueError: it asks for something else than a centre crop, of a resized short edge a square one, or for
            another interpolation, or is malformed.
    """

    def get(key: str, default: Any) -> Any:
        value = pretrained_cfg.get(key)
        return default if value is None else value

    size, crop_pct, crop_mode = get("input_size", (3, 224, 224)), get("crop_pct", 0.875), get("crop_mode", "center")
    if not isinstance(size, list | tuple) or len(size) != 3 or not all(map(_is_size, size)):
        raise ValueError(f"input_size must be channels, height and width, not {size!r}")
    if not _is_finite(crop_pct) or crop_pct <= 0:
        raise ValueError(f"crop_pct must be a positive number, not {crop_pct!r}")
    if crop_mode not in ("center", "squash"):
        raise ValueError(f"crop_mode {crop_mode!r} is not supported, only 'center' and 'squash'")
    channels, height, width = size
    both = (floor(height / crop_pct), floor(width / crop_pct))
    if height != width and crop_mode == "center":
        raise ValueError(f"input_size {height}x{width} is not supported, only squares")
    return Preprocess(
        resize=both if crop_mode == "squash" else both[0],
        crop=(height, width),
        interpolation=get("interpolation", "bicubic"),
        mean=get("mean", IMAGENET_MEAN),
        std=get("std", IMAGENET_STD),
        channels=channels,
    )


TORCHVISION = Preprocess()
"""torchvision/transforms/_presets.py, ImageClassification(crop_size=224)."""

MMPRETRAIN = Preprocess(antialias=False)
"""mmpretrain configs/_base_/datasets/imagenet_bs64.py: ResizeEdge (OpenCV, bilinear), CenterCrop."""

TIMM = Preprocess(interpolation="bicubic")
"""timm/models/densenet.py, every model: crop_pct 0.875, bicubic."""

LOAD_IMG: Mapping[str, Any] = {"resize": (224, 224), "interpolation": "nearest"}
"""keras/src/utils/image_utils.py, load_img, as keras.io/api/applications calls it: target_size=(224, 224), and its
interpolation's default.  ImageDataGenerator's flow_from_directory has the same default."""

FAMILIES: Mapping[str, Preprocess] = {
    "torchvision": TORCHVISION,
    "timm": TIMM,
    "mmpretrain": MMPRETRAIN,
    "torchxrayvision": Preprocess(resize=224, mean=(0.5,), std=(1 / 2048,), channels=1),
    "cifar10": Preprocess(resize=SMALL, crop=(SMALL, SMALL), **CIFAR10),
    "cifar100": Preprocess(resize=SMALL, crop=(SMALL, SMALL), **CIFAR100),
    "keras-torch": Preprocess(**LOAD_IMG),
    "keras-tf": Preprocess(**LOAD_IMG, mean=(0.5,) * 3, std=(0.5,) * 3),
    "keras-caffe": Preprocess(
        **LOAD_IMG, mean=tuple(n / 255 for n in (103.939, 116.779, 123.68)), std=(1 / 255,) * 3, order="bgr"
    ),
    "unit": Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3),
}
"""Preprocessings by name.

* ``torchxrayvision`` (torchxrayvision/datasets.py, normalize, XRayCenterCrop, XRayResizer): -1024 to 1024.  Its
  resizer changes both edges, but of the square that XRayCenterCrop cut before: the short edge and the centre, up to
  rounding.
* ``keras-torch``, ``keras-tf``, ``keras-caffe``: the modes of keras.applications.imagenet_utils.preprocess_input;
  DenseNet's is torch, but who calls imagenet_utils' own gets caffe.
* ``unit``: 0 to 1 and no more, as behind ToTensor or Rescaling(1/255) alone.
"""


def family(name: str) -> Preprocess:
    """A known preprocessing by its name.

    Raises:
        ValueError: none is called so.
    """
    if name not in FAMILIES:
        raise ValueError(f"no preprocessing is called {name!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[name]
