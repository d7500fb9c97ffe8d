"""Help on a terminal of 80 by 40: it fits, or is grouped in panels that do, and names the next step."""

from __future__ import annotations

import pytest
from helpers.command import run

from converter.cli.app import VERBS

SCREEN = (80, 40)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_a_screen_or_is_grouped(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(SCREEN[0]))
    lines = run(*filter(None, [verb]), "--help").stdout.rstrip().splitlines()
    assert max(map(len, lines)) <= SCREEN[0]
    panels = [i for i, line in enumerate(lines) if line.endswith(":") and not line.startswith(" ")]
    if len(lines) > SCREEN[1]:
        assert len(panels) > 2
        assert max(end - start for start, end in zip(panels, [*panels[1:], len(lines)])) <= SCREEN[1]
    assert ("Next: densenet" if verb else "Try: densenet") in "\n".join(lines[-3:])
