"""export_runtime: files of every runtime that is installed pass verification in it, and a changed weight does not."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cases import logits_of
from helpers.networks import CIFAR, random_model, save

from converter import Images, export_runtime, load, package, verify
from converter.core.checkpoint import Tensor
from converter.core.errors import CannotExpress, CannotWrite, ConverterError, Unavailable, UnsafeFile
from converter.engines.runtime import Runtime
from converter.engines.runtimes import RUNTIMES
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess

torch = pytest.importorskip("torch")

INSTALLED = [runtime for runtime in RUNTIMES if all(map(find_spec, (*runtime.writes, *runtime.runs)))]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    said = Images(Preprocess(36, (32, 32), mean=(0.1, 0.2, 0.3)), tuple("abçde"), "sigmoid", (0.5, None, 0.1, 0.2, 0.3))
    return save(random_model(CIFAR).described(said), tmp_path_factory.mktemp("source") / "cifar.safetensors")


@pytest.fixture(scope="module")
def files(source: Path) -> list[Path]:
    """Its file for each runtime."""
    return [export_runtime(source, source.with_name(f"good{runtime.suffix}")).path for runtime in INSTALLED]


@pytest.fixture(scope="module")
def faulty(source: Path, files: list[Path]) -> list[Path]:
    """The same files with one weight changed, a little: in the file itself where it lies there as it is."""
    model, name = load(source), "blocks.1.layers.0.conv1.weight"
    weight = model.tensors[name].read()
    changed = weight.copy()
    changed[1, 2, 1, 1] += 0.05
    other = save(replace(model, tensors={**model.tensors, name: Tensor.of(changed)}), source.with_name("changed.pth"))
    result = []
    for runtime, good in zip(INSTALLED, files):
        bad = source.with_name(f"bad{runtime.suffix}")
        parts = [good.with_suffix(suffix) for suffix in (runtime.suffix, *([".bin"] if bad.suffix == ".xml" else []))]
        if any(weight.tobytes() in part.read_bytes() for part in parts):
            for part in parts:
                data = part.read_bytes().replace(weight.tobytes(), changed.tobytes())
                part.with_name(f"bad{part.suffix}").write_bytes(data)
        else:
            export_runtime(other, bad)
        result.append(bad)
    return result


def test_each_passes_in_its_own_engine_and_a_changed_weight_does_not(
    source: Path, files: list[Path], faulty: list[Path]
) -> None:
    verdict = verify(source, *files, *faulty)
    for runtime, good, bad in zip(INSTALLED, files, faulty):
        ours, theirs = (verdict.results[f"{runtime.name}, {file.name}"] for file in (good, bad))
        assert all(c.passed for c in ours), runtime.name
        assert all(check.ok is not False for check in verdict.checks[good.name]), runtime.name
        assert {"preprocessing", "labels", "activation", "metadata"} <= {
            check.name for check in verdict.checks[good.name] if check.ok
        }, runtime.name
        assert not all(c.passed for c in theirs), runtime.name
        if any(check.name == "graph" and check.ok for check in verdict.checks[bad.name]):
            assert verdict.breaks[f"{runtime.name}, {bad.name}"].module == "blocks.1.layers.0.conv1"


def test_what_is_read_back_is_the_same_network(source: Path, files: list[Path]) -> None:
    want, x = load(source), np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    expected = logits_of(source, x)
    for file in files:
        if file.suffix == ".pte":  # is run, not read
            continue
        model = load(file)
        assert (model.config, model.images, model.notes) == (want.config, want.images, ()), file.name
        np.testing.assert_allclose(logits_of(file, x), expected, atol=1e-6)
        if file.suffix in (".pt2", ".pt"):
            for name, tensor in want.tensors.items():
                np.testing.assert_array_equal(model.tensors[name].read(), tensor.read())


def test_a_bias_of_zeros_may_be_left_out(tmp_path: Path) -> None:
    """As LiteRT's converter does."""
    model, name = random_model(replace(CIFAR, head=("linear:6", "relu"))), "head.0.linear.bias"
    source = save(
        replace(model, tensors={**model.tensors, name: Tensor.of(np.zeros(6, np.float32))}), tmp_path / "m.pth"
    )
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    for runtime in INSTALLED:
        if runtime.suffix != ".pte":  # is run, not read
            file = export_runtime(source, tmp_path / f"m{runtime.suffix}").path
            np.testing.assert_allclose(logits_of(file, x), logits_of(source, x), atol=1e-6)
            assert all(check.ok is not False for check in verify(source, file).checks[file.name]), runtime.name


@pytest.mark.parametrize(
    ("config", "not_read"),
    [
        (replace(CIFAR, in_channels=1, stem="imagenet"), (".pte",)),
        (replace(CIFAR, spatial_dims=1), (".pte", ".tflite")),  # of LiteRT signals are images of one line
    ],
)
def test_networks_of_one_channel_and_of_signals_are_read_back(
    config: DenseNetConfig, not_read: tuple[str, ...], tmp_path: Path
) -> None:
    source = save(random_model(config), tmp_path / "m.safetensors")
    shape = (1, config.in_channels, *(32,) * config.spatial_dims)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for runtime in INSTALLED:
        if runtime.suffix not in not_read:
            file = export_runtime(source, tmp_path / f"m{runtime.suffix}").path
            assert load(file).config == config, runtime.name
            np.testing.assert_allclose(logits_of(file, x), logits_of(source, x), rtol=1e-4, atol=1e-5)


def test_the_same_network_gives_the_same_bytes(source: Path, files: list[Path], tmp_path: Path) -> None:
    for file in files:
        if file.suffix in (".xml", ".pt"):
            again = export_runtime(source, tmp_path / f"again{file.suffix}")
            assert again.path.read_bytes() == file.read_bytes()


UNUSUAL = {
    "a signal of which one position is left": replace(
        CIFAR, spatial_dims=1, transition_stride=5, block_config=(1, 1, 1)
    ),
    "a filter that is no weight": replace(CIFAR, stem="imagenet", stem_pool="blur", transition_pool="blur"),
    "padding that depends on sizes": replace(CIFAR, padding="same"),
    "a slope": replace(CIFAR, hidden_activation="leaky_relu:0.1"),
}


@pytest.mark.parametrize("config", UNUSUAL.values(), ids=UNUSUAL)
def test_pytorchs_programs_of_what_is_less_usual(config: DenseNetConfig, tmp_path: Path) -> None:
    """Which are run, and of any size."""
    source = save(random_model(config), tmp_path / "m.safetensors")
    for runtime in RUNTIMES:
        if runtime.suffix in (".pt2", ".pt"):
            run = runtime.start(export_runtime(source, tmp_path / f"m{runtime.suffix}").path, 1)
            for n, size in ((1, 33), (3, 76)):
                x = np.random.default_rng(0).normal(size=(n, 3, *(size,) * config.spatial_dims)).astype(np.float32)
                np.testing.assert_allclose(run(x), logits_of(source, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", UNUSUAL.values(), ids=UNUSUAL)
def test_openvino_in_half_precision_is_read_as_it_is_stored(config: DenseNetConfig, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    source = save(random_model(config), tmp_path / "m.safetensors")
    model = load(export_runtime(source, tmp_path / "m.xml", precision="fp16").path)
    kernels = [tensor.dtype for tensor in model.tensors.values() if len(tensor.shape) > 1]
    assert (model.config, {*kernels}) == (config, {np.dtype(np.float16)})


def test_what_a_runtimes_own_converter_raises_is_one_line(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: 1 / 0)
    with pytest.raises(CannotExpress, match=r"torch.export's converter cannot convert this network \(division by zero"):
        export_runtime(source, tmp_path / "m.pt2")
    assert not [*tmp_path.iterdir()]


def test_openvino_in_fewer_bits(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    whole = export_runtime(source, tmp_path / "whole.xml")
    for precision, smaller in (("fp16", 0.6), ("int8", 0.5)):
        done = export_runtime(source, tmp_path / f"{precision}.xml", precision=precision)
        assert done.files[f"{precision}.bin"] < smaller * whole.files["whole.bin"]
    verdict = verify(source, tmp_path / "fp16.xml", tmp_path / "int8.xml")
    judged = {name: judgement.precision for name, judgement in verdict.budgets.items()}
    assert judged == {"OpenVINO, fp16.xml": "fp16", "OpenVINO, int8.xml": "int8"}
    assert verdict.budgets["OpenVINO, fp16.xml"].passed  # 8 bits are judged on trained weights


def test_a_program_that_does_more_than_compute_is_not_run(source: Path, tmp_path: Path) -> None:
    class Noisy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.rand([x.size(0), 3])

    said = json.dumps(load(source).metadata())
    torch.jit.save(torch.jit.script(Noisy()), tmp_path / "m.pt", _extra_files={"densenet.json": said})
    with pytest.raises(UnsafeFile, match=r"m\.pt: its program calls rand, which no DenseNet needs; it is not run"):
        verify(source, tmp_path / "m.pt")


def test_texts_that_pytorch_would_evaluate_are_not_run(source: Path, files: list[Path], tmp_path: Path) -> None:
    good = next(file for file in files if file.suffix == ".pt2")
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(tmp_path / "m.pt2", "w") as bad:
        for name in archive.namelist():
            data = archive.read(name)
            if name.endswith("models/model.json"):
                assert b"stack_trace" not in data  # nor does it say where on this machine it was made
                evil = f"__import__('pathlib').Path('{tmp_path}/touched').touch()"
                data = json.dumps(replaced(json.loads(data), evil)).encode()
            bad.writestr(name, data)
    with pytest.raises(UnsafeFile, match=r"its program has Python evaluate .*; it is not run"):
        verify(source, tmp_path / "m.pt2")
    assert not (tmp_path / "touched").exists()


def replaced(node: Any, text: str) -> Any:
    """A program with that text for every length that is computed."""
    if isinstance(node, dict):
        return {key: text if key == "expr_str" else replaced(value, text) for key, value in node.items()}
    return [replaced(value, text) for value in node] if isinstance(node, list) else node


def test_networks_that_a_runtime_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = save(replace(CIFAR, spatial_dims=3, in_channels=1), tmp_path / "volumes.safetensors")
    monkeypatch.setattr("converter.engines.runtime.find_spec", lambda name: object())  # as if it were installed
    with pytest.raises(CannotExpress, match=r"LiteRT takes no network of volumes \(3-D\); an \.onnx or OpenVINO's"):
        export_runtime(volumes, tmp_path / "m.tflite")
    with pytest.raises(CannotExpress, match=r"ExecuTorch takes no network of volumes"):
        export_runtime(volumes, tmp_path / "m.pte")
    assert [path.name for path in tmp_path.iterdir()] == ["volumes.safetensors"]


def test_what_cannot_be_written(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConverterError, match=r"m\.bla: end the name in \.onnx, or \.xml \(OpenVINO\), "):
        export_runtime(source, tmp_path / "m.bla")
    with pytest.raises(ConverterError, match=r"m\.pt2: is written for torch\.export in fp32, not in fp16"):
        export_runtime(source, tmp_path / "m.pt2", precision="fp16")
    (tmp_path / "notes.pt").write_text("mine")
    with pytest.raises(CannotWrite, match="does not say that this tool wrote it"):
        export_runtime(source, tmp_path / "notes.pt")
    monkeypatch.setattr("converter.engines.runtime.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"openvino is not installed: pip install 'densenet-converter\[openvino\]'"):
        export_runtime(source, tmp_path / "m.xml")
    lacking = r"openvino, torch and litert_torch are not installed: pip install 'densenet-converter\[openvino,litert\]'"
    with pytest.raises(Unavailable, match=lacking):
        package(source, tmp_path / "repository", also=["openvino", "tflite"])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.pt"]


@pytest.mark.parametrize("runtime", [r for r in INSTALLED if "fp16" in r.precisions], ids=lambda r: r.key)
def test_half_precision_passes_to_its_rounding_and_one_weight_does_not(
    source: Path, runtime: Runtime, tmp_path: Path
) -> None:
    model, name = load(source), "blocks.1.layers.0.conv1.weight"
    changed = model.tensors[name].read().copy()
    changed[1, 2, 1, 1] += 0.01
    other = save(replace(model, tensors={**model.tensors, name: Tensor.of(changed)}), tmp_path / "changed.pth")
    files = [tmp_path / f"{stem}{runtime.suffix}" for stem in ("good", "bad")]
    for made_of, file in zip((source, other), files):
        export_runtime(made_of, file, precision="fp16")
    verdict = verify(source, *files)
    assert all(judgement.passed for judgement in verdict.budgets.values())  # what logits show
    weights = [next(check for check in verdict.checks[file.name] if check.name == "weights") for file in files]
    assert [check.ok for check in weights] == [True, False]
    assert "blocks.1.layers.0.conv1: weight differs in 1 of" in weights[1].detail
