"""The command line: its verbs, and what becomes of errors, signals and streams."""

import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, NoReturn

import typer

from converter.cli import convert, demo, evaluate, export, inspect, package, predict, push, verify, zoo
from converter.cli.show import clean
from converter.core.errors import ConverterError
from converter.core.version import __version__

VERBS: Mapping[str, Callable[..., None]] = {
    "inspect": inspect.command,
    "convert": convert.command,
    "export": export.command,
    "verify": verify.command,
    "predict": predict.command,
    "evaluate": evaluate.command,
    "package": package.command,
    "push": push.command,
    "list": zoo.command,
    "demo": demo.command,
}


def command_line(words: Sequence[str]) -> typer.Typer:
    """The command line with the verb that these words ask for, since making options takes its time; or with all."""
    app = typer.Typer(
        name="densenet",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Any DenseNet checkpoint in; safetensors and ONNX out, proved numerically equal.",
        epilog="Exit status: 0 good, 1 verification failed, 2 wrong usage or a file that cannot be read or is not a "
        "DenseNet, 3 refused as unsafe.",
    )
    app.callback()(_root)
    for name in [word for word in words[:1] if word in VERBS] or VERBS:
        app.command(name=name)(VERBS[name])
    return app


def main() -> NoReturn:
    """Run the command line; errors become one line on stderr and an exit status."""
    # A short process: collecting garbage would cost more than the garbage.
    gc.disable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names in files are anything
    # onnxruntime would leave a database of its own use in people's cache folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, _stopped)
    try:
        command_line(sys.argv[1:])(prog_name="densenet")
    except ConverterError as error:
        message = clean(" ".join(str(error).split()))
        print(f"densenet: {message}", file=sys.stderr)
        sys.exit(error.exit_status)
    except MemoryError:
        print("densenet: not enough memory", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception:
        traceback.print_exc()
        print("densenet: this should not happen; please report it with the lines above", file=sys.stderr)
        sys.exit(2)  # 1 would say that a verification failed
    sys.exit(0)


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
