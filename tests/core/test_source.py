"""A source: its shorthand, what it refuses, how it may be shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from converter import ConverterError, Source
from converter.core.source import is_url, shown


def test_an_address_is_a_source_of_which_nothing_else_is_said() -> None:
    for address in ("a.pth", Path("a.pth")):
        assert Source.of(address) == Source(address)
        assert Source.of(address).is_plain


def test_a_source_stays_what_it_is() -> None:
    source = Source("a.pth", "timm", "ema", ("x*",), {"eps": 1e-3})
    assert Source.of(source) is source
    assert not source.is_plain


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"layout": "timm"}, Source("a.pth", "timm")),
        ({"weights": "ema"}, Source("a.pth", weights="ema")),
        ({"drop": ["x*", "y"]}, Source("a.pth", drop=("x*", "y"))),
        ({"drop": (glob for glob in ["x*"])}, Source("a.pth", drop=("x*",))),
        ({"settings": {"eps": 1e-3}}, Source("a.pth", settings={"eps": 1e-3})),
        ({"settings": None}, Source("a.pth")),
        ({"layout": None, "weights": None, "drop": (), "settings": {}}, Source("a.pth")),
    ],
)
def test_keywords_are_its_fields(said: Any, expected: Source) -> None:
    assert Source.of("a.pth", **said) == expected


def test_keywords_beside_a_source_beat_what_it_says_and_leave_the_rest() -> None:
    source = Source("a.pth", "timm", "ema", ("x*",), {"eps": 1e-3})
    assert Source.of(source, layout="library") == Source("a.pth", "library", "ema", ("x*",), {"eps": 1e-3})
    assert Source.of(source, drop=()) == Source("a.pth", "timm", "ema", (), {"eps": 1e-3})
    assert Source.of(source, settings=None) == Source("a.pth", "timm", "ema", ("x*",))
    assert source.layout == "timm"


def test_a_setting_that_does_not_exist_is_refused_where_it_is_said() -> None:
    for make in (lambda said: Source("a.pth", settings=said), lambda said: Source.of("a.pth", settings=said)):
        with pytest.raises(ConverterError, match=r"wings: not a setting; settings are .*eps"):
            make({"eps": 1e-3, "wings": 2})
        with pytest.raises(ConverterError, match="growth_rate: not a setting"):  # shapes tell
            make({"growth_rate": 4})


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("models/a.pth", "models/a.pth"),
        (Path("a.pth"), "a.pth"),
        ("https://host/a.pth?X-Signature=s3cret", "https://host/a.pth"),
        ("https://me:s3cret@host/a.pth#part", "https://host/a.pth"),
        ("hf://owner/name@main/a.pth", "hf://owner/name@main/a.pth"),
        ("https://[s3cret/a.pth", "https://..."),
    ],
)
def test_what_is_shown_has_no_secrets(address: str | Path, text: str) -> None:
    assert shown(address) == str(Source(address)) == text


def test_addresses_on_the_web() -> None:
    assert is_url("https://host/a")
    assert is_url("http://host/a")
    assert not is_url("hf://owner/name")
    assert not is_url(Path("https:/host"))
