"""One file per format.  ``open_checkpoint`` looks at the bytes, never at the file's name alone.

A reader has ``matches`` and a function that opens, which raises what ``open_checkpoint`` does and,
where it needs a package that is not installed, Unavailable.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from converter.core import bounds
from converter.core.checkpoint import Checkpoint
from converter.core.errors import ForeignFile, UnreadableFile
from converter.formats.damage import MALFORMED, STRANGE, typed
from converter.formats.zips import Zip

Opener = Callable[[Path], Checkpoint]
KNOWN = (
    "PyTorch, safetensors, npz, ONNX, ONNX Runtime, TorchScript, torch.export, Keras, TensorFlow, TensorFlow.js, "
    "TensorFlow Lite, Lua Torch, Caffe, MXNet, Paddle, MindSpore, OpenVINO, flax, Core ML, ncnn"
)

# Each reader is imported when its turn comes, so that reading a .pth does not pay for TensorFlow's protocol buffers.
# ruff: noqa: PLC0415


def _folders(path: Path) -> Iterator[tuple[bool, Opener]]:
    """Formats that are folders: whether this is one, and how to open it."""
    from converter.formats.paddle import params
    from converter.formats.tensorflow import bundle
    from converter.formats.torch import distributed

    yield distributed.matches_folder(path), distributed.open_distributed
    yield bundle.matches_folder(path), bundle.open_folder
    yield params.matches_folder(path), params.open_folder


def _as_named(path: Path, head: bytes) -> Iterator[tuple[bool, Opener]]:
    """The formats people have most of, asked first where name and bytes agree: the others need not be imported then."""
    match path.suffix:
        case ".safetensors":
            from converter.formats import safetensors

            yield safetensors.matches(path, head), safetensors.open_safetensors
        case ".onnx":
            from converter.formats import onnx_file

            yield onnx_file.is_certain(path, head), onnx_file.open_onnx
        case ".h5" | ".hdf5":
            from converter.formats import hdf5
            from converter.formats.keras import h5, preset

            yield preset.matches(path), preset.open_preset
            yield hdf5.matches(path, head), h5.open_h5


def _files(path: Path, head: bytes, depth: int) -> Iterator[tuple[bool, Opener]]:
    """Formats told by their first 512 bytes (and the path, where those do not suffice), in this order."""
    yield from _as_named(path, head)
    from converter.formats.torch import legacy

    yield legacy.matches(path, head), legacy.open_legacy
    if path.suffix in (".bin", ".json"):
        from converter.formats import ncnn
        from converter.formats.coreml import model as coreml
        from converter.formats.tfjs import model as tfjs

        yield tfjs.matches(path, head), tfjs.open_model
        yield tfjs.index_of(path) is not None, tfjs.open_shard
        yield ncnn.param_of(path) is not None, ncnn.open_bin
        yield coreml.model_beside(path) is not None, coreml.open_weights
    from converter.formats import safetensors
    from converter.formats.torch import tar

    yield tar.matches(path, head), tar.open_tar
    yield safetensors.matches(path, head), safetensors.open_safetensors
    from converter.formats import hdf5, openvino, ort, tflite
    from converter.formats.keras import h5, preset
    from converter.formats.keras import sharded as keras_sharded

    yield preset.matches(path), preset.open_preset
    yield openvino.matches(path, head) or openvino.matches_weights(path), openvino.open_openvino
    yield tflite.matches(path, head), tflite.open_tflite
    yield ort.matches(path, head), ort.open_ort
    yield hdf5.matches(path, head), h5.open_h5
    yield keras_sharded.matches(path, head), keras_sharded.open_sharded
    from converter.formats.tensorflow import bundle, graph

    yield bundle.matches(path, head), bundle.open_tensorflow
    yield graph.matches(path, head), graph.open_graph
    from converter.formats.paddle import params, program
    from converter.formats.torch import bare_pickle

    yield program.is_program(path, head), params.open_program
    yield params.matches_records(path, head), params.open_records
    yield params.matches_params(path, head), params.open_params
    yield bare_pickle.matches(path, head), bare_pickle.open_bare_pickle
    from converter.formats import caffe, mindspore, msgpack, mxnet, ncnn, npy, onnx_file, sharded, t7

    yield npy.matches(path, head), npy.open_npy
    yield ncnn.matches(path, head), ncnn.open_ncnn

    yield mxnet.matches(path, head), mxnet.open_mxnet
    if path.suffix == ".mlmodel":
        from converter.formats.coreml import model as coreml

        yield coreml.matches(path, head), coreml.open_coreml
    yield onnx_file.matches(path, head), onnx_file.open_onnx
    yield caffe.matches(path, head), caffe.open_caffe
    yield mindspore.matches(path, head), mindspore.open_mindspore
    yield msgpack.matches(path, head), msgpack.open_msgpack
    yield t7.matches(path, head), t7.open_t7  # has no magic number: after all that have one
    if depth < bounds.ARCHIVES:
        from converter.formats import packed

        yield packed.matches(path, head), lambda outer: packed.open_packed(outer, lambda p: _open(p, depth + 1))
    yield sharded.matches(path, head), lambda index: sharded.open_sharded(index, open_checkpoint)


def _zips(archive: Zip, depth: int) -> Iterator[tuple[bool, Opener]]:
    """Formats that are zips, told apart by their members."""
    from converter.formats.torch import export, script
    from converter.formats.torch import zip as torch_zip

    yield export.matches(archive), export.open_export
    yield script.matches(archive), script.open_script
    yield torch_zip.matches(archive), torch_zip.open_zip
    from converter.formats import npz
    from converter.formats.keras import zip as keras_zip

    yield keras_zip.matches(archive), keras_zip.open_keras
    yield npz.matches(archive), npz.open_npz
    if depth < bounds.ARCHIVES:
        from converter.formats import packed

        yield True, lambda outer: packed.open_packed(outer, lambda p: _open(p, depth + 1))


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint of any known format, without reading its tensors.

    Raises:
        UnreadableFile: missing, not a file, damaged, or without what belongs beside it.
        ForeignFile: of no known format, or no checkpoint.
        UnsafeFile: it asks for code to be run, or points outside its own folder.
    """
    path = Path(path)
    try:
        return _open(path)
    except FileNotFoundError as error:
        raise UnreadableFile(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except MALFORMED as error:  # what no reader expected
        raise UnreadableFile(f"{path}: {STRANGE} ({typed(error)})") from error


def _open(path: Path, depth: int = 0) -> Checkpoint:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        from converter.formats.foreign import folder_it_is

        return _first(_folders(path), path, folder_it_is(path))
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFile(f"{path}: is not a regular file")
    if not status.st_size:
        raise ForeignFile(f"{path}: is empty")
    if path.suffix == ".distcp" or path.name == ".metadata":
        from converter.formats.torch import distributed

        return distributed.open_distributed(path)
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return _first(_zips(Zip(path), depth), path, f"a zip without tensors; known formats: {KNOWN}")
    from converter.formats.foreign import text_it_is, what_it_is

    if foreign := what_it_is(path, head):
        raise ForeignFile(f"{path}: {foreign}")
    why = text_it_is(head) or f"not a checkpoint of a known format: {KNOWN}"
    return _first(_files(path, head, depth), path, why)


def _first(readers: Iterator[tuple[bool, Opener]], path: Path, why: str) -> Checkpoint:
    """Open ``path`` with the first reader that takes it; ``why`` is said where none does."""
    for matches, opener in readers:
        if matches:
            return opener(path)
    raise ForeignFile(f"{path}: {why}")
