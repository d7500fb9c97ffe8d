"""Open, unwrap, recognise, map, check, write: a checkpoint of one layout to a file of another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from converter.arrange import arrange
from converter.checkpoint import Checkpoint, Tensor
from converter.errors import CannotExpress, ConverterError, NotADenseNet
from converter.evidence import labels_of, preprocess_of, settle, sidecar, stated_of
from converter.exporters.safetensors import write_safetensors
from converter.folds import fold_conv_biases
from converter.formats import open_checkpoint
from converter.layouts import layout_named, structure_readers
from converter.layouts.layout import Layout, Leaf
from converter.layouts.library import LIBRARY
from converter.layouts.timm import TIMM
from converter.layouts.torchvision import TORCHVISION
from converter.model import Model, Sha256, Source, hashing, sha256_of
from converter.recognise import Candidate, UnknownNames, recognise
from converter.sources import resolve
from converter.wrappers import groups
from densenet.config import DenseNetConfig

DTYPES: Mapping[str, Any] = {
    "fp32": np.float32,
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp64": np.float64,
}
DTYPE_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64", "half": "fp16"}
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".npz", ".h5")
SHAPED = ("bottleneck", "compression", "stem", "stem_widths", "spatial_dims")
"""Config fields that shapes alone show."""
IMPLICIT = frozenset("growth_rate block_config init_features bn_size num_classes in_channels".split())
"""Config fields that every layout expresses by its shapes."""


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert` did.

    Attributes:
        model: the weights as read, in the library layout.
        path: the file written.
        layout: its layout.
        tensors: number of tensors written.
        notes: what was assumed or changed on the way.
    """

    model: Model
    path: Path
    layout: str
    tensors: int
    notes: tuple[str, ...]


def load(
    source: str | Path,
    *,
    layout: str | None = None,
    weights: str | None = None,
    drop: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Model:
    """Read any DenseNet checkpoint into the library layout.  Tensors are read on demand.

    Args:
        source: a path, ``https://`` URL or zoo name.
        layout: skip recognition and take this layout.
        weights: which set of weights, where a file has several: its place, as
            ``inspect`` names it (``state_dict_ema``).
        drop: glob patterns of keys to leave out.
        settings: config fields no tensor shows, e.g. ``{"stem_pool": "blur"}``.

    Raises:
        UnreadableFile: missing, damaged, or of no known format.
        UnsafeFile: it asks for code to be run.
        NotADenseNet: no layout accounts for every tensor.
    """
    place = resolve(source)
    stated = {**place.settings, **(settings or {})}
    with hashing((place.path,)) as sha256:
        checkpoint = open_checkpoint(place.path)
        candidate, _ = read(checkpoint, layout=layout, weights=weights, drop=drop)
        return model_of(checkpoint, candidate, place.name, stated, place.preprocess, sha256)


def read(
    checkpoint: Checkpoint,
    *,
    layout: str | None = None,
    weights: str | None = None,
    drop: Iterable[str] = (),
) -> tuple[Candidate, list[Candidate]]:
    """Recognise an opened checkpoint: the chosen reading, and all that were tried.

    Raises:
        NotADenseNet: no layout accounts for every tensor.
        ConverterError: there are no such ``weights`` or no such ``layout``.
    """
    chosen = layout_named(layout) if layout is not None else None
    for reader in structure_readers(checkpoint.format) if chosen is None else ():
        structure = reader(checkpoint)
        if structure is not None:
            if weights is not None or any(drop):
                raise ConverterError(f"{checkpoint.path}: --weights and --drop go by names, which this file lacks")
            candidate = arrange(structure, str(checkpoint.path))
            return candidate, [candidate]
    found = groups(checkpoint.tree)
    if weights is not None:
        named = [group for group in found if group.path == weights]
        if not named:
            have = ", ".join(group.path or "''" for group in found)
            raise ConverterError(
                f"{checkpoint.path}: no weights at {weights!r}; there are some at {have or 'no place'}"
            )
        found = named
    drop = tuple(drop)
    idle = [glob for glob in drop if not any(fnmatchcase(key, glob) for group in found for key in group.tensors)]
    if idle:
        raise ConverterError(f"{checkpoint.path}: --drop {idle[0]}: no key matches")
    try:
        candidate, tried = recognise(found, layout=chosen, drop=drop, where=str(checkpoint.path))
        if candidate.layout is TORCHVISION and sidecar(checkpoint):  # a Hub repository of timm's, with the same names
            same = (c for c in tried if c.layout is TIMM and c.group is candidate.group and c.fits)
            candidate = next(same, candidate)
        return candidate, tried
    except UnknownNames:
        from converter.infer import infer  # noqa: PLC0415 (for few)

        guessed = infer(found, str(checkpoint.path), drop)
        if guessed is None:
            raise
        return guessed, [guessed]


def model_of(
    checkpoint: Checkpoint,
    candidate: Candidate,
    name: str,
    settings: dict[str, Any],
    preprocess: Mapping[str, Any] | None = None,
    sha256: Sha256 | None = None,
) -> Model:
    """A recognised checkpoint as a model in the library layout."""
    try:
        config, notes = settle(candidate, checkpoint, settings)
    except NotADenseNet as error:
        raise NotADenseNet(f"{checkpoint.path}: {error}") from error
    tensors = {}
    for tensor_name, (leaf, keys) in candidate.used.items():
        parts = [candidate.group.tensors[key] for key in keys]
        tensors[tensor_name] = _reorder(_join(leaf, parts), tensor_name, config, candidate.layout, inverse=False)
    _check_statistics(tensors, candidate, checkpoint)
    if any(name.endswith(".bias") and "conv" in name for name in tensors):
        tensors = fold_conv_biases(config, tensors)
        notes.append("the biases of convolutions are folded into the means of the norms behind them")
    source = Source(
        name,
        sha256(checkpoint.files) if sha256 else sha256_of(checkpoint.files),
        checkpoint.format,
        candidate.layout.name,
        candidate.group.path,
        candidate.prefix,
    )
    return Model(
        config,
        tensors,
        source,
        candidate.dropped,
        tuple(notes),
        preprocess_of(checkpoint) or preprocess or {},
        tuple(labels_of(checkpoint, config.num_classes)),
        stated_of(checkpoint),
    )


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str = "library",
    dtype: str | None = None,
    layout: str | None = None,
    weights: str | None = None,
    drop: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
    preprocess: Mapping[str, Any] | None = None,
    labels: Iterable[str] = (),
) -> Conversion:
    """Convert any DenseNet checkpoint to a file in the library's or another layout.

    Args:
        source, layout, weights, drop, settings: as for :func:`load`.
        target: ``.safetensors``, ``.pth`` (``.pt``, ``.bin``), ``.npz``, or ``.h5`` for Keras.
        to: the layout to write.
        dtype: ``fp32``, ``fp16``, ``bf16`` or ``fp64`` for all weights; default as stored.
        preprocess: what images go through, to be recorded in the file
            (:meth:`densenet.preprocess.Preprocess.to_dict`).
        labels: class names, to be recorded in the file.

    Raises:
        ConverterError: one of its kinds; the target is then as it was before.
    """
    target = Path(target)
    if target.suffix not in SUFFIXES:
        raise ConverterError(f"{target}: cannot tell what to write; end the name in {', '.join(SUFFIXES)}")
    if target.suffix == ".h5" and to == "library":
        to = "keras"  # HDF5 is Keras' format: nothing else reads other names from it
    wanted = layout_named(to)
    model = load(source, layout=layout, weights=weights, drop=drop, settings=settings)
    model = described(model, preprocess, labels)
    if target.suffix != ".safetensors" and wanted.expresses == LIBRARY.expresses:
        # Names that do not say whose code they belong to, in a file that cannot hold the config either.
        wanted = replace(wanted, expresses={name: LIBRARY.expresses[name] for name in SHAPED})
    tensors, notes = in_layout(model, wanted)
    model = replace(model, config=replace(model.config, eps=_eps(wanted, model.config)))
    if dtype is not None:
        tensors = {name: _cast(tensor, name, dtype) for name, tensor in tensors.items()}
    write(target, tensors, model, wanted)
    return Conversion(model, target, wanted.name, len(tensors), (*model.notes, *notes))


def described(model: Model, preprocess: Mapping[str, Any] | None = None, labels: Iterable[str] = ()) -> Model:
    """A model with what is said of its images and classes.

    Raises:
        ConverterError: it is said of another network.
    """
    config, names = model.config, tuple(labels)
    if preprocess and (config.spatial_dims != 2 or preprocess.get("channels", 3) != config.in_channels):
        axes = f" and {config.spatial_dims} dimensions" if config.spatial_dims != 2 else ""
        said = f"{preprocess.get('channels', 3)} channels"
        raise ConverterError(
            f"a preprocessing of images of {said} for a network of {config.in_channels} channels{axes}"
        )
    if names and len(names) != config.num_classes:
        raise ConverterError(f"{len(names)} labels for {config.num_classes} classes")
    return replace(model, preprocess=preprocess or model.preprocess, labels=names or model.labels)


def in_layout(model: Model, layout: Layout) -> tuple[dict[str, Tensor], list[str]]:
    """A model's tensors under another layout's names, and notes on what was folded.

    Raises:
        CannotExpress: the layout cannot say what this network does.
    """
    config = model.config
    refused = [f"{name}={value!r}" for name, value in _beyond(config, layout)]
    refused += [f"{name} (no name for it)" for name in layout.lacks(config)]
    if not layout.writable:
        raise CannotExpress(f"the {layout.name} layout can be read, not written")
    if refused:
        raise CannotExpress(f"the {layout.name} layout cannot express {', '.join(refused)}")
    tensors, notes = dict(model.tensors), []
    eps = _eps(layout, config)
    if eps != config.eps:
        for module in config.modules():
            if module.kind == "norm":
                _with_eps(tensors, module.name, config.eps, eps)
        notes.append(f"eps {config.eps:g} folded into the norms: {layout.name} has eps {eps:g}")
    result: dict[str, Tensor] = {}
    for name, (leaf, keys) in layout.expand(config).items():
        if name not in tensors:
            continue  # an optional tensor the source does not have
        tensor = _reorder(tensors[name], name, config, layout, inverse=True)
        result |= dict(zip(keys, _split(leaf, tensor)))
    return result, notes


def write(target: Path, tensors: Mapping[str, Tensor], model: Model, layout: Layout) -> None:
    """Write tensors in the format the target's name asks for."""
    if target.suffix == ".safetensors":
        write_safetensors(target, tensors, {**model.metadata(), "densenet.layout": layout.name})
    elif target.suffix == ".npz":
        from converter.exporters.npz import write_npz  # noqa: PLC0415

        write_npz(target, tensors)
    elif target.suffix == ".h5":
        from converter.exporters.keras_h5 import write_keras_h5  # noqa: PLC0415 (h5py, for few)

        write_keras_h5(target, tensors)
    else:
        from converter.exporters.torch_zip import write_torch  # noqa: PLC0415

        write_torch(target, layout.wrapper(tensors) if layout.wrapper else tensors)


def _eps(layout: Layout, config: DenseNetConfig) -> float:
    """The eps of a network's norms once it is written in a layout."""
    eps: float = config.eps if "eps" in layout.expresses else layout.network.get("eps", DenseNetConfig.eps)
    return eps


def _beyond(config: DenseNetConfig, layout: Layout) -> list[tuple[str, Any]]:
    """Config fields at a value the layout's own networks cannot have."""
    plain = {**DenseNetConfig().to_dict(), **layout.network}
    result = []
    for name, value in config.to_dict().items():
        allowed = layout.expresses.get(name)
        if name in IMPLICIT or name == "eps" or value == plain[name]:
            continue
        if allowed is None or (allowed and value not in allowed):
            result.append((name, value))
    return result


def _join(leaf: Leaf, parts: list[Tensor]) -> Tensor:
    """One library tensor from the arrays a source stores it as."""
    plain = Leaf(leaf.names)
    if leaf.read is plain.read:
        return parts[0]

    def read() -> np.ndarray[Any, Any]:
        return leaf.read(*(part.read() for part in parts))

    return Tensor(leaf.shape(parts[0].shape), parts[0].dtype, read)


def _split(leaf: Leaf, tensor: Tensor) -> list[Tensor]:
    """The arrays a target stores one library tensor as."""
    plain = Leaf(leaf.names)
    if leaf.write is plain.write:
        return [tensor]
    assert leaf.write is not None
    return [Tensor.of(array) for array in leaf.write(tensor.read())]


def _with_eps(tensors: dict[str, Tensor], norm: str, have: float, want: float) -> None:
    """Give a norm another eps, exactly (in float64): the variance takes the difference.

    Where a variance is too small for that, the weight takes the ratio of the two roots.
    """
    variance = tensors[f"{norm}.running_var"]
    values = variance.read().astype(np.float64)
    if (values + have - want).min(initial=0) >= 0:
        tensors[f"{norm}.running_var"] = Tensor.of((values + have - want).astype(variance.dtype))
        return
    if (values + have).min() <= 0:
        raise CannotExpress(f"{norm} divides by zero: it has a variance of 0 and eps {have:g}")
    weight = tensors[f"{norm}.weight"]
    scaled = weight.read().astype(np.float64) * np.sqrt((values + want) / (values + have))
    tensors[f"{norm}.weight"] = Tensor.of(scaled.astype(weight.dtype))


def _cast(tensor: Tensor, name: str, dtype: str) -> Tensor:
    dtype = DTYPE_NAMES.get(dtype, dtype)
    if dtype not in DTYPES:
        raise ConverterError(f"no dtype is called {dtype}; there are {', '.join(DTYPES)}")
    target = np.dtype(DTYPES[dtype])
    if not is_float(tensor.dtype) or tensor.dtype == target:
        return tensor

    def read() -> np.ndarray[Any, Any]:
        array = tensor.read()
        with np.errstate(over="ignore"):
            cast = array.astype(target)
        if not np.isfinite(cast).all() and np.isfinite(array).all():
            raise CannotExpress(f"{name} has values too large for {dtype}; use bf16 or fp32")
        return cast

    return Tensor(tensor.shape, target, read)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype holds real numbers (ml_dtypes' are of kind V)."""
    return dtype.kind in "fV"


def _check_statistics(tensors: Mapping[str, Tensor], candidate: Candidate, checkpoint: Checkpoint) -> None:
    """Weights are real numbers; anything else is another kind of file (quantised, say)."""
    for name, tensor in tensors.items():
        if not is_float(tensor.dtype) and not name.endswith("num_batches_tracked"):
            key = candidate.used[name][1][0]
            raise NotADenseNet(f"{checkpoint.path}: {key} has type {tensor.dtype}; weights must be floating point")


def _reorder(tensor: Tensor, name: str, config: DenseNetConfig, layout: Layout, *, inverse: bool) -> Tensor:
    """Turn new-features-first channels into ours (or back), where a layout concatenates that way."""
    order = _channel_order(name, config) if layout.new_first else None
    if order is None:
        return tensor
    index = np.argsort(order) if inverse else order
    axis = 1 if len(tensor.shape) > 1 else 0
    apply: Callable[[], np.ndarray[Any, Any]] = lambda: np.take(tensor.read(), index, axis)  # noqa: E731
    return Tensor(tensor.shape, tensor.dtype, apply)


def _channel_order(name: str, config: DenseNetConfig) -> np.ndarray[Any, Any] | None:
    """For a tensor that sees a block's concatenation: where each of our channels is in new-first order."""
    parts = name.split(".")
    widths, growth = config.block_widths(), config.growth_rate
    if parts[0] == "blocks" and parts[4] in ("norm1", "conv1"):
        start, layers = widths[int(parts[1])][0], int(parts[3])
    elif parts[0] == "transitions":
        start, layers = widths[int(parts[1])][0], config.block_config[int(parts[1])]
    elif parts[0] == "norm" or name == "classifier.weight":
        start, layers = widths[-1][0], config.block_config[-1]
    else:
        return None
    if parts[-1] == "num_batches_tracked":
        return None
    news = [(layers - i) * growth + np.arange(growth) for i in range(1, layers + 1)]
    return np.concatenate([layers * growth + np.arange(start), *news])
