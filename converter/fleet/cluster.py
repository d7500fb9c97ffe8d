"""What a Ray cluster does for us.  Ray places the work, moves what it needs, and does again what a lost node had.

Nothing here schedules: every piece of work is handed over at once, and what becomes of it is waited for in order.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from converter.core.errors import ConverterError, Unavailable, first_line
from converter.core.metadata import TOOL
from converter.fleet.outcome import Outcome
from converter.fleet.pool import GRACE, Limits, Lost, limit, memory_of_machine
from converter.use.in_order import cores

if TYPE_CHECKING:
    from converter.fleet.work import Job

AGAIN = 3
"""How often Ray does a piece of work again whose process or node was lost; it cannot say which of both it was."""


def connected(address: str) -> Any:
    """Ray, connected to a cluster: that of ``address``, or else of ``RAY_ADDRESS``, or on this machine, or a new one.

    Raises:
        Unavailable: it is not installed, or there is no cluster.
    """
    try:
        import ray  # noqa: PLC0415 (large, for few)
    except ImportError as error:
        raise Unavailable("--ray needs Ray: pip install 'densenet-converter[ray]', on every node") from error
    if not ray.is_initialized():
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what concerns Ray's makers is in its own logs
        with _to_itself():
            try:
                ray.init(address=address or None, log_to_driver=False, logging_level="ERROR")
            except Exception as error:  # a plain one, where a node does not start in time
                raise Unavailable(f"--ray {address}: no cluster ({first_line(error)})") from error
        _tell_nothing_of_nodes()
    return ray


@contextmanager
def _to_itself() -> Iterator[None]:
    """What Ray says while it starts goes nowhere, and SIGTERM, which it takes for itself, ends this program as ever."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
        if threading.current_thread() is threading.main_thread():
            for number, handler in kept.items():
                signal.signal(number, handler)


def _tell_nothing_of_nodes() -> None:
    """Ray prints the last lines of a lost node's log on standard output, where the result is."""
    inside: Any = sys.modules.get("ray._private.worker")
    if inside is not None and hasattr(inside, "print_to_stdstream"):
        inside.print_to_stdstream = lambda *_, **__: None


def results(
    address: str, jobs: Sequence[Job], limits: Limits, warm: Sequence[str]
) -> Generator[tuple[int, Outcome | Lost], None, None]:
    """What becomes of each job, by its number, in order.

    Whoever stops early ends, and with its connection what Ray was asked to do.  (``ray.cancel`` by force of work
    that is just done aborts this process: Ray 2.60, task_manager.cc, "Tried to complete task that was not pending".)

    Raises:
        Unavailable: there is no cluster, or a node has another version of this tool.
    """
    ray = connected(address)
    work = ray.remote(num_cpus=1, max_retries=AGAIN)(done_there)
    how = ray.put((TOOL, os.getcwd(), limits, tuple(warm)))  # noqa: PTH109 (as it is called)
    waiting = [work.remote(job, how) for job in jobs]
    for number in range(len(jobs)):
        try:
            yield number, ray.get(waiting[number])
        except ray.exceptions.RayTaskError as error:
            raise _ours(error) from error
        except ray.exceptions.RayError as error:
            yield number, Lost(f"its process or node was lost {AGAIN + 1} times ({type(error).__name__})")
        waiting[number] = None


def _ours(error: Any) -> Exception:
    """The error of ours that a task raised."""
    cause = error.cause
    return cause if isinstance(cause, ConverterError) else Unavailable(f"Ray: {first_line(cause or error)}")


def done_there(job: Job, how: tuple[str, str, Limits, tuple[str, ...]]) -> Outcome | Lost:
    """Do a job in a process of a node, within its limits."""
    tool, folder, limits, warm = how
    check_version(tool)
    _warm(warm)
    from converter.fleet.work import do  # noqa: PLC0415 (which is warm now)

    with suppress(OSError):  # relative names mean the same on a shared disk
        os.chdir(folder)
    limit(limits.memory or memory_of_machine() // cores())
    try:
        with _ended_after(limits.seconds):
            return do(job)
    except _TooLongError:
        return Lost(f"took longer than {limits.seconds:g} s")


@lru_cache(maxsize=1)
def _warm(modules: tuple[str, ...]) -> None:
    for name in ("converter.fleet.warm", *modules):
        import_module(name)


def check_version(theirs: str, ours: str = TOOL) -> None:
    """Refuse to work for another version of this tool, or of what computes.

    Raises:
        Unavailable: this node's is another.
    """
    if theirs != ours:
        raise Unavailable(f"{os.uname().nodename}: has {ours}, and the command {theirs}; install the same on each")


class _TooLongError(BaseException):
    """A job took longer than it may; which no part of it takes for an error of its own."""


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """Stop the block; where it is not in Python, its process ends a little later, and Ray notices."""
    previous: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, _too_long)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device)
        try:
            faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=nowhere)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
            signal.signal(signal.SIGALRM, previous)


def _too_long(number: int, frame: object) -> NoReturn:
    raise _TooLongError
