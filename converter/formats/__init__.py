"""One file per format.  ``open_checkpoint`` looks at the bytes, never at the file's name alone."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from converter.checkpoint import Checkpoint
from converter.errors import UnreadableFile
from converter.formats import (
    bare_pickle,
    caffe,
    hdf5,
    keras_h5,
    keras_zip,
    mindspore,
    mxnet,
    npz,
    onnx_file,
    paddle,
    paddle_program,
    safetensors,
    t7,
    tensorflow,
    tf_graph,
    torch_export,
    torch_legacy,
    torch_tar,
    torch_zip,
    torchscript,
)
from converter.formats.sharded import is_index, open_sharded
from converter.formats.zips import Zip

Opener = Callable[[Path], Checkpoint]

FOLDERS: tuple[tuple[Callable[[Path], bool], Opener], ...] = (
    (tensorflow.matches_folder, tensorflow.open_folder),
    (paddle.matches_folder, paddle.open_folder),
)
"""Formats that are folders."""

FILES: tuple[tuple[Callable[[Path, bytes], bool], Opener], ...] = (
    (torch_legacy.matches, torch_legacy.open_legacy),
    (torch_tar.matches, torch_tar.open_tar),
    (safetensors.matches, safetensors.open_safetensors),
    (hdf5.matches, keras_h5.open_h5),
    (keras_h5.is_sharded, keras_h5.open_sharded),
    (tensorflow.matches, tensorflow.open_tensorflow),
    (tf_graph.matches, tf_graph.open_graph),
    (paddle_program.is_program, paddle.open_program),
    (paddle.matches_records, paddle.open_records),
    (paddle.matches_params, paddle.open_params),
    (bare_pickle.matches, bare_pickle.open_bare_pickle),
    (mxnet.matches, mxnet.open_mxnet),
    (onnx_file.matches, onnx_file.open_onnx),
    (caffe.matches, caffe.open_caffe),
    (mindspore.matches, mindspore.open_mindspore),
    (t7.matches, t7.open_t7),  # has no magic number: last
)
"""Formats told by their first 512 bytes (and the path, where those do not suffice), in this order."""

ZIPS: tuple[tuple[Callable[[Zip], bool], Opener], ...] = (
    (torch_export.matches, torch_export.open_export),
    (torchscript.matches, torchscript.open_frozen),
    (torch_zip.matches, torch_zip.open_zip),
    (keras_zip.matches, keras_zip.open_keras),
    (npz.matches, npz.open_npz),
)
"""Formats that are zips, told apart by their members."""

KNOWN = "torch (.pth, .pt, .bin), safetensors, npz, and index files of sharded checkpoints"


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint of any known format, without reading its tensors.

    Raises:
        UnreadableFile: missing, not a file, damaged, or of no known format.
        UnsafeFile: it asks for code to be run.
    """
    path = Path(path)
    try:
        return _open(path)
    except FileNotFoundError as error:
        raise UnreadableFile(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _open(path: Path) -> Checkpoint:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        for in_folder, opener in FOLDERS:
            if in_folder(path):
                return opener(path)
        raise UnreadableFile(f"{path}: is a folder, not a checkpoint; name the file in it")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFile(f"{path}: is not a regular file")
    if not status.st_size:
        raise UnreadableFile(f"{path}: is empty")
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        archive = Zip(path)
        for in_zip, opener in ZIPS:
            if in_zip(archive):
                return opener(path)
        raise UnreadableFile(f"{path}: a zip without tensors; known formats: {KNOWN}")
    for in_file, opener in FILES:
        if in_file(path, head):
            return opener(path)
    if is_index(path, head):
        return open_sharded(path, open_checkpoint)
    if head.startswith(b"version https://git-lfs"):
        raise UnreadableFile(f"{path}: a Git LFS pointer, not the file itself; run git lfs pull")
    raise UnreadableFile(f"{path}: not a checkpoint of a known format: {KNOWN}")
