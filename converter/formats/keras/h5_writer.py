"""Keras weights as ``model.load_weights`` reads them from an ``.h5``: by the order of the layers.

The topological form (Keras, ``legacy_h5_format.py``), which every version of Keras
reads.  keras.applications can only build growth rate 32, 64 initial features and
compression 0.5; other networks load into a model of the same layers built otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Tensor
from converter.core.errors import CannotExpress, Unavailable
from converter.core.files import replacing
from converter.core.metadata import TOOL, TOOL_KEY

KERAS_VERSION = "2.15.0"
"""The last version of Keras whose native form this was; kernels are as TensorFlow stores them."""
MAX_ATTRIBUTE = 64512
"""HDF5 cannot hold a longer list in an attribute; Keras then numbers the pieces."""
MAX_CHARACTERS = MAX_ATTRIBUTE // 4
"""Of a text in an attribute, in UTF-8."""


def write_keras_h5(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Callable[[], Mapping[str, str]] = dict,
    *,
    force: bool = False,
) -> None:
    """Write tensors called ``<layer>/<leaf>``, layers and leaves in the model's order; metadata as attributes.

    ``metadata`` is asked for those when all tensors were read.

    Raises:
        Unavailable: h5py is not installed.
        CannotExpress: an element type HDF5 does not know (bfloat16), a name without a layer,
            or a file name in which Keras 3 expects its other form.
        CannotWrite: the target cannot be written.
    """
    try:
        import h5py  # noqa: PLC0415
    except ImportError as error:
        raise Unavailable(f"{path}: writing HDF5 needs h5py: pip install 'densenet-converter[keras]'") from error
    if path.name.endswith(".weights.h5"):
        raise CannotExpress(f"{path}: Keras 3 expects another form in a .weights.h5; call it {path.stem[:-8]}.h5")
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        layer, _, leaf = key.rpartition("/")
        if not layer:
            raise CannotExpress(f"{path}: {key} is not in a Keras layout; use --to keras")
        if tensor.dtype.kind == "V":
            raise CannotExpress(f"{path}: HDF5 cannot hold {key} of type {tensor.dtype}; use --dtype fp32")
        layers.setdefault(layer, {})[leaf] = tensor
    with replacing(path, force=force) as target, h5py.File(target, "w") as file:
        _texts(file, "layer_names", list(layers))
        file.attrs["backend"] = np.bytes_(b"tensorflow")
        file.attrs["keras_version"] = np.bytes_(KERAS_VERSION.encode())
        for layer, members in layers.items():
            group = file.create_group(layer)
            _texts(group, "weight_names", [f"{layer}/{leaf}:0" for leaf in members])
            for leaf, tensor in members.items():
                group.create_dataset(f"{layer}/{leaf}:0", data=np.ascontiguousarray(tensor.read()), track_times=False)
        for name, text in {TOOL_KEY: TOOL, **metadata()}.items():
            for i in range(0, len(text), MAX_CHARACTERS):
                piece = text[i : i + MAX_CHARACTERS].encode()
                file.attrs[name if len(text) <= MAX_CHARACTERS else f"{name}{i // MAX_CHARACTERS}"] = np.bytes_(piece)


def _texts(owner: Any, name: str, texts: list[str]) -> None:
    values = np.array([text.encode() for text in texts])
    pieces = -(-values.nbytes // MAX_ATTRIBUTE)
    for i, piece in enumerate(np.array_split(values, pieces)):
        owner.attrs[name if pieces == 1 else f"{name}{i}"] = piece
