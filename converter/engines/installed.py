"""Which engines and exporters are installed, at which version, and what to install.

Nothing is imported but ONNX Runtime, which alone knows its execution providers.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any, Literal

from converter.core.version import __version__
from converter.engines.devices import DEVICES, available
from converter.engines.frameworks import FRAMEWORKS, PACKAGES
from converter.engines.runtimes import RUNTIMES

OTHER_NAMES = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "sklearn": ("scikit-learn",),
    "PIL": ("Pillow",),
}
"""Distributions of a package, where they are not called as it is imported."""
READERS = {
    "h5py": ("keras", "Keras .h5 files are written"),
    "pyarrow": ("parquet", "tables as .parquet"),
    "sklearn": ("metrics", "AUROC and other figures of evaluate"),
    "pydicom": ("dicom", "DICOM images"),
    "nibabel": ("nifti", "NIfTI volumes"),
}


@dataclass(frozen=True)
class Part:
    """An engine, an exporter, or what reads one kind of file.

    Attributes:
        kind, name: which.
        does: what it is for.
        packages: what it takes, and the version that is installed; None where it is not.
        install: the command that brings what is missing; empty if nothing is.
        note: what it cannot do here.
    """

    kind: Literal["engine", "exporter", "files"]
    name: str
    does: str
    packages: dict[str, str | None]
    install: str
    note: str = ""

    @property
    def ready(self) -> bool:
        """Whether all of it is there."""
        return None not in self.packages.values()


def parts() -> Iterator[Part]:
    """All of them, whether they are installed or not."""
    yield _part("engine", "ONNX Runtime", "verify, predict, evaluate", ("onnxruntime",), "pip install onnxruntime")
    yield _part("engine", "PyTorch", "verify (the truth), class activation maps", ("torch",), _extra("torch"))
    there = available()
    for device in DEVICES.values():
        has = _version("onnxruntime") or "of unknown version" if device.provider in there else None
        how = "" if has else f"pip install {device.package}"
        needs = {device.provider: has}
        does = "--device of predict, evaluate, verify"
        yield Part("engine", f"ONNX Runtime, {device.name}", does, needs, how, f"needs {device.beside}")
    for runtime in RUNTIMES:
        if runtime.runs not in (("torch",), ()):
            what = f"verify {runtime.suffix} files" + (" and .onnx files" if runtime.key == "openvino" else "")
            yield _part("engine", runtime.name, what, runtime.runs, _extra(runtime.extra))
    for name in FRAMEWORKS:
        what = "verify against the framework a checkpoint comes from"
        yield _part("engine", name, what, (name,), f"pip install {PACKAGES.get(name, name)}")
    yield _part("exporter", "ONNX", ".onnx", ("onnx",), "pip install onnx")
    for runtime in RUNTIMES:
        yield _part("exporter", runtime.name, runtime.suffix, runtime.writes, _extra(runtime.extra), runtime.elsewhere)
    for package, (extra, what) in READERS.items():
        yield _part("files", package, what, (package,), _extra(extra))


def report() -> dict[str, Any]:
    """The same as plain JSON values, with the versions of this tool and of Python."""
    return {
        "tool": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "parts": [{**asdict(part), "ready": part.ready} for part in parts()],
    }


def _extra(name: str) -> str:
    return f"pip install 'densenet-converter[{name}]'"


def _part(
    kind: Literal["engine", "exporter", "files"], name: str, does: str, needs: tuple[str, ...], how: str, note: str = ""
) -> Part:
    packages = {package: _version(package) for package in needs}
    return Part(kind, name, does, packages, how if None in packages.values() else "", note)


def _version(package: str) -> str | None:
    """Of what is imported under that name; None if it is not there."""
    if find_spec(package) is None:
        return None
    for name in OTHER_NAMES.get(package, (PACKAGES.get(package, package),)):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "of unknown version"
