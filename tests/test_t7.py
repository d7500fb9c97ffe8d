"""Lua Torch files: reference files, and variants written here by an independent writer."""

from __future__ import annotations

import json
import struct
import tracemalloc
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES, logits_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converter.core.errors import ConverterError, NotADenseNet, UnreadableFile
from converter.formats import open_checkpoint
from converter.reading.load import load
from densenet.config import DenseNetConfig

BINARY = {np.dtype("f4"): "Float", np.dtype("f8"): "Double", np.dtype("f2"): "Half", np.dtype("i8"): "Long"}


@dataclass(eq=False)
class Obj:
    """A torch object: class, fields, version (None: the file is older than versions)."""

    cls: str
    fields: dict[Any, Any] = field(default_factory=dict)
    version: int | None = 1


@dataclass(eq=False)
class Function:
    tag: int


class Longs(list):
    """A bare torch.LongStorage."""


class Writer:
    """torch.save, from the description of the format."""

    def __init__(self, *, long: int = 8, text: bool = False, cuda: bool = False, referenced: bool = True) -> None:
        self.out = bytearray()
        self.long, self.text, self.cuda, self.referenced = long, text, cuda, referenced
        self.indices: dict[int, int] = {}
        self.next = count(1)
        self.alive: list[Any] = []

    def put(self, code: str, *values: Any) -> None:
        if self.text:
            form = {"f": "%.9g", "e": "%.9g", "d": "%.17g"}.get(code, "%d")
            self.out += (" ".join(form % v for v in values) + "\n").encode() if values else b""
        else:
            code = "i" if code == "q" and self.long == 4 else code
            self.out += struct.pack(f"<{len(values)}{code}", *values)

    def raw(self, data: bytes) -> None:
        self.put("i", len(data))
        self.out += data + (b"\n" if self.text and data else b"")

    def head(self, tag: int, value: Any) -> bool:
        """Write tag and index; whether the object itself must follow."""
        self.alive.append(value)
        known = self.indices.get(id(value)) if self.referenced else None
        index = known or next(self.next)
        self.indices[id(value)] = index
        self.put("i", tag)
        self.put("i", index)
        return known is None

    def write(self, value: Any) -> None:
        if value is None:
            self.put("i", 0)
        elif isinstance(value, bool):
            self.put("i", 5)
            self.put("i", int(value))
        elif isinstance(value, (int, float)):
            self.put("i", 1)
            self.put("d", float(value))
        elif isinstance(value, str):
            self.put("i", 2)
            self.raw(value.encode())
        elif isinstance(value, np.ndarray):
            self.tensor(value)
        elif isinstance(value, Longs):
            self.storage(np.array(value, np.int64))
        elif isinstance(value, Function):
            if value.tag == 6:
                self.put("i", 6)
            elif not self.head(value.tag, value):
                return
            self.raw(b"\x1bLJ os.execute('true')")
            self.write([{"name": "x", "id": 1, "value": 3}] if value.tag == 8 else [3])
        elif isinstance(value, Obj):
            if self.head(4, value):
                self.name(value.cls, value.version)
                if value.cls == "nn.DataParallelTable" and (value.version or 0) >= 2:
                    self.write([1, 2])
                self.write(value.fields)
        elif self.head(3, value):
            items = dict(enumerate(value, 1)) if isinstance(value, list) else value
            self.put("i", len(items))
            for key, member in items.items():
                self.write(key)
                self.write(member)

    def name(self, cls: str, version: int | None = 1) -> None:
        if version is not None:
            self.raw(f"V {version}".encode())
        self.raw(cls.encode())

    def kind(self, array: np.ndarray) -> str:
        kind = BINARY[array.dtype]
        return "Cuda" + ("" if kind == "Float" else kind) if self.cuda else kind

    def tensor(self, array: np.ndarray) -> None:
        """A view's base becomes its storage, shared by all views of it."""
        if not self.head(4, array):
            return
        base = array if array.base is None else array.base
        self.name(f"torch.{self.kind(array)}Tensor")
        empty = not array.size
        shape = () if empty else array.shape
        self.put("i", len(shape))
        self.put("q", *shape)
        self.put("q", *(() if empty else (s // array.itemsize for s in array.strides)))
        start = 0 if empty else array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        self.put("q", 1 + start // array.itemsize)
        self.write(None) if empty else self.storage(base)

    def storage(self, base: np.ndarray) -> None:
        key = self.alive_base(base)
        if self.head(4, key):
            self.name(f"torch.{'Long' if base.dtype.kind == 'i' else self.kind(base)}Storage")
            self.put("q", base.size)
            self.put({"f2": "e", "f4": "f", "f8": "d", "i8": "q"}[base.dtype.str[1:]], *base.ravel().tolist())

    def alive_base(self, base: np.ndarray) -> Any:
        self.bases = getattr(self, "bases", {})
        return self.bases.setdefault(id(base), (base,))


def saved(path: Path, value: Any, **options: Any) -> Path:
    writer = Writer(**options)
    writer.write(value)
    path.write_bytes(writer.out)
    return path


# -- the official network ---------------------------------------------------------------


def weights(config: DenseNetConfig, dtype: str = "f4") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {name: rng.uniform(0.5, 1.5, shape).astype(dtype) for name, shape in config.tensors().items()}


class Official:
    """models/densenet.lua in Python: the module tree of a config."""

    def __init__(self, config: DenseNetConfig, tensors: dict[str, np.ndarray], **options: Any) -> None:
        self.config, self.tensors = config, tensors
        self.package: str = options.get("package", "nn")
        self.layers: str = options.get("layers", "concat")
        self.dropout: bool = options.get("dropout", False)
        self.running_std: bool = options.get("running_std", False)
        self.version: int | None = options.get("version", 1)

    def module(self, cls: str, package: str = "nn", version: int | None = 1, **fields: Any) -> Obj:
        fields |= {"train": True, "_type": "torch.FloatTensor", "output": np.empty(0, np.float32)}
        return Obj(f"{package}.{cls}", fields, version if self.version else None)

    def sequential(self, *modules: Obj) -> Obj:
        return self.module("Sequential", modules=list(modules))

    def conv(self, name: str, stride: int = 1) -> list[Obj]:
        weight = self.tensors[f"{name}.weight"]
        out, into, k, _ = weight.shape
        window = dict(zip(("kW", "kH", "dW", "dH", "padW", "padH"), (k, k, stride, stride, k // 2, k // 2)))
        inputs = {"nInputPlane": into, "nOutputPlane": out, "groups": 1}
        conv = self.module(
            "SpatialConvolution", self.package, weight=weight, gradWeight=np.ones(3, np.float32), **window, **inputs
        )
        inner = name.startswith(("blocks", "transitions"))
        drop = [self.module("Dropout", p=0.2, v2=True, noise=np.ones(2, np.float32))]
        return [conv, *(drop if self.dropout and inner else [])]

    def norm(self, name: str) -> list[Obj]:
        fields: dict[str, Any] = {leaf: self.tensors[f"{name}.{leaf}"] for leaf in ("weight", "bias", "running_mean")}
        var = self.tensors[f"{name}.running_var"]
        if self.running_std:
            fields["running_std"] = ((var.astype(np.float64) + self.config.eps) ** -0.5).astype(var.dtype)
        else:
            fields["running_var"] = var
        fields |= {"eps": self.config.eps, "momentum": 0.1, "affine": True, "save_mean": np.ones(4, np.float32)}
        relu = self.module("ReLU", self.package, **({"threshold": 0, "val": 0} if self.package == "nn" else {}))
        return [self.module("SpatialBatchNormalization", self.package, 2, **fields), relu]

    def pool(self, cls: str, package: str, k: int, stride: int, pad: int, ceil: bool) -> Obj:
        window = dict(zip(("kW", "kH", "dW", "dH", "padW", "padH"), (k, k, stride, stride, pad, pad)))
        return self.module(cls, package, ceil_mode=ceil, **window)

    def layer(self, name: str) -> Obj:
        first, rest = self.norm(f"{name}.norm1"), self.conv(f"{name}.conv1")
        if self.config.bottleneck:
            rest += [*self.norm(f"{name}.norm2"), *self.conv(f"{name}.conv2")]
        if self.layers == "custom":
            nets = [self.sequential(*first), self.sequential(*rest)]
            saved_mean = np.full(9, 5, np.float32)
            return self.module(
                "DenseConnectLayerCustom", modules=nets, net1=nets[0], net2=nets[1], saved_bn_running_mean=saved_mean
            )
        both = [self.module("Identity"), self.sequential(*first, *rest)]
        concat = self.module("Concat", modules=both, dimension=2, outputSize=Longs([2, 24, 8, 8]))
        return concat if self.layers == "old" else self.sequential(concat)

    def network(self) -> Obj:
        config = self.config
        join = [self.module("JoinTable", dimension=2)] if self.layers == "custom" else []
        average = self.package, 2, 2, 0, config.transition_ceil
        steps = self.conv("stem.conv", 1 if config.stem == "cifar" else 2)
        if config.stem == "imagenet":
            steps += [*self.norm("stem.norm"), self.pool("SpatialMaxPooling", "nn", 3, 2, 1, config.stem_ceil)]
        for b, layers in enumerate(config.block_config):
            steps += [self.layer(f"blocks.{b}.layers.{i}") for i in range(layers)] + join
            if b + 1 < len(config.block_config):
                steps += [*self.norm(f"transitions.{b}.norm"), *self.conv(f"transitions.{b}.conv")]
                steps += [self.pool("SpatialAveragePooling", *average)]
        steps += [*self.norm("norm"), self.pool("SpatialAveragePooling", self.package, 8, 1, 0, False)]
        steps += [self.module("Reshape", size=Longs([config.num_features]), batchsize=Longs([0, 0]))]
        if config.num_classes:
            linear = {leaf: self.tensors[f"classifier.{leaf}"] for leaf in ("weight", "bias")}
            steps += [self.module("Linear", **linear, gradBias=np.ones(3, np.float32))]
        return self.sequential(*steps)


SMALL = DenseNetConfig(growth_rate=4, block_config=(2, 1), init_features=8, stem="cifar", num_classes=3)


def check(path: Path, config: DenseNetConfig, tensors: dict[str, np.ndarray]) -> None:
    model = load(path)
    assert model.config == config
    assert set(model.tensors) == set(tensors)
    for name, tensor in model.tensors.items():
        np.testing.assert_array_equal(tensor.read(), tensors[name], err_msg=name)
        assert tensor.shape == tensors[name].shape


def at(tree: Obj, *path: int) -> Obj:
    for number in path:
        tree = tree.fields["modules"][number - 1]
    return tree


# -- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [path.name for path in sorted(CASES.glob("t7-*"))])
def test_reference_files_give_the_logits_of_lua_torch(case: str) -> None:
    folder = CASES / case
    want = np.load(folder / "logits.npy")
    got = logits_of(folder / json.loads((folder / "case.json").read_text())["file"], np.load(folder / "input.npy"))
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize(
    "options",
    [{}, {"long": 4}, {"text": True}, {"referenced": False}, {"cuda": True}, {"cuda": True, "text": True}],
    ids=lambda options: "-".join(map(str, options)) or "binary",
)
def test_every_encoding_and_type_is_read(tmp_path: Path, options: dict[str, Any], dtype: str) -> None:
    tensors = weights(SMALL, dtype)
    check(saved(tmp_path / "model.t7", Official(SMALL, tensors).network(), **options), SMALL, tensors)


@pytest.mark.parametrize("package", ["nn", "cudnn"])
@pytest.mark.parametrize("layers", ["concat", "old", "custom"])
@pytest.mark.parametrize("bottleneck", [True, False])
def test_every_kind_of_layer_is_read(tmp_path: Path, package: str, layers: str, bottleneck: bool) -> None:
    config = replace(SMALL, bottleneck=bottleneck)
    tensors = weights(config)
    network = Official(config, tensors, package=package, layers=layers, dropout=layers != "custom").network()
    check(saved(tmp_path / "model.t7", network), config, tensors)


def test_files_from_before_versions_are_read(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    check(saved(tmp_path / "model.t7", Official(SMALL, tensors, version=None).network()), SMALL, tensors)


@pytest.mark.parametrize("version", [1, 3])
@pytest.mark.parametrize("text", [False, True])
def test_data_parallel_tables_are_looked_into(tmp_path: Path, version: int, text: bool) -> None:
    tensors = weights(SMALL)
    root = Obj("nn.DataParallelTable", {"modules": [Official(SMALL, tensors).network()]}, version)
    root.fields["impl"] = Obj("nn.DataParallelTable.Threads", {"initFunc": Function(8), "dpt": root})
    path = saved(tmp_path / "model.t7", root, text=text)
    check(path, SMALL, tensors)
    assert "function" in open_checkpoint(path).inert


@pytest.mark.parametrize("tag", [6, 7, 8])
def test_functions_are_passed_over(tmp_path: Path, tag: int) -> None:
    tensors, function = weights(SMALL), Function(tag)
    root = {"epoch": 1, "f": function, "again": function, "model": Official(SMALL, tensors).network()}
    check(saved(tmp_path / "model.t7", root), SMALL, tensors)


def test_weights_may_be_windows_on_one_storage(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    flat = np.concatenate([np.zeros(5, np.float32), *(array.ravel() for array in tensors.values())])
    position, windows = 5, {}
    for name, array in tensors.items():
        windows[name] = flat[position : position + array.size].reshape(array.shape)
        position += array.size
    assert all(window.base is flat for window in windows.values())
    for options in ({}, {"long": 4}, {"text": True}):
        path = saved(tmp_path / "model.t7", Official(SMALL, windows).network(), **options)
        check(path, SMALL, tensors)
        assert path.stat().st_size < 4 * saved(tmp_path / "flat.t7", flat, **options).stat().st_size + 40_000


def test_running_std_becomes_a_variance(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    model = load(saved(tmp_path / "model.t7", Official(SMALL, tensors, running_std=True).network()))
    for name, tensor in model.tensors.items():
        np.testing.assert_allclose(tensor.read(), tensors[name], rtol=1e-6, err_msg=name)


def test_keys_are_paths_and_every_other_tensor_has_a_reason(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.t7", Official(SMALL, weights(SMALL), layers="custom").network())
    dropped = load(path).dropped
    assert dropped["2.1.1.save_mean"] and dropped["2.saved_bn_running_mean"]
    assert dropped["1.gradWeight"] == "a gradient"


def test_a_softmax_is_left_out_and_reported(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    network = Official(SMALL, tensors).network()
    network.fields["modules"].append(Obj("nn.LogSoftMax"))
    path = saved(tmp_path / "model.t7", network)
    check(path, SMALL, tensors)
    assert any("softmax" in note for note in load(path).notes)


def test_the_first_densenet_of_several_is_taken(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    other = Obj("nn.Sequential", {"modules": [Obj("nn.Tanh")]})
    path = saved(tmp_path / "model.t7", {"teacher": other, "model": Official(SMALL, tensors).network()})
    check(path, SMALL, tensors)
    assert any("2 networks" in note for note in load(path).notes)


def test_a_table_of_named_tensors_is_read_by_its_names(tmp_path: Path) -> None:
    tensors = weights(SMALL)
    check(saved(tmp_path / "model.t7", {"model": tensors}), SMALL, tensors)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.builds(
        DenseNetConfig,
        growth_rate=st.integers(1, 5),
        block_config=st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
        init_features=st.integers(4, 12),
        bottleneck=st.booleans(),
        stem=st.sampled_from(["imagenet", "cifar"]),
        num_classes=st.integers(0, 4),
        transition_ceil=st.booleans(),
        stem_ceil=st.booleans(),
        eps=st.sampled_from([1e-5, 1e-3]),
    ),
    options=st.fixed_dictionaries(
        {"text": st.booleans(), "referenced": st.booleans(), "long": st.sampled_from([4, 8])}
    ),
    layers=st.sampled_from(["concat", "old", "custom"]),
)
def test_any_network_comes_back(tmp_path: Path, config: DenseNetConfig, options: dict[str, Any], layers: str) -> None:
    said = {"stem_ceil": config.stem_ceil and config.stem == "imagenet"}
    said["transition_ceil"] = config.transition_ceil and len(config.block_config) > 1
    config = replace(config, **said)
    tensors = weights(config)
    path = saved(tmp_path / "model.t7", Official(config, tensors, layers=layers).network(), **options)
    model = load(path)
    assert replace(model.config, compression=config.compression) == config  # several fractions give these widths
    for name, tensor in model.tensors.items():
        np.testing.assert_array_equal(tensor.read(), tensors[name], err_msg=name)


# -- refusing -------------------------------------------------------------------------------


def change(path: tuple[int, ...], **fields: Any) -> Any:
    def apply(network: Obj) -> None:
        at(network, *path).fields.update(fields)

    return apply


def become(path: tuple[int, ...], cls: str) -> Any:
    def apply(network: Obj) -> None:
        at(network, *path).cls = cls

    return apply


def new_first(network: Obj) -> None:
    at(network, 2, 1).fields["modules"].reverse()


def holds_itself(network: Obj) -> None:
    network.fields["modules"][3] = network


def without(path: tuple[int, ...], name: str) -> Any:
    def apply(network: Obj) -> None:
        del at(network, *path).fields[name]

    return apply


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change((7,), dW=1, dH=1), "7 (nn.SpatialAveragePooling) has dW 1; a DenseNet has 2 there"),
        (change((7,), divide=False), "divide"),
        (change((6,), groups=2), "groups 2"),
        (change((1,), dW=2, dH=2), "1 (nn.SpatialConvolution) has dW 2"),
        (change((1,), padW=0), "padW 0"),
        (change((6,), kW=3), "3x1 convolution"),
        (change((2, 1, 2, 2), threshold=1e-6), "threshold"),
        (change((2, 1), dimension=1), "2.1 (nn.Concat)"),
        (change((12,), size=Longs([5])), "12 (nn.Reshape)"),
        (change((12,), size="all"), "12 (nn.Reshape)"),
        (change((2, 1, 2, 1), eps="small"), "no eps"),
        (change((2, 1, 2, 1), eps=1e-3), "eps"),
        (become((2, 1, 2, 2), "nn.Tanh"), "2.1.2.2 (nn.Tanh)"),
        (become((2, 1, 2, 2), "fbnn.ReLU"), "2.1.2.2 (fbnn.ReLU)"),
        (become((5,), "nn.Identity"), "where a DenseNet has ReLU"),
        (without((2, 1, 2, 1), "running_mean"), "running_mean"),
        (without((1,), "weight"), "weight"),
        (without((7,), "kW"), "kW"),
        (new_first, "2.1.1 (nn.Sequential)"),
        (holds_itself, "contains itself"),
    ],
)
def test_what_is_no_densenet_is_refused_by_name(tmp_path: Path, spoil: Any, reason: str) -> None:
    network = Official(SMALL, weights(SMALL)).network()
    spoil(network)
    with pytest.raises(NotADenseNet) as refusal:
        load(saved(tmp_path / "model.t7", network))
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_deep_nesting_is_refused_whether_written_out_or_by_reference(tmp_path: Path) -> None:
    links = [Obj("nn.Sequential", {"modules": [Obj("nn.Identity")]})]
    for _ in range(60):
        links.append(Obj("nn.Sequential", {"modules": [links[-1]]}))
    with pytest.raises(NotADenseNet, match="contains itself"):
        load(saved(tmp_path / "model.t7", {"links": {"all": {"of": {"them": links}}}, "model": links[-1]}))
    with pytest.raises(UnreadableFile, match="deep"):
        load(saved(tmp_path / "model.t7", links[-1]))


def test_dropout_that_scales_outside_training_is_refused(tmp_path: Path) -> None:
    network = Official(SMALL, weights(SMALL), dropout=True).network()
    path = saved(tmp_path / "model.t7", network)
    load(path)
    at(network, 2, 1, 2, 4).fields.pop("v2")
    with pytest.raises(NotADenseNet, match=r"2\.1\.2\.4 \(nn.Dropout\)"):
        load(saved(path, network))


def test_transitions_that_round_differently_are_refused(tmp_path: Path) -> None:
    config = replace(SMALL, block_config=(1, 1, 1))
    network = Official(config, weights(config)).network()
    at(network, 6).fields["ceil_mode"] = True
    with pytest.raises(NotADenseNet, match="rounds"):
        load(saved(tmp_path / "model.t7", network))


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"epoch": 1, "modelFile": "model_1.t7", "optimFile": "optimState_1.t7"}, "no model"),
        ({"dfdx": np.ones(9, np.float32), "learningRate": 0.1, "evalCounter": 3}, "no model"),
        ({"epoch": 1}, "not a DenseNet"),
    ],
)
def test_training_state_is_no_model(tmp_path: Path, table: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotADenseNet, match=reason):
        load(saved(tmp_path / "latest.t7", table))


# -- damaged and hostile files -------------------------------------------------------------------


def use(path: Path) -> None:
    """Read everything; only this project's errors may come of it, in one line."""
    try:
        for tensor in load(path).tensors.values():
            tensor.read()
    except ConverterError as error:
        assert "\n" not in str(error)


@pytest.fixture(scope="module", params=[False, True], ids=["binary", "text"])
def sound(request: pytest.FixtureRequest) -> bytes:
    config = replace(SMALL, block_config=(1,))
    writer = Writer(text=request.param)
    writer.write({"model": Official(config, weights(config)).network(), "f": Function(8)})
    return bytes(writer.out)


def test_truncated_files_are_refused(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "model.t7"
    for size in range(1, len(sound) - 1, max(1, len(sound) // 200)):
        path.write_bytes(sound[:size])
        with pytest.raises(UnreadableFile):
            load(path)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_never_end_in_a_traceback(tmp_path: Path, sound: bytes, flips: list[tuple[int, int]]) -> None:
    data = bytearray(sound)
    for position, value in flips:
        data[position % len(data)] = value
    (tmp_path / "model.t7").write_bytes(data)
    use(tmp_path / "model.t7")


def tensor(shape: list[int], stride: list[int], first: int, elements: int, announced: int | None = None) -> bytes:
    name = b"\4\0\0\0\1\0\0\0\3\0\0\0V 1" + struct.pack("<i", 17) + b"torch.FloatTensor"
    window = struct.pack(f"<i{2 * len(shape) + 1}q", len(shape), *shape, *stride, first)
    storage = b"\4\0\0\0\2\0\0\0\3\0\0\0V 1" + struct.pack("<i", 18) + b"torch.FloatStorage"
    count = struct.pack("<q", elements if announced is None else announced)
    return name + window + storage + count + bytes(4 * elements)


@pytest.mark.parametrize(
    "data",
    [
        tensor([2], [1], 1, 2, announced=1 << 60),
        tensor([2], [1], 1, 2, announced=-1),
        tensor([3], [1], 1, 2),
        tensor([2], [1], 2, 2),
        tensor([2], [1], 0, 2),
        tensor([2], [-1], 2, 2),
        tensor([1 << 62, 4], [1, 1], 1, 2),
        b"\3\0\0\0\1\0\0\0\xff\xff\xff\x00\1\0\0\0" + bytes(8),
        b"\4\0\0\0\1\0\0\0\3\0\0\0V 1\xff\xff\xff\x7f",
        b"\4\0\0\0\1\0\0\0\3\0\0\0V 1" + struct.pack("<i", 22) + b"torch.BFloat16X\nTensor",
        b"3\n1\n9999999999\n1\n1\n",
        b"3\n1\n1\n1\n" + b"9" * 100_000 + b"\n",
        b"4\n1\n3\nV 1\n18\ntorch.FloatStorage\n999999999999\n1 2\n",
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_allocated(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.t7").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableFile):
            open_checkpoint(tmp_path / "model.t7")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_an_expanded_tensor_is_never_blown_up(tmp_path: Path) -> None:
    (tmp_path / "model.t7").write_bytes(tensor([1 << 30, 1 << 10], [0, 0], 1, 1))
    with pytest.raises(UnreadableFile, match="repeats"):
        open_checkpoint(tmp_path / "model.t7").tree.read()


@pytest.mark.parametrize("line", [b"1 2 x", b"1 2", b"1 2 3 4"])
def test_numbers_in_text_are_counted_and_checked(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "model.t7").write_bytes(b"4\n1\n3\nV 1\n18\ntorch.FloatStorage\n3\n" + line + b"\n")
    with pytest.raises(UnreadableFile):
        open_checkpoint(tmp_path / "model.t7").tree.read()
