"""What the tools of others expect in a repository: timm's config.json, transformers.js' preprocessor_config.json.

timm (timm/models/densenet.py) ties the width of the stem to the growth rate and has no
CIFAR stem; a network it cannot build is published in the library layout and as ONNX.
transformers reads timm's config.json too, provided that it says no ``model_type``, and runs
the package's own code where the network is not timm's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converter.core.errors import CannotExpress
from converter.core.model import Images
from converter.engines.runtimes import RUNTIMES
from converter.engines.timm_model import timm_model
from converter.publish.transformers_code import CODE, PROCESSING, PROCESSOR, model_fields, why_not_transformers
from densenet.config import DenseNetConfig
from densenet.preprocess import RESAMPLE, Preprocess

WEIGHTS, CONFIG, PREPROCESSOR, CARD = "model.safetensors", "config.json", "preprocessor_config.json", "README.md"
PLACEHOLDER = "OWNER/NAME"
"""Stands for the repository in a card written before it is known."""
PARITY, PARITY_HTML = "parity.json", "parity.html"
PAGE = "index.html"
"""The page that classifies images in a browser."""
ONNX_FILES: Mapping[str, str] = {
    "fp32": "onnx/model.onnx",
    "fp16": "onnx/model_fp16.onnx",
    "int8": "onnx/model_quantized.onnx",
}
"""The names transformers.js and optimum look for."""
REQUIRED = (WEIGHTS, CONFIG, CARD)
"""What every package has; a proof that does not cover these proves nothing."""
OURS = frozenset({WEIGHTS, CONFIG, PREPROCESSOR, CARD, PARITY, PARITY_HTML, *ONNX_FILES.values(), *CODE}) | frozenset(
    name for runtime in RUNTIMES for name in runtime.files()
)
"""Every file of a package that tools read, beside provenance.json; an index.html may be anybody's."""

PROBLEM_TYPES = {
    "softmax": "single_label_classification",
    "sigmoid": "multi_label_classification",
    "none": "regression",
}
"""What transformers calls an activation's task; its pipeline makes probabilities by it, of "regression" none
(transformers/pipelines/image_classification.py)."""


@dataclass(frozen=True)
class Description:
    """How a package says what its weights are, for the tools of others.

    Attributes:
        layout: whose names the weights have: ``timm`` or ``library``.
        why_not_timm, why_not_transformers: empty where they load it.
        config: config.json.
        preprocessor: preprocessor_config.json; None for inputs that are no images.
        code: names of the files that transformers runs.
    """

    layout: str
    why_not_timm: str
    why_not_transformers: str
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any] | None
    code: tuple[str, ...]


def describe(config: DenseNetConfig, images: Images, license_id: str | None = None) -> Description:
    """What a package of a network says.

    Raises:
        CannotExpress: no reader of a package gives such networks their images.
    """
    steps = images.preprocess if images.preprocess and not images.preprocess.of_volumes else None
    try:
        values = timm_config(config, images, license_id)
    except CannotExpress as error:
        why, why_not = str(error), why_not_transformers(config)
        coded = not why_not
        values = library_config(config, images) | (model_fields(config) if coded else {})
        prepared = preprocessor_config(steps, PROCESSOR if coded else "BitImageProcessor") if steps else None
        return Description("library", why, why_not, values, prepared, CODE if coded else ())
    assert steps is not None
    return Description("timm", "", "", values, preprocessor_config(steps, "TimmWrapperImageProcessor"), ())


def timm_config(config: DenseNetConfig, images: Images, license_id: str | None) -> dict[str, Any]:
    """timm's config.json, which transformers' TimmWrapper reads as well.

    Raises:
        CannotExpress: timm has no such network, or takes no such images.
    """
    model, preprocess = timm_model(config), images.preprocess
    if preprocess is None or preprocess.of_volumes:
        raise CannotExpress("timm prepares images of 1 or 3 channels only")
    if preprocess.order != "rgb":
        raise CannotExpress(f"timm gives networks RGB, and this one takes {preprocess.order.upper()}")
    height, width = preprocess.crop
    # Pixels of the input per position of the last feature map.
    reduction = 2 ** (len(config.block_config) + (-1 if config.stem == "cifar" else 1))
    result: dict[str, Any] = {
        "architecture": model.architecture,
        "num_classes": config.num_classes,
        "num_features": config.num_features,
        "global_pool": config.global_pool,
    }
    if model.arguments:
        result["model_args"] = dict(model.arguments)
    pretrained: dict[str, Any] = {
        "custom_load": False,
        "input_size": [config.in_channels, height, width],
        "fixed_input_size": False,
        "interpolation": preprocess.interpolation,
        "crop_pct": crop_fraction(preprocess),
        "crop_mode": "squash" if isinstance(preprocess.resize, tuple) else "center",
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "num_classes": config.num_classes,
        "pool_size": [n // reduction for n in (height, width)],
        # With first_conv timm would adapt weights of 3 channels to in_chans; these have their own number already.
        "first_conv": "features.conv0" if config.in_channels == 3 else None,
        "classifier": "classifier",
    }
    if license_id:
        pretrained["license"] = license_id
    result["pretrained_cfg"] = pretrained
    return result | _class_fields(config.num_classes, images)


def library_config(config: DenseNetConfig, images: Images) -> dict[str, Any]:
    """config.json of a network timm does not have: no ``pretrained_cfg``, so that nobody takes it for timm's."""
    heads = {
        head.name: {"num_classes": head.num_classes, **_class_fields(head.num_classes, images.of(head.name))}
        for head in config.heads
    }
    return {
        "library_name": "densenet-converter",
        "densenet": config.to_dict(),
        "num_classes": config.num_classes,
        **({"heads": heads} if heads else _class_fields(config.num_classes, images)),
    }


def _class_fields(num_classes: int, images: Images) -> dict[str, Any]:
    """What makes probabilities; class names for timm, transformers, and once more for optimum and transformers.js."""
    labels = images.labels
    problem = {"problem_type": PROBLEM_TYPES[images.activation]} if images.activation and num_classes else {}
    if not labels:
        return problem | ({"num_labels": num_classes} if num_classes else {})
    return problem | {
        "label_names": list(labels),
        "label_descriptions": dict(zip(labels, images.descriptions or labels)),
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": {name: i for i, name in enumerate(labels)},
    }


def unknown_labels(classes: int) -> tuple[str, ...]:
    """Names of classes that nobody has named, as transformers makes them."""
    return tuple(f"LABEL_{i}" for i in range(classes))


def crop_fraction(preprocess: Preprocess) -> float:
    """timm's crop_pct: the crop's share of the resized edges, exact under timm's ``floor(crop / share)``.

    Of two resized edges it is the one that suits both, else the height's.
    """
    if preprocess.resize is None:
        return 1.0
    edges = preprocess.resize if isinstance(preprocess.resize, tuple) else (preprocess.resize,)
    shares = []
    for length, edge in zip(preprocess.size, edges):
        share = length / edge
        while math.floor(length / share) < edge:
            share = math.nextafter(share, 0)
        shares.append(share)
    suits = (share for share in shares if all(math.floor(n / share) == edge for n, edge in zip(preprocess.size, edges)))
    return next(suits, shares[0])


def unlike_timm(preprocess: Preprocess) -> list[str]:
    """What timm's (and transformers') preprocessing cannot do the way the source did."""
    both, share = isinstance(preprocess.resize, tuple), crop_fraction(preprocess)
    said = {
        "no antialiasing on resizing (OpenCV's bilinear)": not preprocess.antialias,
        "images are not resized": preprocess.resize is None,
        "the crop is not square": preprocess.crop[0] != preprocess.crop[1] and not both,
        "the two edges are resized by shares of their own": both
        and preprocess.resize != tuple(math.floor(length / share) for length in preprocess.size),
    }
    return [what for what, differs in said.items() if differs]


def preprocessor_config(preprocess: Preprocess, processor: str) -> dict[str, Any]:
    """preprocessor_config.json, as transformers, transformers.js and optimum read it.

    Mean and standard deviation are those of red, green and blue in this order: whoever puts blue first does so at the
    end (the package's own code; transformers.js, src/base/image_processors_utils.js).

    Args:
        preprocess: what images go through.
        processor: transformers' class.  Where it is timm's, transformers prepares images as config.json says;
            transformers.js, which knows neither that one nor ours, takes its base class and reads the fields.

    Raises:
        CannotExpress: the network takes its channels in another order than the class gives them.
    """
    ours, turned = processor == PROCESSOR, preprocess.order != "rgb"
    if turned and not ours:
        raise CannotExpress(f"transformers gives networks RGB, and this one takes {preprocess.order.upper()}")
    height, width = preprocess.crop
    size = {"shortest_edge": preprocess.resize or min(height, width)}
    if isinstance(preprocess.resize, tuple):
        size = dict(zip(("height", "width"), preprocess.resize))
    step = -1 if turned else 1
    result = {
        "image_processor_type": processor,
        "do_resize": preprocess.resize is not None,
        "size": size,
        "resample": RESAMPLE[preprocess.interpolation],
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean)[::step],
        "image_std": list(preprocess.std)[::step],
    }
    if ours:
        result["auto_map"] = {"AutoImageProcessor": f"{PROCESSING}.{PROCESSOR}"}
        result |= {"do_flip_channel_order": True} if turned else {}
        result |= {} if preprocess.antialias else {"antialias": False}
    return result
