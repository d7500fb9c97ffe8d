"""What a network says of a set of images, by a Ray cluster: Ray Data hands blocks to actors, each with the network.

A block is what is worked on together, whoever does it (:mod:`converter.use.rows`): the same images in the same batches,
on one thread.  So rows are those of a local run, bit for bit, on processors of one kind.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, Unavailable, first_line
from converter.core.metadata import TOOL
from converter.core.model import Images
from converter.core.source import AnySource, Source
from converter.fleet.cluster import check_version, connected
from converter.use.kept import identity
from converter.use.network import More
from converter.use.predict import predictor
from converter.use.predictor import Predictor
from converter.use.rows import Rows, Session, rows_of, session
from converter.use.sets.record import Block, stamps
from densenet.depth import Say
from densenet.pixels import ImageSource

MOST_PIECES = 4096
"""Pieces of a set that Ray Data keeps account of; each has one block, or several in a row."""


@dataclass(frozen=True)
class Asked:
    """Which network answers, and how: what an actor starts it from, wherever it is.

    Attributes:
        source, engine, images, head: as for :func:`converter.use.predict.predictor`.
        more, upright: as for :func:`converter.use.rows.session`.
        versions: of this tool and of the engine.
        identity: of the network and of how images are prepared.
        folder: where relative names begin.
    """

    source: Source
    engine: str
    images: Images | None
    head: str
    more: tuple[More, ...]
    upright: bool
    versions: str
    identity: str
    folder: str


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and the network it is to be asked about; used in the place of :func:`converter.use.rows.session`.

    Attributes:
        address: as for :func:`converter.fleet.cluster.connected`.
        source, engine, images, head: as for :func:`converter.use.predict.predictor`.
    """

    address: str
    source: AnySource
    engine: str = "onnxruntime"
    images: Images | None = None
    head: str = ""

    def __call__(self, predictor: Predictor, more: Sequence[More] = (), *, upright: bool = True) -> Session:
        """What answers for many blocks."""
        source = Source.of(self.source)
        how = (self.engine, self.images, self.head, tuple(more), upright)
        here = (_versions(self.engine), identity(predictor, more), os.getcwd())  # noqa: PTH109 (as it is called)
        asked = Asked(source, *how, *here)
        return _OnRay(_nobody, _nothing, predictor.batch, address=self.address, asked=asked)


def _nobody(images: Array) -> tuple[Array, ...]:
    raise NotImplementedError


def _nothing(image: ImageSource, say: Say) -> Array:
    raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class _OnRay(Session):
    """Has no network itself; actors do."""

    address: str
    asked: Asked
    processors: Counter[str] = field(default_factory=Counter)

    def rows(self, blocks: Iterable[Block]) -> Iterator[Rows]:
        """What the actors say of blocks, in their order.

        Raises:
            ConverterError: a part cannot be read, or a node differs.
        """
        asked = list(blocks)
        pieces = [{"block": pickle.dumps(piece)} for piece in zip(asked, stamps(asked))]
        if not pieces:
            return
        ray = connected(self.address)
        data = _ray_data()
        kind = "GPU" if "-" in self.asked.engine else "CPU"  # of which an actor has one
        there = max(1, min(len(pieces), int(ray.cluster_resources().get(kind, 0))))
        found = data.from_items(pieces, override_num_blocks=min(len(pieces), MOST_PIECES)).map(
            _Actor, fn_constructor_args=(self.asked,), num_cpus=1, num_gpus=int(kind == "GPU"), concurrency=there
        )
        try:
            for row in found.iter_rows():
                result = pickle.loads(row["rows"])  # noqa: S301 (our own, from our own actors)
                if isinstance(result, ConverterError):
                    raise result
                self.processors[row["processor"]] += 1
                yield result
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise Unavailable(f"Ray: {first_line(cause)}") from error

    def said(self) -> list[str]:
        """Where bits may differ from those of one machine."""
        kinds = ", ".join(sorted(self.processors))
        many = f"the nodes have processors of {len(self.processors)} kinds ({kinds}), whose last bits may differ"
        return [many] if len(self.processors) > 1 else []


def _ray_data() -> Any:
    """Ray Data, which gives rows in their order and says nothing beside."""
    from ray import data  # noqa: PLC0415 (large, for few)

    context = data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return data


class _Actor:
    """A network on a core of some node."""

    def __init__(self, asked: Asked) -> None:
        self.session: Session | ConverterError
        try:
            self.session = _started(asked)
        except ConverterError as error:  # an error in here is done again and again
            self.session = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The rows of a block."""
        result: Rows | ConverterError
        try:
            if isinstance(self.session, ConverterError):
                raise self.session
            block, stamp = pickle.loads(row["block"])  # noqa: S301 (our own)
            if block.stamp() != stamp:
                raise Unavailable(f"{os.uname().nodename}: {block.part.name} is not there, or is another file")
            result = rows_of(self.session, block)
        except ConverterError as error:
            result = error
        return {"rows": pickle.dumps(result), "processor": _processor()}


def _started(asked: Asked) -> Session:
    """Start the network.

    Raises:
        ConverterError: it cannot be read here, is another here, or this node has other versions.
    """
    check_version(asked.versions, _versions(asked.engine))
    with suppress(OSError):  # relative names mean the same on a shared disk
        os.chdir(asked.folder)
    loaded = predictor(
        asked.source, engine=asked.engine, images=asked.images, features=bool(asked.more), head=asked.head
    )
    if identity(loaded, asked.more) != asked.identity:
        raise Unavailable(f"{os.uname().nodename}: {asked.source} is another network there")
    return session(loaded, asked.more, upright=asked.upright, threads=1)


def _versions(engine: str) -> str:
    return f"{TOOL}, {engine} {getattr(import_module(engine.partition('-')[0]), '__version__', '')}"


@lru_cache(maxsize=1)
def _processor() -> str:
    """The kind of this machine's processor."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return os.uname().machine
