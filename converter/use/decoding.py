"""Images decoded by threads while the engine computes; memory holds a few batches, however many images there are."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from os import cpu_count

import numpy as np

from converter.core.checkpoint import Array
from densenet.images import ImageSource

BATCH = 16
AHEAD = 2
"""Batches that wait, decoded, for the engine."""


@dataclass(frozen=True)
class Decoded:
    """Some images in the order given.

    Attributes:
        places: where in the sequence the images of the batch stand.
        batch: float32 (len(places), C, H, W); None if none of them could be read.
        failed: place in the sequence to why that image could not be read.
    """

    places: tuple[int, ...]
    batch: Array | None
    failed: dict[int, str] = field(default_factory=dict)


def decoded(
    images: Sequence[ImageSource], read: Callable[[ImageSource], Array], batch: int = BATCH
) -> Iterator[Decoded]:
    """Every image of a sequence, in batches and in order; one that cannot be read is named, and the rest goes on.

    Args:
        images: what ``read`` takes.
        read: an image to float32 (1, C, H, W); raises ValueError for one that cannot be read.  Called in threads:
            Pillow decodes and resizes without the interpreter's lock.
        batch: at most so many at once.
    """
    rest = iter(range(len(images)))
    with ThreadPoolExecutor(min(4, cpu_count() or 1)) as pool:
        waiting: deque[tuple[int, Future[Array]]] = deque()

        def submit(count: int) -> None:
            waiting.extend((place, pool.submit(read, images[place])) for place in islice(rest, count))

        submit(batch * (AHEAD + 1))
        try:
            while waiting:
                parts: list[tuple[int, Array]] = []
                failed: dict[int, str] = {}
                for _ in range(min(batch, len(waiting))):
                    place, future = waiting.popleft()
                    try:
                        parts.append((place, future.result()))
                    except ValueError as error:
                        failed[place] = str(error)
                submit(batch)
                places = tuple(place for place, _ in parts)
                yield Decoded(places, np.concatenate([part for _, part in parts]) if parts else None, failed)
        finally:
            pool.shutdown(cancel_futures=True)
