"""Things that compute logits: PyTorch, ONNX Runtime and OpenVINO, behind one call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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

TorchForm = Literal["eager", "compiled", "channels_last"]
LEVELS: Mapping[str, str] = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
"""ONNX Runtime's graph optimisation levels."""
INPUT_TYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


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


def torch_engine(module: torch.nn.Module, *, double: bool = False, form: TorchForm = "eager") -> Run:
    """PyTorch on the CPU, in float32, or in float64 as the oracle.

    Args:
        module: moved to that precision and, for ``channels_last``, to that memory format.
        double: compute in float64.
        form: ``eager``, ``compiled`` (torch.compile) or ``channels_last``.
    """
    import torch  # noqa: PLC0415

    dtype = torch.float64 if double else torch.float32
    module = module.to(dtype)
    last = form == "channels_last"
    if last:
        module = module.to(memory_format=torch.channels_last)
    call = torch.compile(module, dynamic=True) if form == "compiled" else module

    def run(x: Array) -> Array:
        with torch.inference_mode():
            tensor = torch.from_numpy(x).to(dtype)
            logits: Array = call(tensor.contiguous(memory_format=torch.channels_last) if last else tensor).numpy()
        return logits

    return run


def session(source: str | Path | bytes, *, threads: int = 0, level: str = "all") -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU for a file or a serialised model.

    Args:
        source: the file, or its bytes.
        threads: at work in one operator; 0 for as many as there are cores.
        level: graph optimisation: one of ``LEVELS``.

    Raises:
        UnreadableFile: ONNX Runtime does not take it.
    """
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised too
    options.intra_op_num_threads = threads
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    try:
        return onnxruntime.InferenceSession(
            source if isinstance(source, bytes) else str(source), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors share no class
        raise UnreadableFile(f"{_short(source)}: ONNX Runtime cannot load it ({_first_line(error)})") from error


def main_output(names: Sequence[str]) -> str:
    """The output that is compared first: ``logits``, or what there is."""
    return "logits" if "logits" in names else names[0]


def onnx_engine(source: str | Path | bytes, *, threads: int = 0, level: str = "all", output: str = "") -> Run:
    """ONNX Runtime as an engine; arguments as for :func:`session`, and which output, default the logits.

    A file whose batch is fixed is run in as many pieces as needed.

    Raises:
        UnreadableFile: ONNX Runtime does not take the file.
        ConverterError: the file takes something else than one batch of images; when run:
            ONNX Runtime failed on this input.
    """
    loaded = session(source, threads=threads, level=level)
    inputs, outputs = loaded.get_inputs(), [output.name for output in loaded.get_outputs()]
    if len(inputs) != 1 or inputs[0].type not in INPUT_TYPES:
        raise ConverterError(f"{_short(source)}: needs one input of images, has {[i.type for i in inputs]}")
    dtype, name, batch = INPUT_TYPES[inputs[0].type], inputs[0].name, inputs[0].shape[0]
    wanted = output or main_output(outputs)

    def once(x: Array) -> Array:
        try:
            logits: Array = loaded.run([wanted], {name: x.astype(dtype, copy=False)})[0]
        except Exception as error:
            raise ConverterError(
                f"{_short(source)}: ONNX Runtime failed on input {list(x.shape)} ({_first_line(error)})"
            ) from error
        return logits

    return in_pieces(once, batch) if isinstance(batch, int) else once


def in_pieces(run: Run, size: int) -> Run:
    """An engine that takes exactly ``size`` images at once, for any number of them."""

    def pieces(x: Array) -> Array:
        padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % size, 0)])
        return np.concatenate([run(padded[i : i + size]) for i in range(0, len(padded), size)])[: len(x)]

    return pieces


def openvino_engine(source: str | Path | bytes, *, threads: int = 0, output: str = "") -> Run:
    """OpenVINO on the CPU, computing in float32.

    Raises:
        Unavailable: OpenVINO is not installed.
        UnreadableFile: it does not take the file.
    """
    if find_spec("openvino") is None:
        raise Unavailable("OpenVINO is not installed; pip install 'densenet-converter[openvino]'")
    import openvino  # noqa: PLC0415

    # Left to itself it computes in bfloat16 where the processor can.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        core = openvino.Core()
        model = core.read_model(source if isinstance(source, bytes) else str(source))
        compiled = core.compile_model(model, "CPU", settings)
    except Exception as error:
        raise UnreadableFile(f"{_short(source)}: OpenVINO cannot load it ({_first_line(error)})") from error
    names = [name for output in compiled.outputs for name in output.get_names()]
    port = compiled.output(output or main_output(names)) if names else compiled.output(0)
    shape = compiled.input(0).get_partial_shape()

    def once(x: Array) -> Array:
        try:
            result: Array = compiled([np.ascontiguousarray(x)])[port]
        except Exception as error:
            raise ConverterError(
                f"{_short(source)}: OpenVINO failed on input {list(x.shape)} ({_first_line(error)})"
            ) from error
        return np.array(result)

    return in_pieces(once, shape[0].get_length()) if shape[0].is_static else once


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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _short(source: str | Path | bytes) -> str:
    return "the model" if isinstance(source, bytes) else str(source)
