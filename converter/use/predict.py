"""A checkpoint or an ONNX file as a predictor, in ONNX Runtime or PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

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
from converter.use.assumed import assumed, assumed_activation, labels_for, preprocess_for
from converter.use.network import Network, OnnxNetwork, TorchNetwork
from converter.use.on_device import graph_for, with_best_batch
from converter.use.predictor import BATCH, LARGE_BATCH, Predictor
from converter.use.sizes import fitting, fixed_size
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess
from densenet.topology import FEATURES, LOGITS
from densenet.zoo import is_published


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
