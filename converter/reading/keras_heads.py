"""Heads among Keras weights that are taken by their names: what the list of layers says of activations."""

from __future__ import annotations

import re
from dataclasses import replace

from converter.core.checkpoint import Checkpoint
from converter.reading.candidate import Candidate
from converter.reading.longer_heads import renumbered
from converter.structures.keras_numbered import told_by_layers
from densenet.names import parse

EPS = 1e-3
"""Of keras.layers.BatchNormalization, where nothing else is said; the networks of keras.applications have their own."""


OWN = re.compile(r"(^|/)head_\d+_(bn|dense)/")
"""What our layout calls them: the numbers tell where activations stand, and their eps is the network's."""


def as_layers_say(candidate: Candidate, checkpoint: Checkpoint) -> Candidate:
    """The candidate with the activations of its head where the file's layers have them, and Keras' eps of its norms."""
    own = any(OWN.search(key) for stored in candidate.used.values() for key in stored.keys)
    if own or checkpoint.graph is not None:
        return candidate
    found = _activated(candidate, checkpoint) if candidate.head_note else candidate
    modules = found.config.modules() if found.config is not None else ()
    eps = {module.name: EPS for module in modules if module.place.template == "head.{h}.norm"}
    note = f"eps {EPS:g} of the norms in its head is assumed, as in Keras' own layer"
    return replace(found, eps=eps, notes=(*found.notes, note)) if eps else found


def _activated(candidate: Candidate, checkpoint: Checkpoint) -> Candidate:
    config = candidate.config
    assert config is not None
    modules = [m.name for m in config.modules() if m.place.template.startswith("head.")] + ["classifier"]
    keys = [candidate.used[f"{module}.weight"].keys[0] for module in modules]
    layers = [layer for layer in config.head_layers if not layer.is_activation]
    words = told_by_layers(checkpoint, [key.rpartition("/")[0] for key in keys], layers)
    if words is None:
        return candidate
    other = replace(config, head=tuple(map(str, words.layers)))
    names = renumbered(config, other)
    used = {}
    for name, stored in candidate.used.items():
        place = parse(name)
        used[f"{names.get(place.module, place.module)}.{place.leaf}"] = stored
    return replace(candidate, config=other, used=used, head_note=words.note)
