"""The seed's three functions: predict with a published or converted model, get it, list what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.core.model import Images
from converter.engines.torch import any_module
from converter.reading.load import load
from converter.use.predict import predictor
from densenet.config import NAMED, DenseNetConfig
from densenet.zoo import MODELS, names

if TYPE_CHECKING:
    from densenet.images import ImageSource
    from densenet.model import DenseNet, MultiHeadDenseNet


def inference_model(
    model: str | Path,
    image: ImageSource | Sequence[ImageSource],
    *,
    engine: str = "onnxruntime",
    images: Images | None = None,
) -> dict[str, Any] | list[dict[str, Any]]:
    """Classify images, as mmpretrain's function of this name does (mmpretrain/apis/model.py).

    Args:
        model: a zoo name, a checkpoint of any known kind, an ONNX file or a URL.
        image: a path, a Pillow image or uint8 pixels (H, W, 3) RGB; or a list of these.
        engine: ``onnxruntime``, or ``torch`` for PyTorch.
        images: what the model's images, classes and activation are, where it does not say.

    Returns:
        For one image a dict, for a list a list of dicts: ``pred_scores`` float32
        (num_classes,) what the model's activation makes of the logits (softmax, sigmoid or
        none), ``pred_label`` the best class' index, ``pred_score`` its score, and
        ``pred_class`` its name where the classes have names.

    Raises:
        converter.ConverterError: the model or an image cannot be read.
    """
    many = isinstance(image, (list, tuple))
    loaded = predictor(model, engine=engine, images=images)
    results = loaded.results(list(image) if many else [image])  # type: ignore[list-item,arg-type]
    return results if many else results[0]


def get_model(source: str | Path, *, pretrained: bool = True, **changes: Any) -> DenseNet | MultiHeadDenseNet:
    """A DenseNet as a PyTorch module, in evaluation mode; of several heads one that gives a dict of logits by head.

    Args:
        source: what :func:`inference_model` takes; with ``pretrained=False`` the name of
            an architecture (``densenet121``), freshly initialised.
        changes: config fields to change, with ``pretrained=False`` only.

    Raises:
        converter.ConverterError: the checkpoint cannot be read, or PyTorch is not installed.
        ValueError: no architecture has that name.
    """
    if pretrained:
        if changes:
            raise ValueError("a pretrained model's architecture is given; use pretrained=False to change it")

        return any_module(load(source))
    from densenet.model import DenseNet  # noqa: PLC0415 (slow to import)

    published = {model.name: model.config for model in MODELS}
    if str(source) in published:
        return DenseNet(replace(published[str(source)], **changes)).eval()
    return DenseNet(DenseNetConfig.named(str(source), **changes)).eval()


def list_models(pattern: str | None = None, *, pretrained: bool = True) -> list[str]:
    """Names of published models (or, with ``pretrained=False``, of architectures), sorted.

    Args:
        pattern: a glob such as ``*121*``.
    """
    if pretrained:
        return names(pattern)
    return sorted(name for name in NAMED if pattern is None or fnmatchcase(name, pattern))
