"""Every error a user can cause, with the exit status the command line gives it."""

from converter.core.text import shortened


class ConverterError(Exception):
    """Says in one line what is wrong, where, and what to do next; very long names are cut in the middle."""

    exit_status = 2
    kind = "wrong-usage"
    """What scripts know it by, whatever the line says."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message))


class WrongArgument(ConverterError, ValueError):
    """An argument of a function has a value that it cannot have."""


class UnreadableFile(ConverterError):
    """The file is missing, truncated, damaged, or of no format we read."""

    kind = "unreadable-file"


class ForeignFile(UnreadableFile):
    """Not damaged, but of no format we read, or no checkpoint: a text, a picture, one array."""


class NotADenseNet(ConverterError):
    """The tensors are those of another network, or of a DenseNet we cannot express."""

    kind = "not-a-densenet"


class NoTensors(NotADenseNet):
    """There is nothing with a name in the file that could be a network's weights."""


class SeveralHeads(NotADenseNet):
    """A graph has several heads, and nobody says which is to be read: ``names`` are what they can be called."""

    def __init__(self, message: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.names = names


class CannotExpress(ConverterError):
    """The target layout or graph has no way to say what this network does."""

    kind = "cannot-express"


class CannotWrite(ConverterError):
    """The target cannot be written."""

    kind = "cannot-write"


class Unavailable(ConverterError):
    """A source or an optional package cannot be had (no network, not found, not installed)."""

    kind = "unavailable"


class UnsafeFile(ConverterError):
    """The file asks for code to be run, or points outside its own folder."""

    exit_status = 3
    kind = "unsafe-file"


class VerificationFailed(ConverterError):
    """Two engines or models disagree by more than rounding explains."""

    exit_status = 1
    kind = "verification-failed"


def first_line(error: BaseException) -> str:
    """What an exception of others says, in one line."""
    return (str(error).strip().splitlines() or ["no reason given"])[0]
