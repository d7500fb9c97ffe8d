"""Where a checkpoint comes from: a path, a URL, a Hub repository, or a name of the zoo."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converter.core.errors import ConverterError, UnreadableFile
from converter.core.held import Held
from converter.core.source import is_url, shown
from converter.fetch.storage import stored
from densenet.preprocess import Preprocess


@dataclass(frozen=True)
class Place:
    """A local file and what its origin says about it.

    Attributes:
        path: the file.
        name: the source as people know it: file name, URL (without what may be secret in it), ``hf://``
            address, zoo name.
        preprocess: what images go through, where the origin says so.
        settings: config fields the origin states and no tensor shows.
        unproven: whether it was downloaded from where no hash of it is published.
        held: what is in memory, which ``path`` is only a name of, or a temporary file.
    """

    path: Path
    name: str
    preprocess: Preprocess | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    unproven: bool = False
    held: Held | None = None

    @property
    def tree(self) -> Held | None:
        """What is read where it is, in memory; None of a file."""
        return self.held if self.held and self.held.is_tree else None

    @property
    def has_hash(self) -> bool:
        """Whether its bytes are somebody's, and not made to be read here."""
        return self.held is None or self.held.kind == "bytes"

    @contextmanager
    def kept_if_read(self) -> Iterator[None]:
        """Forget a downloaded file that cannot be read: what a server said once is not to stay for ever.

        Raises:
            ConverterError: what the block raises, a temporary file called by its name.
        """
        try:
            yield
        except ConverterError as error:
            if self.held and not self.held.is_tree and str(self.path) in str(error):
                raise type(error)(str(error).replace(str(self.path), self.name)) from error
            if isinstance(error, UnreadableFile) and self.unproven:
                with suppress(OSError):
                    self.path.unlink()
                raise UnreadableFile(f"{error}; it is no longer kept, and the next run downloads it again") from error
            raise


def resolve(address: str | Path | Held) -> Place:
    """The local file of an address; URLs, ``hf://`` addresses and zoo names are downloaded once and cached.

    What is in memory stays there, but the bytes of a file, which become a temporary one.

    Raises:
        UnreadableFile: there is no such file, and no model of that name.
        Unavailable: it cannot be downloaded.
    """
    if isinstance(address, Held):
        from converter.fetch.in_memory import place_of  # noqa: PLC0415 (for few)

        return place_of(address)
    text = str(address)
    if is_url(text):
        from converter.fetch.download import download  # noqa: PLC0415 (urllib and ssl, for few)

        return Place(download(text), shown(text), unproven=True)
    if text.startswith("hf://"):
        from converter.fetch.hub_files import fetch_hub  # noqa: PLC0415 (huggingface_hub, for few)

        return fetch_hub(text)
    try:
        path = complete(Path(address))
        if path.is_dir():
            from converter.fetch.folders import checkpoint_in  # noqa: PLC0415 (for few)

            file = checkpoint_in(path)
            return Place(file, (path.resolve().name / file.relative_to(path)).as_posix())
        if path.exists():
            return Place(path, path.name)
    except (OSError, ValueError) as error:  # too long, or with a null character
        raise UnreadableFile(f"{shown(address)[:100]}: not a name of a file") from error
    if stored(text):
        raise UnreadableFile(f"{shown(stored(text))}: in storage, where only inspect, convert and export read; copy it")
    return _from_zoo(text)


SPELT = 0.8
"""How much of a missing file's name agrees with that of a published model which was meant by it."""


def _from_zoo(name: str) -> Place:
    from densenet.zoo import zoo_model  # noqa: PLC0415 (for few)

    try:
        model = zoo_model(name)
    except ValueError as error:
        from converter.core.nearest import meant  # noqa: PLC0415 (for this message)
        from converter.fetch.hub_client import REPO  # noqa: PLC0415 (for this message)
        from densenet.zoo import names  # noqa: PLC0415 (for this message)

        looks_like_path = "/" in name or "\\" in name or "." in Path(name).name
        hint = f"; for the Hugging Face Hub write hf://{name}" if REPO.fullmatch(name) else ""
        why = hint + meant(name, names(), SPELT) if looks_like_path else f", and {error}"
        raise UnreadableFile(f"{shown(name)}: no such file{why}") from error
    from converter.fetch.download import download  # noqa: PLC0415 (for few)

    path = download(model.url, sha256_prefix=model.sha256_prefix, name=model.name)
    settings = {"stem_pool": model.config.stem_pool, "transition_pool": model.config.transition_pool}
    return Place(path, model.name, model.preprocess, settings)


COMPLETIONS = (".index", ".pdparams", ".pdmodel", ".json", ".pdiparams")
"""Endings of the file that a path without one, as TensorFlow and Paddle name checkpoints, stands for."""


def complete(path: Path) -> Path:
    """The file a path stands for: itself, or with the ending its producer leaves out (``model.ckpt`` + ``.index``)."""
    if path.exists():
        return path
    return next((p for p in (path.with_name(path.name + ending) for ending in COMPLETIONS) if p.is_file()), path)
