"""The plots of a verdict."""

from math import ceil, floor, log10

import numpy as np

from converter.core.checkpoint import Array
from converter.core.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Plot, axis, ticks
from converter.parity.compare import ULP
from converter.parity.locate import Break

MAX_POINTS = 1500
FAINTEST = ULP / 64
"""Where logarithmic axes end: what is exact has to be somewhere."""


def scatter(title: str, expected: Array, found: Array) -> Plot:
    """One engine's logits against the oracle's, each batch in units of its largest."""
    good = np.isfinite(found) & np.isfinite(expected)
    shown = np.flatnonzero(good)
    if len(shown) > MAX_POINTS:  # evenly, so that the same report comes of the same verdict
        shown = shown[np.linspace(0, len(shown) - 1, MAX_POINTS).astype(int)]
    a, b = expected[shown], found[shown]
    everything = np.concatenate([a, b]) if len(shown) else np.array([-1.0, 1.0])
    low, high = float(everything.min()), float(everything.max())
    x, y = axis(low, high, LEFT, WIDTH - RIGHT), axis(low, high, HEIGHT - BOTTOM, TOP)
    worst = float(np.abs(a - b).max(initial=0))
    lost = int((~good).sum())
    text = f"{title}: {len(expected)} logits, the largest difference {worst:.1e} of the largest logit."
    text += f" {lost} are not finite." if lost else ""
    return Plot(
        title,
        text,
        "oracle",
        "engine",
        ticks(x, low, high),
        ticks(y, low, high),
        [(x(p), y(q), "", False) for p, q in zip(a.tolist(), b.tolist())],
        f"{x(low)},{y(low)} {x(high)},{y(high)}",
    )


def histogram(title: str, errors: Array, limit: float) -> Plot:
    """How many logits have which error, on a logarithmic axis; and the largest limit."""
    sizes = np.maximum(np.abs(errors[np.isfinite(errors)]), FAINTEST)
    logs = np.log10(sizes) if len(sizes) else np.array([log10(FAINTEST)])
    low, high = floor(log10(FAINTEST)), ceil(max(float(logs.max()), log10(limit)) + 0.2)
    counts, edges = np.histogram(logs, bins=(high - low) * 4, range=(low, high))
    x, y = axis(low, high, LEFT, WIDTH - RIGHT), axis(0, float(counts.max()), HEIGHT - BOTTOM, TOP)
    bars = [
        (x(left), y(count), round(x(right) - x(left) - 1, 1), round(HEIGHT - BOTTOM - y(count), 1))
        for count, left, right in zip(counts.tolist(), edges.tolist(), edges[1:].tolist())
        if count
    ]
    over = int((sizes > limit).sum())
    text = f"{title}: half of {len(sizes)} logits are within {np.median(sizes) if len(sizes) else 0:.0e}, all within "
    text += f"{sizes.max(initial=0):.0e} of the largest logit; {over} exceed {limit:.0e}, the largest limit."
    return Plot(
        title,
        text,
        "error, relative to the largest logit",
        "logits",
        [(x(n), f"1e{n}") for n in range(low, high + 1)],
        ticks(y, 0, float(counts.max())),
        [],
        bars=tuple(bars),
        rules=(("vertical", x(log10(limit)), "limit"),),
    )


def depth_plot(title: str, found: Break) -> Plot:
    """Error of every named value in order of execution, on a logarithmic axis; the culprit stands out."""
    steps = found.steps
    values = [min(max(step.error, FAINTEST), 10.0) for step in steps]
    logs = [log10(value) for value in values]
    low, high = floor(min(logs)), ceil(max(*logs, 0.0) if len(logs) > 1 else 0.0)
    x, y = axis(0, len(steps) - 1, LEFT, WIDTH - RIGHT), axis(low, high, HEIGHT - BOTTOM, TOP)
    at = next((i for i, step in enumerate(steps) if _makes(found.module, step.name)), -1)
    points = [(x(i), y(v), f"{steps[i].name}: {steps[i].error:.1e}", i == at) for i, v in enumerate(logs)]
    wanted = sorted({0, at, len(steps) - 1} - {-1})
    return Plot(
        title,
        f"{title}: {found}. {len(steps)} values, from {values[0]:.0e} at the first to {values[-1]:.0e} at the last.",
        "values in order of execution",
        "error, relative",
        [(x(i), str(i + 1)) for i in wanted],
        [(y(n), f"1e{n}") for n in range(low, high + 1)],
        points,
        " ".join(f"{px},{py}" for px, py, _, _ in points),
        rules=(("vertical", x(at), found.module),) if at >= 0 else (),
    )


def _makes(module: str, value: str) -> bool:
    """Whether a value is a module's; of folded modules, the last one's."""
    owner, _, leaves = module.rpartition(".")
    names = [f"{owner}.{leaf}".lstrip(".") for leaf in leaves.split("+")]
    return value in names or (module, value) in (("classifier", "logits"), ("global_pool", "features"))
