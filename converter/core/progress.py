"""Progress of a verification, as lines for a terminal."""

from collections.abc import Callable

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
