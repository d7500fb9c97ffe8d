"""ExecuTorch: a program for PyTorch's runtime on phones and microcontrollers, here lowered to XNNPACK."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, UnreadableFile, first_line
from converter.core.metadata import from_member, to_json
from converter.engines.onnxruntime import in_pieces
from converter.engines.run import Run
from converter.engines.runtime import Declared, Job, Runtime, quietly
from converter.engines.torch import torch_module

MAGIC = b"ET"
SAID = "densenet_json"
"""A method of the program that takes nothing and returns our metadata, as bytes: a program keeps no texts."""


def _write(job: Job, path: Path) -> None:
    """Our PyTorch module, exported for one image of one size, its operators handed to XNNPACK."""
    import torch  # noqa: PLC0415 (slow to import)

    said = torch.frombuffer(bytearray(to_json(job.model.metadata()).encode()), dtype=torch.uint8)
    with quietly(), warnings.catch_warnings(action="ignore"):
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import (  # noqa: PLC0415 (slow to import)
            XnnpackPartitioner,
        )
        from executorch.exir import to_edge_transform_and_lower  # noqa: PLC0415 (slow to import)

        program = torch.export.export(torch_module(job.model), (torch.zeros(job.shape),))
        lowered = to_edge_transform_and_lower(
            program, partitioner=[XnnpackPartitioner()], constant_methods={SAID: said}
        )
        path.write_bytes(lowered.to_executorch().buffer)


def _loaded(path: Path) -> Any:
    with quietly():
        from executorch.runtime import Runtime as Loader  # noqa: PLC0415 (slow to import)

        try:
            return Loader.get().load_program(str(path))
        except Exception as error:  # whatever it raises
            raise UnreadableFile(f"{path}: ExecuTorch cannot load it ({first_line(error)})") from error


def _forward(path: Path, program: Any) -> Any:
    try:
        with quietly():
            method = program.load_method("forward")
    except Exception as error:  # whatever it raises
        raise UnreadableFile(f"{path}: ExecuTorch cannot load its forward() ({first_line(error)})") from error
    if method is None:
        raise UnreadableFile(f"{path}: has no forward() that takes images")
    return method


def _declared(path: Path) -> Declared:
    program = _loaded(path)
    method = _forward(path, program).metadata
    said: dict[str, str] = {}
    if SAID in program.method_names:
        (value,) = program.load_method(SAID).execute([])
        said = from_member(np.asarray(value).astype(np.uint8).tobytes())
    shape, given = (meta.sizes() for meta in (method.input_tensor_meta(0), method.output_tensor_meta(0)))
    return Declared(tuple(map(int, shape)), int(given[-1]), "fp32", said)


def _start(path: Path, threads: int) -> Run:
    program = _loaded(path)
    method = _forward(path, program)
    batch = int(method.metadata.input_tensor_meta(0).sizes()[0])
    import torch  # noqa: PLC0415 (loaded by now)

    def once(x: Array) -> tuple[Array, ...]:
        try:
            with quietly():
                result = method.execute([torch.from_numpy(np.ascontiguousarray(x))])
        except Exception as error:  # whatever it raises
            raise ConverterError(f"{path}: ExecuTorch failed on input {list(x.shape)} ({first_line(error)})") from error
        return (np.array(result[0].numpy()),)

    pieces = in_pieces(once, batch)
    return lambda x: pieces(x)[0]


def _matches(path: Path) -> bool:
    if path.suffix != ".pte" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(6)[4:] == MAGIC


EXECUTORCH = Runtime(
    key="executorch",
    name="ExecuTorch",
    suffix=".pte",
    published="executorch/model.pte",
    extra="executorch",
    writes=("torch", "executorch"),
    runs=("torch", "executorch"),
    write=_write,
    matches=_matches,
    declared=_declared,
    start=_start,
    spatial_dims=(1, 2),  # of 3 it (1.5.1) writes a program that its own runtime cannot load: no such operator
)
