"""Sets of digits as people keep many images: WebDataset's tars, Parquet files as the Hub has them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from converter.demo.demo import IMAGES

DIGITS = [str(digit) for digit in range(10)]
Digit = tuple[str, str, bytes]
"""A key, a class, and the image's file."""


def images(count: int) -> list[Digit]:
    """Images of the package, over and over, in a mixed order."""
    files = [path for digit in sorted(IMAGES.iterdir()) for path in sorted(digit.iterdir())]
    chosen = [files[i * 37 % len(files)] for i in range(count)]
    return [(f"{i:05d}", path.parent.name, path.read_bytes()) for i, path in enumerate(chosen)]


def tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> Path:
    """A tar of samples: a key, and by ending what the files hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for key, files in samples:
            for ending, data in files.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return path


def sample(digit: Digit, label: str = "cls") -> tuple[str, dict[str, bytes]]:
    """A digit as WebDataset has it."""
    key, name, data = digit
    written = json.dumps({"label": int(name)}).encode() if label == "json" else name.encode()
    return key, {"png": data, label: written}


def tars(folder: Path, every: Sequence[Digit], size: int) -> Path:
    """Shards of so many digits each."""
    for i in range(0, len(every), size):
        tar(folder / f"digits-{i // size:04d}.tar", map(sample, every[i : i + size]))
    return folder


FEATURES = {"image": {"_type": "Image"}, "label": {"names": DIGITS, "_type": "ClassLabel"}}


def parquet(
    path: Path,
    every: Sequence[Digit],
    *,
    features: Mapping[str, Any] | None = None,
    rows: int = 50,
    compression: str = "snappy",
    **more: Sequence[Any],
) -> Path:
    """A Parquet file as ``datasets`` writes it; ``more`` are columns beside image and label."""
    import pyarrow
    from pyarrow import parquet as writer

    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns: dict[str, Any] = {
        "image": pyarrow.array([{"bytes": data, "path": f"{key}.png"} for key, _, data in every], image),
        "label": pyarrow.array([int(name) for _, name, _ in every], pyarrow.int64()),
    }
    table = pyarrow.table({**columns, **more})
    said = {"info": {"features": FEATURES if features is None else features}}
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(said)}),
        path,
        row_group_size=rows,
        compression=compression,
    )
    return path
