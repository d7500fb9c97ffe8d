"""A loaded network with what its images and classes are: images in, answers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.core.model import Images, usual_activation
from converter.engines.run import Run
from converter.use.activation import activated
from converter.use.answers import Answer, Finish, answers
from converter.use.in_order import cores, workers
from converter.use.network import More, Network, OneHead, logits_of
from converter.use.sizes import check_pixels
from densenet.depth import Say, silent
from densenet.images import ImageSource, decode
from densenet.images import load as load_image
from densenet.pixels import name_of
from densenet.preprocess import Preprocess

BATCH = 8
"""Images a thread computes at once: more are no faster, and hold more memory."""
LARGE_BATCH = 2
"""The same of photographs as they are, and of volumes."""
FEW = 4
"""Up to so many images are computed one after the other, by all cores together."""


@dataclass(frozen=True)
class Predictor:
    """A loaded model: images in, logits out.

    Attributes:
        run: a batch as :meth:`prepare` makes it to logits (N, classes).
        preprocess: what images go through before.
        labels: class names, empty if unknown.
        notes: what had to be assumed.
        activation: what makes probabilities of logits, one of :data:`converter.core.model.ACTIVATIONS`.
        thresholds: from which probability on a class is taken to be there, empty if unknown.
        network: what ``run`` was started from.
        heads: of several heads, whose logits stand side by side, what is said of the classes of each; there are no
            ``labels``, ``activation`` and ``thresholds`` of all then.
        descriptions: what the labels mean, empty if they speak for themselves.
        takes_pixels: whether it preprocesses by itself, and is given uint8 images (N, H, W, C).
        batch: how many images at once are computed best.
        fixed: height and width of the only images that a graph which preprocesses takes; empty where it takes any.
        resized: such a graph takes them resized and cropped.
    """

    run: Run
    preprocess: Preprocess
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    activation: str
    network: Network
    thresholds: tuple[float | None, ...] = ()
    takes_pixels: bool = False
    batch: int = BATCH
    heads: Mapping[str, Images] = field(default_factory=dict)
    descriptions: tuple[str, ...] = ()
    fixed: tuple[int, ...] = ()
    resized: bool = False

    def prepare(self, image: ImageSource, say: Say = silent, *, upright: bool = True) -> Array:
        """A batch of one: float32 (1, C, H, W), or uint8 (1, H, W, C) where the graph preprocesses.

        Args:
            image: a path, a Pillow image or a uint8 array.
            say: is told how it was read, where that was a choice.
            upright: turn it as its EXIF orientation says.

        Raises:
            ValueError: it cannot be read; names it.
        """
        steps = self.preprocess
        if not self.takes_pixels:
            return load_image(image, steps, upright=upright, say=say)
        if self.resized:
            raw = replace(steps, mean=(0.0,) * steps.channels, std=(1 / 255,) * steps.channels, order="rgb")
            values = load_image(image, raw, upright=upright, say=say)
            whole: Array = np.rint(values).astype(np.uint8).transpose(0, 2, 3, 1)
            return whole
        decoded = decode(image, steps.channels, window=steps.window, upright=upright, say=say)
        pixels: Array = np.atleast_3d(np.asarray(decoded))
        check_pixels(name_of(image), pixels.shape, steps, self.fixed)
        return pixels[None]

    def answers(
        self,
        images: Iterable[ImageSource],
        more: Sequence[More] = (),
        *,
        finish: Finish | None = None,
        say: Say = silent,
        upright: bool = True,
    ) -> Iterator[Answer]:
        """An answer to every image, in order: its logits, and what else is asked for.

        Args:
            images: paths, Pillow images or uint8 arrays, in any number.
            more: what else.
            finish: see :func:`converter.use.answers.answers`.
            say, upright: see :meth:`prepare`; ``say`` is called from any thread.
        """
        prepare = partial(self.prepare, say=say, upright=upright)
        # A core each is faster than all cores at one batch: nobody waits for others at the end of every layer.
        if isinstance(images, Sequence) and len(images) <= FEW and not more:
            return answers(images, prepare, lambda x: (self.run(x),), batch=FEW, finish=finish)
        run = self.network.start(more, cores() - workers() + 1)
        return answers(images, prepare, run, batch=self.batch, finish=finish)

    def logits(self, images: Sequence[ImageSource], progress: Callable[[int], None] = lambda _: None) -> Array:
        """Logits (N, classes) of images given as paths, Pillow images or uint8 arrays.

        Raises:
            ConverterError: an image cannot be read.
        """
        parts = []
        for answer in self.answers(images):
            if answer.failed:
                raise ConverterError(answer.failed)
            parts.append(answer.outputs[0])
            progress(1)
        return np.stack(parts)

    def scores(self, logits: Array) -> Array:
        """Probabilities of logits, float32; the logits themselves where they are none."""
        return activated(np.atleast_2d(logits), self.activation).astype(np.float32).reshape(logits.shape)

    def results(self, images: Sequence[ImageSource]) -> list[dict[str, Any]]:
        """mmpretrain's result for each image: pred_scores, pred_label, pred_score, pred_class."""
        logits = self.logits(images) if images else ()
        return [self.result(one) for one in logits]

    def result(self, logits: Array) -> dict[str, Any]:
        """That of one image; of several heads one such result by each one's name."""
        if self.heads:
            return {head: one.result(own) for head, one, own in self.parts(logits)}
        return {"pred_scores": self.scores(logits), **self.best(logits)}

    def parts(self, logits: Array) -> Iterator[tuple[str, Predictor, Array]]:
        """Of each head its name, a predictor that knows its classes, and its logits; of a single one an empty name."""
        for head, one in self.by_head.items():
            yield head, one, logits[logits_of(self.network.config, head)]

    @cached_property
    def by_head(self) -> dict[str, Predictor]:
        """A predictor of each head by its name; itself, by an empty one, where there is one."""
        return {head: self.only(head) for head in self.heads} or {"": self}

    def only(self, head: str) -> Predictor:
        """The predictor of one of several heads.

        Raises:
            ConverterError: there is no such head.
        """
        if head not in self.heads:
            known = f"there are {', '.join(self.heads)}" if self.heads else "the network has one alone, without a name"
            raise ConverterError(f"there is no head {head!r}; {known}")
        said, network = self.heads[head], OneHead(self.network, head)
        own = logits_of(self.network.config, head)
        others = tuple(f"{name}: " for name in self.heads if name != head)
        return replace(
            self,
            run=lambda x: self.run(x)[:, own],
            labels=said.labels,
            notes=tuple(note.removeprefix(f"{head}: ") for note in self.notes if not note.startswith(others)),
            activation=said.activation or usual_activation(network.config.num_classes),
            network=network,
            thresholds=said.thresholds,
            heads={},
            descriptions=said.descriptions,
        )

    def best(self, logits: Array) -> dict[str, Any]:
        """The best class of an image as plain values: pred_label, pred_score, pred_class."""
        best = int(logits.argmax())
        named = {"pred_class": self.labels[best]} if self.labels else {}
        return {"pred_label": best, "pred_score": float(self.scores(logits)[best]), **named}

    def ranking(self, logits: Array, top: int) -> dict[str, Any]:
        """The same, and the ``top`` best in order; of several heads by each one's name."""
        if self.heads:
            return {head: one.ranking(own, top) for head, one, own in self.parts(logits)}
        scores = self.scores(logits)
        best = [int(i) for i in (-logits).argsort(kind="stable")[:top]]
        names = {i: self.labels[i] if self.labels else "" for i in best}
        ranks: list[dict[str, Any]] = [
            {"label": i, "score": float(scores[i]), "class": names[i]}
            | ({"description": self.descriptions[i]} if self.descriptions else {})
            | ({"threshold": self.thresholds[i]} if self.thresholds else {})
            for i in best
        ]
        return {**self.best(logits), "top": ranks}
