"""One file per format.  ``open_checkpoint`` looks at the bytes, never at the file's name alone."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from converter.checkpoint import Checkpoint
from converter.errors import UnreadableFile
from converter.formats.zips import Zip

# A row names a module of this package, its test and its opener; a module is imported when
# its turn comes, so that reading a .pth does not pay for TensorFlow's protocol buffers.

FOLDERS = (
    "tensorflow matches_folder open_folder",
    "paddle matches_folder open_folder",
)
"""Formats that are folders."""

FILES = (
    "torch_legacy matches open_legacy",
    "torch_tar matches open_tar",
    "safetensors matches open_safetensors",
    "hdf5 matches keras_h5:open_h5",
    "keras_h5 is_sharded open_sharded",
    "tensorflow matches open_tensorflow",
    "tf_graph matches open_graph",
    "paddle_program is_program paddle:open_program",
    "paddle matches_records open_records",
    "paddle matches_params open_params",
    "bare_pickle matches open_bare_pickle",
    "mxnet matches open_mxnet",
    "onnx_file matches open_onnx",
    "caffe matches open_caffe",
    "mindspore matches open_mindspore",
    "t7 matches open_t7",  # has no magic number: last
)
"""Formats told by their first 512 bytes (and the path, where those do not suffice), in this order."""

ZIPS = (
    "torch_export matches open_export",
    "torchscript matches open_frozen",
    "torch_zip matches open_zip",
    "keras_zip matches open_keras",
    "npz matches open_npz",
)
"""Formats that are zips, told apart by their members."""

COMPLETIONS = (".index", ".pdparams", ".pdmodel", ".json", ".pdiparams")
"""Endings of the file that a path without one, as TensorFlow and Paddle name checkpoints, stands for."""

KNOWN = (
    "PyTorch, safetensors, npz, ONNX, TorchScript, torch.export, Keras, TensorFlow, Lua Torch, Caffe, MXNet, Paddle, "
    "MindSpore"
)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint of any known format, without reading its tensors.

    Raises:
        UnreadableFile: missing, not a file, damaged, or of no known format.
        UnsafeFile: it asks for code to be run.
    """
    path = complete(Path(path))
    try:
        return _open(path)
    except FileNotFoundError as error:
        raise UnreadableFile(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _open(path: Path) -> Checkpoint:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        found = _first(FOLDERS, path, path)
        if found is None:
            raise UnreadableFile(f"{path}: is a folder, not a checkpoint; name the file in it")
        return found
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFile(f"{path}: is not a regular file")
    if not status.st_size:
        raise UnreadableFile(f"{path}: is empty")
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        found = _first(ZIPS, path, Zip(path))
        if found is None:
            raise UnreadableFile(f"{path}: a zip without tensors; known formats: {KNOWN}")
        return found
    found = _first(FILES, path, path, head)
    if found is not None:
        return found
    if path.suffix == ".json" and head.lstrip().startswith(b"{"):
        from converter.formats.sharded import open_sharded  # noqa: PLC0415

        return open_sharded(path, open_checkpoint)
    if head.startswith(b"version https://git-lfs"):
        raise UnreadableFile(f"{path}: a Git LFS pointer, not the file itself; run git lfs pull")
    raise UnreadableFile(f"{path}: not a checkpoint of a known format: {KNOWN}")


def complete(path: Path) -> Path:
    """The file a path stands for: itself, or with the ending its producer leaves out (``model.ckpt`` + ``.index``)."""
    if path.exists():
        return path
    return next((p for p in (path.with_name(path.name + ending) for ending in COMPLETIONS) if p.is_file()), path)


def _first(rows: Sequence[str], path: Path, *evidence: Any) -> Checkpoint | None:
    """Open ``path`` with the first reader whose test accepts the evidence."""
    for module, test, opener in _readers(rows):
        if getattr(module, test)(*evidence):
            home, _, name = opener.rpartition(":")
            reader = import_module(f"converter.formats.{home}") if home else module
            checkpoint: Checkpoint = getattr(reader, name)(path)
            return checkpoint
    return None


def _readers(rows: Sequence[str]) -> Iterator[tuple[Any, str, str]]:
    for row in rows:
        name, test, opener = row.split()
        yield import_module(f"converter.formats.{name}"), test, opener
