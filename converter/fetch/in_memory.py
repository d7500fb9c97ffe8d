"""What is in the caller's memory, as a place: as it is, or, where it is the bytes of a file, as a file.

Such a file is a temporary one, which is there as long as its place: readers map it, and other programs open it by name.
"""

from __future__ import annotations

import os
import shutil
import sys
import weakref
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from converter.core.errors import CannotWrite, ConverterError, UnreadableFile, first_line
from converter.core.files import scratch
from converter.core.held import BYTES, Held
from converter.fetch.place import Place

CHUNK = 1 << 20
IN_MEMORY = " in memory"


def place_of(held: Held) -> Place:
    """Where something in memory is.

    Raises:
        UnreadableFile: it is an open file that gives no bytes, or a network that its framework cannot save.
        CannotWrite: there is no room for a temporary file.
    """
    if held.is_tree:
        name = held.name if held.name.endswith(IN_MEMORY) else held.name + IN_MEMORY  # what no file is called
        return Place(Path(name), held.name, held=held)
    if (path := _own_file(held.content)) is not None:
        return Place(path, held.name)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        path = folder / ("model.keras" if held.kind == "keras" else held.name.replace(" ", "_"))
        try:
            _write(held, path)
        except OSError as error:
            why = f"cannot be written ({error.strerror or error}); set TMPDIR to a folder with room"
            raise CannotWrite(f"temporary files: {why}") from error
        place = Place(path, held.name, held=held)
        weakref.finalize(place, stack.pop_all().close)
    return place


def _own_file(content: Any) -> Path | None:
    """The path of a file that is open at its start, where it is still that file."""
    with suppress(AttributeError, OSError, ValueError, TypeError):
        if content.tell() == 0 and os.path.samestat(os.fstat(content.fileno()), os.stat(content.name)):  # noqa: PTH116
            return Path(os.fsdecode(content.name)) if isinstance(content.name, str | bytes | os.PathLike) else None
    return None


def _write(held: Held, path: Path) -> None:
    content = held.content
    if held.kind == "keras":
        try:
            content.save(path)
        except Exception as error:  # whatever Keras raises
            raise UnreadableFile(f"{held.name}: Keras cannot save it ({first_line(error)})") from error
        return
    with path.open("wb") as file:
        if held.kind == "program":
            _save_program(content, file)
        elif isinstance(content, BYTES):
            file.write(content)
        elif hasattr(content, "SerializeToString"):
            file.write(content.SerializeToString())
        else:
            _copy(held, file)


def _save_program(content: Any, file: IO[bytes]) -> None:
    """A scripted or exported program, as its framework saves it."""
    torch, buffer = sys.modules["torch"], BytesIO()
    try:
        (torch.jit if isinstance(content, torch.jit.ScriptModule) else torch.export).save(content, buffer)
    except Exception as error:  # whatever PyTorch raises
        raise UnreadableFile(f"{type(content).__name__}: PyTorch cannot save it ({first_line(error)})") from error
    file.write(buffer.getbuffer())


def _copy(held: Held, file: IO[bytes]) -> None:
    """What is still to come of an open file, which stays where it was, or is kept if it cannot be read again."""
    content = held.content
    again = getattr(content, "seekable", bool)() or None
    start = content.tell() if again else 0
    try:
        if again:
            shutil.copyfileobj(content, file, CHUNK)
            content.seek(start)
            return
        held.content = content.read()
        file.write(held.content)
    except TypeError as error:
        raise ConverterError(f"{held.name}: is opened as text; open it in binary mode, 'rb'") from error
