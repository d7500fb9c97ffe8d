"""A stand-in for the Hugging Face Hub: enough of it, over real HTTP, for the real client.

It answers what huggingface_hub, timm and transformers ask when they publish and load a
model, keeps repositories in memory, and can be told to fail: with a status, a lost
connection, or slowness, on requests of one's choice.

    with Hub() as hub:
        subprocess.run([...], env=os.environ | hub.environment(tmp_path))
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from helpers.web import QuietServer

TOKEN = "hf_a-secret-that-nobody-may-ever-see"
LFS = re.compile(r"\.(safetensors|onnx|bin|pth|h5)$")
"""What the server stores by SHA-256, as the Hub's .gitattributes says."""
START = "0" * 39 + "1"


@dataclass
class Repo:
    """Commits are whole trees: path to content."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {START: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": START})
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, tag, pull request or commit."""
        if revision in self.commits:
            return revision
        return self.branches.get(revision) or self.tags.get(revision) or self.pulls.get(revision)

    @property
    def files(self) -> dict[str, bytes]:
        """The tree of main."""
        return self.commits[self.branches["main"]]


@dataclass
class Fault:
    """What goes wrong on requests whose ``METHOD /path`` matches, so many times; -1: always."""

    pattern: str
    status: int = 0
    drop: bool = False
    """Close the connection after the request's first bytes were read."""
    after: bool = False
    """Do what was asked, then fail: the client cannot know that it worked."""
    delay: float = 0.0
    times: int = 1
    then: Callable[[], None] | None = None
    body: bytes | None = None
    """Answer this, instead of an error that tells the token."""


class Hub:
    """The server.  ``repos``, ``lfs``, ``faults`` and ``requests`` may be read and changed at any time."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.may_write = True
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = QuietServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """What a client's process needs; ``home`` is its private cache."""
        values = {
            "HF_ENDPOINT": self.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "DENSENET_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        return values | ({"HF_TOKEN": token} if token else {"HF_TOKEN": ""})

    def add(self, repo: str, files: dict[str, bytes]) -> str:
        """Commit files to main behind everybody's back; creates the repository."""
        with self.lock:
            found = self.repos.setdefault(repo, Repo())
            return commit(found, "main", found.files | files, "by somebody else")


def commit(repo: Repo, branch: str, tree: dict[str, bytes], message: str) -> str:
    """A new commit; its name follows from content and history, as in git."""
    parent = repo.branches.get(branch, START)
    text = parent + "".join(f"{path}:{hashlib.sha256(data).hexdigest()}" for path, data in sorted(tree.items()))
    oid = hashlib.sha1(text.encode()).hexdigest()
    repo.commits[oid] = tree
    repo.branches[branch] = oid
    repo.messages.append(message)
    return oid


def git_name(data: bytes) -> str:
    """git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 (the names http.server calls)

    # -- dispatch ------------------------------------------------------------------

    def answer(self) -> None:
        parts = urlsplit(self.path)
        self.route, self.query = parts.path, parse_qs(parts.query)
        line = f"{self.command} {unquote(parts.path)}"
        with self.hub.lock:
            self.hub.requests.append(line)
            fault = next((f for f in self.hub.faults if f.times and re.search(f.pattern, line)), None)
            if fault:
                fault.times -= 1
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.then:
            fault.then()
        if fault and not fault.after and (fault.drop or fault.status):
            self.fail(fault)
            return
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            self.body = self.chunks()
        if fault and fault.after:
            self.muted = True
            with self.hub.lock:
                self.dispatch()
            self.muted = False
            self.fail(fault)
            return
        with self.hub.lock:
            self.dispatch()

    muted = False

    def fail(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.drop:
            self.rfile.read1(1000) if self.command in ("POST", "PUT") and not fault.after else None
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            return
        if not fault.after:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault.body is not None:
            self.send(fault.status, body=fault.body)
            return
        self.send(fault.status, {"error": f"fault {fault.status}, and your token is {TOKEN}"})

    def chunks(self) -> bytes:
        result = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            result += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return result

    def dispatch(self) -> None:
        for method, pattern, function in ROUTES:
            found = re.fullmatch(pattern, self.route)
            if found and self.command in method.split("|"):
                function(self, **{k: unquote(v) for k, v in found.groupdict().items() if v is not None})
                return
        self.send(404, {"error": f"no such page: {self.command} {self.route}"})

    def send(self, status: int, value: Any = None, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        if self.muted:
            return
        data = body if value is None else json.dumps(value).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        try:
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
        except OSError:
            self.close_connection = True

    def json(self) -> Any:
        return json.loads(self.body)

    # -- who may what --------------------------------------------------------------

    def knows(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def may_write(self) -> bool:
        if not self.knows():
            self.send(401, {"error": "Invalid username or password."})
        elif not self.hub.may_write:
            self.send(403, {"error": "You don't have the rights to create or change this."})
        else:
            return True
        return False

    def repo(self, repo: str) -> Repo | None:
        found = self.hub.repos.get(repo)
        if found is None or (found.private and not self.knows()):
            self.send(404 if self.knows() else 401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        return found

    def at(self, repo: str, revision: str) -> tuple[Repo, str] | None:
        found = self.repo(repo)
        if found is None:
            return None
        oid = found.resolve(revision)
        if oid is None:
            self.send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return None
        return found, oid

    # -- pages ---------------------------------------------------------------------

    def create(self) -> None:
        if not self.may_write():
            return
        asked = self.json()
        repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
        url = f"{self.hub.url}/{repo}"
        if repo in self.hub.repos:
            self.send(409, {"error": "You already created this model repo", "url": url})
            return
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.hub.repos[repo] = Repo(private=private)
        self.send(200, {"url": url, "name": repo, "id": "1"})

    def who(self) -> None:
        if self.knows():
            self.send(200, {"type": "user", "name": "me", "orgs": [], "auth": {"type": "access_token"}})
        else:
            self.send(401, {"error": "Invalid username or password."})

    def validate(self) -> None:
        import yaml

        found = re.match(r"---\n(.*?)\n---\n", self.json()["content"], re.S)
        errors = []
        try:
            values = yaml.safe_load(found[1]) if found else {}
            if not isinstance(values, dict):
                errors.append({"message": "the metadata must be a mapping"})
            elif "license" in values and not re.fullmatch(r"[a-z0-9.-]+", values["license"]):
                errors.append({"message": '"license" must be one of ...'})
            elif "model-index" in values and not all(m["results"] and m["name"] for m in values["model-index"]):
                errors.append({"message": "model-index"})
        except yaml.YAMLError as error:
            errors.append({"message": str(error)})
        self.send(400 if errors else 200, {"errors": errors, "warnings": []})

    def preupload(self, repo: str, revision: str) -> None:
        place = self.may_write() and self.at(repo, revision)
        if not place:
            return
        tree = place[0].commits[place[1]]
        files = []
        for file in self.json()["files"]:
            lfs = bool(LFS.search(file["path"])) or file["size"] > 10_000_000
            data = tree.get(file["path"])
            oid = None if data is None else hashlib.sha256(data).hexdigest() if lfs else git_name(data)
            mode = "lfs" if lfs else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.send(200, {"files": files})

    def batch(self, repo: str) -> None:
        if not self.may_write():
            return
        objects = []
        for wanted in self.json()["objects"]:
            answer: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.lfs:
                href = f"{self.hub.url}/lfs/{wanted['oid']}"
                answer["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            objects.append(answer)
        self.send(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self.send(400, {"error": "not the promised content"})
            return
        self.hub.lfs[oid] = self.body
        self.send(200, {})

    def verify(self, oid: str) -> None:
        good = len(self.hub.lfs.get(oid, b"")) == self.json()["size"]
        self.send(200 if good else 404, {})

    def commit(self, repo: str, revision: str) -> None:
        place = self.may_write() and self.at(repo, revision)
        if not place:
            return
        found, head = place
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        header, tree = {}, dict(found.commits[head])
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header":
                header = value
            elif key == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.hub.lfs:
                    self.send(400, {"error": f"{value['path']} was never uploaded"})
                    return
                tree[value["path"]] = self.hub.lfs[value["oid"]]
            elif key == "deletedFile":
                del tree[value["path"]]
        if header.get("parentCommit") not in (None, head):
            self.send(412, {"error": "A commit has happened since. Please refresh and try again."})
            return
        answer = {}
        if "create_pr" in self.query:
            number = len(found.pulls) + 1
            branch = f"refs/pr/{number}"
            found.branches[branch] = head
            oid = commit(found, branch, tree, header["summary"])
            found.pulls[branch] = found.branches.pop(branch)
            answer["pullRequestUrl"] = f"{self.hub.url}/{repo}/discussions/{number}"
        else:
            oid = commit(found, revision, tree, header["summary"])
        self.send(
            200, {"commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}", "success": True, **answer}
        )

    def info(self, repo: str, revision: str = "main") -> None:
        place = self.at(repo, revision)
        if not place:
            return
        found, oid = place
        names = [{"rfilename": path} for path in sorted(found.commits[oid])]
        self.send(200, {"_id": "1", "id": repo, "modelId": repo, "sha": oid, "private": found.private, "gated": False,
                        "disabled": False, "tags": [], "downloads": 0, "likes": 0, "siblings": names})  # fmt: skip

    def tree(self, repo: str, revision: str) -> None:
        place = self.at(repo, revision)
        if not place:
            return
        entries = []
        for path, data in sorted(place[0].commits[place[1]].items()):
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_name(data)}
            if LFS.search(path):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        self.send(200, entries)

    def resolve(self, repo: str, revision: str, path: str) -> None:
        place = self.at(repo, revision)
        if not place:
            return
        found, oid = place
        data = found.commits[oid].get(path)
        if data is None:
            self.send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid})
            return
        etag = hashlib.sha256(data).hexdigest() if LFS.search(path) else git_name(data)
        headers = {"X-Repo-Commit": oid, "ETag": f'"{etag}"', "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            end = int(asked[2]) + 1 if asked[2] else len(data)
            headers["Content-Range"] = f"bytes {asked[1]}-{end - 1}/{len(data)}"
            self.send(206, headers=headers, body=data[int(asked[1]) : end])
        else:
            self.send(200, headers=headers, body=data)

    def refs(self, repo: str) -> None:
        found = self.repo(repo)
        if found is None:
            return

        def listed(refs: dict[str, str], kind: str) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": oid} for n, oid in refs.items()]

        tags = listed(found.tags, "tags")
        self.send(200, {"branches": listed(found.branches, "heads"), "converts": [], "tags": tags})

    def make_branch(self, repo: str, revision: str) -> None:
        found = self.may_write() and self.repo(repo)
        if not found:
            return
        asked = json.loads(self.body or b"{}")
        start = found.resolve(asked.get("startingPoint", "main"))
        if revision in found.branches:
            self.send(409, {"error": "Reference already exists"})
            return
        found.branches[revision] = start or START
        self.send(201, {})

    def make_tag(self, repo: str, revision: str) -> None:
        place = self.may_write() and self.at(repo, revision)
        if not place:
            return
        name = self.json()["tag"]
        if name in place[0].tags:
            self.send(409, {"error": "Tag reference exists already"})
            return
        place[0].tags[name] = place[1]
        self.send(201, {})


REPO = r"(?P<repo>[^/]+/[^/]+)"
SET = r"(?P<repo>datasets/[^/]+/[^/]+)"
REVISION = r"(?P<revision>[^/]+)"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("POST", r"/api/repos/create", _Handler.create),
    ("GET", r"/api/whoami-v2", _Handler.who),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{REPO}/preupload/{REVISION}", _Handler.preupload),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.upload),
    ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/verify", _Handler.verify),
    ("POST", rf"/api/models/{REPO}/commit/{REVISION}", _Handler.commit),
    ("GET", rf"/api/models/{REPO}/refs", _Handler.refs),
    ("POST", rf"/api/models/{REPO}/branch/{REVISION}", _Handler.make_branch),
    ("POST", rf"/api/models/{REPO}/tag/{REVISION}", _Handler.make_tag),
    ("GET", rf"/api/models/{REPO}/tree/{REVISION}", _Handler.tree),
    ("GET", rf"/api/models/{REPO}/revision/{REVISION}", _Handler.info),
    ("GET", rf"/api/models/{REPO}", _Handler.info),
    ("GET", rf"/api/{SET}/revision/{REVISION}", _Handler.info),
    ("GET", rf"/api/{SET}", _Handler.info),
    ("GET|HEAD", rf"/{SET}/resolve/{REVISION}/(?P<path>.+)", _Handler.resolve),
    ("GET|HEAD", rf"/{REPO}/resolve/{REVISION}/(?P<path>.+)", _Handler.resolve),
]
