"""One file from the web into the cache: resumed when interrupted, checked before it is used.

While a file is incomplete it is called ``NAME.part`` and sits beside its final place.
What lets a later run append to it safely, the server's ETag or date, is in ``NAME.part.tag``.
"""

import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from converter.core import bounds
from converter.core.errors import CannotWrite, Unavailable, UnreadableFile
from converter.core.hashing import sha256_of
from converter.core.source import shown

if sys.platform != "win32":
    import fcntl

TIMEOUT = 30.0
"""Seconds without an answer, or without a byte, after which a connection counts as lost."""
TRIES = 3
PAUSE = 1.0
"""Seconds between two tries."""
CHUNK = 1 << 18
FORGOTTEN = 7 * 24 * 3600.0
"""Seconds after which an incomplete file that nobody went on with is removed."""
BAR_AFTER = 1.0
"""Seconds after which a progress bar is shown."""


class _BrokenOffError(Exception):
    """The connection broke; another try can go on from there."""


def cache_folder() -> Path:
    """``$DENSENET_HOME``, or ``densenet-converter`` in ``$XDG_CACHE_HOME`` (default ``~/.cache``).

    Raises:
        CannotWrite: nobody says where home is.
    """
    try:
        if home := os.environ.get("DENSENET_HOME"):
            return Path(home).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "densenet-converter"
    except RuntimeError as error:
        raise CannotWrite("no home folder to keep downloads in; set DENSENET_HOME to a folder") from error


def cached_path(url: str) -> Path:
    """Where :func:`download` keeps the file of that URL: its own name after 128 bits of a hash of the whole URL."""
    last = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    # The front goes when the name is too long for a file system: the suffix says what the file is.
    name = re.sub(r"[^A-Za-z0-9._-]", "_", last)[-100:] or "file"
    return cache_folder() / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}-{name}"


def is_offline() -> bool:
    """Whether ``DENSENET_OFFLINE`` or ``HF_HUB_OFFLINE`` forbids the network (1, true, yes or on)."""
    return _is_on("DENSENET_OFFLINE") or _is_on("HF_HUB_OFFLINE")


def is_wanted_again(address: str) -> bool:
    """Whether ``DENSENET_REFRESH`` asks for another download though the file is there; once a process."""
    wanted = _is_on("DENSENET_REFRESH") and not is_offline() and address not in _REFRESHED
    _REFRESHED.add(address)
    return wanted


_REFRESHED = set[str]()


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in ("1", "true", "yes", "on")


def download(url: str, *, sha256_prefix: str | None = None, name: str | None = None, progress: bool = True) -> Path:
    """The file of that URL, from the cache or from the network.

    Args:
        url: an http or https address.
        sha256_prefix: how the file's SHA-256 starts, in hexadecimal.  With it a damaged
            cached file is noticed and downloaded again.
        name: what the progress bar and the errors call the file; default its own name.
        progress: show a bar on stderr, if that is a terminal and it takes more than a second.

    Returns:
        path of the complete file in the cache (see :func:`cached_path`).

    Raises:
        Unavailable: not found, not allowed, no network, too large, or interrupted too often.
        UnreadableFile: what arrived has another hash; it is removed.
        CannotWrite: the cache cannot be written to, or the disk is full.
    """
    try:
        parts = urlsplit(url)
        allowed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        allowed = False
    if allowed and "@" in parts.netloc:
        raise Unavailable(
            f"{shown(url)}: user names and passwords in addresses are not sent; download the file elsewhere"
        )
    if not allowed:
        raise Unavailable(f"{shown(url)}: only http and https addresses are downloaded; for a local file give its path")
    sha256_prefix = sha256_prefix.lower() if sha256_prefix else None
    target = cached_path(url)
    name = name or target.name.partition("-")[2]
    try:
        again = is_wanted_again(url)
        if not again and _is_good(target, sha256_prefix):
            return target
        if is_offline():
            state = "the cached copy is damaged" if target.exists() else "not in the cache"
            raise Unavailable(f"{name}: {state}, and offline mode is on; unset DENSENET_OFFLINE and HF_HUB_OFFLINE")
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        with _locked_part(target, name) as (part, file):
            if not again and _is_good(target, sha256_prefix):
                _forget(part)  # another process has finished it while this one waited
                return target
            tag = Path(f"{part}.tag")
            _download(url, file, tag, name=name, hash_known=sha256_prefix is not None, progress=progress)
            file.flush()
            os.fsync(file.fileno())
            found = sha256_of((part,)) if sha256_prefix else ""
            if sha256_prefix and not found.startswith(sha256_prefix):
                _forget(part)
                raise UnreadableFile(
                    f"{shown(url)}: SHA-256 starts with {found[: len(sha256_prefix)]}, expected {sha256_prefix}; "
                    "the file is removed, run again, and if that does not help the file at that address has changed"
                )
            tag.unlink(missing_ok=True)
            if sys.platform == "win32":
                file.close()  # open files cannot be renamed there
            part.replace(target)
    except OSError as error:
        what = error.strerror or str(error)
        raise CannotWrite(f"{target}: {what}; make room there, or set DENSENET_HOME to another folder") from error
    return target


def _is_good(path: Path, sha256_prefix: str | None) -> bool:
    return path.is_file() and (sha256_prefix is None or sha256_of((path,)).startswith(sha256_prefix))


def _forget(part: Path) -> None:
    """Removes an incomplete file; only for who holds its lock."""
    part.unlink(missing_ok=True)
    Path(f"{part}.tag").unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove incomplete files that nobody goes on with."""
    if sys.platform == "win32":
        return
    for part in folder.glob("*.part"):
        with suppress(OSError):
            if time.time() - part.lstat().st_mtime > FORGOTTEN:  # of a link its own age
                with part.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    _forget(part)


@contextmanager
def _locked_part(target: Path, name: str) -> Iterator[tuple[Path, BinaryIO]]:
    """The incomplete file, open for appending, with every other process kept out."""
    if sys.platform == "win32":
        # No lock survives renaming there, so each process has its own file, and none is resumed later.
        part = Path(f"{target}.{os.getpid()}.part")
        with part.open("ab") as file:
            yield part, file
        return
    part = Path(f"{target}.part")
    while True:
        with part.open("ab") as file:
            _lock(file, name)
            # Whoever held the lock may have renamed or removed what this process had opened.
            if not _is_at(part, file):
                continue
            try:
                yield part, file
            finally:
                file.flush()
                if _is_at(part, file) and not part.stat().st_size:
                    _forget(part)  # nothing arrived
            return


def _is_at(path: Path, file: BinaryIO) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False


def _lock(file: BinaryIO, name: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if sys.stderr.isatty():
            print(f"{name}: waiting for another process that is downloading it", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return  # a file system without locks: the hash still protects what is used


def _download(url: str, file: BinaryIO, tag: Path, *, name: str, hash_known: bool, progress: bool) -> None:
    """Completes the open incomplete file."""
    for attempt in range(1, TRIES + 1):
        try:
            validator = tag.read_text(encoding="ascii", errors="replace").strip() if tag.exists() else ""
            size = os.fstat(file.fileno()).st_size
            if size and not validator and not hash_known:
                size = file.truncate(0)  # nothing would tell the rest of another version from the rest of this one
            with _open(url, size, validator) as response:
                start, total = _place(response, size)
                _check_size(url, total or 0, file)
                if start == 0:
                    if size:
                        file.truncate(0)
                    validator = _validator(response)
                    tag.write_text(validator, encoding="ascii", errors="replace")
                done = _copy(response, file, start, total, bar=name if progress else None)
                _check_size(url, done, file)
            if total is not None and done < total:
                raise _BrokenOffError(f"{done} of {total} bytes arrived")
            return
        except _BrokenOffError as error:
            file.flush()
            size = os.fstat(file.fileno()).st_size
            if attempt == TRIES:
                keeps = size and (validator or hash_known)
                advice = f"{size} bytes are kept, run again to go on from there" if keeps else "run again"
                raise Unavailable(f"{shown(url)}: the download broke off {TRIES} times ({error}); {advice}") from error
            time.sleep(PAUSE)


def _open(url: str, size: int, validator: str) -> http.client.HTTPResponse:
    """The server's answer to a request for all but the first ``size`` bytes."""
    headers = {"User-Agent": "densenet-converter", "Accept-Encoding": "identity"}
    if size:
        headers["Range"] = f"bytes={size}-"
        if validator:
            headers["If-Range"] = validator
    host = urlsplit(url).hostname
    try:
        request = urllib.request.Request(quote(url, safe="%/:=&?~#+!$,;'@()*[]"), headers=headers)  # noqa: S310 (checked)
        response: http.client.HTTPResponse = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
        return response
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and size:
            # The kept bytes are as many as the file has, or more, so they are not the start of it.
            return _open(url, 0, "")
        raise Unavailable(f"{shown(url)}: {_advice(error)}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError | ConnectionResetError):
            raise _BrokenOffError(_reason(error.reason)) from error
        raise Unavailable(
            f"{shown(url)}: cannot reach {host} ({_reason(error.reason)}); check the network, "
            "or download the file elsewhere and give its path"
        ) from error
    except (http.client.InvalidURL, ValueError):  # of a redirect, too
        raise Unavailable(f"{shown(url)}: not a valid address") from None  # the original quotes all of it
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(_reason(error)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https back to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and not (scheme == "http" and req.type == "http"):
            raise Unavailable(f"{shown(req.full_url)}: redirects to {shown(newurl)}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _advice(error: urllib.error.HTTPError) -> str:
    if error.code in (404, 410):
        return f"not found (HTTP {error.code}); check the address"
    if error.code in (401, 403):
        return f"access denied (HTTP {error.code}); download it where you are logged in and give its path"
    if error.code == 429 or error.code >= 500:
        return f"the server is in trouble (HTTP {error.code}); try again later"
    return f"the server refuses (HTTP {error.code}, {_reason(error.reason)}); check the address"


def _reason(error: object) -> str:
    """What went wrong, in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def _validator(response: http.client.HTTPResponse) -> str:
    """What If-Range may hold: a strong ETag, or else the date (RFC 9110, section 13.1.5)."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _place(response: http.client.HTTPResponse, size: int) -> tuple[int, int | None]:
    """Where the answer's first byte belongs (0 or ``size``), and the length of the whole file if known."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", response.headers.get("Content-Range", "").strip())
        if not match or int(match[1]) != size:
            raise Unavailable(
                f"{shown(response.url)}: the server answers with another part than asked for; try again later"
            )
        start = size
    else:
        start = 0
    return start, None if response.length is None else start + response.length


def _check_size(url: str, size: int, file: BinaryIO) -> None:
    """Refuse what is no checkpoint of ours by its size; nothing of it stays.

    Raises:
        Unavailable: it is too large.
    """
    if size > bounds.DOWNLOAD:
        file.truncate(0)
        raise Unavailable(
            f"{shown(url)}: larger than {bounds.DOWNLOAD >> 30} GB; if that is right, download it elsewhere and give "
            "its path"
        )


def _copy(response: http.client.HTTPResponse, file: BinaryIO, done: int, total: int | None, *, bar: str | None) -> int:
    """Appends the answer to the file; returns how long the file is now, complete or not.

    ``bar`` is the progress bar's text, None for no bar.
    """
    started = time.monotonic()
    advance: Any = None
    with ExitStack() as stack:
        while done <= bounds.DOWNLOAD and (chunk := _read(response)):
            file.write(chunk)
            done += len(chunk)
            if bar and advance is None and sys.stderr.isatty() and time.monotonic() - started > BAR_AFTER:
                advance = stack.enter_context(_bar(bar, total))
            if advance is not None:
                advance(done)
    file.flush()
    return done


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(_reason(error)) from error


@contextmanager
def _bar(name: str, total: int | None) -> Iterator[Any]:
    """A progress bar on stderr; yields what sets it to a number of bytes."""
    from rich.console import Console  # noqa: PLC0415 (slow to import, and most runs show no bar)
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda done: bar.update(task, completed=done)
