"""Who says what of the config fields that no tensor shows, and who is believed.

One fact can be told by several voices; the strongest that speaks decides.  Whether two
of them agree is for :func:`contradictions` to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from converter.core.checkpoint import Checkpoint
from converter.core.errors import ConverterError
from converter.core.metadata import (
    ACTIVATION_KEY,
    CONFIG_KEY,
    FINGERPRINT_KEY,
    LABELS_KEY,
    PREPROCESS_KEY,
    json_or_none,
    parsed,
)
from converter.core.model import known_activation
from densenet.config import SETTINGS, DenseNetConfig

Said = Mapping[str, Any]
"""Config fields, and the values somebody gives them."""

VOICES = (
    "the user",
    "the file's own metadata",
    "the file's graph",
    "the modules' attributes",
    "the config.json beside it",
    "the modules' names",
)
"""Strongest first.  What an address says (the zoo knows its networks) counts as said by the user, who chose it."""


def believed(said: Mapping[str, Said]) -> dict[str, Any]:
    """For every field the value of the strongest voice that speaks of it.

    Args:
        said: by voice; a voice that is no key of :data:`VOICES` is an error of the caller's.
    """
    assert set(said) <= set(VOICES), said.keys()
    result: dict[str, Any] = {}
    for voice in reversed(VOICES):
        result |= said.get(voice, {})
    return result


def contradictions(one: Said, other: Said, fields: Sequence[str] = SETTINGS) -> list[str]:
    """Fields of which both speak, and not alike."""
    return [name for name in fields if name in one and name in other and one[name] != other[name]]


def own_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The config this tool wrote into the file, if it did; also what is left out there because it is usual.

    Raises:
        ConverterError: it is damaged.
    """
    try:
        values = parsed(checkpoint.metadata.get(CONFIG_KEY, "{}"))
        config = DenseNetConfig.from_dict(values) if values else None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConverterError(f"{checkpoint.path}: its {CONFIG_KEY} metadata is damaged ({error})") from error
    if config is None:
        return {}
    strides = {name: getattr(config, name) for name in ("stem_pool_stride", "transition_stride", "head")}
    return {**config.to_dict(), "stem_stride": config.first_stride, **strides}


def heads_said(metadata: Mapping[str, str]) -> DenseNetConfig | None:
    """The config of several heads in a file's metadata; None where there is none.

    Raises:
        ValueError, TypeError: it is damaged.
    """
    values = json_or_none(metadata.get(CONFIG_KEY, ""))
    return DenseNetConfig.from_dict(values) if isinstance(values, dict) and values.get("heads") else None


def own_heads(checkpoint: Checkpoint) -> DenseNetConfig | None:
    """The config of several heads that this tool wrote into a file; None where it wrote none.

    Raises:
        ConverterError: it is damaged.
    """
    try:
        return heads_said(checkpoint.metadata)
    except (ValueError, TypeError) as error:
        raise ConverterError(f"{checkpoint.path}: its {CONFIG_KEY} metadata is damaged ({error})") from error


def stated_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a file of this tool's says of itself, as it stands there."""
    keys = (CONFIG_KEY, LABELS_KEY, PREPROCESS_KEY)
    said: dict[str, Any] = {k: json_or_none(checkpoint.metadata[k]) for k in keys if k in checkpoint.metadata}
    if activation := known_activation(checkpoint.metadata.get(ACTIVATION_KEY, "")):
        said[ACTIVATION_KEY] = activation
    if fingerprint := checkpoint.metadata.get(FINGERPRINT_KEY):
        said[FINGERPRINT_KEY] = fingerprint
    return said
