"""What stands beside a trunk: how to leave it out is told to who asks for features, and to nobody else."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from converter.core.errors import NotADenseNet


@contextmanager
def for_features(instead: str, *, asked: bool) -> Iterator[None]:
    """While a checkpoint is read.  ``instead`` begins the command that reads its features without what stands beside.

    Args:
        instead: its verb and files.
        asked: whether features are all that is asked for.
    """
    try:
        yield
    except NotADenseNet as error:
        if asked and (globs := _beside(error)):
            drop = " ".join(f"--drop {shlex.quote(glob)}" for glob in globs)
            error.args = (f"{error}; its features, without them: {instead} {drop}",)
        raise


def _beside(error: NotADenseNet) -> list[str]:
    """Globs of what is beside a trunk that is whole; none where that is not all that speaks against it."""
    for candidate in getattr(error, "tried", ()):
        if candidate.config is None or candidate.missing or candidate.misshapen or candidate.unexpected:
            continue
        used = {key for stored in candidate.used.values() for key in stored.keys}
        beside = [key for key in candidate.group.tensors if key not in used and key not in candidate.dropped]
        if candidate.config.num_classes == 0 and beside:
            return list(dict.fromkeys(f"{key.partition('.')[0]}.*" if "." in key else key for key in beside))
    return []
