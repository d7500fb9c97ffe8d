"""A checkpoint's address, and how it is to be read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack
from urllib.parse import urlsplit, urlunsplit

from converter.core.errors import ConverterError
from converter.core.held import Content, Held
from converter.core.nearest import meant
from densenet.config import SETTINGS

OF_HEAD = re.compile(r"heads\.([\w-]+)\.head")
"""The setting that is of one of several heads."""


class Reading(TypedDict, total=False):
    """The fields of a :class:`Source` as keywords, which functions that read a checkpoint take as shorthand."""

    layout: str | None
    weights: str | None
    drop: Iterable[str]
    head: str | None
    settings: Mapping[str, Any] | None


@dataclass(frozen=True)
class Source:
    """A checkpoint and how to read it.

    Attributes:
        address: a path, ``https://`` URL, ``hf://`` address or zoo name; or what is in memory: a state dict of torch
            tensors or numpy arrays, a ``torch.nn.Module``, a Keras model, bytes, a file opened in binary mode, or a
            model that was loaded.
        layout: skip recognition and take this layout: its name, or a ``.toml`` file.
        weights: which set of weights, where a file has several: its place, as ``inspect``
            names it (``state_dict_ema``).
        drop: glob patterns of keys to leave out.
        head: which head, where a network has several: its module's name, ``heads.age`` or ``age``.
        settings: config fields no tensor shows, e.g. ``{"stem_pool": "blur"}``; the layers of one of several heads
            are ``{"heads.age.head": ("relu",)}``.
        made: what is recorded in all that is made of it, beside its SHA-256: the hash of how that was asked for.

    Raises:
        ConverterError: a setting that does not exist, or something that is no source.

    Example:
        >>> from converter import Source, load
        >>> load(Source("digits.pth", settings={"global_pool": "max"})).config.global_pool
        'max'
    """

    address: str | Path | Held
    layout: str | None = None
    weights: str | None = None
    drop: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    head: str | None = None
    made: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.address, str | Path | Held):
            address = Path(os.fspath(self.address)) if isinstance(self.address, os.PathLike) else Held(self.address)
            object.__setattr__(self, "address", address)
        unknown = [name for name in self.settings if name not in SETTINGS and not OF_HEAD.fullmatch(name)]
        if unknown:
            near = meant(unknown[0], SETTINGS)
            raise ConverterError(f"{unknown[0]}: not a setting; settings are {', '.join(SETTINGS)}{near}")

    @classmethod
    def of(cls, source: AnySource, **reading: Unpack[Reading]) -> Source:
        """A source from an address, another source or what is in memory, and what is said beside it.

        Raises:
            ConverterError: a setting that does not exist, or something that is no source.
        """
        base = source if isinstance(source, Source) else cls(source)  # type: ignore[arg-type]  # made a Held there
        if not reading:
            return base
        return replace(
            base,
            layout=reading.get("layout", base.layout),
            weights=reading.get("weights", base.weights),
            drop=tuple(reading.get("drop", base.drop)),
            settings=reading.get("settings", base.settings) or {},
            head=reading.get("head", base.head),
        )

    def settings_of(self, head: str) -> dict[str, Any]:
        """The settings for one of several heads, by its name, as those of the plain network it is."""
        own = {"head": self.settings[name]} if (name := f"heads.{head}.head") in self.settings else {}
        return {name: value for name, value in self.settings.items() if name in SETTINGS} | own

    @property
    def is_plain(self) -> bool:
        """Whether nothing is said but the address."""
        return self == Source(self.address)

    def how(self) -> str:
        """How it is read, in words; empty if nothing is said but the address."""
        drop, settings = (
            ", ".join(self.drop),
            {k: ",".join(v) if k.endswith("head") else v for k, v in self.settings.items()},
        )
        said = {"layout": self.layout, "weights": self.weights, "drop": drop, "of the heads": self.head, **settings}
        return ", ".join(f"{name} {value}" for name, value in said.items() if value)

    def __str__(self) -> str:
        return shown(self.address)


AnySource = str | Path | Source | Content
"""What functions that read a checkpoint take."""


def is_url(address: object) -> bool:
    """Whether an address is one on the web."""
    return str(address).startswith(("http://", "https://"))


def shown(address: object) -> str:
    """An address as messages, reports and files may name it: no user, password or query, where secrets are."""
    text = str(address)
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:  # a damaged address may still hold a secret
        return text.partition("://")[0] + "://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
