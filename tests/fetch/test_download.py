"""Downloads from a real server on this machine that misbehaves on request."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.web import DATA, OTHER, SHA256, Handler, check_error

from converter.core.errors import CannotWrite, Unavailable, UnreadableFile
from converter.fetch import download
from converter.fetch.download import cache_folder, cached_path, is_offline
from converter.fetch.download import download as fetch


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("DENSENET_OFFLINE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DENSENET_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE", 0.01)
    return tmp_path / "cache"


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# -- the good case --------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [None, SHA256[:8], SHA256, SHA256[:8].upper()])
def test_complete(server, cache, prefix):
    path = fetch(server.url, sha256_prefix=prefix)
    assert path.read_bytes() == DATA
    assert path == cached_path(server.url)
    assert path.parent == cache
    assert path.name.endswith(f"-tiny-{SHA256[:8]}.pth")
    assert files(cache) == [path.name]
    assert "Range" not in server.requests[0]


def test_from_the_cache(server):
    first = fetch(server.url, sha256_prefix=SHA256[:8])
    server.requests.clear()
    assert fetch(server.url, sha256_prefix=SHA256[:8]) == first
    assert fetch(server.url) == first
    assert server.requests == []


def test_damaged_cache(server, cache):
    path = fetch(server.url, sha256_prefix=SHA256[:8])
    path.write_bytes(DATA[:-1])
    assert fetch(server.url, sha256_prefix=SHA256[:8]).read_bytes() == DATA
    assert len(server.requests) == 2
    assert files(cache) == [path.name]


def test_length_unknown(server):
    server.length = False
    assert fetch(server.url).read_bytes() == DATA


def test_empty_file(server, cache):
    server.data = b""
    assert fetch(server.url).read_bytes() == b""
    assert len(files(cache)) == 1


def test_redirect(server):
    other = f"{server.url}.there"
    path = fetch(other)
    path.unlink()
    server.redirect = None
    first = server.url.replace("/models/", "/moved/")

    class Moved(Handler):
        def do_GET(self):  # noqa: N802 (its base class calls it)
            self.server.redirect = other if self.path.startswith("/moved/") else None
            super().do_GET()

    server.RequestHandlerClass = Moved
    assert fetch(first).read_bytes() == DATA
    assert not cached_path(other).exists()


# -- interrupted ----------------------------------------------------------------------


@pytest.mark.parametrize(("etag", "date"), [('"v1"', None), ('W/"v1"', "Thu, 01 Jan 2026 00:00:00 GMT")])
def test_resumed_in_the_same_run(server, cache, etag, date):
    server.etag, server.date = etag, date
    server.drops = [1_000_000]
    assert fetch(server.url).read_bytes() == DATA
    assert [r.get("Range") for r in server.requests] == [None, "bytes=1000000-"]
    assert server.requests[1]["If-Range"] == (date or etag)
    assert server.sent == len(DATA)
    assert len(files(cache)) == 1


def test_resumed_by_the_next_run(server, cache):
    server.drops = [500_000, 500_000, 500_000]
    check_error(Unavailable, server.url, "3 times", "1500000 bytes are kept", "run again")
    part = Path(f"{cached_path(server.url)}.part")
    assert part.read_bytes() == DATA[:1_500_000]
    assert files(cache) == [part.name, f"{part.name}.tag"]
    assert fetch(server.url, sha256_prefix=SHA256[:8]).read_bytes() == DATA
    assert server.requests[-1]["Range"] == "bytes=1500000-"
    assert server.sent == len(DATA)
    assert len(files(cache)) == 1


def test_resumed_without_a_tag_if_the_hash_is_known(server):
    server.etag = None
    server.drops = [1_000_000]
    assert fetch(server.url, sha256_prefix=SHA256[:8]).read_bytes() == DATA
    assert server.requests[1]["Range"] == "bytes=1000000-"
    assert "If-Range" not in server.requests[1]


def test_restarted_if_nothing_identifies_the_file(server):
    server.etag = None
    server.drops = [1_000_000]
    assert fetch(server.url).read_bytes() == DATA
    assert "Range" not in server.requests[1]


def test_restarted_if_the_server_ignores_ranges(server):
    server.ranges = False
    server.drops = [1_000_000]
    assert fetch(server.url, sha256_prefix=SHA256[:8]).read_bytes() == DATA
    assert server.requests[1]["Range"] == "bytes=1000000-"
    assert server.sent == 1_000_000 + len(DATA)


def test_restarted_if_the_file_has_changed(server):
    server.drops = [500_000] * 3
    check_error(Unavailable, server.url, "run again")
    server.data, server.etag = OTHER, '"v2"'
    assert fetch(server.url).read_bytes() == OTHER


def test_restarted_if_more_is_kept_than_exists(server, cache):
    cache.mkdir()
    Path(f"{cached_path(server.url)}.part").write_bytes(DATA + b"more")
    assert fetch(server.url, sha256_prefix=SHA256[:8]).read_bytes() == DATA
    assert len(files(cache)) == 1


def test_part_not_asked_for(server):
    server.drops, server.shift = [1_000_000], 7
    check_error(Unavailable, server.url, "another part")


def test_answer_dropped_before_it_starts(server):
    class Silent(Handler):
        def do_GET(self):  # noqa: N802 (its base class calls it)
            if not self.server.requests:
                self.server.requests.append({})
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            else:
                super().do_GET()

    server.RequestHandlerClass = Silent
    assert fetch(server.url).read_bytes() == DATA


def test_timeout(server, cache, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)

    class Stuck(Handler):
        def do_GET(self):  # noqa: N802 (its base class calls it)
            time.sleep(0.5)

    server.RequestHandlerClass = Stuck
    check_error(Unavailable, server.url, "broke off 3 times", "timed out", "run again")
    assert files(cache) == []


# -- refused --------------------------------------------------------------------------


def test_wrong_hash(server, cache):
    server.data = OTHER
    found = hashlib.sha256(OTHER).hexdigest()[:8]
    check_error(UnreadableFile, server.url, server.url, SHA256[:8], found, sha256_prefix=SHA256[:8])
    assert files(cache) == []


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (404, "not found"),
        (410, "not found"),
        (403, "access denied"),
        (401, "access denied"),
        (500, "later"),
        (503, "later"),
        (429, "later"),
        (418, "418"),
    ],
)
def test_http_errors(server, cache, status, says):
    server.status = status
    check_error(Unavailable, server.url, server.url, str(status), says)
    assert len(server.requests) == 1
    assert files(cache) == []


def test_closed_port(cache):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    check_error(Unavailable, f"http://127.0.0.1:{port}/a.pth", "cannot reach 127.0.0.1", "refused", "check the network")
    assert files(cache) == []


def test_unknown_host(monkeypatch):
    def no_name(*args, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    check_error(Unavailable, "https://models.invalid/a.pth", "cannot reach models.invalid", "Name or service not known")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://h/a.pth", "/etc/passwd", "http://", "https:///a", "http://[::1", "data:,x", ""]
)
def test_other_schemes(url, cache):
    check_error(Unavailable, url, "only http and https")
    assert files(cache) == []


@pytest.mark.parametrize("there", ["file:///etc/passwd", "ftp://127.0.0.1/a"])
def test_redirect_elsewhere(server, cache, there):
    server.redirect = there
    check_error(Unavailable, server.url, there)
    assert files(cache) == []


def test_redirect_from_https_to_http():
    request = download.urllib.request.Request("https://h/a")
    with pytest.raises(Unavailable, match="not followed"):
        download._Redirects().redirect_request(request, None, 302, "", {}, "http://h/a")
    assert download._Redirects().redirect_request(request, None, 302, "", {}, "https://h/b").full_url == "https://h/b"


def test_redirect_loop(server):
    server.redirect = server.url
    check_error(Unavailable, server.url)


@pytest.mark.parametrize("variable", ["DENSENET_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(server, cache, monkeypatch, variable):
    monkeypatch.setenv(variable, "0")
    assert not is_offline()
    monkeypatch.setenv(variable, "1")
    assert is_offline()
    check_error(Unavailable, server.url, "not in the cache", "offline", variable)
    assert server.requests == []
    monkeypatch.delenv(variable)
    path = fetch(server.url, sha256_prefix=SHA256[:8])
    server.requests.clear()
    monkeypatch.setenv(variable, "1")
    assert fetch(server.url, sha256_prefix=SHA256[:8]) == path
    path.write_bytes(b"damaged")
    check_error(Unavailable, server.url, "damaged", "offline", sha256_prefix=SHA256[:8])
    assert server.requests == []


def test_cache_cannot_be_made(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("DENSENET_HOME", str(tmp_path / "file" / "cache"))
    check_error(CannotWrite, server.url, str(tmp_path / "file"), "DENSENET_HOME")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_full(server, cache):
    cache.mkdir()
    Path(f"{cached_path(server.url)}.part").symlink_to("/dev/full")
    check_error(CannotWrite, server.url, "No space left", "make room")


# -- names ----------------------------------------------------------------------------


def test_cache_folder(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("DENSENET_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "densenet-converter"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "densenet-converter"


def test_names_do_not_collide():
    urls = ["https://h/a/model.safetensors", "https://h/b/model.safetensors", "https://h/a/model.safetensors?v=2"]
    names = [cached_path(url).name for url in urls]
    assert len(set(names)) == 3
    assert all(name.endswith("-model.safetensors") for name in names)


@pytest.mark.parametrize("last", ["..", "%2e%2e%2fevil", "a b\n.pth", "", "x" * 500 + ".pth", "é.pth", "."])
def test_names_stay_in_the_folder(last, cache):
    path = cached_path(f"https://h/{last}")
    assert path.parent == cache
    assert path.name.isascii()
    assert len(path.name) < 150


# -- together -------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="each process has its own part there")
def test_two_processes(server, cache):
    server.delay = 0.01
    code = (
        "import sys; from converter.fetch.download import download; "
        "print(download(sys.argv[1], sha256_prefix=sys.argv[2]))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, server.url, SHA256[:8]], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert outputs == {str(cached_path(server.url))}
    assert cached_path(server.url).read_bytes() == DATA
    assert len(server.requests) == 1
    assert files(cache) == [cached_path(server.url).name]


def test_threads(server, cache):
    server.delay = 0.002
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(fetch(server.url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [cached_path(server.url)] * 4
    assert cached_path(server.url).read_bytes() == DATA
    assert len(files(cache)) == 1


# -- progress -------------------------------------------------------------------------


@pytest.mark.parametrize(("terminal", "progress"), [(True, True), (True, False), (False, True)])
def test_progress_bar(server, monkeypatch, capsys, terminal, progress):
    monkeypatch.setattr(download, "BAR_AFTER", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    server.delay = 0.005
    fetch(server.url, name="tiny model", progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("tiny model" in err) == (terminal and progress)


def test_no_bar_when_it_is_quick(server, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fetch(server.url)
    assert capsys.readouterr() == ("", "")
