"""What stands where weights are to be written: it is not lost unasked."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from converter.core.errors import CannotWrite, ConverterError
from converter.core.files import ADVICE, check_replaceable
from converter.core.metadata import TOOL_KEY
from converter.formats import open_checkpoint


def check_target(target: Path, *, force: bool) -> None:
    """Look at a target before the work is done.  What this tool wrote may be replaced, and an empty file.

    Raises:
        CannotWrite: a file is there that somebody else wrote, or that is read-only or another user's.
    """
    check_replaceable(target, _is_ours, force=force)


def check_not_source(target: Path, files: Iterable[Path], *, force: bool) -> None:
    """A source is replaced only if that was asked for: what is written has no optimizer, for one.

    Raises:
        CannotWrite: the target is one of the files that were read.
    """
    with suppress(OSError):
        if not force and target.exists() and any(target.samefile(file) for file in files):
            raise CannotWrite(f"{target}: is what is read; {ADVICE}")


def _is_ours(path: Path) -> bool:
    """Whether a file says that this tool wrote it."""
    with suppress(ConverterError):
        if TOOL_KEY in open_checkpoint(path).metadata:
            return True
    # Nobody reads these back as checkpoints; their texts stand in them as they are.
    return path.suffix in (".xml", ".tflite", ".pte") and TOOL_KEY.encode() in path.read_bytes()
