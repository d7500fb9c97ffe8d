"""Files that ask for more than they hold: what is checked before anything is made of them."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.command import run
from helpers.networks import SMALL, random_model, save
from safetensors.numpy import save_file

from converter import load
from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from converter.formats import open_checkpoint
from converter.formats.tars import members


def test_an_index_of_indices_is_refused(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.index.json").write_text(json.dumps({"weight_map": {"w": f"{other}.index.json"}}))
    with pytest.raises(UnreadableFile, match="is an index, too"):
        open_checkpoint(tmp_path / "a.index.json")


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def test_members_of_a_zip_that_overlap_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy(np.zeros(100_000)))
        archive.writestr("b.npy", npy(np.zeros(100_000)))
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # b.npy is said to be where a.npy is
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match="overlap"):
        open_checkpoint(path)


def test_a_compressed_array_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    """Its header alone says its shape; damage behind that is found on reading."""
    path, values = tmp_path / "m.npz", np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)
    np.savez_compressed(path, w=values)
    tensor = open_checkpoint(path).tree["w"]
    np.testing.assert_array_equal(tensor.read(), values)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    tensor = open_checkpoint(path).tree["w"]
    assert tensor.shape == values.shape
    with pytest.raises(UnreadableFile, match="damaged zip member"):
        tensor.read()


@pytest.mark.parametrize("kind", ["ustar", "gnu", "pax"])
def test_members_of_a_tar_are_where_the_standard_library_finds_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.tar"
    form = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}[kind]
    long = "folder/" * 12 + "name" * 20
    names = ["a", "b/c.pth", long if kind != "ustar" else "d" * 90]
    with tarfile.open(path, "w", format=form) as tar:
        folder = tarfile.TarInfo("b")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for i, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 700 * i
            info.mtime = 0.5 if kind == "pax" else 1
            tar.addfile(info, io.BytesIO(bytes([i]) * info.size))
    data = np.fromfile(path, np.uint8)
    found = members(data, "m.tar")
    assert [(m.name, data[m.start : m.start + m.size].tobytes()) for m in found] == [
        (name, bytes([i]) * 700 * i) for i, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    "records", [b"1" * 100_000, b"0 a=b\n" * 10, b"x=y\n", b"5"], ids=["long", "zero", "none", "odd"]
)
def test_damaged_headers_of_a_tar_are_refused_at_once(tmp_path: Path, records: bytes) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    data = info.tobuf(tarfile.USTAR_FORMAT) + records + b"\0" * (-len(records) % 512) + b"\0" * 1024
    (tmp_path / "m.tar").write_bytes(data)
    with pytest.raises(UnreadableFile, match="tar"):
        open_checkpoint(tmp_path / "m.tar")


def test_a_tar_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("m.pth")
        info.size = 5000
        tar.addfile(info, io.BytesIO(b"x" * 5000))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UnreadableFile, match="truncated tar"):
        open_checkpoint(path)


def heap_file(path: Path) -> bytearray:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = "tensorflow"
        file["w"] = np.zeros((3, 3), np.float32)
    return bytearray(path.read_bytes())


def test_a_heap_with_an_empty_object_is_refused(tmp_path: Path) -> None:
    """libhdf5 would walk it for ever, in C, where no signal gets in."""
    path = tmp_path / "m.h5"
    data = heap_file(path)
    assert open_checkpoint(path).format.startswith("HDF5")
    at = data.index(b"GCOL") + 16
    while int.from_bytes(data[at : at + 2], "little"):  # objects before the free space, whose index is 0
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    data[at + 8 : at + 16] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match="heap"):
        open_checkpoint(path)


def test_many_attributes_are_all_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "m.h5"
    with h5py.File(path, "w", libver="latest") as file:  # dense storage of attributes
        file["w"] = np.zeros((3, 3), np.float32)
        for i in range(600):
            file.attrs[f"a{i}"] = i
    with pytest.raises(ConverterError):
        load(path)
    from converter.formats.hdf5 import read_hdf5

    tree = read_hdf5(np.fromfile(path, np.uint8), "m.h5")
    assert tree.attributes == {f"a{i}": i for i in range(600)}


def test_names_that_imply_more_layers_than_there_are_tensors_are_refused(tmp_path: Path) -> None:
    names = [
        f"features.denseblock{b}.denselayer{n}.{leaf}" for b in range(1, 9) for n in (1, 4000) for leaf in ("a", "b")
    ]
    path = tmp_path / "m.safetensors"
    save_file({name.replace(".a", ".conv1.weight"): np.zeros((4, 4, 1, 1), np.float32) for name in names}, path)
    with pytest.raises(NotADenseNet):
        load(path)


def test_class_names_that_no_file_can_hold_are_mended(tmp_path: Path) -> None:
    source = tmp_path / "m.safetensors"
    save(random_model(SMALL), source)
    with source.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header, rest = json.loads(file.read(size)), file.read()
    header["__metadata__"]["densenet.labels"] = '["a\\ud800", "b", "c", "d", "e"]'
    text = json.dumps(header).encode()
    source.write_bytes(len(text).to_bytes(8, "little") + text + rest)
    done = run("convert", source, tmp_path / "o.safetensors")
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "o.safetensors").images.labels == ("a?", "b", "c", "d", "e")


def test_copies_of_copies_are_refused(tmp_path: Path) -> None:
    """A list that is made anew from itself, and again: a few bytes each time."""
    items = b"]q\x00(" + b"K\x01" * 2000 + b"e"
    again = b"cbuiltins\nlist\n(h\x00tR0" * 2000
    path = tmp_path / "m.pkl"
    path.write_bytes(b"\x80\x02" + items + again + b"h\x00.")
    with pytest.raises(UnreadableFile, match="copies of copies"):
        open_checkpoint(path)
