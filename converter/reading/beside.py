"""What stands beside the tensors: images and classes in the file's metadata, or a Hub ``config.json`` in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Record
from converter.core.errors import ConverterError
from converter.core.metadata import (
    ACTIVATION_KEY,
    DESCRIPTIONS_KEY,
    LABELS_KEY,
    PREPROCESS_KEY,
    THRESHOLDS_KEY,
    json_or_none,
    parsed,
)
from converter.core.model import Images, known_activation
from converter.core.text import well_formed
from converter.reading.activation import PROBLEMS, Judged
from converter.reading.class_names import names_in
from converter.reading.thresholds import recorded_thresholds
from densenet.config import DenseNetConfig
from densenet.fields import CHOICES
from densenet.preprocess import Preprocess, from_timm

MODEL_INFO = "model_info/"
"""How the keys begin by which OpenVINO's Model API knows images and classes."""


def config_json(checkpoint: Checkpoint) -> dict[str, Any]:
    """The Hub ``config.json`` in the file's folder, as timm's push_to_hf_hub writes it, or nothing."""
    path = checkpoint.path.parent / "config.json"
    if checkpoint.held:  # the folder that happens to be the current one says nothing of it
        return {}
    try:
        if not path.is_file() or path.stat().st_size > bounds.CONFIG:
            return {}
        values = parsed(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) and "densenet" in str(values.get("architecture", "")) else {}


def layout_of(checkpoint: Checkpoint) -> str:
    """The layout a ``config.json`` speaks for; empty if there is none."""
    return "timm" if config_json(checkpoint) else ""


def settings_of(checkpoint: Checkpoint, config: DenseNetConfig) -> dict[str, Any]:
    """Config fields that a ``config.json`` states and no tensor shows."""
    values = config_json(checkpoint)
    if not values or values.get("num_classes", config.num_classes) != config.num_classes:
        return {}  # none, or it speaks of another file
    given = values.get("model_args")
    arguments = given if isinstance(given, dict) else {}
    blurred = "blur" in values["architecture"] or bool(arguments.get("aa_layer"))
    said = {
        "stem_pool": "blur" if blurred and config.stem != "cifar" else "max",
        "transition_pool": "blur" if blurred and arguments.get("aa_stem_only") is False else "avg",
    }
    if values.get("global_pool") in CHOICES["global_pool"]:
        said["global_pool"] = values["global_pool"]
    return said


def images_of(checkpoint: Checkpoint, classes: int) -> Images:
    """What the file or its ``config.json`` says of images and classes.

    Raises:
        ConverterError: what this tool recorded is damaged.
    """
    activation = known_activation(checkpoint.metadata.get(ACTIVATION_KEY, ""))
    thresholds = recorded_thresholds(checkpoint.metadata.get(THRESHOLDS_KEY, ""), classes)
    labels = tuple(_labels(checkpoint, classes))
    descriptions = _descriptions(checkpoint, labels)
    return Images(_preprocess(checkpoint), labels, activation, thresholds, descriptions=descriptions)


def problem_type(checkpoint: Checkpoint, classes: int) -> Judged | None:
    """The activation that a ``config.json`` of so many classes says, as transformers does; None if it says none."""
    values = config_json(checkpoint)
    said = values.get("problem_type")
    if not isinstance(said, str) or said not in PROBLEMS or values.get("num_classes", classes) != classes:
        return None
    return Judged(PROBLEMS[said])


def normalising(config: DenseNetConfig, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess | None:
    """The usual preprocessing with such a normalisation; None where there is none, or none of images."""
    if not mean:
        return None
    with suppress(ValueError):
        channels = config.in_channels
        spread = [values * channels if len(values) == 1 else values for values in (mean, std)]
        return replace(Preprocess.usual(config), mean=spread[0], std=spread[1])
    return None


def _labels(checkpoint: Checkpoint, classes: int) -> list[str]:
    """Class names, if there are as many as classes, of this tool, of timm's or transformers' config, of mmpretrain."""
    found: Any = None
    if LABELS_KEY in checkpoint.metadata:
        found = json_or_none(checkpoint.metadata[LABELS_KEY])
    if found is None:
        values = config_json(checkpoint)
        pretrained = values.get("pretrained_cfg")
        inner = pretrained.get("label_names") if isinstance(pretrained, dict) else None
        found = values.get("label_names") or inner or names_in(values.get("id2label")) or None
    if found is None and isinstance(checkpoint.tree, dict):
        meta = checkpoint.tree.get("meta")
        if isinstance(meta, dict):  # mmcls: CLASSES; mmengine: dataset_meta.classes
            dataset = meta.get("dataset_meta")
            found = dataset.get("classes") if isinstance(dataset, dict) else meta.get("CLASSES")
    if isinstance(found, Record) or not isinstance(found, (list, tuple)) or len(found) != classes:
        return []
    return [well_formed(str(name)) for name in found]


def _descriptions(checkpoint: Checkpoint, labels: tuple[str, ...]) -> tuple[str, ...]:
    """What class names mean, of this tool or timm (``label_descriptions``); empty where they speak for themselves."""
    if LABELS_KEY in checkpoint.metadata:
        return recorded_descriptions(checkpoint.metadata.get(DESCRIPTIONS_KEY, ""), labels)
    values = config_json(checkpoint)
    pretrained = values.get("pretrained_cfg")
    inner = pretrained.get("label_descriptions") if isinstance(pretrained, dict) else None
    said = values.get("label_descriptions") or inner
    if not isinstance(said, dict):
        return ()
    found = tuple(well_formed(text) if isinstance(text := said.get(name), str) and text else name for name in labels)
    return found if found != labels else ()


def recorded_descriptions(text: str, labels: Sequence[str]) -> tuple[str, ...]:
    """What this tool recorded; empty if it is damaged, or of other classes."""
    values = json_or_none(text)
    good = isinstance(values, list) and len(values) == len(labels) and all(isinstance(name, str) for name in values)
    return tuple(values) if good else ()


def _preprocess(checkpoint: Checkpoint) -> Preprocess | None:
    recorded = checkpoint.metadata.get(PREPROCESS_KEY)
    if recorded is not None:
        try:
            values = parsed(recorded)
            if values:
                return Preprocess.from_dict(values)
        except (ValueError, TypeError, RecursionError) as error:
            raise ConverterError(f"{checkpoint.path}: its {PREPROCESS_KEY} metadata is damaged ({error})") from error
    values = config_json(checkpoint).get("pretrained_cfg")
    if isinstance(values, dict):
        with suppress(ValueError):  # something else than a square centre crop
            return from_timm(values)
    return None
