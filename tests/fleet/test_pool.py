"""Processes that are killed for one piece of work, and the rest that is done."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from converter.fleet.pool import Limits, Lost, Pool

FREE = Limits(60.0, 1 << 30)


def test_what_takes_too_long_is_killed_and_the_rest_is_done() -> None:
    found = dict(Pool(time.sleep, 2, Limits(1.0, 1 << 30)).results([0.01, 100, 0.02, 0.03, 0.04]))
    assert found.pop(1) == Lost("took longer than 1 s")
    assert found == {0: None, 2: None, 3: None, 4: None}


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts what a process allocates")
def test_what_takes_too_much_memory_is_lost_and_the_rest_is_done() -> None:
    found = dict(Pool(bytearray, 1, Limits(60.0, 100 << 20)).results([10, 300 << 20, 20]))
    assert isinstance(found[1], Lost)
    assert (found[0], found[2]) == (bytearray(10), bytearray(20))


def test_a_process_that_dies_is_replaced() -> None:
    found = dict(Pool(os._exit, 1, FREE).results([7, 9]))
    assert found == {i: Lost(f"its process ended without an answer (status {code})") for i, code in enumerate((7, 9))}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked for in /proc")
def test_who_stops_listening_leaves_no_process() -> None:
    pool = Pool(os.getpgid, 2, FREE)
    results = pool.results([0] * 50)
    _, group = next(results)
    others = {worker.process.pid for worker in pool.workers}
    assert group in others  # each has a group of its own, which is killed with it
    results.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in others)


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="signals of Unix")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_process_is_started_ends_all(stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which waited for ever for the one that nobody had yet."""
    from multiprocessing import forkserver

    read = forkserver.read_signed  # type: ignore[attr-defined]

    def interrupted(descriptor: int) -> int:
        monkeypatch.setattr(forkserver, "read_signed", read)
        os.kill(os.getpid(), stop)
        return int(read(descriptor))

    def ended(number: int, _: object) -> NoReturn:
        raise TimeoutError if number == signal.SIGALRM else KeyboardInterrupt

    usual = {number: signal.signal(number, ended) for number in (stop, signal.SIGALRM)}
    signal.alarm(20)
    try:
        monkeypatch.setattr(forkserver, "read_signed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(Pool(time.sleep, 2, FREE).results([0.1, 0.1]))
    finally:
        signal.alarm(0)
        for number, handler in usual.items():
            signal.signal(number, handler)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is forked there")
def test_what_processes_are_forked_from_may_be_killed() -> None:
    from multiprocessing import forkserver

    results = Pool(time.sleep, 2, FREE).results([0.01] * 4 + [0.02])
    found = dict([next(results)])
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
    found |= dict(results)
    assert sorted(found) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("limits", [Limits(float("inf"), 1 << 30), Limits(3e6, 1 << 90)])
def test_limits_may_be_as_large_as_one_likes(limits: Limits) -> None:
    assert dict(Pool(time.sleep, 1, limits).results([0.01])) == {0: None}
