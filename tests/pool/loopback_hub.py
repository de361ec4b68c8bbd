"""A Hub on this machine with one data set, owner/name: as much of the protocol as the clients use to read it."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "train.jsonl": b'{"prompt": "ask", "response": "tell"}\n',
}


class LoopbackHub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        about, files = "/api/datasets/owner/name", "/datasets/owner/name/resolve/"
        if path == about or path.startswith(f"{about}/revision/"):
            siblings = [{"rfilename": name} for name in FILES]
            self._say(200, {"id": "owner/name", "sha": COMMIT, "siblings": siblings, "tags": []})
        elif path.startswith(f"{about}/tree/"):
            self._say(200, [_entry(name) for name in FILES])
        elif path.startswith(f"{about}/paths-info/"):
            self._say(200, [_entry(name) for name in parse_qs(asked.decode()).get("paths", []) if name in FILES])
        elif path.startswith(files) and (name := path.removeprefix(files).split("/", 1)[1]) in FILES:
            self._send(200, FILES[name], {"ETag": f'"{_entry(name)["oid"]}"', "X-Repo-Commit": COMMIT})
        elif path.startswith(files):
            self._say(404, {}, {"X-Error-Code": "EntryNotFound"})
        else:
            self._say(404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_POST = do_GET

    def _say(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), {**(headers or {}), "Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _entry(name: str) -> dict[str, object]:
    content = FILES[name]
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"type": "file", "path": name, "size": len(content), "oid": oid}
