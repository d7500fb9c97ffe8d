"""OpenVINO."""

from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import CannotWrite, ConverterError, UnreadableFile, first_line
from converter.engines.onnxruntime import in_pieces, main_output
from converter.engines.run import Loadable, Run, called, loadable


def openvino_engine(source: Loadable, *, threads: int = 0, output: str = "") -> Run:
    """OpenVINO on the CPU, computing in float32.

    Raises:
        UnreadableFile: OpenVINO does not take the file.
    """
    import openvino  # noqa: PLC0415 (slow to import)

    # Left to itself it computes in bfloat16 where the processor can.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        core = openvino.Core()
        with loadable(source) as given:
            compiled = core.compile_model(core.read_model(given), "CPU", settings)
    except CannotWrite:
        raise
    except Exception as error:
        raise UnreadableFile(f"{called(source)}: OpenVINO cannot load it ({first_line(error)})") from error
    names = [name for output in compiled.outputs for name in output.get_names()]
    port = compiled.output(output or main_output(names)) if names else compiled.output(0)
    shape = compiled.input(0).get_partial_shape()

    def once(x: Array) -> Array:
        try:
            result: Array = compiled([np.ascontiguousarray(x)])[port]
        except Exception as error:
            raise ConverterError(
                f"{called(source)}: OpenVINO failed on input {list(x.shape)} ({first_line(error)})"
            ) from error
        return np.array(result)

    if not shape[0].is_static:
        return once
    pieces = in_pieces(lambda x: (once(x),), shape[0].get_length())
    return lambda x: pieces(x)[0]
