"""ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, UnreadableFile, first_line
from converter.engines.devices import PROCESSOR, check_device, check_taken
from converter.engines.run import INPUT_TYPES, Loadable, Outputs, Run, called, loadable
from converter.engines.stoppable import TookTooLong, stoppable
from converter.formats.onnx_file import check_for_running

if TYPE_CHECKING:
    import onnxruntime

LEVELS: Mapping[str, str] = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
"""ONNX Runtime's graph optimisation levels."""


@dataclass(frozen=True)
class Session:
    """A graph in ONNX Runtime, whose work can be interrupted and ends in time.

    Attributes:
        loaded: what says its inputs, outputs and metadata.
        name: how errors call it.
        turn: is held while it computes, where one thread at a time may.
    """

    loaded: onnxruntime.InferenceSession
    name: str
    turn: AbstractContextManager[Any] = field(default_factory=nullcontext)

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """Values of these names, or all outputs, on these inputs.

        Raises:
            ConverterError: ONNX Runtime failed, or took longer than ``stoppable.SECONDS``.
        """
        import onnxruntime  # noqa: PLC0415 (loaded by now)

        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        shapes = ", ".join(str(list(x.shape)) for x in feeds.values())
        try:
            with self.turn:
                found: list[Array] = stoppable(
                    lambda: self.loaded.run(names, feeds, options), lambda: setattr(options, "terminate", True)
                )
        except TookTooLong as error:
            raise ConverterError(f"{self.name}: ONNX Runtime {error} on input {shapes}") from error
        except Exception as error:  # its errors share no class
            raise ConverterError(f"{self.name}: ONNX Runtime failed on input {shapes} ({first_line(error)})") from error
        return found


def session(source: Loadable, *, threads: int = 0, level: str = "all", device: str = "") -> Session:
    """ONNX Runtime for a file or a model in memory.

    Args:
        source: the file, its bytes, or a model whose weights are read for it one at a time.
        threads: at work in one operator; 0 for as many as there are cores.
        level: graph optimisation: one of ``LEVELS``.
        device: one of ``devices.DEVICES``; default: the processor.

    Raises:
        Unavailable: the device cannot be used.
        UnreadableFile: ONNX Runtime does not take it, needs longer than ``stoppable.SECONDS``, or it has a loop.
        UnsafeFile: it points outside its own folder.
        CannotWrite: there is no room for temporary files.
    """
    if isinstance(source, (str, Path)):
        check_for_running(Path(source))
    import onnxruntime  # noqa: PLC0415 (slow to import)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised too
    options.intra_op_num_threads = threads
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    there = check_device(device)
    alone = there is not None and there.alone
    options.enable_mem_pattern = not alone
    providers = there.providers() if there else [PROCESSOR]
    with loadable(source) as given:
        try:
            loaded = stoppable(lambda: onnxruntime.InferenceSession(given, options, providers=providers))
        except TookTooLong as error:
            raise UnreadableFile(f"{called(source)}: ONNX Runtime {error} to load it") from error
        except Exception as error:  # its errors share no class
            raise UnreadableFile(f"{called(source)}: ONNX Runtime cannot load it ({first_line(error)})") from error
    if there is not None:
        check_taken(there, loaded.get_providers())
    return Session(loaded, called(source), threading.Lock() if alone else nullcontext())


def main_output(names: Sequence[str]) -> str:
    """The output that is compared first: ``logits``, or what there is."""
    return "logits" if "logits" in names else names[0]


def onnx_engine(source: Loadable, *, threads: int = 0, level: str = "all", output: str = "", device: str = "") -> Run:
    """ONNX Runtime as an engine; arguments as for :func:`session`, and which output, default the logits.

    A file whose batch is fixed is run in as many pieces as needed.

    Raises:
        UnreadableFile: ONNX Runtime does not take the file.
        ConverterError: the file takes something else than one batch of images; when run:
            ONNX Runtime failed on this input.
    """
    run = onnx_outputs(source, (output,), threads=threads, level=level, device=device)
    return lambda x: run(x)[0]


def onnx_outputs(
    source: Loadable, names: Sequence[str], *, threads: int = 0, level: str = "all", device: str = ""
) -> Outputs:
    """The same with several outputs, by their names; an empty one is the logits."""
    graph = session(source, threads=threads, level=level, device=device)
    inputs, outputs = graph.loaded.get_inputs(), [output.name for output in graph.loaded.get_outputs()]
    if len(inputs) != 1 or inputs[0].type not in INPUT_TYPES:
        raise ConverterError(f"{called(source)}: needs one input of images, has {[i.type for i in inputs]}")
    dtype, given, batch = INPUT_TYPES[inputs[0].type], inputs[0].name, inputs[0].shape[0]
    wanted = [name or main_output(outputs) for name in names]

    def once(x: Array) -> tuple[Array, ...]:
        return tuple(graph.run(wanted, {given: x.astype(dtype, copy=False)}))

    return in_pieces(once, batch) if isinstance(batch, int) else once


def in_pieces(run: Outputs, size: int) -> Outputs:
    """An engine that takes exactly ``size`` images at once, for any number of them."""

    def pieces(x: Array) -> tuple[Array, ...]:
        padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % size, 0)])
        parts = [run(padded[i : i + size]) for i in range(0, len(padded), size)]
        return tuple(np.concatenate(part)[: len(x)] for part in zip(*parts))

    return pieces
