"""Where ONNX Runtime computes: its execution providers, by the names people give to devices.

Names, packages and options are those of onnxruntime.ai/docs/execution-providers (CUDA, TensorRT, DirectML).  Whoever
asks for a device gets it or an error: ONNX Runtime itself would take the processor without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from converter.core.errors import ConverterError, Unavailable
from converter.core.nearest import meant

CPU = "cpu"
PROCESSOR = "CPUExecutionProvider"


@dataclass(frozen=True)
class Device:
    """What computes.

    Attributes:
        name: what reports call it.
        provider: the execution provider.
        package: the distribution of ONNX Runtime that brings it, in the place of ``onnxruntime``.
        beside: what that needs beside it.
        options: of the provider.
        behind: providers for what it cannot do, before the processor.
        alone: whether one thread at a time may use a session, and memory is not planned ahead.
    """

    name: str
    provider: str
    package: str
    beside: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    behind: tuple[str, ...] = ()
    alone: bool = False

    def providers(self) -> list[tuple[str, dict[str, str]]]:
        """As ONNX Runtime is told them."""
        return [(self.provider, dict(self.options)), *((name, {}) for name in (*self.behind, PROCESSOR))]


# TF32 rounds what is multiplied to 10 bits, which is not float32: it is left out where somebody can say so.
DEVICES: Mapping[str, Device] = {
    "cuda": Device("CUDA", "CUDAExecutionProvider", "onnxruntime-gpu", "CUDA and cuDNN", {"use_tf32": "0"}),
    "tensorrt": Device(
        *("TensorRT", "TensorrtExecutionProvider", "onnxruntime-gpu", "CUDA, cuDNN and TensorRT"),
        behind=("CUDAExecutionProvider",),
    ),
    "directml": Device("DirectML", "DmlExecutionProvider", "onnxruntime-directml", "Windows", alone=True),
}
"""Devices beside the processor."""


def available() -> Sequence[str]:
    """The execution providers of the ONNX Runtime that is installed; none where it is not."""
    if find_spec("onnxruntime") is None:
        return ()
    import onnxruntime  # noqa: PLC0415 (slow to import)

    found: Sequence[str] = onnxruntime.get_available_providers()
    return found


def check_device(name: str) -> Device | None:
    """The device of that name, None for the processor; whether it is there is looked at before any work.

    Raises:
        ConverterError: there is no such name.
        Unavailable: the ONNX Runtime that is installed cannot use it.
    """
    if name in ("", CPU):
        return None
    if name not in DEVICES:
        names = (CPU, *DEVICES)
        raise ConverterError(f"no device is called {name!r}; there are {', '.join(names)}{meant(name, names)}")
    device, found = DEVICES[name], available()
    if device.provider not in found:
        raise Unavailable(
            f"{device.name} cannot be used: ONNX Runtime here has {', '.join(found) or 'no providers'}; "
            f"pip uninstall onnxruntime && pip install {device.package} (needs {device.beside})"
        )
    return device


def check_taken(device: Device, taken: Sequence[str]) -> None:
    """Refuse a session that fell back to the processor.

    Raises:
        Unavailable: it did, since a library is missing, say, or there is no such device.
    """
    if device.provider not in taken:
        raise Unavailable(
            f"{device.name} cannot be used: ONNX Runtime has it, and could not start it (needs {device.beside}, of "
            "versions that fit, and a device); without --device the processor computes"
        )


def engine_on(engine: str, device: str) -> str:
    """The name of ONNX Runtime on a device, ``onnxruntime-cuda``; any engine's own name on the processor.

    Raises:
        ConverterError: no such device, or another engine.
        Unavailable: it cannot be used here.
    """
    if check_device(device) is None:
        return engine
    if engine != "onnxruntime":
        raise ConverterError(f"--device {device} is for onnxruntime, not for {engine}")
    return f"{engine}-{device}"
