"""Plots as numbers for the SVG in ``templates/page.j2``: marks in a box, ticks, and the text that replaces them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, log10

WIDTH, HEIGHT = 600, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 44


@dataclass(frozen=True)
class Plot:
    """One chart; all positions in pixels of a ``width`` x ``height`` box.

    Attributes:
        title, text: what it is, and in words what it shows, for those who do not see it.
        x_label, y_label: of the axes.
        x_ticks, y_ticks: positions and texts.
        points: circles (x, y, what it is or nothing, whether it is the culprit).
        line: points of a polyline, as SVG writes them; ``dashed`` another, to compare it with.
        bars: x, y, width, height.
        rules: lines across: vertical or horizontal, position, and what they mean.
        cells: x, y, width, height, how dark from 0 to 1, what it is, and the text in it or nothing.
    """

    title: str
    text: str
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    points: list[tuple[float, float, str, bool]]
    line: str = ""
    bars: tuple[tuple[float, float, float, float], ...] = ()
    rules: tuple[tuple[str, float, str], ...] = ()
    dashed: str = ""
    cells: tuple[tuple[float, float, float, float, float, str, str], ...] = ()
    width: int = WIDTH
    height: int = HEIGHT


Axis = Callable[[float], float]
"""Values to pixels."""


def axis(low: float, high: float, start: float, end: float) -> Axis:
    """Where values from ``low`` to ``high`` come to lie between two pixels."""
    span = (high - low) or 1.0
    return lambda value: round(start + (value - low) / span * (end - start), 1)


def ticks(along: Axis, low: float, high: float) -> list[tuple[float, str]]:
    """About five round numbers."""
    step = 10 ** floor(log10((high - low) or 1.0))
    for factor in (0.2, 0.5, 1, 2, 5):
        if (high - low) / (step * factor) <= 6:
            step *= factor
            break
    first = ceil(low / step)
    return [(along(i * step), f"{i * step:.6g}") for i in range(first, floor(high / step + 1e-9) + 1)]
