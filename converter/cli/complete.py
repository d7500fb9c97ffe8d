"""What a shell completes: names of layouts, of published models, of settings and their values, and files.

Each is asked by the shell alone, so what it needs is imported then.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

ENGINES = ("onnxruntime", "torch")
DEVICES = ("cpu", "cuda", "tensorrt", "directml")


@contextmanager
def as_bash_splits() -> Iterator[None]:
    """Put together what bash takes apart, where it asks: ``NAME=VALUE`` is three words to it, and it wants the last.

    Unless its user has taken the equals sign out of COMP_WORDBREAKS.
    """
    if os.environ.get("_DENSENET_COMPLETE") != "complete_bash":
        yield
        return
    asked, at = os.environ["COMP_WORDS"], int(os.environ["COMP_CWORD"])
    line, given = [""], ""
    for i, word in enumerate(asked.split("\n" if "\n" in asked else " ")):
        together = word == "=" or line[-1].endswith("=")
        given = line[-1] + "=" * (word == "=") if together else ""
        line = [*line[:-1], line[-1] + word] if together or not i else [*line, word]
        if i == at:
            os.environ |= {"COMP_WORDS": "\n".join(line), "COMP_CWORD": str(len(line) - 1)}
            break
    given = given.partition("=")[2] if given.startswith("-") else given
    with io.StringIO() as offered:
        try:
            with redirect_stdout(offered):
                yield
        finally:
            print(*(one.removeprefix(given) for one in offered.getvalue().splitlines()), sep="\n")


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

    def values(name: str) -> list[str]:
        hint = get_type_hints(DenseNetConfig).get(name)
        known = CHOICES.get(name) or (("true", "false") if hint is bool else get_args(hint))
        return [f"{name}={value}" for value in known if isinstance(value, str)]

    name, equals, _ = incomplete.partition("=")
    if equals:
        return _beginning(incomplete, values(name))
    names = _beginning(incomplete, (f"{setting}=" for setting in SETTINGS))
    # Of one alone its values, too: a shell then puts no space behind the equals sign.
    return names if len(names) != 1 else values(names[0][:-1]) or names


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
