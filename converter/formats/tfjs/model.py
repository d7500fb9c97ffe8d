"""TensorFlow.js' two kinds of models: of layers, as Keras describes them, and of a graph, as TensorFlow does.

tensorflowjs/converters (keras_h5_conversion.py, tf_saved_model_conversion_v2.py) writes both; TensorFlow.js itself and
Teachable Machine, which puts its classes into a ``metadata.json``, write layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.core.metadata import json_or_none, parsed, to_json
from converter.formats.damage import damaged, naming
from converter.formats.hdf5 import H5Group
from converter.formats.keras.config import Layer, compiled_with, model_of, parse_config
from converter.formats.tfjs.graph import graph_of
from converter.formats.tfjs.weights import paths_of, weights_of

LAYERS = "Keras model, TensorFlow.js layers"
GRAPH = "TensorFlow.js graph model"
HEAD = re.compile(rb'\s*\{.*"(modelTopology|weightsManifest)"|\s*\{.*"format"\s*:\s*"(layers|graph)-model"', re.DOTALL)
CLASSES = "metadata.json"
"""What Teachable Machine puts beside a model: its classes under ``labels``."""


def matches(path: Path, head: bytes) -> bool:
    """Whether a file is a ``model.json``, by how it begins."""
    return path.suffix == ".json" and HEAD.match(head) is not None


def index_of(path: Path) -> Path | None:
    """The ``model.json`` that names a file of weights beside it; None where none does."""
    if path.suffix != ".bin":
        return None
    return next((index for index in indices_in(path.parent) if path.name in map(_file_name, _named_by(index))), None)


def indices_in(folder: Path) -> Iterator[Path]:
    """The models of TensorFlow.js in a folder."""
    for path in sorted(islice(folder.glob("*.json"), bounds.BESIDE)):
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(512)
            if matches(path, head):
                yield path


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _named_by(index: Path) -> list[str]:
    values: Any = json_or_none(index.read_bytes()) if index.stat().st_size <= bounds.JSON else None
    try:
        return paths_of(values["weightsManifest"])
    except (LookupError, TypeError):
        return []


def open_shard(path: Path) -> Checkpoint:
    """Open the model that a file of weights belongs to; errors as for :func:`open_model`."""
    index = index_of(path)
    if index is None:
        raise UnreadableFile(f"{path}: no model.json beside it names it")
    return open_model(index)


def open_model(path: Path) -> Checkpoint:
    """Open a ``model.json`` with its weights.

    Raises:
        UnreadableFile: damaged, quantised to 8 bits, or a file of weights is missing.
        UnsafeFile: it names a file elsewhere, or holds code.
    """
    if path.stat().st_size > bounds.JSON:
        raise UnreadableFile(f"{path}: too large for a description of a network")
    with damaged(f"{path}: not a model of TensorFlow.js, damaged JSON"):
        values = parsed(path.read_text("utf-8"))
        topology = values.get("modelTopology")
    manifest = values.get("weightsManifest")
    if not isinstance(topology, dict):
        raise UnreadableFile(f"{path}: holds weights of TensorFlow.js, but not what is computed (no modelTopology)")
    if manifest is None:
        raise UnreadableFile(f"{path}: does not say where its weights are (no weightsManifest)")
    tensors, files = weights_of(path, manifest)
    labels = _labels(path)
    if "node" in topology:
        with naming(path), damaged(f"{path}: its graph is damaged"):
            graph = graph_of(values, topology, tensors)
        return Checkpoint(path, GRAPH, {}, labels, (path, *files), graph=graph)
    described = topology.get("model_config", topology)
    model = parse_config(described, str(path)) if isinstance(described, str) else model_of(described, str(path))
    version = topology.get("keras_version")
    metadata = {"keras_version": version} if isinstance(version, str) and version[:1].isdecimal() else {}
    metadata |= {**compiled_with(to_json(topology.get("training_config"))), **labels}
    table = _by_place(tensors, model, str(path))
    return Checkpoint(path, LAYERS, table, metadata, (path, *files), graph=model)


def _labels(path: Path) -> dict[str, str]:
    """The classes that Teachable Machine names beside a model, as metadata."""
    beside = path.parent / CLASSES
    said = json_or_none(beside.read_bytes()) if beside.is_file() and beside.stat().st_size <= bounds.CONFIG else None
    labels = said.get("labels") if isinstance(said, dict) else None
    return {"labels": to_json(labels)} if isinstance(labels, list) else {}


def _by_place(tensors: dict[str, Tensor], model: Layer, where: str) -> H5Group:
    """Weights under the names of their layers with the models those are in; theirs are of the layer alone.

    As TensorFlow.js looks for them (tfjs-layers/src/engine/container.ts, loadWeights): by the layer's name, or by that
    without a part behind it.
    """
    places: dict[str, list[str]] = {}
    for name, place in _layers(model, ""):
        places.setdefault(name, []).append(place)
    table: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        scope, _, leaf = key.rpartition("/")
        parts = scope.split("/")
        tried = (scope, scope.rpartition("/")[0], *("/".join(parts[i:]) for i in range(1, len(parts))))
        found = next((places[name] for name in tried if name in places), [scope])
        if len(found) > 1:
            raise UnreadableFile(f"{where}: {' and '.join(found[:2])} have one name, and {key} may be of either")
        table[f"{found[0]}/{leaf}"] = tensor
    if len(table) < len(tensors):
        raise UnreadableFile(f"{where}: two of its weights are of one layer and name")
    return H5Group(table, {"layer_names": [place for found in places.values() for place in found]})


def _layers(model: Layer, place: str) -> Iterator[tuple[str, str]]:
    """Every layer's name, and that with the models it is in."""
    for layer in model["layers"]:
        name: Any = layer["name"]
        yield name, place + name
        yield from _layers(layer, f"{place}{name}/")
