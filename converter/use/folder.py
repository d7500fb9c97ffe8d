"""A network's answers to many images, to a table, an array, pictures: whole files, and memory that stays flat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, TypedDict, Unpack

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.core.model import Images
from converter.core.progress import counted
from converter.core.source import AnySource, Source
from converter.use.answers import Answer, Finish
from converter.use.cam import class_activation, heat
from converter.use.gallery import SHOWN, Gallery, gallery
from converter.use.images import gathered
from converter.use.network import More
from converter.use.predict import Predictor, predictor
from converter.use.tables import array, check_array, check_table, columns_of, table
from densenet.pixels import ImageSource, name_of


@dataclass(frozen=True)
class Targets:
    """Where answers go.

    Attributes:
        table: a ``.csv``, ``.jsonl`` or ``.parquet``: path, best class and its score, then every class' score.
        features: a ``.npy`` of the pooled features, a row an image, with the rows' images in a CSV beside it.
        cam: a folder of class activation maps over their images, and a page of them.
        force: whether files that this tool did not write may be replaced.

    Raises:
        ConverterError: a file of a kind that is not written; or what writes it is missing.
        CannotWrite: a file is there that somebody else wrote.
    """

    table: Path | None = None
    features: Path | None = None
    cam: Path | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.table is not None:
            check_table(self.table, force=self.force)
        if self.features is not None:
            check_array(self.features, force=self.force)

    @property
    def features_alone(self) -> bool:
        """Whether features are all there is to write, for which no classifier is needed."""
        return self.features is not None and self.table is None and self.cam is None

    def written(self) -> list[str]:
        """What there is to write."""
        return [str(path) for path in (self.table, self.features, self.cam) if path is not None]


@dataclass
class Classified:
    """What became of the images, as :func:`predict` gives it.

    Attributes:
        images: how many there were.
        failed: why some have no answer, each line beginning with the image.
        ranked: of each answer the best classes, if there is no table.
        notes: how images were read, where that was a choice, with the number of those that were.
    """

    images: int
    failed: list[str] = field(default_factory=list)
    ranked: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Classified({self.answered} of {self.images} images)"

    @property
    def answered(self) -> int:
        """How many images there is an answer to."""
        return self.images - len(self.failed)

    def to_dict(self) -> dict[str, Any]:
        """What became of them as plain JSON values, without the answers."""
        return {"images": self.images, "answered": self.answered, "failed": self.failed, "notes": self.notes}


class Prediction(TypedDict, total=False):
    """Keywords of :func:`predict`."""

    about: Images | None
    head: str
    engine: str
    fail_fast: bool
    force: bool
    progress: Callable[[int], None]


def predict(
    source: AnySource,
    images: ImageSource | Sequence[ImageSource],
    *,
    output: str | Path | None = None,
    features: str | Path | None = None,
    cam: str | Path | None = None,
    top: int = SHOWN,
    **options: Unpack[Prediction],
) -> Classified:
    """Classify images; those that cannot be read are listed, and the rest is done.

    Args:
        source: a checkpoint or an ONNX file, as for :func:`converter.load`.
        images: files, folders (with the images in them) and patterns such as ``scans/**/*.png``; Pillow images and
            uint8 arrays (H, W, 3) RGB.
        output: a table to write, ``.csv``, ``.jsonl`` or ``.parquet``: every class of every image.
        features: a ``.npy`` to write, of the pooled features, a row an image.
        cam: a folder for pictures of what speaks for the best class.
        top: how many classes to rank.
        options: ``about``, what its images and classes are, where the source does not say; ``head``, of several the
            only one that is asked; ``engine``, ``onnxruntime`` or ``torch``; ``fail_fast``, whether to stop at the
            first image without an answer; ``force``, whether files that this tool did not write may be replaced;
            ``progress``, called with the number of images done.

    Returns:
        ``ranked``, for each image a dict of its name, its best class and the ``top`` ones with their scores, unless
        they are in a table; ``failed``, why some have no answer.

    Raises:
        ConverterError: the model cannot be read, or has no classes; a folder or pattern without images; a file that
            cannot be written; the only image cannot be read.

    Example:
        >>> from converter import predict
        >>> done = predict("digits.onnx", "images/3/*.png")
        >>> done.answered, done.ranked[0]["top"][0]["class"]
        (10, '3')
    """
    tables, arrays, pictures = (None if path is None else Path(path) for path in (output, features, cam))
    targets = Targets(tables, arrays, pictures, force=options.get("force", False))
    loaded = predictor(
        source,
        engine=options.get("engine", "onnxruntime"),
        images=options.get("about"),
        features=targets.features_alone,
        head=options.get("head", ""),
    )
    found: list[ImageSource] = []
    several: Any = images if isinstance(images, list | tuple) else [images]
    for one in several:
        found += gathered([one], volumes=loaded.preprocess.of_volumes) if isinstance(one, str | Path) else [one]
    fail_fast, progress = options.get("fail_fast", False), options.get("progress") or counted(len(found))
    title = Path(str(Source.of(source))).name
    done = classify(loaded, found, targets, top=top, fail_fast=fail_fast, title=title, progress=progress)
    done.notes[:0] = loaded.notes
    return done


def classify(
    predictor: Predictor,
    images: Sequence[ImageSource],
    targets: Targets,
    *,
    top: int = SHOWN,
    fail_fast: bool = False,
    title: str = "",
    progress: Callable[[int], None] = lambda _: None,
) -> Classified:
    """Ask a network about images; those that cannot be read are listed, and the rest is done.

    Args:
        predictor: the network.
        images: files, or images in memory.
        targets: what is written; each file is there, whole, when all is done, or as it was.
        top: how many classes to rank.
        fail_fast: stop at the first image without an answer.
        title: what the page of pictures is about.
        progress: called with the number of images done.

    A network without classifier gives features, and ranks nothing.

    Raises:
        ConverterError: with ``fail_fast``, an image cannot be read; a file cannot be written; the network does not
            give what is asked for.
    """
    done = Classified(len(images))
    more: list[More] = ["features"] if targets.features is not None else []
    finish: Finish | None = None
    config = predictor.network.config
    names = columns_of({h: (one.labels, one.network.config.num_classes) for h, one in predictor.by_head.items()})
    said = _Said()
    with ExitStack() as files:
        if targets.cam is not None:
            more.append("maps")
            pictures = files.enter_context(gallery(targets.cam))
            finish = _Pictured(predictor, pictures)
        row = keep = None
        if targets.table is not None:
            row = files.enter_context(table(targets.table, names, force=targets.force))
        if targets.features is not None:
            keep = files.enter_context(array(targets.features, force=targets.force))
        for answer in predictor.answers(images, more, finish=finish, say=said):
            progress(1)
            if answer.failed:
                if fail_fast or len(images) == 1:
                    raise ConverterError(answer.failed)
                done.failed.append(answer.failed)
                continue
            logits = answer.outputs[0]
            if row is not None:
                parts = predictor.parts(logits)
                row(name_of(answer.image), [value for _, one, own in parts for value in _values(one, own)])
            elif predictor.heads or config.num_classes:
                done.ranked.append({"image": name_of(answer.image), **predictor.ranking(logits, top)})
            if keep is not None:
                keep(name_of(answer.image), answer.outputs[1])
        done.notes = said.lines()
        if finish is not None:
            pictures.write_page(title, [*predictor.notes, *done.notes], done.failed)
    return done


def _values(predictor: Predictor, logits: Array) -> list[str | np.float32]:
    """What a table says of one head's logits: the best class, what that scores, and what all do."""
    scores, best = predictor.scores(logits), int(logits.argmax())
    return [predictor.labels[best] if predictor.labels else str(best), scores[best], *scores]


class _Said:
    """Counts what readers of images say, in whatever thread."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.turn = Lock()

    def __call__(self, line: str) -> None:
        with self.turn:
            self.counts[line] += 1

    def lines(self) -> list[str]:
        """Each line once, with how many images it was said of."""
        return [f"{line} ({count} image{'s' * (count > 1)})" for line, count in self.counts.items()]


class _Pictured:
    """Draws the map of an image's best class while the next images are computed."""

    def __init__(self, predictor: Predictor, pictures: Gallery) -> None:
        self.predictor, self.pictures = predictor, pictures
        self.activations = {head: class_activation(one.network) for head, one in predictor.by_head.items()}
        ways = {activation.how for activation in self.activations.values()}
        every = (f"{head}: {activation.how}" for head, activation in self.activations.items())
        pictures.how = " ".join(ways if len(ways) == 1 else every)

    def __call__(self, answer: Answer) -> Answer:
        *outputs, maps = answer.outputs
        try:
            for head, one, logits in self.predictor.parts(outputs[0]):
                ranked = one.ranking(logits, SHOWN)
                best = [(found["class"] or f"class {found['label']}", found["score"]) for found in ranked["top"]]
                strength = heat(self.activations[head](maps, ranked["pred_label"]))
                self.pictures.add(answer.place, answer.image, strength, one.preprocess, best, head)
        except ValueError as error:  # not finite; or the file is gone meanwhile
            return Answer(answer.place, answer.image, failed=f"{name_of(answer.image)}: {error}")
        return replace(answer, outputs=tuple(outputs))
