"""MXNet: four generations of arrays, Gluon's names and those of symbols, and what a symbol says beside them."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from cases import CASES, logits_of
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import SMALL, imagenet_configs, random_tensors

from converter.core.errors import CannotExpress, ConverterError, NotADenseNet, UnreadableFile
from converter.formats import open_checkpoint
from converter.reading.load import load
from converter.writing.convert import convert
from densenet.config import DenseNetConfig

MAGICS = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}
CODES = {"f4": 0, "f8": 1, "f2": 2, "u1": 3, "i4": 4, "i1": 5, "i8": 6}
GAMMA = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
PUBLISHED = {"eps": 1e-4, "stem_ceil": True, "transition_ceil": True}


# -- writers -----------------------------------------------------------------------


def record(array: np.ndarray, generation: int) -> bytes:
    code = 12 if array.dtype == ml_dtypes.bfloat16 else CODES[array.dtype.str[1:]]
    head = struct.pack("<I", MAGICS[generation]) if generation else b""
    head += struct.pack("<i", 0) if generation >= 2 else b""
    dims = struct.pack(f"<I{array.ndim}{'q' if generation else 'I'}", array.ndim, *array.shape)
    return head + dims + struct.pack("<iii", 1, 0, code) + array.tobytes()


def params(arrays: dict[str, np.ndarray], generation: int = 2) -> bytes:
    out = struct.pack("<QQQ", 0x112, 0, len(arrays))
    out += b"".join(record(array, generation) for array in arrays.values())
    names = [name.encode() for name in arrays]
    return out + struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(n)) + n for n in names)


def gluon_name(tensor: str, config: DenseNetConfig, style: str) -> str:
    """What Gluon calls a tensor: ``structured``, ``legacy`` (by counters) or ``exported`` (with its role)."""
    module, _, leaf = tensor.rpartition(".")
    kind, parts = module.rpartition(".")[2], module.split(".")
    leaf = GAMMA[leaf] if "norm" in kind else leaf
    numbers = [int(part) for part in parts if part.isdecimal()]
    if style == "structured":
        if parts[0] == "stem":
            place = "features.0" if kind == "conv" else "features.1"
        elif parts[0] == "blocks":
            child = {"norm1": 0, "conv1": 2, "norm2": 3, "conv2": 5}[kind]
            place = f"features.{2 * numbers[0] + 4}.{numbers[1]}.1.{child}"
        elif parts[0] == "transitions":
            place = f"features.{2 * numbers[0] + 5}.{0 if kind == 'norm' else 2}"
        else:
            place = "output" if kind == "classifier" else f"features.{2 * len(config.block_config) + 3}"
        return f"{place}.{leaf}"
    word = "batchnorm" if "norm" in kind else "conv"
    if parts[0] == "stem":
        place = f"{word}0"
    elif parts[0] == "blocks":
        place = f"stage{numbers[0] + 1}_{word}{2 * numbers[1] + int(kind[-1]) - 1}"
    elif parts[0] == "transitions":
        place = f"{word}{numbers[0] + 1}"
    else:
        place = "dense0" if kind == "classifier" else f"batchnorm{len(config.block_config)}"
    role = "aux:" if leaf.startswith("running") else "arg:"
    return {"legacy": "", "fullnames": "densenet0_", "exported": f"{role}densenet0_"}[style] + f"{place}_{leaf}"


def gluon(config: DenseNetConfig, tensors: dict, style: str) -> dict[str, np.ndarray]:
    """In the order of Gluon's own files, which is not always that of execution."""
    named = {gluon_name(name, config, style): array for name, array in tensors.items()}
    return dict(sorted(named.items(), key=lambda item: item[0][::-1]))


def symbol_name(tensor: str, config: DenseNetConfig, *, of_201: bool) -> str:
    module, _, leaf = tensor.rpartition(".")
    kind, parts = module.rpartition(".")[2], module.split(".")
    numbers = [int(part) for part in parts if part.isdecimal()]
    if parts[0] == "classifier":
        return f"arg:fc6_{leaf}"
    if parts[0] == "stem":
        place = "conv1"
    elif parts[0] == "blocks":
        place = f"conv{numbers[0] + 2}_{numbers[1] + 1}_x{kind[-1]}"
    else:
        b = numbers[0] if numbers else len(config.block_config) - 1
        place = f"conv{b + 2}_{config.block_config[b]}_blk" if of_201 else f"conv{b + 2}_blk"
    if "norm" not in kind:
        return f"arg:{place}_weight"
    role = "aux:" if leaf.startswith("running") else "arg:"
    return f"{role}{place}_bn_{GAMMA[leaf].replace('running', 'moving')}"


def symbol_params(config: DenseNetConfig, tensors: dict, *, of_201: bool = False) -> dict[str, np.ndarray]:
    named = {symbol_name(name, config, of_201=of_201): array for name, array in tensors.items()}
    named["arg:fc6_weight"] = named["arg:fc6_weight"][:, :, None, None]
    return named


def symbol(attributes: str = "attrs", pool: dict | None = None, **batch_norm: str) -> str:
    """A network's description as far as it matters: a batch norm, the poolings."""
    pool = {"pooling_convention": "full"} if pool is None else pool
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "conv2_1_x1_bn_gamma", attributes: {"__init__": "x"}, "inputs": []},
        {"op": "BatchNorm", "name": "bn", attributes: batch_norm, "inputs": [[0, 0, 0], [1, 0, 0]]},
        {"op": "Pooling", "name": "p1", attributes: {"kernel": "(3, 3)", "pool_type": "max", **pool}, "inputs": []},
        {"op": "Pooling", "name": "p2", attributes: {"kernel": "(2, 2)", "pool_type": "avg", **pool}, "inputs": []},
        {"op": "Pooling", "name": "p4", attributes: {"kernel": "(7, 7)", "pool_type": "avg"}, "inputs": []},
        {"op": "Pooling", "name": "p5", attributes: {"global_pool": "True", "pool_type": "avg"}, "inputs": []},
    ]
    return json.dumps({"nodes": nodes, "arg_nodes": [0, 1], "heads": [[6, 0, 0]]})


def loaded(path: Path, content: bytes) -> tuple[DenseNetConfig, dict[str, np.ndarray]]:
    path.write_bytes(content)
    model = load(path)
    return model.config, {name: tensor.read() for name, tensor in model.tensors.items()}


def same(have: dict, want: dict) -> None:
    assert set(have) == set(want)
    for name, array in want.items():
        assert have[name].dtype == array.dtype
        np.testing.assert_array_equal(have[name], array, err_msg=name)


# -- weights -----------------------------------------------------------------------


def test_logits_are_those_of_mxnet():
    folder = CASES / "mxnet-symbol-miraclewkf"
    want = np.load(folder / "logits.npy")
    got = logits_of(folder / "densenet-s-0000.params", np.load(folder / "input.npy"))
    assert np.abs(got - want).max() / np.abs(want).max() < 1e-5


@pytest.mark.parametrize("generation", [0, 1, 2, 3])
@pytest.mark.parametrize("style", ["structured", "legacy", "fullnames", "exported"])
def test_gluon(tmp_path, generation, style):
    tensors = random_tensors(SMALL)
    config, have = loaded(tmp_path / "x.params", params(gluon(SMALL, tensors, style), generation))
    assert config == SMALL
    same(have, tensors)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_gluon_cast(tmp_path, dtype):
    """``net.cast`` leaves batch norms as they are."""
    tensors = {name: array if "norm" in name else array.astype(dtype) for name, array in random_tensors(SMALL).items()}
    same(loaded(tmp_path / "x.params", params(gluon(SMALL, tensors, "structured")))[1], tensors)


@settings(max_examples=40, deadline=None)
@given(imagenet_configs(), st.sampled_from(["structured", "legacy", "exported"]))
def test_any_small_gluon_network(tmp_path_factory, config, style):
    tensors = random_tensors(config)
    have = loaded(tmp_path_factory.mktemp("mxnet") / "x.params", params(gluon(config, tensors, style)))
    assert have[0] == config
    same(have[1], tensors)


def test_gluon_within_another_block(tmp_path):
    tensors = random_tensors(SMALL)
    arrays = {f"backbone.{name}": array for name, array in gluon(SMALL, tensors, "structured").items()}
    same(loaded(tmp_path / "x.params", params(arrays))[1], tensors)


def test_gluon_without_its_output(tmp_path):
    tensors = {name: array for name, array in random_tensors(SMALL).items() if "classifier" not in name}
    config, have = loaded(tmp_path / "x.params", params(gluon(SMALL, tensors, "structured")))
    assert config.num_classes == 0
    same(have, tensors)


@pytest.mark.parametrize("generation", [0, 1, 2, 3])
@pytest.mark.parametrize("of_201", [False, True])
def test_symbol_names(tmp_path, generation, of_201):
    tensors = random_tensors(SMALL)
    content = params(symbol_params(SMALL, tensors, of_201=of_201), generation)
    config, have = loaded(tmp_path / "x-0000.params", content)
    assert config == replace(SMALL, **PUBLISHED)
    same(have, tensors)


@settings(max_examples=30, deadline=None)
@given(imagenet_configs(), st.sampled_from(["mxnet-symbol", "mxnet-symbol-201"]))
def test_symbol_names_and_back(tmp_path_factory, config, layout):
    folder, tensors = tmp_path_factory.mktemp("mxnet"), random_tensors(config)
    of_201 = layout.endswith("201")
    arrays = symbol_params(config, tensors, of_201=of_201)
    have = loaded(folder / "x.params", params(arrays))
    assert have[0] == replace(config, **PUBLISHED)
    same(have[1], tensors)
    convert(folder / "x.params", folder / "y.safetensors", to=layout)
    written = {name: tensor.read() for name, tensor in open_checkpoint(folder / "y.safetensors").tree.items()}
    same(written, {name[4:]: array for name, array in arrays.items()})
    again = load(folder / "y.safetensors", layout=layout)
    assert again.config == have[0]
    same({name: tensor.read() for name, tensor in again.tensors.items()}, tensors)


def test_a_network_that_rounds_down_is_no_published_symbol(tmp_path):
    (tmp_path / "x.params").write_bytes(params(gluon(SMALL, random_tensors(SMALL), "legacy")))
    with pytest.raises(CannotExpress, match="stem_ceil"):
        convert(tmp_path / "x.params", tmp_path / "y.safetensors", to="mxnet-symbol")


# -- symbols -----------------------------------------------------------------------


@pytest.mark.parametrize("attributes", ["attrs", "attr", "param"])
@pytest.mark.parametrize("name", ["net-0000.params", "net-0012.params", "net.params"])
def test_the_symbol_beside_it_decides(tmp_path, attributes, name):
    pools = {"pooling_convention": "valid"}
    (tmp_path / "net-symbol.json").write_text(symbol(attributes, pools, eps="2e-05", fix_gamma="False"))
    tensors = random_tensors(SMALL)
    config, have = loaded(tmp_path / name, params(symbol_params(SMALL, tensors)))
    assert config == replace(SMALL, eps=2e-5)
    same(have, tensors)


@pytest.mark.parametrize("batch_norm", [{}, {"fix_gamma": "True"}, {"fix_gamma": "1"}])
def test_fixed_gammas_are_ones(tmp_path, batch_norm):
    (tmp_path / "net-symbol.json").write_text(symbol(pool={}, eps="1e-4", **batch_norm))
    tensors = random_tensors(SMALL)
    config, have = loaded(tmp_path / "net-0000.params", params(symbol_params(SMALL, tensors)))
    assert not config.stem_ceil and not config.transition_ceil
    tensors["blocks.0.layers.0.norm1.weight"][:] = 1
    same(have, tensors)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nodes": 5}', '{"nodes": [{"op": "BatchNorm"}]}', "[" * 100_000])
def test_a_damaged_symbol_is_refused(tmp_path, text):
    (tmp_path / "net-symbol.json").write_text(text)
    (tmp_path / "net-0000.params").write_bytes(params(symbol_params(SMALL, random_tensors(SMALL))))
    with pytest.raises(UnreadableFile, match=r"net-symbol.json"):
        load(tmp_path / "net-0000.params")


def test_a_symbol_that_contradicts_itself_is_refused(tmp_path):
    text = json.loads(symbol(eps="0.1"))
    text["nodes"] += json.loads(symbol(eps="0.2"))["nodes"][2:3]
    (tmp_path / "net-symbol.json").write_text(json.dumps(text))
    (tmp_path / "net-0000.params").write_bytes(params(symbol_params(SMALL, random_tensors(SMALL))))
    with pytest.raises(NotADenseNet, match="different eps"):
        load(tmp_path / "net-0000.params")


# -- damage ------------------------------------------------------------------------


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UnreadableFile) as error:
        load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("generation", [0, 2])
def test_every_truncation_is_refused(tmp_path, generation):
    content = params(gluon(SMALL, random_tensors(SMALL), "legacy"), generation)
    for end in [*range(1, 300), *range(300, len(content), 89), *range(len(content) - 40, len(content))]:
        refused(tmp_path / "x.params", content[:end])
    assert "belong to no array" in refused(tmp_path / "x.params", content + b"\0")


def test_forged_records_are_refused(tmp_path):
    path, head = tmp_path / "x.params", struct.pack("<QQ", 0x112, 0)
    one = struct.pack("<Q", 1)
    refused(path, head + struct.pack("<Q", 1 << 60) + bytes(64))
    refused(path, head + one + struct.pack("<II", 1 << 31, 0) + bytes(64))
    huge = struct.pack("<IiI3qiii", MAGICS[2], 0, 3, 1 << 40, 1 << 40, 1 << 40, 1, 0, 0)
    refused(path, head + one + huge + bytes(64))
    negative = struct.pack("<IiI1qiii", MAGICS[2], 0, 1, -1, 1, 0, 0)
    refused(path, head + one + negative + bytes(64))
    assert "sparse" in refused(path, head + one + struct.pack("<Ii", MAGICS[2], 1) + bytes(64))
    assert "without data" in refused(path, head + one + struct.pack("<IiI", MAGICS[2], 0, 0) + bytes(64))
    assert "without data" in refused(path, head + one + struct.pack("<Iii", MAGICS[3], 0, -1) + bytes(64))
    assert "dtype 99" in refused(path, head + one + struct.pack("<IiIqiii", MAGICS[2], 0, 1, 1, 1, 0, 99) + bytes(64))
    array = record(np.ones(2, np.float32), 2)
    assert "names" in refused(path, head + one + array + struct.pack("<Q", 0))
    assert "name of" in refused(path, head + one + array + one + struct.pack("<Q", 1 << 50))
    twice = struct.pack("<Q", 2) + array * 2 + struct.pack("<Q", 2) + (one + b"a") * 2
    assert "two arrays" in refused(path, head + twice)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_anywhere_is_an_error_or_harmless(tmp_path_factory, draws):
    content = bytearray(params(symbol_params(SMALL, random_tensors(SMALL)), draws.draw(st.integers(0, 3))))
    for _ in range(draws.draw(st.integers(1, 4))):
        content[draws.draw(st.integers(0, len(content) - 1))] = draws.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mxnet") / "x.params"
    path.write_bytes(content)
    try:
        for tensor in load(path).tensors.values():
            tensor.read()
    except ConverterError as error:
        assert "\n" not in str(error)
