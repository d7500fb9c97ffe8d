"""Talking to the Hub through huggingface_hub: quietly, and with errors in one line.

A token is never part of an error: messages are made here from the status and the name
of the repository, not from what the client or the server says.
"""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from converter.core.errors import CannotWrite, ConverterError, Unavailable

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NETWORK_MODULES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
"""Where the errors of the clients' transports live; huggingface_hub has changed it twice."""
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Transient(Unavailable):
    """It may work when tried again: a lost connection, or a server in trouble."""


def api() -> HfApi:
    """The client.  Its progress bars are for terminals, its warnings for its own developers."""
    from huggingface_hub import HfApi  # noqa: PLC0415 (slow to import)
    from huggingface_hub.utils import disable_progress_bars, logging  # noqa: PLC0415 (slow to import)

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()
    return HfApi(library_name="densenet-converter")


def check_name(repo: str) -> None:
    """Refuse what cannot be a repository's name.

    Raises:
        ConverterError: it is not of the form owner/name.
    """
    if not REPO.fullmatch(repo) or ".." in repo or "--" in repo or len(repo) > 193:
        raise ConverterError(f"{repo}: not a name of a repository; write OWNER/NAME, letters, digits and - _ . only")


@contextmanager
def speaking(repo: str, doing: str) -> Iterator[None]:
    """Turns whatever goes wrong inside into one line that says what to do.

    Raises:
        Transient: worth another try.
        Unavailable: not found, not allowed, somebody else was faster, or no network.
        CannotWrite: the disk is full.
    """
    try:
        yield
    except ConverterError:
        raise
    except Exception as error:
        explained = _explained(error, repo, doing)
        if explained is None:
            raise
        # The original may quote requests with their headers, so it is not chained.
        raise explained from None


def _explained(error: Exception, repo: str, doing: str) -> ConverterError | None:
    from huggingface_hub import errors  # noqa: PLC0415 (slow to import)

    where = f"{repo}: {doing}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return Unavailable(f"{where}: offline mode is on; unset HF_HUB_OFFLINE")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return Unavailable(f"{where}: not in the cache, and the Hub cannot be reached or offline mode is on")
    if isinstance(error, errors.GatedRepoError):
        return Unavailable(f"{where}: the repository is gated; ask for access on its page, then log in (hf auth login)")
    if isinstance(error, errors.RevisionNotFoundError):
        return Unavailable(f"{where}: no such branch, tag or commit")
    if isinstance(error, errors.EntryNotFoundError):
        return Unavailable(f"{where}: no such file in the repository")
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return Unavailable(
            f"{where}: not found, or your token may not see it; check the name, and log in (hf auth login, or HF_TOKEN)"
        )
    if status is not None:
        return _of_status(status, where)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return CannotWrite(f"{where}: the disk is full ({error.filename or 'temporary files'}); make room, run again")
    if type(error).__module__.partition(".")[0] in NETWORK_MODULES or isinstance(
        error, (ConnectionError, TimeoutError)
    ):
        return Transient(f"{where}: the connection failed ({type(error).__name__}); check the network, run again")
    if isinstance(error, OSError):
        return CannotWrite(f"{where}: {error.strerror or type(error).__name__} ({error.filename or 'temporary files'})")
    if isinstance(error, errors.HFValidationError):
        return ConverterError(f"{where}: not a valid name")
    if isinstance(error, (LookupError, TypeError, AttributeError, json.JSONDecodeError)):
        return Unavailable(f"{where}: the answer is not a Hub's; is HF_ENDPOINT right?")
    if isinstance(error, (ValueError, RuntimeError)):  # the client's wrappers around a failed upload
        if error.__cause__ is not None and isinstance(error.__cause__, Exception):
            return _explained(error.__cause__, repo, doing)
        return Unavailable(f"{where}: refused by the client or the Hub ({type(error).__name__})")
    return None


STATUS: Mapping[int, str] = {
    400: "the Hub refuses it as invalid (HTTP 400)",
    403: "your token lacks the right to do it; make one that may write, at https://huggingface.co/settings/tokens",
    404: "not found; check the name",
    409: "conflicts with what is there (HTTP 409); look at the repository, run again",
    412: "somebody else committed meanwhile; nothing was changed, run again",
}


def _of_status(status: int, where: str) -> ConverterError:
    if status == 429 or status >= 500:
        return Transient(f"{where}: the Hub is in trouble (HTTP {status}); run again later")
    return Unavailable(f"{where}: {STATUS.get(status, f'the Hub refuses (HTTP {status})')}")
