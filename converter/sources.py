"""Where a checkpoint comes from: a path, a URL, a Hub repository, or a name of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converter.address import is_url, shown
from converter.errors import UnreadableFile
from converter.formats import complete


@dataclass(frozen=True)
class Place:
    """A local file and what its origin says about it.

    Attributes:
        path: the file.
        name: the source as people know it: file name, URL (without what may be secret in it), ``hf://``
            address, zoo name.
        preprocess: what images go through, where the origin says so.
        settings: config fields the origin states and no tensor shows.
    """

    path: Path
    name: str
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def resolve(source: str | Path) -> Place:
    """The local file for a source; URLs, ``hf://`` addresses and zoo names are downloaded once and cached.

    Raises:
        UnreadableFile: there is no such file, and no model of that name.
        Unavailable: it cannot be downloaded.
    """
    text = str(source)
    if is_url(text):
        from converter.download import fetch  # noqa: PLC0415 (urllib and ssl, for few)

        return Place(fetch(text), shown(text))
    if text.startswith("hf://"):
        from converter.hub.source import fetch_hub  # noqa: PLC0415 (huggingface_hub, for few)

        found = fetch_hub(text)
        return Place(found.path, found.name, found.preprocess)
    try:
        path = complete(Path(source))
        if path.exists():
            return Place(path, path.name)
    except (OSError, ValueError) as error:  # too long, or with a null character
        raise UnreadableFile(f"{shown(source)[:100]}: not a name of a file") from error
    return _from_zoo(text)


def _from_zoo(name: str) -> Place:
    from densenet.zoo import zoo_model  # noqa: PLC0415 (Pillow, for few)

    try:
        model = zoo_model(name)
    except ValueError as error:
        from converter.hub.client import REPO  # noqa: PLC0415 (for this message)

        looks_like_path = "/" in name or "\\" in name or "." in Path(name).name
        hint = f"; for the Hugging Face Hub write hf://{name}" if REPO.fullmatch(name) else ""
        why = hint if looks_like_path else f", and {error}"
        raise UnreadableFile(f"{shown(name)}: no such file{why}") from error
    from converter.download import fetch  # noqa: PLC0415

    path = fetch(model.url, sha256_prefix=model.sha256_prefix, name=model.name)
    settings = {"stem_pool": model.config.stem_pool, "transition_pool": model.config.transition_pool}
    return Place(path, model.name, model.preprocess.to_dict(), settings)
