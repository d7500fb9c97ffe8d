"""What people have in place of a checkpoint is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter import load
from converter.core.errors import UnreadableFile


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (
            b"<!DOCTYPE html>\n<html><head><title>Virus scan warning</title></head></html>",
            r"an HTML page \('Virus scan warning'\)",
        ),
        (b"\n\n  <!doctype HTML>\n<p>\xc3\xa9", "an HTML page"),
        (b"\xef\xbb\xbf<html lang='en'><body>Sign in</body></html>", "an HTML page"),
        (b"<!-- x --><html></html>", "an HTML page"),
        (b"Entry not found", "a text file.*'Entry not found'"),
        (b'{"error": "Repository not found"}\n', "a text file.*Repository not found"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x28\xb5\x2f\xfd" + bytes(99), "zstd"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(99), "7z"),
        (b"<\0\0\0ET12eh00" + bytes(99), "a program for ExecuTorch"),
        (b"%PDF-1.7\n\xe2\xe3", "PDF"),
        (bytes(range(256)), "not a checkpoint of a known format|malformed protobuf"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".h5", ".onnx", ".safetensors"])
def test_what_stands_where_a_checkpoint_should(data: bytes, why: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match=why) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_a_folder_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "_CHECKPOINT_METADATA").write_text("{}")
    (tmp_path / "manifest.ocdbt").write_bytes(b"\x0c\xdb\x3a\x2a")
    with pytest.raises(UnreadableFile, match="is a checkpoint of Orbax, which is not read; restore it"):
        load(tmp_path)
