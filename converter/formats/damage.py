"""What damage makes Python raise, as the one error that says which file is damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from converter.core.errors import NotADenseNet, UnreadableFile

MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError, ArithmeticError, struct.error)
"""Of data that are not of the form, depth or type their reader expects, JSON for example."""


@contextmanager
def damaged(what: str, *kinds: type[Exception], why: Callable[[Exception], str] | None = None) -> Iterator[None]:
    """Turn errors of these kinds (``MALFORMED`` by default) into UnreadableFile.

    Args:
        what: names the file and says what is wrong with it.
        kinds: what damage raises here.
        why: gives what is said in brackets behind that, from the error.
    """
    expected = kinds or MALFORMED
    try:
        yield
    except expected as error:
        raise UnreadableFile(f"{what} ({why(error)})" if why else what) from error


STRANGE = "damaged, or of a form that is not known"
"""What is said of a file that no reader expected."""


def typed(error: Exception) -> str:
    """An error with its type, without which a KeyError is just a word."""
    return f"{type(error).__name__}: {error}"


@contextmanager
def naming(where: object, *kinds: type[Exception]) -> Iterator[None]:
    """Put the name of the file before the errors of readers that do not know it; ``kinds`` become UnreadableFile."""
    expected: tuple[type[Exception], ...] = (UnreadableFile, *kinds)
    try:
        yield
    except NotADenseNet as error:
        raise NotADenseNet(f"{where}: {error}") from error
    except expected as error:
        raise UnreadableFile(f"{where}: {str(error).removeprefix(f'{where}: ')}") from error
