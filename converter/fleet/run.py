"""One verb on many sources: what becomes of each, in the order of the sources, whatever is done first."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from converter.core.errors import ConverterError
from converter.core.files import scratch, sweep
from converter.core.source import Source
from converter.fetch.storage import stored
from converter.fleet.made import digest
from converter.fleet.outcome import CURRENT, DONE, FAILED, Outcome, Told
from converter.fleet.pool import Limits, Lost, Pool, memory_of_machine
from converter.fleet.sources import Found, Item, find, places
from converter.fleet.work import MAKERS, Job, do
from converter.use.in_order import cores

USUAL = Limits(600.0, 0)
"""What one source may take where nobody says: ten minutes, and an even share of the machine's memory."""
WARM: Mapping[str, Sequence[str]] = {
    "export": ("converter.use.export", "converter.exporters.onnx", "converter.exporters.presented"),
    "verify": ("converter.parity.verify", "converter.parity.report", "converter.publish.repository", "torch"),
    "package": ("converter.publish.package", "torch"),
}
COMPUTING = ("verify", "package")
"""Verbs that compute logits."""
WRITING = ("convert", "export")
"""Verbs that wait for the disk: one process more computes meanwhile (a tenth faster, of densenet121 on two cores)."""


@dataclass(frozen=True)
class Order:
    """What is to be done with many sources.

    Attributes:
        verb: inspect, convert, export, verify or package.
        reading: how each source is read; its address says nothing.
        folder: where results go; of ``verify``, where they are.
        ending: of the names of results.
        options: keywords of the verb's function.
        force: whether what is up to date is made again, and what others made is replaced.
        jobs: how many are done at once; 0 for as many as keep the cores busy.
        ray: the address of a Ray cluster that does it, empty for the one that is there; None for this machine.
        limits: of each; a memory of 0 for an even share of what the machine has.
        one: whether there is one source, and ``folder`` is the name of its result.
    """

    verb: str
    reading: Source
    folder: Path | None = None
    ending: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False
    jobs: int = 0
    limits: Limits = USUAL
    ray: str | None = None
    one: bool = False

    @property
    def makes(self) -> bool:
        """Whether there is a file or folder for each source afterwards."""
        return self.verb in MAKERS

    def pool(self) -> Pool:
        """Processes to do it in."""
        jobs = self.jobs or cores() + (self.verb in WRITING)
        memory = self.limits.memory or memory_of_machine() // jobs
        warm = ("converter.fleet.warm", "converter.fleet.work", *WARM.get(self.verb, ()))
        return Pool(do, jobs, replace(self.limits, memory=memory), warm, alone=self.verb in COMPUTING)

    def results(self, jobs: Sequence[Job]) -> Generator[tuple[int, Outcome | Lost], None, None]:
        """What becomes of each job, by its number, as it comes."""
        if self.ray is None:
            return self.pool().results(jobs)
        from converter.fleet.cluster import results  # noqa: PLC0415 (for few)

        return results(self.ray, jobs, self.limits, WARM.get(self.verb, ()))

    def sources(self, words: Sequence[str], *, recursive: bool) -> Found:
        """What the words mean; errors as for :func:`converter.fleet.sources.find`."""
        return find(words, recursive=recursive, leave_out=self.folder)


def jobs_of(order: Order, items: Sequence[Item]) -> list[Job]:
    """A job for each source.

    Raises:
        ConverterError: two results would be one; or the folder for results is none.
    """
    targets: list[Path | None] = [None] * len(items)
    if order.folder is not None and order.one:
        targets = [order.folder]
    elif order.folder is not None:
        if order.folder.exists() and not order.folder.is_dir():
            raise ConverterError(f"{order.folder}: is a file; many results go into a folder")
        results = [order.folder / place for place in places(items, order.ending)]
        if order.makes:
            _check_case(order.folder, results)
        targets = [*results]
    made = digest(order.verb, order.reading, order.options) if order.makes else ""
    return [
        Job(
            order.verb,
            replace(order.reading, address=item.address, made=made),
            target,
            item.walked,
            order.force,
            order.options,
        )
        for item, target in zip(items, targets)
    ]


def _check_case(folder: Path, targets: Sequence[Path]) -> None:
    """Refuse results of which one would be written over the other where names differ by case or accents' form alone.

    Raises:
        ConverterError: there are two.
    """
    known: dict[str, Path] = {}
    for target in targets:
        other = known.setdefault(unicodedata.normalize("NFC", str(target)).casefold(), target)
        if other != target and not stored(target) and not tells_case(folder):
            raise ConverterError(f"{other} and {target} would be one file there; name another folder")


def tells_case(folder: Path) -> bool:
    """Whether files in a folder, or in the first above it that is there, may differ by the case of their names."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    with scratch(folder) as made:
        return not made.with_name(made.name.upper()).exists()


def run(
    order: Order, jobs: Sequence[Job], progress: Callable[[int], None] = lambda _: None
) -> Generator[Told, None, None]:
    """Do all jobs, as many at once as the order says.

    What killed runs left where results go is removed, and folders that nothing was put into.
    """
    folders = sorted({job.target.parent for job in jobs if job.target is not None and order.makes}, reverse=True)
    for folder in (*folders, Path(tempfile.gettempdir())):
        sweep(folder)
    ready: dict[int, Outcome] = {}
    next_told = 0
    try:
        with closing(order.results(jobs)) as results:
            for number, result in results:
                progress(1)
                ready[number] = Outcome(FAILED, why=result.why, kind="stopped") if isinstance(result, Lost) else result
                while next_told in ready:
                    yield told(jobs[next_told], ready.pop(next_told))
                    next_told += 1
    finally:
        for folder in folders:
            sweep(folder)
            _remove_empty(folder, order.folder)


def told(job: Job, outcome: Outcome) -> Told:
    """What became of a job."""
    made = job.verb in MAKERS and outcome.status in (DONE, CURRENT)
    target = (stored(job.target) or str(job.target)) if made else ""
    return Told(str(job.source), target, outcome)


def _remove_empty(folder: Path, root: Path | None) -> None:
    """Remove a folder for results, and those it is in, as far as nothing is in them."""
    while root is not None and folder != root and folder.is_relative_to(root):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
