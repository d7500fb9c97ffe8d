"""What a package holds and says, beside the weights."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from converter.core.errors import ConverterError
from converter.core.nearest import meant
from converter.engines.original import Original
from converter.engines.runtime import Runtime
from converter.engines.runtimes import runtime_named
from converter.fetch.hub_client import check_name
from converter.publish.expectations import ONNX_FILES, PLACEHOLDER
from converter.publish.ort_web import PLACE, check_place
from converter.use.evaluation.dataset import Dataset


class Ingredients(TypedDict, total=False):
    """The fields of a :class:`Recipe` as keywords, but for the repository."""

    onnx: Iterable[str]
    calibration: str | Path | None
    evaluation: str | Path | Dataset | None
    license_id: str | None
    datasets: Sequence[str]
    about: Sequence[str]
    original: str | Original | None
    also: Iterable[str]
    page: bool
    runtime: str


@dataclass(frozen=True)
class Recipe:
    """What goes into a package.

    Attributes:
        onnx: which ONNX files: ``fp32``, ``fp16``, ``int8``.  The reduced ones are left out,
            with the reason in the card, where they miss their budget.
        calibration: a folder of typical images; every other one sets the ranges of 8-bit
            numbers, the others judge fp16 and 8 bits.
        evaluation: images whose truth is known, of which the card states how right the weights are: a folder with one
            subfolder a class, a list, a table, or a :class:`converter.Dataset` that also says what they are called.
        repo: ``owner/name`` on the Hub, for the card's examples.
        license_id: identifier of the weights' licence, ``apache-2.0`` say; default: the
            publisher's, for models of the zoo.
        datasets: names on the Hub of what the weights were trained on.
        about: paragraphs for the card.
        page: whether it has a page that classifies images in a browser.
        runtime: where that page loads ONNX Runtime Web from: an address, or a path from the page.
        original: the user's own network, as in a :class:`converter.Bench`: the proof then rests on its logits.
        also: other runtimes that get a float32 file of their own: ``openvino``, ``tflite`` ...; ``runtimes`` are those.

    Raises:
        ConverterError: there is no such precision or runtime, or it is no name of a repository, licence or function.

    Example:
        >>> from converter import Recipe
        >>> Recipe(onnx=["fp32"], license_id="apache-2.0").onnx
        ('fp32',)
    """

    onnx: Iterable[str] = tuple(ONNX_FILES)
    calibration: str | Path | None = None
    evaluation: str | Path | Dataset | None = None
    repo: str = PLACEHOLDER
    license_id: str | None = None
    datasets: Sequence[str] = ()
    about: Sequence[str] = ()
    original: str | Original | None = None
    also: Iterable[str] = ()
    runtimes: tuple[Runtime, ...] = field(init=False, compare=False)
    page: bool = False
    runtime: str = PLACE

    def __post_init__(self) -> None:
        if self.original is not None:
            object.__setattr__(self, "original", Original.of(self.original))
        asked = set(self.onnx)
        if unknown := asked - set(ONNX_FILES):
            known = ", ".join(ONNX_FILES)
            near = meant(min(unknown), ONNX_FILES)
            raise ConverterError(f"no precision is called {', '.join(sorted(unknown))}; there are {known}{near}")
        object.__setattr__(self, "onnx", tuple(precision for precision in ONNX_FILES if precision in asked))
        runtimes = tuple(dict.fromkeys(runtime_named(key) for key in self.also))
        object.__setattr__(self, "runtimes", runtimes)
        object.__setattr__(self, "also", tuple(runtime.key for runtime in runtimes))
        object.__setattr__(self, "runtime", check_place(self.runtime))
        if self.repo != PLACEHOLDER:
            check_name(self.repo)
        if self.license_id is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", self.license_id):
            raise ConverterError(
                f"--license {self.license_id}: not an identifier of a licence; apache-2.0 and mit are some"
            )
