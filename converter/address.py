"""Addresses as they may be shown: no user, password or query, where secrets are."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def is_url(source: object) -> bool:
    """Whether a source is an address on the web."""
    return str(source).startswith(("http://", "https://"))


def shown(source: object) -> str:
    """A source as messages, reports and files may name it."""
    text = str(source)
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:  # a damaged address may still hold a secret
        return text.partition("://")[0] + "://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
