"""A package to the Hub: plan, one commit, read back.

What is to change is worked out first, from hashes; the commit carries the parent it was
planned on, so that nobody's work is overwritten unseen.  A commit is all or nothing, and
planning again after a failure finds out whether it went through.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from converter.core.errors import ConverterError, Unavailable, VerificationFailed
from converter.core.files import scratch
from converter.core.model import Images
from converter.core.progress import Progress, shown_in_notebooks
from converter.core.shorthand import taken
from converter.core.source import AnySource, Source
from converter.fetch.hub_client import Transient, api, check_name, speaking
from converter.publish.expectations import CARD, PLACEHOLDER, REQUIRED
from converter.publish.package import Order, package
from converter.publish.plan import Change, Content, Remote, download_file, hash_of, look, plan
from converter.publish.provenance import PROVENANCE, Recorded, changed, fingerprint_in, read_provenance, to_text
from converter.publish.recipe import Recipe

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TRIES = 3
PAUSE = 2.0
"""Seconds before another try."""
MAIN = "main"
REFERENCE = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
"""Names of branches and tags."""

T = TypeVar("T")


@dataclass(frozen=True)
class Push:
    """What :func:`push` did, or would do.

    Attributes:
        repo, revision: where to.
        created: whether the repository did not exist.
        changes: every file of the package, and files of an earlier one that go.
        commit: the commit (40 hexadecimal digits) that holds it; None for a dry run.
        url: of the commit or pull request.
        committed: whether a commit was made.
        fingerprint, there: of the package's weights, and of those that an earlier package had put there; empty where
            nothing says it.
    """

    repo: str
    revision: str
    created: bool
    changes: Sequence[Change]
    commit: str | None = None
    url: str = ""
    committed: bool = False
    tag: str | None = None
    fingerprint: str = ""
    there: str = ""

    def __repr__(self) -> str:
        done = f"commit {self.commit}" if self.commit else "nothing committed"
        return f"Push({self.repo!r}, {len(self.changes)} files, {done})"

    @property
    def weights(self) -> str:
        """How the package's weights compare with those that were there, in words; empty where nothing says it."""
        if not (self.fingerprint and self.there):
            return ""
        if self.fingerprint == self.there:
            return f"these are the weights already there (fingerprint {self.there})"
        return f"other weights than those there (fingerprint {self.fingerprint}; there {self.there})"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return asdict(self)


class CommitOptions(TypedDict, total=False):
    """The fields of a :class:`Commit` as keywords."""

    private: bool
    create_pr: bool
    branch: str | None
    tag: str | None
    message: str | None


@dataclass(frozen=True)
class Commit:
    """How a package is committed.

    Attributes:
        private: create the repository as private.
        create_pr: open a pull request instead of committing.
        branch: commit to this branch, made from main if it does not exist.
        tag: name the commit so.
        message: first line of the commit.

    Raises:
        ConverterError: it is no name of a branch or tag, or a pull request is to have one.

    Example:
        >>> from converter import Commit
        >>> Commit(private=True, message="The digits").private
        True
    """

    private: bool = False
    create_pr: bool = False
    branch: str | None = None
    tag: str | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        if self.create_pr and (self.branch is not None or self.tag is not None):
            raise ConverterError("a pull request goes to main and has no tag; leave out --branch and --tag")
        for option, name in (("--branch", self.branch), ("--tag", self.tag)):
            if name is not None and (not REFERENCE.fullmatch(name) or ".." in name or name.endswith((".lock", "."))):
                raise ConverterError(f"{option} {name!r}: not a name; use letters, digits and - _ . /")


class PushOptions(CommitOptions, Order, total=False):
    """The fields of a :class:`Commit`, and of the records that :func:`converter.package` takes, as keywords."""


def push(
    source: AnySource,
    repo: str,
    *,
    recipe: Recipe | None = None,
    images: Images | None = None,
    commit: Commit | None = None,
    dry_run: bool = False,
    progress: Progress = shown_in_notebooks,
    **options: Unpack[PushOptions],
) -> Push:
    """Publish a package as one commit; files of others in the repository are left alone.

    Files that an earlier package put there and this one does not have are deleted, if
    nobody has changed them since.

    Args:
        source: the folder of a package (:func:`converter.package`), or a checkpoint, which is packaged first.
        repo: ``owner/name``; created if it does not exist.
        recipe, images: what goes into the package of a checkpoint.
        commit: how it is committed.
        dry_run: only work out what would change.
        progress: called with a line before each step.
        options: the fields of these records as keywords.

    Raises:
        VerificationFailed: the folder, or what the Hub returns, is not what provenance.json says.
        Unavailable: no token, no right, no network, or somebody else committed meanwhile.
        ConverterError: one of the other kinds.  Nothing is half published.

    Example:
        >>> from converter import push
        >>> push("repository", "me/digits").committed
        True
        >>> push("repository", "me/digits").weights
        'these are the weights already there (fingerprint 3d74d80477f4009c)'
    """
    check_name(repo)
    how = replace(commit or Commit(), **taken(options, CommitOptions))
    folder = Path(str(Source.of(source).address))
    if (folder / PROVENANCE).is_file():
        return _push(folder, repo, how, dry_run, progress)
    with scratch() as temporary:
        folder = temporary / "package"
        package(source, folder, recipe=recipe, images=images, repo=repo, progress=progress, **taken(options, Order))
        return _push(folder, repo, how, dry_run, progress)


def _push(folder: Path, repo: str, how: Commit, dry_run: bool, progress: Progress) -> Push:
    """The same of a package, tried again where that may help."""
    contents = _contents(folder, repo)
    client = api()
    _check_token(needed=not dry_run)

    def attempt() -> Push:
        progress(f"looking at {repo}")
        remote = look(client, repo, how.branch)
        changes, there = plan(client, repo, remote, contents)
        own = fingerprint_in((folder / PROVENANCE).read_bytes())
        branch = how.branch or MAIN
        planned = Push(repo, branch, not remote.exists, changes, tag=how.tag, fingerprint=own, there=there)
        if dry_run:
            return planned
        if not remote.exists:
            _validate(repo, contents[CARD])
        _prepare(client, repo, remote, how, changes)
        if not remote.exists:
            # Planned once more on what is there now: the commit is then refused if somebody comes between.
            remote = look(client, repo, how.branch)
            planned = replace(planned, changes=plan(client, repo, remote, contents)[0])
            if any(change.foreign for change in planned.changes):
                raise Unavailable(f"{repo}: somebody else committed meanwhile; nothing was changed, run again")
        return _commit(client, planned, remote, contents, how, progress)

    # A pull request may have been opened although the answer was lost; another try would open a second.
    done = _patiently(attempt, 1 if how.create_pr else TRIES)
    if dry_run:
        return done
    if done.committed:
        progress("reading back")
        try:
            _read_back(repo, done, contents)
        except Unavailable as error:
            raise Unavailable(
                f"{error} (the commit is made: {done.url}; run again to compare it by its hashes)"
            ) from error
    if how.tag is not None:
        _patiently(partial(_tag, client, repo, how.tag, done.commit))
    return done


def _tag(client: HfApi, repo: str, tag: str, commit: str | None) -> None:
    with speaking(repo, f"tagging it {tag}"):
        client.create_tag(repo, tag=tag, revision=commit, exist_ok=True)


def _contents(folder: Path, repo: str) -> dict[str, Content]:
    """The files to publish by their path.  The card may have been edited, and learns the repository's name."""
    recorded = read_provenance(folder)
    wrong = {name: why for name, why in changed(folder, recorded).items() if name != CARD or why == "missing"}
    if wrong:
        first = ", ".join(f"{name} ({why})" for name, why in list(wrong.items())[:3])
        raise VerificationFailed(f"{folder}: not as packaged: {first}; package it again")
    if missing := [name for name in REQUIRED if name not in recorded]:
        raise VerificationFailed(f"{folder}: its {PROVENANCE} does not list {missing[0]}; package it again")
    contents: dict[str, Content] = {name: folder / name for name in recorded}
    values = json.loads((folder / PROVENANCE).read_bytes())
    if values.get("repository", repo) != repo:
        raise ConverterError(
            f"{folder}: its card speaks of {values['repository']}; package it with --repo {repo}, or without --repo"
        )
    try:
        card = (folder / CARD).read_text("utf-8").replace(PLACEHOLDER, repo).encode()
    except UnicodeDecodeError as error:
        raise ConverterError(f"{folder / CARD}: not UTF-8, as cards are") from error
    values["files"][CARD] = asdict(Recorded(hashlib.sha256(card).hexdigest(), len(card)))
    return contents | {CARD: card, PROVENANCE: to_text(values)}


def _check_token(needed: bool) -> None:
    from huggingface_hub import get_token  # noqa: PLC0415 (slow to import)

    token = get_token()
    if needed and not token:
        raise Unavailable("no Hugging Face token: log in with hf auth login, or set HF_TOKEN")
    if token and not (token.isascii() and token.isprintable()):
        raise Unavailable("the Hugging Face token has characters no token has; copy it again, or hf auth login")


def _prepare(client: HfApi, repo: str, remote: Remote, how: Commit, changes: Sequence[Change]) -> None:
    """Create the repository and the branch where they are missing; refuse a tag that is taken."""
    private, branch, tag = how.private, how.branch, how.tag
    if not remote.exists:
        with speaking(repo, "creating it"):
            client.create_repo(repo, private=private, exist_ok=True)
    elif private:
        with speaking(repo, "looking at it"):
            if not client.model_info(repo).private:
                raise ConverterError(f"{repo}: exists and is public; change that on its page, or leave out --private")
    if branch and not remote.has_branch:
        with speaking(repo, f"creating the branch {branch}"):
            client.create_branch(repo, branch=branch, exist_ok=True)
    if tag and remote.exists:
        with speaking(repo, "reading its tags"):
            taken = {ref.name: ref.target_commit for ref in client.list_repo_refs(repo).tags}
        moves = any(change.action not in ("same", "keep") for change in changes)
        if tag in taken and (moves or taken[tag] != remote.commit):
            raise ConverterError(f"{repo}: has a tag {tag} already, on another commit; choose another name")


def _validate(repo: str, card: Content) -> None:
    """Ask the Hub whether it accepts the card, as the commit will, before there is a repository that stays empty."""
    from huggingface_hub import RepoCard  # noqa: PLC0415 (slow to import)
    from yaml import YAMLError  # noqa: PLC0415 (huggingface_hub's own)

    assert isinstance(card, bytes)
    with speaking(repo, "validating the card"):
        try:
            RepoCard(card.decode(), ignore_metadata_errors=True).validate(repo_type="model")
        except (ValueError, YAMLError) as error:
            raise ConverterError(
                f"{repo}: the Hub does not accept the card's metadata; look at the top of {CARD}, and at the licence"
            ) from error


def _commit(
    client: HfApi,
    planned: Push,
    remote: Remote,
    contents: Mapping[str, Content],
    how: Commit,
    progress: Progress,
) -> Push:
    """All changes as one commit on the revision they were planned on; none if nothing changes."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete  # noqa: PLC0415 (slow to import)

    repo = planned.repo
    operations: list[Any] = []
    for change in planned.changes:
        if change.action in ("add", "replace"):
            content = contents[change.path]
            source = content if isinstance(content, bytes) else str(content)
            operations.append(CommitOperationAdd(path_in_repo=change.path, path_or_fileobj=source))
        elif change.action == "delete":
            operations.append(CommitOperationDelete(path_in_repo=change.path))
    if not operations:
        return replace(planned, commit=remote.commit)
    progress(f"uploading {len(operations)} files to {repo}")
    with speaking(repo, "committing"):
        done = client.create_commit(
            repo,
            operations,
            commit_message=how.message or "DenseNet: weights, ONNX, card and proofs",
            revision=None if how.create_pr else planned.revision,
            create_pr=how.create_pr,
            parent_commit=remote.commit,
        )
    where = done.pr_url if how.create_pr else done.commit_url
    revision = done.pr_revision if how.create_pr else planned.revision
    return replace(planned, revision=revision, commit=done.oid, url=where or "", committed=True)


def _read_back(repo: str, done: Push, contents: Mapping[str, Content]) -> None:
    """Download what was published and compare it.

    Raises:
        VerificationFailed: the Hub returns something else.
    """
    pull_request = re.fullmatch(r"refs/pr/\d+", done.revision)
    revision = done.revision if pull_request else done.commit
    with scratch() as folder:
        for path, content in sorted(contents.items()):
            found = _patiently(partial(download_file, repo, path, revision, folder))
            if hash_of(found, "sha256") != hash_of(content, "sha256"):
                raise VerificationFailed(f"{repo}: the Hub returns another {path} than was published; push again")


def _patiently(work: Callable[[], T], tries: int = TRIES) -> T:
    """What may be tried again without harm is."""
    for attempt in range(1, tries):
        try:
            return work()
        except Transient:
            time.sleep(PAUSE * attempt)
    return work()
