"""flax' msgpacks and flattened arrays, MLX' weights: names and orientations that become PyTorch's."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import CASES, logits_of
from safetensors.numpy import load_file, save_file

from converter import load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from converter.formats import open_checkpoint

FLAX, MLX = CASES / "flax-msgpack", CASES / "mlx"


def flattened(node: object, name: str = "", sep: str = "/") -> dict[str, np.ndarray]:
    """The arrays of a tree by their joined names, as flax.traverse_util.flatten_dict makes them."""
    if not isinstance(node, dict):
        return {name: np.ascontiguousarray(node.read())}  # type: ignore[attr-defined]
    return {
        k: v
        for key, child in node.items()
        for k, v in flattened(child, f"{name}{sep}{key}" if name else key, sep).items()
    }


def right(path: Path, case: Path) -> bool:
    want = np.load(case / "logits.npy")
    return bool(np.abs(logits_of(path, np.load(case / "input.npy")) - want).max() < 1e-5 * np.abs(want).max())


@pytest.mark.parametrize("sep", ["/", "."])
def test_flattened_trees_are_read(sep: str, tmp_path: Path) -> None:
    arrays = flattened(open_checkpoint(FLAX / "densenet.msgpack").tree, sep=sep)
    save_file(arrays, tmp_path / "m.safetensors")
    np.savez(tmp_path / "m.npz", **arrays)
    assert right(tmp_path / "m.safetensors", FLAX)
    assert right(tmp_path / "m.npz", FLAX)


def test_the_optimizer_of_a_train_state_is_left_alone(tmp_path: Path) -> None:
    arrays = flattened(open_checkpoint(FLAX / "densenet.msgpack").tree)
    moments = {f"opt_state/0/mu/{name}": array + 1 for name, array in arrays.items() if name.startswith("params")}
    save_file({**arrays, **moments, "step": np.array([3], np.int32)}, tmp_path / "state.safetensors")
    assert right(tmp_path / "state.safetensors", FLAX)
    (tmp_path / "state.msgpack").write_bytes(packed(nested({**arrays, **moments})))
    assert right(tmp_path / "state.msgpack", FLAX)


@pytest.mark.parametrize("name", ["value", "params", "params/value", "batch_stats.raw_value"])
def test_a_name_that_is_nothing_else_is_a_name(tmp_path: Path, name: str) -> None:
    """In no file it is damage, flax' or not."""
    save_file({name: np.ones(3, np.float32), "conv.weight": np.ones((1, 2, 3, 3), np.float32)}, tmp_path / "m.bin")
    with pytest.raises(NotADenseNet):
        load(tmp_path / "m.bin")


def test_how_flax_pads_is_said_where_it_matters() -> None:
    path = FLAX / "densenet.msgpack"
    assert any("flax' own rule" in note for note in load(path).notes)
    model = load(path, settings={"padding": "same"})
    assert model.config.padding == "same"
    assert not any("flax' own rule" in note for note in model.notes)


def nested(flat: dict[str, np.ndarray]) -> dict[str, object]:
    tree: dict[str, object] = {}
    for name, array in flat.items():
        *places, leaf = name.split("/")
        node = tree
        for place in places:
            node = node.setdefault(place, {})  # type: ignore[assignment]
        node[leaf] = array
    return tree


def packed(node: object) -> bytes:
    """A tree as msgpack, arrays as flax' extension 1."""
    if isinstance(node, dict):
        items = b"".join(packed(key) + packed(value) for key, value in node.items())
        return b"\xde" + struct.pack(">H", len(node)) + items
    if isinstance(node, str):
        return b"\xd9" + bytes([len(node)]) + node.encode()
    if isinstance(node, int):
        return b"\xce" + struct.pack(">I", node)
    assert isinstance(node, np.ndarray)
    shape = bytes([0x90 + node.ndim]) + b"".join(map(packed, node.shape))
    data = b"\x93" + shape + packed(str(node.dtype)) + b"\xc6" + struct.pack(">I", node.nbytes) + node.tobytes()
    return b"\xc9" + struct.pack(">I", len(data)) + b"\x01" + data


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda raw: raw[:-3], "truncated|damaged"),
        (lambda raw: raw + b"\xc0", "1 bytes behind"),
        (lambda raw: raw.replace(b"float32", b"float33", 1), "type 'float33'"),
        (lambda raw: b"\x81\xa1a" * 100 + raw, "nested too deeply"),
        (lambda raw: b"\x81\xa1a\xdd\xff\xff\xff\xff", "too many values|truncated"),
    ],
)
def test_damaged_msgpacks_are_refused(damage: object, why: str, tmp_path: Path) -> None:
    path = tmp_path / "m.msgpack"
    path.write_bytes(damage((FLAX / "densenet.msgpack").read_bytes()))  # type: ignore[operator]
    with pytest.raises(UnreadableFile, match=rf"{why}"):
        load(path)


def test_convolutions_with_channels_last_are_turned(tmp_path: Path) -> None:
    arrays = load_file(MLX / "model.safetensors")
    np.savez(tmp_path / "m.npz", **arrays)
    assert right(tmp_path / "m.npz", MLX)
    turned = {k: v.transpose(0, 3, 1, 2) if v.ndim == 4 else v for k, v in arrays.items()}
    save_file({k: np.ascontiguousarray(v) for k, v in turned.items()}, tmp_path / "torch.safetensors")
    assert right(tmp_path / "torch.safetensors", MLX)


def test_layers_that_mlx_quantised_are_refused(tmp_path: Path) -> None:
    arrays = load_file(MLX / "model.safetensors")
    arrays["classifier.weight"] = np.zeros((5, 2), np.uint32)
    arrays |= {f"classifier.{name}": np.zeros((5, 1), np.float32) for name in ("scales", "biases")}
    save_file(arrays, tmp_path / "m.safetensors")
    with pytest.raises(NotADenseNet, match=r"classifier\.weight is quantised"):
        load(tmp_path / "m.safetensors")


def test_a_kernel_of_another_width_is_an_error(tmp_path: Path) -> None:
    arrays = flattened(open_checkpoint(FLAX / "densenet.msgpack").tree)
    name = next(name for name in arrays if name.endswith("DenseLayer_0/Conv_1/kernel"))
    arrays[name] = arrays[name][:, :, :-1]
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, tmp_path / "m.safetensors")
    with pytest.raises(ConverterError):
        load(tmp_path / "m.safetensors")
