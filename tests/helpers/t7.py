"""Lua Torch files, written by hand."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from converter import load
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


def tensor(shape: list[int], stride: list[int], first: int, elements: int, announced: int | None = None) -> bytes:
    name = b"\4\0\0\0\1\0\0\0\3\0\0\0V 1" + struct.pack("<i", 17) + b"torch.FloatTensor"
    window = struct.pack(f"<i{2 * len(shape) + 1}q", len(shape), *shape, *stride, first)
    storage = b"\4\0\0\0\2\0\0\0\3\0\0\0V 1" + struct.pack("<i", 18) + b"torch.FloatStorage"
    count = struct.pack("<q", elements if announced is None else announced)
    return name + window + storage + count + bytes(4 * elements)
