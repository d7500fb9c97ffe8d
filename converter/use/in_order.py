"""Work of several threads, whose results come in the order of what was asked, and whose memory stays flat."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST_WORKERS = 8
"""Each holds the feature maps of a batch."""


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers() -> int:
    """How many threads go through images at once."""
    return min(cores(), MOST_WORKERS)


def in_order(work: Callable[[Sequence[T]], R], items: Iterable[T], size: int) -> Iterator[R]:
    """What ``work`` makes of every ``size`` items; one result ahead for each thread, and no more.

    Images are decoded and networks computed without the interpreter's lock, so threads suffice.  What ``work`` raises
    is raised here in its turn, and ends the work.
    """
    waiting: deque[Future[R]] = deque()
    rest = iter(items)
    pool = ThreadPoolExecutor(workers())
    try:
        while True:
            while len(waiting) < 2 * workers() and (several := list(islice(rest, size))):
                waiting.append(pool.submit(work, several))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # who is interrupted does not wait for what is being computed


def one_ahead(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What ``work`` makes of each item, while the caller is busy with the result before it; one thread."""
    rest = iter(items)
    pool = ThreadPoolExecutor(1)
    try:
        coming = [pool.submit(work, item) for item in islice(rest, 1)]
        while coming:
            result = coming.pop().result()
            coming = [pool.submit(work, item) for item in islice(rest, 1)]
            yield result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
