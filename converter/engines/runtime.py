"""What every runtime with files of its own is: how it is written, what a file says of itself, how it is run."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from converter.core.errors import CannotExpress, ConverterError, Unavailable, first_line
from converter.core.model import Model
from converter.engines.run import Run
from converter.exporters.lazy import LazyModel

INPUT, OUTPUT = "pixel_values", "logits"
"""What a file's input and output are called, where its format has names."""


@dataclass(frozen=True)
class Job:
    """What is to be written.

    Attributes:
        model: the weights, of one head.
        precision: ``fp32``, ``fp16`` or ``int8``.
        shape: of one image as a batch (1, C, *space), for formats of fixed size.
        graph: makes the ONNX graph, in 8 bits for ``int8``.
    """

    model: Model
    precision: str
    shape: tuple[int, ...]
    graph: Callable[[], LazyModel] = field(repr=False)


@dataclass(frozen=True)
class Declared:
    """What a file says of itself.

    Attributes:
        shape: of the images it takes, (N, C, *space); None for any length.  Empty where it does not say.
        width: of its logits; 0 where it does not say.
        precision: what most of its weights are stored in.
        metadata: what this tool wrote into it, text by key; nothing in files of others.
    """

    shape: tuple[int | None, ...]
    width: int
    precision: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Runtime:
    """A runtime.

    Attributes:
        key: what options call it.
        name: what people call it.
        suffix: how its files end.
        published: the file's path in a package.
        extra: of this project, which brings what it takes.
        writes, runs: the packages it takes to write a file, and to run one, as they are imported.
        precisions: in which it can be written.
        write: writes the file at a path, and what belongs to it beside it.
        matches: whether a path is a file of it.
        declared: what a file says of itself.
        start: the file as an engine, on that many threads; 0 for as many as there are cores.
        parts: all its paths in a package, where it is no single file.
        elsewhere: why no file of it is run here; empty where it can be.
        fixed: whether files take images of one size, one at a time.
        spatial_dims: of the networks it takes.
    """

    key: str
    name: str
    suffix: str
    published: str
    extra: str
    writes: tuple[str, ...]
    runs: tuple[str, ...]
    write: Callable[[Job, Path], None]
    matches: Callable[[Path], bool]
    declared: Callable[[Path], Declared]
    start: Callable[[Path, int], Run]
    precisions: tuple[str, ...] = ("fp32",)
    parts: tuple[str, ...] = ()
    elsewhere: str = ""
    fixed: bool = True
    spatial_dims: tuple[int, ...] = (1, 2, 3)

    def save(self, job: Job, path: Path) -> None:
        """Write the file at a path, and what belongs to it beside it.

        Raises:
            CannotExpress: the runtime's own converter fails on this network.
        """
        try:
            self.write(job, path)
        except (ConverterError, OSError):
            raise
        except Exception as error:  # whatever converters raise
            said = first_line(error) or type(error).__name__
            raise CannotExpress(f"{self.name}'s converter cannot convert this network ({said})") from error

    def lacks(self, packages: tuple[str, ...]) -> str:
        """How to install what is missing; empty if nothing is."""
        missing = [name for name in packages if find_spec(name) is None]
        return _not_installed(missing, [self.extra]) if missing else ""

    def check_takes(self, model: Model) -> None:
        """Notice before the work that it has no such networks.

        Raises:
            CannotExpress: it has not.
        """
        dims = model.config.spatial_dims
        if dims not in self.spatial_dims:
            what = {1: "signals", 2: "images", 3: "volumes"}[dims]
            raise CannotExpress(f"{self.name} takes no network of {what} ({dims}-D); an .onnx or OpenVINO's .xml does")

    def files(self) -> tuple[str, ...]:
        """All paths in a package."""
        return self.parts or (self.published,)


def check_writers(runtimes: Sequence[Runtime], target: Path) -> None:
    """Notice before the work which converters are missing.

    Raises:
        Unavailable: some are not installed; names all.
    """
    lacking = [runtime for runtime in runtimes if runtime.lacks(runtime.writes)]
    if lacking:
        missing = [name for runtime in lacking for name in runtime.writes if find_spec(name) is None]
        whose = [f"{runtime.name}'s" for runtime in lacking]
        extras = [runtime.extra for runtime in lacking]
        raise Unavailable(
            f"{target}: is written by {' and '.join(whose)} own converter{'s' * (len(whose) > 1)}; "
            f"{_not_installed(missing, extras)}"
        )


def _not_installed(packages: Iterable[str], extras: Iterable[str]) -> str:
    names = list(dict.fromkeys(packages))
    are = "is" if len(names) == 1 else "are"
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"{listed} {are} not installed: pip install 'densenet-converter[{','.join(dict.fromkeys(extras))}]'"


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Converters print how they are getting on, also from C++: that goes nowhere."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with tempfile.TemporaryFile() as sink:
        kept = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in kept:
                os.dup2(sink.fileno(), number)
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
