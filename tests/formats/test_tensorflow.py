"""TensorFlow: checkpoints V1 and V2, SavedModels, frozen graphs, damaged files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from helpers.cases import CASES, logits_of
from helpers.networks import SMALL, imagenet_configs, random_model, random_tensors, save
from helpers.tensorflow import (
    MAGIC,
    SLIM,
    WRITERS,
    block,
    keras_objects,
    same,
    slim,
    table,
    write_graph,
    write_v1,
    write_v2,
)
from helpers.wire import data, number, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import convert, load
from converter.core.errors import ConverterError, UnreadableFile
from converter.formats import open_checkpoint
from converter.formats.tensorflow.sstable import entries, unsnap

# -- reference files ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tf-slim-v2ckpt", "keras2-checkpoint", "keras3-export", "keras2-frozen"])
def test_reference(name):
    folder = CASES / name
    case = json.loads((folder / "case.json").read_text())
    want = np.load(folder / "logits.npy")
    have = logits_of(folder / case["file"], np.load(folder / "input.npy"))
    assert np.abs(have - want).max() <= 1e-5 * np.abs(want).max()
    config = load(folder / case["file"]).config
    assert config.eps == case["arch"]["bn_eps"]
    assert config.padding == ("same" if "slim" in name else "symmetric")


@pytest.mark.parametrize("given", [".", "tf-densenet.ckpt.data-00000-of-00001", "tf-densenet.ckpt.index"])
def test_checkpoint_by_folder_and_by_either_file(given):
    checkpoint = open_checkpoint(CASES / "tf-slim-v2ckpt" / given)
    assert checkpoint.format == "TensorFlow V2 checkpoint"
    assert [file.name for file in checkpoint.files] == [
        "tf-densenet.ckpt.index",
        "tf-densenet.ckpt.data-00000-of-00001",
    ]


def test_training_state_stands_apart():
    tree = open_checkpoint(CASES / "keras2-checkpoint" / "densenet-1.index").tree
    assert "conv2_block1_1_conv/kernel" in tree
    assert any(key.startswith("optimizer/") for key in tree["optimizer"])


# -- containers ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("snappy", [False, True])
def test_types(tmp_path, dtype, snappy):
    tensors, named = slim(dtype=dtype)
    for path in (
        write_v1(tmp_path / "model.ckpt-77", named, snappy=snappy),
        write_v2(tmp_path / "model.ckpt", named, snappy=snappy, shards=3),
        write_graph(tmp_path / "frozen.pb", named),
    ):
        model = load(path)
        assert model.config == SLIM
        same(model, tensors)


def test_slots_and_counters_are_dropped(tmp_path):
    tensors, named = slim()
    slots = ("RMSProp", "RMSProp_1", "ExponentialMovingAverage", "Momentum", "Adam", "Adam_1", "Adagrad")
    extra = {f"{key}/{slot}": array * 0 for key, array in named.items() for slot in slots}
    extra |= {"global_step": np.array(77), "beta1_power": np.array(0.9, np.float32)}
    for path in (write_v1(tmp_path / "v1", named | extra), write_v2(tmp_path / "v2", named | extra)):
        model = load(path)
        same(model, tensors)
        assert set(model.dropped) == set(extra)


def test_savedmodel_says_its_eps(tmp_path):
    _, (arrays, graph) = keras_objects(SMALL)
    (tmp_path / "variables").mkdir()
    write_v2(tmp_path / "variables" / "variables", arrays, graph=graph)
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\0")
    assert load(tmp_path).config.eps == 1.001e-5
    norm = '"class_name": "BatchNormalization", "config": {"momentum": 0.99, "epsilon": 0.002, "center": true}'
    optimizer = '"class_name": "RMSprop", "config": {"momentum": 0.0, "epsilon": 1e-07, "centered": false}'
    (tmp_path / "keras_metadata.pb").write_text(norm + optimizer)
    assert load(tmp_path / "saved_model.pb").config.eps == 0.002
    assert load(tmp_path).config.eps == 0.002


def test_graph_says_its_eps(tmp_path):
    assert load(write_graph(tmp_path / "x.pb", slim()[1], eps=0.01)).config.eps == 0.01


@settings(max_examples=15)
@given(config=imagenet_configs())
def test_round_trip(tmp_path, config):
    config = replace(config, eps=1.1e-5, padding="same")
    tensors = random_tensors(config)
    save(random_model(config), tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.npz", to="tf-slim")
    back = load(tmp_path / "b.npz")
    assert back.config == config
    same(back, tensors)


# -- damaged and hostile ------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_truncation(tmp_path, kind):
    _, named = slim()
    path = WRITERS[kind](tmp_path / "model", named)
    content = path.read_bytes()
    for size in {*range(1, 200, 13), *range(200, len(content), len(content) // 40), len(content) - 1}:
        path.write_bytes(content[:size])
        with pytest.raises(ConverterError):
            load(path)


@settings(max_examples=60)
@given(at=st.integers(0, 10**9), byte=st.integers(0, 255), kind=st.sampled_from(sorted(WRITERS)))
def test_a_wrong_byte_is_no_traceback(tmp_path, at, byte, kind):
    how = {} if kind == "graph" else {"snappy": True}
    path = WRITERS[kind](tmp_path / "model", slim()[1], **how)
    content = bytearray(path.read_bytes())
    content[at % len(content)] = byte
    path.write_bytes(content)
    try:
        model = load(path)
        for tensor in model.tensors.values():
            tensor.read()
    except ConverterError:
        pass


def test_missing_and_short_data_files(tmp_path):
    path = write_v2(tmp_path / "model", slim()[1])
    file = tmp_path / "model.data-00000-of-00001"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(UnreadableFile, match="truncated"):
        load(path)
    file.unlink()
    with pytest.raises(UnreadableFile, match="data-00000-of-00001 is missing"):
        load(path)


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        (number(1, 1) + data(2, data(2, number(1, 2**40))) + number(5, 2**42), "behind the end"),
        (number(1, 1) + data(2, data(2, number(1, 2**40))) + number(5, 4), "shape"),
        (number(1, 1) + data(2, data(2, number(1, 2**64 - 1))) + number(5, 4), "definite shape"),
        (number(1, 1) + number(3, 5) + number(5, 4), "missing"),
        (number(1, 1) + number(4, 2**64 - 4) + number(5, 4), "behind the end"),
        (number(1, 1) + data(7, b""), "partitioned"),
    ],
)
def test_forged_entries(tmp_path, entry, match):
    (tmp_path / "x.data-00000-of-00001").write_bytes(bytes(4))
    (tmp_path / "x.index").write_bytes(table([(b"", number(1, 1)), (b"weights", entry)]))
    with pytest.raises(UnreadableFile, match=match):
        open_checkpoint(tmp_path / "x.index")


def test_forged_tables():
    one = block([(b"key", b"value")])
    handles = [(b"a", varint(0) + varint(len(one) - 5))] * 1000  # a block a thousand times over
    top = block(handles)
    footer = (varint(0) + varint(0) + varint(len(one)) + varint(len(top) - 5)).ljust(40, b"\0") + MAGIC
    with pytest.raises(UnreadableFile, match="overlap"):
        list(entries(memoryview(one + top + footer)))
    growing = [(b"k" * n, b"") for n in range(1, 3000)]
    with pytest.raises(UnreadableFile, match="keys are too long"):
        list(entries(memoryview(table(growing, per_block=3000))))


@pytest.mark.parametrize(
    ("packed", "want"),
    [
        (b"\x06\x04ab\x01\x02", b"ab" * 3),  # a copy of 4 from 2 back: it runs into itself
        (b"\x0a\x04ab\x1e\x02\x00", b"ab" * 5),  # an offset of 16 bits
        (b"\x0a\x04ab\x1f\x02\x00\x00\x00", b"ab" * 5),  # of 32
        (b"\x80\x04\xf4\xff\x01" + bytes(range(256)) * 2, bytes(range(256)) * 2),  # a long literal
        (b"\x84\x04\xf4\xff\x01" + bytes(range(256)) * 2 + b"\x41\x00", bytes(range(256)) * 2 + bytes(range(4))),
    ],
)
def test_snappy(packed, want):
    assert bytes(unsnap(memoryview(packed))) == want


@pytest.mark.parametrize(
    "packed", [b"\xff\xff\xff\xff\x0f\x00a", b"\x05\x00a\x0e\x05\x00", b"\x05\x10ab", b"\x02\x00a"]
)
def test_damaged_snappy(packed):
    with pytest.raises(UnreadableFile):
        unsnap(memoryview(packed))


def test_a_constant_repeated_forever(tmp_path):
    tensor = number(1, 1) + data(2, data(2, number(1, 2**40))) + data(5, bytes(4))
    node = data(1, "w") + data(2, "Const") + data(5, data(1, "value") + data(2, data(8, tensor)))
    (tmp_path / "x.pb").write_bytes(data(1, node))
    with pytest.raises(UnreadableFile, match="has 1 values"):
        open_checkpoint(tmp_path / "x.pb")


def test_a_folder_of_several_checkpoints_is_not_guessed(tmp_path):
    for name in ("a", "b"):
        write_v2(tmp_path / name, slim()[1])
    with pytest.raises(UnreadableFile, match="folder"):
        open_checkpoint(tmp_path)
    shutil.rmtree(tmp_path)
