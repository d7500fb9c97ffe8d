"""A candidate: an ONNX file, an ONNX graph in memory, or a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx

from converter.core.errors import ConverterError
from converter.core.model import Model
from converter.core.source import AnySource, Source
from converter.engines.onnxruntime import main_output
from converter.engines.run import Run
from converter.engines.specs import THREADED, Spec
from converter.exporters.lazy import LazyModel
from converter.exporters.onnx import lazy_onnx, to_onnx
from converter.fetch.place import Place, resolve
from converter.formats.onnx_file import is_onnx
from converter.parity.proto import (
    channels_last,
    fixed_size,
    has_free_batch,
    is_own,
    precision_of,
    read_proto,
    read_structure,
)
from converter.reading.inspection import Inspection
from converter.reading.load import inspect_place


@dataclass(frozen=True)
class Artifact:
    """A candidate, opened once.

    Attributes:
        name: what reports call it.
        place: the file; None for what is in memory.
        wanted: how to read it.
        proto: of an ONNX file, or of one that is none yet, without the weights' values; None for another checkpoint.
        made: what is no file yet.
    """

    name: str
    place: Place | None
    wanted: Source
    proto: onnx.ModelProto | None
    made: LazyModel | None = None

    @classmethod
    def open(cls, source: AnySource) -> Artifact:
        """An ONNX file, by its name; any other checkpoint.

        Raises:
            ConverterError: it cannot be read, or is no DenseNet.
        """
        wanted = Source.of(source)
        place = resolve(wanted.address)
        if is_onnx(place.path):
            with place.kept_if_read():
                return cls(place.path.name, place, wanted, read_structure(place.path))
        result = cls(place.path.name, place, wanted, None)
        assert result.inspection  # reads it, or says why it cannot
        return result

    @classmethod
    def export(cls, model: Model) -> Artifact:
        """The ONNX graph of a model, which is no file."""
        made = lazy_onnx(model)
        return cls("its own export", None, Source(""), made.proto, made)

    @classmethod
    def open_all(cls, sources: Sequence[AnySource]) -> list[Artifact]:
        """Several, each once, under names that tell them apart.

        Raises:
            ConverterError: one cannot be read, or is no DenseNet.
        """
        wanted: list[Source] = []
        for source in map(Source.of, sources):
            wanted += [source] if source not in wanted else []
        files = [cls.open(source) for source in wanted]
        names, addresses = [file.name for file in files], [str(source.address) for source in wanted]
        for i, (file, source) in enumerate(zip(files, wanted)):
            if names.count(file.name) > 1:
                how = f" ({source.how()})" if addresses.count(addresses[i]) > 1 and source.how() else ""
                files[i] = replace(file, name=f"{addresses[i]}{how}")
        return files

    @property
    def path(self) -> Path | None:
        """The file, if there is one."""
        return self.place.path if self.place else None

    @cached_property
    def inspection(self) -> Inspection:
        """The file as we read it; of an ONNX file what its graph computes.

        Raises:
            ConverterError: it cannot be read, or is no DenseNet.
        """
        if self.place is None:
            raise ConverterError(f"{self.name}: is no file")
        return inspect_place(self.place, self.wanted, hashed=False)

    @property
    def model(self) -> Model | None:
        """The checkpoint as a model; None for ONNX."""
        return None if self.proto is not None else self.inspection.model

    def source(self) -> Path | LazyModel | None:
        """The ONNX file, or what is none yet, for an engine; None for another checkpoint."""
        return self.made or (self.path if self.proto is not None else None)

    def precision(self) -> str:
        """``fp32``, ``fp16``, ``bf16`` or ``int8``: what most of its weights are."""
        return precision_of(self.proto) if self.proto is not None else precision_of_model(self.inspection.model)

    def named_graph(self) -> onnx.ModelProto:
        """A graph with library names: the file's own, or one of the network it was read as.

        That has norms folded: a foreign file may have them folded, and then nobody can tell them apart.

        Raises:
            ConverterError: it is no DenseNet we can read.
        """
        if self.made is not None:
            return self.made.whole()
        if self.proto is not None and self.path is not None and self.is_own():
            return read_proto(self.path)
        return to_onnx(self.inspection.model, graph="fused" if self.proto is not None else "exact")

    def is_own(self) -> bool:
        """Whether it is no ONNX file of others: its values have library names."""
        return self.proto is None or is_own(self.proto)

    def further_outputs(self) -> list[str]:
        """What an ONNX file gives beside its logits."""
        names = [value.name for value in self.proto.graph.output] if self.proto is not None else []
        return [name for name in names if name != main_output(names)]

    def fixed(self) -> tuple[int, ...]:
        """The height and width it is fixed to; empty if it takes any."""
        return fixed_size(self.proto) if self.proto is not None else ()

    def takes_any_batch(self) -> bool:
        """Whether it is an ONNX file that does not fix how many images come at once."""
        return self.proto is not None and has_free_batch(self.proto)

    def runs(self, specs: Sequence[Spec], output: str = "") -> Iterator[tuple[str, Callable[[], Run]]]:
        """For each engine that can run it, its name and how to start it; for another output than the logits."""
        kinds = THREADED if self.proto is not None else ("torch",)
        default = Spec(kinds[0])
        chosen = [spec for spec in specs if spec.kind in kinds] or [default]
        for spec in chosen:
            start = partial(spec.start, self.source(), self.model, output)
            yield f"{spec.label}, {self.name}", partial(transposing, start) if self.is_channels_last() else start

    def is_channels_last(self) -> bool:
        """Whether it is an ONNX file that takes images (N, H, W, C)."""
        return self.proto is not None and channels_last(self.proto)


def transposing(start: Callable[[], Run]) -> Run:
    """An engine that takes images (N, H, W, C), for ours."""
    run = start()
    return lambda x: run(np.ascontiguousarray(np.moveaxis(x, 1, -1)))


def precision_of_model(model: Model) -> str:
    """``fp16`` or ``bf16`` if all weights of a checkpoint are stored so, else ``fp32``."""
    kinds = {str(t.dtype) for t in model.tensors.values() if len(t.shape) > 1}
    return {"float16": "fp16", "bfloat16": "bf16"}.get(kinds.pop(), "fp32") if len(kinds) == 1 else "fp32"
