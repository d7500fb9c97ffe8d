"""Work in C that must not hold its caller for ever.

While a library computes in C no signal gets to Python, and a graph of strangers may compute for years.  So it works in
a thread of its own: whoever waits can be interrupted, and does not wait longer than ``SECONDS``.  The thread is told to
stop; if its library does not listen it ends with the process, which it does not keep alive.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

SECONDS = 600.0
"""How long one piece of work may take: a batch, or the loading of a file."""

T = TypeVar("T")


class TookTooLong(Exception):
    """It is not done; says how long that is."""


def stoppable(work: Callable[[], T], stop: Callable[[], object] = lambda: None) -> T:
    """Do something that can be interrupted.

    Args:
        work: what to do.
        stop: tells it that nobody waits any more.

    Raises:
        TookTooLong: it was not done in time.
        Exception: whatever the work raises.
    """
    done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:  # handed on to who waits
            done.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        found, error = done.get(timeout=SECONDS)
    except queue.Empty:
        stop()
        raise TookTooLong(f"took longer than {SECONDS:g} s") from None
    except BaseException:
        stop()
        raise
    if error is not None:
        raise error
    result: T = found
    return result
