"""torch.distributed.checkpoint: folders as torch writes them, whole and in shards; damaged and hostile ones."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.networks import random_tensors
from helpers.paddle import named

from converter import inspect, load
from converter.core.errors import NotADenseNet, UnreadableFile, UnsafeFile
from converter.layouts.torchvision import TORCHVISION
from densenet.config import DenseNetConfig

torch = pytest.importorskip("torch")
dcp = pytest.importorskip("torch.distributed.checkpoint")
CONFIG = DenseNetConfig(growth_rate=4, block_config=(1, 1), init_features=64, bn_size=80, num_classes=5)
"""Its largest convolution has 80 KiB."""


def state() -> dict[str, Any]:
    return {name: torch.from_numpy(array) for name, array in named(TORCHVISION, CONFIG)[1].items()}


def same(path: Path) -> None:
    model = load(path)
    assert model.config == CONFIG
    for name, array in random_tensors(CONFIG).items():
        assert np.array_equal(model.tensors[name].read(), array), name


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """What ``dcp.save`` of a training state writes."""
    values = state()
    moments = {name: {"exp_avg": tensor * 0} for name, tensor in values.items()}
    folder = tmp_path / "run" / "step-100"
    dcp.save({"model": values, "optimizer": {"state": moments}, "epoch": 7}, checkpoint_id=folder, no_dist=True)
    return folder


@pytest.mark.parametrize("given", [".", "..", ".metadata", "__0_0.distcp"])
def test_by_its_folder_the_one_around_it_and_its_files(given: str, saved: Path) -> None:
    same(saved / given)
    found = inspect(saved / given)
    assert found.checkpoint.format == "torch distributed checkpoint"
    assert found.model.origin.inside == "model"
    assert {file.name for file in found.checkpoint.files} == {".metadata", "__0_0.distcp"}


def sharded(folder: Path, change: Callable[[Any], None] = lambda _: None) -> Path:
    """Every tensor in two halves in two files, as FSDP's ranks write them; ``change`` is made to the metadata."""
    meta, files = dcp.metadata, [io.BytesIO(), io.BytesIO()]
    tensors, places = {}, {}
    for name, tensor in state().items():
        chunks, start = [], 0
        for number, part in enumerate(torch.tensor_split(tensor, 2)):
            offsets = torch.Size([start] + [0] * (tensor.dim() - 1))
            start += len(part)
            at = files[number].tell()
            torch.save(part.clone(), files[number])
            chunks.append(meta.ChunkStorageMetadata(offsets, part.shape))
            info = dcp.filesystem._StorageInfo(f"__{number}_0.distcp", at, files[number].tell() - at)
            places[meta.MetadataIndex(name, offsets)] = info
        properties = meta.TensorProperties(dtype=tensor.dtype)
        tensors[name] = meta.TensorStorageMetadata(properties, tensor.shape, chunks)
    about = meta.Metadata(tensors, storage_data=places)
    change(about)
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / f"__{number}_0.distcp").write_bytes(file.getvalue())
    (folder / ".metadata").write_bytes(pickle.dumps(about))
    return folder


def test_shards_are_put_together(tmp_path: Path) -> None:
    same(sharded(tmp_path / "a"))


NAME = "features.conv0.weight"


def _drop_chunk(about: Any) -> None:
    about.state_dict_metadata[NAME].chunks.pop()


def _same_chunk_twice(about: Any) -> None:
    chunks = about.state_dict_metadata[NAME].chunks
    chunks[1] = chunks[0]


def _without_place(about: Any) -> None:
    about.storage_data.pop(next(index for index in about.storage_data if index.fqn == NAME))


def _behind_the_end(about: Any) -> None:
    next(info for index, info in about.storage_data.items() if index.fqn == NAME).offset = 1 << 40


def _compressed(about: Any) -> None:
    next(info for index, info in about.storage_data.items() if index.fqn == NAME).transform_descriptors = ["zstd"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_drop_chunk, "not what its 1 chunks make"),
        (_same_chunk_twice, "not what its 2 chunks make"),
        (_without_place, "lacks its chunk"),
        (_behind_the_end, "ends behind the end"),
        (_compressed, "stored through zstd"),
    ],
)
def test_tensors_that_are_not_whole_are_refused(change: Callable[[Any], None], why: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=f"{NAME}.*{why}"):
        load(sharded(tmp_path / "a", change))


def test_a_file_elsewhere_and_code_are_refused(tmp_path: Path) -> None:
    def elsewhere(about: Any) -> None:
        next(iter(about.storage_data.values())).relative_path = "../secret"

    class Call:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    with pytest.raises(UnsafeFile, match="outside its own folder"):
        load(sharded(tmp_path / "a", elsewhere))
    with pytest.raises(UnsafeFile, match="system"):
        load(sharded(tmp_path / "b", lambda about: setattr(about, "planner_data", Call())))


def test_a_shard_alone_and_cut_files_are_refused(saved: Path) -> None:
    whole = (saved / ".metadata").read_bytes()
    for end in range(1, len(whole), 997):
        (saved / ".metadata").write_bytes(whole[:end])
        with pytest.raises(UnreadableFile):
            load(saved)
    (saved / ".metadata").unlink()
    with pytest.raises(UnreadableFile, match=r"without the \.metadata"):
        load(saved / "__0_0.distcp")


def test_sharded_tensors_in_a_file(tmp_path: Path) -> None:
    """What FSDP's SHARDED_STATE_DICT holds: the file of a single rank has all of it, that of several has not."""
    from torch.distributed._shard import sharded_tensor
    from torch.distributed._shard.sharding_spec import ChunkShardingSpec

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        values: dict[str, Any] = {}
        for name, tensor in state().items():
            values[name] = sharded_tensor.empty(ChunkShardingSpec(dim=0, placements=["rank:0/cpu"]), *tensor.shape)
            values[name].local_shards()[0].tensor.copy_(tensor)
        torch.save(values, tmp_path / "whole.pth")
        for tensor in values.values():
            tensor.metadata().size = torch.Size([2 * tensor.shape[0], *tensor.shape[1:]])
        torch.save({"model": values}, tmp_path / "half.pth")
    finally:
        torch.distributed.destroy_process_group()
    same(tmp_path / "whole.pth")
    with pytest.raises(NotADenseNet, match=r"features\.conv0\.weight.* a ShardedTensor of which the file holds one"):
        load(tmp_path / "half.pth")


def test_flat_parameters_are_named(tmp_path: Path) -> None:
    values = {f"_fsdp_wrapped_module.features.{i}._flat_param": torch.ones(9) for i in range(9)}
    torch.save(values, tmp_path / "a.pth")
    with pytest.raises(NotADenseNet, match=r"_flat_param are FSDP's flat parameter"):
        load(tmp_path / "a.pth")
