"""What this tool writes into the metadata of its files: every key, and how values become text."""

import json
from collections.abc import Mapping
from typing import Any

from converter.core import bounds
from converter.core.text import well_formed
from converter.core.version import __version__

CONFIG_KEY = "densenet.config"
SOURCE_KEY = "densenet.source"
PREPROCESS_KEY = "densenet.preprocess"
LABELS_KEY = "densenet.labels"
ACTIVATION_KEY = "densenet.activation"
"""``softmax`` or ``sigmoid``: what makes probabilities of the logits; ``none``: they are no logits of probabilities."""
THRESHOLDS_KEY = "densenet.thresholds"
"""From which probability on a class is taken to be there, one number a class, null for none."""
DESCRIPTIONS_KEY = "densenet.descriptions"
"""What the classes' names mean, one text a class, where they are synsets or codes."""
HEADS_KEY = "densenet.heads"
"""Of several heads by name what else stands under those keys: labels, activation, thresholds."""
OF_IMAGES = (PREPROCESS_KEY, LABELS_KEY, ACTIVATION_KEY, THRESHOLDS_KEY, HEADS_KEY, DESCRIPTIONS_KEY)
"""What is known of images and classes, which files of every kind keep."""
TOOL_KEY = "densenet.tool"
TOOL = f"densenet-converter {__version__}"
"""What every file of this tool says of itself, whatever else its format has room for."""
FINGERPRINT_KEY = "densenet.fingerprint"
"""Of the weights that a file was made of, whatever became of them in it (:class:`converter.core.fingerprint.Watch`)."""
MADE_KEY = "densenet.made"
"""Of a file that is one of many: what it was made of and how, as JSON, by which the next run knows it."""
LAYOUT_KEY = "densenet.layout"
"""Whose names a safetensors file has."""
GRAPH_KEY = "densenet.graph"
"""``exact`` or ``fused``, of an ONNX file."""
PRECISION_KEY = "densenet.precision"
"""``fp16`` or ``int8``, of an ONNX file of reduced precision."""
INTERFACE_KEY = "densenet.interface"
"""Of an ONNX file whose outputs have other names than what they are, or whose channels are last: what is what."""


MEMBER = "densenet.json"
"""What all of this is called in files that keep texts by name: one text, a JSON object of texts by key."""


def to_json(value: Any) -> str:
    """Compact JSON, keys in the order given; lone surrogates, which no file can hold, become question marks."""
    return well_formed(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def to_comment(metadata: Mapping[str, str]) -> str:
    """Metadata as one text, for formats that have room for a comment: the tool's name in a line, then JSON."""
    return f"{TOOL}\n{to_json(metadata)}" if metadata else TOOL


def from_comment(text: str) -> dict[str, str]:
    """The inverse of :func:`to_comment`; nothing of a comment of others."""
    tool, _, rest = text.partition("\n")
    if tool.partition(" ")[0] != TOOL.partition(" ")[0]:
        return {}
    values = json_or_none(rest)
    said = values if isinstance(values, dict) else {}
    return {TOOL_KEY: tool, **{key: value for key, value in said.items() if isinstance(value, str)}}


def from_member(text: str | bytes) -> dict[str, str]:
    """What such a text says; nothing where it is damaged."""
    values = json_or_none(text)
    return {k: v for k, v in values.items() if isinstance(v, str)} if isinstance(values, dict) else {}


def parsed(text: str | bytes, most: int | None = None) -> Any:
    """The value of a JSON text of others.

    Raises:
        ValueError: it is none, or one of more than ``most`` bytes (by default ``bounds.JSON``), of too many lists and
            objects, or nested too deeply.
    """
    limit = bounds.JSON if most is None else most
    if len(text) > limit:
        raise ValueError(f"a text of {len(text):,} bytes, {limit:,} are read")
    if (
        sum(text.count(mark) if isinstance(text, str) else text.count(mark.encode()) for mark in "[{")
        > bounds.CONTAINERS
    ):
        raise ValueError(f"a text of more than {bounds.CONTAINERS:,} lists and objects")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("a text nested too deeply") from error


def json_or_none(text: str | bytes) -> Any:
    """The value of a JSON text; None if it is damaged."""
    try:
        return parsed(text)
    except ValueError:
        return None
