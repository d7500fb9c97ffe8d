"""Any DenseNet checkpoint in; library layout, safetensors and ONNX out; proved numerically equal.

The verbs of the command line as functions::

    from converter import convert, export_onnx, verify, inspect
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.convert import Conversion, convert, load
from converter.errors import ConverterError
from converter.export import Export, export_onnx
from converter.inspect import Inspection, inspect
from converter.model import Model

if TYPE_CHECKING:
    from converter.parity.verify import Verification, verify

__all__ = [
    "Conversion",
    "ConverterError",
    "Export",
    "Inspection",
    "Model",
    "Verification",
    "convert",
    "export_onnx",
    "inspect",
    "load",
    "verify",
]


def __getattr__(name: str) -> Any:
    # ONNX Runtime and Pillow are loaded only for those who verify.
    if name in ("Verification", "verify"):
        from converter.parity import verify as home  # noqa: PLC0415

        return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
