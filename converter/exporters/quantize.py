"""An ONNX graph with 8-bit weights and convolutions, about a quarter of the size.

What is done was chosen by measuring (README, "Smaller files"):

* Convolutions compute in 8 bits: quantise/dequantise pairs around them (QDQ, which every
  runtime understands), one scale per output channel.  Norms before them and the growing
  concatenations stay float32: their channels differ too much in range to share a scale.
* The classifier's weights are 8 bits, its arithmetic is float32: quantising the pooled
  features costs as much accuracy as all convolutions together, and gains no time.
* Weights are signed and use 7 of the 8 bits.  With all 8, processors that have AVX2 but
  no VNNI saturate when they add two products in 16 bits, and the same file would
  compute something else there.
* Ranges are the minimum and maximum seen in calibration; percentiles and entropy were worse.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from converter.errors import CannotExpress, CannotWrite, ConverterError
from converter.exporters.graph import INPUT, LOGITS
from converter.version import __version__

Array = np.ndarray[Any, Any]
LOWEST_OPSET = 13
"""The first whose QuantizeLinear has a scale per channel."""
LARGEST = 127


def to_int8(proto: onnx.ModelProto, calibration: Iterable[Array]) -> onnx.ModelProto:
    """The same network with 8-bit convolutions, and 8-bit weights in the classifier.

    Args:
        proto: a float32 graph of :func:`converter.exporters.onnx.to_onnx`.
        calibration: typical inputs, float32 (N, C, H, W); their ranges become the
            quantisation's.  A few dozen images are enough.

    Raises:
        CannotExpress: the graph takes bytes, or its opset is too old.
        ConverterError: ONNX Runtime cannot quantise it, or there is no calibration input.
        CannotWrite: no room for temporary files.
    """
    opset = proto.opset_import[0].version
    if opset < LOWEST_OPSET:
        raise CannotExpress(f"8 bits with a scale per channel need opset {LOWEST_OPSET} or newer, not {opset}")
    if proto.graph.input[0].name != INPUT:
        raise CannotExpress("8 bits are for graphs that take normalised images, not bytes")
    from onnxruntime import quantization  # noqa: PLC0415 (imports much)

    reader = _Reader(calibration)
    if not reader.arrays:
        raise ConverterError("8 bits need at least one input to calibrate with")
    try:
        with tempfile.TemporaryDirectory() as folder, _silent():
            whole, target = Path(folder) / "whole.onnx", Path(folder) / "quantised.onnx"
            onnx.save(proto, whole)  # a graph in memory would be changed by it
            quantization.quantize_static(
                whole,
                target,
                reader,
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
            result = onnx.load(target)
    except OSError as error:
        raise CannotWrite(f"{error.filename or 'temporary files'}: {error.strerror or error}") from error
    except Exception as error:  # the quantiser's errors share no class
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise ConverterError(f"ONNX Runtime cannot quantise the graph ({first})") from error
    _shrink_classifier(result.graph)
    result.producer_name, result.producer_version = "densenet-converter", __version__
    result.ir_version = proto.ir_version
    del result.opset_import[:]
    result.opset_import.extend(proto.opset_import)
    del result.metadata_props[:]
    helper.set_model_props(result, {**{p.key: p.value for p in proto.metadata_props}, "densenet.precision": "int8"})
    return result


class _Reader:
    """Hands the calibration inputs to the quantiser, one image at a time to save memory."""

    def __init__(self, batches: Iterable[Array]) -> None:
        self.arrays = [batch[i : i + 1] for batch in batches for i in range(len(batch))]
        self._rest = iter(self.arrays)

    def get_next(self) -> dict[str, Array] | None:
        array = next(self._rest, None)
        return None if array is None else {INPUT: array}


def _shrink_classifier(graph: onnx.GraphProto) -> None:
    """Store the classifier's weights as 8-bit integers with a scale per class."""
    classifiers = [node for node in graph.node if node.op_type == "Gemm" and node.output[0] == LOGITS]
    for node in classifiers:
        name = node.input[1]
        stored = next(tensor for tensor in graph.initializer if tensor.name == name)
        weight = numpy_helper.to_array(stored).astype(np.float64)
        scale = np.abs(weight).max(axis=1) / LARGEST
        scale = np.where(scale, scale, 1).astype(np.float32)
        quantised = np.rint(weight / scale[:, None]).clip(-LARGEST, LARGEST).astype(np.int8)
        graph.initializer.remove(stored)
        zero = helper.make_tensor(f"{name}_zero_point", TensorProto.INT8, scale.shape, np.zeros(scale.shape, np.int8))
        graph.initializer.extend(
            [
                numpy_helper.from_array(quantised, f"{name}_quantized"),
                numpy_helper.from_array(scale, f"{name}_scale"),
                zero,
            ]
        )
        inputs = [f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"]
        node.input[1] = f"{name}_DequantizeLinear_Output"
        decode = helper.make_node("DequantizeLinear", inputs, [node.input[1]], name=f"{name}_DequantizeLinear", axis=0)
        graph.node.insert(list(graph.node).index(node), decode)


@contextmanager
def _silent() -> Iterator[None]:
    """The quantiser logs advice that does not apply here, to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
