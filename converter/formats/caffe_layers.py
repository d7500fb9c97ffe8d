"""What the layers of a ``.caffemodel`` say, as their prototxt would (BVLC/caffe, src/caffe/proto/caffe.proto)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from converter.core.errors import UnreadableFile
from converter.core.mapping import content
from converter.formats.protobuf import BYTES, FIXED32, VARINT, fields, numbers
from converter.formats.prototxt import Message
from converter.formats.settings import as_written

TEXT, NUMBER, REAL, TRUTH = "text", "number", "real", "truth"
"""How a field is stored; a mapping is a message, a tuple an enum."""

SPATIAL = {9: ("pad_h", NUMBER), 10: ("pad_w", NUMBER)}
LAYER: Mapping[int, tuple[str, Any]] = {
    1: ("name", TEXT),
    2: ("type", TEXT),
    3: ("bottom", TEXT),
    4: ("top", TEXT),
    8: ("include", {1: ("phase", ("TRAIN", "TEST"))}),
    9: ("exclude", {1: ("phase", ("TRAIN", "TEST"))}),
    100: (
        "transform_param",
        {1: ("scale", REAL), 3: ("crop_size", NUMBER), 4: ("mean_file", TEXT), 5: ("mean_value", REAL)},
    ),
    104: ("concat_param", {1: ("concat_dim", NUMBER), 2: ("axis", NUMBER)}),
    106: (
        "convolution_param",
        {
            **{2: ("bias_term", TRUTH), 3: ("pad", NUMBER), 4: ("kernel_size", NUMBER), 5: ("group", NUMBER)},
            **{6: ("stride", NUMBER), 11: ("kernel_h", NUMBER), 12: ("kernel_w", NUMBER), 13: ("stride_h", NUMBER)},
            **{14: ("stride_w", NUMBER), 16: ("axis", NUMBER), 18: ("dilation", NUMBER)},
            **SPATIAL,
        },
    ),
    110: ("eltwise_param", {1: ("operation", ("PROD", "SUM", "MAX")), 2: ("coeff", REAL)}),
    117: ("inner_product_param", {2: ("bias_term", TRUTH), 5: ("axis", NUMBER), 6: ("transpose", TRUTH)}),
    121: (
        "pooling_param",
        {
            **{1: ("pool", ("MAX", "AVE", "STOCHASTIC")), 2: ("kernel_size", NUMBER), 3: ("stride", NUMBER)},
            **{4: ("pad", NUMBER), 5: ("kernel_h", NUMBER), 6: ("kernel_w", NUMBER), 7: ("stride_h", NUMBER)},
            **{8: ("stride_w", NUMBER), 12: ("global_pooling", TRUTH), 13: ("round_mode", ("FLOOR", "FLOOR"))},
            **SPATIAL,
        },
    ),
    122: ("power_param", {1: ("power", REAL), 2: ("scale", REAL), 3: ("shift", REAL)}),
    123: ("relu_param", {1: ("negative_slope", REAL)}),
    125: ("softmax_param", {2: ("axis", NUMBER)}),
    139: ("batch_norm_param", {1: ("use_global_stats", TRUTH), 3: ("eps", REAL)}),
    142: ("scale_param", {1: ("axis", NUMBER), 2: ("num_axes", NUMBER), 5: ("bias_term", TRUTH)}),
    143: ("input_param", {1: ("shape", {1: ("dim", NUMBER)})}),
}  # fmt: skip
"""LayerParameter, as far as networks need it.

``round_mode`` (field 13) is ``ceil_mode`` in forks, with opposite numbers; but both round up where it is absent, so
that who wrote it at all wanted down.
"""
NET: Mapping[int, tuple[str, Any]] = {
    3: ("input", TEXT),
    4: ("input_dim", NUMBER),
    8: ("input_shape", {1: ("dim", NUMBER)}),
    100: ("layer", LAYER),
}
"""NetParameter."""


def as_text(data: memoryview, known: Mapping[int, tuple[str, Any]] = NET) -> Message:
    """A message as its text would be parsed; fields that are not known are left out.

    Raises:
        UnreadableFile: damaged.
    """
    result: Message = {}
    for number, wire, value in fields(data):
        if number not in known:
            continue
        name, kind = known[number]
        found = result.setdefault(name, [])
        if isinstance(kind, Mapping):
            if isinstance(value, memoryview) and wire == BYTES:
                found.append(as_text(value, kind))
        elif kind == TEXT and isinstance(value, memoryview):
            found.append(str(content(value[:4096]), "utf-8", "replace"))
        elif kind == REAL and isinstance(value, memoryview):
            found += _reals(value, wire)
        elif kind in (NUMBER, TRUTH) and (wire == VARINT or isinstance(value, memoryview)):
            found += [str(n) if kind == NUMBER else str(bool(n)).lower() for n in numbers(value)]
        elif isinstance(kind, tuple) and isinstance(value, int):
            found.append(kind[value] if value < len(kind) else str(value))
    return result


def _reals(value: memoryview, wire: int) -> list[str]:
    """Floats, one or packed."""
    if wire not in (FIXED32, BYTES) or len(value) % 4:
        raise UnreadableFile("damaged, a number of another size than it has")
    return [repr(as_written(real)) for (real,) in struct.iter_unpack("<f", content(value))]
