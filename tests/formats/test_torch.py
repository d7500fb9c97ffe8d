"""PyTorch's three containers, read without PyTorch, against PyTorch itself."""

import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.core.checkpoint import Tensor
from converter.core.errors import UnreadableFile, UnsafeFile
from converter.formats import open_checkpoint
from converter.formats.torch.zip_writer import write_torch

torch = pytest.importorskip("torch")
DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


def as_numpy(tensor: "torch.Tensor") -> np.ndarray:
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def check(path: Path, expected: dict[str, "torch.Tensor"]) -> None:
    tree = open_checkpoint(path).tree
    assert list(tree) == list(expected)
    for name, tensor in expected.items():
        array = tree[name].read()
        assert array.shape == tree[name].shape == tuple(tensor.shape)
        assert array.dtype == tree[name].dtype
        assert str(array.dtype) == str(tensor.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(array.astype(np.float64), as_numpy(tensor).astype(np.float64))


def tensors() -> dict[str, "torch.Tensor"]:
    base = torch.arange(120, dtype=torch.float32)
    return OrderedDict(
        {str(dtype): torch.arange(6).to(dtype).reshape(2, 3) for dtype in DTYPES},
        parameter=torch.nn.Parameter(torch.randn(3, 4)).detach(),
        scalar=torch.tensor(3.5),
        empty=torch.zeros(0, 3),
        offset=base[7:31].reshape(4, 6),
        transposed=base.reshape(10, 12).t(),
        strided=base[::5],
        channels_last=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        expanded=torch.randn(3, 1).expand(3, 4),
    )


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_dtypes_views_and_strides(new: bool, tmp_path: Path) -> None:
    state = tensors()
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    check(tmp_path / "a.pth", state)
    assert open_checkpoint(tmp_path / "a.pth").format == ("torch zip" if new else "torch legacy")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol(new: bool, protocol: int, tmp_path: Path) -> None:
    state = tensors()
    torch.save(state, tmp_path / "a.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    check(tmp_path / "a.pth", state)


def test_compressed_members_are_inflated(tmp_path: Path) -> None:
    state = OrderedDict(a=torch.zeros(1000), b=torch.randn(3))
    torch.save(state, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    check(tmp_path / "b.pth", state)


def test_big_endian_zip(tmp_path: Path) -> None:
    state = OrderedDict(a=torch.randn(4), b=torch.arange(3), c=torch.randn(2).bfloat16())
    torch.save(state, tmp_path / "a.pth")
    sizes = {"0": 4, "1": 8, "2": 2}
    with zipfile.ZipFile(tmp_path / "a.pth") as old, zipfile.ZipFile(tmp_path / "b.pth", "w") as new:
        for name in old.namelist():
            data, size = old.read(name), sizes.get(Path(name).name) if "/data/" in name else None
            if size:
                data = np.frombuffer(data, f"u{size}").byteswap().tobytes()
            new.writestr(name, b"big" if name.endswith("byteorder") else data)
    check(tmp_path / "b.pth", state)


def write_tar(path: Path, state: dict[str, "torch.Tensor"]) -> None:
    """The container of PyTorch 0.1, as torch/serialization.py's legacy_load expects it."""
    storages, found, body = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pickle.dump(len(state), storages, 2)
    pickle.dump(len(state), found, 2)
    for i, tensor in enumerate(state.values()):
        cls = {torch.float32: "Float", torch.int64: "Long"}[tensor.dtype]
        storages.write(
            b"\x80\x02K" + bytes([i]) + b"X\x03\x00\x00\x00cpuctorch\n" + f"{cls}Storage".encode() + b"\n\x87."
        )
        flat = tensor.contiguous().reshape(-1).numpy()
        storages.write(struct.pack("<q", flat.size) + flat.tobytes())
        found.write(
            b"\x80\x02K" + bytes([100 + i]) + b"K" + bytes([i]) + b"ctorch\n" + f"{cls}Tensor".encode() + b"\n\x87."
        )
        found.write(struct.pack("<i4x", tensor.dim()))
        found.write(struct.pack(f"<{2 * tensor.dim() + 1}q", *tensor.shape, *tensor.contiguous().stride(), 0))
    pickle.dump([], storages, 2)

    class Pickler(pickle._Pickler):  # type: ignore[name-defined]  # the pure Python one takes persistent_id by instance
        def persistent_id(self, obj: Any) -> Any:
            return next((100 + i for i, t in enumerate(state.values()) if obj is t), None)

    Pickler(body, 2).dump(OrderedDict(state))
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as tar:
        for name, stream in (
            ("sys_info", io.BytesIO(pickle.dumps({}))),
            ("storages", storages),
            ("tensors", found),
            ("pickle", body),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(stream.getvalue())
            tar.addfile(info, io.BytesIO(stream.getvalue()))


def test_the_tar_container_of_torch_01(tmp_path: Path) -> None:
    state = OrderedDict(a=torch.randn(2, 3), b=torch.arange(4), c=torch.randn(3, 1, 2, 2))
    write_tar(tmp_path / "a.pth", state)
    for name, tensor in torch.load(tmp_path / "a.pth", weights_only=False).items():  # the writer is right
        assert torch.equal(tensor, state[name])
    check(tmp_path / "a.pth", state)
    data = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(data[: data.index(b"tensors") - 200])
    with pytest.raises(UnreadableFile):
        open_checkpoint(tmp_path / "a.pth")


def test_whole_modules_need_no_class(tmp_path: Path) -> None:
    import torchvision

    from converter import inspect

    model = torchvision.models.DenseNet(4, (1, 2), 8, num_classes=3)
    for new in (True, False):
        torch.save(model, tmp_path / "m.pt", _use_new_zipfile_serialization=new)
        found = inspect(tmp_path / "m.pt")
        assert found.chosen.layout.name == "torchvision"
        assert "torchvision.models.densenet.DenseNet" in found.checkpoint.inert
        for name, tensor in model.state_dict().items():
            candidates = [lib for lib, (_, keys) in found.chosen.used.items() if keys == (name,)]
            np.testing.assert_array_equal(found.model.tensors[candidates[0]].read(), tensor.numpy())


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_code_in_a_checkpoint_is_not_run(new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(2)}, "x": Evil()}, "a.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(UnsafeFile, match=r"posix\.system|nt\.system"):
        open_checkpoint("a.pth")
    assert not Path("ran").exists()


def test_truncation_anywhere_is_one_clear_error(tmp_path: Path) -> None:
    for new in (True, False):
        torch.save(
            OrderedDict(a=torch.randn(50), b=torch.randn(3, 4)), tmp_path / "a.pth", _use_new_zipfile_serialization=new
        )
        data = (tmp_path / "a.pth").read_bytes()
        for cut in range(1, len(data), 13):
            (tmp_path / "b.pth").write_bytes(data[:cut])
            with pytest.raises(UnreadableFile):
                open_checkpoint(tmp_path / "b.pth")


@settings(max_examples=80)
@given(st.data())
def test_flipped_bytes_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    source = tmp_path / "source.pth"
    new = data.draw(st.booleans())
    torch.save(
        OrderedDict(a=torch.arange(5.0), b=torch.arange(6).reshape(2, 3)), source, _use_new_zipfile_serialization=new
    )
    raw = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    target = tmp_path / "flipped.pth"
    target.write_bytes(raw)
    try:
        tree = open_checkpoint(target).tree
        for value in tree.values() if isinstance(tree, dict) else ():
            if isinstance(value, Tensor):
                value.read()
    except (UnreadableFile, UnsafeFile) as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((4, 4), (4, 1), 1), ((2,), (-1,), 1), ((1 << 40,), (0,), 0), ((-1,), (1,), 0), ((2, 2), (1,), 0)],
)
def test_views_outside_their_storage_are_refused(size: tuple, stride: tuple, offset: int, tmp_path: Path) -> None:
    class View:
        def __reduce__(self) -> Any:
            storage = torch.arange(16.0).storage()
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict())

    torch.save({"a": View()}, tmp_path / "a.pth")
    with pytest.raises(UnreadableFile, match=r"outside|malformed|repeats"):
        open_checkpoint(tmp_path / "a.pth")


def test_any_stride_is_right_along_an_axis_of_one(tmp_path: Path) -> None:
    class View:
        def __reduce__(self) -> Any:
            storage = torch.arange(16.0).storage()
            return torch._utils._rebuild_tensor_v2, (storage, 4, (1, 3), (1 << 62, 2), False, OrderedDict())

    torch.save({"a": View()}, tmp_path / "a.pth")
    assert open_checkpoint(tmp_path / "a.pth").tree["a"].read().tolist() == [[4, 6, 8]]


def test_our_pth_is_read_by_torch_with_weights_only(tmp_path: Path) -> None:
    state = {str(dtype): torch.arange(6).to(dtype).reshape(2, 3) for dtype in DTYPES}
    state |= {"scalar": torch.tensor(2.0), "empty": torch.zeros(0, 2)}
    torch.save(OrderedDict(state), tmp_path / "a.pth")
    meta = {"epoch": 3, "big": 1 << 40, "lr": 0.5, "name": "é", "none": None, "list": [1, (True, False)]}
    write_torch(tmp_path / "b.pth", {"meta": meta, "state_dict": open_checkpoint(tmp_path / "a.pth").tree})
    for mmap in (False, True):
        loaded = torch.load(tmp_path / "b.pth", weights_only=True, mmap=mmap)
        assert loaded["meta"] == meta
        for name, tensor in state.items():
            assert loaded["state_dict"][name].dtype == tensor.dtype
            assert torch.equal(loaded["state_dict"][name], tensor)
