"""Core ML: a folder with a program of MIL and its weights, which macOS and iOS run."""

from __future__ import annotations

import json
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.errors import Unavailable
from converter.engines.run import Run
from converter.engines.runtime import INPUT, OUTPUT, Declared, Job, Runtime, quietly
from converter.engines.torch import torch_module

MANIFEST = "Manifest.json"
PROGRAM = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
ELSEWHERE = (
    "not run in Core ML, which needs macOS: its weights and settings were read and compared, and the network it says "
    "was run instead"
)


def _write(job: Job, path: Path) -> None:
    """Our PyTorch module, traced and converted for one image of one size, which the Neural Engine wants."""
    import torch  # noqa: PLC0415 (slow to import)

    script: Any = torch.jit
    with quietly(), warnings.catch_warnings(action="ignore"):
        import coremltools  # noqa: PLC0415 (slow to import)

        half = coremltools.precision.FLOAT16 if job.precision == "fp16" else coremltools.precision.FLOAT32
        made = coremltools.convert(
            script.trace(torch_module(job.model), torch.zeros(job.shape)),
            inputs=[coremltools.TensorType(INPUT, shape=job.shape, dtype=np.float32)],
            outputs=[coremltools.TensorType(OUTPUT, dtype=np.float32)],
            convert_to="mlprogram",
            compute_precision=half,
            minimum_deployment_target=coremltools.target.iOS16,
            skip_model_load=True,
        )
        for key, text in job.model.metadata().items():
            made.user_defined_metadata[key] = text
        made.save(str(path))
    manifest = path / MANIFEST
    manifest.write_text(json.dumps(_with_lasting_names(json.loads(manifest.read_text("utf-8"))), indent=4), "utf-8")


def _with_lasting_names(manifest: Any) -> Any:
    """A manifest whose random identifiers are made from what they name: the same bytes again."""
    items = manifest["itemInfoEntries"]
    names = {old: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])).upper() for old, item in items.items()}
    entries = sorted((names[old], item) for old, item in items.items())
    return {**manifest, "itemInfoEntries": dict(entries), "rootModelIdentifier": names[manifest["rootModelIdentifier"]]}


def _declared(path: Path) -> Declared:
    raise Unavailable(f"{path}: {ELSEWHERE}")


def _start(path: Path, threads: int) -> Run:
    raise Unavailable(f"{path}: {ELSEWHERE}")


PACKAGE = "coreml/model.mlpackage"
COREML = Runtime(
    key="coreml",
    name="Core ML",
    suffix=".mlpackage",
    published=PACKAGE,
    extra="coreml",
    writes=("torch", "coremltools"),
    runs=(),
    write=_write,
    matches=lambda path: (path / PROGRAM).is_file() or path.as_posix().endswith(f"/{PROGRAM}"),
    declared=_declared,
    start=_start,
    precisions=("fp32", "fp16"),
    parts=tuple(f"{PACKAGE}/{part}" for part in (MANIFEST, PROGRAM, WEIGHTS)),
    elsewhere=ELSEWHERE,
)
