"""``tools/benchmark.py``: everybody in turn, the ratios of neighbours, and who is left out."""

from __future__ import annotations

import statistics
from pathlib import Path

import benchmark
from benchmark_page import page
from contenders import Contender, Files


def copies(size: int, seconds: float = 0.0) -> list[str]:
    """A command that takes its time and writes so many bytes to its last word."""
    return ["sh", "-c", f'sleep {seconds}; head -c {size} /dev/zero > "$0"']


def contender(key: str, words: list[str], needs: tuple[str, ...] = ()) -> Contender:
    return Contender("export", key, f"the {key} one", needs, lambda _, to: [*words, str(to)])


def test_everybody_runs_in_every_round_and_who_cannot_is_named(tmp_path: Path) -> None:
    those = [
        contender("ours", copies(1000, 0.02)),
        contender("slow", copies(2000, 0.1)),
        contender("absent", copies(1), ("no_such_package",)),
        contender("broken", ["sh", "-c", "echo not today >&2; exit 3"]),
    ]
    skipped: list[str] = []
    ours, slow = benchmark.processes(those, Files(tmp_path, "any"), 3, skipped)
    assert (ours.size, slow.size, len(slow.seconds), len(slow.megabytes), len(slow.processor)) == (1000, 2000, 3, 3, 3)
    assert set(ours.ratios) == {1.0} and statistics.median(slow.ratios) > 1.5
    assert skipped == ["the absent one (export): no_such_package not installed", "the broken one (export): not today"]
    text = page({"export": [ours, slow]}, skipped, ["- a machine"], "how", tmp_path / "b.md")
    assert "| the ours one |" in text and "| the slow one |" in text and "not today" in text
    assert (tmp_path / "b" / "export.svg").read_text().count("<rect") == 3
