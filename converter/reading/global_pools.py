"""How a module of a network pickled whole pools globally."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converter.core.errors import NotADenseNet
from converter.reading.module_tree import ModuleTree, Step, what_is
from converter.reading.told import Told
from converter.reading.wrappers import Group
from densenet.fields import CHOICES

GLOBAL: Mapping[str, str] = {
    **{f"AdaptiveAvgPool{n}d": "avg" for n in (1, 2, 3)},
    **{f"AdaptiveMaxPool{n}d": "max" for n in (1, 2, 3)},
    "adaptive_avg_pool2d": "avg",
    "FastAdaptiveAvgPool": "avg",
    "AdaptiveAvgMaxPool2d": "avgmax",
    "FastAdaptiveAvgMaxPool": "avgmax",
    "AdaptiveCatAvgMaxPool2d": "catavgmax",
    "FastAdaptiveCatAvgMaxPool": "catavgmax",
}
"""Classes that pool globally, and how."""


def is_plain_average(values: Mapping[str, Any]) -> bool:
    """Whether average pooling counts its border, divides by its window and rounds down."""
    counts = values.get("count_include_pad", True) and values.get("divisor_override") is None
    return bool(counts) and not values.get("ceil_mode")


def say_global_pool(step: Step, group: Group, tree: ModuleTree, told: Told) -> None:
    """Record how a module pools globally.

    Raises:
    NotADenseNet: as a DenseNet does not.
    """
    values, name = group.attributes.get(step.path, {}), step.cls.rpartition(".")[2]
    children = {path: group.attributes.get(path, {}) for path in tree.children.get(step.path, [])}
    if step.kind == "avg":
        told.notes.append(
            f"{step.path}, a {name} over {values.get('kernel_size', 'a window')}, is taken as global pooling, "
            "which it is for images whose last feature maps are of that size"
        )
        told.say("global_pool", "avg", step.path)
        return
    for path, own in ((step.path, values), *children.items()):
        size = own.get("output_size", 1)
        if set(size if isinstance(size, tuple) else (size,)) != {1}:
            raise NotADenseNet(f"{path} pools to {size}; a DenseNet pools to 1 there")
    if name == "SelectAdaptivePool2d":
        kind = str(values.get("pool_type", "avg")).removeprefix("fast")
    elif name == "AdaptiveConcatPool2d":  # fastai.layers: [self.mp(x), self.ap(x)]
        if not step.cls.startswith("fastai."):
            return  # its order is for the user to say
        kind = "catmaxavg"
    else:
        kind = GLOBAL.get(name, "")
    if kind not in CHOICES["global_pool"]:
        raise NotADenseNet(f"{what_is(step)}, which pools in a way a DenseNet does not")
    told.say("global_pool", kind, step.path)
