"""KerasHub's presets: a folder with a backbone, and mostly a task around it.

keras_hub/src/utils/preset_utils.py: ``config.json`` and ``model.weights.h5`` (or ``model.weights.json`` and shards) are
the backbone; ``task.json`` describes the whole, and ``task.weights.h5`` has what is not in the backbone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Checkpoint
from converter.core.errors import UnreadableFile
from converter.core.mapping import mapped
from converter.core.metadata import PREPROCESS_KEY, json_or_none, to_json
from converter.formats.damage import damaged
from converter.formats.hdf5 import H5Group, read_hdf5
from converter.formats.keras.config import Layer, parse_config
from converter.formats.keras.h5 import by_class
from converter.formats.keras.sharded import merged
from densenet.preprocess import Preprocess

NAME = "Keras preset, KerasHub"
BACKBONE, TASK, PREPROCESSOR = "config.json", "task.json", "preprocessor.json"
WEIGHTS, SHARDED, HEAD = "model.weights.h5", "model.weights.json", "task.weights.h5"
PARTS = (BACKBONE, TASK, PREPROCESSOR, WEIGHTS, SHARDED, HEAD)
OF_KERAS_HUB = re.compile(r'"registered_name"\s*:\s*"keras_(hub|nlp|cv)\b')


def matches(path: Path) -> bool:
    """Whether a file is one of a preset's, by its name and the ``config.json`` beside it."""
    return path.name in PARTS and bool(OF_KERAS_HUB.search(_text(path.parent / BACKBONE)))


def open_preset(path: Path) -> Checkpoint:
    """Open a preset by any of its files: all of it, with the task where there is one.

    Raises:
        UnreadableFile: damaged, or a part is missing.
        UnsafeFile: it holds code, or names a file elsewhere.
    """
    folder = path.parent
    whole = folder / TASK if (folder / TASK).is_file() else folder / BACKBONE
    model = parse_config(_text(whole), str(whole))
    weights = next((folder / name for name in (WEIGHTS, SHARDED) if (folder / name).is_file()), None)
    if weights is None:
        raise UnreadableFile(f"{whole}: {WEIGHTS}, the backbone's weights, is missing beside it")
    root, shards = merged(weights) if weights.name == SHARDED else (_root(weights), (weights,))
    table, files = by_class(root, str(weights)), (whole, *shards)
    if whole.name == TASK:
        with damaged(f"{whole}: a task without a backbone"):
            name = str(model["settings"]["backbone"]["config"]["name"])
        head = folder / HEAD
        if not head.is_file():
            raise UnreadableFile(f"{whole}: {HEAD}, the weights of its head, is missing beside it")
        own = by_class(_root(head), str(head))
        layers = [f"{name}/{layer}" for layer in table.attributes["layer_names"]] + own.attributes["layer_names"]
        table = H5Group({**{f"{name}/{key}": value for key, value in table.items()}, **own}, {"layer_names": layers})
        files = (*files, head)
    version = (json_or_none(_text(folder / "metadata.json") or "{}") or {}).get("keras_version")
    metadata = {"keras_version": version} if isinstance(version, str) else {}
    return Checkpoint(whole, NAME, table, metadata | preprocessing(model), files, graph=model)


def preprocessing(model: Layer) -> dict[str, str]:
    """What a task's preprocessor does to images, as metadata; nothing where it does what we do not.

    ``image * scale + offset`` of values from 0 to 255, behind a resize (keras_hub's ImageConverter).
    """
    said: Any = model["settings"].get("preprocessor")
    with suppress(LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        given = said["config"]["image_converter"]["config"]
        size = tuple(map(int, given["image_size"]))
        if given.get("pad_to_aspect_ratio") or given.get("data_format") == "channels_first" or len(size) != 2:
            return {}
        cropped = given.get("crop_to_aspect_ratio", True)
        if cropped and size[0] != size[1]:
            return {}
        std = [1 / (255 * scale) for scale in _three(given, "scale", 1.0)]
        mean = [-offset * each for offset, each in zip(_three(given, "offset", 0.0), std)]
        kind, antialias = given.get("interpolation", "bilinear"), bool(given.get("antialias", False))
        ready = Preprocess(size[0] if cropped else size, size, kind, antialias, tuple(mean), tuple(std))
        return {PREPROCESS_KEY: to_json(ready.to_dict())}
    return {}


def _three(given: Mapping[str, Any], name: str, usual: float) -> list[float]:
    """One number for each channel."""
    value = given.get(name)
    numbers = [usual if value is None else value] * 3 if not isinstance(value, list) else value
    return [float(number) for number in numbers]


def _root(path: Path) -> H5Group:
    return read_hdf5(mapped(path), str(path))


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() and path.stat().st_size <= bounds.CONFIG else ""
