"""What a graph computes on its way to the logits, as further outputs."""

import onnx
from onnx import numpy_helper

from converter.core.checkpoint import Array
from converter.core.errors import CannotExpress
from densenet.topology import FEATURES, LOGITS

MAPS = ("relu", "act", "norm")
"""The last feature maps in graphs of this tool: behind the last ReLU, or the norm of a network without."""


def maps_of(proto: onnx.ModelProto) -> str:
    """The name of the last feature maps.

    Raises:
        CannotExpress: there is no value of that name.
    """
    made = {name for node in proto.graph.node for name in node.output}
    found = next((name for name in MAPS if name in made), None)
    if found is None:
        raise CannotExpress("the graph has no value that is called like its last feature maps")
    return found


def tapped(proto: onnx.ModelProto, *names: str) -> bytes:
    """The graph, serialised, with values of it as outputs, whatever it gave before.

    Raises:
        CannotExpress: there is no such value.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    made = {name for node in result.graph.node for name in node.output}
    given = {value.name for value in result.graph.output}
    for name in names:
        if name not in made:
            raise CannotExpress(f"the graph has no value called {name}")
        if name not in given:
            result.graph.output.append(onnx.ValueInfoProto(name=name))
    data: bytes = result.SerializeToString()
    return data


def classifier_weight(proto: onnx.ModelProto, head: str = "") -> Array:
    """The weight (classes, features) of the linear layer that makes the logits from the pooled features, float32.

    Of several heads those of one.

    Raises:
        CannotExpress: there is no such layer, or its weight is in 8 bits.
    """
    array: Array = numpy_helper.to_array(_weight(proto, head)).astype("float32")
    return array


def _weight(proto: onnx.ModelProto, head: str = "") -> onnx.TensorProto:
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        linear = node.op_type == "Gemm" and node.output[0].removesuffix(".half") == (head or LOGITS)
        if linear and node.input[0].removesuffix(".half") == FEATURES and node.input[1] in constants:
            return constants[node.input[1]]
    raise CannotExpress("class activation maps need the classifier's weights, which are not in the graph as floats")


def class_maps(proto: onnx.ModelProto) -> bytes:
    """What, written behind a float32 graph's file, makes it give the maps of all classes of one image, too.

    Messages of one field each are merged (Protocol Buffers, Encoding: Last One Wins), so nodes and outputs of a second
    ``graph`` are added to those of the first.  The outputs are ``cam`` (classes, h * w), the classifier's weights times
    the last feature maps, and ``cam.shape``, which is 1, channels, h and w.

    Raises:
        CannotExpress: as :func:`maps_of` and :func:`classifier_weight`.
    """
    maps, weight = maps_of(proto), _weight(proto)
    if weight.data_type != onnx.TensorProto.FLOAT:
        raise CannotExpress("class activation maps need the classifier's weights in float32")
    more = onnx.ModelProto()
    more.graph.node.extend(
        [
            onnx.helper.make_node("Shape", [maps], ["cam.shape"], name="cam.shape"),
            onnx.helper.make_node("Flatten", [maps], ["cam.places"], name="cam.places", axis=2),
            onnx.helper.make_node("MatMul", [weight.name, "cam.places"], ["cam"], name="cam"),
        ]
    )
    more.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("cam", "cam.shape"))
    data: bytes = more.SerializeToString()
    return data
