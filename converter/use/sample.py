"""A few images of many, evenly taken, for what is calibrated and compared on typical ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converter.core.errors import ConverterError
from converter.use.images import find_images
from converter.use.named import is_list, named_images
from converter.use.sets.find import ImageSet, means_shards
from densenet.pixels import ImageSource


def sampled(address: str | Path, most: int, *, volumes: bool = False) -> Sequence[ImageSource]:
    """Images of a set, evenly taken: no more than ``most``; of a folder of images all.

    Args:
        address: a folder or an image; a list or a table of paths, shards (see :mod:`converter.use.named`).
        most: how many at most.
        volumes: whether a folder is looked through for volumes.

    Raises:
        ConverterError: there are none, or one of those that are taken cannot be read.
        Unavailable: what reads them is not installed, or what has them cannot be asked.
    """
    if not (means_shards(str(address)) or is_list(str(address))):
        return find_images(Path(address), volumes=volumes)
    found = named_images([address], volumes=volumes)
    assert isinstance(found, ImageSet)
    if found.broken:
        name, why = next(iter(found.broken.items()))
        raise ConverterError(f"{name}: {why}")
    records = [found.record(place) for place in range(0, found.count, max(1, -(-found.count // most)))]
    failed = next((record.failed for record in records if record.failed), "")
    if failed:
        raise ConverterError(failed)
    return [record.image for record in records]
