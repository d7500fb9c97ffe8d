"""Ways to save a network, and what each of them shows of what it computes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tools.surgery.keras_patient import KERAS
from tools.surgery.patient import Patient
from tools.surgery.record import TORCH

Shows = Literal["tensors", "module", "graph"]


class CannotMake(Exception):
    """The framework cannot save this network so."""


@dataclass(frozen=True)
class Container:
    """A way to save a network.

    Attributes:
        name: of it.
        suffix: of the file.
        save: writes a patient to a file.
        shows: tensors alone, the tree of modules, or all that is computed.
        frameworks: whose networks it can hold.
        faithful: whether the file can be run, and must give the original's logits.
        tolerance: of the largest logit: float32 twice over is below 1e-5, the least surgery (eps 1e-3) above 1e-3.
    """

    name: str
    suffix: str
    save: Callable[[Any, Path], None]
    shows: Shows
    frameworks: tuple[str, ...] = TORCH
    faithful: bool = False
    tolerance: float = 2e-4

    @property
    def holds_state(self) -> bool:
        """Whether it is made of a state dict as people save it."""
        return self.shows == "tensors" and self.name not in ("fx-state", "keras-weights")


# -- state dicts -----------------------------------------------------------------------------------


def state(p: Patient) -> Any:
    """What people save of a network: its state dict, in whatever the surgery puts around it."""
    tree: Any = dict(p.module.state_dict())
    for change in p.trees:
        tree = change(tree)
    return tree


def flat(p: Patient) -> dict[str, torch.Tensor]:
    """A state dict for formats that hold nothing but named tensors.

    Raises:
        CannotMake: it is more than that.
    """
    tree = state(p)
    if not isinstance(tree, dict) or not all(isinstance(value, torch.Tensor) for value in tree.values()):
        raise CannotMake("no flat dict of tensors")
    return {name: value.contiguous().clone() for name, value in tree.items()}


def pth(p: Patient, path: Path) -> None:
    """torch.save."""
    torch.save(state(p), path)


def legacy(p: Patient, path: Path) -> None:
    """torch.save of PyTorch before 1.6."""
    torch.save(state(p), path, _use_new_zipfile_serialization=False)


def checkpoint(p: Patient, path: Path) -> None:
    """A training checkpoint, with its optimizer."""
    parameters = list(p.module.parameters())
    optimizer = torch.optim.SGD(parameters, 0.1, momentum=0.9)
    tree = {"epoch": 7, "model": state(p), "optimizer": optimizer.state_dict(), "best": 0.91}
    torch.save(tree, path)


def safetensors(p: Patient, path: Path) -> None:
    """safetensors, which sorts."""
    from safetensors.torch import save_file

    save_file(flat(p), path)


def npz(p: Patient, path: Path) -> None:
    """np.savez."""
    tensors = flat(p)
    if any(t.dtype == torch.bfloat16 for t in tensors.values()):
        raise CannotMake("NumPy has no bfloat16")
    np.savez(path, **{name: value.numpy() for name, value in tensors.items()})


def numpy_pickle(p: Patient, path: Path) -> None:
    """pickle.dump of a dict of arrays."""
    tensors = {name: value.float().numpy() for name, value in flat(p).items()}
    path.write_bytes(pickle.dumps(tensors))


def pickled(of: Callable[[Patient], Any], with_module: str) -> Callable[[Patient, Path], None]:
    """Written by pickle, or what is like it."""

    def save(p: Patient, path: Path) -> None:
        from importlib import import_module

        try:
            module = import_module(with_module)
        except ImportError as error:
            raise CannotMake(f"{with_module} is not installed") from error
        with path.open("wb") as file:
            module.dump(of(p), file)

    return save


def whole(p: Patient) -> Any:
    """The module."""
    if p.trees:
        raise CannotMake("the surgery is one of state dicts")
    return p.module


def whole_pth(p: Patient, path: Path) -> None:
    """torch.save of the module."""
    torch.save(whole(p), path)


def whole_legacy(p: Patient, path: Path) -> None:
    """The same of PyTorch before 1.6."""
    torch.save(whole(p), path, _use_new_zipfile_serialization=False)


def whole_in_checkpoint(p: Patient, path: Path) -> None:
    """The module in a training checkpoint."""
    torch.save({"model": whole(p), "epoch": 3, "acc": 0.8}, path)


def whole_dill(p: Patient, path: Path) -> None:
    """torch.save with dill."""
    try:
        import dill
    except ImportError as error:
        raise CannotMake("dill is not installed") from error
    torch.save(whole(p), path, pickle_module=dill)


def packed(open_file: Callable[[Path, str], Any]) -> Callable[[Patient, Path], None]:
    """A state dict, compressed."""

    def save(p: Patient, path: Path) -> None:
        inner = path.with_name("inner.pth")
        pth(p, inner)
        with open_file(path, "wb") as file:
            file.write(inner.read_bytes())
        inner.unlink()

    return save


def zipped(p: Patient, path: Path) -> None:
    """A state dict in a zip."""
    inner = path.with_name("inner.pth")
    pth(p, inner)
    with zipfile.ZipFile(path, "w") as file:
        file.write(inner, "model.pth")
        file.writestr("README.txt", "a network")
    inner.unlink()


def tarred(p: Patient, path: Path) -> None:
    """The same in a tar.gz, as SageMaker makes them."""
    inner = path.with_name("inner.pth")
    pth(p, inner)
    with tarfile.open(path, "w:gz") as file:
        file.add(inner, "model.pth")
    inner.unlink()


# -- what says what is computed ----------------------------------------------------------------------


def example(p: Patient) -> torch.Tensor:
    """An image to trace with."""
    dtype = next((t.dtype for t in p.module.parameters() if t.is_floating_point()), torch.float32)
    return p.images(2, 4).to(dtype)


def scripted(p: Patient, path: Path) -> None:
    """torch.jit.script."""
    torch.jit.script(whole(p)).save(str(path))


def traced(p: Patient, path: Path) -> None:
    """torch.jit.trace."""
    torch.jit.trace(whole(p), example(p), check_trace=False).save(str(path))


def frozen(p: Patient, path: Path) -> None:
    """Traced and frozen."""
    torch.jit.freeze(torch.jit.trace(whole(p), example(p), check_trace=False).eval()).save(str(path))


def frozen_script(p: Patient, path: Path) -> None:
    """Scripted and frozen."""
    torch.jit.freeze(torch.jit.script(whole(p)).eval()).save(str(path))


def exported(p: Patient, path: Path) -> None:
    """torch.export."""
    torch.export.save(torch.export.export(whole(p), (example(p),)), path)


def graph_module(p: Patient, path: Path) -> None:
    """A GraphModule, pickled whole."""
    torch.save(torch.fx.symbolic_trace(whole(p)), path)


def graph_state(p: Patient, path: Path) -> None:
    """A GraphModule's state dict."""
    torch.save(torch.fx.symbolic_trace(whole(p)).state_dict(), path)


def onnx(dynamo: bool, **options: Any) -> Callable[[Patient, Path], None]:
    """torch.onnx.export."""

    def save(p: Patient, path: Path) -> None:
        torch.onnx.export(
            whole(p), (example(p),), str(path), dynamo=dynamo, external_data=False, verbose=False, **options
        )

    return save


def onnx_fp16(p: Patient, path: Path) -> None:
    """The same in half precision, as ONNX Runtime's tool makes it."""
    import onnx as library
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx(dynamo=False)(p, path)
    library.save(convert_float_to_float16(library.load(path), keep_io_types=True), path)


def onnx_int8(p: Patient, path: Path) -> None:
    """The same, quantised by ONNX Runtime."""
    from onnxruntime.quantization import quantize_dynamic

    onnx(dynamo=False)(p, path)
    quantize_dynamic(path, path)


def keras_saved(p: Any, path: Path) -> None:
    """model.save."""
    p.model.save(path)


def keras_weights(p: Any, path: Path) -> None:
    """model.save_weights."""
    p.model.save_weights(path)


def keras_export(kind: str) -> Callable[[Any, Path], None]:
    """model.export."""

    def save(p: Any, path: Path) -> None:
        import keras

        if kind == "tf_saved_model" and keras.backend.backend() != "tensorflow":
            raise CannotMake("SavedModels are TensorFlow's")
        p.model.export(path, format=kind, verbose=False)

    return save


CONTAINERS = (
    Container("pth", ".pth", pth, "tensors"),
    Container("pth-legacy", ".pth", legacy, "tensors"),
    Container("checkpoint", ".pth.tar", checkpoint, "tensors"),
    Container("safetensors", ".safetensors", safetensors, "tensors"),
    Container("npz", ".npz", npz, "tensors"),
    Container("numpy-pickle", ".pkl", numpy_pickle, "tensors"),
    Container("pickle", ".pkl", pickled(state, "pickle"), "tensors"),
    Container("joblib", ".joblib", pickled(state, "joblib"), "tensors"),
    Container("gzip", ".pth.gz", packed(gzip.open), "tensors"),
    Container("bz2", ".pth.bz2", packed(bz2.open), "tensors"),
    Container("xz", ".pth.xz", packed(lzma.open), "tensors"),
    Container("zip", ".zip", zipped, "tensors"),
    Container("tar", ".tar.gz", tarred, "tensors"),
    Container("whole", ".pth", whole_pth, "module"),
    Container("whole-legacy", ".pt", whole_legacy, "module"),
    Container("whole-checkpoint", ".pth", whole_in_checkpoint, "module"),
    Container("whole-pickle", ".pkl", pickled(whole, "pickle"), "module"),
    Container("whole-joblib", ".joblib", pickled(whole, "joblib"), "module"),
    Container("whole-dill", ".pth", whole_dill, "module"),
    Container("whole-cloudpickle", ".pkl", pickled(whole, "cloudpickle"), "module"),
    Container("jit-script", ".pt", scripted, "graph"),
    Container("jit-trace", ".pt", traced, "graph"),
    Container("jit-freeze", ".pt", frozen, "graph"),
    Container("jit-script-freeze", ".pt", frozen_script, "graph"),
    Container("export", ".pt2", exported, "graph"),
    Container("fx", ".pth", graph_module, "graph"),
    Container("fx-state", ".pth", graph_state, "tensors"),
    Container("onnx", ".onnx", onnx(dynamo=False), "graph", faithful=True),
    Container("onnx-opset13", ".onnx", onnx(dynamo=False, opset_version=13, do_constant_folding=False), "graph", faithful=True),
    Container("onnx-dynamo", ".onnx", onnx(dynamo=True), "graph", faithful=True),
    Container("onnx-fp16", ".onnx", onnx_fp16, "graph", tolerance=1e-2, faithful=True),
    Container("onnx-int8", ".onnx", onnx_int8, "graph"),
    Container("keras", ".keras", keras_saved, "graph", KERAS),
    Container("keras-h5", ".h5", keras_saved, "graph", KERAS),
    Container("keras-weights", ".weights.h5", keras_weights, "tensors", KERAS),
    Container("keras-savedmodel", "", keras_export("tf_saved_model"), "graph", KERAS),
    Container("keras-onnx", ".onnx", keras_export("onnx"), "graph", KERAS, faithful=True),
)  # fmt: skip
