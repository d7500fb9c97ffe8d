"""What a run over many sources would do and how long it would take, from a sample that is done and thrown away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converter.core.files import scratch
from converter.core.plan import MEASURED, Plan, about, counted, middles, several
from converter.fetch.storage import size_of, stored
from converter.fleet.outcome import FAILED, Outcome
from converter.fleet.pool import Lost
from converter.fleet.run import Order
from converter.fleet.work import Job, do


@dataclass(frozen=True, kw_only=True)
class FilePlan(Plan):
    """What a run would do.

    Attributes:
        jobs: how many at once.
        target: where results go; empty where there are none.
        there: results that are there already, which are made again where they are not up to date.
        parts: files that are parts of others.
        unknown: sources whose bytes are not known before they are read.
        one: whether it is one source, and ``target`` its result's own name.
    """

    jobs: int
    target: str = ""
    there: int = 0
    parts: int = 0
    unknown: int = 0
    one: bool = False

    def lines(self) -> list[str]:
        """In words."""
        unknown = f" (of {self.unknown:,} not known)" if self.unknown else ""
        parts = f"; {several(self.parts, 'file')} are parts of others" if self.parts else ""
        told = [f"{self.verb}: {several(self.total(0), 'source')}, {self.total(1):,} bytes{unknown}{parts}"]
        if self.target and self.one:
            told.append(f"the result is {self.target}{', which is there already' if self.there else ''}")
        elif self.target:
            there = f"{self.there:,} are there already, and skipped if they are up to date"
            told.append(f"results go to {self.target}; {there if self.there else 'none is there'}")
        if self.one:
            return [*told, f"{about(self.seconds)} (measured)"]
        none = ", if none is" if self.there else ""
        return [*told, f"{about(self.seconds)} with {self.jobs} at once{none} (measured on {self.measured} of them)"]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        own = {name: getattr(self, name) for name in ("target", "there", "parts", "unknown", "jobs")}
        return {**super().to_dict(), **own}


def plan(order: Order, jobs: Sequence[Job], parts: int) -> FilePlan:
    """Say what a run would do; errors of a sample count as work, as they do in a run."""
    names = [str(job.source) for job in jobs]
    sizes = [_size(str(job.source.address)) for job in jobs]
    there = sum(_is_there(job.target) for job in jobs if job.target is not None and order.makes)
    by_size = sorted(range(len(jobs)), key=lambda i: (sizes[i] or 0, names[i]))
    chosen = sorted(by_size[i] for i in middles(len(jobs), MEASURED))
    pool = order.pool()
    failed: dict[str, str] = {}
    took: list[float] = []
    with scratch(None if order.folder is None or stored(order.folder) else _existing(order.folder)) as folder:
        sample = [_away(jobs[i], folder / str(i)) if order.makes else jobs[i] for i in chosen]
        pool.work = timed
        for number, found in pool.results(sample):
            seconds, outcome = (pool.limits.seconds, found) if isinstance(found, Lost) else found
            took.append(seconds)
            if isinstance(outcome, Lost) or outcome.status == FAILED:
                failed[names[chosen[number]]] = outcome.why
    total = sum(took) / len(took) * len(jobs) / min(pool.processes, len(jobs)) if took else 0.0
    notes = ("what writing to storage takes is not measured",) if order.makes and stored(order.folder or "") else ()
    return FilePlan(
        verb=order.verb,
        kinds=counted(names, [size or 0 for size in sizes]),
        seconds=total,
        measured=len(took),
        failed={name: failed[name] for name in names if name in failed},
        notes=notes,
        jobs=min(pool.processes, max(len(jobs), 1)),
        target=(stored(order.folder) or str(order.folder)) if order.folder is not None and order.makes else "",
        there=there,
        parts=parts,
        unknown=sizes.count(None),
        one=order.one,
    )


def timed(job: Job) -> tuple[float, Outcome]:
    """Do a job, and say how many seconds that took."""
    start = time.perf_counter()
    done = do(job)
    return time.perf_counter() - start, done


def _away(job: Job, folder: Path) -> Job:
    assert job.target is not None
    return replace(job, target=folder / job.target.name, force=True)


def _existing(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def _is_there(target: Path) -> bool:
    return size_of(place) is not None if (place := stored(target)) else target.exists()


def _size(name: str) -> int | None:
    """Bytes of a file, or of all in a folder; None where they are not known, of what is on the web."""
    if place := stored(name):
        return size_of(place)
    path = Path(name)
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.is_file() else None
