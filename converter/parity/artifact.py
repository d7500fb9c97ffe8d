"""A candidate: an ONNX file, an ONNX graph in memory, a file of another runtime, or a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, Unavailable
from converter.core.interface import Presented
from converter.core.metadata import CONFIG_KEY, json_or_none
from converter.core.model import Model, several
from converter.core.source import AnySource, Source
from converter.engines.onnxruntime import main_output
from converter.engines.run import Run
from converter.engines.runtime import Declared, Runtime
from converter.engines.runtimes import runtime_of
from converter.engines.specs import THREADED, Spec
from converter.exporters.graph import PROBABILITIES
from converter.exporters.lazy import LazyModel
from converter.exporters.onnx import lazy_onnx, to_onnx
from converter.exporters.outputs import maps_in
from converter.exporters.presented import plain
from converter.fetch.place import Place, resolve
from converter.formats.onnx_file import is_onnx
from converter.parity.heads import branch_of, heads_of
from converter.parity.joint import Joint
from converter.parity.precision import precision_of_model, precision_of_values
from converter.parity.proto import (
    channels_last,
    fixed_size,
    has_free_batch,
    inputs_of,
    is_own,
    precision_of,
    read_proto,
    read_structure,
    takes_pixels,
)
from converter.reading.inspection import Inspection
from converter.reading.load import inspect_place
from densenet.config import DenseNetConfig
from densenet.topology import FEATURES, LOGITS

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
            One of this tool's is without its interface, which hides nothing but names, axes and types.
        made: what is no file yet.
        given: the same as it is in the file.
        problem: why an interface could not be taken off.
        runtime: of a file that has its own.
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
    given: onnx.ModelProto | None = None
    problem: str = ""
    runtime: Runtime | None = None
    head: str = ""
    branched: bool = False
    results: tuple[str, ...] = ()
    joint: Joint | None = None

    @classmethod
    def open(cls, source: AnySource) -> Artifact:
        """An ONNX file or another runtime's, by its name; any other checkpoint.

        Raises:
            Unavailable: its runtime is not installed.
            ConverterError: it cannot be read, or is no DenseNet.
        """
        wanted = Source.of(source)
        place = resolve(wanted.address)
        if is_onnx(place.path):
            with place.kept_if_read():
                return cls.of_onnx(place.path.name, place, wanted)
        runtime = runtime_of(place.path)
        if runtime is not None and not runtime.elsewhere:
            if lacks := runtime.lacks(runtime.runs):
                raise Unavailable(f"{place.path}: is compared in {runtime.name}; {lacks}")
            return cls(place.path.name, place, wanted, None, runtime=runtime)
        suffix = runtime.suffix if runtime is not None else ""
        packages = (folder.name for folder in place.path.parents if suffix and folder.suffix == suffix)
        result = cls(next(packages, place.path.name), place, wanted, None)
        assert result.found  # reads it, or says why it cannot
        return result

    @classmethod
    def of_onnx(cls, name: str, place: Place, wanted: Source) -> Artifact:
        """An ONNX file.

        Raises:
            ConverterError: it cannot be read.
        """
        given = read_structure(place.path)
        try:
            return cls(name, place, wanted, plain(given) if is_own(given) else given, given=given)
        except ConverterError as error:
            return cls(name, place, wanted, given, given=given, problem=str(error))

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
        if self.is_headless():
            return self
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
        if not self.head or self.proto is None or name not in ("", PROBABILITIES):
            return name
        if self.branched:
            return f"{self.head}.{name}" if name else self.head
        found = [str(value.name) for value in self.proto.graph.output if self.head in PARTS.split(value.name)]
        if len(found) != 1:
            raise ConverterError(f"{self.name}: which of its results is {self.head} is not known")
        return found[0]

    @property
    def model(self) -> Model | None:
        """The checkpoint as a model; None for what is run as it is."""
        return None if self.proto is not None or self.runtime is not None else self.inspection.model

    @property
    def elsewhere(self) -> str:
        """Why it is read and not run in its own engine; empty where it is run, or has none."""
        runtime = runtime_of(self.path) if self.path is not None and self.proto is None else None
        return runtime.elsewhere if runtime is not None else ""

    @cached_property
    def declared(self) -> Declared:
        """What a file of another runtime says of itself.

        Raises:
            ConverterError: its runtime cannot load it.
        """
        assert self.runtime is not None and self.path is not None
        return self.runtime.declared(self.path)

    def source(self) -> Path | LazyModel | None:
        """The ONNX file, or what is none yet, for an engine; None for another checkpoint."""
        return self.made or (self.path if self.proto is not None else None)

    def precision(self) -> str:
        """``fp32``, ``fp16``, ``bf16`` or ``int8``: what most of its weights are."""
        if self.proto is not None:
            return precision_of(self.proto)
        if self.runtime is not None:
            return self.declared.precision
        return (precision_of_values if self.elsewhere else precision_of_model)(self.inspection.model)

    def named_graph(self) -> onnx.ModelProto:
        """A graph with library names: the file's own, or one of the network it was read as.

        That has norms folded: a foreign file may have them folded, and then nobody can tell them apart.

        Raises:
            ConverterError: it is no DenseNet we can read.
        """
        if self.made is not None:
            whole = self.made.whole()
        elif self.proto is not None and self.path is not None and self.is_own():
            whole = plain(read_proto(self.path))
        else:
            return to_onnx(self.inspection.model, graph="fused" if self.proto is not None else "exact")
        config = heads_of(whole) if self.branched else None
        return branch_of(whole, config, self.head) if config is not None else whole

    def is_own(self) -> bool:
        """Whether it is no ONNX file of others (its values have library names), nor another runtime's."""
        if self.runtime is not None:
            return CONFIG_KEY in self.declared.metadata
        return self.proto is None or is_own(self.proto)

    def main(self) -> str:
        """The output that is compared first; empty where a file of this tool gives maps alone."""
        if self.proto is None:
            return LOGITS
        names = [value.name for value in self.proto.graph.output]
        if self.head and not self.branched and names:
            return self.output("")
        if self.is_own() and self.given is not None:
            return next((name for name in (LOGITS, FEATURES) if name in names), "" if self.said().values else names[0])
        return main_output([*names, ""])

    def is_headless(self) -> bool:
        """Whether it is a file of this tool that ends before the classifier of whatever it was made from."""
        if self.proto is None or not self.is_own():
            return False
        said = json_or_none(next((prop.value for prop in self.proto.metadata_props if prop.key == CONFIG_KEY), ""))
        with suppress(ValueError, TypeError, AttributeError):  # what is damaged is found by other checks
            config = DenseNetConfig.from_dict(said)
            return not config.num_classes and not config.heads
        return False

    def further_outputs(self) -> list[str]:
        """What an ONNX file gives beside its logits."""
        main = self.main()
        return [value.name for value in self.proto.graph.output if value.name != main] if self.proto is not None else []

    def called(self, output: str) -> str:
        """What the file itself calls an output."""
        pairs: list[tuple[str, str]] = []
        if self.proto is not None and self.given is not None and not self.branched:
            pairs = [(ours.name, theirs.name) for ours, theirs in zip(self.proto.graph.output, self.given.graph.output)]
        elif self.given is not None and self.branched:
            whole = plain(self.given)
            pairs = [(ours.name, theirs.name) for ours, theirs in zip(whole.graph.output, self.given.graph.output)]
        return dict(pairs).get(output, output)

    def said(self) -> Presented:
        """What a file of this tool says of its input and outputs."""
        if self.given is None or self.problem or not self.is_own():
            return Presented()
        return Presented.of({prop.key: prop.value for prop in self.given.metadata_props})

    def in_half(self) -> tuple[bool, bool]:
        """Whether a file of this tool takes float16, and whether it gives float16, and says so."""
        if self.given is None or self.said().dtype != "fp16":
            return False, False
        both = (inputs_of(self.given), self.given.graph.output)
        kinds = [[value.type.tensor_type.elem_type for value in values] for values in both]
        taken, given = (onnx.TensorProto.FLOAT16 in found for found in kinds)
        return taken, given

    def fixed(self) -> tuple[int, ...]:
        """The height and width it is fixed to; empty if it takes any."""
        if self.runtime is not None:
            space = self.declared.shape[2:]
            return tuple(n for n in space if n is not None) if None not in space else ()
        return fixed_size(self.proto) if self.proto is not None else ()

    def takes_any_batch(self) -> bool:
        """Whether it is a program that does not fix how many images come at once."""
        if self.runtime is not None:
            return self.declared.shape[:1] == (None,)
        return self.proto is not None and has_free_batch(self.proto)

    def runs(self, specs: Sequence[Spec], output: str = "") -> Iterator[tuple[str, Callable[[], Run]]]:
        """For each engine that can run it, its name and how to start it; for another output than the logits."""
        if self.runtime is not None:
            assert self.path is not None
            threads = next((spec.threads for spec in specs if spec.kind == self.runtime.key), 0)
            yield f"{self.runtime.name}, {self.name}", partial(self.runtime.start, self.path, threads)
            return
        kinds = THREADED if self.proto is not None else ("torch",)
        default = Spec(kinds[0])
        chosen = [spec for spec in specs if spec.kind in kinds] or [default]
        wanted = self.output(output) or self.main()
        half, last = self.in_half(), self.said().layout == "nhwc"
        maps = last and self.proto is not None and wanted in maps_in(self.proto)
        form = Form(self.is_channels_last() or (last and not self.takes_pixels()), maps, *half)
        for spec in chosen:
            engine = f"{spec.label}, {self.name}"
            name = self.called(wanted) if self.given is not None and self.is_own() else self.output(output)
            start = self.started_once(spec, engine, output) or partial(spec.start, self.source(), self.model, name)
            yield engine, start if form == Form() else partial(formed, start, form)

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
        start = partial(spec.start_heads, self.source(), model, [*map(self.called, outputs)])
        return partial(self.joint.run, f"{engine}, {output}", self.head, start)

    def takes_pixels(self) -> bool:
        """Whether it takes 8-bit images."""
        return self.proto is not None and takes_pixels(self.proto)

    def is_channels_last(self) -> bool:
        """Whether it is an ONNX file that takes images (N, H, W, C)."""
        return self.proto is not None and channels_last(self.proto)


@dataclass(frozen=True)
class Form:
    """How an engine's arrays differ from ours: channels last in and out, float16 in and out."""

    taken_last: bool = False
    given_last: bool = False
    taken_half: bool = False
    given_half: bool = False


def formed(start: Callable[[], Run], form: Form) -> Run:
    """An engine that takes and gives other arrays, for ours."""
    run = start()

    def ours(x: Array) -> Array:
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if form.taken_last else x
        result = run(x.astype(np.float16) if form.taken_half else x)
        if form.given_half and result.dtype == np.float16:
            result = result.astype(np.float32)
        return np.ascontiguousarray(np.moveaxis(result, -1, 1)) if form.given_last else result

    return ours
