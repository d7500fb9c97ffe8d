"""LiteRT, formerly TensorFlow Lite: a FlatBuffer that is interpreted on the CPU."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, UnreadableFile, first_line
from converter.core.metadata import MEMBER, to_json
from converter.engines.onnxruntime import in_pieces
from converter.engines.run import Run
from converter.engines.runtime import INPUT, OUTPUT, Declared, Job, Runtime, quietly
from converter.engines.torch import named_module
from converter.formats.tflite import MAGIC, open_tflite

PRECISIONS = {"float16": "fp16", "int8": "int8", "uint8": "int8"}


def _write(job: Job, path: Path) -> None:
    """Our PyTorch module, converted for one image of one size: the interpreter plans its memory for that."""
    import torch  # noqa: PLC0415 (slow to import)

    with quietly(), warnings.catch_warnings(action="ignore"):
        import litert_torch  # noqa: PLC0415 (slow to import)

        module = named_module(job.model, OUTPUT)
        made = litert_torch.convert(module, sample_kwargs={INPUT: torch.zeros(job.shape)})
        made.export(str(path))
        path.write_bytes(_with_metadata(path.read_bytes(), to_json(job.model.metadata())))


def _with_metadata(data: bytes, text: str) -> bytes:
    """A FlatBuffer with one more entry of metadata (schema.fbs, Metadata)."""
    import flatbuffers  # noqa: PLC0415 (of an extra)
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 (of an extra)

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    entry.name, entry.buffer = MEMBER, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), MAGIC)
    return bytes(builder.Output())


def _loaded(path: Path, threads: int) -> Any:
    with quietly():
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 (slow to import)

        try:
            found = Interpreter(str(path), num_threads=threads or None)
            found.allocate_tensors()
        except Exception as error:  # whatever it raises
            raise UnreadableFile(f"{path}: LiteRT cannot load it ({first_line(error)})") from error
    if len(found.get_input_details()) != 1:
        raise ConverterError(f"{path}: takes {len(found.get_input_details())} inputs; one batch of images expected")
    return found


def _declared(path: Path) -> Declared:
    found = _loaded(path, 1)
    (taken,), given = found.get_input_details(), found.get_output_details()
    counts: dict[str, int] = {}
    for tensor in found.get_tensor_details():
        if tensor["index"] != taken["index"] and len(tensor["shape"]) > 1:
            kind = PRECISIONS.get(np.dtype(tensor["dtype"]).name, "fp32")
            counts[kind] = counts.get(kind, 0) + math.prod(map(int, tensor["shape"]))
    shape = tuple(int(n) if n >= 0 else None for n in taken["shape_signature"])
    reduced = [kind for kind in ("int8", "fp16") if counts.get(kind)]
    return Declared(shape, int(given[0]["shape"][-1]), (reduced or ["fp32"])[0], open_tflite(path).metadata)


def _start(path: Path, threads: int) -> Run:
    found = _loaded(path, threads)
    (taken,), (given, *_) = found.get_input_details(), found.get_output_details()

    def once(x: Array) -> tuple[Array, ...]:
        try:
            found.set_tensor(taken["index"], np.ascontiguousarray(x, taken["dtype"]))
            found.invoke()
        except Exception as error:  # whatever it raises
            raise ConverterError(f"{path}: LiteRT failed on input {list(x.shape)} ({first_line(error)})") from error
        return (np.array(found.get_tensor(given["index"])),)

    pieces = in_pieces(once, int(taken["shape"][0]))
    return lambda x: pieces(x)[0]


def _matches(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == MAGIC


TFLITE = Runtime(
    key="tflite",
    name="LiteRT",
    suffix=".tflite",
    published="tflite/model.tflite",
    extra="litert",
    writes=("torch", "litert_torch"),
    runs=("ai_edge_litert",),
    write=_write,
    matches=_matches,
    declared=_declared,
    start=_start,
    spatial_dims=(1, 2),  # of 3 its converter (litert-torch 0.10) ends the process with SIGSEGV
)
