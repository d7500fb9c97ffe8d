"""Memory that is free, given back to the system."""

import ctypes
import gc
import sys
from contextlib import suppress


def give_back() -> None:
    """Between stages: what was freed is no longer this process'.

    The C library keeps what is freed for what is allocated next, hundreds of megabytes of a network's weights, while
    another library allocates its own beside it.  Where it is not GNU's, nothing happens.
    """
    gc.collect(1)  # of the oldest generation all objects there are would be walked, half a second of them
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
