"""Addresses on the Hub, and which of a repository's files is meant."""

from __future__ import annotations

import pytest

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
    ],
)
def test_the_right_file_is_chosen(files: list[str], chosen: str) -> None:
    assert choose("a/b", files) == chosen


@pytest.mark.parametrize("files", [["README.md"], [], ["a.pth", "b.pth"]])
def test_where_the_file_is_not_clear_people_are_asked(files: list[str]) -> None:
    with pytest.raises(ConverterError, match="name one: hf://a/b/"):
        choose("a/b", files)
