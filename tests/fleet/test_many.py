"""One command on many sources: what it tells, what it leaves, and what it does not do again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.cases import LEGACY
from helpers.command import Done, run
from helpers.keras import FLYYUFELIX

from converter import Bench, Recipe, Source, load
from converter.core.errors import ConverterError
from converter.core.metadata import MADE_KEY
from converter.demo.demo import CHECKPOINT
from converter.fleet.made import digest, making
from converter.fleet.outcome import CURRENT, DONE, FAILED, Told
from converter.fleet.run import Order, jobs_of
from converter.fleet.summary import Summary, to_junit
from converter.fleet.work import Job, do
from converter.formats import open_checkpoint
from converter.writing.convert import convert
from densenet.config import DenseNetConfig


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Good, broken and foreign files."""
    root = tmp_path / "models"
    (root / "a").mkdir(parents=True)
    shutil.copy(CHECKPOINT, root / "a" / "digits.pth")
    shutil.copy(FLYYUFELIX, root / "keras.h5")
    (root / "cut.pth").write_bytes(CHECKPOINT.read_bytes()[:5000])
    (root / "page.bin").write_text("<html>log in</html>")
    (root / "readme.txt").write_text("models")
    (root / "b").mkdir()
    (root / "b" / "labels.json").write_text("{}")
    np.save(root / "b" / "array.npy", np.zeros(3))
    return root


def lines(done: Done) -> dict[str, dict[str, object]]:
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(one["source"]).name: one for one in found}


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_tree_is_converted_told_and_not_converted_again(models: Path, tmp_path: Path) -> None:
    out, reports = tmp_path / "out", [tmp_path / name for name in ("r.json", "r.md", "r.xml")]
    words = ["convert", models, out, "--recursive", *(word for path in reports for word in ("--report", path))]
    done = run(*words, "--jobs", 2)
    assert done.returncode == 1
    assert sorted(files(out)) == ["a/digits.safetensors", "keras.safetensors"]
    assert not (out / "b").exists()  # nothing was put into it
    counts = "2 done, 0 up to date, 2 failed; not checkpoints: 3, parts of others: 0"
    assert counts in done.stdout
    assert sum(line.startswith("failed: ") for line in done.stderr.splitlines()) == 2
    assert "note: " in done.stderr
    summary = json.loads(reports[0].read_text())
    assert summary["counts"] == {"done": 2, "up to date": 0, "failed": 2, "no checkpoint": 3, "part of another": 0}
    assert summary["kinds"]["refused"] == {"cannot be read": 2}
    assert "| format | torch legacy | 1 |" in reports[1].read_text()
    suites = ElementTree.parse(reports[2]).getroot()
    assert (suites.get("tests"), suites.get("failures")) == ("4", "2")
    assert [str(models / name) for name in ("a/digits.pth", "cut.pth", "keras.h5", "page.bin")] == [
        suite.get("name") for suite in suites
    ]
    before = files(out)
    again = run("convert", models, out, "--recursive", "--json", "--jobs", 1)
    assert again.returncode == 1
    told = lines(again)
    assert {name: one["status"] for name, one in told.items()} == {
        **dict.fromkeys(("digits.pth", "keras.h5"), CURRENT),
        **dict.fromkeys(("cut.pth", "page.bin"), FAILED),
    }
    assert told["digits.pth"]["architecture"] == load(CHECKPOINT).config.name  # the table is the same when resumed
    assert files(out) == before


def test_the_result_is_that_of_one_but_for_how_it_was_made(models: Path, tmp_path: Path) -> None:
    for ending in (".safetensors", ".pth", ".npz", ".h5"):
        job = made("convert", models / "a" / "digits.pth", tmp_path / f"many{ending}", {"to": "library"})
        assert do(job).status == DONE
        alone = convert(models / "a" / "digits.pth", tmp_path / f"one{ending}")
        many, one = load(tmp_path / f"many{ending}"), load(alone.path)
        assert many.config == one.config
        assert all(np.array_equal(t.read(), one.tensors[name].read()) for name, t in many.tensors.items())
        said, plain = (open_checkpoint(tmp_path / f"{name}{ending}").metadata for name in ("many", "one"))
        assert {key: text for key, text in said.items() if key != MADE_KEY} == plain
        assert do(job).status == CURRENT


def made(verb: str, source: Path, target: Path, options: dict[str, object]) -> Job:
    return Job(verb, Source(source, made=digest(verb, Source(""), options)), target, options=options)


def test_what_is_no_longer_up_to_date_is_made_again(models: Path, tmp_path: Path) -> None:
    source, target = models / "a" / "digits.pth", tmp_path / "d.onnx"
    assert do(made("export", source, target, {})).status == DONE
    assert do(made("export", source, target, {})).status == CURRENT
    assert do(made("export", source, target, {"graph": "exact"})).status == DONE  # other options
    convert(LEGACY, models / "new.pth")
    shutil.copy(models / "new.pth", source)
    assert do(made("export", source, target, {"graph": "exact"})).status == DONE  # another source
    assert isinstance(load(target).config, DenseNetConfig)
    assert load(target).config == load(LEGACY).config
    target.write_bytes(b"of somebody else")
    assert do(made("export", source, target, {"graph": "exact"})).status == FAILED
    assert target.read_bytes() == b"of somebody else"


def test_reports_and_streams_do_not_depend_on_how_many_are_done_at_once(models: Path) -> None:
    one, three = (run("inspect", models / "**" / "*", "--json", "-j", jobs) for jobs in (1, 3))
    assert one.returncode == three.returncode == 1
    assert one == three
    assert lines(one)["digits.pth"]["result"] == json.loads(run("inspect", CHECKPOINT, "--json").stdout) | {
        "source": "digits.pth"
    }


def test_several_named_files_and_what_only_one_can_have(models: Path, tmp_path: Path) -> None:
    named = [models / "a" / "digits.pth", models / "readme.txt"]
    done = run("inspect", *named, "--json")
    assert done.returncode == 1
    assert lines(done)["readme.txt"]["status"] == FAILED  # it was named
    for words in (
        ("inspect", *named, "--tensors"),
        ("convert", *named, tmp_path / "o", "--dtype", "fp7"),
        ("convert", *named, tmp_path / "o", "--to", "no-layout"),
        ("convert", *named, models / "readme.txt"),
        ("export", *named, tmp_path / "o", "--suffix", ".exe"),
        ("inspect", *named, "--memory-limit", "much"),
        ("inspect", *named, "--report", tmp_path / "r.pdf"),
    ):
        refused = run(*words)
        assert (refused.returncode, refused.stdout) == (2, ""), words
    assert not (tmp_path / "o").exists()


def test_a_plan_does_nothing(models: Path, tmp_path: Path) -> None:
    done = run("convert", models, tmp_path / "out", "-r", "--plan", "--json")
    assert done.returncode == 1  # as that of the run
    said = json.loads(done.stdout)
    assert sorted(Path(name).name for name in said["failed"]) == ["cut.pth", "page.bin"]
    assert (said["target"], said["there"], said["measured"]) == (str(tmp_path / "out"), 0, 7)
    assert said["sources"] == sum(path.is_file() for path in models.rglob("*"))
    assert said["bytes"] == sum(path.stat().st_size for path in models.rglob("*") if path.is_file())
    assert said["seconds"] > 0
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".densenet-*"))


def test_a_plan_of_one_source_is_of_the_file_that_is_named(models: Path, tmp_path: Path) -> None:
    source, target = models / "a" / "digits.pth", tmp_path / "one.safetensors"
    convert(source, target)
    before = target.read_bytes()
    said = run("convert", source, target, "--plan").stdout
    assert f"the result is {target}, which is there already" in said
    assert target.read_bytes() == before
    assert "end the name in" in run("convert", source, tmp_path / "one", "--plan").stderr
    (tmp_path / "list.txt").write_text(f"{source}\n{models / 'keras.h5'}\n")
    said = run("export", f"@{tmp_path / 'list.txt'}", tmp_path / "out", "--plan").stdout
    assert "export: 2 sources, " in said
    assert f"results go to {tmp_path / 'out'}; none is there" in said
    assert not (tmp_path / "out").exists()


def test_what_was_made_is_verified_source_by_source(models: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = models / "keras.h5"
    convert(source, tmp_path / "keras.safetensors")
    summary = Summary("verify")
    for name in ("keras", "none"):
        job = Job("verify", Source(source), tmp_path / name, options={"bench": Bench(engines=["torch"])})
        summary.add(Told(str(source), "", do(job)))
    asked = {"bench": Bench(engines=["torch"]), "candidates": [Source(CHECKPOINT)]}
    assert do(Job("verify", Source(source), options=asked)).status == FAILED  # it is compared with what was named
    good, none = (one.outcome for one in summary.told)
    assert (good.status, none.status) == (DONE, FAILED)
    assert "nothing to compare it with" in none.why
    suites = ElementTree.fromstring(to_junit(summary))
    assert suites.get("failures") == "1"
    assert all(str(suite.get("name")).startswith(str(source)) for suite in suites)


def test_a_package_is_not_made_again_while_it_is_whole(models: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    job = made("package", models / "keras.h5", tmp_path / "p", {"recipe": Recipe(onnx=())})
    assert [do(job).status for _ in range(2)] == [DONE, CURRENT]
    (tmp_path / "p" / "model.safetensors").unlink()
    assert making(tmp_path / "p", job.source) is None


def test_names_of_files_pass_for_no_lines_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in (b"a\nconvert: 9 done.pth", b"cut\xff\xfe.bin", b"x" * 251 + b".pth"):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(CHECKPOINT.read_bytes()[:3000])
    done = run("inspect", folder, "-r")
    assert done.returncode == 1
    assert not any(line.startswith("convert:") for line in (done.stdout + done.stderr).splitlines())
    assert "inspect: 0 done, 0 up to date, 3 failed" in done.stdout
    assert r"a\nconvert: 9 done.pth: " in done.stderr
    assert r"cut\udcff\udcfe.bin: " in done.stderr


def test_two_names_that_are_one_file_there_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.pth", "A.pth"):
        (tmp_path / name).write_bytes(CHECKPOINT.read_bytes())
    order = Order("convert", Source(""), tmp_path / "out", ".safetensors")
    items = order.sources([str(tmp_path)], recursive=True).items
    assert len(jobs_of(order, items)) == 2
    monkeypatch.setattr("converter.fleet.run.tells_case", lambda _: False)
    with pytest.raises(ConverterError, match=r"A\.safetensors and .*a\.safetensors would be one file there"):
        jobs_of(order, items)
