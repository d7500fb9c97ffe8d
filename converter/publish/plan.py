"""What a push would change, worked out from hashes before anything is written."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from converter.core.errors import Unavailable
from converter.core.files import scratch
from converter.fetch.hub_client import speaking
from converter.publish.provenance import PROVENANCE, Recorded, fingerprint_in, parse_provenance

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Content = Path | bytes


@dataclass(frozen=True)
class Change:
    """What happens to one file.

    Attributes:
        path, action: which, and what.
        size: the new one in bytes, 0 for a deletion.
        foreign: what is there is by somebody else, or was edited since it was pushed.
    """

    path: str
    action: Literal["add", "replace", "delete", "keep", "same"]
    size: int
    foreign: bool = False


@dataclass(frozen=True)
class Remote:
    """A revision of the repository: its commit, and for each file the hash it is stored under."""

    commit: str | None
    files: Mapping[str, tuple[str, str]]
    exists: bool
    has_branch: bool


def look(client: HfApi, repo: str, branch: str | None) -> Remote:
    """What is in the repository now; of a branch that does not exist yet, what it will be made from."""
    from huggingface_hub import RepoFile  # noqa: PLC0415 (slow to import)
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError  # noqa: PLC0415

    has_branch = True
    with speaking(repo, "looking at it"):
        try:
            info = client.model_info(repo, revision=branch)
        except RevisionNotFoundError:
            has_branch = False
            try:
                info = client.model_info(repo)
            except RevisionNotFoundError:
                return Remote(None, {}, True, False)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return Remote(None, {}, False, False)
        if not info.sha:
            raise Unavailable(f"{repo}: the answer is not a Hub's; is HF_ENDPOINT right?")
        files = {}
        for item in client.list_repo_tree(repo, recursive=True, revision=info.sha):
            if isinstance(item, RepoFile):
                files[item.path] = ("sha256", item.lfs.sha256) if item.lfs else ("git", item.blob_id)
    return Remote(info.sha, files, True, has_branch)


def plan(client: HfApi, repo: str, remote: Remote, contents: Mapping[str, Content]) -> tuple[list[Change], str]:
    """What happens to each file of the package, and to files an earlier package put there and this one lacks.

    Returns:
        the changes, and the fingerprint of the weights that are there; empty where nothing says it.
    """
    changes = []
    with scratch() as folder:
        former, fingerprint = former_package(repo, remote, folder)

        def untouched(path: str) -> bool:
            """Whether a file is as an earlier package put it there."""
            kind, stored = remote.files[path]
            if path in former and kind != "sha256":
                stored = hash_of(download_file(repo, path, remote.commit, folder), "sha256")
            return path in former and stored == former[path].sha256

        for path, content in sorted(contents.items()):
            size = len(content) if isinstance(content, bytes) else content.stat().st_size
            stored = remote.files.get(path)
            if stored is None:
                changes.append(Change(path, "add", size))
            elif hash_of(content, stored[0]) == stored[1]:
                changes.append(Change(path, "same", size))
            else:
                ours = untouched(path) if path != PROVENANCE else bool(former)
                changes.append(Change(path, "replace", size, foreign=not ours))
        outdated = sorted(set(former) & set(remote.files) - set(contents))
        for path in outdated:
            ours = untouched(path)
            changes.append(Change(path, "delete" if ours else "keep", 0, foreign=not ours))
    return changes, fingerprint


def former_package(repo: str, remote: Remote, folder: Path) -> tuple[dict[str, Recorded], str]:
    """What an earlier package says it put there, and the fingerprint of its weights; nothing if there was none."""
    if PROVENANCE not in remote.files:
        return {}, ""
    text = download_file(repo, PROVENANCE, remote.commit, folder).read_bytes()
    try:
        return parse_provenance(text), fingerprint_in(text)
    except ValueError:
        return {}, ""


def download_file(repo: str, path: str, revision: str | None, folder: Path) -> Path:
    """One file of a revision, into a folder that is thrown away."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 (slow to import)

    with speaking(repo, f"reading back {path}"):
        return Path(hf_hub_download(repo, path, revision=revision, cache_dir=folder))


def hash_of(content: Content, kind: str) -> str:
    """SHA-256, or git's name of a blob."""
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        start = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        return hashlib.file_digest(file, lambda: start).hexdigest()
