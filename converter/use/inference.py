"""The seed's three functions: predict with a published or converted model, get it, list what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.core.errors import WrongArgument
from converter.core.model import Images
from converter.core.nearest import meant
from converter.core.source import AnySource
from converter.engines.torch import any_module
from converter.reading.load import load
from converter.use.predict import predictor
from densenet.config import NAMED, DenseNetConfig
from densenet.zoo import MODELS, names, timm_name

if TYPE_CHECKING:
    from densenet.images import ImageSource
    from densenet.model import DenseNet, MultiHeadDenseNet


def inference_model(
    model: AnySource,
    image: ImageSource | Sequence[ImageSource],
    *,
    engine: str = "onnxruntime",
    images: Images | None = None,
) -> dict[str, Any] | list[dict[str, Any]]:
    """Classify images, as mmpretrain's function of this name does (mmpretrain/apis/model.py).

    Args:
        model: a zoo name, a checkpoint of any known kind, an ONNX file or a URL; or what is in memory.
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

    Example:
        >>> from converter import inference_model
        >>> inference_model("digits.onnx", "images/7/173.png")["pred_class"]
        '7'
    """
    many = isinstance(image, (list, tuple))
    loaded = predictor(model, engine=engine, images=images)
    results = loaded.results(list(image) if many else [image])  # type: ignore[list-item,arg-type]
    return results if many else results[0]


def get_model(
    source: AnySource,
    *,
    pretrained: bool = True,
    num_classes: int | None = None,
    in_channels: int | None = None,
    **changes: Any,
) -> DenseNet | MultiHeadDenseNet:
    """A DenseNet as a PyTorch module, in evaluation mode; of several heads one that gives a dict of logits by head.

    What was taken, adapted or made anew is in the module's ``notes``.

    Args:
        source: what :func:`inference_model` takes, or the name of an architecture (``densenet121``), of which the
            weights are taken that timm takes by that name.
        pretrained: whether weights are loaded; without, ``source`` is the name of an architecture or of the zoo.
        num_classes: other than the checkpoint's: the trunk stays, and behind it is one new linear layer; 0 for none.
        in_channels: other than the checkpoint's: the first convolution is adapted as timm does it, for one channel
            the sum over those it had, for more these in turn, scaled so that the sum keeps its size.
        changes: further config fields, with ``pretrained=False`` only.

    Raises:
        converter.ConverterError: the checkpoint cannot be read, or PyTorch is not installed; no architecture has that
            name, or a field cannot have that value (these two are ValueErrors, too).

    Example:
        >>> from converter import get_model
        >>> model = get_model("digits.pth", num_classes=14, in_channels=1)
        >>> model.notes[0]
        'a new linear layer of 14 classes, with random weights'
    """
    asked = {"num_classes": num_classes, "in_channels": in_channels}
    wanted = {name: value for name, value in asked.items() if value is not None}
    if not pretrained:
        if not isinstance(source, str):
            raise WrongArgument("with pretrained=False name an architecture, densenet121 say")
        return _fresh(source, {**changes, **wanted})
    if changes:
        raise WrongArgument("a pretrained model's architecture is given; use pretrained=False to change it")
    named = isinstance(source, str) and source in NAMED and not Path(source).exists()
    published = timm_name(str(source)) if named else ""
    model = load(published or source)
    notes = [f"the weights of {published}, which timm takes for {source!r}"] if published else []
    module: Any = any_module(model)
    if any(value != getattr(model.config, name) for name, value in wanted.items()):
        from converter.engines.transfer import transferred  # noqa: PLC0415 (for few)

        module = transferred(module, model.config, notes, **wanted)
    module.notes = (*notes, *model.notes)
    result: DenseNet | MultiHeadDenseNet = module
    return result


def _fresh(name: str, changes: dict[str, Any]) -> DenseNet:
    """A network by its name, with random weights."""
    from densenet.model import DenseNet  # noqa: PLC0415 (slow to import)

    published = {model.name: model.config for model in MODELS}
    known = [*published, *NAMED]
    if name not in known:
        raise WrongArgument(f"no DenseNet is named {name!r}; there are {', '.join(known)}{meant(name, known)}")
    try:
        config = replace(published[name], **changes) if name in published else DenseNetConfig.named(name, **changes)
    except (TypeError, ValueError) as error:
        raise WrongArgument(f"{name}: {error}") from error
    module: Any = DenseNet(config).eval()
    module.notes = ("random weights",)
    result: DenseNet = module
    return result


def list_models(pattern: str | None = None, *, pretrained: bool = True) -> list[str]:
    """Names of published models (or, with ``pretrained=False``, of architectures), sorted.

    Args:
        pattern: a glob such as ``*121*``.

    Example:
        >>> from converter import list_models
        >>> list_models("torchvision/*")[0]
        'torchvision/densenet121'
    """
    if pretrained:
        return names(pattern)
    return sorted(name for name in NAMED if pattern is None or fnmatchcase(name, pattern))
