"""The pages: no dead links, every verb as its help is, guides that are what they show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import cli_reference, guides, links

HOME = Path(__file__).parents[2]


def test_no_link_is_dead() -> None:
    assert len(links.pages()) > 15
    assert [line for path in links.pages() for line in links.dead_links(path)] == []


def test_dead_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "HOME", tmp_path)
    (tmp_path / "there.md").write_text("# There\n\n## It is `so`\n")
    page = tmp_path / "page.md"
    page.write_text("[a](there.md) [b](there.md#it-is-so) [c](http://x) `[d](e)` [f](gone.md) [g](there.md#gone)")
    assert [line.split(": ")[1] for line in links.dead_links(page)] == ["gone.md", "there.md#gone"]


def test_the_page_of_verbs_is_what_they_say() -> None:
    said = "run python tools/cli_reference.py"
    assert cli_reference.TARGET.read_text("utf-8") == cli_reference.reference(), said


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r"[\w/-]+\.md", (HOME / "mkdocs.yml").read_text("utf-8")))
    there = {path.relative_to(HOME / "docs").as_posix() for path in (HOME / "docs").rglob("*.md")}
    assert named <= there
    assert {name for name in there - named if not name.startswith("reference/")} == set()


GUIDE = """
<!-- python
from pathlib import Path
Path("a.txt").write_text("12 of 13 in 0.5 s")
-->
```python
assert Path("a.txt").exists()
```

```console
$ cat a.txt
99 of 1 in 7 s
$ printf 'one\\n\\ntwo  three\\n'
...
two three
```

<!-- status: 2 -->
```console
$ densenet inspect a.txt
densenet: a.txt: ...
```
"""


def test_a_guide_is_run_and_compared_loosely(tmp_path: Path) -> None:
    page = tmp_path / "guide.md"
    page.write_text(GUIDE)
    assert guides.run(page) == []
    for good, bad in (("99 of 1", "99 off 1"), ("status: 2", "status: 0"), ("two three", "two")):
        page.write_text(GUIDE.replace(good, bad))
        assert len(guides.run(page)) == 1, bad
    page.write_text(GUIDE.replace("99 of 1", "wrong"))
    guides.run(page, update=True)
    assert "12 of 13 in 0.5 s" in page.read_text()
    assert guides.run(page) == []


def test_there_are_nine_stories_and_all_show_what_is_printed() -> None:
    found = sorted(guides.GUIDES.glob("*.md"))
    assert len(found) == 9
    for path in found:
        assert guides.Guide.read(path).blocks, path
