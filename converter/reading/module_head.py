"""The layers of a head in a network pickled whole: what its modules between the linear layers compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from converter.core.errors import NotADenseNet
from converter.reading.module_tree import Step
from densenet.config import DenseNetConfig
from densenet.head import HeadLayer

FUNCTIONS: Mapping[str, str] = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "GELU": "gelu",
    "SiLU": "silu",
    "Swish": "silu",
    "Mish": "mish",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Hardswish": "hardswish",
    "Hardsigmoid": "hardsigmoid",
    "SELU": "selu",
    "Softsign": "softsign",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "CELU": "celu",
}
"""Classes of torch.nn, and what they are called in a config."""
VALUE = {"leaky_relu": "negative_slope", "elu": "alpha", "celu": "alpha"}
USUAL = {"beta": 1, "threshold": 20}
"""Softplus' parameters, as the config's has them."""


def activation_of(step: Step, attributes: Mapping[str, Any]) -> HeadLayer:
    """A module without tensors as a layer of a head.

    Raises:
        NotADenseNet: it is none, or has a parameter that such a layer has not.
    """
    kind = FUNCTIONS.get(step.cls.rpartition(".")[2])
    if kind is None:
        raise NotADenseNet(f"{step.path} is a {step.cls}, which a head does not have between its linear layers")
    if kind == "softplus" and any(attributes.get(name, usual) != usual for name, usual in USUAL.items()):
        raise NotADenseNet(f"{step.path} is a Softplus with another beta or threshold than usual")
    approximate = attributes.get("approximate", "none")
    if kind == "gelu" and approximate != "none":
        kind = f"gelu_{approximate}"
    value = attributes.get(VALUE.get(kind, ""), HeadLayer.parse(kind).value)
    if value is not None and not isinstance(value, int | float):
        raise NotADenseNet(f"{step.path} is a {step.cls} with {value!r:.40}")
    return HeadLayer(kind, value=value)


class HeadOrder:
    """Collects what stands before each module of a head."""

    def __init__(self, config: DenseNetConfig, attributes: Mapping[str, Mapping[str, Any]]) -> None:
        self.config = config
        self.attributes = attributes
        self.before: dict[str, list[HeadLayer]] = {}
        self.assumed: list[str] = []

    def add(self, module: str, steps: Iterable[Step]) -> None:
        """What is known to stand before a module; a ReLU behind a ReLU is nothing."""
        self.before[module] = [activation_of(step, self.attributes.get(step.path, {})) for step in steps]

    def words(self, loose: Sequence[Step]) -> tuple[str, ...] | None:
        """The head as a config has it; None where nothing says more of it than its tensors.

        ``assumed`` then lists the modules before which a ReLU is merely taken to be.

        Args:
            loose: activations of a class whose code is not known, which may stand wherever one is taken to be.
        """
        layers = self.config.head_layers
        kinds = {str(activation_of(step, self.attributes.get(step.path, {}))) for step in loose}
        assumed = kinds.pop() if len(kinds) == 1 else None
        result: list[str] = []
        names = iter([m.name for m in self.config.modules() if m.place.template.startswith("head.")] + ["classifier"])
        taken: list[str] = []
        for layer in (*layers, None):
            if layer is not None and layer.is_activation:
                taken.append(assumed or str(layer))
                continue
            name = next(names)
            known = self.before.get(name)
            result += taken if known is None else map(str, known)
            self.assumed += [name] if taken and known is None and assumed is None else []
            taken = []
            result += [str(layer)] if layer is not None else []
        return tuple(result) if self.before or assumed else None
