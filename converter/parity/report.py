"""Verdicts for people and for CI: terminal tables, JSON, JUnit XML, Markdown, and a page that needs nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any
from xml.etree import ElementTree

from converter.core.page import Table, render
from converter.core.reports import Reports
from converter.core.text import clean, indented_json
from converter.core.version import __version__
from converter.parity.compare import ULP, Comparison
from converter.parity.plots import depth_plot, histogram, scatter
from converter.parity.verify import Verification


def verdict_line(verdict: Verification) -> str:
    """The verdict in one line."""
    if verdict.passed:
        float32 = (cs for engine, cs in verdict.results.items() if engine not in verdict.budgets)
        judged = [c for cs in float32 for c in cs if c.limit >= ULP or not c.limit]
        if not judged:
            return f"pass: everything holds{took(verdict)}. It rests on {verdict.rests_on}."
        closest = max(judged, key=lambda c: c.ulps / c.limit if c.limit else 0.0)
        said = f"the float32 error closest to its limit is {closest.ulps:.1f} of {closest.limit / ULP:.1f} ulps"
        return f"pass: {said}{took(verdict)}. It rests on {verdict.rests_on}. {verdict.rule}"
    return f"FAIL: {reason(verdict)}. It rests on {verdict.rests_on}. {verdict.rule}"


def took(verdict: Verification) -> str:
    """How long it took, as the end of a sentence; nothing if it is not said."""
    return "" if verdict.seconds is None else f", in {verdict.seconds:.1f} s"


def reason(verdict: Verification) -> str:
    """Why a verification failed: the broken module if it is known."""
    for found in verdict.breaks.values():
        if found.module:
            return str(found)
    failures = [f"{case.group}, {case.name}: {case.problem}" for case in cases(verdict) if case.problem]
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return failures[0] + more if failures else "nothing failed"


# -- every check as a case -------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One thing that was checked: what it belongs to, and why it failed or was skipped."""

    group: str
    name: str
    problem: str = ""
    skipped: str = ""
    figures: str = ""


def cases(verdict: Verification) -> list[Case]:
    """Everything that can fail, in order."""
    result = [
        Case(
            engine,
            c.batch,
            c.problem,
            figures=_figures(c) if c.passed else "",
        )
        for engine, comparisons in verdict.results.items()
        for c in comparisons
    ]
    for engine, judgement in verdict.budgets.items():
        problem = "; ".join(judgement.problems)
        result.append(Case(engine, f"budget of {judgement.precision}", problem, figures=str(judgement)))
    for name, checks in verdict.checks.items():
        for check in checks:
            problem = (check.detail or "differs") if check.ok is False else ""
            skipped = (check.detail or "not compared") if check.ok is None else ""
            result.append(Case(name, check.name, problem, skipped, "" if problem or skipped else check.detail))
    result.append(Case("inputs", "they can tell models apart", "; ".join(verdict.problems)))
    return result


def _figures(c: Comparison) -> str:
    shares = (f"{name} {_share(share)}" for name, share in (("top-1", c.top1), ("top-5", c.top5)) if share is not None)
    return ", ".join([f"{c.ulps:.1f} ulps", f"KL {c.kl:.1e}", *shares])


DETAILS = ("absolute", "cosine", "KL", "top-5")
"""What a narrow terminal goes without."""
FIGURES = ("ulps", "limit", "absolute", "cosine", "KL", "top-1", "top-5")


def tables(verdict: Verification) -> list[Table]:
    """What the terminal and the Markdown show."""
    result = [*overview(verdict)]
    if skipped := not_compared(verdict):
        result.append(skipped)
    for engine, comparisons in verdict.results.items():
        if failing := [c for c in comparisons if c.problem]:
            result.append(inputs(f"{engine}: inputs that fail", failing))
    return result


def overview(verdict: Verification) -> Iterator[Table]:
    """Every engine in a line, what was found without computing, figures of reduced precision, what broke."""
    title = f"{verdict.reference} in {verdict.oracle}"
    overall = [
        ["FAIL" if any(c.problem for c in cs) else "ok", engine, str(len(cs)), *_overall(verdict, engine), _worst(cs)]
        for engine, cs in verdict.results.items()
    ]
    yield _trimmed(Table(title, ("", "engine", "inputs", *FIGURES, "why"), overall, ("inputs", *FIGURES)))
    if verdict.breaks:
        yield Table("Where it breaks", ("engine", "module"), [[e, str(b)] for e, b in verdict.breaks.items()])
    failing = [["FAIL", c.group, c.name, c.problem] for c in _static(verdict) if c.problem]
    agreed = [
        [name, ", ".join(check.name for check in checks if check.ok)]
        for name, checks in verdict.checks.items()
        if any(check.ok for check in checks)
    ]
    if failing:
        yield Table("Without computing", ("", "file", "what", "why"), failing)
    elif agreed:
        yield Table("Without computing", ("file", "what agrees"), agreed)
    if verdict.budgets:
        lines = [["ok" if j.passed else "FAIL", engine, str(j)] for engine, j in verdict.budgets.items()]
        yield Table("Reduced precision", ("", "engine", "figures"), lines)


def not_compared(verdict: Verification) -> Table | None:
    """What could not be compared without computing, a file a line; it fails nothing."""
    rows: dict[str, list[str]] = {}
    for case in _static(verdict):
        if not case.problem:
            rows.setdefault(case.group, []).append(f"{case.name} ({case.skipped})")
    lines = [[name, "; ".join(what)] for name, what in rows.items()]
    return Table("Not compared", ("file", "what, and why"), lines) if lines else None


def inputs(title: str, comparisons: Sequence[Comparison]) -> Table:
    """One engine on some of the inputs."""
    rows = [["FAIL" if c.problem else "ok", c.batch, *_row(c), c.problem] for c in comparisons]
    return _trimmed(Table(title, ("", "input", *FIGURES, "why"), rows, FIGURES))


def _trimmed(table: Table) -> Table:
    """Without columns in which nothing stands."""
    kept = [i for i, column in enumerate(table.columns) if not column or any(row[i] for row in table.rows)]
    rows = [[row[i] for i in kept] for row in table.rows]
    return Table(table.title, tuple(table.columns[i] for i in kept), rows, table.right, DETAILS)


def _row(c: Comparison) -> list[str]:
    return [
        _ulps(c.ulps),
        _ulps(c.limit / ULP),
        _figure(c.absolute, ".1e"),
        "" if not isfinite(c.absolute) else _figure(c.cosine, ".9f") if c.cosine < 1 - 1e-9 else "1",
        _figure(c.kl, ".0e"),
        _share(c.top1),
        _share(c.top5),
    ]


def _overall(verdict: Verification, engine: str) -> list[str]:
    """The worst of every figure over all inputs; of ulps and their limit those that are closest to each other."""
    comparisons = verdict.results[engine]
    if not comparisons:
        return [""] * len(FIGURES)
    closest = max(comparisons, key=lambda c: c.ulps / c.limit if c.limit else inf)
    worst = replace(
        closest,
        absolute=max(c.absolute for c in comparisons),
        cosine=min(c.cosine for c in comparisons),
        kl=max(c.kl for c in comparisons),
        top1=min((c.top1 for c in comparisons if c.top1 is not None), default=None),
        top5=min((c.top5 for c in comparisons if c.top5 is not None), default=None),
    )
    figures = _row(worst)
    return ["", "", *figures[2:]] if engine in verdict.budgets else figures  # judged in another way


def _worst(comparisons: Sequence[Comparison]) -> str:
    failed = [c for c in comparisons if c.problem]
    if not failed:
        return ""
    return f"{failed[0].batch}: {failed[0].problem}" + (f" (and {len(failed) - 1} more)" if failed[1:] else "")


def _figure(value: float, form: str) -> str:
    """A number, or nothing where there is none."""
    return format(value, form) if isfinite(value) else ""


def _share(value: float | None) -> str:
    """A share of images, in percent; nothing where there is none, and 100 only where it is all."""
    if value is None:
        return ""
    return "100%" if value == 1 else f"{min(value, 0.999):.0%}" if value < 0.99 else f"{min(value, 0.999):.1%}"


def _ulps(value: float) -> str:
    """Units in float32's last place; of float64's errors the power of ten."""
    return _figure(value, ".1f" if not value or value >= 0.05 else ".0e")


def _static(verdict: Verification) -> list[Case]:
    """Static checks that failed or could not be made, and inputs that prove nothing."""
    names = {*verdict.checks, "inputs"}
    return [case for case in cases(verdict) if case.group in names and (case.problem or case.skipped)]


# -- files ------------------------------------------------------------------------------------


def to_json(verdict: Verification) -> str:
    """The whole verdict; ``schema.json`` beside this module describes it."""
    return indented_json(verdict.to_dict())


def to_junit(verdict: Verification) -> str:
    """JUnit XML: each engine and file a suite, each check a case."""
    root = ElementTree.Element("testsuites", name=f"densenet verify {verdict.reference}")
    root.extend(_suites(verdict, verdict.reference))
    _count(root, cases(verdict))
    if verdict.seconds is not None:
        root.set("time", f"{verdict.seconds:.3f}")
    ElementTree.indent(root)
    return clean(f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n')


def suites(verdict: Verification, source: str) -> tuple[str, ...]:
    """The suites of one of many verifications, as XML, with the source in their names."""
    return tuple(ElementTree.tostring(suite, encoding="unicode") for suite in _suites(verdict, source))


def _suites(verdict: Verification, source: str) -> list[ElementTree.Element]:
    everything, result = cases(verdict), []
    for group in dict.fromkeys(case.group for case in everything):
        mine = [case for case in everything if case.group == group]
        file = _file_of(verdict, group)
        suite = ElementTree.Element("testsuite", name=f"{source}: {group}", file=file)
        result.append(suite)
        _count(suite, mine)
        said = ElementTree.SubElement(ElementTree.SubElement(suite, "properties"), "property", name="rests_on")
        said.set("value", verdict.rests_on)
        for case in mine:
            element = ElementTree.SubElement(suite, "testcase", classname=group, name=case.name, file=file)
            if case.problem:
                failure = ElementTree.SubElement(element, "failure", message=case.problem)
                found = verdict.breaks.get(group)
                failure.text = str(found) if found else case.problem
            elif case.skipped:
                ElementTree.SubElement(element, "skipped", message=case.skipped)
            elif case.figures:
                ElementTree.SubElement(element, "system-out").text = case.figures
    return result


def _file_of(verdict: Verification, group: str) -> str:
    """The candidate that a suite is about, by its name or that of the engine which ran it; else the reference."""
    named = (file for file in verdict.checks if group == file or f", {file}" in group)
    return next(named, verdict.reference)


def _count(element: ElementTree.Element, mine: Sequence[Case]) -> None:
    element.set("tests", str(len(mine)))
    element.set("failures", str(sum(bool(case.problem) for case in mine)))
    element.set("errors", "0")
    element.set("skipped", str(sum(bool(case.skipped) for case in mine)))


def to_markdown(verdict: Verification) -> str:
    """For a job summary."""
    return _render("report.md.j2", verdict, tables=tables(verdict))


def to_html(verdict: Verification) -> str:
    """One page with plots, without scripts or anything to fetch."""
    plots = []
    for engine in sorted(dict.fromkeys([*verdict.breaks, *verdict.logits]), key=lambda e: -_closeness(verdict, e)):
        own = []
        if engine in verdict.breaks and verdict.breaks[engine].steps:
            own.append(depth_plot("Error against depth", verdict.breaks[engine]))
        if engine in verdict.logits:
            expected, found = verdict.logits[engine]
            own.append(histogram("Errors", found - expected, verdict.limit))
            own.append(scatter("Logits against the oracle's", expected, found))
        if own:
            plots.append({"engine": engine, "plots": own})
    engines = [inputs(engine, comparisons) for engine, comparisons in verdict.results.items() if comparisons]
    return _render(
        "report.html.j2",
        verdict,
        tables=list(overview(verdict)),
        skipped=not_compared(verdict),
        engines=engines,
        plots=plots,
        cases=cases(verdict),
    )


def _closeness(verdict: Verification, engine: str) -> float:
    """How far an engine came towards its limits or beyond: what is worth looking at first."""
    found = [c.error / c.limit if c.limit else inf for c in verdict.results.get(engine, ()) if c.problem or c.limit]
    return max(found, default=0.0)


def _render(template: str, verdict: Verification, **values: Any) -> str:
    return render(
        "converter.parity",
        template,
        verdict=verdict,
        reason="" if verdict.passed else reason(verdict),
        rule=verdict.rule,
        took=took(verdict),
        version=__version__,
        **values,
    )


REPORTS = Reports[Verification]({".json": to_json, ".md": to_markdown, ".html": to_html, ".xml": to_junit})
