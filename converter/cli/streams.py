"""Standard streams: a reader that has gone is no error, a full disk is one line, and a closed stream is no file's."""

import io
import os
import sys
from contextlib import suppress
from typing import Any

from converter.core.errors import CannotWrite


class Output(io.RawIOBase):
    """A descriptor to write to.  What nobody reads any more is dropped, and so is all that follows an error.

    Args:
        descriptor: 1 or 2; errors of 2 are told to nobody, since that is where they would be told.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.gone = descriptor, False

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self.descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self.descriptor)

    def write(self, data: Any) -> int:
        """Write some of it; returns how much.

        Raises:
            CannotWrite: the disk is full, for one.
        """
        if not self.gone:
            try:
                return os.write(self.descriptor, data)
            except OSError as error:
                self.gone = True
                if not isinstance(error, BrokenPipeError) and self.descriptor == 1:
                    raise CannotWrite(f"standard output: cannot be written ({error.strerror or error})") from error
        return len(data)


def prepare() -> None:
    """Make standard streams that bear whatever they are connected to.

    Raises:
        CannotWrite: standard output is closed.
    """
    closed = sys.stdout is None
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: a file must not get its number, and what libraries print
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    sys.stdout = _bearing(sys.stdout, 1)
    sys.stderr = _bearing(sys.stderr, 2)
    if closed:
        raise CannotWrite("standard output is closed; >/dev/null throws away what is printed")


def finish() -> None:
    """Write out what standard output still holds.

    Raises:
        CannotWrite: that cannot be done.
    """
    sys.stdout.flush()


def _bearing(stream: Any, descriptor: int) -> Any:
    """A standard stream, or whatever somebody has put in its place."""
    if stream is None:
        return io.TextIOWrapper(io.BufferedWriter(Output(descriptor)), "utf-8", "backslashreplace")
    if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != descriptor:
        return stream
    buffer = io.BufferedWriter(Output(descriptor))
    # Names in files are anything, whatever the encoding of the terminal.
    return io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering)
