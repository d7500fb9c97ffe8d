"""What this tool writes into the metadata of its files: every key, and how values become text."""

import json
from typing import Any

from converter.core.text import well_formed
from converter.core.version import __version__

CONFIG_KEY = "densenet.config"
SOURCE_KEY = "densenet.source"
PREPROCESS_KEY = "densenet.preprocess"
LABELS_KEY = "densenet.labels"
ACTIVATION_KEY = "densenet.activation"
"""``softmax`` or ``sigmoid``: what makes probabilities of the logits."""
TOOL_KEY = "densenet.tool"
TOOL = f"densenet-converter {__version__}"
"""What every file of this tool says of itself, whatever else its format has room for."""
LAYOUT_KEY = "densenet.layout"
"""Whose names a safetensors file has."""
GRAPH_KEY = "densenet.graph"
"""``exact`` or ``fused``, of an ONNX file."""
PRECISION_KEY = "densenet.precision"
"""``fp16`` or ``int8``, of an ONNX file of reduced precision."""


def to_json(value: Any) -> str:
    """Compact JSON, keys in the order given; lone surrogates, which no file can hold, become question marks."""
    return well_formed(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def json_or_none(text: str) -> Any:
    """The value of a JSON text; None if it is damaged."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
