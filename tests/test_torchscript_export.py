"""TorchScript, frozen or not, and the programs of torch.export."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import logits_of
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile, UnsafeFile
from converter.formats import open_checkpoint
from converter.reading.load import load
from converter.writing.convert import convert

torch = pytest.importorskip("torch")
densenet = pytest.importorskip("torchvision.models.densenet")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

IMAGES = np.random.default_rng(3).normal(size=(2, 3, 64, 64)).astype(np.float32)


def network(eps: float = 1e-5, **changes: Any) -> Any:
    torch.manual_seed(0)
    made = densenet.DenseNet(4, (2, 1, 2), 6, bn_size=2, num_classes=5)
    for name, tensor in made.state_dict().items():
        if "running" in name or ("norm" in name and tensor.dtype == torch.float32):
            tensor.uniform_(0.5, 1.5)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = eps
        for name, value in changes.items():
            if isinstance(module, torch.nn.MaxPool2d | torch.nn.AvgPool2d):
                setattr(module, name, value)
    return made.eval()


def logits(module: Any, x: np.ndarray = IMAGES) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def scripted(module: Any) -> Any:
    return torch.jit.script(module)


def traced(module: Any) -> Any:
    return torch.jit.trace(module, torch.from_numpy(IMAGES))


def frozen_script(module: Any) -> Any:
    return torch.jit.freeze(scripted(module))


def frozen_trace(module: Any) -> Any:
    return torch.jit.freeze(traced(module))


def frozen_unfolded(module: Any) -> Any:
    return torch.jit.freeze(scripted(module), optimize_numerics=False)


# -- TorchScript -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [scripted, traced])
def test_modules_that_are_not_frozen_keep_their_names(tmp_path: Path, make: Callable[[Any], Any]) -> None:
    module, path = network(), tmp_path / "model.pt"
    make(module).save(str(path))
    model = load(path)
    assert model.source.layout == "torchvision"
    assert np.abs(logits_of(path, IMAGES) - logits(module)).max() < 1e-5
    convert(path, tmp_path / "back.pth", to="torchvision")
    module.load_state_dict(torch.load(tmp_path / "back.pth"))


@pytest.mark.parametrize("make", [frozen_script, frozen_trace, frozen_unfolded])
@pytest.mark.parametrize("changes", [{}, {"eps": 1e-3}, {"ceil_mode": True}], ids=str)
def test_frozen_modules_are_read_from_their_code(
    tmp_path: Path, make: Callable[[Any], Any], changes: dict[str, Any]
) -> None:
    module, path = network(**changes), tmp_path / "model.pt"
    make(module).save(str(path))
    x = np.random.default_rng(1).normal(size=(1, 3, 77, 90)).astype(np.float32)
    model = load(path)
    assert model.source.layout == "torchscript"
    assert model.config.eps == changes.get("eps", 1e-5)
    assert model.config.stem_ceil == model.config.transition_ceil == changes.get("ceil_mode", False)
    assert np.abs(logits_of(path, x) - logits(module, x)).max() < 1e-5


def test_an_unfolded_frozen_module_is_the_module_bit_for_bit(tmp_path: Path) -> None:
    module, path = network(), tmp_path / "model.pt"
    frozen_unfolded(module).save(str(path))
    convert(path, tmp_path / "back.safetensors", to="torchvision")
    from safetensors.numpy import load_file

    state = module.state_dict()
    for name, array in load_file(tmp_path / "back.safetensors").items():
        assert np.array_equal(array, state[name].numpy()), name


class NewestFirst(torch.nn.Module):
    """kuangliu's order of concatenation, without ReLU in the transition or behind the last norm."""

    def __init__(self) -> None:
        super().__init__()
        conv, norm = torch.nn.Conv2d, torch.nn.BatchNorm2d
        self.conv0 = conv(3, 6, 3, padding=1, bias=False)
        widths = (6, 10, 7, 11)
        self.norms = torch.nn.ModuleList(norm(n) for n in widths)
        self.convs = torch.nn.ModuleList(conv(n, 4, 3, padding=1, bias=False) for n in widths)
        self.norm_t, self.conv_t = norm(14), conv(14, 7, 1, bias=False)
        self.norm, self.linear = norm(15), torch.nn.Linear(15, 5)

    def forward(self, x: Any) -> Any:
        f = torch.nn.functional
        x = self.conv0(x)
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs)):
            if i == 2:
                x = f.avg_pool2d(self.conv_t(self.norm_t(x)), 2)
            x = torch.cat([conv(f.relu(norm(x))), x], 1)
        return self.linear(f.adaptive_avg_pool2d(self.norm(x), 1).flatten(1))


def test_what_the_code_says_beside_the_weights_is_honoured(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module, path = NewestFirst(), tmp_path / "model.pt"
    for name, tensor in module.state_dict().items():
        if "norm" in name and tensor.dtype == torch.float32:
            tensor.uniform_(0.5, 1.5)
    frozen_trace(module.eval()).save(str(path))
    config = load(path).config
    assert (config.transition_relu, config.final_relu, config.stem, config.bottleneck) == (False, False, "cifar", False)
    assert np.abs(logits_of(path, IMAGES) - logits(module)).max() < 1e-5


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax"])
@pytest.mark.parametrize("make", [frozen_trace, frozen_script])
def test_frozen_modules_of_timm(tmp_path: Path, make: Callable[[Any], Any], pool: str) -> None:
    timm = pytest.importorskip("timm.models.densenet")
    blur = pytest.importorskip("timm.layers").BlurPool2d
    if make is frozen_script and pool != "avg":
        pytest.skip("timm's other pools cannot be scripted")
    torch.manual_seed(2)
    path = tmp_path / "model.pt"
    module = timm.DenseNet(4, (2, 1, 2), 5, bn_size=2, stem_type="deep", aa_layer=blur, global_pool=pool).eval()
    make(module).save(str(path))
    config = load(path).config
    assert (config.stem_pool, config.global_pool) == ("blur", pool)
    assert np.abs(logits_of(path, IMAGES) - logits(module)).max() < 1e-5


def test_another_network_is_refused_by_operator(tmp_path: Path) -> None:
    resnet = pytest.importorskip("torchvision.models.resnet")
    path = tmp_path / "model.pt"
    frozen_trace(resnet.resnet18(num_classes=3).eval()).save(str(path))
    with pytest.raises(NotADenseNet, match=r"torch\._convolution .* and torch\.add"):
        load(path)


def test_weights_packed_for_a_processor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.optimize_for_inference(scripted(network())).save(str(path))
    with pytest.raises(NotADenseNet, match="optimised for one processor"):
        load(path)


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The zip with some members changed, or left out."""
    result = path.with_name(f"changed{path.suffix}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(result, "w") as target:
        for info in source.infolist():
            data = change(info.filename, source.read(info))
            if data is not None:
                target.writestr(zipfile.ZipInfo(info.filename), data)
    return result


@pytest.mark.parametrize(
    "code",
    [
        "class DenseNet(Module):\n  def forward(self, x):\n    return (",
        "class DenseNet(Module):\n  def forward(self, x):\n    return " + "(" * 5000 + "x" + ")" * 5000,
        "class DenseNet(Module):\n  def forward(self, x):\n    return " + "-" * 20000 + "1",
        "class Other(Module):\n  pass\n",
        "class DenseNet(Module):\n  def forward(self, x, y):\n    return x",
        "class DenseNet(Module):\n  def forward(self, x):\n    return __import__('os').system('false')",
        "",
        "\0",
    ],
    ids=["syntax", "nested", "signs", "other class", "two inputs", "code", "empty", "nul"],
)
def test_code_is_text_and_nothing_else(tmp_path: Path, code: str) -> None:
    path = tmp_path / "model.pt"
    frozen_trace(network()).save(str(path))
    hostile = rewritten(path, lambda name, data: code.encode() if name.endswith(".py") else data)
    with pytest.raises(ConverterError):
        load(hostile)


def test_a_storage_that_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    frozen_trace(network()).save(str(path))
    short = rewritten(path, lambda name, data: data[:-4] if name.endswith("constants/0") else data)
    with pytest.raises(UnreadableFile, match="are needed"):
        load(short)


def test_a_pickle_that_asks_for_code(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    frozen_trace(network()).save(str(path))
    evil = b"\x80\x02cos\nsystem\nX\x05\x00\x00\x00false\x85R."
    for member in ("data.pkl", "constants.pkl"):
        hostile = rewritten(path, lambda name, data, member=member: evil if name.endswith(member) else data)
        with pytest.raises(UnsafeFile, match=r"os\.system"):
            load(hostile)


# -- torch.export ------------------------------------------------------------------------


def program(path: Path, **changes: Any) -> Any:
    module = network(**changes)
    torch.export.save(torch.export.export(module, (torch.from_numpy(IMAGES),)), str(path))
    return module


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("changes", [{}, {"eps": 1e-3}, {"ceil_mode": True}], ids=str)
def test_exported_programs(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "model.pt2"
    module = program(path, **changes)
    model = load(path)
    assert model.source.layout == "torchvision"
    assert model.config.eps == changes.get("eps", 1e-5)
    assert model.config.stem_ceil == changes.get("ceil_mode", False)
    assert np.abs(logits_of(path, IMAGES) - logits(module)).max() < 1e-5
    assert set(open_checkpoint(path).tree) == set(module.state_dict())


def test_tensors_that_share_a_storage(tmp_path: Path) -> None:
    module, path = network(), tmp_path / "model.pt2"
    parameters = list(module.parameters())
    flat = torch.nn.utils.parameters_to_vector(parameters).detach()
    at = 0
    for parameter in parameters:
        parameter.data = flat[at : at + parameter.numel()].view_as(parameter)
        at += parameter.numel()
    torch.export.save(torch.export.export(module, (torch.from_numpy(IMAGES),)), str(path))
    assert np.abs(logits_of(path, IMAGES) - logits(module)).max() < 1e-5


@pytest.mark.parametrize(
    "member", ["serialized_state_dict.pt", "serialized_state_dict.json", "m/data/weights/model.pt"]
)
def test_older_layouts_of_the_archive(tmp_path: Path, member: str) -> None:
    """Until 2.7 the program was at the top of the zip, in 2.8 under data/weights; always a torch zip in it."""
    module, path = network(), tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.2")
        archive.writestr("serialized_exported_program.json", json.dumps({"graph_module": {"graph": {"nodes": []}}}))
        archive.writestr("serialized_example_inputs.pt", saved((torch.zeros(1),)))
        archive.writestr(member, saved(module.state_dict()))
    assert np.abs(logits_of(path, IMAGES) - logits(module)).max() < 1e-5


def config_with(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    def changed(name: str, data: bytes) -> bytes:
        if not name.endswith("_weights_config.json"):
            return data
        config = json.loads(data)
        change(config["config"]["features.conv0.weight"])
        return json.dumps(config).encode()

    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(path_name="../../../weight"),
        lambda entry: entry.update(path_name=None),
        lambda entry: entry.update(use_pickle=True),
        lambda entry: entry.update(tensor_meta=None),
        lambda entry: entry["tensor_meta"].update(dtype=99),
        lambda entry: entry["tensor_meta"]["sizes"][0].update(as_int=1 << 60),
        lambda entry: entry["tensor_meta"]["sizes"][0].update(as_int=-1),
        lambda entry: entry["tensor_meta"]["strides"][0].update(as_int=1 << 60),
        lambda entry: entry["tensor_meta"]["storage_offset"].update(as_int=10**9),
    ],
)
def test_a_config_that_does_not_fit_its_data(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = tmp_path / "model.pt2"
    program(path)
    with pytest.raises(UnreadableFile):
        load(rewritten(path, config_with(change)))


def test_a_state_dict_that_asks_for_code(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as inner:
        inner.writestr("archive/data.pkl", b"\x80\x02cos\nsystem\nX\x05\x00\x00\x00false\x85R.")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_state_dict.pt", buffer.getvalue())
    with pytest.raises(UnsafeFile, match=r"os\.system"):
        load(path)


# -- damaged -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("archives")
    program(folder / "model.pt2")
    frozen_trace(network()).save(str(folder / "model.pt"))
    return [(folder / name).read_bytes() for name in ("model.pt2", "model.pt")]


def test_truncated_anywhere(tmp_path: Path, archives: list[bytes]) -> None:
    path = tmp_path / "model.pt"
    for data in archives:
        for end in range(1, len(data) - 1, len(data) // 40):
            path.write_bytes(data[:end])
            with pytest.raises((UnreadableFile, NotADenseNet)):  # a zip within the zip may be what is left
                load(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_gives_an_error_or_other_weights(
    tmp_path_factory: pytest.TempPathFactory, archives: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "model.pt"
    content = bytearray(data.draw(st.sampled_from(archives)))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        for tensor in load(path).tensors.values():
            tensor.read()
    except ConverterError as error:
        assert "\n" not in str(error)
