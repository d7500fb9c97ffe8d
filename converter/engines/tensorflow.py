"""TensorFlow, on a SavedModel or a frozen graph as it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, Unavailable, first_line
from converter.core.model import Model
from converter.engines.run import Run

ASIDE = ("Const", "NoOp", "Placeholder", "Assert")
"""Operators of a graph that are no results though nothing takes what they give."""


def tensorflow_engine(model: Model, path: Path) -> Run:
    """The file's own graph in TensorFlow.

    Raises:
        Unavailable: it holds variables alone.
        ConverterError: it is no function of one batch of images; when run: TensorFlow failed on this input.
    """
    import tensorflow  # noqa: PLC0415

    folder = next((p for p in (path, path.parent, path.parent.parent) if (p / "saved_model.pb").is_file()), None)
    if folder is not None:
        call, shape = _saved_model(tensorflow, folder)
    elif model.origin.format == "TensorFlow frozen graph":
        call, shape = _frozen(tensorflow, path)
    else:
        raise Unavailable(f"{path.name} holds variables without a graph, which tensorflow alone cannot run")
    channels = model.config.in_channels
    first = len(shape) > 2 and shape[1] == channels and shape[-1] != channels

    def run(x: Array) -> Array:
        images = x if first else np.ascontiguousarray(np.moveaxis(x, 1, -1))
        try:
            return np.asarray(call(tensorflow.constant(images)), np.float32)
        except Exception as error:  # its errors share no class
            raise ConverterError(f"tensorflow failed on input {list(x.shape)} ({first_line(error)})") from error

    return run


def _saved_model(tensorflow: Any, folder: Path) -> tuple[Callable[[Any], Any], list[int | None]]:
    """The signature of a SavedModel, and the shape it takes."""
    loaded = tensorflow.saved_model.load(str(folder))
    signatures = loaded.signatures
    name = "serving_default" if "serving_default" in signatures else next(iter(signatures), None)
    if name is None:
        raise ConverterError(f"{folder}: has no signature that tensorflow could call")
    signature = signatures[name]
    takes = list(signature.structured_input_signature[1].items())
    gives = list(signature.structured_outputs)
    wanted = "logits" if "logits" in gives else gives[0]
    if len(takes) != 1 or (len(gives) != 1 and wanted != "logits"):
        raise ConverterError(f"{folder}: its signature takes {len(takes)} inputs and gives {', '.join(gives)}")
    (argument, spec) = takes[0]

    def call(images: Any, _owner: Any = loaded) -> Any:  # its variables live as long as it does
        return signature(**{argument: images})[wanted]

    return call, list(spec.shape) if spec.shape.rank else []


def _frozen(tensorflow: Any, path: Path) -> tuple[Callable[[Any], Any], list[int | None]]:
    """A frozen graph, from its one placeholder to the one result that nothing takes."""
    v1 = tensorflow.compat.v1
    graph = v1.GraphDef()
    graph.ParseFromString(path.read_bytes())
    taken = {name.lstrip("^").partition(":")[0] for node in graph.node for name in node.input}
    starts = [node.name for node in graph.node if node.op == "Placeholder"]
    ends = [node.name for node in graph.node if node.name not in taken and node.op not in ASIDE]
    if len(starts) != 1 or len(ends) != 1:
        raise ConverterError(
            f"{path}: a graph of {len(starts)} placeholders and {len(ends)} results; one of each is run"
        )
    whole = v1.wrap_function(lambda: tensorflow.import_graph_def(graph, name=""), [])
    call = whole.prune(f"{starts[0]}:0", f"{ends[0]}:0")
    shape = whole.graph.get_tensor_by_name(f"{starts[0]}:0").shape
    return call, list(shape) if shape.rank else []
