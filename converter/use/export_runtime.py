"""Any checkpoint to a file of another runtime than ONNX Runtime, by the ending of its name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from converter.core.errors import ConverterError
from converter.core.files import placed, scratch, with_parents
from converter.core.model import Images, Model, several
from converter.core.shorthand import Shorthand, records
from converter.core.source import AnySource
from converter.engines.runtime import Job, Runtime, check_writers
from converter.engines.runtimes import runtime_for
from converter.exporters.lazy import LazyModel
from converter.use.calibrate import calibrate, calibration_inputs, images_of, input_shape
from converter.use.export import Precision
from converter.writing.target import read_for


@dataclass(frozen=True)
class RuntimeExport:
    """What :func:`export_runtime` did.

    Attributes:
        model: the weights as read.
        path: the file written.
        runtime, precision: for which, and in which numbers.
        size: of the images it takes; empty where it takes any.
        files: all that was written, with their bytes.
        notes: what was assumed on the way.
    """

    model: Model
    path: Path
    runtime: str
    precision: str
    size: tuple[int, ...]
    files: dict[str, int]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "source": self.model.origin.name,
            "source_sha256": self.model.origin.sha256,
            "target": str(self.path),
            "architecture": self.model.config.name,
            "runtime": self.runtime,
            "precision": self.precision,
            "size": list(self.size),
            "files": self.files,
            "notes": list(self.notes),
        }


def export_runtime(
    source: AnySource,
    target: str | Path,
    *,
    precision: str | Precision = "fp32",
    calibration: str | Path | None = None,
    images: Images | None = None,
    force: bool = False,
    **how: Unpack[Shorthand],
) -> RuntimeExport:
    """Write any DenseNet checkpoint for OpenVINO, torch.export, TorchScript, LiteRT, Core ML or ExecuTorch.

    Args:
        source: a checkpoint, as for :func:`converter.load`.
        target: its ending says for which: ``.xml``, ``.pt2``, ``.pt``, ``.tflite``, ``.mlpackage``, ``.pte``.
        precision: as for :func:`converter.export_onnx`, where the runtime has it.
        calibration: a folder of typical images for ``int8``.
        images: what its images and classes are, where the source does not say.
        force: whether a file that this tool did not write may be replaced, or the source.
        how: how to read the checkpoint, and the fields of ``images``.

    Raises:
        Unavailable: the runtime's converter is not installed; says what to install.
        ConverterError: one of its kinds; the target is then as it was before.

    Example:
        >>> from converter import export_runtime
        >>> export_runtime("digits.pth", "digits.pt").runtime
        'TorchScript'
    """
    target = Path(target)
    runtime = runtime_for(target)
    precision = Precision.of(precision, calibration)
    if precision.name not in runtime.precisions:
        known = ", ".join(runtime.precisions)
        raise ConverterError(f"{target}: is written for {runtime.name} in {known}, not in {precision.name}")
    check_writers([runtime], target)
    wanted, said = records(source, images, how)
    model = read_for(target, wanted, force=force).model.described(said).fingerprinted()
    if model.config.heads:
        raise several(model.config, f"{target}: a file for {runtime.name} gives the logits of one head")
    runtime.check_takes(model)
    job = Job(model, precision.name, input_shape(model, 1), lambda: graph_of(model, precision))
    with with_parents(target), scratch(target.absolute().parent) as folder:
        runtime.save(job, folder / target.name)
        written = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        sizes = {name: path.stat().st_size for name, path in written.items()}
        placed(folder, target, force=force)
    size = job.shape[2:] if runtime.fixed else ()
    return RuntimeExport(
        model, target, runtime.name, precision.name, size, sizes, (*model.notes, *fixed_note(job, runtime))
    )


def graph_of(model: Model, precision: Precision) -> LazyModel:
    """The ONNX graph that a runtime's converter takes over, in 8 bits where that is the precision."""
    from converter.exporters.onnx import lazy_onnx  # noqa: PLC0415 (onnx is slow to import)

    made = lazy_onnx(model)
    if precision.name != "int8":
        return made
    typical = images_of(model, precision.calibration) if precision.calibration else ()
    return calibrate(made, calibration_inputs(model, typical))


def fixed_note(job: Job, runtime: Runtime) -> tuple[str, ...]:
    """That a file takes images of one size alone, where it does."""
    if not runtime.fixed:
        return ()
    said = job.model.images.preprocess
    size = "x".join(map(str, job.shape[2:]))
    why = "what its images are cropped to" if said and said.crop else "the usual; the source says none"
    return (f"the file takes one image at a time, of {size} ({why})",)
