"""The module trees of Lua Torch: ``nn.*`` and ``cudnn.*``, as the official DenseNet code builds them.

Sources: liuzhuang13/DenseNet (models/densenet.lua, models/DenseConnectLayer.lua; before
August 2017 densenet.lua and densenet-imagenet.lua), torch/nn, soumith/cudnn.torch.  Names
are paths of module numbers, ``2.1.2.1.weight``.  Nothing but the classes, in order of
execution, tells what a tensor is, so every step is held against a DenseNet's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from math import prod
from typing import Any, NamedTuple

import numpy as np

from converter.core.checkpoint import Checkpoint, Record, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.parts import Part, Structure, norm_part

NAME = "lua-torch"
EPS = 1e-5
"""nn.BatchNormalization's default; files state theirs."""
MAX_NESTING = 32
MAX_SEARCH = 4

OPERATIONS = {
    "SpatialBatchNormalization": "batch norm",
    "ReLU": "ReLU",
    "SpatialMaxPooling": "max pooling",
    "SpatialAveragePooling": "average pooling",
    "SpatialAdaptiveAveragePooling": "global pooling",
    "JoinTable": "JoinTable",
    "Reshape": "flattening",
    "View": "flattening",
    "Linear": "linear layer",
    "SoftMax": "softmax",
    "LogSoftMax": "softmax",
}
"""What a class does.  A convolution's operation has its size: ``3x3 convolution``."""

SILENT = ("Identity", "Contiguous", "Copy")
"""Classes that pass on what they get."""

AFTER: Mapping[str, Mapping[str, str]] = {
    "start": {"3x3 convolution": "features", "7x7 convolution": "stem convolution"},
    "stem convolution": {"batch norm": "stem norm"},
    "stem norm": {"ReLU": "stem ReLU"},
    "stem ReLU": {"max pooling": "features"},
    "features": {"dense layer": "layer", "dense layer on tables": "layer"},
    "layer": {"batch norm": "norm1"},
    "norm1": {"ReLU": "relu1"},
    "relu1": {"1x1 convolution": "conv1", "3x3 convolution": "new features"},
    "conv1": {"batch norm": "norm2"},
    "norm2": {"ReLU": "relu2"},
    "relu2": {"3x3 convolution": "new features"},
    "new features": {"end of a layer": "block", "end of a layer on tables": "table"},
    "block": {"dense layer": "layer", "batch norm": "norm"},
    "table": {"dense layer on tables": "layer", "JoinTable": "joined"},
    "joined": {"batch norm": "norm"},
    "norm": {"ReLU": "ReLU"},
    "ReLU": {"1x1 convolution": "transition", "average pooling": "pooled", "global pooling": "pooled"},
    "transition": {"average pooling": "features"},
    "pooled": {"flattening": "flat"},
    "flat": {"linear layer": "logits"},
    "logits": {"softmax": "logits"},
}
"""A DenseNet, step by step: in each state the operations that may come and the states they lead to."""

ENDS = ("ReLU", "pooled", "flat", "logits")


def _window(kernel: int, stride: int, padding: int) -> dict[str, int]:
    values = {"k": kernel, "d": stride, "pad": padding}
    return {name + axis: value for name, value in values.items() for axis in "WH"}


FIELDS: Mapping[str, Mapping[str, Any]] = {
    "1x1 convolution": {**_window(1, 1, 0), "groups": 1},
    "3x3 convolution": {**_window(3, 1, 1), "groups": 1},
    "7x7 convolution": {**_window(7, 2, 3), "groups": 1},
    "max pooling": _window(3, 2, 1),
    "average pooling": {**_window(2, 2, 0), "divide": True},
    "whole average": {"padW": 0, "padH": 0, "divide": True},
    "global pooling": {"W": 1, "H": 1},
    "ReLU": {"threshold": 0, "val": 0},
    "JoinTable": {"dimension": 2},
}
"""What the fields of a step must be.  The last pooling has any window: it is as large as the maps it was made for."""

DEFAULTS = {"padW": 0, "padH": 0, "groups": 1, "divide": True, "threshold": 0, "val": 0}
"""What a field that is not there stands for."""

WEIGHTS = ("weight", "bias")
STATISTICS = ("running_mean", "running_var", "running_std")

TRAINING_STATE = {
    ("modelFile", "optimFile"): "it names the file of the model beside it; convert that one",
    ("dfdx", "learningRate"): "it holds the optimizer's state; convert the model_*.t7 beside it",
}
"""Keys of what the official checkpoints.lua saves beside a model: latest.t7 and optimState_*.t7."""


class Step(NamedTuple):
    """One operation of the network, in order of execution."""

    operation: str
    path: str
    module: Record

    def __str__(self) -> str:
        return f"{self.path or 'the network'} ({self.module.cls})"

    @property
    def fields(self) -> dict[Any, Any]:
        """The Lua fields of the module."""
        return self.module.state if isinstance(self.module.state, dict) else {}

    def number(self, name: str, default: float | None = None) -> float:
        """A field that must be a number."""
        value = self.fields.get(name, default)
        if not isinstance(value, (int, float)):
            raise NotADenseNet(f"{self} has no {name}")
        return value

    def tensors(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The fields of these names that are tensors and not empty."""
        found = {name: self.fields.get(name) for name in names}
        return {name: value for name, value in found.items() if isinstance(value, Tensor) and 0 not in value.shape}


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
    for _ in range(MAX_SEARCH):
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


def _structure(network: Record) -> Structure:
    steps = list(_walk(network, "", set()))
    end, settings = _check(steps)
    parts = [part for step in steps if (part := _part(step))]
    notes = {
        "the network ends before the global pooling, which is added": end == "ReLU",
        "a softmax follows the classifier; the logits before it are what is kept": steps[-1].operation == "softmax",
    }
    used = {key for part in parts for key in part.keys.values()}
    return Structure(NAME, parts, settings, _dropped(steps, used), tuple(note for note, so in notes.items() if so))


def _walk(module: Record, path: str, seen: set[int]) -> Iterator[Step]:
    """Every module in order of execution; those that compute nothing have no operation.

    A container counts once only, so that a tree that holds itself comes to an end.
    """
    here = Step("", path, module)
    package, _, kind = module.cls.partition(".")
    if package not in ("nn", "cudnn"):
        raise NotADenseNet(f"{here} is no module that a DenseNet has")
    if kind not in ("Sequential", "DataParallelTable", "Concat", "DenseConnectLayerCustom"):
        yield here._replace(operation=_operation(here, kind))
        return
    if id(module) in seen or path.count(".") > MAX_NESTING:
        raise NotADenseNet(f"{here} is used twice, or contains itself")
    seen.add(id(module))
    children = _children(here)
    if kind in ("Sequential", "DataParallelTable"):
        yield here
        count = len(children) if kind == "Sequential" else 1  # the others are copies on other devices
        for name, child in islice(children.items(), count):
            yield from _walk(child, name, seen)
    elif kind == "Concat":
        if len(children) != 2 or here.number("dimension") != 2:
            raise NotADenseNet(f"{here} does not join old and new feature maps as a DenseNet's layer does")
        (old_name, old), (new_name, new) = children.items()
        passed = list(_walk(old, old_name, seen))
        if any(step.operation for step in passed):
            raise NotADenseNet(f"{old_name} ({old.cls}) changes what a DenseNet's layer passes on as it is, first")
        yield from passed
        yield here._replace(operation="dense layer")
        yield from _walk(new, new_name, seen)
        yield here._replace(operation="end of a layer")
    else:
        # DenseConnectLayer.lua computes with net1 and net2; modules lists them again (deepCopy() makes
        # them objects of their own, with the same tensors).
        yield here._replace(operation="dense layer on tables")
        for field, (name, child) in zip(("net1", "net2"), children.items()):
            net = here.fields.get(field)
            yield from _walk(net if isinstance(net, Record) else child, name, seen)
        yield here._replace(operation="end of a layer on tables")


def _operation(step: Step, kind: str) -> str:
    if kind == "SpatialConvolution":
        return f"{step.number('kW')}x{step.number('kH')} convolution"
    if kind == "Dropout":
        # Since 2014 ("v2") it scales while training, and then passes everything on.
        if step.number("p") and (not step.fields.get("v2") or step.fields.get("stochastic_inference")):
            raise NotADenseNet(f"{step} scales or drops feature maps also outside training")
        return ""
    if kind in SILENT:
        return ""
    if kind not in OPERATIONS:
        raise NotADenseNet(f"{step} is no module that a DenseNet has")
    return OPERATIONS[kind]


def _children(step: Step) -> dict[str, Record]:
    """The modules of a container by path, in order (a Lua table has none)."""
    modules = step.fields.get("modules")
    numbers = range(1, len(modules) + 1) if isinstance(modules, dict) else ()
    if not isinstance(modules, dict) or not modules or not all(isinstance(modules.get(i), Record) for i in numbers):
        raise NotADenseNet(f"{step} has no proper list of modules")
    return {f"{step.path}.{i}" if step.path else str(i): modules[i] for i in numbers}


def _check(steps: list[Step]) -> tuple[str, dict[str, Any]]:
    """Hold the steps against a DenseNet's; the state they end in, and what only the steps tell.

    Raises:
        NotADenseNet: names the first step that a DenseNet does not have.
    """
    state, width = "start", 0
    ceil: dict[str, bool] = {}
    for step in steps:
        operation = step.operation
        if not operation:
            continue
        if operation not in AFTER[state]:
            raise NotADenseNet(f"{step}: {operation}, where a DenseNet has {' or '.join(AFTER[state])}")
        state = AFTER[state][operation]
        expected = FIELDS.get("whole average" if (operation, state) == ("average pooling", "pooled") else operation, {})
        for name, want in expected.items():
            have = step.fields.get(name, DEFAULTS.get(name))
            if have != want:
                shown = have if isinstance(have, (int, float)) else "of another kind"
                raise NotADenseNet(f"{step} has {name} {shown}; a DenseNet has {want} there")
        if operation == "batch norm":
            width = next((t.shape[0] for t in step.tensors(WEIGHTS).values()), 0)
        elif operation == "flattening":
            _check_size(step, width)
        elif "pooling" in operation and state == "features":
            setting = "stem_ceil" if operation == "max pooling" else "transition_ceil"
            if ceil.setdefault(setting, bool(step.fields.get("ceil_mode"))) != bool(step.fields.get("ceil_mode")):
                raise NotADenseNet(f"{step} rounds its size otherwise than the transition before it")
    if state not in ENDS:
        raise NotADenseNet(f"the modules end where a DenseNet goes on with {' or '.join(AFTER[state])}")
    return state, ceil


def _check_size(step: Step, width: int) -> None:
    """A Reshape or View must keep exactly the pooled feature maps."""
    size = step.fields.get("size")
    if isinstance(size, Tensor) and size.dtype.kind == "i" and len(size.shape) == 1 and size.shape[0] <= 4:
        sizes = [int(n) for n in size.read() if n != -1]
        if prod(sizes) == width or not sizes:
            return
    raise NotADenseNet(f"{step} does not leave one number for each of {width} feature maps")


def _part(step: Step) -> Part | None:
    """The weights of a step, if it has any."""
    operation = step.operation
    if operation == "batch norm":
        tensors = step.tensors(WEIGHTS + STATISTICS)
        keys = {leaf: f"{step.path}.{leaf}" for leaf in tensors}
        eps = float(step.number("eps", EPS))
        if "running_std" in tensors:  # nn before February 2016, cudnn.torch before April 2016
            std, key = tensors.pop("running_std"), keys.pop("running_std")
            if "running_var" not in tensors:
                tensors["running_var"], keys["running_var"] = _variance(std, eps), key
        return norm_part(tensors, keys, eps)
    if operation == "linear layer" or operation.endswith("convolution"):
        tensors = step.tensors(WEIGHTS)
        dims = 2 if operation == "linear layer" else 4
        if "weight" not in tensors or len(tensors["weight"].shape) != dims:
            raise NotADenseNet(f"{step} has no weight of {dims} dimensions")
        if dims == 4 and tensors["weight"].shape[2:] != (step.number("kH"), step.number("kW")):
            raise NotADenseNet(f"{step} has a weight of another size than its kW and kH")
        keys = {leaf: f"{step.path}.{leaf}" for leaf in tensors}
        return Part("linear" if dims == 2 else "conv", tensors, keys)
    return None


def _variance(std: Tensor, eps: float) -> Tensor:
    """What the first ``running_std`` was, (variance + eps) ** -0.5, as a variance; computed in float64."""

    def read() -> np.ndarray[Any, Any]:
        values = std.read()
        with np.errstate(divide="ignore", over="ignore"):
            return (values.astype(np.float64) ** -2 - eps).astype(values.dtype)

    return Tensor(std.shape, std.dtype, read)


def _dropped(steps: list[Step], used: set[str]) -> dict[str, str]:
    """Every other tensor of the modules, and why it is no part of the network."""
    dropped = {}
    for step in steps:
        for name, value in step.fields.items():
            key = f"{step.path}.{name}" if step.path else str(name)
            if isinstance(value, Tensor) and 0 not in value.shape and key not in used:
                dropped[key] = "a gradient" if str(name).startswith("grad") else "working memory of Torch, no weight"
    return dropped
