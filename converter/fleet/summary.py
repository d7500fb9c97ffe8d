"""Many outcomes told at once: counts, one table, JSON, Markdown and JUnit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from converter.core.page import Table, cell
from converter.core.reports import Reports
from converter.core.text import clean, indented_json, shortened
from converter.core.version import __version__
from converter.fleet.outcome import CURRENT, DONE, FAILED, FOREIGN, PART, Told

ALL = (DONE, CURRENT, FAILED, FOREIGN, PART)
SAMPLE = 3
"""Names that a note is said of, where there are more."""


@dataclass
class Summary:
    """What became of all sources of one run.

    Attributes:
        verb: what was done.
        told: of each source, in order, but for files that are no checkpoints.
        count: how many of each status.
    """

    verb: str
    told: list[Told] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)

    def add(self, one: Told) -> None:
        """Count a source; those that are no checkpoints are only counted."""
        self.count[one.outcome.status] += 1
        if one.outcome.status not in (FOREIGN, PART):
            self.told.append(one)

    @property
    def failed(self) -> list[Told]:
        """Those that failed."""
        return [one for one in self.told if one.outcome.status == FAILED]

    def line(self) -> str:
        """The counts in a line."""
        done = f"{self.count[DONE]:,} done, {self.count[CURRENT]:,} up to date, {self.count[FAILED]:,} failed"
        return f"{done}; not checkpoints: {self.count[FOREIGN]:,}, parts of others: {self.count[PART]:,}"

    def kinds(self) -> dict[str, dict[str, int]]:
        """How many there are of each format, layout, architecture and reason."""
        good = [one.outcome for one in self.told if one.outcome.status != FAILED]
        counted = {
            "format": Counter(one.format for one in good),
            "layout": Counter(one.layout for one in good),
            "architecture": Counter(one.architecture for one in good),
            "refused": Counter(one.outcome.kind for one in self.failed),
        }
        return {
            name: dict(sorted(((k, n) for k, n in count.items() if k), key=lambda found: (-found[1], found[0])))
            for name, count in counted.items()
        }

    def notes(self) -> list[str]:
        """Every note once, with whom it is of."""
        of: dict[str, list[str]] = {}
        for one in self.told:
            for note in one.outcome.notes:
                of.setdefault(note, []).append(one.source)
        return [f"{_named(sources)}: {note}" for note, sources in of.items()]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "verb": self.verb,
            "tool": f"densenet-converter {__version__}",
            "counts": {status: self.count[status] for status in ALL},
            "kinds": self.kinds(),
            "sources": [one.to_dict() for one in self.told],
        }


def _named(sources: Sequence[str]) -> str:
    more = f" and {len(sources) - SAMPLE:,} more" if len(sources) > SAMPLE else ""
    return ", ".join(sources[:SAMPLE]) + more


def tables(summary: Summary) -> list[Table]:
    """One table of all sources, and one of how many there are of each kind."""
    rows = [
        [one.source, WORDS.get(one.outcome.status, one.outcome.status), *_what(one), shortened(one.outcome.why)]
        for one in summary.told
    ]
    columns = ("source", "", "format", "layout", "architecture", "result", "why")
    of = Table(f"densenet {summary.verb}", columns, rows)
    kinds = [[kind, name, f"{n:,}"] for kind, found in summary.kinds().items() for name, n in found.items()]
    return [of, Table("By kind", ("", "what", "sources"), kinds, ("sources",))]


WORDS = {DONE: "ok", FAILED: "FAIL"}


def _what(one: Told) -> list[str]:
    own = one.outcome
    return [own.format, own.layout, own.architecture, one.target]


def to_json(summary: Summary) -> str:
    """Counts, kinds, and every source with all that its verb says."""
    return indented_json(summary.to_dict())


def to_markdown(summary: Summary) -> str:
    """The tables, for a job summary."""
    lines = [f"# densenet {summary.verb}: {len(summary.told):,} checkpoints", "", summary.line() + "."]
    for table in reversed(tables(summary)):
        kept = [i for i in range(len(table.columns)) if any(row[i] for row in table.rows)]
        lines += ["", f"## {table.title}", ""]
        lines.append("| " + " | ".join(table.columns[i] for i in kept) + " |")
        lines.append("|" + "|".join("---:" if table.columns[i] in table.right else "---" for i in kept) + "|")
        lines += ["| " + " | ".join(cell(row[i]) for i in kept) + " |" for row in table.rows]
    if notes := summary.notes():
        lines += ["", "## Notes", "", *(f"- {cell(note)}" for note in notes)]
    return clean("\n".join(lines) + "\n")


CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What no XML can hold."""


def to_junit(summary: Summary) -> str:
    """A suite for each source, in whose name it is; of a verification, for each of its engines and files."""
    root = ElementTree.Element("testsuites", name=f"densenet {summary.verb}")
    for one in summary.told:
        if one.outcome.suites:
            root.extend(ElementTree.fromstring(text) for text in one.outcome.suites)  # noqa: S314 (our own)
            continue
        failed, skipped = one.outcome.status == FAILED, one.outcome.status == CURRENT
        suite = ElementTree.SubElement(root, "testsuite", name=_text(one.source))
        _count(suite, 1, failed, skipped)
        case = ElementTree.SubElement(suite, "testcase", classname=_text(one.source), name=summary.verb)
        if failed:
            failure = ElementTree.SubElement(case, "failure", message=_text(one.outcome.why), type=one.outcome.kind)
            failure.text = _text(one.outcome.why)
        elif skipped:
            ElementTree.SubElement(case, "skipped", message=CURRENT)
    totals = {name: sum(int(suite.get(name, 0)) for suite in root) for name in ("tests", "failures", "skipped")}
    _count(root, totals["tests"], totals["failures"], totals["skipped"])
    ElementTree.indent(root)
    return clean(f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n')


def _text(text: str) -> str:
    return CONTROL.sub("?", text)


def _count(element: ElementTree.Element, tests: int, failures: int, skipped: int) -> None:
    for name, value in (("tests", tests), ("failures", failures), ("errors", 0), ("skipped", skipped)):
        element.set(name, str(int(value)))


REPORTS = Reports[Summary]({".json": to_json, ".md": to_markdown, ".xml": to_junit})
