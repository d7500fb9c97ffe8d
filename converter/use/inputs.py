"""What models are compared on.  Every synthetic batch is determined by its seed and shape."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.exporters.graph import SPACE
from converter.formats.npy import read_array
from densenet.config import DenseNetConfig
from densenet.images import ImageSource, load
from densenet.preprocess import Preprocess

MAX_IMAGES = 8


@dataclass(frozen=True)
class Batch:
    """One input: float32 (N, C, *space), where it comes from, and a seed if it is synthetic.

    ``pixels`` is the same before preprocessing, uint8 (N, H, W, C), for graphs that do that themselves.
    """

    name: str
    array: Array
    kind: str
    seed: int | None = None
    pixels: Array | None = None

    def spec(self) -> dict[str, Any]:
        """What suffices to make a synthetic batch again; of others what they are."""
        return {"name": self.name, "kind": self.kind, "seed": self.seed, "shape": list(self.array.shape)}


def standard(
    config: DenseNetConfig,
    preprocess: Preprocess | None,
    images: Sequence[ImageSource],
    seed: int = 0,
    *,
    size: tuple[int, ...] | None = None,
) -> list[Batch]:
    """The usual inputs of a network: easy ones, extreme ones, awkward ones, and images.

    Args:
        config: the network; the stem decides the base resolution where preprocessing does not.
        preprocess: what real images go through.
        images: real images.
        seed: of the first synthetic batch; the others follow.
        size: the only height and width to use, where a file is fixed to one.
    """
    images_too = config.spatial_dims == 2
    base = size or (base_size(config, preprocess) if images_too else volume_size(config))
    odd = size or awkward_size(config, base)
    wide = size or ((base[0] * 4 // 3, base[1] * 5 // 3) if images_too else base)
    plan: list[tuple[str, int, tuple[int, ...]]] = [
        ("noise", 1, base),
        ("noise", 2, odd),
        ("natural", 3, base),
        ("large", 1, base),
        ("loud", 1, base),
        ("tiny", 1, base),
        ("zeros", 1, base),
        ("constant", 1, base),
        ("unit", 1, wide),
        ("bytes", 1, base),
    ]
    if config.in_channels > 1:
        plan.append(("permuted", 2, base))
    batches = [
        synthetic(kind, (count, config.in_channels, *space), seed + i) for i, (kind, count, space) in enumerate(plan)
    ]
    fits = config.spatial_dims == 2 and size in (None, base_size(config, preprocess))
    if images and fits:
        ordinary = config if config.in_channels in (1, 3) else replace(config, in_channels=3)
        batches.append(real(images[:MAX_IMAGES], preprocess or Preprocess.usual(ordinary), config.in_channels))
    return batches


def base_size(config: DenseNetConfig, preprocess: Preprocess | None) -> tuple[int, int]:
    """Height and width a network is meant for."""
    return preprocess.size if preprocess else (config.usual_size,) * 2


def volume_size(config: DenseNetConfig) -> tuple[int, ...]:
    """Lengths of signals, or of volumes, that leave something after every pooling, and are cheap."""
    least = 32 if config.spatial_dims == 3 else 256
    return (max(least, 2 ** (len(config.block_config) + 1)),) * config.spatial_dims


def awkward_size(config: DenseNetConfig, base: Sequence[int]) -> tuple[int, ...]:
    """A size near ``base`` at which every pooling has a lone last row, so that rounding up would show.

    Before a transition the maps have 2^t (n + 1) - 1 rows, t transitions being still to come;
    the max pooling of an ImageNet stem sees an even number.
    """
    pooled = (
        config.axes(config.stem_pool_stride if config.stem_pool != "blur" else 2)
        if config.stem_halves
        else (1,) * len(base)
    )
    strides = [a * b for a, b in zip(config.axes(config.first_stride), pooled)]
    steps = [n ** (len(config.block_config) - 1) for n in config.axes(config.transition_stride)]
    result = []
    for i, (length, stride, step) in enumerate(zip(base, strides, steps)):
        rows = max(round(length / stride / step) + (1 if i % 2 == 0 else 0), 2) * step - 1
        result.append(max(rows if stride == 1 else stride * rows - 1, 1))
    return tuple(result)


KINDS = ("noise", "natural", "large", "loud", "tiny", "zeros", "constant", "unit", "bytes", "permuted")


def synthetic(kind: str, shape: tuple[int, ...], seed: int) -> Batch:
    """A reproducible batch.

    ``noise`` is white, ``loud``, ``large`` and ``tiny`` the same times 20, 1000 or a thousandth;
    ``natural`` has the 1/f spectrum of photographs, ``permuted`` is one such image and the same
    with its channels reversed, ``unit`` and ``bytes`` are such images from 0 to 1 and to 255, as
    somebody has them who forgets to normalise; ``constant`` is one value per channel, ``zeros``
    no signal at all.

    Raises:
        ConverterError: there is no such kind.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    name = f"{kind} {'x'.join(map(str, shape))}"
    if kind == "zeros":
        array = np.zeros(shape, np.float32)
    elif kind == "constant":
        values = random.standard_normal((*shape[:2], *[1] * (len(shape) - 2)), np.float32)
        array = np.broadcast_to(values, shape).copy()
    elif kind in ("natural", "permuted"):
        count = shape[0] if kind == "natural" else (shape[0] + 1) // 2
        array = pink(random.standard_normal((count, *shape[1:]), np.float32))
        if kind == "permuted":
            array = np.concatenate([array, array[: shape[0] - count, ::-1]])
    elif kind in ("unit", "bytes"):
        array = pink(random.standard_normal(shape, np.float32))
        array = (array - array.min()) / (array.max() - array.min()) * np.float32(255 if kind == "bytes" else 1)
    elif kind in SCALES:
        array = random.standard_normal(shape, np.float32) * np.float32(SCALES[kind])
    else:
        raise ConverterError(f"no synthetic input is called {kind!r}")
    return Batch(name, array, kind, seed)


SCALES = {"noise": 1.0, "loud": 20.0, "large": 1e3, "tiny": 1e-3}


def pink(noise: Array) -> Array:
    """White noise (N, C, *space) with the 1/f spectrum of photographs and unit variance."""
    axes = tuple(range(2, noise.ndim))
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, noise.shape[2:]), indexing="ij")))
    frequency[(0,) * len(axes)] = 1 / max(noise.shape[2:])
    smooth = np.fft.ifftn(np.fft.fftn(noise, axes=axes) / frequency, axes=axes).real
    result: Array = (smooth / smooth.std()).astype(np.float32)
    return result


def arrays(path: Path, config: DenseNetConfig) -> list[Batch]:
    """The user's own inputs: a ``.npy`` file of float images (N, C, *space), already preprocessed.

    Raises:
        ConverterError: it is no such array, or not for this network.
    """
    array = read_array(path)
    if array.ndim != 2 + config.spatial_dims or array.shape[1] != config.in_channels or array.dtype.kind != "f":
        wanted = ", ".join(("N", str(config.in_channels), *SPACE[config.spatial_dims]))
        raise ConverterError(f"{path}: has {array.dtype} {list(array.shape)}; float ({wanted}) is needed")
    if not np.isfinite(array).all() or not array.size:
        raise ConverterError(f"{path}: is empty, or has values that are NaN or infinite")
    array = array.astype(np.float32)
    parts = [array[i : i + MAX_IMAGES] for i in range(0, len(array), MAX_IMAGES)]
    return [Batch(f"{path.name} [{i * MAX_IMAGES}:]", part, "array") for i, part in enumerate(parts)]


def pixels(preprocess: Preprocess, seed: int) -> list[Batch]:
    """Inputs of a graph that takes uint8 images (N, H, W, C): as they are, and preprocessed by us.

    Their edges are what resizing makes of them, so that nothing is resampled: Pillow rounds
    the pixels it makes to 8 bits, and float32 limits would judge that.
    """
    height, width = preprocess.resize if isinstance(preprocess.resize, tuple) else preprocess.size
    if isinstance(preprocess.resize, int):
        height, width = preprocess.resize, preprocess.resize + preprocess.resize // 5
    random = np.random.Generator(np.random.PCG64(seed))
    noise = random.integers(0, 256, (2, height, width, preprocess.channels), np.uint8)
    smooth = pink(random.standard_normal((3, preprocess.channels, width, height), np.float32)).transpose(0, 3, 2, 1)
    natural = np.clip(128 + 50 * smooth, 0, 255).astype(np.uint8)
    result = []
    for name, images in (("noise", noise), ("natural", np.ascontiguousarray(natural))):
        sources = [image[..., 0] if preprocess.channels == 1 else image for image in images]
        array = np.concatenate([load(image, preprocess) for image in sources])
        result.append(Batch(f"8-bit {name} {len(images)}x{height}x{width}", array, "pixels", None, images))
    return result


def real(images: Sequence[ImageSource], preprocess: Preprocess, channels: int) -> Batch:
    """Real images through real preprocessing, one batch.

    Raises:
        ConverterError: one cannot be read.
    """
    try:
        array = np.concatenate([load(path, preprocess) for path in images])
    except ValueError as error:
        raise ConverterError(str(error)) from error
    if array.shape[1] != channels:
        array = np.repeat(array.mean(1, keepdims=True, dtype=np.float32), channels, 1)
    return Batch(f"{len(images)} images", np.ascontiguousarray(array), "images")


def remake(specs: Iterable[dict[str, Any]], stored: dict[str, Array]) -> list[Batch]:
    """The batches a recorded reference names: synthetic ones again from their seeds, others as stored.

    Raises:
        ConverterError: the record is damaged.
    """
    batches = []
    for i, spec in enumerate(specs):
        try:
            if spec["seed"] is None:
                batches.append(Batch(spec["name"], stored[f"input_{i}"], spec["kind"]))
            else:
                batches.append(synthetic(spec["kind"], tuple(spec["shape"]), int(spec["seed"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ConverterError(f"the recorded reference is damaged ({error})") from error
    return batches
