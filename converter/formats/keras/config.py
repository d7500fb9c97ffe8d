"""A Keras model's own description of itself: parsed, and refused where it holds code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from converter.core.errors import UnreadableFile, UnsafeFile

MAX_CONFIG = 1 << 26


CODE = frozenset(("Lambda", "__lambda__"))


def parse_config(text: str | bytes, where: str) -> dict[str, Any]:
    """A model's config.

    Raises:
        UnreadableFile: it is no JSON object.
        UnsafeFile: it contains a Lambda layer, which is code.
    """
    try:
        config = json.loads(text) if len(text) <= MAX_CONFIG else None
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{where}: its model config is damaged") from error
    if not isinstance(config, dict):
        raise UnreadableFile(f"{where}: its model config is damaged")
    try:
        code = CODE & set(_classes(config))
    except RecursionError as error:
        raise UnreadableFile(f"{where}: its model config is nested too deeply") from error
    if code:
        raise UnsafeFile(f"{where}: refused, the model has a Lambda layer (code to run); nothing was executed")
    return config


def layer_names(config: Mapping[str, Any]) -> dict[str, str]:
    """The layers' names by their place in ``model.weights.h5``: ``conv2d_3`` -> ``conv2_block1_1_conv``.

    saving_lib numbers them per class, in order, class names in snake case (keras/src/utils/naming.py).
    """
    result: dict[str, str] = {}

    def visit(node: Any, place: str, called: str) -> None:
        count: dict[str, int] = {}
        for layer in layer_dicts(node):
            kind = str(layer.get("class_name", ""))
            snake = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", kind).lower()
            number = count.get(snake, 0)
            count[snake] = number + 1
            key = f"{place}{snake}_{number}" if number else f"{place}{snake}"
            inner = layer.get("config")
            own = layer.get("name") or (inner.get("name") if isinstance(inner, dict) else None) or snake
            result[key] = f"{called}{own}"
            visit(layer, f"{key}/", f"{called}{own}/")

    visit(config, "", "")
    return result


def layer_dicts(model: Any) -> list[dict[str, Any]]:
    """The layers of a model's config, in order; none of what is no model."""
    inner = model.get("config") if isinstance(model, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else inner  # Sequential of Keras 2.0: a bare list
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _classes(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("class_name"), str):
            yield node["class_name"]
        for value in node.values():
            yield from _classes(value)
    elif isinstance(node, list):
        for value in node:
            yield from _classes(value)
