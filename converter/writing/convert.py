"""A checkpoint of one layout to a file of another."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.dtypes import Types
from converter.core.errors import CannotExpress, ConverterError
from converter.core.fingerprint import DIGITS, Watch
from converter.core.metadata import FINGERPRINT_KEY, LAYOUT_KEY
from converter.core.model import Images, Model
from converter.core.nearest import meant
from converter.core.shorthand import Shorthand, records
from converter.core.source import AnySource, Source, shown
from converter.layouts import layout_named
from converter.layouts.layout import Layout
from converter.reading.load import is_float
from converter.writing.in_layout import Arranged, in_layout
from converter.writing.target import read_for

DTYPES = Types({"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp64": "float64"})
DTYPE_NAMES = {name: code for code, name in DTYPES.names.items()} | {"half": "fp16"}
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".npz", ".h5")
EXPORTED = (".onnx", ".xml", ".pt2", ".tflite", ".mlpackage", ".pte")
"""What files that say what is computed end in; they are exported."""


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert` did.

    Attributes:
        model: the weights as read, in the library layout, described as the file describes them.
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

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        model = self.model
        return {
            "source": model.origin.name,
            "source_sha256": model.origin.sha256,
            "format": model.origin.format,
            "source_layout": model.origin.layout,
            "target": str(self.path),
            "target_layout": self.layout,
            "architecture": model.config.name,
            "parameters": model.config.parameters(),
            "tensors": self.tensors,
            "dropped": dict(model.dropped),
            "notes": list(self.notes),
        }


def convert(
    source: AnySource,
    target: str | Path,
    *,
    to: str = "library",
    dtype: str | None = None,
    images: Images | None = None,
    force: bool = False,
    **shorthand: Unpack[Shorthand],
) -> Conversion:
    """Convert any DenseNet checkpoint to a file in the library's or another layout.

    Args:
        source: a checkpoint, as for :func:`converter.load`.
        target: ``.safetensors``, ``.pth`` (``.pt``, ``.bin``), ``.npz``, or ``.h5`` for Keras.
        to: the layout to write.
        dtype: ``fp32``, ``fp16``, ``bf16`` or ``fp64`` for all weights; default as stored.
        images: what images go through and what classes are called, to be recorded in the file.
        force: whether a file that this tool did not write may be replaced, or the source.
        shorthand: how to read the source, ``preprocess`` and ``labels`` as keywords.

    Raises:
        ConverterError: one of its kinds; the target is then as it was before.

    Example:
        >>> from converter import convert
        >>> done = convert("digits.pth", "digits.safetensors", to="timm", dtype="fp16")
        >>> done.layout, done.path.name
        ('timm', 'digits.safetensors')
    """
    target = Path(target)
    wanted = check(target, to, dtype, shown(source) if isinstance(source, str | Path | Source) else "SRC")
    wanted_source, said = records(source, images, shorthand)
    found = read_for(target, wanted_source, force=force)
    watch = Watch(found.model.tensors)
    model = replace(found.model, tensors=watch.tensors).described(said)
    arranged = in_layout(model, wanted, metadata=target.suffix == ".safetensors")
    if dtype is not None:
        tensors = {name: _cast(tensor, name, dtype) for name, tensor in arranged.tensors.items()}
        arranged = replace(arranged, tensors=tensors)
    write(target, arranged, watch.fingerprint, force=force)
    notes = (*model.notes, *arranged.notes)
    return Conversion(arranged.model, target, wanted.name, len(arranged.tensors), notes)


def check(target: Path, to: str, dtype: str | None, source: str = "SRC") -> Layout:
    """The layout that is to be written; whether a target and a dtype can be is looked at before anything is read.

    Raises:
        ConverterError: one of them is none.
    """
    if target.suffix not in SUFFIXES:
        instead = f"; densenet export {source} {target} writes such files" if target.suffix in EXPORTED else ""
        raise ConverterError(f"{target}: cannot tell what to write; end the name in {', '.join(SUFFIXES)}{instead}")
    if dtype is not None and DTYPE_NAMES.get(dtype, dtype) not in DTYPES:
        raise ConverterError(f"no dtype is called {dtype}; there are {', '.join(DTYPES)}{meant(dtype, DTYPES)}")
    # HDF5 is Keras' format: nothing else reads other names from it.
    return layout_named("keras" if target.suffix == ".h5" and to == "library" else to)


def write(
    target: Path, arranged: Arranged, fingerprint: Callable[[], str] | None = None, *, force: bool = False
) -> None:
    """Write tensors in the format the target's name asks for, each imported when it is asked for.

    ``fingerprint`` gives that of the weights when all tensors were read; None where it is not recorded.
    A file that is read-only or another user's is replaced only by ``force``.

    Raises:
        CannotExpress: the format cannot hold them.
        CannotWrite: the target cannot be written.
    """
    tensors, layout = arranged.tensors, arranged.layout

    def known() -> dict[str, str]:
        return {**late(), **arranged.model.known()}

    def late() -> dict[str, str]:
        return {FINGERPRINT_KEY: fingerprint()} if fingerprint else {}

    if target.suffix == ".safetensors":
        from converter.formats.safetensors import write_safetensors  # noqa: PLC0415 (for few)

        room = {FINGERPRINT_KEY: "0" * DIGITS} if fingerprint else {}
        metadata = {**arranged.model.metadata(), **room, LAYOUT_KEY: layout.name}
        write_safetensors(target, tensors, metadata, at_last=late, force=force)
    elif target.suffix == ".npz":
        from converter.formats.npz import write_npz  # noqa: PLC0415 (for few)

        write_npz(target, tensors, known, force=force)
    elif target.suffix == ".h5":
        from converter.formats.keras.h5_writer import write_keras_h5  # noqa: PLC0415 (for few)

        write_keras_h5(target, tensors, known, force=force)
    else:
        from converter.formats.torch.zip_writer import write_torch  # noqa: PLC0415 (for few)

        write_torch(target, layout.wrapper(tensors) if layout.wrapper else tensors, known, force=force)


def _cast(tensor: Tensor, name: str, dtype: str) -> Tensor:
    target = DTYPES[DTYPE_NAMES.get(dtype, dtype)]
    if not is_float(tensor.dtype) or tensor.dtype == target:
        return tensor

    def read() -> Array:
        array = tensor.read()
        with np.errstate(over="ignore"):
            cast = array.astype(target)
        if not np.isfinite(cast).all() and np.isfinite(array).all():
            raise CannotExpress(f"{name} has values too large for {dtype}; use bf16 or fp32")
        return cast

    return Tensor(tensor.shape, target, read)
