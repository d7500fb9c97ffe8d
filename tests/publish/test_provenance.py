"""What provenance.json may say."""

from __future__ import annotations

import json

import pytest

from converter.publish.provenance import parse_provenance


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a//b", "a\\b", "C:x", "", "a" * 300])
def test_provenance_cannot_name_files_outside(name: str) -> None:
    text = json.dumps({"kind": "densenet-converter provenance", "files": {name: {"sha256": "0", "size": 1}}})
    with pytest.raises(ValueError, match="no path in a repository"):
        parse_provenance(text.encode())
