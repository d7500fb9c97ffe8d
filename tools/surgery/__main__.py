"""The command line: draws variants, tries them, prints tables."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from rich.console import Console
from rich.table import Table

import tools.surgery
from tools.surgery.judge import BAD, CONTAINER, SURGERIES, UNMADE, UNSAFE, VERDICTS, Variant, Verdict, tried

ORDER = (
    "stem",
    "body",
    "norm",
    "head",
    "pool",
    "many",
    "front",
    "behind",
    "weights",
    "quantised",
    "dtype",
    "wrap",
    "file",
    "keras",
)
"""In which order surgeries are done: from the inside out."""
ONE_OF = ({"head", "pool"}, {"dtype", "quantised"}, {"wrap", "many"}, {"weights", "quantised"})
"""Areas that leave nothing for each other to cut."""
TRIES = 8
"""Draws before a kind is given up as not to be made."""


def together(kinds: Sequence[str]) -> bool:
    """Whether kinds can be done on one network."""
    areas = [name.partition("-")[0] for name in kinds]
    if len(set(areas)) < len(areas) and "keras" not in areas:
        return False
    return not any(sum(area in group for area in areas) > 1 for group in ONE_OF)


def draw(rng: random.Random, first: str, containers: Sequence[str]) -> Variant:
    """A variant with a kind in it, alone or with others."""
    by_name = {surgery.name: surgery for surgery in SURGERIES}
    framework = rng.choice(by_name[first].frameworks)
    possible = [s.name for s in SURGERIES if framework in s.frameworks and s.name != first]
    kinds = [first]
    for _ in range(rng.choices((0, 1, 2), (6, 3, 1))[0]):
        others = [name for name in possible if name not in kinds and together([*kinds, name])]
        kinds += [rng.choice(others)] if others else []
    kinds.sort(key=lambda name: ORDER.index(name.partition("-")[0]))
    of_state = any(name.startswith("file-") for name in kinds)
    fitting = [
        name
        for name in containers
        if framework in CONTAINER[name].frameworks and (not of_state or CONTAINER[name].holds_state)
    ]
    if not fitting:
        return Variant(framework, tuple(kinds), "", 0)
    return Variant(framework, tuple(kinds), rng.choice(fitting), rng.randrange(10**6))


def drawn(count: int, seed: int, kinds: Sequence[str], containers: Sequence[str]) -> Iterator[Verdict]:
    """So many verdicts: every kind in turn, shuffled anew each time round."""
    rng = random.Random(seed)
    deck: list[str] = []
    made = 0
    while made < count:
        if not deck:
            deck = list(kinds)
            rng.shuffle(deck)
        first = deck.pop()
        for _ in range(TRIES):
            variant = draw(rng, first, containers)
            if not variant.container:
                continue
            verdict = tried(variant)
            yield verdict
            if verdict.verdict != UNMADE:
                break
        made += 1


def table(title: str, verdicts: Sequence[Verdict], key: Callable[[Verdict], Sequence[str]]) -> Table:
    """Verdicts counted by something, a row each."""
    counts: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        for name in key(verdict):
            counts.setdefault(name, Counter())[verdict.verdict] += 1
    result = Table(title=title)
    result.add_column(title)
    for name in (*VERDICTS, "all"):
        result.add_column(name, justify="right")
    total: Counter[str] = Counter(verdict.verdict for verdict in verdicts)
    for name, counter in [*sorted(counts.items()), ("together", total)]:
        cells = [str(counter[v] or "") for v in VERDICTS]
        styles = [f"[bold red]{cell}[/]" if cell and v in BAD else cell for v, cell in zip(VERDICTS, cells)]
        result.add_row(name, *styles, str(counter.total()))
    return result


def main() -> int:
    """Exit status 0 when nothing is silent or crashed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.surgery",
        description=tools.surgery.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", default=[], help="kinds whose name begins so; repeatable")
    parser.add_argument("--container", action="append", default=[], help="containers whose name begins so; repeatable")
    parser.add_argument("--variant", action="append", default=[], help="one variant, as it was printed; repeatable")
    parser.add_argument("--json", type=Path, help="write every verdict there, a line each")
    parser.add_argument("--list", action="store_true", help="print the kinds and the containers")
    args = parser.parse_args()
    kinds = [s.name for s in SURGERIES if not args.kind or s.name.startswith(tuple(args.kind))]
    containers = [name for name in CONTAINER if not args.container or name.startswith(tuple(args.container))]
    console = Console(width=max(100, Console().width))
    if args.list:
        console.print(f"{len(kinds)} kinds: {', '.join(kinds)}\n{len(containers)} containers: {', '.join(containers)}")
        return 0
    found: list[Verdict] = []
    file = args.json.open("w") if args.json else None
    running = (
        (tried(Variant.of(text)) for text in args.variant)
        if args.variant
        else drawn(args.count, args.seed, kinds, containers)
    )
    for verdict in running:
        found.append(verdict)
        if file:
            print(json.dumps({**asdict(verdict), "variant": str(verdict.variant)}), file=file, flush=True)
        if verdict.verdict in BAD or args.variant:
            said = f"; notes: {' | '.join(verdict.notes) or 'none'}"
            print(f"{verdict.verdict} --variant {verdict.variant}: {verdict.detail}{said}", flush=True)
    judged = [verdict for verdict in found if verdict.verdict != UNMADE]
    console.print(table("area", judged, lambda v: {name.partition("-")[0] for name in v.variant.surgeries}))
    console.print(table("kind", judged, lambda v: v.variant.surgeries))
    console.print(table("container", judged, lambda v: [v.variant.container]))
    console.print(table("framework", judged, lambda v: [v.variant.framework]))
    unsafe = sum(verdict.detail.startswith(UNSAFE) for verdict in judged)
    mended = [verdict.mended for verdict in judged if verdict.mended is not None]
    console.print(
        f"{len(found) - len(judged)} could not be made; {unsafe} refused as unsafe; what notes say mends {sum(mended)} of {len(mended)} tried"
    )
    return 1 if any(verdict.verdict in BAD for verdict in judged) else 0


if __name__ == "__main__":
    sys.exit(main())
