"""Dead links in our Markdown: files that are not there, and headings that no page has.  python tools/links.py"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def pages() -> list[Path]:
    """All pages of the project."""
    return sorted([*HOME.glob("*.md"), *HOME.glob("docs/**/*.md")])


def anchor(heading: str) -> str:
    """What a heading is called in a link, by GitHub and by mkdocs."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", text).strip())


def dead_links(path: Path) -> Iterator[str]:
    """Links of a page to nowhere inside the project; addresses elsewhere are not looked at."""
    for target in LINK.findall(CODE.sub("", FENCED.sub("", path.read_text("utf-8")))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, place = target.partition("#")
        file = path if not name else (path.parent / name).resolve()
        if not file.exists():
            yield f"{path.relative_to(HOME)}: {target}: there is no such file"
        elif path.is_relative_to(HOME / "docs") and not file.is_relative_to(HOME / "docs"):
            yield f"{path.relative_to(HOME)}: {target}: is not part of the site"
        elif place and place not in map(anchor, HEADING.findall(FENCED.sub("", file.read_text("utf-8")))):
            yield f"{path.relative_to(HOME)}: {target}: there is no such heading"


def main() -> int:
    """All of them, a line each."""
    found = [line for path in pages() for line in dead_links(path)]
    sys.stdout.writelines(f"{line}\n" for line in found)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
