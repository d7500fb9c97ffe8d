"""All runtimes with files of their own, by the endings of those and by name."""

from __future__ import annotations

from pathlib import Path

from converter.core.errors import ConverterError
from converter.core.nearest import meant
from converter.engines.coreml import COREML
from converter.engines.executorch import EXECUTORCH
from converter.engines.openvino import OPENVINO
from converter.engines.runtime import Runtime
from converter.engines.tflite import TFLITE
from converter.engines.torch_programs import EXPORTED, TORCHSCRIPT

RUNTIMES: tuple[Runtime, ...] = (OPENVINO, EXPORTED, TORCHSCRIPT, TFLITE, COREML, EXECUTORCH)


def runtime_for(target: Path) -> Runtime:
    """The runtime whose file is to be written, by the ending of its name.

    Raises:
        ConverterError: no runtime's files end so.
    """
    found = next((runtime for runtime in RUNTIMES if runtime.suffix == target.suffix), None)
    if found is None:
        known = ", ".join(f"{runtime.suffix} ({runtime.name})" for runtime in RUNTIMES)
        from converter.writing.convert import SUFFIXES  # noqa: PLC0415 (for this message)

        instead = "; densenet convert writes weights alone" if target.suffix in SUFFIXES else ""
        raise ConverterError(f"{target}: end the name in .onnx, or {known}{instead}")
    return found


def runtime_of(path: Path) -> Runtime | None:
    """The runtime a file is for; None for a checkpoint."""
    return next((runtime for runtime in RUNTIMES if runtime.matches(path)), None)


def runtime_named(key: str) -> Runtime:
    """The runtime that options call so.

    Raises:
        ConverterError: none is.
    """
    found = next((runtime for runtime in RUNTIMES if runtime.key == key), None)
    if found is None:
        known = [runtime.key for runtime in RUNTIMES]
        raise ConverterError(f"no runtime is called {key!r}; there are {', '.join(known)}{meant(key, known)}")
    return found
