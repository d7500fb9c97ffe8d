"""Zip files with stored, aligned members and no dates: the same content gives the same bytes."""

from __future__ import annotations

import struct
import zipfile
from typing import IO

ALIGNMENT = 64
HEADER = 30
"""Bytes of a member's header before its name."""
EPOCH = (1980, 1, 1, 0, 0, 0)


class ZipWriter(zipfile.ZipFile):
    """Adds members one by one; each begins at a multiple of 64 bytes, so that it can be mapped."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, "w", zipfile.ZIP_STORED)
        self.target = file

    def add(self, name: str, data: bytes | memoryview) -> None:
        """Add a member."""
        info = zipfile.ZipInfo(name, EPOCH)
        used = self.target.tell() + HEADER + len(name.encode()) + 4
        padding = -used % ALIGNMENT
        info.extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding  # "FB", the id torch uses for padding
        self.writestr(info, data)
