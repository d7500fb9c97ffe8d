"""Networks pickled whole whose modules have another activation in ReLU's place: their steps as if it were one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import dropwhile
from typing import Any

from converter.core.errors import NotADenseNet
from converter.reading.module_head import activation_of
from converter.reading.module_tree import Step, what_is
from densenet.head import RELU, HeadLayer

ACTIVATES = ("relu", "function")


class Hidden:
    """What stands in ReLU's place: what the first activation behind the first convolution is.

    Args:
        steps: of the network, in order.
        weighted: places of the modules that have its tensors.
        attributes: of every module.
    """

    def __init__(self, steps: Sequence[Step], weighted: set[str], attributes: Mapping[str, Mapping[str, Any]]) -> None:
        self.attributes = attributes
        behind = dropwhile(lambda step: step.path not in weighted, steps)
        first = next((step for step in behind if step.kind in ACTIVATES), None)
        self.layer = RELU if first is None or first.kind == "relu" else self.of(first)

    def of(self, step: Step) -> HeadLayer:
        """Which activation a step is.

        Raises:
            NotADenseNet: it has a parameter that is not known.
        """
        return activation_of(step, self.attributes.get(step.path, {})) if step.path else RELU

    def as_relu(self, step: Step) -> Step:
        """The activation as a ``relu``, and any other as a ``function``."""
        if self.layer == RELU or step.kind not in ACTIVATES:
            return step
        return step._replace(kind="relu" if self.of(step) == self.layer else "function")

    def one(self, steps: Sequence[Step]) -> HeadLayer | None:
        """The activation among steps; None without one.

        Raises:
            NotADenseNet: there are several, and they are not one ReLU after the other.
        """
        found = [step for step in steps if step.kind in ACTIVATES]
        if len(found) > 1 and {self.of(step) for step in found} != {RELU}:
            raise NotADenseNet(f"{what_is(found[1])}; a DenseNet has one activation there")
        return self.of(found[0]) if found else None

    def before_maximum(self, steps: Sequence[Step]) -> None:
        """Refuse a stem that activates behind its pooling, where that is another thing than before it.

        Raises:
            NotADenseNet: it does.
        """
        kinds = [step.kind for step in steps]
        pools = [kind for kind in kinds if kind in ("max", "avg")]
        late = "relu" in kinds and bool(pools) and kinds.index(pools[0]) < kinds.index("relu")
        if late and ("avg" in pools or not self.layer.is_monotonic):
            raise NotADenseNet(f"{what_is(steps[kinds.index('relu')])} behind the pooling; a DenseNet has it before")
