"""The programs of torch.export."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cases import logits_of
from helpers.torchscript import IMAGES, frozen_trace, logits, network, rewritten, torch
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile, UnsafeFile
from converter.formats import open_checkpoint

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


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
    assert model.origin.layout == "torchvision"
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
    path = tmp_path / "model.pt2"
    module = program(path)
    with zipfile.ZipFile(path) as archive:
        graph = archive.read(next(name for name in archive.namelist() if name.endswith("models/model.json")))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.2")
        archive.writestr("serialized_exported_program.json", graph)
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


@settings(max_examples=60)
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
