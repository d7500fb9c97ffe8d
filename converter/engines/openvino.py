"""OpenVINO: ONNX files and its own IR, a graph in XML and beside it the weights."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import CannotWrite, ConverterError, UnreadableFile, first_line
from converter.engines.onnxruntime import in_pieces, main_output
from converter.engines.run import Loadable, Run, called, loadable
from converter.engines.runtime import Declared, Job, Runtime
from converter.formats.openvino import open_openvino

UNNAMED = re.compile(r"\b([A-Z][A-Za-z]+)_\d+\b")
PRECISIONS = {"f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}


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


def _write(job: Job, path: Path) -> None:
    """The ONNX graph as OpenVINO reads it; for ``fp16`` with its constants in half precision."""
    import openvino  # noqa: PLC0415 (slow to import)

    with job.graph().on_disk() as file:
        # convert_model does the same, and reports to its makers that it was called.
        network = openvino.Core().read_model(file)
        network.set_friendly_name(job.model.config.name)
        for key, text in job.model.metadata().items():
            network.set_rt_info(text, key)
        openvino.save_model(network, path, compress_to_fp16=job.precision == "fp16")
    graph, end, rest = path.read_text("utf-8").partition("</edges>")
    path.write_text(_renumbered(graph) + end + rest, "utf-8")


def _renumbered(graph: str) -> str:
    """Operators that nobody named are numbered through, not by how many the process has made: the same bytes again."""
    numbers: dict[str, int] = {}
    return UNNAMED.sub(lambda found: f"{found[1]}_{numbers.setdefault(found[0], len(numbers))}", graph)


def _declared(path: Path) -> Declared:
    import openvino  # noqa: PLC0415 (slow to import)

    try:
        network = openvino.Core().read_model(path)
    except Exception as error:
        raise UnreadableFile(f"{path}: OpenVINO cannot load it ({first_line(error)})") from error
    if len(network.inputs) != 1:
        raise ConverterError(f"{path}: takes {len(network.inputs)} inputs; one batch of images expected")
    counts: dict[str, int] = {}
    for op in network.get_ops():
        if op.get_type_name() == "Constant" and len(op.get_output_shape(0)) > 1:
            kind = PRECISIONS.get(op.get_output_element_type(0).get_type_name(), "fp32")
            counts[kind] = counts.get(kind, 0) + math.prod(op.get_output_shape(0))
    said = open_openvino(path).metadata
    taken, given = ([_length(n) for n in port.get_partial_shape()] for port in (network.input(0), network.output(0)))
    return Declared(tuple(taken), given[-1] or 0, max(counts, key=counts.__getitem__, default="fp32"), said)


def _length(dimension: Any) -> int | None:
    return dimension.get_length() if dimension.is_static else None


OPENVINO = Runtime(
    key="openvino",
    name="OpenVINO",
    suffix=".xml",
    published="openvino/openvino_model.xml",  # the names that optimum-intel looks for
    parts=("openvino/openvino_model.xml", "openvino/openvino_model.bin"),
    extra="openvino",
    writes=("openvino",),
    runs=("openvino",),
    precisions=("fp32", "fp16", "int8"),
    write=_write,
    matches=lambda path: path.suffix == ".xml",
    declared=_declared,
    start=lambda path, threads: openvino_engine(path, threads=threads),
    fixed=False,
)
