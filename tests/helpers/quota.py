"""A limit on how large a file may become, as a quota sets it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from unittest import mock


@contextlib.contextmanager
def quota(size: int) -> Iterator[None]:
    """No file of this process becomes larger than ``size`` bytes.

    Modules imported meanwhile are not cached: Python up to 3.14 cuts what it compiled at the limit without a
    word, and every later process stumbles over it (https://github.com/python/cpython/issues/126606).
    """
    import resource

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with mock.patch.object(sys, "dont_write_bytecode", True):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
