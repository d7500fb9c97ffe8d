"""What a layout is: a table of templates, read in both directions.

A layout says how an ecosystem names and orients the tensors of a DenseNet.  Its
module templates are finite: given a config they expand to exact pairs of names, so
the way back is a dictionary flip.  Read as patterns, the same templates recognise
the keys of a file whose config is not known yet.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from converter.core.checkpoint import Array
from densenet.config import DenseNetConfig
from densenet.module import COUNTER, NORM_TENSORS
from densenet.names import Name, parse

Shape = tuple[int, ...]

LIBRARY_MODULES: Mapping[str, str] = {
    name: name
    for name in (
        "stem.conv",
        "stem.norm",
        "stem.conv{s}",
        "stem.norm{s}",
        "blocks.{b}.layers.{l}.norm1",
        "blocks.{b}.layers.{l}.conv1",
        "blocks.{b}.layers.{l}.norm2",
        "blocks.{b}.layers.{l}.conv2",
        "transitions.{t}.norm",
        "transitions.{t}.conv",
        "norm",
        "head.{h}.norm",
        "head.{h}.linear",
        "classifier",
    )
}
"""Every module a DenseNet can have, as templates: block b, layer l, transition t, stem convolution s, head layer h."""


@dataclass(frozen=True)
class Leaf:
    """How one tensor of a module is stored: under which names, and turned how.

    Attributes:
        names: what follows the module's name, separator included; several when the
            source spreads one tensor over several arrays.
        read: those arrays to the library's one.
        write: the inverse, or None where there is none.
        shape: the library's shape from the source's (of the first array).
        optional: the tensor may be absent.
    """

    names: tuple[str, ...]
    read: Callable[..., Array] = lambda array: array
    write: Callable[[Array], tuple[Array, ...]] | None = lambda array: (array,)
    shape: Callable[[Shape], Shape] = lambda shape: shape
    optional: bool = False


class Stored(NamedTuple):
    """How one of the library's tensors is stored in a file, and under which names there."""

    leaf: Leaf
    keys: tuple[str, ...]


TORCH_LEAVES: Mapping[str, Leaf] = {
    "conv.weight": Leaf((".weight",)),
    "conv.bias": Leaf((".bias",), optional=True),
    **{f"norm.{leaf}": Leaf((f".{leaf}",)) for leaf in NORM_TENSORS},
    f"norm.{COUNTER}": Leaf((f".{COUNTER}",), optional=True),
    "linear.weight": Leaf((".weight",)),
    "linear.bias": Leaf((".bias",)),
}
"""PyTorch's own tensor names; convolutions (out, in, height, width), linear layers (out, in)."""

VARIABLE = re.compile(r"\{([a-zA-Z])([+-]\d{1,6})?\}")
NUMBER_OF_BLOCKS = re.compile(r"\{n([+-]\d{1,6})?\}")
NUMBER = re.compile(r"\d+")
RUN = re.compile(r"(?:\d|\{[a-zA-Z](?:[+-]\d{1,6})?\})+")
"""Where a key has a number: what a template has there."""
GAP = "\0"
"""What is put in the place of numbers."""
DIGITS = 6
USUAL_KEY = 200
"""Letters of a key whose meaning is remembered: files of one ecosystem have the same keys, and many are read."""
LAYERS_BEFORE = "L"
"""The variable that may be any number: which one it must be is known with the config."""


@dataclass(frozen=True, eq=False)
class Layout:
    """One ecosystem's names.

    Attributes:
        name: what ``--to`` and ``inspect`` call it.
        about: whose names these are, in a few words.
        modules: library module template to the ecosystem's.  Variables: ``{b}``, ``{l}``,
            ``{t}``, ``{s}`` as in the library's names, ``{n}`` the number of blocks, ``{L}``
            the layers of the block before; ``{b+1}`` and the like shift them.  An entry for
            ``blocks.{n-1}...`` is for the last block alone.
        leaves: per kind and tensor (``norm.weight``) how it is stored.
        network: config fields this ecosystem's code fixes, where no tensor shows them.
        expresses: config fields beyond the plain ImageNet network it can express, with
            the values it can; anything else at a non-default value is refused on writing.
        ignore: keys that are no weights (glob pattern) and the reason they are left out.
        assumes: config fields the ecosystem's files leave open, with what is taken and why.
        signature: modules without tensors that only this ecosystem's networks have.
        new_first: layers put their new feature maps before the old ones, not behind.
        wrapper: what belongs around the tensors in a ``.pth`` of this ecosystem.
        in_metadata: fields it expresses only where the file's metadata can hold them.
        implies: config fields (and a note each) that follow from the shapes or from the file's metadata, an old
            version's say.
        sequential: a head of several layers is a Sequential in the classifier's place (``classifier.0`` ...).
        shared: its names are those of many people's code, which may compute something else than the ecosystem's.
    """

    name: str
    about: str
    modules: Mapping[str, str]
    leaves: Mapping[str, Leaf] = field(default_factory=lambda: TORCH_LEAVES)
    network: Mapping[str, Any] = field(default_factory=dict)
    expresses: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    ignore: Mapping[str, str] = field(default_factory=dict)
    assumes: Mapping[str, str] = field(default_factory=dict)
    signature: tuple[str, ...] = ()
    new_first: bool = False
    wrapper: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    in_metadata: frozenset[str] = frozenset()
    implies: Callable[[DenseNetConfig, Mapping[str, str]], Mapping[str, tuple[Any, str]]] = lambda *_: {}
    sequential: bool = False
    shared: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What people want to know of it, as plain JSON values."""
        return {"name": self.name, "about": self.about, "writable": self.writable}

    @property
    def eps(self) -> float:
        """The eps of this ecosystem's norms, where its code fixes one."""
        value: float = self.network.get("eps", DenseNetConfig.eps)
        return value

    @property
    def writable(self) -> bool:
        """Whether every tensor has a way back."""
        return all(leaf.write is not None for leaf in self.leaves.values())

    def expand(self, config: DenseNetConfig) -> Mapping[str, Stored]:
        """For every tensor of a network (optional ones too) how and under which names it is stored."""
        return _expanded(self, config)

    def lacks(self, config: DenseNetConfig) -> Sequence[str]:
        """Modules of a network for which this layout has no name."""
        return _lacked(self, config)

    def named(self, module: Name, config: DenseNetConfig) -> str | None:
        """What a module of a network is called here; None if there is no name for it."""
        if module.of:
            return module.module if "heads" in self.expresses else None
        if self.sequential and config.head and (module.role == "classifier" or module.template.startswith("head.")):
            number = len(config.head) if module.number is None else module.number
            return f"{self.modules['classifier']}.{number}"
        template = self._template(module, len(config.block_config))
        return None if template is None else fill(self.modules[template], variables(module, config))

    def _template(self, module: Name, blocks: int) -> str | None:
        """The library template a module goes by here: its own, or that of the last block, or none."""
        template = module.template
        last = template.replace("{b}", "{n-1}")
        if last in self.modules and module.part == "layer" and module.block == blocks - 1:
            return last
        return template if template in self.modules else None

    def ignored(self, key: str) -> str | None:
        """Why a key is left out, if this layout says so."""
        return next((reason for pattern, reason in self.ignore.items() if fnmatchcase(key, pattern)), None)

    def match(self, key: str, blocks: int, deep: bool) -> tuple[str, int] | None:
        """The library tensor a key holds (and which of its arrays).

        Names can mean different things in a network of so many ``blocks``, or with a ``deep`` stem.
        """
        known = _matched if len(key) <= USUAL_KEY else _matched.__wrapped__
        return known(self, key, blocks, deep)

    @property
    def depends_on_blocks(self) -> bool:
        """Whether some names depend on the number of blocks."""
        return any("{n" in template for template in self.modules.values())

    @property
    def has_deep_stem(self) -> bool:
        """Whether there are names for the three convolutions of a deep stem."""
        return "stem.conv{s}" in self.modules


@cache
def anchors(layout: Layout) -> tuple[str, ...]:
    """Names of the first layers' required tensors: what a key must end in for this layout to be tried."""
    result = []
    for b, i in ((0, 0), (0, 1), (1, 0)):
        for module, kind in (("norm1", "norm"), ("conv1", "conv")):
            template = layout.modules.get(f"blocks.{{b}}.layers.{{l}}.{module}", "")
            for n in (b + 1, b + 2) if "{n" in template else (2,):  # block b is the last one or not
                name = fill(template, {"b": b, "l": i, "n": n, "t": 0, "L": 1})
                leaves = (f for k, f in layout.leaves.items() if k.startswith(kind) and not f.optional)
                result += [name + ending for leaf in leaves for ending in leaf.names]
    return tuple(dict.fromkeys(result))


def fill(template: str, values: Mapping[str, int]) -> str:
    """A template with numbers in place of its variables."""
    return VARIABLE.sub(lambda m: str(values[m[1]] + int(m[2] or 0)), template)


def variables(module: Name, config: DenseNetConfig) -> dict[str, int]:
    """The numbers a module's name stands for, as templates use them."""
    values = {"n": len(config.block_config), "L": config.block_config[-1]}
    if module.block is not None:
        values |= {"b": module.block, "L": config.block_config[module.block]}
        values |= {"t": module.block} if module.layer is None else {"l": module.layer}
    elif module.number is not None:
        values["s" if module.part == "stem" else "h"] = module.number
    return values


class Form(NamedTuple):
    """How the keys of one tensor look but for their numbers.

    Attributes:
        template: the library's, of the module.
        tensor, part: what of the module, and which of its arrays.
        runs: for every number of a key, what the ecosystem's template has there: digits, a variable, or some of both.
    """

    template: str
    tensor: str
    part: int
    runs: tuple[str, ...]

    def numbers(self, found: Sequence[str]) -> dict[str, int] | None:
        """The library's indices, from the numbers of a key of this form; None if it is no key of this tensor."""
        if len(found) != len(self.runs):
            return None
        texts: dict[str, str] = {}
        result: dict[str, int] = {}
        for run, digits in zip(self.runs, found):
            if run == digits:
                continue
            values = _values(run, digits)
            if values is None:
                return None
            for (name, shift), text in zip(_variables(run), values):
                if name == LAYERS_BEFORE:
                    continue
                if texts.setdefault(name, text) != text:
                    return None
                result[name] = int(text) - shift
        return result if min(result.values(), default=0) >= 0 else None


@cache
def _variables(run: str) -> tuple[tuple[str, int], ...]:
    """Names of the variables of a run, and what is added to each."""
    return tuple((name, int(shift or 0)) for name, shift in VARIABLE.findall(run))


@cache
def _alone(run: str) -> str:
    """The variable that a run is; empty if it is more, or none."""
    variable = VARIABLE.fullmatch(run)
    return variable[1] if variable else ""


def _values(run: str, digits: str) -> Sequence[str] | None:
    """What digits say of the variables of a run; None if they do not fit."""
    if run.isdigit():
        return None
    if variable := _alone(run):
        return (digits,) if len(digits) <= DIGITS or variable == LAYERS_BEFORE else None
    found = re.fullmatch(VARIABLE.sub(rf"(\\d{{1,{DIGITS}}})", run), digits)  # beside others: in people's own layouts
    return found.groups() if found else None


@lru_cache(maxsize=256)
def _expanded(layout: Layout, config: DenseNetConfig) -> Mapping[str, Stored]:
    result: dict[str, Stored] = {}
    for module in config.modules():
        place = module.place
        name = layout.named(place, config)
        if name is None:
            continue
        for kind_leaf, leaf in layout.leaves.items():
            kind, _, tensor = kind_leaf.partition(".")
            if kind == place.kind and not (kind == "linear" and tensor == "bias" and not module.bias):
                result[f"{module.name}.{tensor}"] = Stored(leaf, tuple(name + n for n in leaf.names))
    return MappingProxyType(result)


@lru_cache(maxsize=256)
def _lacked(layout: Layout, config: DenseNetConfig) -> tuple[str, ...]:
    return tuple(m.name for m in config.modules() if layout.named(m.place, config) is None)


@lru_cache(maxsize=1 << 16)
def _matched(layout: Layout, key: str, blocks: int, deep: bool) -> tuple[str, int] | None:
    for form in _forms(layout, blocks, deep).get(NUMBER.sub(GAP, key), ()):
        numbers = form.numbers(NUMBER.findall(key))
        if numbers is not None:
            return f"{fill(form.template, numbers | {'n': blocks})}.{form.tensor}", form.part
    return None


@cache
def _forms(layout: Layout, blocks: int, deep: bool) -> Mapping[str, Sequence[Form]]:
    """What keys can be, by what they are but for their numbers."""
    other_stem = ("stem.conv", "stem.norm") if deep else ("stem.conv{s}", "stem.norm{s}")
    result: dict[str, list[Form]] = {}
    for template, theirs in layout.modules.items():
        if template in other_stem:
            continue
        kind = parse(VARIABLE.sub("0", template)).kind
        source = NUMBER_OF_BLOCKS.sub(lambda m: str(blocks + int(m[1] or 0)), theirs)
        names = {
            name: (kind_leaf.partition(".")[2], part)
            for kind_leaf, leaf in layout.leaves.items()
            if kind_leaf.startswith(f"{kind}.")
            for part, name in enumerate(leaf.names)
        }
        for ending, (tensor, part) in names.items():
            runs = tuple(RUN.findall(source + ending))
            result.setdefault(RUN.sub(GAP, source + ending), []).append(Form(template, tensor, part, runs))
    return result
