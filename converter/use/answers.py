"""From images to a network's answers: prepared and computed in several threads, answered in order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.engines.run import Outputs
from converter.use.in_order import in_order
from densenet.pixels import ImageSource, name_of


@dataclass(frozen=True)
class Answer:
    """What became of one image.

    Attributes:
        place: of the image in what was asked, from 0.
        image: the image.
        outputs: its logits (classes,), and what else the network was asked for; empty if there are none.
        failed: why there are none, beginning with the image's name.
    """

    place: int
    image: ImageSource
    outputs: tuple[Array, ...] = ()
    failed: str = ""


Finish = Callable[[Answer], Answer]
Prepare = Callable[[ImageSource], Array]
"""Makes a batch of one of an image; raises ValueError, which names the image, if it cannot be read."""


def answers(
    images: Iterable[ImageSource],
    prepare: Prepare,
    run: Outputs,
    *,
    batch: int,
    finish: Finish | None = None,
) -> Iterator[Answer]:
    """An answer to every image, in their order; memory holds a few batches, however many images there are.

    Args:
        images: what ``prepare`` takes.
        prepare: see :data:`Prepare`.
        run: the engine, which several threads call at once.
        batch: at most so many images at once; those of one batch that have different sizes are run apart.
        finish: what becomes of an answer while the next are on their way, in the thread that computed it.
    """
    asked = (Answer(place, image) for place, image in enumerate(images))
    for several in in_order(lambda batch: answered(batch, prepare, run, finish), asked, batch):
        yield from several


def answered(batch: Sequence[Answer], prepare: Prepare, run: Outputs, finish: Finish | None = None) -> list[Answer]:
    """What becomes of images that are computed together, in their order; it depends on nothing else.

    Args:
        batch: the images; of those that have failed already nothing becomes.
        prepare, run, finish: see :func:`answers`.
    """
    done: list[Answer] = []
    sizes: dict[tuple[int, ...], list[tuple[Answer, Array]]] = {}
    for answer in batch:
        if answer.failed:
            done.append(answer)
            continue
        try:
            array = prepare(answer.image)
        except ValueError as error:
            done.append(replace(answer, failed=str(error)))
        else:
            sizes.setdefault(array.shape, []).append((answer, array))
    for pairs in sizes.values():
        done += computed(pairs, run)
    done.sort(key=lambda answer: answer.place)
    return done if finish is None else [answer if answer.failed else finish(answer) for answer in done]


def computed(pairs: Sequence[tuple[Answer, Array]], run: Outputs) -> list[Answer]:
    """Images of one size with their outputs; where the engine fails on them together, one by one."""
    try:
        outputs = run(np.concatenate([array for _, array in pairs]))
    except ConverterError as error:
        if len(pairs) > 1:
            return [answer for pair in pairs for answer in computed([pair], run)]
        answer, _ = pairs[0]
        return [Answer(answer.place, answer.image, failed=f"{name_of(answer.image)}: {error}")]
    result = []
    for (answer, _), *values in zip(pairs, *outputs):
        lost = "" if np.isfinite(values[0]).all() else f"{name_of(answer.image)}: the network's answer is not finite"
        result.append(Answer(answer.place, answer.image, () if lost else tuple(values), lost))
    return result
