"""Progress of a verification, as lines for a terminal."""

import sys
from collections.abc import Callable
from typing import Any

Progress = Callable[[str], None]


class Steps:
    """Progress as a bar, once it is known how many engines will run on how many inputs.

    Attributes:
        engines, batches: their numbers; 0 while unknown.
    """

    WIDTH = 24

    def __init__(self, say: Progress) -> None:
        self.say, self.done, self.engines, self.batches = say, 0, 0, 0

    def __call__(self, line: str) -> None:
        """Say what is done next; one step."""
        total = self.engines * self.batches
        full = min(self.WIDTH * self.done // total, self.WIDTH) if total else 0
        self.say(f"{'━' * full}{'╌' * (self.WIDTH - full)} {line}" if total else line)
        self.done += 1


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


def counted(done: int) -> None:
    """The same of functions that say how many images they have done since they last said it."""
    shell = _kernel()
    if shell is not None:
        before = _SHOWN.get("images", 0) if _SHOWN.get("cell") == shell.execution_count else 0
        shown_in_notebooks(f"{before + done} images")
        _SHOWN["images"] = before + done


_SHOWN: dict[str, Any] = {}
"""The line of the cell that was run last, and what it has counted."""


def _kernel() -> Any:
    """IPython where it shows its output in a notebook, which is when it has been loaded."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell if type(shell).__name__ == "ZMQInteractiveShell" else None
