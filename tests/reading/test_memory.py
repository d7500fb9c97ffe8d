"""What is in memory is read as files of it are: state dicts, modules, Keras models, bytes, open files."""

from __future__ import annotations

import gc
import importlib
import io
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter import ConverterError, Inspection, convert, export_onnx, inspect, load
from converter.core.errors import NotADenseNet, UnreadableFile, UnsafeFile

torch = pytest.importorskip("torch")


def networks() -> dict[str, Callable[[], Any]]:
    """A small network of each framework, with statistics of its own."""
    return {
        "torchvision": lambda: importlib.import_module("torchvision.models").DenseNet(4, (2, 1), 8, num_classes=3),
        "timm": lambda: importlib.import_module("timm.models.densenet").DenseNet(4, (2, 1), num_classes=3),
        "monai": lambda: importlib.import_module("monai.networks.nets").DenseNet(2, 1, 3, 8, 4, (2, 1)),
    }


def network(framework: str) -> Any:
    pytest.importorskip(framework)
    torch.manual_seed(0)
    made = networks()[framework]()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return made


def check_same(one: Any, other: Path | Any, **how: Any) -> Inspection:
    """Two sources are one network, to the last bit and the last note; and so are files made of them."""
    a, b = inspect(one, **how), inspect(other, **how)
    for field in ("config", "notes", "dropped", "images", "unsaid", "activation"):
        assert getattr(a.model, field) == getattr(b.model, field), field
    assert list(a.model.tensors) == list(b.model.tensors)
    for name, tensor in a.model.tensors.items():
        ours, theirs = tensor.read(), b.model.tensors[name].read()
        assert (ours.dtype, ours.tobytes()) == (theirs.dtype, theirs.tobytes()), name
        assert not ours.flags.writeable
    assert a.to_dict()["tensors"] == b.to_dict()["tensors"]
    return a


@pytest.mark.parametrize("framework", ["torchvision", "timm", "monai"])
def test_a_module_and_its_state_dict_are_read_as_their_files(framework: str, tmp_path: Path) -> None:
    made = network(framework)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    torch.save(made, tmp_path / "module.pth")
    torch.save(made.state_dict(), tmp_path / "state.pth")
    found = check_same(made, tmp_path / "module.pth")
    assert found.model.origin.layout == framework
    check_same(made.state_dict(), tmp_path / "state.pth")
    check_same({name: tensor.numpy() for name, tensor in made.state_dict().items()}, tmp_path / "state.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())


def test_what_is_converted_from_memory_is_what_is_converted_from_files(tmp_path: Path) -> None:
    made = network("torchvision").bfloat16()
    torch.save(made, tmp_path / "module.pth")
    for name, how in {"a.npz": {"dtype": "fp32"}, "a.pth": {"to": "timm"}, "a.h5": {"dtype": "fp32"}}.items():
        results = []
        for source in (made, tmp_path / "module.pth"):
            convert(source, tmp_path / name, **how, force=True)  # type: ignore[arg-type]
            results.append((tmp_path / name).read_bytes())
        assert results[0] == results[1], name


def test_a_keras_model_is_read_as_its_file(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    keras_densenet = importlib.import_module("keras.src.applications.densenet").DenseNet
    made = keras_densenet([1, 1, 1, 1], weights=None, input_shape=(32, 32, 3), classes=3)
    made.save(tmp_path / "model.keras")
    found = check_same(made, tmp_path / "model.keras")
    assert found.model.activation == "softmax" and found.model.origin.sha256 == ""
    by_path = {weight.path: np.asarray(weight.numpy()) for weight in made.weights}
    assert load(by_path).config == found.model.config


def test_bytes_and_open_files_are_the_files(tmp_path: Path) -> None:
    torch.save(network("torchvision").state_dict(), tmp_path / "state.pth")
    data = (tmp_path / "state.pth").read_bytes()
    in_file = inspect(tmp_path / "state.pth").to_dict()
    for content in (data, memoryview(data), io.BytesIO(data)):
        found = check_same(content, tmp_path / "state.pth")
        assert {k: v for k, v in found.to_dict().items() if k != "source"} == {
            k: v for k, v in in_file.items() if k != "source"
        }
    with (tmp_path / "state.pth").open("rb") as file:
        check_same(file, tmp_path / "state.pth")
        assert file.tell() == 0
    buffer = io.BytesIO(b"before" + data)
    buffer.seek(6)
    check_same(buffer, tmp_path / "state.pth")
    assert buffer.tell() == 6


def test_a_stream_is_read_once_and_kept(tmp_path: Path) -> None:
    torch.save(network("torchvision").state_dict(), tmp_path / "state.pth")
    read, write = os.pipe()
    with os.fdopen(write, "wb") as end:
        end.write((tmp_path / "state.pth").read_bytes())
    with os.fdopen(read, "rb") as pipe:
        check_same(pipe, tmp_path / "state.pth")


def test_a_traced_program(tmp_path: Path) -> None:
    traced = torch.jit.trace(network("torchvision").eval(), torch.rand(1, 3, 64, 64))
    torch.jit.save(traced, tmp_path / "traced.pt")
    check_same(traced, tmp_path / "traced.pt")


def test_the_wrapping_that_files_have(tmp_path: Path) -> None:
    made = torch.nn.DataParallel(network("torchvision"))
    whole = {"epoch": 3, "model": made, "class_to_idx": {"a": 0, "b": 1, "c": 2}}
    torch.save(whole, tmp_path / "whole.pth")
    assert check_same(whole, tmp_path / "whole.pth").model.images.labels == ("a", "b", "c")


def test_a_loaded_model_is_taken_as_it_is() -> None:
    model = load(network("torchvision").state_dict())
    again = load(model)
    assert again == model and again.notes == model.notes
    other = load(model, settings={"global_pool": "max"})
    assert other.config.global_pool == "max" and other.config.block_config == model.config.block_config


@pytest.mark.parametrize(
    "source",
    [None, 5, [], ["a.pth"], [1, 2], object(), {"a"}],
    ids=["None", "int", "empty", "names", "numbers", "object", "set"],
)
def test_what_is_no_source_is_answered_with_what_is(source: Any) -> None:
    for function in (load, inspect, lambda s: convert(s, "x.pth"), lambda s: export_onnx(s, io.BytesIO())):
        with pytest.raises(ConverterError, match=r"a source is a path, URL, .*torch\.nn\.Module.*; not (an? )?\w+"):
            function(source)


def test_what_holds_no_densenet_is_refused_as_a_file_of_it() -> None:
    with pytest.raises(NotADenseNet, match="state dict in memory"):
        load({})
    with pytest.raises(NotADenseNet, match="Linear in memory"):
        load(torch.nn.Linear(3, 3))
    with pytest.raises(UnreadableFile, match=r"^bytes in memory: is empty"):
        load(b"")
    with pytest.raises(UnsafeFile, match=r"^bytes in memory"):
        load(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ConverterError, match="binary mode"):
        load(io.StringIO("text"))


def test_tensors_without_values_are_named() -> None:
    state = network("torchvision").state_dict()
    state["classifier.weight"] = state["classifier.weight"].to("meta")
    with pytest.raises(NotADenseNet, match=r"classifier\.weight.*meta device"):
        load(state)


def test_a_module_whose_forward_was_replaced_is_refused() -> None:
    made = network("torchvision")
    assert load(torch.compile(made)).notes == load(made).notes
    made.forward = lambda x: x
    with pytest.raises(NotADenseNet, match="another forward"):
        load(made)


def test_another_architecture_in_the_same_names_is_refused_as_its_pickle_is(tmp_path: Path) -> None:
    made = network("torchvision")
    made.features.denseblock1.denselayer1.conv2.dilation = (2, 2)
    torch.save(made, tmp_path / "module.pth")
    errors = []
    for source in (made, tmp_path / "module.pth"):
        with pytest.raises(NotADenseNet) as error:
            load(source)
        errors.append(str(error.value).partition(": ")[2])
    assert errors[0] == errors[1]


def test_weights_that_change_meanwhile_are_not_read() -> None:
    made = network("torchvision")
    model = load(made)
    with torch.no_grad():
        made.classifier.weight.add_(1)
    with pytest.raises(UnreadableFile, match="changed since it was read"):
        model.tensors["classifier.weight"].read()
    assert (load(made).tensors["classifier.weight"].read() == made.classifier.weight.detach().numpy()).all()


def test_nothing_is_kept_alive_but_the_tensors(tmp_path: Path) -> None:
    made = network("torchvision")
    model, gone = load(made), weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None
    assert model.tensors["classifier.weight"].read().shape == (3, 12)


def test_the_folder_one_works_in_says_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "densenetblur121d", "num_classes": 3}')
    monkeypatch.chdir(tmp_path)
    state = OrderedDict(network("torchvision").state_dict())
    assert load(state).config.stem_pool == "max"


def test_numpy_needs_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    arrays = {name: tensor.numpy() for name, tensor in network("torchvision").state_dict().items()}
    np.savez(tmp_path / "a.npz", **arrays)
    code = (
        "import sys, numpy, converter; a = dict(numpy.load('a.npz')); converter.convert(a, 'b.safetensors'); "
        "assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment)
    assert (tmp_path / "b.safetensors").exists()
