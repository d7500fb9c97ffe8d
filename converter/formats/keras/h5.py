"""Keras' weights in HDF5, in all the ways Keras has written them, as one flat table.

Whatever wrote the file, a weight comes out as ``<layer>/<kernel, gamma ...>``, in the
order of the model's layers, convolutions as (height, width, in, out).  Three ways:

- topological (Keras 1 to 3, ``legacy_h5_format.py``): ``layer_names`` on the group,
  ``weight_names`` on each layer's; a whole model has it under ``model_weights``
- ``.weights.h5`` (Keras 2.13 and 3, ``saving_lib.py``): ``layers/conv2d_3/vars/0``,
  numbered per class, and layers that a subclass keeps as attributes by those,
  ``base/layers/conv2d_3/vars/0``; where Keras says the layer's name, it is used
- ``.weights.json``: the same in several files
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import UnreadableFile
from converter.core.mapping import mapped
from converter.core.metadata import FINGERPRINT_KEY, MADE_KEY, OF_IMAGES, TOOL_KEY
from converter.formats.hdf5 import H5Group, read_hdf5
from converter.formats.keras.config import compiled_with, parse_config

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
"""Where saving_lib keeps a model's layers; the second name is Keras 2.13's."""
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "normalization": ("mean", "variance", "count"),
    "p_re_lu": ("alpha",),
}
"""What a layer's numbered variables are, by its class."""
KERAS1: Mapping[str, str] = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",  # the name lies: it holds the variance
}
"""Keras 1's names for what Keras 2 called differently."""
TRAINING = ("optimizer", "optimizer_weights", "_optimizer")
POOLINGS = {
    **dict.fromkeys(("max_pool", "global_max_pooling2d"), "max"),
    **dict.fromkeys(("avg_pool", "global_average_pooling2d"), "avg"),
}
"""Layers that pool to a vector, by name or class."""
VARS = "vars"
METRICS = "metrics"
"""Where Keras 2.13 to 2.16 keep what a compiled model counts."""


def open_h5(path: Path) -> Checkpoint:
    """Open an HDF5 file: Keras weights as a flat table, anything else as the tree of its groups."""
    root = read_hdf5(mapped(path), str(path))
    whole = root.get("model_weights")
    version = root.attributes.get("keras_version")
    metadata = {"keras_version": version} if isinstance(version, str) else {}
    own = (TOOL_KEY, FINGERPRINT_KEY, MADE_KEY, *OF_IMAGES)
    metadata |= {key: text for key in own if (text := _text(root, key))}
    if isinstance(compiled := root.attributes.get("training_config"), str):
        metadata |= compiled_with(compiled)
    described = root.attributes.get("model_config")
    graph = parse_config(described, str(path)) if isinstance(described, str) else None
    name: str = "HDF5"
    tree: Any = root
    if isinstance(whole, H5Group) and _texts(whole, "layer_names"):
        name, tree = "Keras model, HDF5", {"model_weights": by_layer(whole, str(path))}
    elif _texts(root, "layer_names"):
        name, tree = "Keras weights, HDF5", by_layer(root, str(path))
    elif _by_saving_lib(root):
        name, tree = "Keras weights, HDF5", by_class(root, str(path))
    table = tree.get("model_weights", tree)
    settings = pooling_of(table) if "layer_names" in table.attributes else {}
    return Checkpoint(path, name, tree, metadata, (path,), graph=graph, settings=settings)


# -- topological -----------------------------------------------------------------------


def by_layer(group: H5Group, where: str) -> H5Group:
    """The weights of a topological file; its attribute ``layer_names`` has all layers, in order.

    Raises:
        UnreadableFile: a weight it lists is missing.
    """
    tensors: dict[str, Tensor] = {}
    layers, listed = _texts(group, "layer_names"), []
    for layer in layers:
        owner = descend(group, layer, where)
        weights = _texts(owner, "weight_names") if isinstance(owner, H5Group) else []
        listed += weights
        # A nested model's weights name their own layers; a plain layer's share one scope, whatever it is called.
        nested = len({weight.rpartition("/")[0] for weight in weights}) > 1
        for weight in weights:
            tensor = descend(owner, weight, where)
            scope, _, leaf = weight.rpartition("/")
            leaf = leaf.partition(":")[0].removeprefix(f"{layer}_")
            name = f"{layer}/{scope}" if nested else layer
            key = f"{name}/{KERAS1.get(leaf, leaf)}"
            if not isinstance(tensor, Tensor) or key in tensors:
                raise UnreadableFile(f"{where}: {layer}/{weight} is no array, or listed twice")
            tensors[key] = tensor
    keras1 = any(name.endswith(("_W", "_W:0")) for name in listed)
    # Keras 1 does not say its backend, but only TensorFlow's names end in ":0".
    usual = "theano" if keras1 and not any(":" in name for name in listed) else ""
    theano = group.attributes.get("backend", usual) == "theano"
    return H5Group(_oriented(tensors, keras1=keras1, theano=theano), {"layer_names": layers})


def _oriented(tensors: dict[str, Tensor], *, keras1: bool, theano: bool) -> dict[str, Tensor]:
    """Kernels as TensorFlow's Keras 2 stores them.

    Theano convolves where others correlate, so its kernels are rotated by 180 degrees.
    Keras 1 with ``dim_ordering="th"`` stores (out, in, height, width), which shows in
    every kernel's shape; Keras 2 stores (height, width, in, out) always.
    (Keras 2.0, keras/engine/topology.py, preprocess_weights_for_loading.)
    """
    kernels = {key: t for key, t in tensors.items() if key.endswith("/kernel") and len(t.shape) == 4}
    out_first = keras1 and any(t.shape[0] != t.shape[1] for t in kernels.values())
    order = (2, 3, 1, 0) if out_first else (0, 1, 2, 3)
    step = -1 if theano else 1

    def turned(tensor: Tensor) -> Tensor:
        shape = tuple(tensor.shape[axis] for axis in order)
        return Tensor(shape, tensor.dtype, lambda: tensor.read().transpose(order)[::step, ::step])

    if not out_first and not theano:
        return tensors
    return {key: turned(tensor) if key in kernels else tensor for key, tensor in tensors.items()}


# -- saving_lib ------------------------------------------------------------------------


def by_class(root: H5Group, where: str, names: Mapping[str, str] | None = None) -> H5Group:
    """The weights of a ``.weights.h5``; its attribute ``layer_names`` has all layers, by class and number.

    The attribute ``subclass`` is there where the layers are attributes of a class of somebody's own.

    Args:
        root: the file.
        where: names it in errors.
        names: the layers' names by their place (``conv2d_3``, ``functional/conv2d_3``),
            where the model's config tells and the file does not.
    """
    tensors: dict[str, Tensor] = {}
    layers: list[str] = []
    places: list[str] = []
    for place, own, variables in _layers(root, "", ""):
        leaves = _leaves(place, variables)
        name = (names or {}).get(place, own)
        layers.append(name)
        places.append(place)
        for number, value in variables.items():
            leaf = leaves[int(number)] if number.isdecimal() and int(number) < len(leaves) else number
            key = f"{name}/{leaf}"
            if key in tensors:
                raise UnreadableFile(f"{where}: two layers are called {name}")
            if isinstance(value, Tensor):
                tensors[key] = value
    subclass = not any(container in root for container in CONTAINERS)
    about = {"layer_names": layers, "classes": [_natural(place.rpartition("/")[2])[0] for place in places]}
    return H5Group(tensors, {**about, **({"subclass": True} if subclass else {})})


def pooling_of(table: H5Group) -> dict[str, str]:
    """The pooling before the head, as a config field, where a layer without weights says that it is of maxima.

    keras.applications calls such a layer ``max_pool``; other layers are called after their class.
    """
    names = [_natural(name.rpartition("/")[2])[0] for name in table.attributes["layer_names"]]
    said = {POOLINGS[name] for name in (*names, *table.attributes.get("classes", ())) if name in POOLINGS}
    return {"global_pool": "max"} if said == {"max"} else {}


def _by_saving_lib(root: H5Group) -> bool:
    """Whether a file has what saving_lib writes: containers of layers, or layers as attributes with variables."""
    members = [root, *(child for child in root.values() if isinstance(child, H5Group))]
    return any(name in member for member in members for name in (*CONTAINERS, VARS))


def _leaves(place: str, variables: H5Group) -> tuple[str, ...]:
    """What the numbered variables of a layer are: by its class, or by their shapes where an attribute is its place."""
    kind = _natural(place.rpartition("/")[2])[0]
    shapes = [value.shape for value in variables.values() if isinstance(value, Tensor)]
    if kind in VARIABLES or not shapes or len(shapes) != len(variables):
        return VARIABLES.get(kind, ())
    dims = [len(shape) for shape in shapes]
    if dims == [1] * 4 and len(set(shapes)) == 1:
        return VARIABLES["batch_normalization"]
    biased = dims[1:] == [1] and shapes[1] == shapes[0][-1:]
    return VARIABLES["dense"] if dims[0] in (2, 4) and (biased or not dims[1:]) else ()


def _counts(key: str, child: Any) -> bool:
    """Whether a member of a model is its metrics, and not an attribute of that name with layers in it."""
    return key == METRICS and isinstance(child, H5Group) and not any(_natural(name)[0] in VARIABLES for name in child)


def _layers(group: H5Group, place: str, name: str) -> Iterator[tuple[str, str, H5Group]]:
    """Every layer with its place, its name and its variables."""
    for container in CONTAINERS:
        members = group.get(container, {})
        for key in sorted(members, key=_natural) if isinstance(members, H5Group) else ():
            yield from _layer(members[key], key, place, name)
    for key, child in group.items():  # a layer's own layers, as attributes of its class
        if key not in (*CONTAINERS, *TRAINING, VARS) and not _counts(key, child):
            yield from _layer(child, key, place, name)


def _layer(node: Any, key: str, place: str, name: str) -> Iterator[tuple[str, str, H5Group]]:
    if not isinstance(node, H5Group):
        return
    found = node.get(VARS)
    variables = found if isinstance(found, H5Group) else H5Group()
    own = str(variables.attributes.get("name", key))
    there, called = (f"{place}/{key}", f"{name}/{own}") if place else (key, own)
    yield there, called, variables
    yield from _layers(node, there, called)


def _natural(name: str) -> tuple[str, int]:
    base, _, number = name.rpartition("_")
    return (base, int(number)) if number.isdecimal() and base and len(number) < 10 else (name, -1)


# -- helpers ---------------------------------------------------------------------------


def _texts(group: H5Group, name: str) -> list[str]:
    """A list of texts on a group; beyond 64 KB Keras spreads it over ``name0``, ``name1`` ..."""
    attributes, result = group.attributes, []
    if name in attributes:
        result = attributes[name]
    else:
        part = 0
        while f"{name}{part}" in attributes:
            result = [*result, *attributes[f"{name}{part}"]]
            part += 1
    return [str(text) for text in result] if isinstance(result, list) else []


def _text(group: H5Group, name: str) -> str:
    """A text that this tool wrote as an attribute, in pieces where it is long; empty if there is none."""
    whole = group.attributes.get(name)
    return (
        whole
        if isinstance(whole, str)
        else "".join(
            str(group.attributes[f"{name}{i}"]) for i in takewhile(lambda i: f"{name}{i}" in group.attributes, count())
        )
    )


def descend(group: Any, path: str, where: str) -> Any:
    """What a path of names leads to.

    Raises:
        UnreadableFile: nothing.
    """
    node = group
    for step in path.split("/"):
        node = node.get(step) if isinstance(node, H5Group) else None
    if node is None:
        raise UnreadableFile(f"{where}: it lists {path}, which is missing")
    return node
