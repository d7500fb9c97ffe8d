"""The module trees of Lua Torch: ``nn.*`` and ``cudnn.*``, as the official DenseNet code builds them.

Sources: liuzhuang13/DenseNet (models/densenet.lua, models/DenseConnectLayer.lua; before
August 2017 densenet.lua and densenet-imagenet.lua), torch/nn, soumith/cudnn.torch.  Names
are paths of module numbers, ``2.1.2.1.weight``.  Nothing but the classes, in order of
execution, tells what a tensor is, so every module becomes an operator for ``wiring.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from math import prod
from typing import Any, NamedTuple

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Record, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.activations import FUNCTIONS
from converter.structures.ops import Compute, Kind, Op, Weight, Window
from converter.structures.parts import Structure
from converter.structures.weights import lazily, one_number
from converter.structures.wiring import read_wiring
from densenet.module import NORM_TENSORS

NAME = "lua-torch"
IMAGE = "the image"
EPS = 1e-5
"""nn.BatchNormalization's default; files state theirs."""

CONTAINERS = ("Sequential", "DataParallelTable", "Concat", "DenseConnectLayerCustom")
SILENT = ("Identity", "Contiguous", "Copy", "Dropout")
"""Classes that pass on what they get; Dropout is looked at."""
TAKE_ANY = ("Sequential", "DenseConnectLayerCustom", *SILENT)
"""Classes that take one value or a table of them."""

TRAINING_STATE = {
    ("modelFile", "optimFile"): "it names the file of the model beside it; convert that one",
    ("dfdx", "learningRate"): "it holds the optimizer's state; convert the model_*.t7 beside it",
}
"""Keys of what the official checkpoints.lua saves beside a model: latest.t7 and optimState_*.t7."""

Value = tuple[str, ...]
"""One value, or a table of several, by the paths of the modules that made them."""


class Module(NamedTuple):
    """A module and where it is."""

    path: str
    record: Record

    def __str__(self) -> str:
        return f"{self.path or 'the network'} ({self.record.cls})"

    def op(self, kind: Kind, x: Value, **more: Any) -> Op:
        """The operator it is."""
        return Op(kind, x, self.path, str(self), **more)

    @property
    def fields(self) -> dict[Any, Any]:
        """Its Lua fields."""
        return self.record.state if isinstance(self.record.state, dict) else {}

    def number(self, name: str, default: float | None = None) -> float:
        """A field that must be a number."""
        value = self.fields.get(name, default)
        if not isinstance(value, int | float):
            raise NotADenseNet(f"{self} has no {name}")
        return value

    def pair(self, name: str, default: int | None = None) -> tuple[int, ...]:
        """A field for the height and one for the width."""
        values: list[Any] = [self.fields.get(name + axis, default) for axis in "HW"]
        if not all(isinstance(n, int) for n in values):
            raise NotADenseNet(f"{self} has no {name}W and {name}H")
        return tuple(values)

    def window(self) -> Window:
        """What it sees, if it is a convolution or pooling."""
        pads, groups, ceil = self.pair("pad", 0), self.fields.get("groups", 1), self.fields.get("ceil_mode")
        return Window(self.pair("k"), self.pair("d"), pads, pads, groups=groups, ceil=bool(ceil))

    def children(self) -> list[Module]:
        """The modules of a container, in order (a Lua table has none)."""
        modules = self.fields.get("modules")
        numbers = range(1, len(modules) + 1) if isinstance(modules, dict) else ()
        if not isinstance(modules, dict) or not modules or not all(isinstance(modules.get(i), Record) for i in numbers):
            raise NotADenseNet(f"{self} has no proper list of modules")
        return [Module(f"{self.path}.{i}" if self.path else str(i), modules[i]) for i in numbers]

    def tensors(self) -> dict[str, Weight]:
        """The fields that are tensors and not empty."""
        prefix = f"{self.path}." if self.path else ""
        found = {str(name): value for name, value in self.fields.items() if isinstance(value, Tensor)}
        return {name: Weight(prefix + name, value) for name, value in found.items() if 0 not in value.shape}

    def kernel(self, dims: int) -> dict[str, Weight]:
        """Weight and bias of a layer; the weight must have so many dimensions."""
        weights = {name: weight for name, weight in self.tensors().items() if name in ("weight", "bias")}
        if "weight" not in weights or len(weights["weight"].tensor.shape) != dims:
            raise NotADenseNet(f"{self} has no weight of {dims} dimensions")
        return weights


def read_lua(checkpoint: Checkpoint) -> Structure | None:
    """The DenseNet in a Lua Torch file; None if the file holds no container of Lua Torch's.

    Raises:
        NotADenseNet: the modules compute something else, or the file is training state.
    """
    tree = checkpoint.tree
    networks = list(_networks(tree))
    refusals = []
    for module in networks:
        try:
            structure = _structure(module)
        except NotADenseNet as error:
            refusals.append(error)
            continue
        if len(networks) > 1:
            note = f"the file holds {len(networks)} networks; the first DenseNet among them was taken"
            structure = replace(structure, notes=(*structure.notes, note))
        return structure
    if refusals:
        raise NotADenseNet(f"{checkpoint.path}: {refusals[0]}")
    for keys, reason in TRAINING_STATE.items():
        if isinstance(tree, dict) and tree.keys() >= set(keys):
            raise NotADenseNet(f"{checkpoint.path}: no model, {reason}")
    return None


def _networks(tree: Any) -> Iterator[Record]:
    """Containers of modules, at the top of the tree or in tables around them, outermost and ``model`` first."""
    level, seen = [tree], set[int]()
    for _ in range(bounds.LUA_SEARCH):
        inner: list[Any] = []
        for node in level:
            if not isinstance(node, (dict, list, Record)) or id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, dict):
                inner += [node["model"], *node.values()] if "model" in node else node.values()
            elif isinstance(node, list):
                inner += node
            elif node.cls.startswith(("nn.", "cudnn.")) and isinstance(node.state, dict) and "modules" in node.state:
                yield node
        level = inner


def _structure(root: Record) -> Structure:
    tree = _Tree()
    result = tree.run(Module("", root), (IMAGE,))
    for op, after in zip_longest(tree.ops, tree.ops[1:]):
        if op.kind == "norm" and "Spatial" in op.name and (after is None or after.kind != "relu"):
            raise NotADenseNet(f"{after.name if after else 'nothing'} follows {op.name}, where a DenseNet has ReLU")
    structure = read_wiring(NAME, tree.ops, IMAGE, result)
    used = {key for part in structure.parts for key in part.keys.values()}
    others = {weight.key: name for m in tree.modules for name, weight in m.tensors().items() if weight.key not in used}
    return replace(structure, dropped={key: _reason(name) for key, name in others.items()})


def _reason(name: str) -> str:
    """Why a tensor is no part of the network."""
    if name == "bias":
        return "zeros, which add nothing"
    return "a gradient" if name.startswith("grad") else "working memory of Torch, no weight"


class _Tree:
    """A tree of modules, followed in order of execution."""

    def __init__(self) -> None:
        self.modules: list[Module] = []
        self.ops: list[Op] = []
        self.width = 0  # feature maps, behind a norm
        self.seen: set[int] = set()

    def run(self, module: Module, x: Value) -> Value:
        """What a module makes of a value.

        A container counts once only, so that a tree that holds itself comes to an end.
        """
        package, _, kind = module.record.cls.partition(".")
        if package not in ("nn", "cudnn") or kind not in (*CONTAINERS, *SILENT, *READERS):
            raise NotADenseNet(f"{module} is no module that a DenseNet has")
        if kind not in TAKE_ANY and (len(x) > 1) != (kind == "JoinTable"):
            raise NotADenseNet(f"{module} takes {'a table' if len(x) > 1 else 'no table'}, where a DenseNet does not")
        self.modules.append(module)
        if kind in CONTAINERS:
            if id(module.record) in self.seen or module.path.count(".") > bounds.LUA_NESTED:
                raise NotADenseNet(f"{module} is used twice, or contains itself")
            self.seen.add(id(module.record))
            return self.container(module, kind, x)
        if kind == "Dropout":
            _check_dropout(module)
        if kind in SILENT:
            return x
        if kind in ("Reshape", "View"):
            _check_size(module, self.width)
        op = READERS[kind](module, x)
        if op.kind in ("norm", "linear"):
            self.width = op.weights["weight"].tensor.shape[0]
        elif op.kind == "avg_pool" and self.ops and self.ops[-1].kind == "relu" and not any(module.pair("pad", 0)):
            op = replace(op, kind="global_avg")  # as large as the maps it was made for
        return self.add(op)

    def add(self, op: Op) -> Value:
        self.ops.append(op)
        return (op.y,)

    def container(self, module: Module, kind: str, x: Value) -> Value:
        """The same for modules that hold others."""
        children = module.children()
        if kind == "Concat":
            if len(children) != 2 or module.number("dimension") != 2:
                raise NotADenseNet(f"{module} does not join old and new feature maps as a DenseNet's layer does")
            old, new = children
            if self.run(old, x) != x:
                raise NotADenseNet(f"{old} changes what a DenseNet's layer passes on as it is, first")
            return self.add(module.op("concat", (*x, *self.run(new, x))))
        if kind == "DenseConnectLayerCustom":
            # DenseConnectLayer.lua computes with net1 and net2; modules lists them again (deepCopy() makes
            # them objects of their own, with the same tensors).
            value = self.add(replace(module.op("concat", x), y=f"{module.path} joins"))
            for field, child in zip(("net1", "net2"), children):
                net = module.fields.get(field)
                value = self.run(Module(child.path, net) if isinstance(net, Record) else child, value)
            return (*x, *value)
        for child in children if kind == "Sequential" else children[:1]:  # the others are copies on other devices
            x = self.run(child, x)
        return x


# -- modules to operators ----------------------------------------------------------------

Reader = Callable[[Module, Value], Op]


def _kind(kind: Kind, **wanted: int) -> Reader:
    """Modules whose fields must be such; one that is not there is 0."""

    def read(module: Module, x: Value) -> Op:
        strange = [
            f"{name} {module.fields.get(name, 0)}" for name, n in wanted.items() if module.fields.get(name, 0) != n
        ]
        if strange:
            raise NotADenseNet(f"{module} has {strange[0]}; a DenseNet has no such module")
        return module.op(kind, x)

    return read


def _pool(kind: Kind) -> Reader:
    def read(module: Module, x: Value) -> Op:
        if module.fields.get("divide", True) is not True:
            raise NotADenseNet(f"{module} has divide {module.fields['divide']}; a DenseNet's pooling divides")
        return module.op(kind, x, window=module.window())

    return read


def _conv(module: Module, x: Value) -> Op:
    weights, window = module.kernel(4), module.window()
    if weights["weight"].tensor.shape[2:] != window.kernel:
        raise NotADenseNet(f"{module} has a weight of another size than its kW and kH")
    return module.op("conv", x, weights=weights, window=window)


def _norm(module: Module, x: Value) -> Op:
    eps, weights = float(module.number("eps", EPS)), module.tensors()
    if "running_std" in weights:  # nn before February 2016, cudnn.torch before April 2016
        std = weights["running_std"]
        weights.setdefault("running_var", replace(std, tensor=_variance(std.tensor, eps)))
    missing = [leaf for leaf in NORM_TENSORS if leaf not in weights]
    if missing:
        raise NotADenseNet(f"{module} has no {', '.join(missing)}")
    return module.op("norm", x, weights={leaf: weights[leaf] for leaf in NORM_TENSORS}, eps=eps)


def _variance(std: Tensor, eps: float) -> Tensor:
    """What the first ``running_std`` was, (variance + eps) ** -0.5, as a variance; computed in float64."""

    def change(values: Array) -> Array:
        with np.errstate(divide="ignore", over="ignore"):
            return (values.astype(np.float64) ** -2 - eps).astype(values.dtype)

    return lazily(std, change)


def _check_dropout(module: Module) -> None:
    """Since 2014 ("v2") it scales while training, and then passes everything on."""
    if module.number("p") and (not module.fields.get("v2") or module.fields.get("stochastic_inference")):
        raise NotADenseNet(f"{module} scales or drops feature maps also outside training")


def _check_size(module: Module, width: int) -> None:
    """A Reshape or View must keep exactly the pooled feature maps."""
    size = module.fields.get("size")
    if isinstance(size, Tensor) and size.dtype.kind == "i" and len(size.shape) == 1 and size.shape[0] <= 4:
        sizes = [int(n) for n in size.read() if n != -1]
        if prod(sizes) == width or not sizes:
            return
    raise NotADenseNet(f"{module} does not leave one number for each of {width} feature maps")


def _function(compute: Callable[[Module], Compute]) -> Reader:
    return lambda module, x: module.op("other", x, compute=compute(module))


def _kind_of(kind: str, name: str = "", default: float = 1.0) -> Reader:
    """A function of a head, and the field that has its number."""

    def compute(module: Module) -> Compute:
        value = module.number(name, default) if name else default
        return lambda x: FUNCTIONS[kind](x, value)

    return _function(compute)


def _softplus(module: Module) -> Compute:
    beta, threshold = module.number("beta", 1), module.number("threshold", 20)
    return lambda x: np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta)


def _clamp(module: Module) -> Compute:
    low, high = module.number("min_val", -1), module.number("max_val", 1)
    return lambda x: np.minimum(np.maximum(x, low), high)


def _prelu(module: Module, x: Value) -> Op:
    """Of one slope for all its features it is a leaky ReLU."""
    weight = module.tensors().get("weight")
    slope = None if weight is None else one_number(weight)
    if weight is None or slope is None:
        return module.op("other", x)
    return module.op("other", x, compute=lambda x: FUNCTIONS["leaky_relu"](x, slope), weights={"alpha": weight})


READERS: Mapping[str, Reader] = {
    "SpatialConvolution": _conv,
    **dict.fromkeys(("SpatialBatchNormalization", "BatchNormalization"), _norm),
    "Tanh": _kind_of("tanh"),
    "Sigmoid": _kind("sigmoid"),
    "ReLU6": _kind_of("relu6"),
    "SoftSign": _kind_of("softsign"),
    "ELU": _kind_of("elu", "alpha"),
    "LeakyReLU": _kind_of("leaky_relu", "negval", 0.01),
    "SoftPlus": _function(_softplus),
    **dict.fromkeys(("HardTanh", "Clamp"), _function(_clamp)),
    "PReLU": _prelu,
    "ReLU": _kind("relu", threshold=0, val=0),
    "SpatialMaxPooling": _pool("max_pool"),
    "SpatialAveragePooling": _pool("avg_pool"),
    "SpatialAdaptiveAveragePooling": _kind("global_avg", W=1, H=1),
    "JoinTable": _kind("concat", dimension=2),
    "Reshape": _kind("flatten"),
    "View": _kind("flatten"),
    "Linear": lambda module, x: module.op("linear", x, weights=module.kernel(2)),
    "SoftMax": _kind("softmax"),
    "LogSoftMax": _kind("end"),
}
"""Modules by class."""
