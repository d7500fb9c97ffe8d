"""Layouts as files: the tables of this folder in TOML, to be saved, edited and passed back.

name = "mine"

[modules]
"stem.conv" = "entry.conv"
"blocks.{b}.layers.{l}.norm1" = "stage{b+1}.unit{l}.bn_a"

[leaves]                              # only what differs from PyTorch's names
"norm.weight" = ".gamma"
"conv.weight" = { name = ".kernel", stored = "channels_last" }

[network]                             # what no tensor shows
eps = 1e-3
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from converter.core.errors import ConverterError, UnreadableFile
from converter.core.files import check_replaceable, write_bytes
from converter.layouts.keras import KERNEL
from converter.layouts.layout import (
    LIBRARY_MODULES,
    TORCH_LEAVES,
    VARIABLE,
    Layout,
    Leaf,
)
from converter.layouts.library import EXPRESSES, IN_METADATA
from densenet.bounds import read_small
from densenet.config import DenseNetConfig

STORED: Mapping[str, Leaf] = {"as_is": Leaf(("",)), "channels_last": KERNEL}
"""How a tensor can be stored: as PyTorch does, or as TensorFlow does, (height, width, in, out) and (in, out)."""

NUMBER = re.compile(r"\d{1,9}")
ENDING = re.compile(r"[^A-Za-z0-9]?[A-Za-z]+(_[A-Za-z]+)*$")
"""A tensor's own part of a key, with the separator before it."""


def read_layout(path: Path) -> Layout:
    """The layout in a TOML file.

    Raises:
        UnreadableFile: the file cannot be read or is not TOML.
        ConverterError: it has an entry that no layout has.
    """
    try:
        table = tomllib.loads(read_small(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise UnreadableFile(f"{path}: cannot be read as a layout ({why})") from error
    modules, leaves, network = (table.get(name, {}) for name in ("modules", "leaves", "network"))
    if not all(isinstance(section, dict) for section in (modules, leaves, network)):
        raise ConverterError(f"{path}: modules, leaves and network are tables: [modules] and lines of name = value")
    known = {**LIBRARY_MODULES, **{name.replace("{b}", "{n-1}"): name for name in LIBRARY_MODULES if "{b}" in name}}
    settings = {field.name for field in fields(DenseNetConfig)}
    for section, entries, allowed in (
        ("modules", modules, known),
        ("leaves", leaves, TORCH_LEAVES),
        ("network", network, settings),
    ):
        strange = [name for name in entries if name not in allowed]
        if strange:
            raise ConverterError(f"{path}: [{section}] has {strange[0]!r}; it can have {', '.join(allowed)}")
    try:
        DenseNetConfig.from_dict(network)
    except ValueError as error:
        raise ConverterError(f"{path}: [network] {error}") from error
    if not modules or not all(isinstance(name, str) for name in modules.values()):
        raise ConverterError(f"{path}: [modules] must give every module of the network a name")
    for template, name in modules.items():
        counted, said = ({m[1] for m in VARIABLE.finditer(text)} for text in (template, name))
        if lost := counted - said - {"n"}:
            raise ConverterError(f"{path}: {name!r} must say {{{min(lost)}}}, as {template!r} does")
        of_block = {"b"} if template.startswith(("blocks", "transitions")) else set()
        if unknown := said - counted - {"n", "L"} - of_block:
            raise ConverterError(f"{path}: {name!r} says {{{min(unknown)}}}, which {template!r} does not count")
    try:
        return Layout(
            name=str(table.get("name", path.stem)),
            about=str(table.get("about", path.name)),
            modules=modules,
            leaves={**TORCH_LEAVES, **{name: _leaf(TORCH_LEAVES[name], value) for name, value in leaves.items()}},
            network=network,
            expresses=EXPRESSES,
            in_metadata=IN_METADATA,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConverterError(f"{path}: [leaves] entries are a name, or {{ name, stored }} ({error})") from error


def _leaf(usual: Leaf, value: Any) -> Leaf:
    name, stored = (value, "as_is") if isinstance(value, str) else (value["name"], value.get("stored", "as_is"))
    how = STORED[stored]
    return Leaf((str(name),), how.read, how.write, how.shape, usual.optional)


def save_layout(path: Path, layout: Layout, *, force: bool = False) -> None:
    """Write a layout as text; over one that somebody has edited only by ``force``.

    Raises:
        CannotWrite: there is another, or the file cannot be written.
        ConverterError: it uses operations that a file cannot say.
    """
    content = layout_toml(layout).encode()
    check_replaceable(path, lambda path: path.read_bytes() == content, force=force)
    write_bytes(path, content, force=force)


def layout_toml(layout: Layout) -> str:
    """A layout as text that :func:`read_layout` reads.

    Raises:
        ConverterError: it uses operations that a file cannot say.
    """
    lines = [f"name = {json.dumps(layout.name)}", f"about = {json.dumps(layout.about)}", "", "[modules]"]
    lines += [f"{json.dumps(ours)} = {json.dumps(theirs)}" for ours, theirs in layout.modules.items()]
    leaves = []
    for name, leaf in layout.leaves.items():
        stored = next((key for key, how in STORED.items() if (how.read, how.write) == (leaf.read, leaf.write)), None)
        if stored is None or len(leaf.names) > 1 or layout.new_first:
            raise ConverterError(f"the {layout.name} layout does more than rename: a file cannot say it")
        if stored != "as_is":
            leaves.append(
                f"{json.dumps(name)} = {{ name = {json.dumps(leaf.names[0])}, stored = {json.dumps(stored)} }}"
            )
        elif leaf.names != TORCH_LEAVES[name].names:
            leaves.append(f"{json.dumps(name)} = {json.dumps(leaf.names[0])}")
    if leaves:
        lines += ["", "[leaves]", *leaves]
    if layout.network:
        lines += ["", "[network]", *(f"{name} = {json.dumps(value)}" for name, value in layout.network.items())]
    return "\n".join(lines) + "\n"
