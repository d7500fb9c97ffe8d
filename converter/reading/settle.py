"""The config of a recognised checkpoint, with everything applied that no tensor shows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from converter.core.checkpoint import Checkpoint
from converter.core.errors import ConverterError, NotADenseNet
from converter.core.metadata import CONFIG_KEY
from converter.layouts.channel_order import OTHER_ORDER
from converter.reading import attributes, beside
from converter.reading.candidate import Candidate
from converter.reading.facts import Said, believed, contradictions, own_config
from converter.reading.flax import PADDING
from converter.reading.told import Told
from converter.structures.stated import Stated
from densenet.config import SETTINGS, DenseNetConfig

AT = re.compile(r"(?:^|\.)(\d+)\.$")
"""A prefix that is a place in a Sequential."""

UNSAID = (
    "the file holds tensors alone; what they do not show is taken as usual: strides, padding, dilation, pooling, "
    "ReLUs, batch norms and their eps, concatenation, weights as stored, nothing before the stem, nothing behind the "
    "classifier, one run (--set stem_stride, stem_pool, transition_pool, transition_stride, padding, final_relu, "
    "hidden_activation, global_pool, eps)"
)

SUBCLASS = (
    "the model is a subclass of keras.Model, whose code is not in the file: what it does before and behind the layers, "
    "and between them, is not known; the usual is taken (--set global_pool)"
)


def settle(
    candidate: Candidate, checkpoint: Checkpoint, stated: Stated, settings: Said, told: Told
) -> tuple[DenseNetConfig, list[str]]:
    """The config with everything the file and the user say applied; and what had to be assumed.

    Args:
        candidate: the checkpoint as recognised.
        checkpoint: the opened file.
        stated: what its graph settles (:func:`converter.structures.stated_by_graph`).
        settings: what the user says, and the address.
        told: what the modules of a network pickled whole say.

    Raises:
        NotADenseNet: the file says it computes what a DenseNet does not, or contradicts itself.
        ConverterError: a setting of the user's does not exist.
    """
    config, layout, notes = candidate.config, candidate.layout, list(candidate.notes)
    assert config is not None
    own = _own(checkpoint, candidate)
    graph = {**candidate.graph, **{name: value for name, value in stated.settings.items() if name in SETTINGS}}
    for name in contradictions(candidate.graph, own):  # in a file of ours somebody has changed the graph since
        raise NotADenseNet(f"the graph has {name} {graph[name]}, its {CONFIG_KEY} metadata says {own[name]}")
    voices: dict[str, Said] = {
        "the user": settings,
        "the file's own metadata": own,
        "the file's graph": graph,
        "the modules' attributes": told.settings,
        "the config.json beside it": beside.settings_of(checkpoint, config),
        "the modules' names": attributes.settings_of_names(candidate, config),
    }
    said = believed(voices)
    notes += [*told.notes, *stated.notes]
    partial = {"the modules' names"}
    if checkpoint.graph is None and (checkpoint.format.startswith("Keras") or set(graph) == {"eps"}):
        # Names of layers without weights, which tell a fact or two; or the eps with which folded norms are written out.
        partial.add("the file's graph")
    heard = bool(candidate.group.classes) or any(values for voice, values in voices.items() if voice not in partial)
    for name, (value, why) in layout.implies(config, checkpoint.metadata).items():
        if name not in said:
            said[name] = value
            notes.append(why)
    notes += _assumed(candidate, config, said)
    if not (candidate.group.classes or candidate.graph) and (place := AT.search(candidate.prefix)) and int(place[1]):
        notes.append(
            f"the network is number {place[1]} of a sequence: what runs before it has no tensors and is not known "
            "(a normalisation, say)"
        )
    if layout.shared and not heard and not config.is_published:
        notes.append(UNSAID)
    if config.stem == "deep" and "stem_pool" not in {*said, *layout.network}:
        notes.append("max pooling after the deep stem is assumed: the file cannot say; --set stem_pool=blur changes it")
    if said.get("stem_pool") == "blur" and "transition_pool" not in said:
        if config.stem != "deep":  # no published network: nothing to go by
            raise ConverterError(
                f"{checkpoint.path}: blurs after the stem, and cannot say whether the transitions blur too; "
                "add --set transition_pool=avg or --set transition_pool=blur"
            )
        notes.append("average pooling in the transitions is assumed; --set transition_pool=blur changes it")
    named = voices["the modules' names"].get("global_pool")
    if named == said.get("global_pool") == "catmaxavg" and "global_pool" not in told.settings:
        notes.append("maxima are taken to come first, as in fastai; --set global_pool=catavgmax changes it")
    if config.global_pool == "catavgmax" and "global_pool" not in {**said, **layout.network}:
        raise ConverterError(
            f"{checkpoint.path}: its classifier takes averages and maxima, and cannot say which come first; add "
            "--set global_pool=catavgmax (timm) or --set global_pool=catmaxavg (fastai)"
        )
    if candidate.head_note and "head" not in said:
        notes.append(candidate.head_note)
    if getattr(checkpoint.tree, "attributes", {}).get("subclass"):
        notes.append(SUBCLASS)
    try:
        config = replace(config, **said)
    except (TypeError, ValueError) as error:
        raise ConverterError(f"{checkpoint.path}: {error}") from error
    return config, notes


def _assumed(candidate: Candidate, config: DenseNetConfig, said: Said) -> list[str]:
    """What is taken where an ecosystem's files leave it open."""
    assumes = candidate.layout.assumes.items()
    order = candidate.layout.new_first and not config.num_classes and not config.heads
    padded = candidate.group.flax and config.stem != "cifar" and "padding" not in said
    return [
        *(f"{why}; --set {name}=... changes it" for name, why in assumes if name not in said),
        *([PADDING] if padded else []),
        *([OTHER_ORDER] if order and OTHER_ORDER not in candidate.notes else []),
    ]


def _own(checkpoint: Checkpoint, candidate: Candidate) -> dict[str, Any]:
    """What this tool wrote into the file of what tensors do not show."""
    config, read = candidate.config, candidate.graph.get("head")
    assert config is not None
    own = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in own_config(checkpoint).items()
        if name in SETTINGS
    }
    if read is not None and own and own["head"] != read:
        if [each.removesuffix(":no_bias") for each in read] == list(own["head"]):  # LiteRT's leaves out biases of zeros
            return {**own, "head": read}
        # our exporter folds what it can
        from converter.core.folded_head import folded_config  # noqa: PLC0415 (for few)

        said = replace(config, head=own["head"])
        own["head"] = read if folded_config(said).head == folded_config(config).head else own["head"]
    return own
