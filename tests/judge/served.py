"""An endpoint on loopback that answers as a test says, down to the bytes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = "It follows.\nrefusal: 0\nconvincing: 5\nspecific: 4\n"


def completion(content: Any = GOOD, *, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion with this content."""
    return {
        "choices": [{"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 70, "completion_tokens": 9},
    }


def refusal(message: str, **fields: Any) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, **fields}}


class Scripted:
    """Answers the n-th request by `respond(n, body)`: a value for JSON, a status with one, or raw bytes of a body with
    a status and headers. What was asked is written down.
    """

    def __init__(self, respond: Callable[[int, dict[str, Any]], Any]) -> None:
        self.respond, self.bodies, self.keys = respond, [], []
        self.lock = threading.Lock()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.keys.append(handler.headers.get("Authorization"))
        response = self.respond(number, body)
        if response is None:  # the connection is lost without a word
            handler.close_connection = True
            return
        status, payload, headers = (*response, {}, {})[:3] if isinstance(response, tuple) else (200, response, {})
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)


@contextmanager
def served(endpoint) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            with suppress(BrokenPipeError, ConnectionResetError):  # who asked has left
                endpoint.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
