"""What PyTorch computes on its way to the logits, kept while it runs: pooled features, and the maps that files give."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.model import Model
from converter.exporters.outputs import CAM, MAPS, STEM, has_cam, stages
from densenet.topology import FEATURES

if TYPE_CHECKING:
    from densenet.model import DenseNet


class Watched:
    """Keeps values of a module by the names they have in our graphs, in float32 and in float64.

    Attributes:
        maps: the modules that make the maps that are kept.
        found: by name the values on every batch, in float32 and then in float64; maps are kept in float32 in both.
    """

    def __init__(self, model: Model, module: DenseNet, wanted: Collection[str]) -> None:
        self.shown: dict[str, list[Array]] = {}
        self.found: dict[str, tuple[list[Array], list[Array]]] = {}
        self.model = model
        module.head.register_forward_pre_hook(lambda _, inputs: self.show(FEATURES, inputs[0].numpy()))
        places: dict[str, Any] = {STEM: module.stem, MAPS: module.act}
        places |= {f"blocks.{i}": block for i, block in enumerate(module.blocks)}
        places |= {f"transitions.{i}": each for i, each in enumerate(module.transitions)}
        self.maps = {value: places[name] for name, value in stages(model.config).items() if value in wanted}
        self.maps |= {CAM: module.act} if CAM in wanted and has_cam(model.config) else {}
        for value, place in self.maps.items():
            place.register_forward_hook(self.after(value))

    def after(self, value: str) -> Callable[..., None]:
        """A hook that keeps what a module makes, or the class activation maps of that."""

        def hook(_: Any, inputs: Any, made: Any) -> None:
            maps = made.numpy()
            if value == CAM:
                weight = self.model.tensors["classifier.weight"].read().astype(maps.dtype)
                maps = np.moveaxis(np.tensordot(maps, weight, (1, 1)), -1, 1)
            self.show(value, maps.astype(np.float32))

        return hook

    def show(self, name: str, value: Array) -> None:
        """Keep what is computed of one batch, or of a part of it."""
        self.shown.setdefault(name, []).append(np.array(value))

    def keep(self, *, double: bool) -> None:
        """A batch is done."""
        for name, parts in self.shown.items():
            self.found.setdefault(name, ([], []))[double].append(np.concatenate(parts))
        self.shown.clear()
