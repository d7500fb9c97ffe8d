"""Differences for people and for programs: terminal tables, JSON, and a page with a plot by depth."""

import json
from math import ceil, floor, log10

from converter.core.page import Table, render
from converter.core.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Plot, axis
from converter.core.reports import Reports
from converter.core.version import __version__
from converter.use.diff.difference import Difference, TensorDifference, place_of

LONG = 60
"""Characters of a value that a table shows."""
FAINTEST = 1e-8
"""Where the logarithmic axis ends: what is identical has to be somewhere."""


def tables(found: Difference) -> list[Table]:
    """Where they differ, and in which settings; nothing where they do not."""
    result = []
    other = [tensor for tensor in found.tensors if not tensor.same]
    if other or found.relation == "rounded":
        places: dict[str, list[TensorDifference]] = {}
        for tensor in found.tensors:
            places.setdefault(place_of(tensor.name), []).append(tensor)
        rows = [_row(place, members) for place, members in places.items()]
        columns = ("part", "tensors", "differ", "how", "mean distance", "largest", "at")
        result.append(Table("By depth", columns, rows, ("tensors", "differ", "mean distance", "largest")))
    both = {**found.settings, **found.said}
    if both:
        rows = [[name, _short(a), _short(b)] for name, (a, b) in both.items()]
        result.append(Table("Settings", ("setting", "A", "B"), rows))
    return result


def _row(place: str, members: list[TensorDifference]) -> list[str]:
    """One part of the network."""
    other = [tensor for tensor in members if tensor.status != "identical"]
    distances = {tensor.name: tensor.distance for tensor in members if tensor.distance is not None}
    how = ", ".join(dict.fromkeys(tensor.status for tensor in other)) or "identical"
    worst = max(distances, key=lambda name: distances[name], default="") if any(distances.values()) else ""
    mean = f"{sum(distances.values()) / len(distances):.1e}" if worst else ""
    largest = f"{distances[worst]:.1e}" if worst else ""
    return [place, str(len(members)), str(len(other)), how, mean, largest, worst.removeprefix(f"{place}.")]


def every_tensor(found: Difference) -> Table:
    """All that are not identical."""
    rows = [
        [t.name, t.status, t.detail, f"{t.distance:.2e}" if t.distance is not None else ""]
        for t in found.tensors
        if t.status != "identical"
    ]
    return Table("Tensors that differ", ("tensor", "how", "detail", "distance"), rows, ("distance",))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONG else f"{text[:LONG]}..."


def to_json(found: Difference) -> str:
    """Everything."""
    return json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_html(found: Difference) -> str:
    """One page, without scripts or anything to fetch."""
    listed = every_tensor(found)
    return render(
        "converter.use.diff",
        "diff.html.j2",
        found=found,
        line=found.line(),
        tables=[*tables(found), *([listed] if listed.rows else [])],
        plots=[by_depth(found)] if listed.rows else [],
        version=__version__,
    )


def by_depth(found: Difference) -> Plot:
    """How far each tensor is from A's, in the order of the network, on a logarithmic axis."""
    tensors = [tensor for tensor in found.tensors if tensor.distance is not None]
    logs = [log10(min(max(tensor.distance or 0.0, FAINTEST), 1e3)) for tensor in tensors]
    low, high = floor(log10(FAINTEST)), ceil(max(logs, default=0.0))
    x, y = axis(0, max(1, len(tensors) - 1), LEFT, WIDTH - RIGHT), axis(low, max(high, 0), HEIGHT - BOTTOM, TOP)
    starts: dict[str, int] = {}
    for i, tensor in enumerate(tensors):
        starts.setdefault(place_of(tensor.name), i)
    parts = {place: at for place, at in starts.items() if place.startswith("blocks")}
    changed = [tensor for tensor in tensors if tensor.status != "identical"]
    text = f"{len(changed)} of {len(tensors)} tensors of the same shape differ"
    if changed:
        worst = max(changed, key=lambda tensor: tensor.distance or 0.0)
        text += f", most {worst.name}, by {worst.distance:.1e} of its own size"
    return Plot(
        "How far each tensor is from A's",
        f"{text}; what is identical stands at 1e{low}.",
        "tensors in the order of the network",
        "distance, relative",
        [(x(at), place) for place, at in parts.items()],
        [(y(n), f"1e{n}") for n in range(low, max(high, 0) + 1)],
        [(x(i), y(v), f"{t.name}: {t.status} {t.distance:.1e}", False) for i, (t, v) in enumerate(zip(tensors, logs))],
    )


REPORTS = Reports[Difference]({".json": to_json, ".html": to_html})
