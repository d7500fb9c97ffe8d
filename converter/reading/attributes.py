"""What a whole module's classes and attributes say, pickled or scripted: settings, or that it is another network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from converter.core.errors import NotADenseNet
from converter.reading.recognise import Candidate
from densenet.config import CHOICES, DenseNetConfig, Module

POOLS: dict[str, dict[str, int]] = {
    "MaxPool2d": {"kernel_size": 3, "padding": 1, "dilation": 1},
    "AvgPool2d": {"kernel_size": 2, "stride": 2, "padding": 0},
}
PLAIN = frozenset(
    "Conv2d Conv3d BatchNorm2d BatchNorm3d ReLU MaxPool2d MaxPool3d AvgPool2d AvgPool3d Linear Dropout "
    "Dropout2d Flatten AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool2d Sequential ModuleList ModuleDict "
    "DataParallel".split()
)
"""Classes of torch.nn that a DenseNet is made of."""
NEEDED = {"pool0": ("MaxPool2d", "MaxPool3d", "Sequential"), "relu0": ("ReLU",), "relu": ("ReLU",)}
"""Modules without tensors under torchvision's names, and what they must be."""


def settings_of_names(candidate: Candidate) -> dict[str, Any]:
    """Blur pooling shows in the module names: timm's pool0 is then a sequence of two."""
    modules, prefix = candidate.group.modules, candidate.prefix
    if prefix + "features.pool0" not in modules:
        return {}
    return {"stem_pool": "blur" if prefix + "features.pool0.1" in modules else "max"}


def settings_of(candidate: Candidate, config: DenseNetConfig) -> dict[str, Any]:
    """Config fields that attributes state.

    Raises:
        NotADenseNet: they contradict a DenseNet.
    """
    _check_classes(candidate)
    said = _eps(candidate, config)
    attributes = candidate.group.attributes
    head = next((values for name, values in attributes.items() if name.rpartition(".")[2] == "global_pool"), {})
    if head.get("pool_type") in CHOICES["global_pool"]:  # timm's SelectAdaptivePool2d
        said["global_pool"] = head["pool_type"]
    for name, cls in _pools(candidate):
        values = attributes.get(name, {})
        window = POOLS.get(cls) if name.startswith(candidate.prefix + "features.") else None
        for field, number in (window or {}).items():
            if values.get(field, number) not in (number, (number,) * config.spatial_dims):
                raise NotADenseNet(f"{name} has {field} {values[field]}; a DenseNet has {number} there")
        ceil = bool(values.get("ceil_mode", False))
        if cls == "MaxPool2d":
            said["stem_ceil"] = ceil
        elif cls == "AvgPool2d" and "transition" in name:
            said["transition_ceil"] = ceil
        elif cls == "BlurPool2d":
            said["transition_pool" if "transition" in name else "stem_pool"] = "blur"
    return said


def _pools(candidate: Candidate) -> Iterator[tuple[str, str]]:
    for name, cls in candidate.group.classes.items():
        if "Pool" in cls:
            yield name, cls.rpartition(".")[2]


def _eps(candidate: Candidate, config: DenseNetConfig) -> dict[str, Any]:
    """The norms' common eps; convolutions are held against the network's on the way."""
    eps = set()
    for module in config.modules():
        stored = candidate.used.get(f"{module.name}.weight")
        key = stored.keys[0].removesuffix(".weight") if stored else ""
        values = candidate.group.attributes.get(key, {})
        if module.kind == "norm" and "eps" in values:
            eps.add(values["eps"])
        elif module.kind == "conv":
            _check_conv(key, values, module)
    if len(eps) > 1:
        raise NotADenseNet(f"the batch norms have different eps: {', '.join(map(str, sorted(eps)))}")
    return {"eps": eps.pop()} if eps else {}


def _check_conv(key: str, values: Any, module: Module) -> None:
    kernel = module.shape[2:]
    if values.get("padding_mode", "zeros") != "zeros":
        raise NotADenseNet(f"{key} pads with {values['padding_mode']}; a DenseNet pads with zeros")
    ones = (1,) * len(kernel)
    want = {"stride": module.stride, "padding": tuple(n // 2 for n in kernel), "dilation": ones, "groups": ones}
    for name, numbers in want.items():
        have = values.get(name, numbers)
        if have not in (numbers, numbers[0]) or (have == numbers[0] and len(set(numbers)) > 1):
            raise NotADenseNet(f"{key} has {name} {have}; a DenseNet has {numbers[0]} there")


def _check_classes(candidate: Candidate) -> None:
    """Refuse a pickled or scripted module that has other layers of torch.nn in it than a DenseNet."""
    prefix, layout = candidate.prefix, candidate.layout
    for path, cls in candidate.group.classes.items():
        if not path.startswith(prefix) or path[len(prefix) :].startswith(layout.modules.get("classifier", " ")):
            continue
        home, _, name = re.sub(r"___torch_mangle_\d+\.", "", cls).rpartition(".")
        if home.removeprefix("__torch__.").startswith("torch.nn.modules."):
            _check_class(path, name, f"{prefix}features.")
    modules = candidate.group.modules
    if f"{prefix}features.relu0" in modules and f"{prefix}features.pool0" not in modules:
        raise NotADenseNet(f"{prefix}features.pool0 is missing: a network without the stem's pooling")


def _check_class(path: str, name: str, features: str) -> None:
    """One module of torch.nn; ``features`` is what torchvision's names begin with."""
    # timm has an Identity for every dropout and drop path it does without
    last = path.rpartition(".")[2]
    idle = name == "Identity" and last not in ("pool", "pool0", "relu", "relu0", "act", "conv", "norm")
    if name not in PLAIN and not idle:
        raise NotADenseNet(f"{path} is a {name}, which a DenseNet does not have")
    wanted = NEEDED.get(last)
    if wanted and path.startswith(features) and name not in wanted:
        raise NotADenseNet(f"{path} is a {name}; a DenseNet has {wanted[0]} there")
    if path.startswith(f"{features}transition") and path.endswith(".pool") and not name.startswith("AvgPool"):
        raise NotADenseNet(f"{path} is a {name}; a DenseNet has AvgPool2d there")
