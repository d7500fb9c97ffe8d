"""Class names in files of people's own."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from densenet.labels import read_labels

NAMES = ["ash", "beech", "crème"]

FORMS: dict[str, tuple[str, bytes]] = {
    "text": ("l.txt", b"ash\n\n  beech \r\ncr\xc3\xa8me"),
    "a byte order mark": ("l.txt", codecs.BOM_UTF8 + "\n".join(NAMES).encode()),
    "Windows' Unicode": ("l.txt", "\r\n".join(NAMES).encode("utf-16")),
    "a JSON list": ("l.json", json.dumps(NAMES).encode()),
    "a JSON list in a text": ("l.txt", json.dumps(NAMES).encode()),
    "id2label": ("config.json", json.dumps({"id2label": {"2": "crème", "0": "ash", "1": "beech"}}).encode()),
    "class_to_idx": ("l.json", codecs.BOM_UTF8 + json.dumps({"beech": 1, "ash": 0, "crème": 2}).encode()),
    "Keras' index": ("l.json", json.dumps({str(i): [f"n0{i}", name] for i, name in enumerate(NAMES)}).encode()),
    "timm's config": ("config.json", json.dumps({"num_classes": 3, "label_names": NAMES}).encode()),
}
BAD: dict[str, tuple[str, bytes, str]] = {
    "numbers that are missing": ("l.json", b'{"ash": 0, "beech": 2}', "number 1 has no name"),
    "a number that is taken": ("l.json", b'{"ash": 0, "beech": 0}', "a number that is taken"),
    "no names": ("l.json", b"[1, 2]", "a list of names"),
    "damaged JSON": ("l.json", b"[", "does not name classes"),
    "no text": ("l.txt", b"\xff\x00\xfe", "decode"),
}


@pytest.mark.parametrize(("name", "data"), FORMS.values(), ids=FORMS)
def test_names_are_read_however_they_are_written_down(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert read_labels(tmp_path / name) == NAMES


def test_a_name_may_begin_with_a_bracket(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("[unclear]\nash\n")
    assert read_labels(tmp_path / "l.txt") == ["[unclear]", "ash"]


@pytest.mark.parametrize(("name", "data", "why"), BAD.values(), ids=BAD)
def test_what_names_no_classes_is_refused(tmp_path: Path, name: str, data: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=why):
        read_labels(tmp_path / name)
