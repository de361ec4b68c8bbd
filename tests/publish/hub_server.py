"""A Hub on this machine: as much of the Hugging Face Hub's protocol as a client needs to make, fill and read data sets.

Written from what huggingface_hub 2.4 sends. Commits are whole trees in memory; large files go by LFS, keyed by SHA-256.
What goes wrong is set on the server: `at[3] = "cut"` closes the connection instead of answering the third request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

WRITER, READER, STRANGER = "hf_writer-of-owner", "hf_reader-of-owner", "hf_stranger"
ORGS = [{"name": "team", "roleInOrg": "write"}, {"name": "club", "roleInOrg": "read"}]
USERS = {
    WRITER: {"name": "owner", "auth": {"accessToken": {"role": "write"}}, "orgs": ORGS},
    READER: {"name": "owner", "auth": {"accessToken": {"role": "read"}}, "orgs": []},
    STRANGER: {"name": "stranger", "auth": {"accessToken": {"role": "write"}}, "orgs": []},
}


@dataclass
class Commit:
    parent: str | None
    title: str
    files: dict[str, bytes]

    @property
    def sha(self) -> str:
        told = [self.parent, self.title, {name: blob(content) for name, content in sorted(self.files.items())}]
        return hashlib.sha1(json.dumps(told).encode()).hexdigest()


@dataclass
class Repo:
    name: str
    kind: str
    private: bool
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    pulls: list[str] = field(default_factory=list)  # titles

    def add(self, ref: str, commit: Commit) -> str:
        self.commits[commit.sha] = commit
        self.refs[ref] = commit.sha
        return commit.sha

    def find(self, revision: str) -> str | None:
        if revision in self.commits:
            return revision
        return next((self.refs[ref] for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
                     if ref in self.refs), None)  # fmt: skip

    @property
    def head(self) -> Commit:
        return self.commits[self.refs["refs/heads/main"]]


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith((".parquet", ".arrow"))


class HubServer(ThreadingHTTPServer):
    """The Hub's state, and what shall go wrong.

    `at`: number of the request, from 0 -> "cut" (the connection is closed before anything is done), "lost" (all is
    done, then it is closed), "half" (half of the answer is sent), or an HTTP status. `down_from`: from this request on
    every connection is closed. `before`: called with the number of each request, before it is handled.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large: dict[str, bytes] = {}
        self.users: dict[str, dict[str, Any]] = dict(USERS)
        self.asked: list[str] = []
        self.at: dict[int, str | int] = {}
        self.down_from: int | None = None
        self.before: Any = None
        self.retry_after: int | None = None
        self.echo_token = False
        self.lock = threading.RLock()

    @property
    def place(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def make(self, name: str, kind: str = "dataset", *, private: bool = True, files: dict[str, bytes] | None = None,
             gated: bool = False) -> Repo:  # fmt: skip
        repo = self.repos[kind, name] = Repo(name, kind, private, gated)
        repo.add(
            "refs/heads/main", Commit(None, "initial commit", {".gitattributes": b"*.parquet lfs\n", **(files or {})})
        )
        return repo

    def calm(self) -> None:
        """Nothing goes wrong any more, and requests are counted from 0 again."""
        self.at, self.down_from, self.before, self.asked = {}, None, None, []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: clients that are cut off are what this server is for."""


class Answered(Exception):
    def __init__(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        self.status, self.body, self.headers = status, body, headers or {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for the client's acknowledgement
    server: HubServer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            body = b"".join(self._chunks())
        place = urlparse(self.path)
        path, query = unquote(place.path), parse_qs(place.query)
        with self.server.lock:
            number = len(self.server.asked)
            self.server.asked.append(f"{self.command} {path}")
        if self.server.before is not None:
            self.server.before(number)
        trouble = self.server.at.get(number)
        if self.server.down_from is not None and number >= self.server.down_from:
            trouble = "cut"
        if trouble == "cut":
            return self._cut()
        if isinstance(trouble, int):
            wait = {} if self.server.retry_after is None else {"Retry-After": str(self.server.retry_after)}
            said = self.headers.get("Authorization", "") if self.server.echo_token else "trouble"
            return self._say(trouble, {"error": said}, {"X-Error-Message": said, **wait})
        try:
            with self.server.lock:
                self._answer(path, query, body)
            raise Answered(404, {"error": "no such page"})
        except Answered as found:
            if trouble == "lost":
                return self._cut()
            return self._say(found.status, found.body, found.headers, half=trouble == "half")

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if path == "/api/whoami-v2":
            raise Answered(200, self._user())
        if path == "/api/validate-yaml":
            content = json.loads(body)["content"]
            bad = re.search(r"^license: \[", content, re.M)
            raise Answered(
                400 if bad else 200,
                {"errors": [{"message": '"license" must be one word'}] if bad else [], "warnings": []},
            )
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if found := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            if hashlib.sha256(body).hexdigest() != found[1]:
                raise Answered(422, {"error": "content and name differ"})
            self.server.large[found[1]] = body
            raise Answered(200, {})
        if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._repo("dataset", found[1], write=True)
            return self._batch(json.loads(body))
        if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(self._repo("dataset", found[1], inside=True), found[2], found[3])
        if found := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(.*))?", path):
            return self._about(found[1], found[2], found[3] or "", query, body)
        return None

    def _about(self, kind: str, name: str, rest: str, query: dict[str, list[str]], body: bytes) -> None:
        verb, _, revision = rest.partition("/")
        if verb in ("preupload", "commit", "tag"):
            repo = self._repo(kind, name, write=True)
            return {"preupload": self._preupload, "commit": self._commit, "tag": self._tag}[verb](
                repo, revision, query, body
            )
        if verb == "refs":
            raise Answered(200, self._refs(self._repo(kind, name)))
        if verb == "discussions":
            raise Answered(200, self._discussions(self._repo(kind, name)))
        if verb in ("", "revision"):
            repo = self._repo(kind, name)
            sha = self._commit_of(repo, revision or "main")
            files = [{"rfilename": path} for path in repo.commits[sha].files]
            raise Answered(
                200,
                {"id": name, "sha": sha, "private": repo.private, "gated": repo.gated, "siblings": files, "tags": []},
            )
        if verb == "tree":
            repo = self._repo(kind, name, inside=True)
            if revision.startswith("refs/pr/"):
                at, folder = revision, ""
            else:
                at, _, folder = revision.partition("/")
            files = repo.commits[self._commit_of(repo, at)].files
            raise Answered(200, tree(files, folder, deep=query.get("recursive", ["false"])[0].lower() == "true"))
        if verb == "paths-info":
            repo = self._repo(kind, name, inside=True)
            files = repo.commits[self._commit_of(repo, revision)].files
            form = json.loads(body) if body[:1] == b"{" else parse_qs(body.decode())
            raise Answered(200, [entry(one, files[one]) for one in form.get("paths", []) if one in files])
        return None

    def _create(self, asked: dict[str, Any]) -> None:
        user = self._user()
        owner = asked.get("organization") or user["name"]
        if not self._may_write(user, owner):
            raise Answered(403, {"error": "no write access"}, {"X-Error-Message": f"You have no rights in {owner}"})
        name, kind = f"{owner}/{asked['name']}", asked.get("type") or "model"
        if (kind, name) in self.server.repos:
            raise Answered(409, {"error": "You already created this repo", "url": f"{self.server.place}/{name}"})
        self.server.make(name, kind, private=asked.get("visibility") == "private" or asked.get("private", False))
        raise Answered(200, {"url": f"{self.server.place}/{kind}s/{name}", "name": name, "id": name})

    def _preupload(self, repo: Repo, revision: str, query: Any, body: bytes) -> None:
        files = repo.commits[self._commit_of(repo, revision)].files
        told = []
        for one in json.loads(body)["files"]:
            here = files.get(one["path"])
            large = is_large(one["path"])
            oid = None if here is None else hashlib.sha256(here).hexdigest() if large else blob(here)
            told.append(
                {"path": one["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}
            )
        raise Answered(200, {"files": told})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for one in asked["objects"]:
            there = one["oid"] in self.server.large
            actions = {} if there else {"actions": {"upload": {"href": f"{self.server.place}/lfs/{one['oid']}"}}}
            objects.append({"oid": one["oid"], "size": one["size"], **actions})
        raise Answered(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repo: Repo, revision: str, query: dict[str, list[str]], body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        head = next(line["value"] for line in lines if line["key"] == "header")
        pull = query.get("create_pr") == ["1"]
        base = self._commit_of(repo, revision)
        parent = head.get("parentCommit")
        if parent is not None and parent != base and not pull:
            raise Answered(412, {"error": "A commit has happened since. Please refresh and try again."})
        files = dict(repo.commits[parent or base].files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.server.large:
                    raise Answered(400, {"error": f"LFS object {value['oid']} was never uploaded"})
                files[value["path"]] = self.server.large[value["oid"]]
            elif line["key"] == "deletedFile" and files.pop(value["path"], None) is None:
                raise Answered(404, {"error": "A file with this name doesn't exist"}, {"X-Error-Code": "EntryNotFound"})
        made = Commit(parent or base, head["summary"], files)
        page = f"{self.server.place}/datasets/{repo.name}"
        if not pull:
            sha = repo.add(f"refs/heads/{revision}", made)
            raise Answered(200, {"success": True, "commitOid": sha, "commitUrl": f"{page}/commit/{sha}"})
        repo.pulls.append(head["summary"])
        sha = repo.add(f"refs/pr/{len(repo.pulls)}", made)
        raise Answered(200, {"success": True, "commitOid": sha, "commitUrl": f"{page}/commit/{sha}",
                             "pullRequestUrl": f"{page}/discussions/{len(repo.pulls)}"})  # fmt: skip

    def _tag(self, repo: Repo, revision: str, query: Any, body: bytes) -> None:
        ref = f"refs/tags/{json.loads(body)['tag']}"
        if ref in repo.refs:
            raise Answered(409, {"error": "Tag already exists"})
        repo.refs[ref] = self._commit_of(repo, revision)
        raise Answered(200, {})

    def _refs(self, repo: Repo) -> dict[str, Any]:
        told: dict[str, Any] = {"branches": [], "tags": [], "converts": []}
        for ref, sha in repo.refs.items():
            kind = {"refs/heads/": "branches", "refs/tags/": "tags"}.get(re.match(r"refs/\w+/", ref)[0])  # type: ignore[index]
            if kind:
                told[kind].append({"name": ref.split("/", 2)[2], "ref": ref, "targetCommit": sha})
        return told

    def _discussions(self, repo: Repo) -> dict[str, Any]:
        told = [
            {"title": title, "num": number, "author": {"name": "owner"}, "createdAt": "2026-01-01T00:00:00.000Z",
             "status": "open", "isPullRequest": True, "repo": {"name": repo.name, "type": repo.kind}}
            for number, title in enumerate(repo.pulls, 1)
        ]  # fmt: skip
        return {"discussions": told, "count": len(told), "start": 0}

    def _resolve(self, repo: Repo, revision: str, path: str) -> None:
        sha = self._commit_of(repo, revision)
        files = repo.commits[sha].files
        if path not in files:
            raise Answered(404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        content = files[path]
        headers = {"ETag": f'"{blob(content)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if is_large(path):
            headers |= {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted:
            start, stop = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            raise Answered(
                206, content[start : stop + 1], {**headers, "Content-Range": f"bytes {start}-{stop}/{len(content)}"}
            )
        raise Answered(200, content, headers)

    def _user(self) -> dict[str, Any]:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in self.server.users:
            raise Answered(
                401,
                {"error": "Invalid credentials"},
                {"X-Error-Message": "Invalid credentials in Authorization header"},
            )
        return self.server.users[token]

    def _may_write(self, user: dict[str, Any], owner: str) -> bool:
        role = {one["name"]: one["roleInOrg"] for one in user["orgs"]} | {user["name"]: "admin"}
        return role.get(owner) in ("admin", "write", "contributor") and user["auth"]["accessToken"]["role"] != "read"

    def _repo(self, kind: str, name: str, *, inside: bool = False, write: bool = False) -> Repo:
        repo = self.server.repos.get((kind, name))
        user = self._user() if self.headers.get("Authorization") else None
        member = user is not None and name.split("/", maxsplit=1)[0] in {
            user["name"],
            *(one["name"] for one in user["orgs"]),
        }
        if repo is None or (repo.private and not member):
            raise Answered(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if repo.gated and inside and not member:
            raise Answered(
                403, {"error": "gated"}, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
            )
        if write and (user is None or not self._may_write(user, name.split("/", maxsplit=1)[0])):
            raise Answered(403, {"error": "no write access"}, {"X-Error-Message": "no write access"})
        return repo

    def _commit_of(self, repo: Repo, revision: str) -> str:
        sha = repo.find(revision)
        if sha is None:
            raise Answered(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return sha

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().strip() or b"0", 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _cut(self) -> None:
        self.close_connection = True
        # With this the kernel sends a reset, as a dropped connection does, and no orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _say(self, status: int, body: Any, headers: dict[str, str], *, half: bool = False) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {} if isinstance(body, bytes) else {"Content-Type": "application/json"}
        self.send_response(status)
        for name, value in {**kind, **headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def entry(path: str, content: bytes) -> dict[str, Any]:
    told: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob(content)}
    if is_large(path):
        told["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return told


def tree(files: dict[str, bytes], folder: str, *, deep: bool) -> list[dict[str, Any]]:
    inside = {path: content for path, content in files.items() if not folder or path.startswith(f"{folder}/")}
    if folder and not inside:
        raise Answered(404, {}, {"X-Error-Code": "EntryNotFound"})
    start = len(folder) + 1 if folder else 0
    folders = {path[: start + at.start()] for path in inside for at in re.finditer("/", path[start:])}
    told = [{"type": "directory", "path": one, "size": 0, "oid": "0" * 40} for one in sorted(folders)]
    told += [entry(path, content) for path, content in sorted(inside.items())]
    return told if deep else [one for one in told if "/" not in one["path"][start:]]


@contextmanager
def serving() -> Iterator[HubServer]:
    server = HubServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
