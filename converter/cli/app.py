"""The command line: its verbs, and what becomes of errors, signals and streams."""

import functools
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from converter.cli import complete, show, streams
from converter.cli.help import GroupedCommand, ending
from converter.cli.options import parameters_of
from converter.cli.show import Chatter
from converter.core.errors import ConverterError, first_line
from converter.core.text import clean, shortened
from converter.core.version import __version__

VERBS = tuple("inspect convert export verify diff predict evaluate merge package push list demo doctor".split())
MODULES = {"list": "zoo"}
"""The module of a verb, where that is called otherwise."""
OVERVIEW = ("--help", "-h", "--version")
"""What needs no verb's options."""
STOPPED = {128 + signal.SIGINT, 128 + signal.SIGTERM}


def command_line(words: Sequence[str]) -> typer.Typer:
    """The command line with the verb that these words ask for, since making options takes its time; or with all.

    Where the words ask for an overview, verbs have none.
    """
    first = words[0] if words else ""
    alone = [first] if first in VERBS else []
    app = typer.Typer(
        name="densenet",
        no_args_is_help=True,
        add_completion=not alone,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Any DenseNet checkpoint in; safetensors and ONNX out, proved numerically equal.",
        epilog="Exit status: 0 good, 1 verification failed, 2 wrong usage or a file that cannot be read or is not a "
        "DenseNet, 3 refused as unsafe.\n\nTry: densenet inspect checkpoint.pth, or densenet demo",
    )
    app.callback()(_root)
    for name in alone or VERBS:
        verb = _named(_verb(name)) if first in OVERVIEW else _told_how_much(_kept_from_typer(_verb(name)))
        app.command(name=name, cls=GroupedCommand, epilog=ending(name))(verb)
    return app


def _verb(name: str) -> Callable[..., None]:
    """A verb, whose module is imported when it is asked for."""
    command: Callable[..., None] = import_module(f"converter.cli.{MODULES.get(name, name)}").command
    return command


def _named(verb: Callable[..., None]) -> Callable[[], None]:
    """What a list of verbs says of one."""

    def only_named() -> None:
        pass

    only_named.__doc__ = verb.__doc__
    return only_named


def main() -> NoReturn:
    """Run the command line; errors become one line on stderr and an exit status."""
    # onnxruntime would leave a database of its own use in people's cache folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    status = _outcome(_run)
    if status in STOPPED:
        _leave(status)
    sys.exit(_outcome(streams.finish) if status == 0 else status)


def _run() -> None:
    show.set_chatter(Chatter.USUAL)
    streams.prepare()
    warnings.filterwarnings("ignore", "Image size .* could be decompression bomb")  # what is decoded has a bound
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, _stopped)
    with complete.as_bash_splits():
        status = command_line(sys.argv[1:])(prog_name="densenet", standalone_mode=False)
    sys.exit(status if isinstance(status, int) else 0)


def _outcome(work: Callable[[], None]) -> int:
    """The exit status of what is done, whose errors are told."""
    try:
        work()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except _EscapedError as escaped:
        return _told(escaped.error)
    except Exception as error:
        return _told(error)
    return 0


def _told(error: Exception) -> int:
    """Say what went wrong, in one line unless it is our fault; the exit status."""
    if isinstance(error, ConverterError):
        line, kind, status = str(error), error.kind, error.exit_status
    elif usage := getattr(error, "format_message", None):  # typer's: it shows how the verb is used
        error.show()  # type: ignore[attr-defined]
        _as_json(" ".join(usage().split()), ConverterError.kind, 2, error)
        return 2
    elif lacking := _lacking(error):
        line, kind, status = lacking, "system", 2
    elif isinstance(error, OSError) and error.errno is not None:  # a file's, whoever opened it
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "the system"
        line, kind, status = f"{name}: {error.strerror}", "system", 2
    else:
        traceback.print_exception(error)
        # 1 would be a verdict
        line, kind, status = "this should not happen; please report it with the lines above", "internal", 2
    if show.chatter() is Chatter.VERBOSE and kind != "internal":
        traceback.print_exception(error)
    line = clean(shortened(" ".join(line.split())))
    print(f"densenet: {line}", file=sys.stderr)
    _as_json(line, kind, status, error)
    return status


def _as_json(line: str, kind: str, status: int, error: Exception) -> None:
    """The same on standard output, for who asked for JSON there (docs/errors-and-statuses.md)."""
    words = sys.argv[1:]
    words = words[: words.index("--")] if "--" in words else words
    if "--json" not in words or show.has_printed_json():
        return
    said: dict[str, Any] = {"status": status, "kind": kind, "message": line}
    if "--explain" in words:
        said["tried"] = [candidate.to_dict() for candidate in getattr(error, "tried", ())]
    with suppress(ConverterError):  # standard output is what failed, and that is told
        show.print_json({"error": said})
        sys.stdout.flush()


def _lacking(error: BaseException) -> str:
    """What the system did not give; empty if that was not it."""
    cause: BaseException | None = error
    while cause is not None:  # numpy explains in twenty lines what its cause says in one
        said = first_line(cause)
        if isinstance(cause, MemoryError):
            return "not enough memory"
        if isinstance(cause, RuntimeError) and said in ("can't start new thread", "can't allocate lock"):
            return f"not enough memory, or too many processes ({said})"
        if isinstance(cause, ImportError) and "shared object" in said:
            return f"a library cannot be loaded ({said}): not enough memory, or it is not installed right"
        cause = cause.__cause__
    if isinstance(error, FileNotFoundError) and not error.filename and not _has_folder():
        return "the current folder was removed; go to another"
    return ""


def _has_folder() -> bool:
    try:
        return bool(Path.cwd())
    except OSError:
        return False


class _EscapedError(Exception):
    """An error that is not typer's to judge."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _kept_from_typer(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb, without errors that typer would call the user's ("Aborted.") with status 1, which reads as a verdict."""

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        try:
            verb(**given)
        except (EOFError, OSError) as error:
            raise _EscapedError(error) from error

    return run


def _told_how_much(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb that also takes how much it says beside its result."""

    @functools.wraps(verb)
    def run(*, quiet: bool, verbose: bool, **given: Any) -> None:
        if quiet and verbose:
            raise ConverterError("--quiet and --verbose: say one of them")
        show.set_chatter(Chatter.QUIET if quiet else Chatter.VERBOSE if verbose else Chatter.USUAL)
        with show.timed():
            verb(**given)

    more = parameters_of(_how_much)
    run.__signature__ = signature(verb).replace(parameters=[*parameters_of(verb), *more])  # type: ignore[attr-defined]
    run.__annotations__ = {**verb.__annotations__, **{p.name: p.annotation for p in more}}
    return run


def _how_much(
    *,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Steps, times, where errors come from.")] = False,
) -> None:
    """How much a verb says on standard error."""


def _leave(status: int) -> NoReturn:
    """End at once: threads that compute in C would be waited for."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()
    os._exit(status)


def _stopped(number: int, _: object) -> NoReturn:
    """An interrupt or a termination unwinds, so that no temporary file stays behind."""
    print(f"densenet: {'interrupted' if number == signal.SIGINT else 'terminated'}", file=sys.stderr)
    sys.exit(128 + number)


def _version(value: bool) -> None:
    if value:
        print(f"densenet-converter {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
