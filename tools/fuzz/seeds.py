"""Seeds: the smallest files of every kind that are read whole."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from densenet.config import DenseNetConfig
from tools.fuzz import small
from tools.fuzz.targets import READERS

CONFIG = DenseNetConfig(growth_rate=2, block_config=(1, 1), init_features=4, bn_size=1, num_classes=2)
DATA = Path(__file__).parents[2] / "tests" / "data"
LARGEST = 32_000
"""Bytes of a seed: larger ones are mutated too seldom where it matters."""
OF_DATA = {
    "safetensors": ("mlx/model.safetensors",),
    "hdf5": ("keras3-weights/model.weights.h5", "keras3-h5/model.h5"),
    "keras-zip": ("keras3-zip/model.keras", "kerashub/model.keras"),
    "tf-bundle": ("tf-slim-v2ckpt/tf-densenet.ckpt.index",),
    "tf-graph": ("tf1-frozen/frozen.pb", "keras2-frozen/frozen.pb"),
    "onnx": ("onnx-zoo-small-external/densenet-s.onnx",),
    "tflite": ("tflite-f16/model.tflite", "tflite-softmax/model.tflite"),
    "ort": ("ort-fixed/model.ort",),
    "paddle-program": ("paddle-jit2/inference.pdmodel",),
    "paddle-json": ("paddle-jit3/inference.json",),
    "mxnet-symbol": ("mxnet-symbol-miraclewkf/densenet-s-symbol.json",),
}

Maker = Callable[[Path], "list[Path] | None"]
"""Makes files in an empty folder: the seeds among them, or None where the reader's file is the one."""


def write(folder: Path) -> dict[str, int]:
    """Seeds of every reader: FOLDER/READER/seeds, and beside them in ``with`` what belongs to them; how many."""
    counts = {}
    for name, reader in READERS.items():
        home = folder / name
        shutil.rmtree(home / "seeds", ignore_errors=True)
        shutil.rmtree(home / "with", ignore_errors=True)
        (home / "seeds").mkdir(parents=True)
        scratch = home / "with"
        scratch.mkdir()
        found: list[Path] = []
        try:
            found = MAKERS[name](scratch) or []
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error)[:200]}")
        for i, path in enumerate([*found, scratch / reader.file]):
            if path.exists():
                path.rename(home / "seeds" / f"made-{i}")
        for i, make in enumerate(small.SMALL.get(name, ())):
            place = home / "small" / reader.file
            place.parent.mkdir(parents=True)
            try:
                make(place)
                place.rename(home / "seeds" / f"small-{i}")
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {str(error)[:200]}")
            shutil.rmtree(home / "small")
        for i, path in enumerate(DATA / each for each in OF_DATA.get(name, ())):
            shutil.copy(path, home / "seeds" / f"data-{i}")
        for path in (home / "seeds").iterdir():
            if path.stat().st_size > LARGEST and len(list((home / "seeds").iterdir())) > 1:
                path.unlink()
        counts[name] = len(list((home / "seeds").iterdir()))
    return counts


def _state() -> dict[str, np.ndarray]:
    from helpers.paddle import named

    from converter.layouts.torchvision import TORCHVISION

    return named(TORCHVISION, CONFIG)[1]


def _tensors() -> dict:
    import torch

    return {name: torch.from_numpy(array) for name, array in _state().items()}


def _safetensors(folder: Path) -> None:
    from helpers.networks import save

    save(CONFIG, folder / "m.safetensors")


def _index(folder: Path) -> None:
    from safetensors.numpy import save_file

    state = _state()
    half = len(state) // 2
    parts = [dict(list(state.items())[:half]), dict(list(state.items())[half:])]
    places = {}
    for i, part in enumerate(parts):
        save_file(part, folder / f"p{i}.safetensors")
        places |= dict.fromkeys(part, f"p{i}.safetensors")
    (folder / "m.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def _npz(folder: Path) -> list[Path]:
    np.savez(folder / "m.npz", **_state())
    np.savez_compressed(folder / "c.npz", **_state())
    return [folder / "c.npz"]


def _npy(folder: Path) -> None:
    np.save(folder / "m.npy", np.array(_state(), object), allow_pickle=True)


def _torch_zip(folder: Path) -> list[Path]:
    import torch

    torch.save(_tensors(), folder / "m.pth")
    training = {"state_dict": _tensors(), "epoch": 3, "optimizer": {"state": {0: {"step": 1}}, "param_groups": []}}
    torch.save(training, folder / "t.pth")
    return [folder / "t.pth"]


def _torch_legacy(folder: Path) -> None:
    import torch

    torch.save({"state_dict": _tensors()}, folder / "m.pth", _use_new_zipfile_serialization=False)


def _torch_tar(folder: Path) -> None:
    from formats.test_torch import write_tar

    write_tar(folder / "m.pth", _tensors())


def _network() -> object:
    import torch
    from helpers.surgery import network

    torch.manual_seed(0)
    return network(block_config=(1, 1), growth_rate=2, num_init_features=4)


def _module(folder: Path) -> list[Path]:
    import torch

    network = _network()
    torch.save(network, folder / "m.pt")
    torch.save(torch.fx.symbolic_trace(network), folder / "g.pt")
    return [folder / "g.pt"]


def _distributed(folder: Path) -> None:
    from torch.distributed import checkpoint

    checkpoint.save({"model": _tensors(), "epoch": 7}, checkpoint_id=folder, no_dist=True)


def _shard(folder: Path) -> None:
    from torch.distributed import checkpoint

    checkpoint.save({"model": {"a": _tensors()["classifier.bias"]}}, checkpoint_id=folder, no_dist=True)


def _torchscript(folder: Path) -> list[Path]:
    import torch

    network, x = _network(), torch.zeros(1, 3, 32, 32)
    torch.jit.script(network).save(folder / "m.pt")
    torch.jit.trace(network, x, check_trace=False).save(folder / "t.pt")
    torch.jit.freeze(torch.jit.script(network)).save(folder / "f.pt")
    return [folder / "t.pt", folder / "f.pt"]


def _export(folder: Path) -> None:
    import torch

    torch.export.save(torch.export.export(_network(), (torch.zeros(2, 3, 32, 32),)), folder / "m.pt2")


def _pickle(folder: Path) -> list[Path]:
    (folder / "m.pkl").write_bytes(pickle.dumps(_state(), 4))
    (folder / "2.pkl").write_bytes(pickle.dumps({"model": _state(), "list": [1, 2.5, None, {3}]}, 2))
    (folder / "t.pkl").write_bytes(pickle.dumps(_tensors(), 4))
    (folder / "0.pkl").write_bytes(pickle.dumps({"a": np.zeros(3, np.float32), "b": [1, "x", (2,)]}, 0))
    return [folder / "2.pkl", folder / "t.pkl", folder / "0.pkl"]


def _packed(folder: Path) -> list[Path]:
    from helpers.networks import save

    data = save(CONFIG, folder / "in.safetensors").read_bytes()
    (folder / "m.gz").write_bytes(gzip.compress(data))
    with zipfile.ZipFile(folder / "z.gz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in.safetensors", data)
    (folder / "in.safetensors").unlink()
    return [folder / "z.gz"]


def _tar(folder: Path) -> None:
    from helpers.networks import save

    data = save(CONFIG, folder / "in.safetensors").read_bytes()
    with tarfile.open(folder / "m.tar", "w") as tar:
        info = tarfile.TarInfo("folder/" * 20 + "in.safetensors")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    (folder / "in.safetensors").unlink()


def _onnx(folder: Path) -> list[Path]:
    import onnx
    from helpers.networks import export_model, random_model

    proto = export_model(random_model(CONFIG), folder / "m.onnx")
    for tensor in proto.graph.initializer[:3]:  # as numbers, not as bytes
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, 1, values.shape, values.reshape(-1)))
    (folder / "u.onnx").write_bytes(proto.SerializeToString())
    return [folder / "u.onnx"]


def _openvino(folder: Path) -> None:
    from helpers.openvino import Version7

    Version7(CONFIG, folder, 32).write(folder / "m.xml")


def _hdf5(folder: Path) -> list[Path]:
    import h5py
    from helpers.networks import save

    save(CONFIG, folder / "m.h5", "keras")
    with h5py.File(folder / "n.h5", "w", libver="latest") as file:
        for i in range(20):
            file.attrs[f"a{i}"] = "text" * i
        file.create_dataset("a/b", data=np.zeros((20, 20), np.float32), chunks=(5, 5), compression="gzip", shuffle=True)
    return [folder / "n.h5"]


def _keras_index(folder: Path) -> None:
    (folder / "m_00000.weights.h5").write_bytes((DATA / "keras3-weights" / "model.weights.h5").read_bytes())
    index = {"metadata": {"total_size": 9}, "weight_map": {"/conv/vars": "m_00000.weights.h5"}}
    (folder / "m.weights.json").write_text(json.dumps(index))


def _bundle(folder: Path) -> list[Path]:
    from helpers.tensorflow import keras_objects, slim, write_v2

    write_v2(folder / "m", slim(CONFIG)[1])
    _, (arrays, graph) = keras_objects(CONFIG)
    write_v2(folder / "o", arrays, graph=graph, snappy=True)
    return [folder / "o.index"]


def _data(folder: Path) -> None:
    from helpers.tensorflow import keras_objects, write_v2

    _, (arrays, graph) = keras_objects(CONFIG)
    write_v2(folder / "m", arrays, graph=graph)


def _table_v1(folder: Path) -> list[Path]:
    from helpers.tensorflow import slim, write_v1

    write_v1(folder / "m.ckpt", slim(CONFIG)[1])
    write_v1(folder / "s.ckpt", slim(CONFIG)[1], snappy=True)
    return [folder / "s.ckpt"]


def _graph(folder: Path) -> None:
    from helpers.tensorflow import slim, write_graph

    write_graph(folder / "m.pb", slim(CONFIG)[1], 1e-3)


def _labels_text(folder: Path) -> None:
    (folder / "labels.txt").write_text("cat\ndog, brown\n3 bird\n")


def _mlflow(folder: Path) -> None:
    (folder / "data").mkdir()
    small.torch_zip(folder / "data" / "model.pth")
    (folder / "MLmodel").write_text(
        "artifact_path: model\nflavors:\n  pytorch:\n    model_data: data\n    pytorch_version: 2.1\n"
        "  onnx:\n    data: model.onnx\nrun_id: 1\n"
    )


def _mmdeploy(folder: Path) -> None:
    small.onnx(folder / "end2end.onnx")
    models = [{"name": "densenet", "net": "end2end.onnx", "weights": "", "backend": "onnxruntime"}]
    (folder / "deploy.json").write_text(json.dumps({"version": "1.3.1", "task": "Classifier", "models": models}))


def _provenance(folder: Path) -> None:
    files = {"model.safetensors": {"sha256": "0" * 64, "size": 3}, "onnx/model.onnx": {"sha256": "1" * 64, "size": 4}}
    from converter.publish.provenance import KIND

    (folder / "provenance.json").write_text(json.dumps({"kind": KIND, "files": files}))


def _coreml_weights(folder: Path) -> None:
    small.coreml_program(folder / "model.mlmodel")
    record = np.array([0xDEADBEEF, 11, 1152, 0, 128, 0], np.uint32).tobytes()
    (folder / "weights").mkdir()
    (folder / "weights" / "weight.bin").write_bytes(bytes(64) + record.ljust(64, b"\0") + bytes(1152))


def _coreml_manifest(folder: Path) -> None:
    (folder / "Data" / "com.apple.CoreML").mkdir(parents=True)
    _coreml_weights(folder / "Data" / "com.apple.CoreML")
    shutil.copy(DATA / "coreml-program" / "DenseNet.mlpackage" / "Manifest.json", folder)


def _case(name: str) -> Maker:
    """A real file with what belongs beside it."""

    def make(folder: Path) -> None:
        shutil.copytree(DATA / name, folder, dirs_exist_ok=True)

    return make


def _saved_model(folder: Path) -> list[Path]:
    shutil.copytree(DATA / "keras3-savedmodel" / "saved_model", folder, dirs_exist_ok=True)
    return []


def _program(folder: Path) -> None:
    from helpers.paddle import numbered, write_program

    write_program(folder, numbered(CONFIG)[1])


def _paddle_params(folder: Path) -> None:
    names = {name: f"{name}_0" for name in _state()}
    content = {**_state(), "StructuredToParameterName@@": names}
    (folder / "m.pdparams").write_bytes(pickle.dumps(content, 2))


def _paddle_json(folder: Path) -> None:
    from helpers.paddle import numbered, pir, record

    arrays = numbered(CONFIG)[1]
    (folder / "inference.json").write_text(pir(arrays))
    (folder / "inference.pdiparams").write_bytes(b"".join(record(arrays[name]) for name in sorted(arrays)))


def _caffe(folder: Path) -> list[Path]:
    from helpers.caffe import described, netspec, shicai
    from helpers.networks import random_tensors

    (folder / "m.caffemodel").write_bytes(shicai(CONFIG, random_tensors(CONFIG)))
    (folder / "n.caffemodel").write_bytes(netspec(CONFIG, random_tensors(CONFIG), form="legacy"))
    (folder / "m.prototxt").write_text(described(CONFIG))
    return [folder / "n.caffemodel"]


def _prototxt(folder: Path) -> None:
    _caffe(folder)
    (folder / "n.caffemodel").unlink()


def _mxnet(folder: Path) -> None:
    from helpers.mxnet import params, symbol, symbol_name, symbol_params, text
    from helpers.networks import random_tensors

    arrays = symbol_params(CONFIG, random_tensors(CONFIG))
    flat = {name: array[:, :, 0, 0] if array.shape == (2, 5, 1, 1) else array for name, array in arrays.items()}
    (folder / "m-0000.params").write_bytes(params(flat))
    made = symbol(
        CONFIG, lambda name: symbol_name(name, CONFIG, of_201=False).removeprefix("arg:").removeprefix("aux:")
    )
    (folder / "m-symbol.json").write_text(text(made))


def _mindspore(folder: Path) -> None:
    from formats.test_mindspore import ckpt
    from helpers.networks import random_tensors

    (folder / "m.ckpt").write_bytes(ckpt(random_tensors(CONFIG)))


def _t7(folder: Path) -> list[Path]:
    from helpers import t7

    small = DenseNetConfig(growth_rate=2, block_config=(1, 1), init_features=4, stem="cifar", num_classes=2)
    network = t7.Official(small, t7.weights(small)).network()
    t7.saved(folder / "m.t7", network)
    t7.saved(folder / "x.t7", network, text=True)
    t7.saved(folder / "i.t7", network, long=4)
    return [folder / "x.t7", folder / "i.t7"]


def _config(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(_state(), folder / "model.safetensors")
    shutil.copy(DATA / "timm-hf-small" / "config.json", folder / "config.json")


def _layout(folder: Path) -> None:
    from converter.layouts import layout_named
    from converter.layouts.custom import save_layout

    save_layout(folder / "mine.toml", layout_named("keras"))


def _labels(folder: Path) -> list[Path]:
    (folder / "labels.json").write_text(json.dumps({"id2label": {"0": "cat", "1": "dog"}}))
    (folder / "b.json").write_text(json.dumps(["cat", "dog"]))
    (folder / "c.json").write_text(json.dumps({"0": ["n01", "cat"], "1": ["n02", "dog"]}))
    return [folder / "b.json", folder / "c.json"]


def _preprocess(folder: Path) -> None:
    from densenet.preprocess import TORCHVISION

    (folder / "steps.json").write_text(json.dumps(TORCHVISION.to_dict()))


def _table(folder: Path) -> None:
    with (folder / "truths.csv").open("w") as file:
        csv.writer(file).writerows([["path", "label"], ["a.png", "cat"], ["b c.png", "dog, brown"]])


def _list(folder: Path) -> None:
    (folder / "truths.txt").write_text("a.png 3\nb c.png 1\n# none\nd.jpg 0\n")


def _record(folder: Path) -> None:
    from converter.demo.demo import RECORD

    shutil.copy(RECORD, folder / "record.npz")


def _array(folder: Path) -> None:
    np.save(folder / "images.npy", np.zeros((2, 3, 8, 8), np.float32))


def _pictures() -> list[bytes]:
    """Three images, small."""
    from PIL import Image

    found = []
    for i, kind in enumerate(("PNG", "JPEG", "PNG")):
        Image.new("RGB", (4, 3), (i, 90, 200)).save(file := io.BytesIO(), kind)
        found.append(file.getvalue())
    return found


def _images_tar(folder: Path) -> list[Path]:
    files = [(f"a/{i}.{'jpg' if i == 1 else 'png'}", data) for i, data in enumerate(_pictures())]
    named = [("a/0.cls", b"3"), ("a/1.json", json.dumps({"label": "cat"}).encode()), ("a/2.cls", b"dog")]
    for name, kind in (("val.tar", tarfile.USTAR_FORMAT), ("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)):
        with tarfile.open(folder / name, "w", format=kind) as tar:
            for key, data in sorted([*files, *named, ("b" * 120 + "é.png", files[0][1])]):
                if kind != tarfile.USTAR_FORMAT or len(key) < 100:
                    member = tarfile.TarInfo(key)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return [folder / "pax", folder / "gnu"]


def _images_parquet(folder: Path) -> list[Path]:
    import pyarrow
    from pyarrow import parquet

    files = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(_pictures())]
    label = {"_type": "ClassLabel", "names": ["cat", "dog"]}
    said = json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": label}}})
    plain = pyarrow.table({"image": files, "label": [0, 1, -1]})
    table = plain.replace_schema_metadata({"huggingface": said})
    parquet.write_table(table, folder / "val.parquet", row_group_size=2)
    parquet.write_table(table, folder / "two", compression="zstd", data_page_version="2.0")
    bare = pyarrow.table({"png": [file["bytes"] for file in files], "classes": [["a"], [], ["b", "c"]]})
    parquet.write_table(bare, folder / "bare", compression="none", use_dictionary=False, write_statistics=False)
    return [folder / "two", folder / "bare"]


def _rows(folder: Path) -> None:
    from converter.use.journal import packed
    from converter.use.rows import Rows

    scores = np.linspace(0, 1, 4, dtype=np.float32).reshape(2, 2)
    rows = Rows(3, 6, ("a.png", "b.png", "c.png"), (0, 2), (scores,), {1: "b.png: no image"}, {"resized": 2})
    (folder / "table.csv.1-of-2").write_bytes(packed(rows, "12 1"))


def _image(folder: Path) -> list[Path]:
    from PIL import Image

    colours = np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)
    image, found = Image.fromarray(colours), []
    image.save(folder / "image.png")
    for i, (kind, of) in enumerate(
        [("JPEG", image), ("TIFF", image), ("GIF", image), ("WEBP", image), ("BMP", image), ("JPEG2000", image)]
    ):
        with suppress(OSError, KeyError):
            of.save(folder / f"i{i}", kind)
            found.append(folder / f"i{i}")
    for i, deep in enumerate((np.arange(480, dtype=np.uint16), np.arange(480, dtype=np.int32))):
        Image.fromarray(deep.reshape(24, 20)).save(folder / f"d{i}", "PNG" if not i else "TIFF")
        found.append(folder / f"d{i}")
    return found


def _dicom(folder: Path) -> None:
    from helpers.dicoms import dicom

    dicom(folder / "image.dcm", np.arange(480, dtype=np.uint16).reshape(24, 20), 12)


def _nifti(folder: Path) -> None:
    import nibabel

    nibabel.save(
        nibabel.Nifti1Image(np.arange(512, dtype=np.float32).reshape(8, 8, 8), np.eye(4)), folder / "image.nii"
    )


MAKERS: dict[str, Maker] = {
    "safetensors": _safetensors,
    "safetensors-index": _index,
    "npz": _npz,
    "npy": _npy,
    "torch-zip": _torch_zip,
    "torch-legacy": _torch_legacy,
    "torch-tar": _torch_tar,
    "torch-module": _module,
    "torch-distributed": _distributed,
    "torch-shard": _shard,
    "torchscript": _torchscript,
    "torch-export": _export,
    "pickle": _pickle,
    "packed": _packed,
    "tar": _tar,
    "onnx": _onnx,
    "openvino": _openvino,
    "tflite": lambda _: [],
    "ort": lambda _: [],
    "hdf5": _hdf5,
    "keras-zip": lambda _: [],
    "keras-index": _keras_index,
    "tf-bundle": _bundle,
    "tf-data": _data,
    "tf-table": _table_v1,
    "tf-graph": _graph,
    "tfjs-layers": _case("tfjs-layers"),
    "tfjs-graph": _case("tfjs-graph"),
    "tf-saved-model": _saved_model,
    "paddle-program": _program,
    "paddle-records": _program,
    "paddle-params": _paddle_params,
    "paddle-json": _paddle_json,
    "caffe": _caffe,
    "prototxt": _prototxt,
    "mxnet": _mxnet,
    "mxnet-symbol": _mxnet,
    "coreml-program": _case("coreml-program/DenseNet.mlpackage/Data/com.apple.CoreML"),
    "coreml-network": _case("coreml-network"),
    "coreml-weights": _coreml_weights,
    "coreml-manifest": _coreml_manifest,
    "ncnn": _case("ncnn"),
    "ncnn-bin": _case("ncnn"),
    "msgpack": _case("flax-msgpack"),
    "keras-preset": _case("kerashub-preset/preset"),
    "mindspore": _mindspore,
    "t7": _t7,
    "config-beside": _config,
    "layout": _layout,
    "mlflow": _mlflow,
    "mmdeploy": _mmdeploy,
    "labels": _labels,
    "labels-text": _labels_text,
    "preprocess": _preprocess,
    "table": _table,
    "list": _list,
    "provenance": _provenance,
    "record": _record,
    "array": _array,
    "images-tar": _images_tar,
    "images-parquet": _images_parquet,
    "rows": _rows,
    "image": _image,
    "dicom": _dicom,
    "nifti": _nifti,
}
