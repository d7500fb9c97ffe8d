"""A network with several heads, read head by head and joined: the plain networks of a file that differ in them alone.

Each head is read as ``--head`` reads it, with all that is known of heads; what is before them has to be the same then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from converter.core.checkpoint import Checkpoint
from converter.core.errors import NotADenseNet, SeveralHeads
from converter.core.metadata import CONFIG_KEY, HEADS_KEY, json_or_none, to_json
from converter.core.model import Images, Model
from converter.layouts.layout import Stored
from converter.reading.choice import sets_of_weights
from converter.reading.facts import own_heads, stated_of
from converter.reading.inspection import Inspection
from converter.reading.one_head import OTHER, SEPARATOR, side_by_side
from densenet.config import DenseNetConfig
from densenet.head import TAKEN, Head, callable_as

NAMES = "the names of classes in the file are not taken: of which head they are is not known (--head NAME takes them)"


def of_head(checkpoint: Checkpoint, head: str) -> Checkpoint:
    """A file of which one head is read: what this tool wrote of several is then what it wrote of that one."""
    metadata = metadata_of_head(checkpoint.metadata, own_heads(checkpoint), SEPARATOR.split(head)[-1])
    return replace(checkpoint, metadata=metadata, head=head)


def metadata_of_head(metadata: Mapping[str, str], config: DenseNetConfig | None, head: str) -> dict[str, str]:
    """What a file of several heads (``config``, of this tool) says, as one of that head alone would."""
    result = dict(metadata)
    said = json_or_none(result.pop(HEADS_KEY, ""))
    if isinstance(said, dict) and isinstance(own := said.get(head), dict):
        result |= {key: text for key, text in own.items() if isinstance(text, str)}
    if config is not None and head in (each.name for each in config.heads):
        result[CONFIG_KEY] = to_json(config.branch(head).to_dict())
    return result


def heads_in(checkpoint: Checkpoint, weights: str | None, error: BaseException | None) -> dict[str, str]:
    """The heads of a file that is no plain network, by name, and what ``--head`` calls each; nothing if it has none.

    Args:
        checkpoint: the file.
        weights: which set of weights, where somebody says it.
        error: why it could not be read as a plain network.
    """
    while error is not None:
        if isinstance(error, SeveralHeads) and error.names:
            return _named(error.names)
        error = error.__cause__
    chosen = [group for group in sets_of_weights(checkpoint.tree) if weights in (None, group.path)]
    return _named(side_by_side(chosen[0])) if chosen else {}


def _named(places: Sequence[str]) -> dict[str, str]:
    names = [callable_as(SEPARATOR.split(place)[-1]) for place in places]
    return {f"{name}_head" if name in TAKEN else name: place for name, place in zip(names, places)}


def joined(branches: Mapping[str, Inspection], checkpoint: Checkpoint) -> Inspection:
    """The network of which these are the heads.

    Raises:
        NotADenseNet: they differ in more than their heads, or a tensor is in none.
    """
    if CONFIG_KEY in checkpoint.metadata and own_heads(checkpoint) is None:  # somebody has changed the graph since
        raise NotADenseNet(f"{checkpoint.path}: its {CONFIG_KEY} metadata says one head")
    first, *others = branches.values()
    trunk = _without_head(first.model.config)
    before = {name: stored.keys for name, stored in first.chosen.used.items() if not _is_of_head(name)}
    for other in others:
        same = {name: stored.keys for name, stored in other.chosen.used.items() if not _is_of_head(name)}
        if _without_head(other.model.config) != trunk or same != before:
            raise NotADenseNet(f"{checkpoint.path}: its heads are not on the same features")
        if other.model.images.preprocess != first.model.images.preprocess:
            raise NotADenseNet(f"{checkpoint.path}: its heads take different images")
    try:
        configs = {name: found.model.config for name, found in branches.items()}
        config = replace(trunk, heads=tuple(Head(name, own.num_classes, own.head) for name, own in configs.items()))
    except ValueError as error:
        raise NotADenseNet(f"{checkpoint.path}: {error}") from error
    tensors = {name: tensor for name, tensor in first.model.tensors.items() if not _is_of_head(name)}
    used, in_file = {name: first.chosen.used[name] for name in before}, dict(first.chosen.group.tensors)
    for head, found in branches.items():
        tensors |= {f"heads.{head}.{name}": t for name, t in found.model.tensors.items() if _is_of_head(name)}
        for name, (leaf, keys) in found.chosen.used.items():
            if _is_of_head(name):
                used[f"heads.{head}.{name}"] = Stored(leaf, tuple(_in_file(found, key) for key in keys))
                in_file |= {_in_file(found, key): found.chosen.group.tensors[key] for key in keys}
    model = replace(first.model, config=config, tensors=tensors, stated=stated_of(checkpoint))
    model = replace(_described(model, branches, checkpoint), dropped=_dropped(branches, checkpoint))
    group = replace(first.chosen.group, tensors=in_file)
    chosen = replace(first.chosen, config=config, used=used, dropped=model.dropped, group=group)
    return Inspection(model, checkpoint, chosen, first.tried)


def _in_file(found: Inspection, key: str) -> str:
    return (found.chosen.group.names(key) or (key,))[0]


def _without_head(config: DenseNetConfig) -> DenseNetConfig:
    return replace(config, head=(), num_classes=0)


def _is_of_head(name: str) -> bool:
    return name.startswith(("head.", "classifier."))


def _dropped(branches: Mapping[str, Inspection], checkpoint: Checkpoint) -> dict[str, str]:
    """Keys that no head takes, and why.

    Raises:
        NotADenseNet: one is left out by each as part of another.
    """
    found = [branch.model.dropped for branch in branches.values()]
    result: dict[str, str] = {}
    for key in (key for key in found[0] if all(key in other for other in found)):
        reasons = [dropped[key] for dropped in found if not dropped[key].startswith(OTHER)]
        if not reasons:
            raise NotADenseNet(f"{checkpoint.path}: {key} is of no head")
        result[key] = reasons[0]
    return result


def _shared(branches: Mapping[str, Inspection]) -> list[str]:
    """What the file calls tensors that stand in more than one head, in their order."""
    found: dict[str, set[str]] = {}
    for head, branch in branches.items():
        for key in (key for name, of in branch.chosen.used.items() if _is_of_head(name) for key in of.keys):
            found.setdefault(_in_file(branch, key), set()).add(head)
    return [key for key, heads in found.items() if len(heads) > 1]


def _of_head(notes: Sequence[str], head: str) -> list[str]:
    """Notes on one of several heads, with what settles it alone."""
    return [note.replace("--set head=", f"--set heads.{head}.head=") for note in notes]


def _described(model: Model, branches: Mapping[str, Inspection], checkpoint: Checkpoint) -> Model:
    """With what each head's network says of classes; and what must be known, of one of them by its name."""
    own, notes = own_heads(checkpoint) is not None or HEADS_KEY in checkpoint.metadata, list[str]()
    if not own:
        graph = next(iter(branches.values())).chosen.graph
        how = "outputs of their own" if graph else "taken as outputs of their own, side by side on the pooled features"
        notes.append(f"its heads {', '.join(branches)} are {how}; --head NAME reads one alone")
    if shared := _shared(branches):
        notes.append(f"{shared[0]} is shared by several heads: what is shared is repeated in each of them")
    every = [_of_head(found.model.notes, head) for head, found in branches.items()]
    settled = {note for found in branches.values() for note in found.model.unsaid.values()}
    common = [note for note in every[0] if note not in settled and all(note in others for others in every)]
    notes += common
    unsaid: dict[str, str] = {}
    images: list[tuple[str, Images]] = []
    for own_notes, (head, found) in zip(every, branches.items()):
        said, open_ = found.model.images, dict(found.model.unsaid)
        if not own and (said.labels or said.thresholds or "labels" in open_):
            unsaid["labels"] = NAMES
            open_.pop("labels", None)
        images.append((head, Images(activation=said.activation) if not own else replace(said, preprocess=None)))
        notes += [f"{head}: {note}" for note in own_notes if note not in settled and note not in common]
        unsaid |= {f"{head}.{field}": f"{head}: {note}" for field, note in open_.items()}
    steps = next(iter(branches.values())).model.images.preprocess
    said_of = Images(steps, heads=tuple(images))
    return replace(model, notes=(*notes, *dict.fromkeys(unsaid.values())), unsaid=unsaid, images=said_of)
