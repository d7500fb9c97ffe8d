"""What a shell completes: names of layouts, of published models, of settings and their values, and files.

Each is asked by the shell alone, so what it needs is imported then.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

ENGINES = ("onnxruntime", "torch")
DEVICES = ("cpu", "cuda", "tensorrt", "directml")


def words(*known: str) -> Callable[[str], list[str]]:
    """What completes to one of a few words, of which ``head=WORD`` may be asked, too."""

    def complete(incomplete: str) -> list[str]:
        before, equals, last = incomplete.rpartition("=")
        return [f"{before}{equals}{word}" for word in known if word.startswith(last)]

    return complete


def layouts(incomplete: str) -> list[str]:
    """Layouts to read, and files that describe one."""
    from converter.layouts import LAYOUTS

    return [*_beginning(incomplete, (layout.name for layout in LAYOUTS)), *_files(incomplete, ".toml")]


def written_layouts(incomplete: str) -> list[str]:
    """Layouts to write."""
    from converter.layouts import LAYOUTS

    return _beginning(incomplete, (layout.name for layout in LAYOUTS if layout.to_dict()["writable"]))


def sources(incomplete: str) -> list[str]:
    """Published models beside the files that a shell would offer by itself; nothing typed is files alone."""
    from densenet.zoo import names

    return [*_beginning(incomplete, names()), *_files(incomplete)] if incomplete else []


def settings(incomplete: str) -> list[str]:
    """Settings, and after the equals sign their values."""
    from typing import get_args, get_type_hints

    from densenet.config import SETTINGS, DenseNetConfig
    from densenet.fields import CHOICES

    name, equals, _ = incomplete.partition("=")
    if not equals:
        return _beginning(incomplete, (f"{setting}=" for setting in SETTINGS))
    hint = get_type_hints(DenseNetConfig).get(name)
    values = CHOICES.get(name) or (("true", "false") if hint is bool else get_args(hint))
    return _beginning(incomplete, (f"{name}={value}" for value in values if isinstance(value, str)))


def preprocessings(incomplete: str) -> list[str]:
    """Known preprocessings, and files of others."""
    from densenet.preprocess import FAMILIES

    return [*_beginning(incomplete, FAMILIES), *_files(incomplete, ".json")]


def engines(incomplete: str) -> list[str]:
    """Engines of verify."""
    from converter.engines.specs import OPTIONS

    return _beginning(incomplete, (*OPTIONS, *(f"{name}-{option}" for name, of in OPTIONS.items() for option in of)))


def _beginning(incomplete: str, known: Iterable[str]) -> list[str]:
    return [name for name in known if name.startswith(incomplete)]


def _files(incomplete: str, ending: str = "") -> list[str]:
    """Files and folders of that beginning, folders with a slash."""
    folder, slash, name = incomplete.rpartition("/")
    try:
        found = sorted(Path(f"{folder}{slash}" or ".").iterdir())
    except OSError:
        return []
    fitting = [path for path in found if path.name.startswith(name) and (path.is_dir() or path.name.endswith(ending))]
    return [f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}" for path in fitting]
