"""What other runtimes take of ONNX today, as measured or, where they could not be installed, as their makers write."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from converter.core.errors import CannotExpress, ConverterError
from converter.core.interface import Interface
from converter.core.model import Model
from converter.core.nearest import meant
from converter.exporters.graph import GraphOptions
from converter.exporters.outputs import CAM

Why = Callable[[Model, Sequence[str]], str]
"""Why a runtime does not take a network with such outputs; empty where it does."""


@dataclass(frozen=True)
class Runtime:
    """A runtime.

    Attributes:
        title: its name, and the versions this is known of.
        opset: the version of the operators that is written for it; 0 for the usual.
        newest: the newest that it takes; 0 for any.
        fixed: it takes graphs whose lengths are all known.
        precisions: what it computes in.
        instead: why it does not compute in another, and what can be done.
        why_not: what else it does not take.
    """

    title: str
    opset: int = 0
    newest: int = 0
    fixed: bool = False
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    instead: str = ""
    why_not: Why = lambda _model, _outputs: ""


def _opencv(model: Model, outputs: Sequence[str]) -> str:
    if model.config.padding == "same":
        return "5.0 computes auto_pad SAME_UPPER otherwise than ONNX says, by 0.2 % of the largest logit"
    return "" if model.config.spatial_dims == 2 else "it was tested with images alone"


def _onnx2torch(model: Model, outputs: Sequence[str]) -> str:
    if model.config.padding == "same":
        return "it has no auto_pad SAME_UPPER"
    if model.config.global_pool != "avg":
        return "it has no GlobalMaxPool"
    return "its convolutions take constant weights alone, which those of cam are not" if CAM in outputs else ""


def _tensorrt(model: Model, outputs: Sequence[str]) -> str:
    return "it has convolutions of 2 and 3 dimensions alone" if model.config.spatial_dims == 1 else ""


RUNTIMES = {
    # opencv-python-headless 4.14.0.94 and 5.0.0.93, cv2.dnn.readNetFromONNX: 4.14 fails on a batch or size that is
    # not known; both resize without antialiasing whatever Resize says.  In 8 bits 4.14 and ENGINE_CLASSIC of 5.0
    # compute as ONNX Runtime does; the engine that 5.0 chooses was off by 0.02 to 1.7 of the largest logit.
    "opencv": Runtime(
        "OpenCV 4.14 and 5.0",
        17,
        22,
        fixed=True,
        precisions=("fp32", "fp16"),
        instead=": the engine that 5.0 chooses computes 8 bits wrongly; what --opset 17 --batch 1 --size N write "
        "without --for, 4.14 and cv2.dnn.ENGINE_CLASSIC of 5.0 compute right",
        why_not=_opencv,
    ),
    # Not run.  docs.nvidia.com/deeplearning/tensorrt: ONNX Opset Guide (11.x: 9 to 25), Working with Quantized Types
    # (symmetric int8 alone); onnx-tensorrt, docs/operators.md (8.5: up to 17).
    "tensorrt": Runtime("TensorRT 8.5 to 11", 17, 25, precisions=("fp32", "fp16"), why_not=_tensorrt),
    # onnx2torch 1.5.15: AveragePool 19, Transpose 21 and QuantizeLinear are not implemented.
    "onnx2torch": Runtime("onnx2torch 1.5", 17, 18, precisions=("fp32", "fp16"), why_not=_onnx2torch),
    # onnxruntime-web 1.30, WebAssembly in Node.js 20.
    "web": Runtime("ONNX Runtime Web 1.30", why_not=lambda _model, _outputs: ""),
}
"""By what ``--for`` calls them."""


def fitting(
    name: str, model: Model, graph: GraphOptions, interface: Interface, precision: str
) -> tuple[GraphOptions, Interface, str]:
    """Options of a graph, and its interface, as a runtime takes them where nobody says otherwise; and a note on them.

    Raises:
        ConverterError: there is no such runtime, or it does not take what was asked for.
    """
    if name not in RUNTIMES:
        raise ConverterError(f"no runtime is called {name!r}; there are {', '.join(RUNTIMES)}{meant(name, RUNTIMES)}")
    runtime = RUNTIMES[name]
    if precision not in runtime.precisions:
        taken = f"{' and '.join(runtime.precisions)}{runtime.instead}"
        raise CannotExpress(f"{runtime.title} does not take our {precision}; it takes {taken}")
    why = runtime.why_not(model, graph.get("outputs") or ())
    if why:
        raise CannotExpress(f"{runtime.title} does not take this network: {why}")
    opset = graph.get("opset") or runtime.opset or None
    if opset and runtime.newest and opset > runtime.newest:
        raise CannotExpress(f"{runtime.title} takes opset {runtime.newest} at most, not {opset}")
    said = [f"opset {opset}"] if opset else []
    if runtime.fixed:
        steps, usual = model.images.preprocess, (model.config.usual_size,) * model.config.spatial_dims
        size = interface.size or (steps.crop if steps and steps.crop else usual)
        interface = replace(interface, batch=interface.batch or 1, size=size)
        said.append(f"batches of {interface.batch}, images of {'x'.join(map(str, size))}")
    how = ", ".join(said) or "as usual"
    return {**graph, "opset": opset}, interface, f"for {runtime.title}: {how}"
