"""Work in processes that can be killed: each piece has its time and its memory, and the rest is done.

The processes are forked from one that has imported what they need (a server of Python's own multiprocessing), so that
neither a piece of work nor a process in the place of a killed one imports anything again.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from converter.core.errors import ConverterError, first_line
from converter.core.files import scratch

if sys.platform != "win32":
    import resource
    from multiprocessing import forkserver

LONGEST = 3600.0
"""Seconds of one wait: the system counts them in milliseconds, in 32 bits."""
GRACE = 2.0
"""Seconds a process has to remove what it was writing."""


@dataclass(frozen=True)
class Limits:
    """What one piece of work may take.

    Attributes:
        seconds: by the clock.
        memory: bytes it allocates beyond what its process has from the start; where Linux counts them.
    """

    seconds: float
    memory: int


@dataclass(frozen=True)
class Lost:
    """Work whose process did not live to its end; and why."""

    why: str


class Pool:
    """Processes that all do the same work.

    Args:
        work: a function of a module, called with one piece at a time.
        processes: how many.
        limits: of each piece.
        warm: modules that the work needs, imported once.
        alone: whether a process computes on one processor, so that results do not depend on how many there are.
    """

    def __init__(
        self,
        work: Callable[[Any], Any],
        processes: int,
        limits: Limits,
        warm: Sequence[str] = (),
        *,
        alone: bool = False,
    ) -> None:
        self.work, self.processes, self.limits, self.alone = work, processes, limits, alone
        methods = multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            self.context.set_forkserver_preload(list(warm))
        self.workers: list[_Worker] = []

    def results(self, pieces: Sequence[Any]) -> Generator[tuple[int, Any], None, None]:
        """What the work makes of each piece, or :class:`Lost`, by its number, as it comes; all processes end after it.

        An interrupt ends them, too, and they remove what they were writing.
        """
        waiting = deque(range(len(pieces)))
        with _server():
            try:
                while waiting or any(worker.doing is not None for worker in self.workers):
                    self._hand_out(pieces, waiting)
                    yield from self._done()
            finally:
                self._end()

    def _hand_out(self, pieces: Sequence[Any], waiting: deque[int]) -> None:
        while waiting and len(self.workers) < min(self.processes, len(pieces)):
            with _uninterrupted():  # what is half started would be nobody's, and waited for
                if not self._started():
                    break
            self.workers[-1].start(waiting[0], pieces[waiting.popleft()])
        for worker in self.workers:
            if waiting and worker.doing is None:
                worker.start(waiting[0], pieces[waiting.popleft()])

    def _started(self) -> bool:
        """Start one more process; False where the system has no more, and those there are go on.

        Raises:
            ConverterError: there is none.
        """
        for wait in (0.0, 0.1, 1.0):  # what processes are forked from may have been killed, and is there again then
            time.sleep(wait)
            try:
                self.workers.append(_Worker(self, len(self.workers)))
                return True
            except (EOFError, OSError) as error:
                failed = error
        if not self.workers:
            raise ConverterError(f"no process can be started ({first_line(failed) or type(failed).__name__})")
        self.processes = len(self.workers)
        return False

    def _done(self) -> Iterator[tuple[int, Any]]:
        """Wait for what is done next."""
        busy = {worker.pipe: worker for worker in self.workers if worker.doing is not None}
        until = min(worker.until for worker in busy.values())
        ready = connection.wait(list(busy), min(max(0.0, until - time.monotonic()), LONGEST))
        for pipe in ready:
            worker = busy[pipe]
            number = worker.doing
            try:
                result = worker.pipe.recv()
                worker.doing = None
            except (EOFError, OSError):
                result = Lost(worker.why_it_died())
                self.workers.remove(worker)
            yield number, result  # type: ignore[misc]
        for worker in [worker for pipe, worker in busy.items() if pipe not in ready]:
            if worker.until <= time.monotonic():
                self.workers.remove(worker)
                worker.end()
                yield worker.doing, Lost(f"took longer than {self.limits.seconds:g} s")  # type: ignore[misc]

    def _end(self) -> None:
        for worker in self.workers:
            worker.ask_to_end()
        until = time.monotonic() + GRACE
        for worker in self.workers:
            worker.end(max(0.0, until - time.monotonic()))
        self.workers.clear()


class _Worker:
    """One process, seen from outside."""

    def __init__(self, pool: Pool, number: int) -> None:
        self.seconds = pool.limits.seconds
        self.doing: int | None = None
        self.until = 0.0
        self.pipe, theirs = pool.context.Pipe()
        core = _core(number) if pool.alone else None
        arguments = theirs, pool.work, pool.limits.memory, core, dict(os.environ)
        self.process = pool.context.Process(target=_serve, args=arguments, daemon=True)
        with _no_main():
            self.process.start()
        theirs.close()

    def start(self, number: int, piece: Any) -> None:
        self.doing, self.until = number, time.monotonic() + self.seconds
        with suppress(OSError):  # it died: which is noticed when its result is waited for
            self.pipe.send(piece)

    def why_it_died(self) -> str:
        self.process.join(GRACE)
        code = self.process.exitcode
        self.pipe.close()
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            return f"its process was killed ({name}), for want of memory or by an error in a library"
        return f"its process ended without an answer (status {code})"

    def ask_to_end(self) -> None:
        with suppress(OSError, AttributeError):
            self.process.terminate()

    def end(self, patience: float = GRACE) -> None:
        """Have it end, with all that it started."""
        self.ask_to_end()
        self.process.join(patience)
        with suppress(OSError, AttributeError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


@contextmanager
def _server() -> Iterator[None]:
    """Have what processes are forked from end with the block, and its socket in a folder that is swept if it cannot.

    Python's own leaves both to the end of the program, and a folder of its own if that is killed.
    """
    with scratch() as usual, scratch(SHORT) if len(str(usual)) > LONG else nullcontext(usual) as folder:
        settings: Any = multiprocessing.current_process()._config  # type: ignore[attr-defined]
        settings["tempdir"] = str(folder)
        try:
            if sys.platform != "win32":
                signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))  # inherited: who started it tells it
                try:
                    forkserver.ensure_running()
                finally:
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
            yield
        finally:
            settings.pop("tempdir", None)
            if sys.platform != "win32":
                server: Any = forkserver._forkserver
                with suppress(OSError, TypeError):  # it is not there
                    os.kill(server._forkserver_pid, signal.SIGTERM)
                server._stop()


SHORT, LONG = Path("/tmp"), 70  # noqa: S108 (what is made there has a random name)
"""Where a socket is whose name would be too long in the folder for temporary files: Unix has 107 letters."""


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back interrupts until the end of the block; elsewhere than in the main thread there are none."""
    came: list[int] = []
    usual = {}
    if threading.current_thread() is threading.main_thread():
        usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in usual:
        signal.signal(number, lambda received, _: came.append(received))
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for received in came:
            signal.raise_signal(received)


@contextmanager
def _no_main() -> Iterator[None]:
    """A new process imports the program that starts it, for functions defined there; none of ours is."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _core(number: int) -> int | None:
    """The processor of one of several processes."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[number % len(allowed)]


# -- in the process -----------------------------------------------------------------------------


def _serve(pipe: Any, work: Callable[[Any], Any], memory: int, core: int | None, environment: dict[str, str]) -> None:
    """Do what comes through a pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it tells it
    signal.signal(signal.SIGTERM, _ended)
    if hasattr(os, "setsid"):
        with suppress(OSError):
            os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):  # what libraries print is in nobody's table
        os.dup2(silence, stream)
    if core is not None:
        os.sched_setaffinity(0, {core})
        os.environ["OMP_NUM_THREADS"] = "1"
    pieces: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, pieces), daemon=True).start()
    limit(memory)
    while True:
        pipe.send(work(pieces.get()))


def _ended(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def _receive(pipe: Any, pieces: queue.SimpleQueue[Any]) -> None:
    """Hand on what comes; when who sent it is gone, end, and remove what is being written."""
    with suppress(EOFError, OSError):
        while True:
            pieces.put(pipe.recv())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def limit(memory: int) -> None:
    """Let this process allocate so many bytes more, and no more; files it maps are not counted."""
    if sys.platform != "linux":
        return
    with suppress(OSError, ValueError, StopIteration, OverflowError):  # more than 64 bits are no limit
        lines = Path("/proc/self/status").read_text().splitlines()
        now = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:"))
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = now + memory
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if most < 0 else min(wanted, most), most))


def memory_of_machine() -> int:
    """Bytes of memory of this machine."""
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 1 << 34
