"""A Keras model's own description of itself: parsed, and refused where it holds code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from converter.core.errors import UnreadableFile, UnsafeFile
from converter.core.metadata import json_or_none, parsed

CODE = frozenset(("Lambda", "__lambda__"))

Layer = dict[str, Any]
"""A layer or model, whichever Keras described it, by these names.

module, class, name, settings: as the file has them.
calls: for each time it is called, the layers it takes, and which of their outputs.
call: the first of them as the file has it, with operands that are no layers.
layers: of a model, those in it, in order; outputs: which of them, and which of their outputs, are its results.
"""


def parse_config(text: str | bytes, where: str) -> Layer:
    """A model and the layers in it.

    Raises:
        UnreadableFile: it is no JSON object.
        UnsafeFile: it contains a Lambda layer, which is code.
    """
    try:
        config = parsed(text)
    except ValueError as error:
        raise UnreadableFile(f"{where}: its model config is damaged") from error
    return model_of(config, where)


def model_of(config: Any, where: str) -> Layer:
    """The same of a config that is parsed already; errors as for :func:`parse_config`."""
    if not isinstance(config, dict):
        raise UnreadableFile(f"{where}: its model config is damaged")
    try:
        code, model = CODE & set(_classes(config)), _layer(config)
    except RecursionError as error:
        raise UnreadableFile(f"{where}: its model config is nested too deeply") from error
    if code:
        raise UnsafeFile(f"{where}: refused, the model has a Lambda layer (code to run); nothing was executed")
    return model


LOSS = "keras.loss"
"""A key of a checkpoint's metadata: the name or class of the loss that the model was compiled with."""


def compiled_with(text: str | bytes) -> dict[str, str]:
    """The loss in a ``training_config`` (HDF5) or a model's config.json (``compile_config``), as metadata."""
    values = json_or_none(text)
    inner = values.get("compile_config") if isinstance(values, dict) else None
    said = inner if isinstance(inner, dict) else values
    loss = said.get("loss") if isinstance(said, dict) else None
    name = loss.get("class_name") if isinstance(loss, dict) else loss
    return {LOSS: name} if isinstance(name, str) else {}


def layer_names(model: Layer) -> dict[str, str]:
    """The layers' names by their place in ``model.weights.h5``: ``conv2d_3`` -> ``conv2_block1_1_conv``.

    saving_lib numbers them per class, in order, class names in snake case (keras/src/utils/naming.py).
    """
    result: dict[str, str] = {}

    def visit(model: Layer, place: str, called: str) -> None:
        count: dict[str, int] = {}
        for layer in model["layers"]:
            snake = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", layer["class"]).lower()
            number = count.get(snake, 0)
            count[snake] = number + 1
            key = f"{place}{snake}_{number}" if number else f"{place}{snake}"
            result[key] = f"{called}{layer['name'] or snake}"
            visit(layer, f"{key}/", f"{result[key]}/")

    visit(model, "", "")
    return result


def _layer(node: dict[str, Any]) -> Layer:
    inner, calls = node.get("config"), node.get("inbound_nodes")
    settings = inner if isinstance(inner, dict) else {}
    layers = settings.get("layers") if isinstance(inner, dict) else inner  # Sequential of Keras 2.0: a bare list
    return {
        "module": str(node.get("module") or ""),
        "class": str(node.get("class_name", "")),
        "name": str(node.get("name") or settings.get("name") or ""),
        "settings": settings,
        "calls": [list(_references(call)) for call in calls] if isinstance(calls, list) else [],
        "call": calls[0] if isinstance(calls, list) and calls else None,
        "layers": [_layer(each) for each in layers if isinstance(each, dict)] if isinstance(layers, list) else [],
        "outputs": list(_references(settings.get("output_layers"))),
    }


def _references(node: Any) -> Iterator[tuple[str, int]]:
    """Every ``[layer, node, output, ...]`` in an inbound node: the same in Keras 2 and 3, nested otherwise."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list) and len(node) >= 3 and [type(item) for item in node[:3]] == [str, int, int]:
        if node[1] >= 0:  # what is before the first call is a constant
            yield node[0], node[2]
        yield from _references([item for item in node[3:] if isinstance(item, dict)])
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _classes(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("class_name"), str):
            yield node["class_name"]
        for value in node.values():
            yield from _classes(value)
    elif isinstance(node, list):
        for value in node:
            yield from _classes(value)
