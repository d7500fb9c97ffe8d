"""Things that compute logits: PyTorch and ONNX Runtime, behind one call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import ConverterError, Unavailable, UnreadableFile
from converter.model import Model

if TYPE_CHECKING:
    import onnxruntime
    import torch

    from densenet.model import DenseNet

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]
"""float32 images (N, C, *space) to logits (N, num_classes)."""


def has_torch() -> bool:
    """Whether PyTorch is installed (without importing it)."""
    return find_spec("torch") is not None


def torch_module(model: Model) -> DenseNet:
    """The model as our PyTorch module, in float32 and evaluation mode.

    Raises:
        Unavailable: PyTorch is not installed.
    """
    if not has_torch():
        raise Unavailable("PyTorch is not installed; pip install 'densenet-converter[torch]'")
    import torch  # noqa: PLC0415

    from densenet.model import DenseNet  # noqa: PLC0415

    module = DenseNet(model.config)
    state = {}
    for name, tensor in model.tensors.items():
        array = tensor.read()
        kept = array.astype(np.int64) if name.endswith("num_batches_tracked") else array.astype(np.float32)
        state[name] = torch.from_numpy(np.array(kept))
    missing, unexpected = module.load_state_dict(state, strict=False)
    wrong = [*unexpected, *(name for name in missing if not name.endswith("num_batches_tracked"))]
    assert not wrong, wrong  # recognition has accounted for every tensor
    return module.eval()


def torch_engine(module: torch.nn.Module, *, double: bool = False) -> Run:
    """PyTorch on the CPU, in float32, or in float64 as the oracle."""
    import torch  # noqa: PLC0415

    dtype = torch.float64 if double else torch.float32
    module = module.to(dtype)

    def run(x: Array) -> Array:
        with torch.inference_mode():
            logits: Array = module(torch.from_numpy(x).to(dtype)).numpy()
        return logits

    return run


def session(source: str | Path | bytes, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU for a file or a serialised model.

    Raises:
        UnreadableFile: ONNX Runtime does not take it.
    """
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(
            source if isinstance(source, bytes) else str(source), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors share no class
        name = "the model" if isinstance(source, bytes) else source
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise UnreadableFile(f"{name}: ONNX Runtime cannot load it ({first})") from error


def onnx_engine(source: str | Path | bytes, *, threads: int = 0) -> Run:
    """ONNX Runtime as an engine.

    Raises:
        UnreadableFile: ONNX Runtime does not take the file.
        ConverterError: the file takes something else than one batch of float images.
    """
    loaded = session(source, threads=threads)
    inputs, output = loaded.get_inputs(), loaded.get_outputs()[0].name
    if len(inputs) != 1 or inputs[0].type not in ("tensor(float)", "tensor(float16)"):
        raise ConverterError(f"{_short(source)}: needs one input of float images, has {[i.type for i in inputs]}")
    half = inputs[0].type == "tensor(float16)"

    def run(x: Array) -> Array:
        try:
            logits: Array = loaded.run([output], {inputs[0].name: x.astype(np.float16) if half else x})[0]
        except Exception as error:
            first = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise ConverterError(f"{_short(source)}: ONNX Runtime failed on input {list(x.shape)} ({first})") from error
        return logits

    return run


def onnx_metadata(source: str | Path | bytes) -> Mapping[str, Any]:
    """The metadata of an ONNX file as this tool writes it, JSON values decoded."""
    found = session(source).get_modelmeta().custom_metadata_map
    result: dict[str, Any] = {}
    for key, text in found.items():
        try:
            result[key] = json.loads(text)
        except ValueError:
            result[key] = text
    return result


def _short(source: str | Path | bytes) -> str:
    return "the model" if isinstance(source, bytes) else str(source)
