"""Progress of a verification, as lines for a terminal."""

import sys
from collections.abc import Callable
from typing import Any

Progress = Callable[[str], None]
WIDTH = 24
"""Characters of a bar."""


class Steps:
    """Progress as a bar, once it is known how many engines will run on how many inputs.

    Attributes:
        engines, batches: their numbers; 0 while unknown.
    """

    def __init__(self, say: Progress) -> None:
        self.say, self.done, self.engines, self.batches = say, 0, 0, 0

    def __call__(self, line: str) -> None:
        """Say what is done next; one step."""
        total = self.engines * self.batches
        self.say(f"{_bar(self.done, total)} {line}" if total else line)
        self.done += 1


def _bar(done: int, total: int) -> str:
    full = min(WIDTH * done // total, WIDTH)
    return f"{'━' * full}{'╌' * (WIDTH - full)}"


def shown_in_notebooks(line: str) -> None:
    """What functions say while they work, unless somebody else is told: a line that changes, in notebooks alone."""
    shell = _kernel()
    if shell is None:
        return
    from IPython.display import display  # noqa: PLC0415 (is there, and nowhere else)

    text, cell = {"text/plain": line}, shell.execution_count
    if _SHOWN.get("cell") != cell:
        _SHOWN.clear()
        _SHOWN.update(cell=cell, line=display(text, raw=True, display_id=True))
    else:
        _SHOWN["line"].update(text, raw=True)


def counted(images: int) -> Callable[[int], None]:
    """The same of functions that say how many of so many images they have done since they last said it."""
    done = 0

    def say(more: int) -> None:
        nonlocal done
        done += more
        shown_in_notebooks(f"{_bar(done, images)} {done} of {images} images")

    return say


_SHOWN: dict[str, Any] = {}
"""The line of the cell that was run last."""


def _kernel() -> Any:
    """IPython where it shows its output in a notebook, which is when it has been loaded."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell if type(shell).__name__ == "ZMQInteractiveShell" else None
