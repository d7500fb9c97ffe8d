"""A candidate: an ONNX file, an ONNX graph in memory, or a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx

from converter.core.errors import ConverterError
from converter.core.model import Model, several
from converter.core.source import AnySource, Source
from converter.engines.onnxruntime import main_output
from converter.engines.run import Run
from converter.engines.specs import THREADED, Spec
from converter.exporters.lazy import LazyModel
from converter.exporters.onnx import lazy_onnx, to_onnx
from converter.fetch.place import Place, resolve
from converter.formats.onnx_file import is_onnx
from converter.parity.heads import branch_of, heads_of
from converter.parity.joint import Joint
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
from densenet.topology import FEATURES

PARTS = re.compile(r"[^\w-]+")
"""What stands between the parts of names that others give to results."""


@dataclass(frozen=True)
class Artifact:
    """A candidate, opened once.

    Attributes:
        name: what reports call it.
        place: the file; None for what is in memory.
        wanted: how to read it.
        proto: of an ONNX file, or of one that is none yet, without the weights' values; None for another checkpoint.
        made: what is no file yet.
        head: of several heads the one that is judged.
        branched: ``proto`` is that head's graph, of several in a file of this tool.
        results: what such a file gives, of all heads.
        joint: what is computed for all heads at once.
    """

    name: str
    place: Place | None
    wanted: Source
    proto: onnx.ModelProto | None
    made: LazyModel | None = None
    head: str = ""
    branched: bool = False
    results: tuple[str, ...] = ()
    joint: Joint | None = None

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
        assert result.found  # reads it, or says why it cannot
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
    def found(self) -> Inspection:
        """The whole file as we read it.

        Raises:
            ConverterError: it cannot be read, or is no DenseNet.
        """
        if self.place is None:
            raise ConverterError(f"{self.name}: is no file")
        return inspect_place(self.place, self.wanted, hashed=False)

    @cached_property
    def inspection(self) -> Inspection:
        """The file, or the one head of it, as we read it; of an ONNX file what its graph computes.

        Raises:
            ConverterError: it cannot be read, is no DenseNet, or has not that head.
        """
        found = self.found
        config, chosen = found.model.config, found.chosen
        if not config.heads and not self.head:
            return found
        if not config.heads:
            raise ConverterError(f"{self.name}: has one head, the reference several; --head NAME compares one of them")
        if self.head not in (head.name for head in config.heads):
            raise several(config, f"{self.name} is compared with one head")
        model = replace(found.model.branch(self.head), stated={})
        return replace(found, model=model, chosen=replace(chosen, config=config.branch(self.head)))

    def of(self, head: str, joint: Joint | None = None) -> Artifact:
        """The same for one of several heads; with what is computed for all of them.

        Raises:
            ConverterError: it has no such head.
        """
        config = heads_of(self.proto) if self.proto is not None else None
        result = replace(self, head=head, joint=joint)
        if self.proto is None or config is None:
            return result
        if head not in (each.name for each in config.heads):
            raise several(config, f"{self.name} is compared with head {head or 'one'}")
        given = tuple(value.name for value in self.proto.graph.output)
        return replace(result, proto=branch_of(self.proto, config, head), branched=True, results=given)

    def output(self, name: str) -> str:
        """What the file calls an output of the plain network; the logits where nothing is asked for.

        Raises:
            ConverterError: its results are not called as its heads.
        """
        if not self.head or self.proto is None or name == FEATURES:
            return name
        if self.branched:
            return f"{self.head}.{name}" if name else self.head
        found = [str(value.name) for value in self.proto.graph.output if self.head in PARTS.split(value.name)]
        if len(found) != 1:
            raise ConverterError(f"{self.name}: which of its results is {self.head} is not known")
        return found[0]

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
            whole = self.made.whole()
        elif self.proto is not None and self.path is not None and self.is_own():
            whole = read_proto(self.path)
        else:
            return to_onnx(self.inspection.model, graph="fused" if self.proto is not None else "exact")
        config = heads_of(whole) if self.branched else None
        return branch_of(whole, config, self.head) if config is not None else whole

    def is_own(self) -> bool:
        """Whether it is no ONNX file of others: its values have library names."""
        return self.proto is None or is_own(self.proto)

    def further_outputs(self) -> list[str]:
        """What an ONNX file gives beside its logits."""
        names = [value.name for value in self.proto.graph.output] if self.proto is not None else []
        main = self.output("") if self.head and not self.branched and names else main_output([*names, ""])
        return [name for name in names if name != main]

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
            engine = f"{spec.label}, {self.name}"
            start = self.started_once(spec, engine, output) or partial(
                spec.start, self.source(), self.model, self.output(output)
            )
            yield engine, partial(transposing, start) if self.is_channels_last() else start

    def started_once(self, spec: Spec, engine: str, output: str) -> Callable[[], Run] | None:
        """How to start an engine that runs once for all heads; None where there are no others."""
        if self.joint is None:
            return None
        try:
            outputs = [replace(self, head=head).output(output) for head in self.joint.heads]
        except ConverterError:  # others' names: one of the heads is not found among the results
            return None
        if self.branched and not {*outputs} <= {*self.results}:  # probabilities, say, of some
            return None
        model = None if self.proto is not None else self.found.model
        start = partial(spec.start_heads, self.source(), model, outputs)
        return partial(self.joint.run, f"{engine}, {output}", self.head, start)

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
