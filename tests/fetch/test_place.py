"""Names of the zoo and addresses as sources; secrets in addresses."""

import hashlib
import os

import pytest
from helpers.web import check_error

from converter.core.errors import Unavailable, UnreadableFile
from converter.fetch import download
from converter.fetch.download import download as fetch


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("DENSENET_OFFLINE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DENSENET_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE", 0.01)
    return tmp_path / "cache"


# -- the way there: a name or an address as the source of a conversion ------------------


def test_a_zoo_name_is_downloaded_checked_and_converted(server, cache, tmp_path, monkeypatch):
    from dataclasses import replace

    from helpers.cases import CASES

    from converter import convert
    from densenet import zoo

    server.data = (CASES / "tv-legacy-old/densenet-legacy-old.pth").read_bytes()
    server.drops = [50_000]  # interrupted once
    published = replace(
        zoo.MODELS[0], name="tiny_in1k", url=server.url, sha256_prefix=hashlib.sha256(server.data).hexdigest()[:8]
    )
    monkeypatch.setitem(zoo._BY_NAME, "tiny_in1k", published)
    done = convert("tiny_in1k", tmp_path / "a.safetensors")
    assert done.model.origin.name == "tiny_in1k"
    assert done.model.origin.layout == "torchvision-legacy"
    assert done.model.images.preprocess == published.preprocess
    assert len(server.requests) == 2
    assert server.sent <= len(server.data) + (1 << 16)
    assert convert("tiny_in1k", tmp_path / "b.safetensors").model.origin == done.model.origin
    assert len(server.requests) == 2  # the second time from the cache
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    monkeypatch.setitem(zoo._BY_NAME, "tiny_in1k", replace(published, sha256_prefix="00000000"))
    with pytest.raises(UnreadableFile, match="00000000"):
        convert("tiny_in1k", tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()


def test_an_address_as_the_source(server, tmp_path):
    from helpers.cases import CASES

    from converter import load

    server.data = (CASES / "tv-legacy-old/densenet-legacy-old.pth").read_bytes()
    assert load(server.url).origin.name == server.url


# -- secrets in addresses ---------------------------------------------------------------


SECRET = "s3cret"


def test_a_query_is_sent_and_never_shown(server, tmp_path):
    from helpers.cases import CASES

    from converter import convert, load

    server.data = (CASES / "tv-legacy-old/densenet-legacy-old.pth").read_bytes()
    signed = f"{server.url}?token={SECRET}#{SECRET}"
    assert load(signed).origin.name == server.url
    convert(signed, tmp_path / "a.safetensors")
    assert SECRET.encode() not in (tmp_path / "a.safetensors").read_bytes()


@pytest.mark.parametrize(
    "fault", ["status", "hash", "drops", "elsewhere", "closed", "garbage", "space", "bracket", "scheme"]
)
def test_no_error_shows_a_secret(server, fault, tmp_path):
    from converter import convert
    from converter.core.errors import ConverterError

    url = f"{server.url}?token={SECRET}"
    if fault == "status":
        server.status = 403
    elif fault == "drops":
        server.drops = [10] * 3
    elif fault == "elsewhere":
        server.redirect = f"ftp://example.org/?token={SECRET}"
    elif fault == "closed":
        url = f"http://127.0.0.1:9/a.pth?token={SECRET}"
    elif fault == "garbage":
        server.data = b"no checkpoint"
    elif fault == "space":
        url = f"http://127.0.0.1:9/a.pth?token={SECRET} \x01{SECRET}"
    elif fault == "bracket":
        url = f"http://[::1/{SECRET}"
    elif fault == "scheme":
        url = f"ftp://me:{SECRET}@example.org/a.pth?{SECRET}"
    with pytest.raises(ConverterError) as caught:
        if fault == "hash":
            fetch(url, sha256_prefix="00000000")
        else:
            convert(url, tmp_path / "a.safetensors")
    assert SECRET not in str(caught.value)


def test_a_password_is_neither_sent_nor_shown(server):
    url = server.url.replace("http://", f"http://me:{SECRET}@")
    assert SECRET not in check_error(Unavailable, url, "user names and passwords", server.url)
    assert not server.requests
