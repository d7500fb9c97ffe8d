"""What an OpenVINO IR says by the keys of OpenVINO's Model API, which prepares images outside the graph.

openvinotoolkit/model_api, docs, "Model configuration": ``rt_info`` has a ``model_info`` with ``labels``,
``multilabel``, ``mean_values`` and ``scale_values`` of 0 to 255 in the network's order of channels, ``resize_type``
and ``reverse_input_channels``; ``embedded_processing`` where the graph does all that itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from converter.core.checkpoint import Checkpoint
from converter.core.metadata import json_or_none
from converter.core.model import Images
from converter.core.text import well_formed
from converter.reading.beside import MODEL_INFO
from converter.structures.front import Front
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess

RESIZES = ("standard", "crop")
"""Both edges to the input's; the middle of the input's shape, to its size.  Others add borders."""


def model_info(checkpoint: Checkpoint, config: DenseNetConfig, front: Front) -> tuple[Images, list[str]]:
    """Images and classes as a file's ``model_info`` says them, and what people should know of that.

    Args:
        checkpoint: the opened file.
        config: its network.
        front: what the graph itself does to images.
    """
    start = len(MODEL_INFO)
    said = {key[start:]: text for key, text in checkpoint.metadata.items() if key.startswith(MODEL_INFO)}
    if not said:
        return Images(), []
    labels, notes = _labels(said, config.num_classes)
    flags = {key: text.lower() in ("true", "yes") for key, text in said.items()}
    activation = "" if "multilabel" not in said else "sigmoid" if flags["multilabel"] else "softmax"
    if config.num_classes == 1 and activation == "softmax":
        activation = ""
    mean, scale = (_numbers(said.get(key, ""), config.in_channels) for key in ("mean_values", "scale_values"))
    if not (mean or scale):
        return Images(None, labels, activation), notes
    normalised = any(front.shift) or any(number != 1 for number in front.scale)
    if normalised or flags.get("embedded_processing"):
        notes.append("mean_values and scale_values of its model_info are taken to be what its graph does already")
        return Images(None, labels, activation), notes
    steps = None
    with suppress(ValueError):  # of no images, or numbers that are none of a normalisation
        width = config.in_channels
        steps = replace(
            Preprocess.usual(config),
            mean=tuple(float(f"{value / 255:.7g}") for value in mean or [0.0] * width),
            std=tuple(float(f"{value / 255:.7g}") for value in scale or [1.0] * width),
        )
    if steps is None:
        return Images(None, labels, activation), [*notes, "the normalisation of its model_info is not one of images"]
    steps, how = _resized(steps, said, _input_size(checkpoint.graph))
    turned = flags.get("reverse_input_channels")
    order = "red first (it has those of images that come blue first reversed)" if turned else "red first"
    unsaid = "" if turned or config.in_channels != 3 else ", which it does not say"
    channels = f", channels {order}{unsaid}" if config.in_channels == 3 else ""
    notes.append(
        f"its preprocessing is outside the graph and taken from its model_info: mean and scale{channels}, {how}"
    )
    return Images(steps, labels, activation), notes


def _labels(said: Mapping[str, str], classes: int) -> tuple[tuple[str, ...], list[str]]:
    """The names of so many classes: those of OTX's ``label_info``, or words (spaces in them are underscores)."""
    info: Any = json_or_none(said.get("label_info", ""))
    exact = info.get("label_names") if isinstance(info, dict) else None
    names = exact if isinstance(exact, list) and len(exact) == classes else said.get("labels", "").split()
    if not names or not classes:
        return (), []
    if len(names) != classes or not all(isinstance(name, str) for name in names):
        note = f"its model_info has {len(names)} labels, the network {classes} outputs, so they are not taken"
        return (), [f"{note}; --labels names these"]
    return tuple(map(well_formed, names)), []


def _numbers(text: str, channels: int) -> list[float]:
    """One number for each channel; nothing where a text is no such numbers."""
    with suppress(ValueError):
        found = [float(part) for part in text.replace(",", " ").strip("[] ").split()]
        return found * channels if len(found) == 1 else found
    return []


def _input_size(graph: Any) -> tuple[int, ...]:
    """Height and width of the images a graph takes; empty where it takes any."""
    sizes: list[int] = next(
        (layer.outputs[0].sizes for layer in graph.layers.values() if layer.type == "Parameter"), []
    )
    space = sizes[1:3] if sizes[3:] in ([1], [3]) else sizes[2:]
    return tuple(space) if len(space) == 2 and min(space) > 0 else ()


def _resized(steps: Preprocess, said: Mapping[str, str], size: tuple[int, ...]) -> tuple[Preprocess, str]:
    """With sizes as they are said, and what to say of them."""
    kind = said.get("resize_type", RESIZES[0])
    if kind not in RESIZES or not size or (kind == "crop" and size[0] != size[1]):
        what = f"resize_type {kind} cannot be carried" if size else "the file takes any size"
        return steps, f"resized as usual ({what}; --preprocess)"
    both = (size[0], size[1])
    edges = size[0] if kind == "crop" else both
    return replace(steps, resize=edges, crop=both, antialias=False), f"resized to {size[0]}x{size[1]} ({kind})"
