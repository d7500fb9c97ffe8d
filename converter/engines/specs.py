"""Engines by name: ``onnxruntime-basic@1`` is ONNX Runtime, basic optimisation, one thread."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from converter.core.errors import ConverterError, Unavailable
from converter.core.model import Model
from converter.core.nearest import meant
from converter.engines.devices import DEVICES, check_device
from converter.engines.frameworks import FRAMEWORKS, PACKAGES
from converter.engines.onnxruntime import LEVELS, onnx_engine, onnx_outputs
from converter.engines.openvino import openvino_engine
from converter.engines.run import Loadable, Outputs, Run
from converter.engines.torch import TorchForm, any_module, torch_engine, torch_heads, torch_module

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "torch": ("compiled", "channels-last"),
    "onnxruntime": (*LEVELS, *DEVICES),
    "openvino": (),
    **dict.fromkeys(FRAMEWORKS, ()),
}
"""Engines, and what may follow a hyphen."""
NAMES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
FORMS: Mapping[str, TorchForm] = {"": "eager", "compiled": "compiled", "channels-last": "channels_last"}
THREADED = ("onnxruntime", "openvino")
"""Engines that run ONNX files, on a number of threads."""
PATTERN = re.compile(r"(?P<kind>[a-z]+)(?:-(?P<option>[a-z-]+))?(?:@(?P<threads>[1-9][0-9]?))?")


@dataclass(frozen=True)
class Spec:
    """One engine.

    Attributes:
        kind: a key of ``OPTIONS``.
        option: one of its values, or nothing.
        threads: at work in one operator; 0 for as many as there are cores.
    """

    kind: str
    option: str = ""
    threads: int = 0

    @property
    def label(self) -> str:
        """What reports call it."""
        form = self.option or ("float32" if self.kind == "torch" else "")
        form = DEVICES[form].name if form in DEVICES else form
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}" if self.threads else ""
        return " ".join(filter(None, (NAMES.get(self.kind, self.kind), form, threads)))

    @property
    def how(self) -> dict[str, Any]:
        """What ONNX Runtime is told beside the file."""
        where = {"device": self.option} if self.option in DEVICES else {"level": self.option or "all"}
        return {"threads": self.threads, **where}

    def start(self, onnx: Loadable | None, model: Model | None, output: str = "") -> Run:
        """The engine on an ONNX file (one of its outputs; default the logits) or, for PyTorch, on a model.

        Raises:
            ConverterError: it does not take the file, or is not installed.
        """
        if self.kind == "torch":
            assert model is not None
            return torch_engine(torch_module(model), form=FORMS[self.option])
        assert onnx is not None
        if self.kind == "openvino":
            return openvino_engine(onnx, threads=self.threads, output=output)
        return onnx_engine(onnx, output=output, **self.how)

    def start_heads(self, onnx: Loadable | None, model: Model | None, outputs: Sequence[str]) -> Outputs:
        """The same for several heads at once: these outputs of an ONNX file, or all heads of a model.

        Raises:
            ConverterError: it does not take the file, or is not installed.
        """
        if self.kind == "torch":
            assert model is not None
            return torch_heads(any_module(model), form=FORMS[self.option])
        if self.kind == "openvino":
            runs = [self.start(onnx, model, output) for output in outputs]
            return lambda x: tuple(run(x) for run in runs)
        assert onnx is not None
        return onnx_outputs(onnx, outputs, **self.how)


def parse_specs(texts: Iterable[str]) -> list[Spec]:
    """Engines by their names.

    Raises:
        ConverterError: no engine has that name.
    """
    result = []
    for text in texts:
        found = PATTERN.fullmatch(text)
        kind, option = (found["kind"], found["option"] or "") if found else ("", "")
        threaded = found is not None and (not found["threads"] or kind in THREADED)
        if kind not in OPTIONS or (option and option not in OPTIONS[kind]) or not threaded:
            known = ", ".join(k + (f"[-{'|'.join(v)}]" if v else "") for k, v in OPTIONS.items())
            names = [*OPTIONS, *(f"{name}-{option}" for name, options in OPTIONS.items() for option in options)]
            near = meant(text, names)
            raise ConverterError(f"no engine is called {text!r}; there are {known}, and @N for N threads{near}")
        assert found is not None
        result.append(Spec(kind, option, int(found["threads"] or 0)))
    return result


def check_installed(specs: Iterable[Spec]) -> None:
    """Notice before the work that an engine is missing.

    Raises:
        Unavailable: it is not installed, or its device cannot be used.
    """
    for spec in specs:
        if spec.option in DEVICES:
            check_device(spec.option)
        if spec.kind in (*FRAMEWORKS, "openvino") and find_spec(spec.kind) is None:
            raise Unavailable(f"{spec.kind} is not installed: pip install {PACKAGES.get(spec.kind, spec.kind)}")
