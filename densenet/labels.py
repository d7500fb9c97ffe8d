"""The names of classes: ImageNet's, and how people write theirs down."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from densenet.bounds import read_small

MEMBERS = ("id2label", "idx_to_class", "label2id", "class_to_idx", "label_names", "class_names", "classes", "labels")
"""What holds the names in a larger JSON file: transformers' and timm's config.json, torchvision's and others'."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1000 class names in index order, as torchvision ships them (torchvision/models/_meta.py)."""
    return tuple(files("densenet").joinpath("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """WordNet's numbers of the same classes (ILSVRC 2012), ``n01440764`` the first: their order is the classes'."""
    return tuple(files("densenet").joinpath("imagenet_synsets.txt").read_text(encoding="utf-8").splitlines())


def read_labels(path: Path) -> list[str]:
    """Class names by index from a file: a text of one name a line, or JSON.

    JSON is a list of names, a mapping from numbers to names (``id2label``; also Keras'
    ``imagenet_class_index.json``, whose values are a synset and a name) or from names to
    numbers (``class_to_idx``), or an object with such a member.  A byte order mark is no
    part of the first name.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text, or JSON that does not name classes.
    """
    data = read_small(path)
    text = data.decode("utf-16" if data.startswith(UTF_16) else "utf-8-sig")
    as_json = path.suffix.lower() == ".json"
    if as_json or text.lstrip().startswith(("[", "{")):
        try:
            return _names(json.loads(text))
        except (ValueError, RecursionError) as error:
            if as_json or not isinstance(error, json.JSONDecodeError):
                raise ValueError(f"JSON that does not name classes ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _names(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        member = next((name for name in MEMBERS if isinstance(value.get(name), Mapping | list)), None)
        return _names(value[member]) if member is not None else _turned(value)
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError("a list of names or a mapping between names and numbers is expected")
    return list(value)


def _turned(value: Mapping[str, Any]) -> list[str]:
    """A mapping from numbers to names, or back, as a list."""
    by_number: dict[int, Any] = {}
    for key, each in value.items():
        number, name = (each, key) if isinstance(each, int) and not isinstance(each, bool) else (key, each)
        if isinstance(name, list) and len(name) == 2:
            name = name[1]
        if not isinstance(name, str) or not _is_index(number) or int(number) in by_number:
            raise ValueError(f"{key!r}: {str(each)[:40]!r} is no name and its number, or a number that is taken")
        by_number[int(number)] = name
    missing = next((i for i in range(len(by_number)) if i not in by_number), None)
    if missing is not None or not by_number:
        raise ValueError(f"number {missing or 0} has no name")
    return [by_number[i] for i in range(len(by_number))]


def _is_index(number: Any) -> bool:
    return str(number).isdecimal() and len(str(number)) < 10
