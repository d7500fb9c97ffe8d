"""Reports: each kind is what its readers' own parsers and browsers take."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import converter.parity
from converter.core.errors import CannotWrite, ConverterError
from converter.core.plot import HEIGHT, WIDTH, Plot
from converter.parity.budget import judge
from converter.parity.checks import Check
from converter.parity.compare import compare, failed
from converter.parity.locate import Break, Step
from converter.parity.plots import depth_plot, histogram, scatter
from converter.parity.report import (
    REPORTS,
    cases,
    tables,
    to_html,
    to_json,
    to_junit,
    to_markdown,
    verdict_line,
)
from converter.parity.verify import Verification

ORACLE = np.random.default_rng(0).standard_normal((7, 12))
NAME = 'ONNX Runtime, <b>model</b> & "co" | `x`.onnx'
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def good() -> Verification:
    near = (ORACLE * (1 + 1e-7)).astype(np.float32)
    return Verification(
        "model.pth",
        "PyTorch float64",
        {"PyTorch float32": [compare("noise", near, ORACLE, 1e-6)], NAME: [compare("noise", near, ORACLE, 1e-6)]},
        1e-6,
        2e-7,
        0.3,
        inputs=[{"name": "noise", "kind": "noise", "seed": 4, "shape": [7, 3, 8, 8]}],
        checks={"model.onnx": [Check("eps", True), Check("labels", None, "the reference records none")]},
        logits={NAME: (ORACLE.ravel(), near.ravel().astype(np.float64))},
        notes=("a note",),
        seed=4,
        seconds=1.25,
    )


def bad() -> Verification:
    far = (ORACLE * 1.1).astype(np.float32)
    steps = tuple(Step(f"stage.{i}", 1e-7 if i < 5 else 1e-2, 1e-7 if i != 5 else float("inf"), 1e-6) for i in range(9))
    broken = Break("stage.5", "running_var differs in 1 of 8 values", 3.0, steps)
    results = {NAME: [compare("noise", far, ORACLE, 1e-6), failed("zeros", 1e-6, "3 of 12 logits are NaN or infinite")]}
    return replace(
        good(),
        results=results,
        checks={"model.onnx": [Check("eps", False, "eps 0.001, 1e-05 expected")]},
        breaks={NAME: broken},
        budgets={NAME: judge([far], [ORACLE], "fp16")},
        problems=("the inputs prove nothing",),
    )


VERDICTS = {"good": good(), "bad": bad()}


@pytest.fixture(params=list(VERDICTS))
def verdict(request: pytest.FixtureRequest) -> Verification:
    return VERDICTS[request.param]


def test_json_keeps_to_its_schema(verdict: Verification) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(converter.parity.__file__).parent / "schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(to_json(verdict), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    jsonschema.validate(document, schema)
    assert document["passed"] is verdict.passed
    assert document["schema_version"] == 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "passed": "yes"}, schema)


def test_junit_is_read_by_its_own_parser(verdict: Verification, tmp_path: Path) -> None:
    junitparser = pytest.importorskip("junitparser")
    path = tmp_path / "report.xml"
    REPORTS.write([path], verdict)
    found = junitparser.JUnitXml.fromfile(str(path))
    everything = cases(verdict)
    assert found.tests == len(everything) == sum(1 for suite in found for _ in suite)
    assert found.failures == sum(bool(case.problem) for case in everything)
    assert found.skipped == sum(bool(case.skipped) for case in everything)
    assert (found.failures == 0) is verdict.passed
    results = [result for suite in found for case in suite for result in case.result]
    assert {type(result) for result in results} <= {junitparser.Failure, junitparser.Skipped}
    if not verdict.passed:
        assert any("stage.5" in (result.text or "") for result in results)


def test_junit_names_the_file_that_a_suite_is_about() -> None:
    named = replace(good(), results={"ONNX Runtime, model.onnx": good().results[NAME]})
    root = ElementTree.fromstring(to_junit(named))
    assert root.get("name") == "densenet verify model.pth"
    assert [(suite.get("name"), suite.get("file")) for suite in root] == [
        ("model.pth: ONNX Runtime, model.onnx", "model.onnx"),
        ("model.pth: model.onnx", "model.onnx"),
        ("model.pth: inputs", "model.pth"),
    ]


def test_what_was_not_compared_stands_apart_and_empty_columns_are_left_out() -> None:
    found = {table.title: table for table in tables(good())}
    assert found["Without computing"].rows == [["model.onnx", "eps"]]
    assert found["Not compared"].rows == [["model.onnx", "labels (the reference records none)"]]
    assert "why" not in next(iter(found.values())).columns
    assert "Not compared" not in {table.title for table in tables(bad())}
    page = to_html(good())
    assert page.index("<svg") < page.index("<table")
    assert page.index("<summary>Not compared") > page.index("<h2>Without computing")


def test_top5_of_five_classes_is_no_figure() -> None:
    oracle = ORACLE[:, :5]
    comparison = compare("noise", oracle.astype(np.float32), oracle, 1e-6)
    few = replace(good(), results={"engine": [comparison, failed("zeros", 1e-6, "why")]})
    columns = tables(few)[0].columns
    assert "top-1" in columns and "top-5" not in columns
    assert json.loads(to_json(few))["results"]["engine"][0]["top5"] is None
    assert "0%" not in to_markdown(few).replace("100%", "")


def test_junit_drops_what_xml_cannot_hold(tmp_path: Path) -> None:
    junitparser = pytest.importorskip("junitparser")
    odd = replace(good(), problems=("a \x00 byte \x1b[31m",))
    (tmp_path / "odd.xml").write_text(to_junit(odd), "utf-8")
    assert junitparser.JUnitXml.fromfile(str(tmp_path / "odd.xml")).failures == 1


def test_markdown_tables_are_whole(verdict: Verification) -> None:
    text = to_markdown(verdict)
    assert text.startswith("## ✅ pass" if verdict.passed else "## ❌ FAIL")
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(blocks) >= 2
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
    assert not re.search(r"(?<!\\)<", text)
    assert "\n\n\n" not in text


class Page(HTMLParser):
    """What a page has: elements, and whatever it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.described: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = {name: value or "" for name, value in attrs}
        self.fetched += [values[k] for k in ("src", "href", "action") if k in values and values[k] != "data:,"]
        self.ids += [values["id"]] if "id" in values else []
        if tag == "svg":
            assert values["role"] == "img"
            self.described += values["aria-labelledby"].split()


def test_html_needs_nothing_else_and_says_its_plots_in_words(verdict: Verification) -> None:
    text = to_html(verdict)
    page = Page()
    page.feed(text)
    assert not page.fetched
    assert "script" not in page.tags
    assert "<b>" not in text
    assert page.tags.count("svg") == (2 if verdict.passed else 3)
    assert set(page.described) <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert "@media print" in text
    assert not re.search(r"url\(|@import|nan|\binf\b", text.split("</style>")[1].replace("infinite", ""))


@pytest.mark.parametrize("ending", REPORTS.writers)
def test_reports_are_written_over_reports_alone(ending: str, verdict: Verification, tmp_path: Path) -> None:
    path = tmp_path / f"report{ending}"
    for _ in range(2):
        REPORTS.check([path])
        REPORTS.write([path], verdict)
    path.write_text("<!-- densenet-converter 0.1.0 -->\n{'tool': 'densenet-converter'}\nmine\n")
    with pytest.raises(CannotWrite, match="exists, and does not say that this tool wrote it"):
        REPORTS.check([path])
    REPORTS.check([path], force=True)


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1200])
def test_html_in_a_browser(verdict: Verification, width: int, tmp_path: Path) -> None:
    assert CHROMIUM
    path, shot, net = tmp_path / "report.html", tmp_path / "report.png", tmp_path / "net.json"
    REPORTS.write([path], verdict)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={net}"]
    command += [f"--window-size={width},1600", f"--screenshot={shot}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert shot.stat().st_size > 10_000
    asked = re.findall(r'"initiator":"([^"]*)"', net.read_text())
    assert set(asked) <= {"not an origin"}  # what the browser asks for by itself; the page would be "null"


def test_the_line_names_the_module() -> None:
    assert verdict_line(good()).startswith("pass: the float32 error closest to its limit is ")
    assert verdict_line(bad()).startswith("FAIL: stage.5: running_var differs in 1 of 8 values; everything before")
    assert "eps: eps 0.001" in verdict_line(replace(good(), checks=bad().checks))


def test_unknown_kinds_are_refused_before_the_work(tmp_path: Path) -> None:
    REPORTS.check([tmp_path / "a.json", tmp_path / "a.md", tmp_path / "a.html", tmp_path / "a.xml"])
    with pytest.raises(ConverterError, match=r"\.json, \.md, \.html, \.xml"):
        REPORTS.check([tmp_path / "a.pdf"])


@pytest.mark.parametrize(
    "plot",
    [
        scatter("a", ORACLE.ravel(), ORACLE.ravel()),
        scatter("all lost", ORACLE.ravel(), ORACLE.ravel() * np.nan),
        scatter("many", np.linspace(-1, 1, 9000), np.linspace(-1, 1, 9000)),
        scatter("one", np.ones(1), np.ones(1)),
        histogram("exact", np.zeros(5), 1e-6),
        histogram("huge", np.array([1e30, 1.0, np.nan]), 1e-6),
        histogram("none", np.full(3, np.nan), 1e-6),
        depth_plot("bad", bad().breaks[NAME]),
        depth_plot("one", Break("", "", 0.0, (Step("a", 0.0, 0.0, 1e-6),))),
        depth_plot("lost", Break("a", "x", 0.0, (Step("a", float("inf"), 0.0, 1e-6), Step("b", 1e-7, 0.0, 1e-6)))),
    ],
    ids=lambda plot: plot.title,
)
def test_plots_stay_in_their_box(plot: object) -> None:
    assert isinstance(plot, Plot)
    for x, y, _, _ in plot.points:
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    for x, y, width, height in plot.bars:
        assert 0 <= x <= x + width <= WIDTH
        assert 0 <= y <= y + height <= HEIGHT
    assert len(plot.points) <= 1500
    assert 1 <= len(plot.x_ticks) <= 60
    assert plot.text
