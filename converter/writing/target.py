"""What stands where weights are to be written: it is not lost unasked."""

from contextlib import suppress
from pathlib import Path

from converter.core.errors import CannotWrite, ConverterError
from converter.core.files import ADVICE, check_replaceable
from converter.core.metadata import TOOL_KEY
from converter.core.source import Source
from converter.formats import open_checkpoint
from converter.reading.inspection import Inspection
from converter.reading.load import inspect


def read_for(target: Path | None, source: Source, *, beside: Path | None = None, force: bool) -> Inspection:
    """Read a source of which something is written.

    A source is replaced only if that was asked for: what is written has no optimizer, for one.

    Args:
        target: the file; None of what is written into a buffer.
        source: what is read, once the target has been looked at.
        beside: another file that is written, where it has been looked at.
        force: whether they may be replaced, whatever they are.

    Raises:
        CannotWrite: a file is there that somebody else wrote, that is read-only or another user's, or that is read.
        ConverterError: one of the other kinds; the source cannot be read.
    """
    if target is not None:
        check_replaceable(target, _is_ours, force=force)
    found = inspect(source)
    for path in filter(None, (target, beside)):
        with suppress(OSError):
            if not force and path.exists() and any(path.samefile(file) for file in found.checkpoint.files):
                raise CannotWrite(f"{path}: is what is read; {ADVICE}")
    return found


def _is_ours(path: Path) -> bool:
    """Whether a file says that this tool wrote it."""
    with suppress(ConverterError):
        if TOOL_KEY in open_checkpoint(path).metadata:
            return True
    # Nobody reads these back as checkpoints; their texts stand in them as they are.
    return path.suffix in (".xml", ".tflite", ".pte") and TOOL_KEY.encode() in path.read_bytes()
