"""The house as CONTRIBUTING.md draws it is the one import-linter guards."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def contract() -> list[str]:
    """The layers of converter's contract, lowest first; peers as ``a | b``."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (layers,) = (c["layers"] for c in settings["contracts"] if c["type"] == "layers")
    return [" ".join(layer.split()) for layer in reversed(layers)]


def picture() -> list[str]:
    """The rooms of the fenced block whose lines begin with them, from ``core`` down to ``cli``."""
    for block in re.findall(r"^```\w*\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M | re.S):
        found = [re.match(r"(\w+(?: \| \w+)*)(?:\s|$)", line) for line in block.splitlines()]
        rooms = [match[1] for match in found if match]
        if rooms and (rooms[0], rooms[-1]) == ("core", "cli"):
            return rooms
    raise AssertionError("CONTRIBUTING.md has no block of rooms from core to cli")


def test_the_picture_is_the_contract() -> None:
    assert picture() == contract()


def test_every_room_is_a_folder_and_every_folder_a_room() -> None:
    rooms = {room for layer in contract() for room in layer.split(" | ")}
    folders = {path.parent.name for path in (ROOT / "converter").glob("*/__init__.py")}
    assert rooms == folders


def test_tests_mirror_the_rooms() -> None:
    rooms = {room for layer in contract() for room in layer.split(" | ")}
    tested = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert tested == rooms | {"densenet", "tools"}
