"""Small seeds: files of a few hundred bytes that hold a tensor or two and no network.  A thousand are tried in the time
that a network takes, so what parses bytes is tried most of all."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
import zlib
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


def torch_zip(path: Path) -> None:
    """A state dict with a number beside it."""
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


def onnx(path: Path) -> None:
    """A convolution and its ReLU."""
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


def _openvino(path: Path) -> None:
    path.write_text(
        '<net version="11"><layers><layer id="0" name="w" type="Const" version="opset1"><data element_type="f32" '
        'shape="1,2" offset="0" size="8"/><output><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port>'
        '</output></layer><layer id="1" name="r" type="Result" version="opset1"><input><port id="0"/></input></layer>'
        '</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>'
    )


def _openvino_of_7(path: Path) -> None:
    path.write_text(
        '<net version="7"><layers><layer id="0" name="c" type="Convolution" precision="FP32"><data kernel="1,1" '
        'output="1"/><output><port id="1"><dim>1</dim></port></output><blobs><weights offset="0" size="4"/></blobs>'
        '</layer></layers><edges/><pre-process><channel id="0"><mean value="1"/></channel></pre-process></net>'
    )


def _tflite(path: Path) -> None:
    """Model {version, operator_codes, subgraphs, description, buffers} of one RELU, whose input is a constant."""
    from flatbuffers import Builder

    make = Builder(0)

    def table(*given: Callable[[], None]) -> int:
        make.StartObject(8)
        for each in given:
            each()
        return int(make.EndObject())

    def vector(values: list[int], tables: bool = False) -> int:
        make.StartVector(4, len(values), 4)
        for value in reversed(values):
            (make.PrependUOffsetTRelative if tables else make.PrependInt32)(value)
        return int(make.EndVector())

    def at(slot: int, place: int) -> Callable[[], None]:
        return lambda: make.PrependUOffsetTRelativeSlot(slot, place, 0)

    name, shape = make.CreateString("w"), vector([1, 2])
    values = [table(at(0, shape), lambda i=i: make.PrependUint32Slot(2, i, 0), at(3, name)) for i in (0, 1)]
    operator = table(at(1, vector([1])), at(2, vector([0])))
    ends = vector([0])
    graph = table(at(0, vector(values, True)), at(1, ends), at(2, ends), at(3, vector([operator], True)))
    code = table(lambda: make.PrependInt8Slot(0, 19, 0))
    filled = table(at(0, make.CreateByteVector(np.ones(2, np.float32).tobytes())))
    buffers = vector([table(), filled], True)
    codes, graphs = vector([code], True), vector([graph], True)
    root = table(lambda: make.PrependUint32Slot(0, 3, 0), at(1, codes), at(2, graphs), at(4, buffers))
    make.Finish(root, b"TFL3")
    path.write_bytes(bytes(make.Output()))


def _ort(path: Path) -> None:
    from structures.test_ort import as_ort

    onnx(path.with_suffix(".onnx"))
    as_ort(path.with_suffix(".onnx"), "DISABLE_ALL")


def _coreml(kind: int, inner: bytes) -> bytes:
    """Model {1: version, 2: description {1: input {1: name}}, KIND: INNER}."""
    from helpers.wire import data, number

    return number(1, 6) + data(2, data(1, data(1, "x"))) + data(kind, inner)


def _coreml_network(path: Path) -> None:
    from helpers.wire import data, number

    weights = data(20, data(1, np.ones(1, np.float32).tobytes()))
    layer = data(1, "d") + data(2, "x") + data(3, "y") + data(140, number(1, 1) + number(2, 1) + weights)
    relu = data(1, "r") + data(2, "y") + data(3, "z") + data(130, data(10, b""))
    path.write_bytes(_coreml(500, data(1, layer) + data(1, relu)))


def coreml_program(path: Path) -> None:
    """A constant beside the operation that takes it, one in the file of weights, and an operation."""
    from helpers.wire import data, number

    kind = data(1, number(1, 11) + number(2, 1) + data(3, data(1, number(1, 288))))
    held = data(3, data(1, data(1, data(1, np.ones(288, np.float32).tobytes()))))
    blob = data(5, data(1, "@model_path/weights/weight.bin") + number(2, 64))
    constants = b"".join(
        data(3, data(1, "const") + data(3, data(1, name)) + data(5, data(1, "val") + data(2, data(2, kind) + value)))
        for name, value in (("c", held), ("w", blob))
    )
    given = b"".join(data(2, data(1, key) + data(2, data(1, data(1, of)))) for key, of in (("x", "x"), ("y", "c")))
    block = data(2, "z") + constants + data(3, data(1, "add") + given + data(3, data(1, "z")))
    function = data(1, data(1, "x") + data(2, kind)) + data(2, "o") + data(3, data(1, "o") + data(2, block))
    path.write_bytes(_coreml(502, data(2, data(1, "main") + data(2, function))))


def _ncnn(path: Path) -> None:
    path.write_text(
        "7767517\n3 2\nInput in 0 1 a\nInnerProduct r 1 1 a b 0=1 1=0 2=2554 -23301=2,1,2\nSoftmax s 1 1 b c 0=0 1=1\n"
    )


def _msgpack(path: Path) -> None:
    """{"a": an array of two, "b": [1, 2.0, None, b"x"]}, arrays as flax has them: shape, type, bytes."""
    inner = b"\x93\x91\x02\xa7float32\xc4\x08" + np.ones(2, np.float32).tobytes()
    array = b"\xc7" + bytes([len(inner)]) + b"\x01" + inner
    path.write_bytes(b"\x82\xa1a" + array + b"\xa1b\x94\x01\xcb\x40" + bytes(7) + b"\xc0\xc4\x01x")


DENSE = {
    "class_name": "Sequential",
    "config": {
        "name": "s",
        "layers": [
            {"class_name": "InputLayer", "config": {"name": "i", "batch_input_shape": [None, 2]}},
            {"class_name": "Dense", "config": {"name": "d", "units": 109, "use_bias": False}},
        ],
    },
}


def _manifest(name: str) -> list[dict[str, Any]]:
    """All of the second file of weights that lies beside the real one."""
    return [
        {
            "paths": ["group1-shard2of2.bin"],
            "weights": [{"name": name, "shape": [2, 109], "dtype": "float32"}],
        }
    ]


def _tfjs_layers(path: Path) -> None:
    path.write_text(json.dumps({"modelTopology": {"model_config": DENSE}, "weightsManifest": _manifest("d/kernel")}))


def _tfjs_graph(path: Path) -> None:
    nodes = [
        {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}, "shape": {"shape": {}}}},
        {"name": "w", "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}},
        {"name": "y", "op": "MatMul", "input": ["x", "w"], "attr": {"transpose_a": {"b": False}}},
    ]
    weights = [{"paths": [], "weights": [{"name": "w", "shape": [0, 2], "dtype": "float32"}]}]
    path.write_text(json.dumps({"modelTopology": {"node": nodes}, "weightsManifest": weights}))


def _mar(path: Path) -> None:
    """What TorchServe serves: its manifest names the model's file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": {"serializedFile": "in.safetensors"}}))
        archive.writestr("in.safetensors", _inner())
        archive.writestr("handler.py", "pass")


def _kept_by_joblib(path: Path) -> None:
    import joblib

    joblib.dump({"coef": ARRAYS["a.weight"], "name": "x"}, path)


def _kept_by_dill(path: Path) -> None:
    import dill

    path.write_bytes(dill.dumps({"a": ARRAYS["a.weight"], "f": lambda x: x}, recurse=True))


SMALL: dict[str, tuple[Small, ...]] = {
    "safetensors": (_safetensors,),
    "npz": (lambda path: np.savez(path, **ARRAYS), lambda path: np.savez_compressed(path, **ARRAYS)),
    "npy": (lambda path: np.save(path, np.array(ARRAYS, object), allow_pickle=True),),
    "torch-zip": (torch_zip,),
    "torch-legacy": (_legacy,),
    "torch-tar": (_tar_of_torch,),
    "torch-module": (_module,),
    "torch-distributed": (_distributed,),
    "torchscript": (_traced,),
    "torch-export": (_exported,),
    "pickle": (
        _record,
        _kept_by_joblib,
        _kept_by_dill,
        lambda path: path.write_bytes(pickle.dumps({"a": [1, "x", (2.5, None)], "b": {3}}, 0)),
    ),
    "packed": (
        *(_packed, _zip, _mar),
        lambda path: path.write_bytes(lzma.compress(_inner())),
        lambda path: path.write_bytes(bz2.compress(_inner())),
        lambda path: path.write_bytes(zlib.compress(_inner())),
    ),
    "tar": (_tar,),
    "onnx": (onnx,),
    "openvino": (_openvino, _openvino_of_7),
    "tflite": (_tflite,),
    "ort": (_ort,),
    "coreml-program": (coreml_program,),
    "coreml-network": (_coreml_network,),
    "ncnn": (_ncnn,),
    "msgpack": (_msgpack,),
    "tfjs-layers": (_tfjs_layers,),
    "tfjs-graph": (_tfjs_graph,),
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
