"""What goes wrong while the graph of a file is followed, as one error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from converter.core.errors import NotADenseNet, UnreadableFile


@contextmanager
def following(path: Path, what: str) -> Iterator[None]:
    """Put the file's name before errors; what nobody expected of its graph is one: ``what`` cannot be.

    Raises:
        NotADenseNet: it computes something else, or has attributes or constants that cannot be.
        UnreadableFile: as whoever reads its weights says.
    """
    try:
        with np.errstate(all="ignore"):  # a damaged constant may hold anything
            yield
    except (NotADenseNet, UnreadableFile) as error:
        raise type(error)(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError) as error:
        raise NotADenseNet(f"{path}: {what} that cannot be ({error})") from error
