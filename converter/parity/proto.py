"""What an ONNX file declares, read off its protocol buffer."""

import math
from pathlib import Path

import onnx

from converter.core.errors import UnreadableFile
from converter.core.metadata import ACTIVATION_KEY, CONFIG_KEY
from converter.core.model import known_activation
from converter.formats.onnx_file import check_for_running

PRECISIONS = {
    onnx.TensorProto.FLOAT16: "fp16",
    onnx.TensorProto.BFLOAT16: "bf16",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "int8",
}

SMALL = 1024
"""Bytes of a constant that is none of the weights."""


def read_structure(path: Path) -> onnx.ModelProto:
    """An ONNX file without the values of its weights, which are most of it; errors as for :func:`read_proto`."""
    proto = read_proto(path)
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) >= SMALL:
            tensor.ClearField("raw_data")
    result = onnx.ModelProto()
    result.CopyFrom(proto)  # a message's memory is freed as a whole
    return result


def read_proto(path: Path) -> onnx.ModelProto:
    """An ONNX file with its weights.

    Raises:
        UnreadableFile: it is missing, or no ONNX file.
        UnsafeFile: it points outside its own folder.
    """
    check_for_running(path)
    try:
        proto = onnx.load(path)
    except Exception as error:  # protobuf's errors share no class with onnx's
        reason = error.strerror if isinstance(error, OSError) else "not an ONNX file, or damaged"
        raise UnreadableFile(f"{path}: cannot be read ({reason})") from error
    if not proto.graph.node:
        raise UnreadableFile(f"{path}: not an ONNX file, or one without a graph")
    return proto


def precision_of(proto: onnx.ModelProto) -> str:
    """``fp32``, or what most of the weights (by their number) are stored in: ``fp16``, ``bf16``, ``int8``.

    One tensor in half precision is a fault, not a variant.
    """
    counts: dict[str, int] = {}
    for weight in proto.graph.initializer:
        if len(weight.dims) > 1:
            precision = PRECISIONS.get(weight.data_type, "fp32")
            counts[precision] = counts.get(precision, 0) + math.prod(weight.dims)
    most = max(counts, key=counts.__getitem__, default="fp32")
    return most if 2 * counts.get(most, 0) > sum(counts.values()) else "fp32"


def activation_of(proto: onnx.ModelProto) -> str:
    """What its metadata calls the activation of its logits; empty where it says none that is known."""
    return next((known_activation(prop.value) for prop in proto.metadata_props if prop.key == ACTIVATION_KEY), "")


def takes_pixels(proto: onnx.ModelProto) -> bool:
    """Whether it takes 8-bit images and prepares them itself."""
    return any(value.type.tensor_type.elem_type == onnx.TensorProto.UINT8 for value in inputs_of(proto))


ELEMENTWISE = frozenset("Identity Cast Add Sub Mul Div QuantizeLinear DequantizeLinear".split())
"""Operators that may stand between an image and the Transpose that puts its channels first."""
FEW_CHANNELS = 16


def channels_last(proto: onnx.ModelProto) -> bool:
    """Whether a foreign file takes images (N, H, W, C), as what comes from TensorFlow does.

    Its input says so, or it is transposed before anything else is done with it.
    """
    values = inputs_of(proto)
    if len(values) != 1 or is_own(proto) or takes_pixels(proto):
        return False
    dims = dims_of(values[0])
    if len(dims) < 3:
        return False
    first, last = dims[1], dims[-1]
    if isinstance(last, int) and last <= FEW_CHANNELS and not (isinstance(first, int) and first <= FEW_CHANNELS):
        return True
    name, wanted = values[0].name, [0, len(dims) - 1, *range(1, len(dims) - 1)]
    for _ in range(len(proto.graph.node)):
        takers = [node for node in proto.graph.node if name in node.input]
        if len(takers) != 1:
            return False
        if takers[0].op_type == "Transpose":
            return any(list(attribute.ints) == wanted for attribute in takers[0].attribute)
        if takers[0].op_type not in ELEMENTWISE:
            return False
        name = takers[0].output[0]
    return False


def fixed_size(proto: onnx.ModelProto) -> tuple[int, ...]:
    """The height and width a file is fixed to; empty if it takes any, or says it does."""
    values = inputs_of(proto)
    dims = dims_of(values[0]) if len(values) == 1 else []
    space = dims[1:-1] if channels_last(proto) or takes_pixels(proto) else dims[2:]
    return tuple(int(n) for n in space) if space and all(isinstance(n, int) for n in space) else ()


def has_free_batch(proto: onnx.ModelProto) -> bool:
    """Whether it declares a batch of any length."""
    values = inputs_of(proto)
    return len(values) == 1 and not isinstance(next(iter(dims_of(values[0])), 0), int)


def is_own(proto: onnx.ModelProto) -> bool:
    """Whether this tool wrote it, and no optimiser has put operators of its own into it since."""
    standard = all(node.domain in ("", "ai.onnx") for node in proto.graph.node)
    return standard and any(prop.key == CONFIG_KEY for prop in proto.metadata_props)


def inputs_of(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What it takes, beside constants."""
    constants = {w.name for w in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in constants]


def dims_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """The shape of a value: lengths, and names of axes of any length."""
    dims = value.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dims]
