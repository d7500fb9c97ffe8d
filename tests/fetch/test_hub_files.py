"""Addresses on the Hub, and which of a repository's files is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cases import CASES, file_of
from helpers.hub import client, names
from helpers.hub_server import Hub

from converter import load
from converter.core.errors import ConverterError
from converter.fetch.hub_files import choose, parse


def test_an_address_taken_apart() -> None:
    found = [
        parse(a)
        for a in ("hf://a/b", "hf://a/b@v1", "hf://a/b@refs/pr/3/x/y.bin", "hf://a/b@refs%2Fpr%2F3", "hf://a/b/x.bin")
    ]
    assert [(f.repo, f.revision, f.file) for f in found] == [
        ("a/b", None, None),
        ("a/b", "v1", None),
        ("a/b", "refs/pr/3", "x/y.bin"),
        ("a/b", "refs/pr/3", None),
        ("a/b", None, "x.bin"),
    ]


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["pytorch_model.bin", "model.safetensors", "onnx/model.onnx"], "model.safetensors"),
        (
            ["model.safetensors.index.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors"],
            "model.safetensors.index.json",
        ),
        (["README.md", "weights/densenet.safetensors", "x.pth"], "weights/densenet.safetensors"),
        (["a.pth", "old/b.pth", "README.md"], "a.pth"),
        (["onnx/model.onnx"], "onnx/model.onnx"),
        (["openvino_model.xml", "openvino_model.bin", "README.md"], "openvino_model.bin"),
        (["densenet.tflite", "labels.txt"], "densenet.tflite"),
        (["model.json", "metadata.json", "group1-shard1of2.bin", "group1-shard2of2.bin"], "model.json"),
        (["m.mlpackage/Manifest.json", "m.mlpackage/Data/com.apple.CoreML/weights/weight.bin"], "m.mlpackage"),
        (["config.json", "metadata.json", "model.weights.h5", "task.json", "task.weights.h5"], "task.json"),
        (["config.json", "flax_model.msgpack"], "flax_model.msgpack"),
        (["densenet.onnx", "coreml/m.mlpackage/Manifest.json"], "densenet.onnx"),
    ],
)
def test_the_right_file_is_chosen(files: list[str], chosen: str) -> None:
    assert choose("a/b", files) == chosen


HELD = {
    "coreml-program": "",
    "flax-msgpack": "",
    "kerashub-preset": "/preset",
    "keras3-savedmodel": "/saved_model",
    "mlx": "",
    "ncnn": "",
    "openvino10-mo": "",
    "tfjs-graph": "",
    "tfjs-layers": "",
}
"""Cases whose formats are several files, and which part of a repository is asked for where there is more than one."""


def test_what_belongs_together_is_fetched_together(tmp_path: Path) -> None:
    with Hub() as hub, client(hub, tmp_path):
        for case, part in HELD.items():
            files = {name: (CASES / case / name).read_bytes() for name in names(CASES / case)}
            tree = {name: data for name, data in files.items() if name not in ("input.npy", "logits.npy", "case.json")}
            hub.add(f"a/{case}", tree)
            found, local = load(f"hf://a/{case}{part}"), load(file_of(CASES / case))
            assert (found.config, found.images, found.notes) == (local.config, local.images, local.notes), case
            assert found.origin.name.startswith(f"hf://a/{case}@"), case
            assert all((t.read() == local.tensors[name].read()).all() for name, t in found.tensors.items()), case


@pytest.mark.parametrize("files", [["README.md"], [], ["a.pth", "b.pth"]])
def test_where_the_file_is_not_clear_people_are_asked(files: list[str]) -> None:
    with pytest.raises(ConverterError, match="name one: hf://a/b/"):
        choose("a/b", files)
