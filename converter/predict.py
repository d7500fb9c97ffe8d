"""From images to classes, through ONNX Runtime or PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from converter.address import shown
from converter.convert import load
from converter.errors import ConverterError
from converter.evidence import CONFIG_KEY, LABELS_KEY, PREPROCESS_KEY
from converter.formats.onnx_file import is_onnx
from converter.parity.engines import Run, onnx_engine, onnx_metadata, session, torch_engine, torch_module
from densenet.config import DenseNetConfig
from densenet.labels import imagenet_classes
from densenet.preprocess import Preprocess, Source, load_many
from densenet.zoo import is_published

Array = np.ndarray[Any, Any]
BATCH = 16


@dataclass(frozen=True)
class Predictor:
    """A loaded model: images in, logits out.

    Attributes:
        run: float32 (N, C, H, W) to logits.
        preprocess: what images go through before.
        labels: class names, empty if unknown.
        notes: what had to be assumed.
    """

    run: Run
    preprocess: Preprocess
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def logits(self, images: Sequence[Source], progress: Callable[[int], None] = lambda _: None) -> Array:
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

    def results(self, images: Sequence[Source]) -> list[dict[str, Any]]:
        """mmpretrain's result for each image: pred_scores, pred_label, pred_score, pred_class."""
        if not images:
            return []
        return [self._result(row) for row in softmax(self.logits(images))]

    def _result(self, scores: Array) -> dict[str, Any]:
        best = int(scores.argmax())
        result = {"pred_scores": scores, "pred_label": best, "pred_score": float(scores[best])}
        if self.labels:
            result["pred_class"] = self.labels[best]
        return result


def softmax(logits: Array) -> Array:
    """Probabilities of each row, float32."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    result: Array = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def predictor(
    source: str | Path, *, engine: str = "onnxruntime", settings: Mapping[str, Any] | None = None
) -> Predictor:
    """Load a model for prediction; the last few are kept loaded.

    Args:
        source: a checkpoint, an ONNX file, a URL or a zoo name.
        engine: ``onnxruntime`` or ``torch``.
        settings: config fields no tensor shows.

    Raises:
        ConverterError: it cannot be read, or the engine does not exist or is not installed.
    """
    path = Path(source)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _predictor(str(source), engine, stamp, tuple(sorted((settings or {}).items())))


@lru_cache(maxsize=4)
def _predictor(source: str, engine: str, _stamp: int, settings: tuple[tuple[str, Any], ...]) -> Predictor:
    if engine not in ("onnxruntime", "torch"):
        raise ConverterError(f"no engine is called {engine!r}; there are onnxruntime and torch")
    if engine == "onnxruntime" and is_onnx(Path(source)):
        return _from_onnx(source)
    model = load(source, settings=dict(settings))
    if not model.config.num_classes:
        raise ConverterError(f"{shown(source)}: has no classifier, so there are no classes to predict")
    if engine == "torch":
        run = torch_engine(torch_module(model))
    else:
        from converter.exporters.onnx import to_onnx  # noqa: PLC0415 (onnx is slow to import)

        run = onnx_engine(to_onnx(model).SerializeToString())
    preprocess = usual_preprocess(model.preprocess, model.config)
    labels = _labels(model.labels, model.config.num_classes)
    stated = model.labels or (labels if is_published(source) else ())
    return Predictor(run, preprocess, labels, assumed(model.preprocess, preprocess, stated, labels))


def _from_onnx(source: str) -> Predictor:
    metadata = onnx_metadata(source)
    config = DenseNetConfig.from_dict(metadata.get(CONFIG_KEY, {}))
    taken = session(source).get_inputs()[0]
    if taken.type == "tensor(uint8)":
        raise ConverterError(f"{source}: preprocesses inside the graph; feed it uint8 images directly")
    preprocess = usual_preprocess(metadata.get(PREPROCESS_KEY, {}), config)
    classes = session(source).get_outputs()[0].shape[-1]
    stated = metadata.get(LABELS_KEY, ())
    labels = _labels(stated, classes if isinstance(classes, int) else 0)
    notes = assumed(metadata.get(PREPROCESS_KEY, {}), preprocess, stated, labels)
    return Predictor(onnx_engine(source), preprocess, labels, notes)


def usual_preprocess(recorded: Mapping[str, Any], config: DenseNetConfig) -> Preprocess:
    """What the file records; else the usual preprocessing of such a network."""
    try:
        if recorded:
            return Preprocess.from_dict(recorded)
    except ValueError as error:
        raise ConverterError(f"the recorded preprocessing is damaged ({error})") from error
    if config.in_channels not in (1, 3) or config.spatial_dims != 2:
        what = f"{config.in_channels} channels" if config.spatial_dims == 2 else f"{config.spatial_dims} dimensions"
        raise ConverterError(f"a network of {what} takes no ordinary images")
    usual: dict[str, Any] = {}
    if config.in_channels == 1:
        usual |= {"channels": 1, "mean": (0.449,), "std": (0.226,)}
    if config.stem == "cifar":
        usual |= {"resize": 32, "crop": (32, 32)}
    return Preprocess(**usual)


def assumed(
    recorded: Mapping[str, Any], preprocess: Preprocess, stated: Sequence[str] = (), labels: Sequence[str] = ()
) -> tuple[str, ...]:
    """What a file does not say of its images and classes, and what is taken for it."""
    notes = []
    if not recorded:
        short = f"short edge {preprocess.resize}, " if preprocess.resize else ""
        size = " x ".join(map(str, preprocess.crop))
        notes.append(
            f"how images are prepared is not recorded: {short}centre {size}, mean {list(preprocess.mean)} and std "
            f"{list(preprocess.std)} are assumed; densenet convert --preprocess FILE.json records it"
        )
    if labels and not stated:
        notes.append("the classes have no names here: ImageNet's are shown, as there are 1000 of them")
    return tuple(notes)


def _labels(recorded: Sequence[str], classes: int) -> tuple[str, ...]:
    if recorded:
        return tuple(recorded)
    return imagenet_classes() if classes == len(imagenet_classes()) else ()
