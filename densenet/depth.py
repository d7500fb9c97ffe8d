"""Values of any range as 8 bits: which value is black and which is white, by what is said or by a stated rule.

Nothing is cut off unless a window says so.  What a file does not say of itself is said by whoever reads it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densenet.bounds import never_ends

Window = tuple[float, float]
"""The values that are black and white; what lies outside is black or white, too."""
Say = Callable[[str], None]
"""Takes a line on how a file was read where that was a choice; no numbers of its own, so that lines are equal."""

WHITES = (255, 4095, 65535)
"""White of integers whose file does not say it: of 8, 12 and 16 bits, the least that holds them all."""


def silent(_: str) -> None:
    """Tell nobody."""


def check_regular(path: str | Path) -> None:
    """Refuse pipes and devices, which may keep who opens them waiting for ever.

    Raises:
        Unreadable: it is one.
    """
    if never_ends(Path(path)):
        raise Unreadable("is not a regular file")


class Unreadable(ValueError):
    """An image that is not read, and why; the reader puts the file's name before."""


@contextmanager
def naming(name: str, what: str) -> Iterator[None]:
    """Whatever keeps a file from being read becomes a ValueError that names it, in one line.

    Args:
        name: how it is called.
        what: it should be, as in ``an image``.
    """
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{name}: a folder, not {what}") from None
    except PermissionError:
        raise ValueError(f"{name}: no permission to read it") from None
    except MemoryError:
        raise ValueError(f"{name}: not enough memory to decode it") from None
    except Unreadable as error:
        raise ValueError(f"{name}: {error}") from error.__cause__


def to_bytes(values: NDArray[Any], say: Say, *, white: int = 0, window: Window | None = None) -> NDArray[np.uint8]:
    """Numbers of any shape as 8 bits of the same shape, rounded to the nearest; bytes stay as they are.

    Args:
        values: integers or floats.
        say: is told the rule, where one was needed.
        white: the value that the file says is white, black being 0; 0 where it does not say.
        window: the values that are black and white, whatever the file says.

    Raises:
        Unreadable: no rule fits the values; says what they are.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf":
        raise Unreadable(f"values of type {values.dtype} are no pixels")
    if not values.size:
        raise Unreadable(f"the image has no pixels, its shape is {values.shape}")
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):  # one NaN makes both NaN
        raise Unreadable("has values that are NaN or infinite")
    black, top = window or (0.0, _white(low, high, values.dtype, white, say))
    if values.dtype == np.uint16:
        table: NDArray[np.uint8] = scaled(np.arange(1 << 16), black, top)[values]
        return table
    return scaled(values, black, top)


def scaled(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Black as 0, white as 255, and what is between as the nearest between."""
    parts = (values.astype(np.float64) - black) * (255 / (white - black))
    result: NDArray[np.uint8] = np.rint(parts.clip(0, 255)).astype(np.uint8)
    return result


def _white(low: float, high: float, dtype: np.dtype[Any], told: int, say: Say) -> float:
    """The white of values from ``low`` to ``high``, black being 0."""
    span = f"has values from {low:g} to {high:g}"
    if told:
        if low < 0 or high > told:
            raise Unreadable(f"{span}, though the file says that {told} is white")
        return told
    whole = dtype.kind in "iu"
    if not whole and low >= 0 and high <= 1:
        say("floating-point values of 0 to 1: 1 is white")
        return 1
    fits = [white for white in WHITES if low >= 0 and high <= white]
    if not fits or (not whole and fits[0] != WHITES[0]):
        raise Unreadable(
            f"{span}, and nothing says which are black and white: give the preprocessing a window, "
            '{"window": [BLACK, WHITE]}'
        )
    white = fits[0]
    if whole and white == WHITES[-1]:
        say("values of 16 bits: 65535 is white")
    else:
        what = f"integers of {8 * dtype.itemsize} bits" if whole else "floating-point values above 1"
        say(f"{what}, none above {white}, are taken as {white.bit_length()} bits: {white} is white")
    return white
