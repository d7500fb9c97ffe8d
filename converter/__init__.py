"""Any DenseNet checkpoint in; library layout, safetensors and ONNX out; proved numerically equal.

The verbs of the command line as functions, and the records they take::

    from converter import convert, export_onnx, verify, inspect, load, Source, Images

Nothing is imported until it is used: each name is loaded from its home when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.core.errors import ConverterError as ConverterError
    from converter.core.model import Images as Images
    from converter.core.model import Origin as Origin
    from converter.core.source import Source as Source
    from converter.core.version import __version__ as __version__
    from converter.engines.original import Original as Original
    from converter.parity.bench import Bench as Bench
    from converter.parity.verdict import Verification as Verification
    from converter.parity.verify import verify as verify
    from converter.parity.verify import verify_against as verify_against
    from converter.publish.package import Package as Package
    from converter.publish.package import package as package
    from converter.publish.push import Commit as Commit
    from converter.publish.push import Push as Push
    from converter.publish.push import push as push
    from converter.publish.recipe import Recipe as Recipe
    from converter.reading.inspection import Inspection as Inspection
    from converter.use.diff.compare import diff as diff
    from converter.use.diff.difference import Difference as Difference
    from converter.use.evaluate import evaluate as evaluate
    from converter.use.evaluation.dataset import Dataset as Dataset
    from converter.use.evaluation.result import Evaluation as Evaluation
    from converter.use.export import Export as Export
    from converter.use.export import Precision as Precision
    from converter.use.export import export_onnx as export_onnx
    from converter.use.export_runtime import RuntimeExport as RuntimeExport
    from converter.use.export_runtime import export_runtime as export_runtime
    from converter.use.folder import Classified as Classified
    from converter.use.folder import predict as predict
    from converter.use.inference import get_model as get_model
    from converter.use.inference import inference_model as inference_model
    from converter.use.inference import list_models as list_models
    from converter.use.merge import merge as merge
    from converter.use.model import Model as Model
    from converter.use.model import inspect as inspect
    from converter.use.model import load as load
    from converter.writing.convert import Conversion as Conversion
    from converter.writing.convert import convert as convert

HOMES = {
    "core.errors": "ConverterError",
    "core.model": "Images Origin",
    "core.source": "Source",
    "core.version": "__version__",
    "engines.original": "Original",
    "parity.bench": "Bench",
    "parity.verdict": "Verification",
    "parity.verify": "verify verify_against",
    "publish.package": "Package package",
    "publish.push": "Commit Push push",
    "publish.recipe": "Recipe",
    "reading.inspection": "Inspection",
    "use.diff.compare": "diff",
    "use.diff.difference": "Difference",
    "use.evaluate": "evaluate",
    "use.evaluation.dataset": "Dataset",
    "use.evaluation.result": "Evaluation",
    "use.export": "Export Precision export_onnx",
    "use.export_runtime": "RuntimeExport export_runtime",
    "use.folder": "Classified predict",
    "use.inference": "get_model inference_model list_models",
    "use.merge": "merge",
    "use.model": "Model inspect load",
    "writing.convert": "Conversion convert",
}
"""Where each public name lives."""

__all__ = sorted(name for names in HOMES.values() for name in names.split())  # noqa: PLE0605 (all of them strings)


def __getattr__(name: str) -> Any:
    home = next((home for home, names in HOMES.items() if name in names.split()), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"converter.{home}"), name)
