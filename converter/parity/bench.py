"""What artifacts are compared on, and in which engines."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from converter.core.errors import ConverterError
from converter.engines.original import Original
from converter.engines.specs import Spec, check_installed, parse_specs


class BenchFields(TypedDict, total=False):
    """The fields of a :class:`Bench` as keywords."""

    images: str | Path | None
    seed: int
    engines: Iterable[str]
    original: str | Original | None


@dataclass(frozen=True)
class Bench:
    """The conditions of a comparison.

    Attributes:
        images: a folder of images, or a ``.npy`` array of preprocessed ones, to use beside
            synthetic inputs; default: the digits that ship with the package.
        seed: of the synthetic inputs.
        engines: what computes (:mod:`converter.engines.specs`), e.g. ``onnxruntime-basic@1``, ``openvino``,
            ``torch-compiled``, ``torchvision``; default: ONNX Runtime, PyTorch, and the
            framework the reference comes from where it is installed.
        original: the user's own network, ``package.module:function`` or ``file.py:function``, run on the same inputs
            in a process of its own: proof that does not rest on our reading of the file.

    Raises:
        Unavailable: an engine is not installed.
        ConverterError: no engine has that name, or the original is no function.

    Example:
        >>> from converter import Bench
        >>> Bench(engines=["onnxruntime-basic@1"]).engines
        ('onnxruntime-basic@1',)
    """

    images: str | Path | None = None
    seed: int = 0
    engines: Iterable[str] = ()
    original: str | Original | None = None
    specs: tuple[Spec, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "engines", tuple(self.engines))
        object.__setattr__(self, "specs", tuple(parse_specs(self.engines)))
        if self.original is not None:
            object.__setattr__(self, "original", Original.of(self.original))
        if self.seed < 0:
            raise ConverterError(f"a seed is 0 or more, not {self.seed}")
        check_installed(self.specs)


USUAL = Bench()
"""What verification does where nobody says otherwise."""
