"""The original is asked: the users' own code, in a process of its own, honest and hostile."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any
from unittest import mock

import jsonschema
import pytest
from helpers.command import refused, run
from helpers.networks import CIFAR, save

from converter import convert, export_onnx, verify
from converter.core.errors import ConverterError
from converter.engines.original import Original
from converter.parity.report import reason, to_html, to_junit, to_markdown, verdict_line
from converter.parity.verdict import OUR_READING, Verification

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("one_thread")

NETWORK = """
    import torch
    from torch import nn
    import torch.nn.functional as F

    class Layer(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, 4, 3, padding=1, bias=False)

        def forward(self, x):
            return torch.cat([x, self.conv1(F.relu(self.norm1(x)))], 1)

    class Net(nn.Module):
        # an author's own: the library's names, and nothing else of it
        def __init__(self, fixed=False, eps=1e-5, ends=False, ceil=False):
            super().__init__()
            self.fixed, self.ends, self.ceil = fixed, ends, ceil
            self.stem = nn.Module()
            self.stem.conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
            self.blocks, self.transitions, width = nn.ModuleList(), nn.ModuleList(), 6
            for b in range(3):
                block = nn.Module()
                block.layers = nn.ModuleList([Layer(width), Layer(width + 4)])
                self.blocks.append(block)
                width += 8
                if b < 2:
                    step = nn.Module()
                    step.norm, step.conv = nn.BatchNorm2d(width), nn.Conv2d(width, width, 1, bias=False)
                    self.transitions.append(step)
            self.norm, self.classifier = nn.BatchNorm2d(width), nn.Linear(width, 5)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps = eps

        def forward(self, x):
            x = self.stem.conv(x)
            for b, block in enumerate(self.blocks):
                for layer in block.layers:
                    x = layer(x)
                if b < 2:
                    step = self.transitions[b]
                    x = F.avg_pool2d(step.conv(F.relu(step.norm(x))), 2, ceil_mode=self.ceil)
            x = F.relu(self.norm(x))
            x = F.avg_pool2d(x, 8).flatten(1) if self.fixed else x.mean((2, 3))
            x = self.classifier(x)
            return x.softmax(1) if self.ends else x
"""
CODE = """
    import os, signal, subprocess, sys, time
    import numpy as np

    def Net(**how):
        from network import Net  # PyTorch takes long to import, and most of what goes wrong does without
        return Net(**how)

    def bare():
        return Net()

    def loaded(path):
        import torch
        net = Net()
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.train()

    def as_arrays(path):
        import torch
        net = loaded(path).eval()
        def logits(images):
            assert isinstance(images, np.ndarray) and images.dtype == np.float32 and images.ndim == 4
            with torch.no_grad():
                return {"logits": net(torch.from_numpy(images)).double().numpy()}
        return logits

    def fixed():
        return Net(fixed=True)

    def rounds_up():
        return Net(ceil=True)

    def ends():
        return Net(ends=True)

    def other_eps():
        return Net(eps=1.1e-5)

    def in_float32(path):
        net = loaded(path)
        forward = net.forward
        net.forward = lambda x: net.float() and forward(x.float())
        return net

    def other_weights():
        import torch
        torch.manual_seed(1)
        net = Net()
        net.norm.running_mean.fill_(0.1)
        return net

    def prints():
        print("hello" * 10000)
        print("error", file=sys.stderr)
        os.write(1, bytes(range(256)) * 100)
        net = Net()
        forward = net.forward
        def noisy(x):
            os.write(1, b'\\xff\\x00{"error": 1}\\n')
            return forward(x)
        net.forward = noisy
        return net

    def exits():
        sys.exit(7)

    def ends_hard():
        print("\\x1b[31mlast words", file=sys.stderr, flush=True)
        os._exit(3)

    def crashes():
        os.kill(os.getpid(), signal.SIGKILL)

    def raises():
        raise ValueError("no\\nsuch \\x1b[31mthing")

    def sleeps():
        subprocess.Popen(["sleep", "86399"])
        time.sleep(86399)

    def takes_two(a, b):
        pass

    def gives_nothing():
        pass

    def gives_a_dict():
        from collections import OrderedDict
        return OrderedDict(a=1)

    def sleeps_later():
        return lambda images: time.sleep(86399)

    def raises_later():
        def logits(images):
            raise ValueError("at last")
        return logits

    def exits_later():
        return lambda images: sys.exit(0)

    def ends_later():
        return lambda images: os._exit(0)

    def wrong_shape():
        return lambda images: np.zeros((len(images), 4), np.float32)

    def integers():
        return lambda images: np.zeros((len(images), 5), np.int64)

    def objects():
        return lambda images: np.array([print] * len(images))

    def text():
        return lambda images: "logits"

    def several():
        return lambda images: (np.zeros((1, 5)), np.zeros(3))

    def not_a_number():
        return lambda images: np.full((len(images), 5), np.nan, np.float32)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, ``net.pth``, and the code of its authors, ``authors.py``."""
    folder = tmp_path_factory.mktemp("authors")
    (folder / "authors.py").write_text(textwrap.dedent(CODE))
    (folder / "network.py").write_text(textwrap.dedent(NETWORK))
    convert(save(CIFAR, folder / "net.safetensors"), folder / "net.pth", to="library")
    return folder


def ask(place: Path, function: str, *, seconds: float = 120, file: str = "net.pth") -> Verification:
    original = Original(f"{place / 'authors.py'}:{function}", seconds)
    before, scratch = processes(), place / "scratch"
    scratch.mkdir(exist_ok=True)
    try:
        with mock.patch.object(tempfile, "tempdir", str(scratch)):
            return verify(place / file, original=original, engines=["onnxruntime@1"])
    finally:
        assert processes() <= before
        assert not list(scratch.iterdir())
        assert "authors" not in sys.modules
        assert not (place / "__pycache__").exists()


def processes() -> set[str]:
    """Those that run an original, or were started by one."""
    if not Path("/proc/self/cmdline").exists():
        return set()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            said = (folder / "cmdline").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ours = int(state[1]) == os.getpid() and b"original_process" in said
        if state[0] != "Z" and (ours or b"86399" in said):
            found.add(folder.name)
    return found


def compared(verdict: Verification, ending: str = "") -> list[Any]:
    (found,) = (cs for name, cs in verdict.results.items() if name.startswith("the original") and name.endswith(ending))
    return list(found)


def failing(verdict: Verification) -> set[str]:
    """Names of the inputs on which an original fails."""
    return {c.batch for name, cs in verdict.results.items() if name.startswith("the original") for c in cs if c.problem}


# -- honest ones --------------------------------------------------------------------------------


def test_a_module_without_weights_is_loaded_from_the_file(place: Path) -> None:
    verdict = ask(place, "bare")
    assert verdict.passed, reason(verdict)
    assert verdict.rests_on == "the original's own logits (authors.py:bare)"
    assert any("had no weights, and the file was loaded into it strictly" in note for note in verdict.notes)
    double = compared(verdict, "in float64")
    assert len(double) == len(compared(verdict, "bare")) == len(verdict.inputs)
    assert all(c.error < 1e-13 and c.limit < 1e-11 for c in double)
    (check,) = verdict.checks["the original, authors.py:bare"]
    assert check.ok
    assert "bit for bit" in check.detail


def test_the_verdict_says_everywhere_what_it_rests_on(place: Path) -> None:
    verdict = ask(place, "loaded")
    assert verdict.passed
    assert any("its function loaded the file" in note for note in verdict.notes)
    said = "the original's own logits (authors.py:loaded)"
    for text in (verdict_line(verdict), to_junit(verdict), to_markdown(verdict)):
        assert said in text
    assert "the original&#39;s own logits (authors.py:loaded)" in to_html(verdict)
    schema = Path(sys.modules["converter.parity.verdict"].__file__ or "").with_name("schema.json")
    jsonschema.validate(verdict.to_dict(), json.loads(schema.read_text()))
    assert verdict.to_dict()["rests_on"] == said
    assert str(place / "authors") not in json.dumps(verdict.to_dict())


def test_without_an_original_it_rests_on_our_reading(place: Path) -> None:
    verdict = verify(place / "net.pth", engines=["onnxruntime@1"])
    assert verdict.rests_on == OUR_READING == verdict.to_dict()["rests_on"]
    assert f"It rests on {OUR_READING}." in verdict_line(verdict)


def test_a_function_of_images(place: Path) -> None:
    verdict = ask(place, "as_arrays")
    assert verdict.passed, reason(verdict)
    assert len(compared(verdict, "as_arrays")) == len(verdict.inputs)
    assert not any(name.endswith("float64") for name in verdict.results)


def test_a_network_of_one_size_is_compared_on_that(place: Path) -> None:
    verdict = ask(place, "fixed")
    assert verdict.passed, reason(verdict)
    assert any("not compared on inputs of" in note and "which it does not take" in note for note in verdict.notes)
    assert any("its last pooling has the size of the maps of 32x32" in note for note in verdict.notes)
    assert 8 <= len(compared(verdict, "fixed")) <= len(verdict.inputs) - 2
    assert len(compared(verdict, "fixed, in float64")) == len(compared(verdict, "fixed"))


def test_a_pooling_that_rounds_up_is_none_of_one_size(place: Path) -> None:
    verdict = ask(place, "rounds_up")
    assert not verdict.passed
    sizes = {tuple(spec["shape"][2:]) for spec in verdict.inputs if any(spec["name"] == c for c in failing(verdict))}
    assert sizes
    assert all(any(length % 4 for length in size) for size in sizes)


def test_probabilities_are_compared_with_probabilities(place: Path) -> None:
    verdict = ask(place, "ends")
    assert verdict.passed, reason(verdict)
    notes = [note for note in verdict.notes if "probabilities (softmax)" in note]
    assert len(notes) == 1
    assert notes[0].startswith("the original, authors.py:ends")


def test_a_network_that_computes_in_float32_whatever_happens(place: Path) -> None:
    verdict = ask(place, "in_float32")
    assert verdict.passed, reason(verdict)
    assert any("judged in float32 alone" in note for note in verdict.notes)


@pytest.mark.parametrize("wrapped", ["state", "prefix", "both"])
def test_wrappers_are_undone_where_our_reading_found_them(place: Path, wrapped: str) -> None:
    state = torch.load(place / "net.pth", weights_only=True)
    if wrapped != "state":
        state = {f"module.{name}": value for name, value in state.items()}
    torch.save(state if wrapped == "prefix" else {"epoch": 3, "state_dict": state}, place / f"{wrapped}.pth")
    verdict = ask(place, "bare", file=f"{wrapped}.pth")
    assert verdict.passed, reason(verdict)
    said = next(note for note in verdict.notes if "loaded into it strictly" in note)
    assert ("from state_dict" in said) == (wrapped != "prefix")
    assert ("without 'module.'" in said) == (wrapped != "state")


def test_torchvisions_builder_with_its_old_names(tmp_path: Path) -> None:
    from helpers.cases import CASES

    pytest.importorskip("torchvision")
    config = json.loads((CASES / "tv-legacy-old" / "case.json").read_text())
    code = "import torchvision\ndef build():\n    return torchvision.models.DenseNet(%s)\n"
    from converter import inspect

    file = CASES / "tv-legacy-old" / config["file"]
    c = inspect(file).model.config
    arguments = f"{c.growth_rate}, {c.block_config}, {c.init_features}, {c.bn_size}, num_classes={c.num_classes}"
    (tmp_path / "tv.py").write_text(code % arguments)
    steps = {"resize": None, "crop": [64, 64], "channels": c.in_channels}
    verdict = verify(file, original=f"{tmp_path / 'tv.py'}:build", preprocess=steps, engines=["onnxruntime@1"])
    assert verdict.passed, reason(verdict)
    assert any("with torchvision's new names" in note for note in verdict.notes)


# -- those that disagree -------------------------------------------------------------------------


def test_float64_shows_what_float32_cannot(place: Path) -> None:
    verdict = ask(place, "other_eps")
    assert not verdict.passed
    assert all(c.problem for c in compared(verdict, "in float64"))
    assert any("what differs is what no tensor shows (--set eps" in note for note in verdict.notes)


def test_other_weights_fail(place: Path) -> None:
    verdict = ask(place, "other_weights")
    assert not verdict.passed
    assert "the original, authors.py:other_weights" in reason(verdict)
    (check,) = verdict.checks["the original, authors.py:other_weights"]
    assert check.ok is None
    assert "are not the original's bit for bit" in check.detail


# -- hostile ones --------------------------------------------------------------------------------


def test_one_that_prints_garbles_nothing(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask(place, "prints").passed
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("exits", r"sys.exit\(7\) was called \(authors.py, line \d+\)"),
        ("ends_hard", r"ended its process with status 3; it printed last: \\x1b\[31mlast words"),
        ("crashes", "was killed by SIGKILL"),
        ("raises", r"ValueError: no such \\x1b\[31mthing \(authors.py, line \d+\)"),
        ("takes_two", "takes 2 arguments; it may take none, or one"),
        ("gives_nothing", "it gave nothing; let it give"),
        ("gives_a_dict", "it gave a OrderedDict; let it give"),
        ("missing", "there is no missing in it; there are .*bare"),
    ],
)
def test_one_that_cannot_be_started_is_one_line(place: Path, function: str, said: str) -> None:
    with pytest.raises(ConverterError, match=said) as caught:
        ask(place, function)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"the original (authors.py:{function}) cannot be started: ")
    assert caught.value.exit_status == 2


def test_one_that_sleeps_is_stopped_with_all_it_started(place: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ConverterError, match="took longer than 8 s, and was stopped"):
        ask(place, "sleeps", seconds=8)
    assert time.monotonic() - start < 100


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises_later", "ValueError: at last (authors.py, line"),
        ("exits_later", "sys.exit(0) was called"),
        ("ends_later", "it ended its process with status 0"),
        ("sleeps_later", "it took longer than 20 s, and was stopped"),
        ("wrong_shape", "shape [1, 4], [1, 5] expected"),
        ("integers", "it gave ndarray of int64; logits are floating point"),
        ("objects", "it gave ndarray of object"),
        ("text", "it gave str"),
        ("several", "it gave a tuple; let it give the logits alone"),
        ("not_a_number", "5 of 5 logits are NaN or infinite"),
    ],
)
def test_one_that_computes_nonsense_fails(place: Path, function: str, said: str) -> None:
    verdict = ask(place, function, seconds=20 if function == "sleeps_later" else 120)
    assert not verdict.passed
    assert said in reason(verdict)
    assert len(reason(verdict).splitlines()) == 1
    assert len(compared(verdict, function)) == len(verdict.inputs)


def test_a_file_that_holds_more_than_tensors_is_for_the_function_to_load(place: Path) -> None:
    torch.save({"state_dict": torch.load(place / "net.pth", weights_only=True), "who": Path("x")}, place / "more.pth")
    with pytest.raises(ConverterError, match=r"holds more than tensors.*let the function take the path"):
        ask(place, "bare", file="more.pth")


# -- its address, and the command line -----------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("authors.py", "names no function; write authors.py:FUNCTION"),
        ("authors", "names no function; write authors:FUNCTION"),
        ("nowhere.py:f", "no such file"),
        ("a b:f", "neither a module .* nor a file"),
        ("authors:", "names no function"),
        (":f", "names no function"),
        ("authors:f()", "names no function"),
    ],
)
def test_what_names_no_function_is_refused_before_anything_is_done(spec: str, said: str) -> None:
    with pytest.raises(ConverterError, match=said):
        Original(spec)
    assert said.split(" .*", maxsplit=1)[0] in refused(2, "verify", "nothing.pth", "--original", spec)


def test_the_command_line_asks_a_module_of_the_folder_it_runs_in(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(place)
    words = ("verify", "net.pth", "--engine", "onnxruntime@1", "--original")
    done = run(*words, "authors:bare")
    assert done.returncode == 0, done.stderr
    assert "It rests on the original's own logits (authors:bare)." in done.stdout
    assert "note: the original (authors:bare) is a PyTorch module" in done.stderr
    done = run(*words, "authors:no", "--report", tmp_path / "report.json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
    assert "no --record, --images or --original" in refused(
        2, "verify", "x.onnx", "--against", "x.npz", "--original", "authors:bare"
    )


def test_what_was_recorded_says_what_it_rests_on(place: Path, tmp_path: Path) -> None:
    from converter import verify_against

    record, graph = tmp_path / "record.npz", tmp_path / "net.onnx"
    export_onnx(place / "net.pth", graph)
    original = f"{place / 'authors.py'}:bare"
    assert verify(place / "net.pth", graph, original=original, record=record, engines=["onnxruntime@1"]).passed
    assert verify_against(record, graph).rests_on == "the original's own logits (authors.py:bare)"


def test_a_package_says_what_its_proof_rests_on(place: Path, tmp_path: Path) -> None:
    from converter import package
    from converter.core.errors import VerificationFailed

    original = f"{place / 'authors.py'}:bare"
    done = package(place / "net.pth", tmp_path / "package", onnx=["fp32"], original=original)
    said = "the original's own logits (authors.py:bare)"
    assert done.proof.rests_on == said
    assert json.loads((done.folder / "parity.json").read_text())["rests_on"] == said
    assert f"proved by {said}" in (done.folder / "README.md").read_text()
    assert "authors.py:bare" in (done.folder / "parity.html").read_text()
    with pytest.raises(VerificationFailed, match=r"the original, authors\.py:other_eps"):
        package(place / "net.pth", tmp_path / "wrong", onnx=["fp32"], original=f"{place / 'authors.py'}:other_eps")
    assert not (tmp_path / "wrong").exists()


def test_an_original_ends_with_the_command_that_asked_it(place: Path) -> None:
    import signal
    import subprocess

    if not hasattr(os, "killpg") or not Path("/proc").exists():
        pytest.skip("looks into /proc")
    words = ["-c", "from converter.cli import main; main()", "verify", "net.pth", "--original", "authors.py:sleeps"]
    (place / "scratch").mkdir(exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGKILL):
        scratch = {"TMPDIR": str(place / "scratch")}
        asker = subprocess.Popen(
            [sys.executable, *words], cwd=place, stderr=subprocess.DEVNULL, env={**os.environ, **scratch}
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not [p for p in running(b"original_process") if p[1] == asker.pid]:
            time.sleep(0.1)
        (child,) = [pid for pid, parent in running(b"original_process") if parent == asker.pid]
        asker.send_signal(number)
        asker.wait(60)
        while time.monotonic() < deadline and child in [pid for pid, _ in running(b"original_process")]:
            time.sleep(0.1)
        assert child not in [pid for pid, _ in running(b"original_process")]
        assert not list((place / "scratch").glob("densenet-original-*"))


def running(word: bytes) -> list[tuple[int, int]]:
    """Processes with a word in their command line, and their parents."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word in (folder / "cmdline").read_bytes():
                state = (folder / "stat").read_text().rpartition(")")[2].split()
                found += [(int(folder.name), int(state[1]))] if state[0] != "Z" else []
        except OSError:
            continue
    return found
