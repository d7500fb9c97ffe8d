"""What a run would do and how long it would take, from a sample that is measured and thrown away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converter.core.files import scratch
from converter.core.page import Table
from converter.fleet.outcome import Outcome
from converter.fleet.pool import Lost
from converter.fleet.run import Order
from converter.fleet.work import Job, do

MEASURED = 12
"""Sources that are tried: of each twelfth, by size, the one in the middle."""


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        verb: what is done.
        jobs: how many at once.
        kinds: files and their bytes, by the ending of their names.
        there: results that are there already, which are made again where they are not up to date.
        parts: files that are parts of others.
        seconds: the estimated time, were none up to date.
        measured: on how many sources that rests.
    """

    verb: str
    jobs: int
    kinds: dict[str, tuple[int, int]]
    there: int
    parts: int
    seconds: float
    measured: int

    @property
    def files(self) -> int:
        """How many sources there are."""
        return sum(count for count, _ in self.kinds.values())

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(size for _, size in self.kinds.values())

    def lines(self) -> list[str]:
        """In words."""
        took = f"{self.seconds:.1f} s" if self.seconds < 90 else f"{self.seconds / 60:.0f} min"
        return [
            f"{self.verb}: {self.files:,} sources, {self.size:,} bytes; {self.parts:,} files are parts of others",
            f"{self.there:,} results are there already; those that are up to date are skipped",
            f"about {took} with {self.jobs} at once, if none is (measured on {self.measured} of them)",
        ]

    def table(self) -> Table:
        """By ending."""
        rows = [[ending or "(none)", f"{count:,}", f"{size:,}"] for ending, (count, size) in self.kinds.items()]
        return Table("", ("name ends in", "sources", "bytes"), rows, ("sources", "bytes"))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        kinds = {ending: {"sources": count, "bytes": size} for ending, (count, size) in self.kinds.items()}
        return {
            "verb": self.verb,
            "sources": self.files,
            "bytes": self.size,
            "kinds": kinds,
            "there": self.there,
            "parts": self.parts,
            "jobs": self.jobs,
            "seconds": round(self.seconds, 3),
            "measured": self.measured,
        }


def plan(order: Order, jobs: Sequence[Job], parts: int) -> Plan:
    """Say what a run would do; errors of a sample count as work, as they do in a run."""
    sizes = [_size(Path(str(job.source))) for job in jobs]
    kinds: dict[str, tuple[int, int]] = {}
    for job, size in zip(jobs, sizes):
        ending = Path(str(job.source)).suffix
        count, total = kinds.get(ending, (0, 0))
        kinds[ending] = count + 1, total + size
    there = sum(job.target is not None and order.makes and job.target.exists() for job in jobs)
    by_size = sorted(range(len(jobs)), key=lambda i: (sizes[i], str(jobs[i].source)))
    chosen = sorted({by_size[(2 * k + 1) * len(jobs) // (2 * MEASURED)] for k in range(MEASURED)}) if jobs else []
    pool = order.pool()
    with scratch(None if order.folder is None else _existing(order.folder)) as folder:
        sample = [_away(jobs[i], folder / str(i)) if order.makes else jobs[i] for i in chosen]
        pool.work = timed
        took = [found[0] if not isinstance(found, Lost) else pool.limits.seconds for _, found in pool.results(sample)]
    seconds = sum(took) / len(took) * len(jobs) / min(pool.processes, len(jobs)) if took else 0.0
    ordered = dict(sorted(kinds.items(), key=lambda kind: (-kind[1][1], kind[0])))
    return Plan(order.verb, pool.processes, ordered, there, parts, seconds, len(took))


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


def _size(path: Path) -> int:
    """Bytes of a file, or of all in a folder; 0 of what is on the web."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.is_file() else 0
