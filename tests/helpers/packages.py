"""What tests of packages share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LABELS = [f"class {i}" for i in range(5)]


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
