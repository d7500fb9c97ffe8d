"""Processes that are killed for one piece of work, and the rest that is done."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

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
