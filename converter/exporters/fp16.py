"""An ONNX graph that computes in half precision, at half the size.

Weights and everything between are float16; the input and the outputs stay float32, so
that callers need not care.  Where a runtime has no float16 kernels (ONNX Runtime on
x86) it casts around each operator, which is right but not fast.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import CannotExpress
from converter.core.metadata import PRECISION_KEY
from converter.exporters.lazy import LazyModel

LARGEST = float(np.finfo(np.float16).max)
"""65504: beyond it a float16 is infinite."""


def to_half(model: LazyModel) -> LazyModel:
    """A float32 model of :func:`.lazy_onnx` in float16, between a cast of its input and casts of its outputs.

    Raises:
        CannotExpress: on writing, a weight is too large for float16.
    """
    (given,) = model.proto.graph.input
    values = {name: _half(name, tensor) for name, tensor in model.values.items()}
    result = model.derived(values)
    graph = result.proto.graph
    inner = {given.name: f"{given.name}.half"} | {value.name: f"{value.name}.half" for value in graph.output}
    for node in graph.node:
        node.input[:] = [inner.get(name, name) for name in node.input]
        node.output[:] = [inner.get(name, name) for name in node.output]
    nodes = [_cast(given.name, inner[given.name], TensorProto.FLOAT16), *graph.node]
    nodes += [_cast(inner[value.name], value.name, TensorProto.FLOAT) for value in graph.output]
    del graph.node[:]
    graph.node.extend(nodes)
    known = {p.key: p.value for p in model.proto.metadata_props}
    helper.set_model_props(result.proto, {**known, PRECISION_KEY: "fp16"})
    return result


def _half(name: str, tensor: Tensor) -> Tensor:
    """A constant in float16, cast when it is read; one that is no float as it is."""
    if tensor.dtype != np.float32:
        return tensor

    def read() -> Array:
        array = tensor.read()
        if np.abs(array).max(initial=0) > LARGEST:
            raise CannotExpress(f"{name} has values beyond {LARGEST:.0f}, the largest of float16")
        return array.astype(np.float16)

    return Tensor(tensor.shape, np.dtype(np.float16), read)


def _cast(source: str, target: str, dtype: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=dtype)
