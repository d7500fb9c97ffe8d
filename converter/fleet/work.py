"""What is done with one source of many, in a process of its own."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from converter.core.errors import (
    CannotExpress,
    CannotWrite,
    ConverterError,
    ForeignFile,
    NotADenseNet,
    NoTensors,
    Unavailable,
    UnreadableFile,
    UnsafeFile,
    VerificationFailed,
)
from converter.core.files import make_folder
from converter.core.model import Model
from converter.core.source import Source
from converter.fetch.folders import OTHERS
from converter.fetch.hub_files import SUFFIXES
from converter.fetch.storage import stored
from converter.fleet.made import making
from converter.fleet.outcome import CURRENT, DONE, FAILED, FOREIGN, PART, Outcome
from converter.formats.parts import named_by

# What one verb needs is imported when it is done: in a process that is warm this costs nothing.
# ruff: noqa: PLC0415

KINDS: Mapping[type[ConverterError], str] = {
    UnsafeFile: "unsafe",
    UnreadableFile: "cannot be read",
    NotADenseNet: "not a DenseNet",
    CannotExpress: "cannot be expressed",
    CannotWrite: "cannot be written",
    Unavailable: "cannot be had",
    VerificationFailed: "not the same network",
    ConverterError: "wants a setting",
}
"""Why a source is refused, in a few words, by what is raised; the first that fits."""
NO_MEMORY, BUG = "not enough memory", "an error of this tool"
PROGRAMS = (".xml", ".pt2", ".pt", ".tflite", ".mlpackage", ".pte")
WRITTEN = (".safetensors", ".onnx", ".pth", ".bin", ".npz", ".h5", *PROGRAMS)
"""Endings of results that a source can be compared with."""


@dataclass(frozen=True)
class Job:
    """One source, and what to do with it.

    Attributes:
        verb: inspect, convert, export, verify or package.
        source: how it is read.
        target: where its result goes; of ``verify`` the name, without ending, of what is compared with it.
        walked: whether it was found by looking.
        force: whether it is done though that was done before.
        options: keywords of the verb's function.
    """

    verb: str
    source: Source
    target: Path | None = None
    walked: bool = False
    force: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def do(job: Job) -> Outcome:
    """Do it; what goes wrong is part of what became of it."""
    if stored(job.source.address) or stored(job.target or ""):
        from converter.fleet.stored import do_stored

        return do_stored(job, do)
    try:
        if job.target is not None and job.verb in MAKERS:
            if not job.force and (said := making(job.target, job.source)) is not None:
                return _current(said)
            make_folder(job.target.parent)
        return VERBS[job.verb](job)
    except ConverterError as error:
        return refused(job, error)
    except MemoryError:
        return Outcome(FAILED, why=NO_MEMORY, kind=NO_MEMORY)
    except OSError as error:
        return Outcome(FAILED, why=f"cannot be read or written ({error.strerror or error})", kind="cannot be read")
    except Exception as error:
        return Outcome(FAILED, why=f"{BUG}; please report it: {_where(error)}", kind=BUG)


def _where(error: Exception) -> str:
    """An error that should not be, in a line that says where it came from."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} ({error}) in {Path(at.filename).name}, line {at.lineno}"


def _current(said: Mapping[str, str]) -> Outcome:
    of, layout, network = (str(said.get(name, "")) for name in ("format", "layout", "architecture"))
    return Outcome(CURRENT, of, layout, network)


def refused(job: Job, error: ConverterError) -> Outcome:
    """What became of a job whose source or target is refused."""
    address = str(job.source.address)
    why = str(error).removeprefix(f"{address}: ")
    if job.walked:
        named = address.lower().endswith((*SUFFIXES, *OTHERS))
        with suppress(OSError):
            if (whole := named_by(Path(address))) is not None:
                return Outcome(PART, why=f"of {whole.name}")
        if isinstance(error, NoTensors) or (isinstance(error, ForeignFile) and (not named or address.endswith(".npy"))):
            return Outcome(FOREIGN, why=why)
    return Outcome(FAILED, why=why, kind=next(text for kind, text in KINDS.items() if isinstance(error, kind)))


def _done(model: Model, result: Mapping[str, Any], notes: tuple[str, ...], **more: Any) -> Outcome:
    of = model.origin
    return Outcome(DONE, of.format, of.layout, model.config.name, result, notes=notes, **more)


# -- verbs ----------------------------------------------------------------------------------------


def _inspect(job: Job) -> Outcome:
    from converter.reading.load import inspect

    found = inspect(job.source)
    facts = found.to_dict()
    if job.options.get("fingerprint"):
        from converter.core.fingerprint import Fingerprint

        facts["fingerprint"] = str(Fingerprint.of(found.model.tensors))
    return _done(found.model, facts, tuple(facts["notes"]))


def _convert(job: Job) -> Outcome:
    from converter.writing.convert import convert

    assert job.target is not None
    done = convert(job.source, job.target, force=job.force, **job.options)
    return _done(done.model, done.to_dict(), done.notes)


def _export(job: Job) -> Outcome:
    assert job.target is not None
    if job.target.suffix in PROGRAMS:
        from converter.use.export_runtime import export_runtime

        program = export_runtime(job.source, job.target, force=job.force, **job.options)
        return _done(program.model, program.to_dict(), program.notes)
    from converter.use.export import export_onnx

    done = export_onnx(job.source, job.target, force=job.force, **job.options)
    return _done(done.model, done.to_dict(), done.notes)


def _package(job: Job) -> Outcome:
    from converter.publish.package import package

    assert job.target is not None
    done = package(job.source, job.target, force=job.force, **job.options)
    left_out = tuple(f"{name} is left out: {why}" for name, why in done.left_out.items())
    return _done(done.model, done.to_dict(), (*done.model.notes, *left_out))


def _verify(job: Job) -> Outcome:
    from converter.parity.report import reason, suites
    from converter.parity.verify import verify
    from converter.publish.repository import is_repository, verify_repository
    from converter.reading.load import inspect

    address = str(job.source.address)
    model = inspect(job.source).model
    if job.target is None and Path(address).is_dir() and is_repository(address):
        verdict = verify_repository(address, **job.options)
    else:
        options = dict(job.options)
        candidates = options.pop("candidates", None)  # of a single source
        verdict = verify(job.source, *(candidates or _results(job.target)), **options)
    verdict = replace(verdict, seconds=None)  # the same verdict again, whenever it is made
    why, kind = ("", "") if verdict.passed else (reason(verdict), KINDS[VerificationFailed])
    made = _done(model, verdict.to_dict(), verdict.notes, suites=suites(verdict, address), why=why, kind=kind)
    return made if verdict.passed else replace(made, status=FAILED)


def _results(base: Path | None) -> list[Source]:
    """The files that were made of a source, by what their names begin with.

    Raises:
        UnreadableFile: there is none.
    """
    if base is None:
        return []
    found = [path for ending in WRITTEN if (path := base.with_name(base.name + ending)).exists()]
    if not found:
        raise UnreadableFile(f"nothing to compare it with: no {base} with the ending of a result")
    return [Source(path) for path in found]


VERBS: Mapping[str, Callable[[Job], Outcome]] = {
    "inspect": _inspect,
    "convert": _convert,
    "export": _export,
    "verify": _verify,
    "package": _package,
}
MAKERS = ("convert", "export", "package")
"""Verbs that leave a file or folder for each source."""
