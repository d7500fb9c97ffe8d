"""One checkpoint inside something: compressed, or the only one in an archive."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import CASES, LEGACY
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import load
from converter.core.errors import ConverterError, UnreadableFile
from converter.formats import open_checkpoint


def tarred(data: bytes, mode: str = "w", name: str = "run/a.pth") -> bytes:
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode=mode) as archive:  # type: ignore[call-overload]
        for member, content in ((name, data), ("run/notes.txt", b"good")):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return result.getvalue()


def zipped(**files: bytes) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return result.getvalue()


PACKERS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zlib": zlib.compress,
    "tar": tarred,
    "tar.gz": lambda data: tarred(data, "w:gz"),
    "zip": lambda data: zipped(run__a_dot_pth=data, run__notes_dot_txt=b"good"),
    "mar": lambda data: zipped(model_dot_pth=data, handler_dot_py=b"raise SystemExit", MANIFEST_dot_json=b"{}"),
    "mar-manifest": lambda data: zipped(
        net_dot_pth=data,
        extra_dot_npy=b"",
        **{"MAR-INF__MANIFEST_dot_json": b'{"model": {"serializedFile": "net.pth"}}'},
    ),
    "only-one": lambda data: zipped(model=data, code__inference_dot_py=b"", requirements_dot_txt=b""),
    "tar-only-one": lambda data: tarred(data, name="net.model"),
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("inner", [LEGACY, CASES / "tv-bfloat16/half.pth"], ids=["legacy", "zip"])
def test_what_is_packed_is_read_as_it_is(packer: str, inner: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.packed"
    file.write_bytes(PACKERS[packer](inner.read_bytes()))
    found, want = load(file), load(inner)
    assert found.config == want.config
    assert set(found.tensors) == set(want.tensors)
    for name, tensor in want.tensors.items():
        np.testing.assert_array_equal(found.tensors[name].read(), tensor.read(), err_msg=name)


def test_nothing_unpacked_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    file = tmp_path / "a.pth.gz"
    file.write_bytes(gzip.compress(LEGACY.read_bytes()))
    assert open_checkpoint(file).files == (file,)
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            zipped(a_dot_pth=b"1", b_dot_npz=b"2"),
            r"an archive of 2 checkpoints \(a\.pth, b\.npz\); unpack it and name one",
        ),
        (zipped(notes_dot_txt=b"1"), r"an archive without tensors, and without one checkpoint in it \(notes\.txt\)"),
        (zipped(a_dot_pth=b"nothing"), "not a checkpoint of a known format"),
        (gzip.compress(b"nothing"), "not a checkpoint of a known format"),
        (gzip.compress(LEGACY.read_bytes())[:-2000], "damaged, it cannot be unpacked"),
        (gzip.compress(bytes(1 << 16))[:20], "damaged, it cannot be unpacked"),
        (bz2.compress(bytes(100 << 20)), "unpacks to more than"),
    ],
    ids=["several", "none", "not-one", "nothing", "cut", "cut-early", "bomb"],
)
def test_what_cannot_be_read_is_one_line(content: bytes, why: str, tmp_path: Path) -> None:
    file = tmp_path / "x.packed"
    file.write_bytes(content)
    with pytest.raises(UnreadableFile, match=why) as refusal:
        load(file)
    assert str(refusal.value).startswith(f"{file}: ")
    assert "\n" not in str(refusal.value)


def test_packed_in_packed_ends(tmp_path: Path) -> None:
    data = LEGACY.read_bytes()
    for _ in range(12):
        data = gzip.compress(data)
    (tmp_path / "x.gz").write_bytes(data)
    with pytest.raises(UnreadableFile, match="x in it: not a checkpoint of a known format"):
        load(tmp_path / "x.gz")


@settings(max_examples=60)
@given(
    packer=st.sampled_from(["gzip", "bzip2", "zlib", "tar", "zip"]),
    place=st.floats(0, 1, exclude_max=True),
    bits=st.integers(1, 255),
)
def test_a_damaged_byte_is_a_checkpoint_or_one_line(packer: str, place: float, bits: int, tmp_path: Path) -> None:
    want = LEGACY.read_bytes()
    data = bytearray(PACKERS[packer](want))
    data[int(place * len(data))] ^= bits
    (tmp_path / "x").write_bytes(data)
    try:
        assert open_checkpoint(tmp_path / "x").files == (tmp_path / "x",)
    except ConverterError as refusal:
        assert "\n" not in str(refusal)
