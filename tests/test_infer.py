"""Names nobody knows: inferred by order; tables saved, edited and passed back."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import imagenet_configs, random_tensors

from converter import load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from converter.layouts import LAYOUTS
from converter.layouts.custom import layout_toml, read_layout
from converter.reading import inspect
from converter.reading import load as convert
from densenet import DenseNetConfig

CONFIG = DenseNetConfig(growth_rate=4, block_config=(2, 3, 1), init_features=8, num_classes=3)
RENAMES = [
    (r"stem\.conv", "entry.kern"),
    (r"stem\.norm", "entry.bn"),
    (r"blocks\.(\d+)\.layers\.(\d+)\.", lambda m: f"stage{m[1]}.unit{int(m[2]) + 1}."),
    (r"transitions\.(\d+)\.", lambda m: f"down{int(m[1]) + 10}."),
    (r"norm(?=[12]?\.)", "bn"),
    (r"running_mean", "moving_mean"),
    (r"running_var", "moving_variance"),
    (r"classifier", "species"),
]


def rename(name: str) -> str:
    for pattern, new in RENAMES:
        name = re.sub(pattern, new, name)
    return name


def save(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """npz keeps the order of its members, as a state dict does."""
    np.savez(path, **tensors)
    return path


def same(path: Path, tensors: dict[str, np.ndarray], **options: Any) -> None:
    found = load(path, **options)
    assert set(found.tensors) == set(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(found.tensors[name].read(), array, err_msg=name)


def test_unknown_names_are_matched_in_order_and_reported(tmp_path: Path) -> None:
    tensors = random_tensors(CONFIG)
    path = save(tmp_path / "a.npz", {rename(name): array for name, array in tensors.items()})
    found = inspect(path)
    assert found.chosen.layout.name == "inferred"
    assert "inferred" in found.model.notes[0]
    assert found.chosen.layout.modules["blocks.{b}.layers.{l}.norm1"] == "stage{b}.unit{l+1}.bn1"
    assert found.chosen.layout.modules["transitions.{t}.conv"] == "down{t+10}.conv"
    same(path, tensors)


def test_names_in_alphabetical_order_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    """As safetensors' own writer leaves them, tensors named by one running number."""
    config = DenseNetConfig(growth_rate=4, block_config=(6, 5), init_features=8, num_classes=3)
    tensors, number, owner = {}, {}, ""
    for name, array in random_tensors(config).items():
        owner = name.rpartition(".")[0]
        tensors[f"layer_{number.setdefault(owner, len(number))}.{name.rpartition('.')[2]}"] = array
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    same(tmp_path / "a.safetensors", random_tensors(config))


def test_the_guessed_table_can_be_saved_and_passed_back(tmp_path: Path) -> None:
    tensors = random_tensors(CONFIG)
    foreign = {rename(name): array for name, array in tensors.items()}
    path, table = save(tmp_path / "a.npz", foreign), tmp_path / "mine.toml"
    table.write_text(layout_toml(inspect(path).chosen.layout).replace('"inferred"', '"mine"'))
    shuffled = save(tmp_path / "b.npz", {f"x.{name}": foreign[name] for name in sorted(foreign)})
    found = load(shuffled, layout=str(table))
    assert (found.source.layout, found.source.prefix, found.notes) == ("mine", "x.", ())
    same(shuffled, tensors, layout=str(table))
    convert(shuffled, tmp_path / "c.npz", layout=str(table), to=str(table))
    assert set(np.load(tmp_path / "c.npz")) == set(foreign)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout.writable], ids=lambda layout: layout.name)
def test_built_in_tables_as_files(layout: Any, tmp_path: Path) -> None:
    try:
        (tmp_path / "a.toml").write_text(layout_toml(layout))
    except ConverterError as error:
        assert "more than rename" in str(error)
        return
    again = read_layout(tmp_path / "a.toml")
    assert again.modules == layout.modules
    assert {name: leaf.names for name, leaf in again.leaves.items() if name in layout.leaves} == {
        name: leaf.names for name, leaf in layout.leaves.items()
    }
    assert again.network == layout.network


@settings(deadline=None, max_examples=30)
@given(imagenet_configs(), st.integers(0, 3))
def test_any_network_is_inferred(config: DenseNetConfig, offset: int) -> None:
    from converter.core.checkpoint import Tensor
    from converter.reading.infer import infer
    from converter.reading.wrappers import groups

    tensors = random_tensors(config)
    foreign = {re.sub(r"\d+", lambda m: str(int(m[0]) + offset), rename(name)): t for name, t in tensors.items()}
    found = infer(groups({name: Tensor.of(array) for name, array in foreign.items()}), "x")
    assert found is not None
    assert found.config is not None
    assert found.config.tensors() == config.tensors()
    for name, (_, (key,)) in found.used.items():
        np.testing.assert_array_equal(foreign[key], tensors[name])


@pytest.mark.parametrize("change", ["swap", "drop", "add"])
def test_what_is_not_in_order_is_refused(change: str, tmp_path: Path) -> None:
    items = [(rename(name), array) for name, array in random_tensors(CONFIG).items()]
    if change == "swap":
        items[1:5], items[6:10] = items[6:10], items[1:5]
    elif change == "drop":
        del items[10]
    else:
        items.insert(10, ("extra.weight", np.zeros((4, 4, 3, 3), np.float32)))
    with pytest.raises(NotADenseNet, match="not a DenseNet in any known layout"):
        load(save(tmp_path / "a.npz", dict(items)))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("name = ", UnreadableFile, "cannot be read as a layout"),
        ('name = "a"', ConverterError, "must give every module"),
        ('[modules]\n"stem.conf" = "a"', ConverterError, "stem.conf"),
        ('[modules]\n"stem.conv" = 3', ConverterError, "must give every module"),
        ('[modules]\n"transitions.{t}.conv" = "down.conv"', ConverterError, "must say {t}"),
        ('[modules]\n"stem.conv" = "a"\n[leaves]\n"norm.gamma" = "b"', ConverterError, "norm.gamma"),
        ('[modules]\n"stem.conv" = "a"\n[leaves]\n"norm.weight" = { stored = "up" }', ConverterError, "stored"),
        ('[modules]\n"stem.conv" = "a"\n[network]\nwings = 2', ConverterError, "wings"),
    ],
)
def test_tables_with_mistakes(text: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(error, match=re.escape(words)):
        read_layout(tmp_path / "a.toml")


def test_a_missing_table(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", random_tensors(CONFIG))
    with pytest.raises(UnreadableFile, match=r"none\.toml"):
        load(path, layout=str(tmp_path / "none.toml"))
