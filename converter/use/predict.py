"""From images to classes, through ONNX Runtime or PyTorch."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.core.metadata import ACTIVATION_KEY, CONFIG_KEY, LABELS_KEY, PREPROCESS_KEY, THRESHOLDS_KEY
from converter.core.model import Images, known_activation, usual_activation
from converter.core.source import shown
from converter.engines.onnxruntime import onnx_engine, session
from converter.engines.run import Run
from converter.engines.torch import torch_engine, torch_module
from converter.formats.onnx_file import is_onnx
from converter.reading.load import load
from converter.reading.thresholds import recorded_thresholds
from converter.use.activation import activated
from converter.use.assumed import assumed, assumed_activation, labels_for, preprocess_for
from densenet.config import DenseNetConfig
from densenet.images import ImageSource, load_many
from densenet.preprocess import Preprocess
from densenet.zoo import is_published

BATCH = 16


@dataclass(frozen=True)
class Predictor:
    """A loaded model: images in, logits out.

    Attributes:
        run: float32 (N, C, H, W) to logits.
        preprocess: what images go through before.
        labels: class names, empty if unknown.
        notes: what had to be assumed.
        activation: what makes probabilities of logits, one of :data:`converter.core.model.ACTIVATIONS`.
        thresholds: from which probability on a class is taken to be there, empty if unknown.
    """

    run: Run
    preprocess: Preprocess
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    activation: str = "softmax"
    thresholds: tuple[float | None, ...] = ()

    def logits(self, images: Sequence[ImageSource], progress: Callable[[int], None] = lambda _: None) -> Array:
        """Logits (N, classes) of images given as paths, Pillow images or uint8 arrays.

        Raises:
            ConverterError: an image cannot be read.
        """
        parts = []
        for start in range(0, len(images), BATCH):
            try:
                batch = load_many(images[start : start + BATCH], self.preprocess)
            except ValueError as error:
                raise ConverterError(str(error)) from error
            parts.append(self.run(batch))
            progress(len(batch))
        return np.concatenate(parts)

    def results(self, images: Sequence[ImageSource]) -> list[dict[str, Any]]:
        """mmpretrain's result for each image: pred_scores, pred_label, pred_score, pred_class."""
        result: list[dict[str, Any]] = []
        for scores in activated(self.logits(images), self.activation).astype(np.float32) if images else ():
            best = int(scores.argmax())
            result.append({"pred_scores": scores, "pred_label": best, "pred_score": float(scores[best])})
            if self.labels:
                result[-1]["pred_class"] = self.labels[best]
        return result

    def ranked(self, images: Sequence[Path], top: int) -> list[dict[str, Any]]:
        """For each image as plain JSON values its best class, and the ``top`` best in order."""
        result = []
        for image, found in zip(images, self.results(images)):
            scores = found.pop("pred_scores")
            best = [int(i) for i in (-scores).argsort(kind="stable")[:top]]
            names = {i: self.labels[i] if self.labels else "" for i in best}
            ranks: list[dict[str, Any]] = [
                {"label": i, "score": float(scores[i]), "class": names[i]}
                | ({"threshold": self.thresholds[i]} if self.thresholds else {})
                for i in best
            ]
            result.append({"image": str(image), **found, "top": ranks})
        return result


def predictor(source: str | Path, *, engine: str = "onnxruntime", images: Images | None = None) -> Predictor:
    """Load a model for prediction; the last few are kept loaded.

    Args:
        source: a checkpoint, an ONNX file, a URL or a zoo name.
        engine: ``onnxruntime`` or ``torch``.
        images: what its images and classes are, where the source does not say.

    Raises:
        ConverterError: it cannot be read, the engine does not exist or is not installed, or what is said of images
            and classes is of another network.
    """
    path = Path(source)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _predictor(str(source), engine, stamp, images or Images())


@lru_cache(maxsize=4)
def _predictor(source: str, engine: str, _stamp: int, images: Images) -> Predictor:
    if engine not in ("onnxruntime", "torch"):
        raise ConverterError(f"no engine is called {engine!r}; there are onnxruntime and torch")
    if engine == "onnxruntime" and is_onnx(Path(source)):
        loaded = session(source)
        if CONFIG_KEY in loaded.get_modelmeta().custom_metadata_map:
            return _from_onnx(
                source, loaded, images
            )  # others' graphs may normalise, or give probabilities: they are read
    model = load(source).described(images)
    if not model.config.num_classes:
        raise ConverterError(f"{shown(source)}: has no classifier, so there are no classes to predict")
    if engine == "torch":
        run = torch_engine(torch_module(model))
    else:
        from converter.exporters.onnx import to_onnx  # noqa: PLC0415 (onnx is slow to import)

        run = onnx_engine(to_onnx(model).SerializeToString())
    labels = labels_for(model.images, model.config.num_classes)
    said = Images(labels=labels) if is_published(source) else Images()
    notes = assumed(model.config, model.images.or_else(said), labels)
    notes += (*assumed_activation(model.config, model.images), *model.unsaid.values())
    steps = preprocess_for(model.config, model.images)
    return Predictor(run, steps, labels, notes, model.activation, model.images.thresholds)


def _from_onnx(source: str, loaded: Any, wanted: Images) -> Predictor:
    if loaded.get_inputs()[0].type == "tensor(uint8)":
        raise ConverterError(f"{source}: preprocesses inside the graph; feed it uint8 images directly")
    said, key = loaded.get_modelmeta().custom_metadata_map, CONFIG_KEY
    try:
        config = DenseNetConfig.from_dict(json.loads(said[key]))
        key = PREPROCESS_KEY
        recorded = json.loads(said.get(key, "{}"))
        steps, names = Preprocess.from_dict(recorded) if recorded else None, json.loads(said.get(LABELS_KEY, "[]"))
        thresholds = recorded_thresholds(said.get(THRESHOLDS_KEY, ""), config.num_classes)
        images = Images(steps, tuple(names), known_activation(said.get(ACTIVATION_KEY, "")), thresholds)
    except (ValueError, TypeError) as error:
        raise ConverterError(f"{source}: its {key} metadata is damaged ({error})") from error
    wanted.check(config)
    images = wanted.or_else(images)
    classes = loaded.get_outputs()[0].shape[-1]
    labels = labels_for(images, classes if isinstance(classes, int) else 0)
    notes = (*assumed(config, images, labels), *assumed_activation(config, images))
    activation = images.activation or usual_activation(config.num_classes)
    return Predictor(onnx_engine(source), preprocess_for(config, images), labels, notes, activation, images.thresholds)
