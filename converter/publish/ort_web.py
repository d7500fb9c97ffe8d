"""ONNX Runtime Web, which computes in browsers: its version, its files and their hashes, where pages load it from."""

import re
from urllib.parse import urlsplit

from converter.core.errors import ConverterError

RUNTIME = "1.30.0"
"""The version of ONNX Runtime Web (npm: onnxruntime-web) that the hashes below are of."""
PLACE = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{RUNTIME}/dist/"
"""A public server of npm packages, which gives each version's files as they were published."""
FILES = (
    ("ort.wasm.bundle.min.mjs", "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG"),
    ("ort-wasm-simd-threaded.wasm", "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM"),
)
"""The code, and the binary that it runs, with their hashes."""


def check_place(place: str) -> str:
    """Where ONNX Runtime Web is: an address, or a path from the page; the same with a slash at its end.

    Raises:
        ConverterError: it is neither.
    """
    url = urlsplit(place)
    known = url.scheme in ("http", "https") if url.netloc else not url.scheme
    if not known or not re.fullmatch(r"[\w.:/@%+~-]+", place, re.ASCII):
        raise ConverterError(f"{place}: neither an http address nor a path from the page, of ONNX Runtime Web")
    return place if place.endswith("/") else f"{place}/"
