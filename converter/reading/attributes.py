"""What a whole module's classes and attributes say, pickled or scripted: settings, or that it is another network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from converter.core.errors import NotADenseNet
from converter.layouts.timm import TIMM
from converter.reading.candidate import Candidate
from converter.reading.thresholds import OP_THRESHS
from converter.reading.told import Told
from densenet.config import SETTINGS, DenseNetConfig
from densenet.module import Module

HOMES = ("torch.", "timm.")
"""Whose classes are known: of others it is taken that they do what their tensors look like."""

FASTAI_BODY = r"(.*\b0\.)0\."
"""Where fastai's learners have torchvision's ``features``: in a Sequential of its own, the first of two."""

SAME = "same"
"""The padding of a convolution with stride 1 that keeps the size."""


def settings_of_names(candidate: Candidate, config: DenseNetConfig) -> dict[str, Any]:
    """What names of modules show: blur pooling (timm's pool0 is then a sequence of two), the order of two poolings."""
    modules, prefix = candidate.group.modules, candidate.prefix
    said: dict[str, Any] = {}
    if prefix + "features.pool0" in modules:
        said["stem_pool"] = "blur" if prefix + "features.pool0.1" in modules else "max"
    if not config.global_pool.startswith("cat"):
        return said
    if any(prefix + name in modules for name in TIMM.signature):
        said["global_pool"] = "catavgmax"
    pooled = {name.rpartition(".")[0] for name in modules if name.rpartition(".")[2] == "mp"}
    if any(f"{name}.ap".lstrip(".") in modules for name in pooled):  # fastai's AdaptiveConcatPool2d
        said["global_pool"] = "catmaxavg"
        if (place := re.fullmatch(FASTAI_BODY, prefix)) and f"{place[1]}1" not in modules:
            said["final_relu"] = False  # its bodies end in torchvision's last norm (vision/learner.py, create_body)
    return said


def settings_of(candidate: Candidate, config: DenseNetConfig) -> Told:
    """Config fields that the modules of a network pickled whole state, and what people should know of them.

    Raises:
        NotADenseNet: they contradict a DenseNet.
    """
    group = candidate.group
    if not group.classes:
        return Told()
    configs = [values.get("config") for values in group.attributes.values()]
    own: dict[str, Any] = next((values for values in configs if isinstance(values, dict)), {})
    if own:
        return Told({name: own[name] for name in SETTINGS if name in own})
    from converter.reading.chain import Chain  # noqa: PLC0415 (for whole modules)

    told = Chain(candidate, config).follow()
    strange = _check_weighted(candidate, config, told)
    told.notes += [
        f"{path} and others are of the class {cls}: taken as a usual {kind}" for (cls, kind), path in strange.items()
    ]
    for path, values in group.attributes.items():
        if values.get("hooks"):
            called = ", ".join(values["hooks"])
            told.notes.append(f"{path or 'the module'} has hooks that are not run: {called}")
        thresholds = values.get(OP_THRESHS, group.tensors.get(f"{path}.{OP_THRESHS}".lstrip(".")))
        if values.get("apply_sigmoid") is True or thresholds is not None:  # torchxrayvision
            told.activation = "sigmoid"
            told.notes.append("the Sigmoid behind the classifier is left out: logits come before it")
    if config.global_pool == "catavgmax" and told.settings.get("global_pool") in ("avg", "max", "avgmax"):
        kind = told.settings["global_pool"]
        raise NotADenseNet(f"the classifier takes twice the features that {kind} pooling gives")
    return told


def _check_weighted(candidate: Candidate, config: DenseNetConfig, told: Told) -> dict[tuple[str, str], str]:
    """The norms' eps, the convolutions' strides; classes whose code is not known, with a place of each."""
    strange: dict[tuple[str, str], str] = {}
    for module, path in _places(candidate, config):
        values, cls = candidate.group.attributes.get(path, {}), candidate.group.classes.get(path)
        if cls is not None and not _is_known(path, cls, module):
            strange.setdefault((cls, module.kind), path)
        if module.kind == "norm" and "eps" in values:
            if not isinstance(values["eps"], int | float):
                raise NotADenseNet(f"{path} has an eps that is no number: {values['eps']!r:.40}")
            told.eps[module.name] = values["eps"]
        elif module.kind == "conv":
            _check_conv(path, values, module, told)
    if told.eps:
        told.settings["eps"] = next(iter(told.eps.values()))
    return strange


def _places(candidate: Candidate, config: DenseNetConfig) -> Iterator[tuple[Module, str]]:
    """Every module of the network and its place in the file."""
    for module in config.modules():
        stored = candidate.used.get(f"{module.name}.weight")
        if stored:
            yield module, stored.keys[0].rpartition(".")[0]


def _is_known(path: str, cls: str, module: Module) -> bool:
    """Whether a class is known to compute what a module of the network does.

    Raises:
        NotADenseNet: it is known to compute something else.
    """
    from converter.reading.module_tree import LEAVES  # noqa: PLC0415 (for whole modules)

    name = cls.rpartition(".")[2]
    kind = LEAVES.get(name)
    if kind == module.kind or (module.kind == "linear" and kind == "conv"):
        return True
    if kind is not None or cls.startswith(HOMES):
        raise NotADenseNet(f"{path} is a {name}, which a DenseNet does not have")
    return False


def _check_conv(path: str, values: Any, module: Module, told: Told) -> None:
    kernel = module.shape[2:]
    axes = len(kernel)
    if values.get("padding_mode", "zeros") != "zeros":
        raise NotADenseNet(f"{path} pads with {values['padding_mode']}; a DenseNet pads with zeros")
    ones = (1,) * axes
    first = module.name in ("stem.conv", "stem.conv0")
    stride = _axes(values.get("stride", module.stride), axes)
    if first and "stride" in values:
        told.settings["stem_stride"] = stride[0] if len(set(stride)) == 1 else stride
    want = {"stride": module.stride, "padding": tuple(n // 2 for n in kernel), "dilation": ones, "groups": ones}
    for name, numbers in want.items():
        have = values.get(name, numbers)
        if (name == "stride" and first) or (name == "padding" and have == SAME and stride == ones):
            continue
        if _axes(have, axes) != numbers:
            raise NotADenseNet(f"{path} has {name} {have}; a DenseNet has {numbers[0]} there")


def _axes(value: Any, axes: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
