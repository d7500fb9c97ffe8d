"""A network's answers to many images, to a table, an array, pictures: whole files, and memory that stays flat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, TypedDict, Unpack

from converter.core.errors import ConverterError
from converter.core.model import Images
from converter.core.progress import counted
from converter.core.source import AnySource, Source
from converter.use.answers import Answer, Finish
from converter.use.cam import class_activation, heat
from converter.use.gallery import SHOWN, Gallery, gallery
from converter.use.images import gathered
from converter.use.kept import MANY, identity, keeping, over, run_over
from converter.use.named import named_images, of_files
from converter.use.network import More
from converter.use.predict import predictor
from converter.use.predictor import Predictor
from converter.use.results import OfHead, Told, results, said_of
from converter.use.rows import Session, Start, session
from converter.use.sets.find import ImageSet
from converter.use.share import Share
from converter.use.tables import check_array, check_table
from densenet.pixels import ImageSource, name_of


@dataclass(frozen=True)
class Targets:
    """Where answers go.

    Attributes:
        table: a ``.csv``, ``.jsonl`` or ``.parquet``: path, best class and its score, then every class' score.
        features: a ``.npy`` of the pooled features, a row an image, with the rows' images in a CSV beside it.
        cam: a folder of class activation maps over their images, and a page of them.
        share: of the images those that are asked about; what comes of them is joined later.
        force: whether files that this tool did not write may be replaced.

    Raises:
        ConverterError: a file of a kind that is not written; or what writes it is missing.
        CannotWrite: a file is there that somebody else wrote.
    """

    table: Path | None = None
    features: Path | None = None
    cam: Path | None = None
    share: Share | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.share is not None and (self.first is None or self.cam is not None):
            raise ConverterError("--shard is for what can be joined: say --output or --features, without --cam")
        if self.table is not None:
            check_table(self.table, force=self.force)
        if self.features is not None:
            check_array(self.features, force=self.force)

    @property
    def features_alone(self) -> bool:
        """Whether features are all there is to write, for which no classifier is needed."""
        return self.features is not None and self.table is None and self.cam is None

    @property
    def first(self) -> Path | None:
        """What stands for all that can be joined, and begun again where it ended."""
        return self.table or self.features

    def written(self) -> list[str]:
        """What there is to write."""
        if self.share is not None and self.first is not None:
            return [str(self.share.beside(self.first))]
        return [str(path) for path in (self.table, self.features, self.cam) if path is not None]


@dataclass
class Classified:
    """What became of the images, as :func:`predict` gives it.

    Attributes:
        images: how many there were.
        failed: why some have no answer, each line beginning with the image.
        ranked: of each answer the best classes, if there is no table.
        notes: how images were read, where that was a choice, with the number of those that were.
        lost: how many of ``failed`` are none of these images: shards that break off, images that a list alone knows.
    """

    images: int
    failed: list[str] = field(default_factory=list)
    ranked: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lost: int = 0

    def __repr__(self) -> str:
        return f"Classified({self.answered} of {self.images} images)"

    @property
    def answered(self) -> int:
        """How many images there is an answer to."""
        return self.images - len(self.failed) + self.lost

    def to_dict(self) -> dict[str, Any]:
        """What became of them as plain JSON values, without the answers."""
        return {"images": self.images, "answered": self.answered, "failed": self.failed, "notes": self.notes}


class Prediction(TypedDict, total=False):
    """Keywords of :func:`predict`."""

    about: Images | None
    head: str
    engine: str
    fail_fast: bool
    share: Share | None
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
        images: files, folders (with the images in them) and patterns such as ``scans/**/*.png``; lists and tables of
            paths; WebDataset's tars, Parquet files, folders of these, ``hf://datasets/owner/name``; Pillow images
            and uint8 arrays (H, W, 3) RGB.
        output: a table to write, ``.csv``, ``.jsonl`` or ``.parquet``: every class of every image.
        features: a ``.npy`` to write, of the pooled features, a row an image.
        cam: a folder for pictures of what speaks for the best class.
        top: how many classes to rank.
        options: ``about``, what its images and classes are, where the source does not say; ``head``, of several the
            only one that is asked; ``engine``, ``onnxruntime`` or ``torch``; ``fail_fast``, whether to stop at the
            first image without an answer; ``share``, the part of the images that is asked about, a
            ``converter.use.share.Share``; ``force``, whether files that this tool did not write may be replaced;
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
    targets = Targets(tables, arrays, pictures, options.get("share"), options.get("force", False))
    loaded = predictor(
        source,
        engine=options.get("engine", "onnxruntime"),
        images=options.get("about"),
        features=targets.features_alone,
        head=options.get("head", ""),
    )
    several: Any = images if isinstance(images, list | tuple) else [images]
    found = _found(several, loaded.preprocess.of_volumes)
    count = found.count if isinstance(found, ImageSet) else len(found)
    fail_fast, progress = options.get("fail_fast", False), options.get("progress") or counted(count)
    title = Path(str(Source.of(source))).name
    done = classify(loaded, found, targets, top=top, fail_fast=fail_fast, title=title, progress=progress)
    done.notes[:0] = loaded.notes
    return done


def _found(several: Sequence[ImageSource], volumes: bool) -> Sequence[ImageSource] | ImageSet:
    """What is asked about: images, or where shards, lists or tables are named a set of them."""
    words = [one for one in several if isinstance(one, str | Path)]
    if len(words) == len(several):
        return named_images(words, volumes=volumes)
    found: list[ImageSource] = []
    for one in several:
        found += gathered([one], volumes=volumes) if isinstance(one, str | Path) else [one]
    return found


def classify(
    predictor: Predictor,
    images: Sequence[ImageSource] | ImageSet,
    targets: Targets,
    *,
    top: int = SHOWN,
    fail_fast: bool = False,
    title: str = "",
    start: Start = session,
    progress: Callable[[int], None] = lambda _: None,
) -> Classified:
    """Ask a network about images; those that cannot be read are listed, and the rest is done.

    Args:
        predictor: the network.
        images: files, or images in memory; or a set of many, of which no more than a few are in memory.
        targets: what is written; each file is there, whole, when all is done, or as it was.
        top: how many classes to rank.
        fail_fast: stop at the first image without an answer.
        title: what the page of pictures is about.
        start: what starts the network, where it is asked block by block.
        progress: called with the number of images done.

    A network without classifier gives features, and ranks nothing.  Of many images, and of sets, rows are kept as they
    come, beside what is written, until that is there: who is stopped goes on there.

    Raises:
        ConverterError: with ``fail_fast``, an image cannot be read; a file cannot be written; the network does not
            give what is asked for.
    """
    if targets.cam is None:
        many = targets.share or start is not session or (targets.first and len(images) > MANY)
        if not isinstance(images, ImageSet) and many:
            images = of_files(images) or images
        if isinstance(images, ImageSet):
            one = start(predictor, ["features"] if targets.features is not None else [])
            return _by_block(one, predictor, images, targets, top=top, fail_fast=fail_fast, progress=progress)
    if isinstance(images, ImageSet):
        raise ConverterError("--cam draws images that are files: name them, or their folder")
    if targets.share is not None:
        raise ConverterError("--shard is for images that are files")
    done = Classified(len(images))
    more: list[More] = ["features"] if targets.features is not None else []
    finish: Finish | None = None
    heads, said = OfHead.every(predictor), _Said()
    with ExitStack() as files:
        if targets.cam is not None:
            more.append("maps")
            pictures = files.enter_context(gallery(targets.cam))
            finish = _Pictured(predictor, pictures)
        written = files.enter_context(results(heads, targets.table, targets.features, force=targets.force))
        for answer in predictor.answers(images, more, finish=finish, say=said):
            progress(1)
            if answer.failed:
                if fail_fast or len(images) == 1:
                    raise ConverterError(answer.failed)
                done.failed.append(answer.failed)
                continue
            logits = answer.outputs[0]
            written.one(name_of(answer.image), logits, answer.outputs[1:])
            if targets.table is None and heads:
                done.ranked.append({"image": name_of(answer.image), **predictor.ranking(logits, top)})
        done.notes = said.lines()
        if finish is not None:
            pictures.write_page(title, [*predictor.notes, *done.notes], done.failed)
    return done


def _by_block(
    one: Session,
    predictor: Predictor,
    images: ImageSet,
    targets: Targets,
    *,
    top: int,
    fail_fast: bool,
    progress: Callable[[int], None],
) -> Classified:
    """The same, block by block, in a way that can be gone on with."""
    more: list[More] = ["features"] if targets.features is not None else []
    heads, first = OfHead.every(predictor), targets.first
    asked = question(predictor, images, more)
    run, told = run_over(images, one, targets.share), Told()
    done = Classified(run.images, list(asked["broken"]), lost=len(images.broken))
    with ExitStack() as files:
        if first is not None and (targets.share or run.images > MANY):
            files.enter_context(keeping(run, first, images, targets.share, asked))
        written = None
        if targets.share is None:
            written = files.enter_context(results(heads, targets.table, targets.features, force=targets.force))
        for rows in run.rows(one):
            told.add(rows)
            if rows.failed and (fail_fast or images.count == 1):
                raise ConverterError(rows.failed[min(rows.failed)])
            if written is not None:
                written.add(rows)
            if first is None and heads:
                ranked = zip(rows.places, rows.outputs[0]) if rows.outputs else ()
                done.ranked += ({"image": rows.names[i], **predictor.ranking(own, top)} for i, own in ranked)
            progress(len(rows.names))
    if first is not None and targets.share is None:
        over(first)
    done.failed += told.failed
    done.notes = [*images.notes, *told.notes(), *run.said(), *one.said()]
    return done


def question(predictor: Predictor, images: ImageSet, more: Sequence[More]) -> dict[str, Any]:
    """What rows of a set depend on, and what is needed to make a table or an array of them."""
    return {
        "verb": "predict",
        "rows": identity(predictor, more),
        "heads": said_of(OfHead.every(predictor)),
        "features": bool(more),
        "broken": [f"{name}: {why}" for name, why in images.broken.items()],
        "notes": [*predictor.notes, *images.notes],
    }


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
