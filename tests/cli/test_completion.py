"""What shells complete, and that it costs the verbs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command import run

from converter.cli.app import command_line


@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("convert a.pth b.pth --to tor", "torchvision", "keras"),
        ("inspect --layout mm", "mmpretrain", "timm"),
        ("inspect --layout f", "folder/", "file.pth"),
        ("inspect densenet169", "densenet169.tv_in1k", "densenet121.tv_in1k"),
        ("inspect f", "file.pth", "densenet121.tv_in1k"),
        ("inspect --set stem_p", "stem_pool=", "eps="),
        ("inspect --set final_re", "final_relu=true", "eps="),
        ("inspect --set stem_pool=b", "stem_pool=blur", "stem_pool=max"),
        ("inspect --set final_relu=", "final_relu=false", "final_relu=blur"),
        ("export a.pth --preprocess tor", "torchxrayvision", "cifar10"),
        ("export a.pth --activation age=s", "age=sigmoid", "age=none"),
        ("verify --engine torch-", "torch-compiled", "openvino"),
        ("pre", "predict", "package"),
    ],
)
def test_what_is_completed(
    line: str, some: str, none: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.pth").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("_DENSENET_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"densenet {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(line.split())))
    done = run()
    offered = (done.stdout + capfd.readouterr().out).split()
    assert some in offered
    assert none not in offered


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("--set stem_pool = b", ["blur"]),
        ("--set final_relu =", ["false", "true"]),
        ("--set = stem_pool = zero", ["zero_max"]),
        ("--set = final_re", ["final_relu=false", "final_relu=true"]),
        ("--set ep", ["eps="]),
        ("--layout = kuang", ["kuangliu"]),
        ("--set stem_pool = blur --layout kuang", ["kuangliu"]),
    ],
)
def test_bash_takes_an_equals_sign_for_a_word(
    words: str, offered: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = f"densenet inspect {words}".split()
    monkeypatch.setenv("_DENSENET_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(line))
    monkeypatch.setenv("COMP_CWORD", str(len(line) - 1))
    done = run()
    assert sorted((done.stdout + capfd.readouterr().out).split()) == offered


def test_completion_is_shown_and_costs_verbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # tests need not run in one
    assert "complete_bash" in run("--show-completion", "bash").stdout
    for verb in ("convert", "inspect"):
        options = [command.name for command in command_line([verb]).registered_commands]
        assert options == [verb]
        assert not command_line([verb])._add_completion
