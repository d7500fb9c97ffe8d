"""Any DenseNet checkpoint in; library layout, safetensors and ONNX out; proved numerically equal.

The verbs of the command line as functions, and the records they take::

    from converter import convert, export_onnx, verify, inspect, load, Source, Images

Nothing is imported until it is used: each name is loaded from its home when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.core.errors import ConverterError
    from converter.core.model import Images, Model, Origin
    from converter.core.source import Source
    from converter.core.version import __version__
    from converter.parity.bench import Bench
    from converter.parity.verdict import Verification
    from converter.parity.verify import verify, verify_against
    from converter.publish.package import Package, package
    from converter.publish.push import Push, push
    from converter.publish.recipe import Recipe
    from converter.reading.inspection import Inspection
    from converter.reading.load import inspect, load
    from converter.use.evaluate import Evaluation, evaluate
    from converter.use.export import Export, Precision, export_onnx
    from converter.use.inference import get_model, inference_model, list_models
    from converter.writing.convert import Conversion, convert

HOMES = {
    "core.errors": ("ConverterError",),
    "core.model": ("Images", "Model", "Origin"),
    "core.source": ("Source",),
    "core.version": ("__version__",),
    "parity.bench": ("Bench",),
    "parity.verdict": ("Verification",),
    "parity.verify": ("verify", "verify_against"),
    "publish.package": ("Package", "package"),
    "publish.push": ("Push", "push"),
    "publish.recipe": ("Recipe",),
    "reading.inspection": ("Inspection",),
    "reading.load": ("inspect", "load"),
    "use.evaluate": ("Evaluation", "evaluate"),
    "use.export": ("Export", "Precision", "export_onnx"),
    "use.inference": ("get_model", "inference_model", "list_models"),
    "writing.convert": ("Conversion", "convert"),
}
"""Where each public name lives."""

__all__ = [
    "Bench",
    "Conversion",
    "ConverterError",
    "Evaluation",
    "Export",
    "Images",
    "Inspection",
    "Model",
    "Origin",
    "Package",
    "Precision",
    "Push",
    "Recipe",
    "Source",
    "Verification",
    "__version__",
    "convert",
    "evaluate",
    "export_onnx",
    "get_model",
    "inference_model",
    "inspect",
    "list_models",
    "load",
    "package",
    "push",
    "verify",
    "verify_against",
]


def __getattr__(name: str) -> Any:
    for home, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"converter.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
