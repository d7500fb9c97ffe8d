"""What a module that was pickled whole says of its network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from converter.core.errors import NotADenseNet


@dataclass
class Told:
    """What a module pickled whole says.

    Attributes:
        settings: config fields.
        notes: what people should know.
        mean, std: of a normalisation in front of the network.
        activation: what comes behind the logits.
        eps: of the norms, by library name.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    activation: str = ""
    eps: dict[str, float] = field(default_factory=dict)

    def say(self, name: str, value: Any, path: str) -> None:
        """A setting; several modules must agree on it.

        Raises:
            NotADenseNet: they do not.
        """
        if self.settings.setdefault(name, value) != value:
            raise NotADenseNet(f"{path}: {name} is {value} here, {self.settings[name]} before")
