"""What models are compared on.  Every synthetic batch is determined by its seed and shape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converter.errors import ConverterError
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess, load

Array = np.ndarray[Any, Any]
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
MAX_IMAGES = 8


@dataclass(frozen=True)
class Batch:
    """One input: float32 (N, C, *space), where it comes from, and a seed if it is synthetic."""

    name: str
    array: Array
    kind: str
    seed: int | None = None

    def spec(self) -> dict[str, Any]:
        """What suffices to make a synthetic batch again; of others what they are."""
        return {"name": self.name, "kind": self.kind, "seed": self.seed, "shape": list(self.array.shape)}


def standard(
    config: DenseNetConfig, preprocess: Preprocess | None, images: Sequence[Path], seed: int = 0
) -> list[Batch]:
    """The usual inputs of a network: noise and natural spectra at several batch sizes and resolutions, images.

    Args:
        config: the network; the stem decides the base resolution where preprocessing does not.
        preprocess: what real images go through.
        images: real images.
        seed: of the first synthetic batch; the others follow.
    """
    height, width = base_size(config, preprocess)
    if config.spatial_dims == 3:
        side = max(32, 2 ** (len(config.block_config) + 1))
        shapes = [(1, (side,) * 3), (2, (side + 5, side, side + 2)), (3, (side,) * 3)]
    else:
        odd = (height + height // 7 | 1, width - width // 9 | 1)
        shapes = [(1, (height, width)), (2, odd), (3, (height, width))]
    batches = []
    for i, (count, space) in enumerate(shapes):
        batches.append(synthetic("noise", (count, config.in_channels, *space), seed + i))
    batches.append(synthetic("natural", (2, config.in_channels, *shapes[0][1]), seed + len(shapes)))
    if images and config.spatial_dims == 2:
        batches.append(real(images[:MAX_IMAGES], preprocess or Preprocess(), config.in_channels))
    return batches


def base_size(config: DenseNetConfig, preprocess: Preprocess | None) -> tuple[int, int]:
    """Height and width a network is meant for."""
    if preprocess:
        return preprocess.crop
    return (32, 32) if config.stem == "cifar" else (224, 224)


def synthetic(kind: str, shape: tuple[int, ...], seed: int) -> Batch:
    """A reproducible batch: ``noise`` is white; ``natural`` has the 1/f spectrum of photographs.

    Raises:
        ConverterError: there is no such kind.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    array = random.standard_normal(shape, np.float32)
    if kind == "natural":
        axes = tuple(range(2, len(shape)))
        frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, shape[2:]), indexing="ij")))
        frequency[(0,) * len(axes)] = 1 / max(shape[2:])
        smooth = np.fft.ifftn(np.fft.fftn(array, axes=axes) / frequency, axes=axes).real
        array = (smooth / smooth.std()).astype(np.float32)
    elif kind != "noise":
        raise ConverterError(f"no synthetic input is called {kind!r}")
    return Batch(f"{kind} {'x'.join(map(str, shape))}", array, kind, seed)


def real(images: Sequence[Path], preprocess: Preprocess, channels: int) -> Batch:
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


def find_images(folder: Path) -> list[Path]:
    """Image files below a folder, in order of their names.

    Raises:
        ConverterError: there are none.
    """
    if folder.is_file():
        return [folder]
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise ConverterError(f"{folder}: no images there")
    return found


def shipped_images() -> list[Path]:
    """One image of each class of the digits the package ships."""
    folder = Path(__file__).parent.parent / "demo_data" / "images"
    return [path for digit in sorted(folder.iterdir()) for path in sorted(digit.iterdir())[:1]]


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
