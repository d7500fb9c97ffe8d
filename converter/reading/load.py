"""Open, unwrap, recognise, arrange: any checkpoint as a model in the library layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.dtypes import name_of
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from converter.core.hashing import hashing
from converter.core.model import Images, Model, Origin, known_activation
from converter.core.nearest import meant
from converter.core.norms import with_eps
from converter.core.source import OF_HEAD, AnySource, Reading, Source
from converter.fetch.place import Place, resolve
from converter.formats import open_checkpoint
from converter.formats.damage import STRANGE, damaged, typed
from converter.layouts import layout_named
from converter.layouts.channel_order import reordered
from converter.layouts.layout import Leaf
from converter.layouts.library import LIBRARY
from converter.reading import attributes, beside, families
from converter.reading.candidate import Candidate
from converter.reading.choice import sets_of_weights, sets_under_prefixes
from converter.reading.facts import own_heads, stated_of
from converter.reading.fit import dropped_by
from converter.reading.folds import fold_conv_biases, unfolded_norm
from converter.reading.images_said import images_said
from converter.reading.inspection import Inspection
from converter.reading.recognise import UnknownNames, recognise
from converter.reading.settle import settle
from converter.reading.told import Told
from converter.reading.wrappers import Group
from converter.structures import stated_by_graph, structure_readers, torch_readers
from densenet.config import DenseNetConfig
from densenet.names import parse

if TYPE_CHECKING:
    from converter.structures.parts import Structure


def load(source: AnySource, **reading: Unpack[Reading]) -> Model:
    """Read any DenseNet checkpoint into the library layout; arguments and errors as for :func:`converter.load`."""
    return inspect(source, **reading).model


def inspect(source: AnySource, **reading: Unpack[Reading]) -> Inspection:
    """Say what a checkpoint is, without reading its tensors; arguments and errors as for :func:`load`."""
    wanted = Source.of(source, **reading)
    return inspect_place(resolve(wanted.address), wanted)


def inspect_place(place: Place, wanted: Source, *, hashed: bool = True) -> Inspection:
    """The same of a file that is already here.

    Args:
        place: the file, and what its origin says of it.
        wanted: how to read it.
        hashed: whether anybody asks for the file's SHA-256.
    """
    with (
        place.kept_if_read(),
        damaged(f"{place.path}: {STRANGE}", why=typed),
        hashing((place.path,)) if hashed and place.has_hash else nullcontext(lambda _: "") as sha256,
    ):
        checkpoint = _opened(place)
        if place.tree and isinstance(place.tree.content, Model) and wanted.is_plain:
            return _read_already(place.tree.content, checkpoint)
        size = None if checkpoint.held else sum(file.stat().st_size for file in checkpoint.files)
        return replace(_of_heads(checkpoint, place, wanted, sha256), size_of_files=size)


def _opened(place: Place) -> Checkpoint:
    """What is in memory, or a file that is one by itself."""
    if place.tree:
        from converter.formats.memory import open_memory  # noqa: PLC0415 (for few)

        return open_memory(place.tree)
    if "-of-" in place.path.name:
        from converter.formats.sharded import why_not_alone  # noqa: PLC0415 (for few)

        if alone := why_not_alone(place.path):
            raise UnreadableFile(f"{place.path}: {alone}")
    return open_checkpoint(place.path)


def _read_already(model: Model, checkpoint: Checkpoint) -> Inspection:
    """A model that was loaded before, as it is."""
    used = {name: stored for name, stored in LIBRARY.expand(model.config).items() if name in model.tensors}
    chosen = Candidate(LIBRARY, Group("", model.tensors), "", model.config, used)
    return Inspection(model, checkpoint, chosen, (chosen,))


def _of_heads(
    checkpoint: Checkpoint, place: Place, wanted: Source, sha256: Callable[[Sequence[Path]], str]
) -> Inspection:
    """What a checkpoint is, with all of its heads or the one that is wanted."""

    def read_as(head: str | None, name: str = "") -> Inspection:
        return _read_as(checkpoint, place, replace(wanted, head=head, settings=wanted.settings_of(name)), sha256)

    of_heads = [found[1] for name in wanted.settings if (found := OF_HEAD.fullmatch(name))]

    own = own_heads(checkpoint)
    if wanted.head is not None or (own is None and "head" in wanted.settings):
        return _of_one(read_as(wanted.head), of_heads)
    try:
        if own is None:
            return _of_one(read_as(None), of_heads)
        refusal = NotADenseNet(f"{checkpoint.path}: has several heads")
    except NotADenseNet as error:
        refusal = error
    from converter.reading.several_heads import heads_in, joined  # noqa: PLC0415 (for few)

    given = {head.name: f"heads.{head.name}" for head in own.heads} if own else {}
    heads = given or heads_in(checkpoint, wanted.weights, refusal)
    if len(heads) < 2:
        raise refusal
    if strange := [name for name in of_heads if name not in heads]:
        raise ConverterError(f"{checkpoint.path}: there is no head {strange[0]!r}; there are {', '.join(heads)}")
    try:
        return joined({name: read_as(at, name) for name, at in heads.items()}, checkpoint)
    except NotADenseNet as error:
        raise (error if own else refusal) from error


def _of_one(found: Inspection, heads: Sequence[str]) -> Inspection:
    """A network of one head, of which nothing is said as of one of several."""
    if heads:
        raise ConverterError(f"{found.checkpoint.path}: one head is read, whose layers --set head=... says")
    return found


def _read_as(
    checkpoint: Checkpoint, place: Place, wanted: Source, sha256: Callable[[Sequence[Path]], str]
) -> Inspection:
    """What a file is, of several heads with the one that is wanted."""
    if wanted.head is not None:
        from converter.reading.several_heads import of_head  # noqa: PLC0415 (for few)

        checkpoint = of_head(checkpoint, wanted.head)
    stated = stated_by_graph(checkpoint)
    chosen, tried = read(checkpoint, wanted)
    if chosen.config is not None and chosen.config.head and chosen.layout.name.startswith("keras"):
        from converter.reading.keras_heads import as_layers_say  # noqa: PLC0415 (for few)

        chosen = as_layers_say(chosen, checkpoint)
    try:
        told = attributes.settings_of(chosen, chosen.config) if chosen.config else Told()
        config, notes = settle(chosen, checkpoint, stated, {**place.settings, **wanted.settings}, told)
    except NotADenseNet as error:
        raise NotADenseNet(f"{checkpoint.path}: {error}") from error
    heads: Mapping[str, str] = {}
    if chosen.config is not None and chosen.config.head != config.head:
        from converter.reading.longer_heads import renumbered  # noqa: PLC0415 (for few)

        heads = renumbered(chosen.config, config)
    tensors = _tensors(chosen, config, checkpoint, heads)
    notes += _precisions(tensors) if checkpoint.format.startswith("torch") else []
    _check_size(checkpoint, tensors)
    own = {heads.get(name, name): eps for name, eps in {**chosen.eps, **told.eps}.items()}
    if "eps" in {**place.settings, **wanted.settings}:  # which is then that of all but the head's
        own = {name: eps for name, eps in own.items() if name.startswith(("head.", "heads."))}
    own |= {heads.get(name, name): eps for name, eps in chosen.made_for.items()}
    if own:
        tensors = _with_one_eps(tensors, own, config)
    if any(name.endswith(".bias") and parse(name).kind == "conv" for name in tensors):
        tensors = fold_conv_biases(config, tensors)
        notes.append("the biases of convolutions are folded into the means of the norms behind them")
    preprocess = beside.normalising(config, told.mean, told.std)
    if preprocess is None and (preprocess := families.preprocess_of(chosen, config)):
        notes.append(families.NOTE)
    if front := chosen.front or stated.front:
        from converter.reading.prepared import prepared  # noqa: PLC0415 (for graphs)

        try:
            ready = prepared(front, config, tensors)
        except NotADenseNet as error:
            raise NotADenseNet(f"{checkpoint.path}: {error}") from error
        tensors, preprocess = ready.tensors, ready.preprocess or preprocess
        notes += ready.notes
    origin = Origin(
        place.name,
        sha256(checkpoint.files),
        checkpoint.format,
        chosen.layout.name,
        chosen.group.path,
        chosen.prefix,
    )
    activation = known_activation(chosen.activation or stated.activation or told.activation)
    inside = Images(preprocess, activation=activation)
    if any(key.startswith(beside.MODEL_INFO) for key in checkpoint.metadata):
        from converter.reading.model_info import model_info  # noqa: PLC0415 (for few)

        more, about = model_info(checkpoint, config, front)
        inside, notes = inside.or_else(more), [*notes, *about]
    images, unsaid = images_said(checkpoint, chosen, config, inside)
    images = images.or_else(Images(place.preprocess))
    said = (*notes, *unsaid.values())
    model = Model(
        config, tensors, origin, chosen.dropped, said, images, stated_of(checkpoint), unsaid, made=wanted.made
    )

    return Inspection(model, checkpoint, chosen, tuple(tried))


def read(checkpoint: Checkpoint, wanted: Source) -> tuple[Candidate, Sequence[Candidate]]:
    """Recognise an opened checkpoint: the chosen reading, and all that were tried.

    Raises:
        NotADenseNet: no layout accounts for every tensor.
        ConverterError: there are no such ``weights`` or no such ``layout``.
    """
    path, drop = checkpoint.path, wanted.drop
    chosen = layout_named(wanted.layout) if wanted.layout is not None else None
    structure = _structure(checkpoint, named=chosen is not None)
    if structure is not None:
        from converter.reading.arrange import arrange  # noqa: PLC0415 (for graphs)
    if structure is not None and not structure.named:
        if chosen is not None or wanted.weights is not None or (wanted.head and not structure.head) or drop:
            raise ConverterError(f"{path}: --layout, --weights, --head and --drop go by names, which this file lacks")
        candidate = arrange(structure, str(path))
        return candidate, [candidate]
    found = sets_of_weights(checkpoint.tree)
    if wanted.weights is not None:
        apart = sets_under_prefixes(found)
        named = [group for group in (*found, *apart) if group.path == wanted.weights]
        if not named:
            places = list(dict.fromkeys(group.path or "''" for group in (*found, *apart)))
            there = (", ".join(places) or "no place") + meant(wanted.weights, places)
            raise ConverterError(f"{path}: no weights at {wanted.weights!r}; there are some at {there}")
        found = [replace(group, siblings={}) for group in named]
    if wanted.head is not None and not (structure and structure.head):
        from converter.reading.one_head import with_head  # noqa: PLC0415 (for few)

        found = with_head(found, wanted.head, str(path))
    idle = [glob for glob in drop if not any(dropped_by((glob,), group) for group in found)]
    if idle:
        raise ConverterError(f"{path}: --drop {idle[0]}: no key matches")
    if structure is not None:
        from converter.reading.by_names import by_names  # noqa: PLC0415 (for graphs)

        arranged, prefer = arrange(structure, str(path)), beside.layout_of(checkpoint)
        candidate = by_names(arranged, found, layout=chosen, drop=drop, where=str(path), prefer=prefer)
        return candidate, [candidate]
    try:
        return recognise(found, layout=chosen, drop=drop, where=str(path), prefer=beside.layout_of(checkpoint))
    except UnknownNames:
        from converter.reading.infer import infer  # noqa: PLC0415 (for few)

        guessed = infer(found, str(path), drop)
        if guessed is None:
            raise
        return guessed, [guessed]


def _structure(checkpoint: Checkpoint, *, named: bool) -> Structure | None:
    """What a checkpoint's graph says, if it has one; of PyTorch's alone where names are ``named`` by the user.

    Raises:
        NotADenseNet: it is another network, which is called so where its names tell.
    """
    for reader in torch_readers(checkpoint) if named else structure_readers(checkpoint):
        try:
            if structure := reader(checkpoint):
                return structure
        except NotADenseNet as error:
            from converter.reading.other_networks import other_network  # noqa: PLC0415 (for refusals)

            names = (key for group in sets_of_weights(checkpoint.tree) for key in group.tensors)
            if other := other_network(names):
                error.args = (f"{error}; by its names it is {other}",)
            raise
    return None


def _tensors(
    candidate: Candidate, config: DenseNetConfig, checkpoint: Checkpoint, heads: Mapping[str, str]
) -> Mapping[str, Tensor]:
    """The network's tensors by library name; ``heads`` are modules that are called otherwise in the config."""
    result = {}
    for found, (leaf, keys) in candidate.used.items():
        place = parse(found)
        name = f"{heads.get(place.module, place.module)}.{place.leaf}"
        parts = [candidate.group.tensors[key] for key in keys]
        tensor = reordered(_join(leaf, parts), name, config, candidate.layout, inverse=False)
        # Weights are real numbers; anything else is another kind of file (quantised, say).
        if not is_float(tensor.dtype) and not name.endswith("num_batches_tracked"):
            raise NotADenseNet(f"{checkpoint.path}: {keys[0]} has type {tensor.dtype}; weights must be floating point")
        result[name] = tensor
    for module in candidate.unfolded:
        result |= unfolded_norm(module, result[f"{module}.bias"], config.eps)
    return result


def _check_size(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are many times their files' size: a value repeated, zeros compressed, one storage for all."""
    if checkpoint.held:
        return
    size = sum(prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors.values())
    files = sum(file.stat().st_size for file in checkpoint.files)
    if size > max(bounds.LARGE, bounds.LARGE_INFLATED * files):
        raise UnreadableFile(
            f"{checkpoint.path}: its weights would take {size:,} bytes, {bounds.LARGE_INFLATED} times what it has"
        )


def _with_one_eps(tensors: Mapping[str, Tensor], eps: Mapping[str, float], config: DenseNetConfig) -> dict[str, Tensor]:
    """The norms, which may each have an eps of its own, with the network's."""
    result = dict(tensors)
    for norm, have in eps.items():
        if have != config.eps and f"{norm}.weight" in result:
            names = [f"{norm}.weight", f"{norm}.running_var"]
            weight, variance = (result[name] for name in names)
            result |= dict(zip(names, with_eps(norm, weight, variance, have, config.eps)))
    return result


def _precisions(tensors: Mapping[str, Tensor]) -> list[str]:
    """What to say of a network whose weights are of several types, which computed in several."""
    found = sorted({name_of(tensor.dtype) for name, tensor in tensors.items() if name.endswith(".weight")})
    if len(found) < 2:
        return []
    return [f"its weights are {' and '.join(found)}: what the original computed in lower precision was rounded there"]


def _join(leaf: Leaf, parts: list[Tensor]) -> Tensor:
    """One library tensor from the arrays a source stores it as."""
    plain = Leaf(leaf.names)
    if leaf.read is plain.read:
        return parts[0]

    def joined() -> Array:
        return leaf.read(*(part.read() for part in parts))

    return Tensor(leaf.shape(parts[0].shape), parts[0].dtype, joined)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype holds real numbers (ml_dtypes' are of kind V)."""
    return dtype.kind in "fV"


def load_file(path: Path) -> Model:
    """A file as it is, of which nothing is said but what it says itself, and whose hash nobody asks for.

    Raises:
        ConverterError: as for :func:`load`.
    """
    return inspect_place(Place(path, path.name), Source(path), hashed=False).model
