"""Small seeds: files of a few hundred bytes that hold a tensor or two and no network.  A thousand are tried in the time
that a network takes, so what parses bytes is tried most of all."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Small = Callable[[Path], None]
"""Makes the reader's file at a path."""

ARRAYS = {"a.weight": np.arange(4, dtype=np.float32).reshape(2, 2), "b": np.ones(2, np.float16)}


def _tensors() -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array) for name, array in ARRAYS.items()}


def _torch(path: Path) -> None:
    import torch

    torch.save({"state_dict": _tensors(), "epoch": 1}, path)


def _legacy(path: Path) -> None:
    import torch

    torch.save(_tensors(), path, _use_new_zipfile_serialization=False)


def _tar_of_torch(path: Path) -> None:
    from formats.test_torch import write_tar

    write_tar(path, {"a.weight": _tensors()["a.weight"]})


def _module(path: Path) -> None:
    import torch

    torch.save(torch.nn.Sequential(torch.nn.BatchNorm2d(1)), path)


def _traced(path: Path) -> None:
    import torch

    torch.jit.trace(torch.nn.BatchNorm2d(1).eval(), torch.zeros(1, 1, 2, 2)).save(path)


def _exported(path: Path) -> None:
    import torch

    torch.export.save(torch.export.export(torch.nn.Linear(1, 1), (torch.zeros(2, 1),)), path)


def _distributed(path: Path) -> None:
    from torch.distributed import checkpoint

    checkpoint.save({"model": {"a": _tensors()["b"]}}, checkpoint_id=path.parent, no_dist=True)


def _safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(ARRAYS, path)


def _inner() -> bytes:
    from safetensors.numpy import save

    return save(ARRAYS)


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("in.safetensors")
        info.size = len(_inner())
        tar.addfile(info, io.BytesIO(_inner()))
    path.write_bytes(path.read_bytes()[:3072])


def _onnx(path: Path) -> None:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1], strides=[1, 1]),
        helper.make_node("Relu", ["y"], ["z"], name="relu"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, "h", 2]) for name in "xz"]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [0.5])
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    path.write_bytes(helper.make_model(graph).SerializeToString())


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["a"]
        group = file.create_group("a")
        group.attrs["weight_names"] = [b"a/kernel:0"]
        group["a/kernel:0"] = np.ones((2, 2), np.float32)


def _hdf5_of_now(path: Path) -> None:
    import h5py

    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["a"] = "text"
        file.create_dataset("a/b", data=np.zeros((4, 4), np.float32), chunks=(2, 2), compression="gzip", shuffle=True)


def _keras_zip(path: Path) -> None:
    import os

    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)


def _bundle(path: Path) -> None:
    from helpers.tensorflow import write_v2

    write_v2(path.with_suffix(""), ARRAYS)


def _table(path: Path) -> None:
    from helpers.tensorflow import write_v1

    write_v1(path, {"a": ARRAYS["a.weight"]})


def _mxnet(path: Path) -> None:
    from helpers.mxnet import params

    path.write_bytes(params(dict(ARRAYS)))


def _mindspore(path: Path) -> None:
    from formats.test_mindspore import value

    path.write_bytes(value("a", ARRAYS["a.weight"]))


def _record(path: Path) -> None:
    path.write_bytes(pickle.dumps(ARRAYS, 2))


def _packed(path: Path) -> None:
    path.write_bytes(gzip.compress(_inner()))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("in.safetensors", _inner())


def _t7(path: Path) -> None:
    from helpers.t7 import Obj, saved

    saved(path, Obj("nn.Linear", {"weight": ARRAYS["a.weight"], "train": False, "_type": "torch.FloatTensor"}))


def _t7_text(path: Path) -> None:
    from helpers.t7 import Obj, saved

    saved(path, Obj("nn.ReLU", {"bias": np.ones(2, np.float32), "inplace": True}), text=True)


def _caffe(path: Path) -> None:
    from helpers.caffe import layer

    path.write_bytes(layer("conv1", "Convolution", np.ones((1, 1, 1, 1))) + layer("relu", "ReLU"))


def _graph(path: Path) -> None:
    from helpers.tensorflow import write_graph

    write_graph(path, {"a": ARRAYS["a.weight"]}, 1e-3)


def _saved_model(path: Path) -> None:
    from helpers.wire import data

    _graph(path)
    path.write_bytes(data(2, data(1, data(4, "serve")) + data(2, path.read_bytes())))


def _paddle(path: Path) -> None:
    from helpers.paddle import program

    path.write_bytes(program({"a": ARRAYS["a.weight"]}))


def _paddle_record(path: Path) -> None:
    from helpers.paddle import record

    path.write_bytes(record(ARRAYS["a.weight"]))


SMALL: dict[str, tuple[Small, ...]] = {
    "safetensors": (_safetensors,),
    "npz": (lambda path: np.savez(path, **ARRAYS), lambda path: np.savez_compressed(path, **ARRAYS)),
    "npy": (lambda path: np.save(path, np.array(ARRAYS, object), allow_pickle=True),),
    "torch-zip": (_torch,),
    "torch-legacy": (_legacy,),
    "torch-tar": (_tar_of_torch,),
    "torch-module": (_module,),
    "torch-distributed": (_distributed,),
    "torchscript": (_traced,),
    "torch-export": (_exported,),
    "pickle": (_record, lambda path: path.write_bytes(pickle.dumps({"a": [1, "x", (2.5, None)], "b": {3}}, 0))),
    "packed": (_packed, _zip),
    "tar": (_tar,),
    "onnx": (_onnx,),
    "hdf5": (_hdf5, _hdf5_of_now),
    "keras-zip": (_keras_zip,),
    "tf-bundle": (_bundle,),
    "tf-table": (_table,),
    "tf-graph": (_graph,),
    "tf-saved-model": (_saved_model,),
    "paddle-program": (_paddle,),
    "paddle-records": (_paddle_record,),
    "caffe": (_caffe,),
    "t7": (_t7, _t7_text),
    "mxnet": (_mxnet,),
    "mindspore": (_mindspore,),
}
