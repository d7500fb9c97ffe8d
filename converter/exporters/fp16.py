"""An ONNX graph that computes in half precision, at half the size.

Weights and everything between are float16; the input and the outputs stay float32, so
that callers need not care.  Where a runtime has no float16 kernels (ONNX Runtime on
x86) it casts around each operator, which is right but not fast.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from converter.core.errors import CannotExpress
from converter.core.metadata import PRECISION_KEY

LARGEST = float(np.finfo(np.float16).max)
"""65504: beyond it a float16 is infinite."""


def to_half(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 graph of :func:`.to_onnx` in float16, between a cast of its input and casts of its outputs.

    Raises:
        CannotExpress: a weight is too large for float16, or the input is not float32.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    (given,) = graph.input
    if given.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise CannotExpress("half precision is for graphs that take normalised images, not bytes")
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor)
            if np.abs(array).max(initial=0) > LARGEST:
                raise CannotExpress(f"{tensor.name} has values beyond {LARGEST:.0f}, the largest of float16")
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    inner = {given.name: f"{given.name}.half"} | {value.name: f"{value.name}.half" for value in graph.output}
    for node in graph.node:
        node.input[:] = [inner.get(name, name) for name in node.input]
        node.output[:] = [inner.get(name, name) for name in node.output]
    nodes = [_cast(given.name, inner[given.name], TensorProto.FLOAT16), *graph.node]
    nodes += [_cast(inner[value.name], value.name, TensorProto.FLOAT) for value in graph.output]
    del graph.node[:]
    graph.node.extend(nodes)
    helper.set_model_props(result, {**{p.key: p.value for p in proto.metadata_props}, PRECISION_KEY: "fp16"})
    return result


def _cast(source: str, target: str, dtype: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=dtype)
