"""From images to classes, through ONNX Runtime or PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.core.held import Held
from converter.core.interface import Presented
from converter.core.metadata import (
    ACTIVATION_KEY,
    CONFIG_KEY,
    DESCRIPTIONS_KEY,
    LABELS_KEY,
    PREPROCESS_KEY,
    THRESHOLDS_KEY,
    parsed,
)
from converter.core.model import Images, known_activation, usual_activation
from converter.core.nearest import meant
from converter.core.source import AnySource, Source
from converter.engines.devices import check_device
from converter.engines.onnxruntime import session
from converter.engines.run import Run
from converter.engines.torch import any_module
from converter.fetch.place import resolve
from converter.formats.onnx_file import check_for_running, is_onnx
from converter.reading.beside import recorded_descriptions
from converter.reading.load import load
from converter.reading.several_heads import metadata_of_head
from converter.reading.thresholds import recorded_thresholds
from converter.use.activation import activated
from converter.use.answers import Answer, Finish, answers
from converter.use.assumed import assumed, assumed_activation, labels_for, preprocess_for
from converter.use.in_order import cores, workers
from converter.use.network import More, Network, OneHead, OnnxNetwork, TorchNetwork, logits_of
from converter.use.on_device import graph_for, with_best_batch
from converter.use.sizes import check_pixels, fitting, fixed_size
from densenet.config import DenseNetConfig
from densenet.depth import Say, silent
from densenet.images import ImageSource, decode
from densenet.images import load as load_image
from densenet.pixels import name_of
from densenet.preprocess import Preprocess
from densenet.topology import FEATURES, LOGITS
from densenet.zoo import is_published

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


def run_of(network: Network) -> Run:
    """The logits alone, by all cores together."""
    outputs = network.start()
    return lambda x: outputs(x)[0]


def predictor(
    source: AnySource,
    *,
    engine: str = "onnxruntime",
    images: Images | None = None,
    features: bool = False,
    head: str = "",
) -> Predictor:
    """Load a model for prediction; the last few that have a name are kept loaded.

    Args:
        source: a checkpoint or an ONNX file, as for :func:`converter.load`.
        engine: ``onnxruntime``, or on a device ``onnxruntime-cuda``, ``-tensorrt``, ``-directml``; or ``torch``.
        images: what its images and classes are, where the source does not say.
        features: whether pooled features are all that is wanted, which a network without classifier gives, too.
        head: of several heads the only one that is asked, as in a :class:`converter.Source`; default: all.

    Raises:
        ConverterError: it cannot be read, has no classes, the engine does not exist or is not installed, or what is
            said of images and classes is of another network.
    """
    wanted, said = Source.of(source), images or Images()
    if wanted.is_plain and not isinstance(wanted.address, Held):
        found = _kept(str(wanted.address), engine, _changed(Path(wanted.address)), said, head)
    else:
        found = _loaded(wanted, engine, said, head)
    if "-" in engine:
        found = with_best_batch(found)
    if not (features or found.heads or found.network.config.num_classes):
        raise ConverterError(
            f"{wanted}: has no classifier, so there are no classes to predict; densenet predict --features "
            "FILE.npy alone writes its pooled features"
        )
    return found


def _changed(path: Path) -> int:
    """When a file or folder was changed last; 0 where there is none of that name."""
    try:
        return path.stat().st_mtime_ns
    except (OSError, ValueError):
        return 0


@lru_cache(maxsize=4)
def _kept(address: str, engine: str, changed: int, said: Images, head: str) -> Predictor:
    return _loaded(Source(address), engine, said, head)


def _loaded(wanted: Source, engine: str, said: Images, head: str) -> Predictor:
    kind, _, device = engine.partition("-")
    if kind not in ("onnxruntime", "torch") or (device and kind == "torch"):
        near = meant(engine, ("onnxruntime", "torch"))
        raise ConverterError(f"no engine is called {engine!r}; there are onnxruntime and torch{near}")
    check_device(device)
    size: tuple[int, ...] = ()
    name, file = str(wanted), _onnx_of(wanted) if kind == "onnxruntime" else None
    if file is not None:
        loaded = session(file).loaded  # others' graphs may normalise, or give probabilities: they are read
        if CONFIG_KEY in loaded.get_modelmeta().custom_metadata_map:
            return _from_onnx(wanted, file, loaded, said, head, device)
        size = () if said.preprocess else fixed_size(loaded.get_inputs()[0].shape)
    model = load(replace(wanted, head=head or wanted.head)).described(said)
    check_classes(name, model.config, model.images)
    network: Network
    told: tuple[str, ...] = ()
    if kind == "torch":
        network = TorchNetwork(model.config, any_module(model), model)
    else:
        graph, told = graph_for(model, device)
        network = OnnxNetwork(name, graph, model.config, lambda: model, device=device)
    labels = labels_for(model.images, model.config.num_classes)
    published = Images(labels=labels) if is_published(str(wanted.address)) else Images()
    images, notes = fitting(model.images, model.config, size)
    notes += assumed(model.config, images.or_else(published), labels)
    notes += (*_activations(model.config, model.images), *model.unsaid.values(), *told)
    steps, heads = preprocess_for(model.config, images), _heads(model.config, model.images)
    thresholds, batch = model.images.thresholds, batch_of(model.config)
    activation = "" if heads else model.activation
    found = Predictor(run_of(network), steps, labels, notes, activation, network, thresholds, batch=batch, heads=heads)
    return replace(found, descriptions=images.descriptions)


def _onnx_of(wanted: Source) -> str | bytes | None:
    """The ONNX file, or its bytes, that a source is and of which nothing else is said; None of any other."""
    if wanted.layout or wanted.weights or wanted.drop or wanted.settings:
        return None
    if not isinstance(wanted.address, Held):
        return str(wanted.address) if _changed(Path(wanted.address)) and is_onnx(Path(wanted.address)) else None
    place = resolve(wanted.address)
    if place.tree is not None or not is_onnx(place.path):
        return None
    with place.kept_if_read():
        check_for_running(place.path)
    return place.path.read_bytes()


def _heads(config: DenseNetConfig, images: Images) -> dict[str, Images]:
    """What is said of the classes of each of several heads."""
    return {head.name: images.of(head.name) for head in config.heads}


def _activations(config: DenseNetConfig, images: Images) -> tuple[str, ...]:
    """Notes on activations that are taken where nobody says."""
    if not config.heads:
        return assumed_activation(config, images)
    said = _heads(config, images)
    return tuple(f"{head}: {note}" for head in said for note in assumed_activation(config.branch(head), said[head]))


def batch_of(config: DenseNetConfig, pixels: bool = False) -> int:
    """How many inputs a thread computes at once."""
    return LARGE_BATCH if pixels or config.spatial_dims == 3 else BATCH


def check_classes(name: str, config: DenseNetConfig, images: Images) -> None:
    """Refuse names of other classes.

    Raises:
        ConverterError: it has them.
    """
    for head in config.heads:
        check_classes(f"{name}: head {head.name}", config.branch(head.name), images.of(head.name))
    if images.labels and not config.heads and len(images.labels) != config.num_classes:
        raise ConverterError(f"{name}: names {len(images.labels)} classes, and has {config.num_classes}")


def _from_onnx(wanted: Source, file: str | bytes, loaded: Any, said: Images, head: str, device: str) -> Predictor:
    source, head = str(wanted), head or wanted.head or ""
    held, key = loaded.get_modelmeta().custom_metadata_map, CONFIG_KEY
    try:
        config = DenseNetConfig.from_dict(parsed(held[key]))
        key = PREPROCESS_KEY
        images = _recorded(held, config)
        heads = {head.name: metadata_of_head(held, config, head.name) for head in config.heads}
        own = tuple((head, _recorded(of, config.branch(head))) for head, of in heads.items())
        images = replace(images, heads=own)
    except (ValueError, TypeError) as error:
        raise ConverterError(f"{source}: its {key} metadata is damaged ({error})") from error
    if head and config.heads:
        said = Images(said.preprocess, heads=((head, replace(said, preprocess=None)),))
    said.check(config)
    check_classes(source, config, images)
    given, shown_as = loaded.get_inputs()[0], Presented.of(held)
    pixels = given.type == "tensor(uint8)"
    results = {output.name for output in loaded.get_outputs()}
    needed = [each.name for each in config.heads] or [LOGITS if config.num_classes else FEATURES]
    if not {*map(shown_as.name, needed)} <= results:
        raise ConverterError(
            f"{source}: gives {', '.join(sorted(results))}, and not {', '.join(needed)}, which are needed"
        )
    if pixels and said.preprocess:
        raise ConverterError(f"{source}: prepares images inside its graph, where --preprocess changes nothing")
    images = said.of_every_head(config).or_else(images)
    size = fixed_size(given.shape)
    if size and images.preprocess and not pixels and images.preprocess.crop != size:
        crop = "x".join(map(str, images.preprocess.crop))
        raise ConverterError(
            f"{source}: takes images of {'x'.join(map(str, size))} only, but its preprocessing makes {crop}"
        )
    labels = () if config.heads else labels_for(images, config.num_classes)
    images, notes = fitting(images, config, () if pixels else size)
    notes += (*assumed(config, images, labels), *_activations(config, images))
    batch = given.shape[0] if isinstance(given.shape[0], int) else batch_of(config, pixels)
    last = shown_as.layout == "nhwc" and not pixels
    network = OnnxNetwork(source, file, config, lambda: load(replace(wanted, head=None)), shown_as, last, device)
    activation = "" if config.heads else images.activation or usual_activation(config.num_classes)
    steps, thresholds, of_heads = preprocess_for(config, images), images.thresholds, _heads(config, images)
    found = Predictor(run_of(network), steps, labels, notes, activation, network, thresholds, pixels, batch, of_heads)
    found = replace(found, descriptions=images.descriptions, fixed=size if pixels else (), resized=shown_as.resized)
    return found.only(head) if head else found


def _recorded(held: Mapping[str, str], config: DenseNetConfig) -> Images:
    """What metadata of a plain network, or of one head, says of images and classes.

    Raises:
        ValueError, TypeError: it is damaged.
    """
    recorded = parsed(held.get(PREPROCESS_KEY, "{}"))
    steps, names = Preprocess.from_dict(recorded) if recorded else None, parsed(held.get(LABELS_KEY, "[]"))
    thresholds = recorded_thresholds(held.get(THRESHOLDS_KEY, ""), config.num_classes)
    descriptions = recorded_descriptions(held.get(DESCRIPTIONS_KEY, ""), names)
    activation = known_activation(held.get(ACTIVATION_KEY, ""))
    return Images(steps, tuple(names), activation, thresholds, descriptions=descriptions)
