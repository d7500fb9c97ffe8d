"""A candidate: an ONNX file, an ONNX graph in memory, or a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx

from converter.convert import load
from converter.model import Model
from converter.parity.engines import Run
from converter.parity.onnx_checks import precision_of, read_proto
from converter.parity.specs import Spec
from converter.sources import resolve


@dataclass(frozen=True)
class Artifact:
    """A candidate: an ONNX file (or one in memory), or a checkpoint."""

    name: str
    path: Path | None
    proto: onnx.ModelProto | None
    model: Model | None = None

    @classmethod
    def open(cls, source: str | Path) -> Artifact:
        """An ONNX file, by its name; any other checkpoint.

        Raises:
            ConverterError: it cannot be read, or is no DenseNet.
        """
        place = resolve(source)
        if place.path.suffix == ".onnx":
            return cls(place.path.name, place.path, read_proto(place.path))
        return cls(place.path.name, place.path, None, load(source))

    @classmethod
    def export(cls, model: Model) -> Artifact:
        """The ONNX graph of a model, in memory."""
        from converter.exporters.onnx import to_onnx  # noqa: PLC0415

        return cls("its own export", None, to_onnx(model))

    def source(self) -> Path | bytes:
        """The ONNX file, or its bytes, for an engine."""
        assert self.proto is not None
        return self.path or self.proto.SerializeToString()

    def precision(self) -> str:
        """``fp32``, ``fp16``, ``bf16`` or ``int8``: what most of its weights are."""
        if self.proto is not None:
            return precision_of(self.proto)
        assert self.model is not None
        kinds = {str(t.dtype) for t in self.model.tensors.values() if len(t.shape) > 1}
        return {"float16": "fp16", "bfloat16": "bf16"}.get(kinds.pop(), "fp32") if len(kinds) == 1 else "fp32"

    def named_graph(self) -> onnx.ModelProto:
        """A graph with library names: the file's own, or that of the network it was read as.

        Raises:
            ConverterError: it is no DenseNet we can read.
        """
        from converter.exporters.onnx import to_onnx  # noqa: PLC0415

        if self.proto is not None and any(p.key == "densenet.config" for p in self.proto.metadata_props):
            return self.proto
        return to_onnx(self.model or load(self.path or ""), graph="exact")

    def runs(self, specs: Sequence[Spec]) -> Iterator[tuple[str, Callable[[], Run]]]:
        """For each engine that can run it, its name and how to start it."""
        kinds = ("onnxruntime", "openvino") if self.proto is not None else ("torch",)
        default = Spec(kinds[0])
        chosen = [spec for spec in specs if spec.kind in kinds] or [default]
        for spec in chosen:
            yield f"{spec.label}, {self.name}", partial(spec.start, self.source() if self.proto else None, self.model)
