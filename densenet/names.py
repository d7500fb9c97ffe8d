"""The library's names of modules and tensors, taken apart: the one place that knows how they are made."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

Kind = Literal["conv", "norm", "linear"]

NAME = re.compile(
    r"(?:heads\.(?P<of>[\w-]+)\.(?=head\.|classifier))?"
    r"(?:blocks\.(?P<block>\d+)\.layers\.(?P<layer>\d+)\.|transitions\.(?P<transition>\d+)\.|(?P<stem>stem)\.|"
    r"head\.(?P<head>\d+)\.)?(?P<role>conv|norm|classifier|(?<=\.)linear)(?P<number>\d*)(?:\.(?P<leaf>\w+))?"
)


KINDS: Mapping[str, Kind] = {"conv": "conv", "norm": "norm", "linear": "linear", "classifier": "linear"}


@dataclass(frozen=True)
class Name:
    """A module, or one of its tensors.

    Attributes:
        module: the module's own name, ``blocks.0.layers.1.norm1``.
        leaf: the tensor's name in it, ``running_mean``; empty for the module itself.
        kind: what the module is.
        part: where it is: ``stem``, ``layer``, ``transition``, or ``head`` from the last norm on.
        block, layer: of a layer its indices; of a transition ``block`` is the block before it.  Else None.
        number: which of several of its kind in its part (``norm1`` has 1, ``stem.conv0`` 0, ``head.2.norm`` 2);
            None if it is alone.
        of: of which of several heads it is; empty where there are not several.
    """

    module: str
    leaf: str
    kind: Kind
    part: Literal["stem", "layer", "transition", "head"]
    block: int | None
    layer: int | None
    number: int | None
    of: str = ""

    @property
    def role(self) -> str:
        """The last part of the module's name: ``norm1``."""
        return self.module.rpartition(".")[2]

    @property
    def template(self) -> str:
        """The module's name with variables for its numbers: ``blocks.{b}.layers.{l}.norm1``, ``stem.conv{s}``."""
        if self.part == "layer":
            return f"blocks.{{b}}.layers.{{l}}.{self.role}"
        if self.part == "transition":
            return f"transitions.{{t}}.{self.role}"
        if self.part == "head" and self.number is not None:
            return ("heads.{name}." if self.of else "") + f"head.{{h}}.{self.role}"
        if self.of:
            return f"heads.{{name}}.{self.role}"
        return f"stem.{self.kind}{{s}}" if self.part == "stem" and self.number is not None else self.module

    @property
    def ends_layer(self) -> bool:
        """Whether it is numbered as the inner one of a bottleneck (``norm2``, ``conv2``)."""
        return self.part == "layer" and self.number == 2


@cache
def parse(name: str) -> Name:
    """A library name, of a module or of a tensor.

    Raises:
        ValueError: it is none.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is no name of the library's")
    leaf = found["leaf"] or ""
    kind = KINDS[found["role"]]
    number = int(found["number"]) if found["number"] else None
    module = name.removesuffix(f".{leaf}") if leaf else name
    if found["block"] is not None:
        return Name(module, leaf, kind, "layer", int(found["block"]), int(found["layer"]), number)
    if found["transition"] is not None:
        return Name(module, leaf, kind, "transition", int(found["transition"]), None, number)
    if found["head"] is not None:
        return Name(module, leaf, kind, "head", None, None, int(found["head"]), found["of"] or "")
    return Name(module, leaf, kind, "stem" if found["stem"] else "head", None, None, number, found["of"] or "")
