"""One exchange with an OpenAI-compatible endpoint: the request, and the meaning of each kind of response.

A response is a reply, a temporary failure (`FailedError`), a refusal of this request (`DeclinedError`), or an error
that every request would meet (JudgeError). A server's messages are shown on one line, without the key and without
quoted judged text.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from curator.errors import JudgeError
from curator.recipe.judge import Rubric
from curator.wording import these

if TYPE_CHECKING:
    import httpx2

Counted = Callable[[tuple[int, int] | None], None]

LARGEST = 2**21  # bytes of a response; larger ones are not graded answers
LONGEST_REASON = 200  # characters of a server's message
_QUOTED = 16  # consecutive letters and digits of the judged text that make a quotation
_OF_KEY = 6  # consecutive characters of the key that must not be shown
_AGAIN = (408, 409, 425, 429)  # timeout, conflict, too early, too many requests: the next try may succeed
_DECLINED = (400, 413, 422)  # bad request, too large, unprocessable: may concern only this answer
_USERS = {401: "the key was refused", 403: "the key has no access", 404: "no such endpoint or model"}
_OF_ANSWER = re.compile(
    r"content.?(filter|policy|management)|moderation|flagged|safety (system|policy)|responsible.?ai"
    r"|context.?(length|window)|maximum context|too long|too many tokens|string_above_max_length",
    re.IGNORECASE,
)
_UNSUPPORTED = re.compile(
    r"unsupport|not.support|unrecogni|unknown|unexpected|not permitted|not allowed|extra|invalid|deprecated"
    r"|must be|should be|does not|only",
    re.IGNORECASE,
)
_REMEDIES = {
    "temperature": "set `temperature: null`, so that none is sent",
    "max_tokens": "set `token_parameter: max_completion_tokens`, or lower `max_new_tokens`",
    "max_completion_tokens": "set `token_parameter: max_tokens`, or lower `max_new_tokens`",
    "model": "check `model`",
}


class FailedError(Exception):
    """An attempt without a reply; another attempt may succeed.

    Attributes:
        pause: Seconds to wait, if the server names them.
        passing: Whether the failure is the server's or the network's. If not, a model gave an empty reply.
    """

    def __init__(self, why: str, pause: float | None = None, *, passing: bool = True) -> None:
        super().__init__(why)
        self.pause, self.passing = pause, passing


class DeclinedError(Exception):
    """The endpoint will not grade this answer, however often it is tried.

    Attributes:
        certain: Whether this concerns only the answer, such as its length or a filter, and not the settings.
        parameter: The request's parameter that the server rejects, if it names one.
        raw: The model's own text, if there is one.
    """

    def __init__(
        self, why: str, *, certain: bool = False, parameter: str | None = None, raw: str | None = None
    ) -> None:
        super().__init__(why)
        self.certain, self.parameter, self.raw = certain, parameter, raw


@dataclass(frozen=True)
class Completion:
    """A reply, and whether it was cut off at the limit of its tokens."""

    text: str
    cut: bool


@dataclass(frozen=True)
class Response:
    """The complete response: at most LARGEST bytes, within the time that the recipe allows."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def request_body(rubric: Rubric, text: str) -> dict[str, object]:
    """The body of a request to grade one answer."""
    body: dict[str, object] = {"model": rubric.model, "messages": [{"role": "user", "content": whole(text)}]}
    if rubric.temperature is not None:
        body["temperature"] = rubric.temperature
    return {**body, rubric.token_parameter: rubric.max_new_tokens}


def post(client: httpx2.Client, rubric: Rubric, body: Mapping[str, object]) -> Response:
    """Sends a request and reads the response.

    Raises:
        FailedError: There is no response, or it is late, incomplete, too large or unreadable.
    """
    import httpx2

    late = f"no complete response within {rubric.timeout:g} s"
    end = time.monotonic() + rubric.timeout
    content = bytearray()
    try:
        with client.stream("POST", f"{rubric.url.rstrip('/')}/chat/completions", json=body) as response:
            for part in response.iter_bytes():
                content += part
                if len(content) > LARGEST:
                    raise FailedError(f"the response exceeds {LARGEST // 2**20} MiB")
                # The client's own limit applies to each part of a response, and a server may send many small parts.
                if time.monotonic() > end:
                    raise FailedError(late)
            return Response(response.status_code, response.headers, bytes(content))
    except httpx2.TimeoutException:
        raise FailedError(late) from None
    except httpx2.ConnectError as error:
        # Nothing has been sent yet that this message could quote.
        raise FailedError(f"the connection failed: {one_line(str(error)) or type(error).__name__}") from None
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        # Only the kind: a message of the client may quote what was sent.
        raise FailedError(f"the connection failed: {type(error).__name__}") from None


def read(response: Response, rubric: Rubric, hidden: Hidden, counted: Counted) -> Completion:
    """The reply of a response.

    Args:
        counted: Called with the endpoint's counts of prompt and reply tokens, or null, once there is a reply.

    Raises:
        FailedError, DeclinedError: See these classes.
        JudgeError: Every request with these settings would fail.
    """
    code, parsed = response.status, _json(response.content)
    error = _error(parsed)
    if 200 <= code < 300 and error and not _choices(parsed):
        # Gateways pass on the failure of the server behind them with their own status.
        if error.status is None:
            raise FailedError(f"the server reports an error ({_status(code, error, hidden)})")
        code = error.status
    if code in _AGAIN or code >= 500:
        raise FailedError(_status(code, error, hidden), _retry_after(response.headers.get("Retry-After")))
    if code in _DECLINED:
        raise _declined(code, error, rubric, hidden)
    if 300 <= code < 400:
        raise JudgeError(
            f"redirects to {_address(response.headers.get('Location'))} (status {code}). curator does not follow "
            "redirects, because it would send the key there; give the final address as url"
        )
    if code >= 400:
        why = _USERS.get(code, "the request was refused")
        raise JudgeError(f"answered with {_status(code, error, hidden)} ({why}); check url, model and key_env")
    choices = _choices(parsed)
    if not choices:
        raise FailedError(f"the reply is not a chat completion: {_shape(parsed, response)}")
    counted(_usage(parsed))  # a reply without text is paid for too
    return _reply(choices[0], rubric, hidden)


@dataclass(frozen=True)
class Hidden:
    """Text that must not be shown from a server's messages: the key and the judged texts."""

    key: str | None
    texts: Sequence[str]

    def shown(self, said: str) -> str:
        """A server's message on one line, without hidden text, cut to LONGEST_REASON."""
        words = one_line(said[: 20 * LONGEST_REASON])
        if self.key:
            parts = {self.key[i : i + _OF_KEY] for i in range(max(1, len(self.key) - _OF_KEY + 1))}
            words = " ".join("[...]" if any(part in word for part in parts) else word for word in words.split(" "))
        for text in self.texts:
            words = _unquoted(words, text)
        return words if len(words) <= LONGEST_REASON else f"{words[:LONGEST_REASON]}..."


def whole(text: str) -> str:
    """The text with lone surrogates and NUL, which files or terminals cannot hold, replaced by U+FFFD."""
    return re.sub("[\ud800-\udfff\0]", "\ufffd", text)


def one_line(text: str) -> str:
    """The text on one line, without control characters."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in whole(text)).split())


def _unquoted(words: str, text: str) -> str:
    """The message without runs of _QUOTED letters and digits that are also in the text."""
    known = "".join(filter(str.isalnum, text)).casefold()
    # White space, punctuation and escapes are ignored, so that a quotation is found in any notation.
    if len(known) < _QUOTED // 2:
        return words
    positions = [i for i, sign in enumerate(words) if sign.isalnum()]
    signs = "".join(words[i] for i in positions).casefold()
    if len(signs) != len(positions):  # a character whose lower case is longer: rare, and compared unchanged
        signs = "".join(words[i] for i in positions)
    size = min(_QUOTED, len(known))
    cut: set[int] = set()
    for start in range(len(signs) - size + 1):
        if signs[start : start + size] in known:
            cut.update(range(positions[start], positions[start + size - 1] + 1))
    kept = "".join("\0" if i in cut else sign for i, sign in enumerate(words))
    return re.sub("\0+", "[...]", kept)


@dataclass(frozen=True)
class _Said:
    """A server's own description of an error; fields that it does not give are empty."""

    message: str = ""
    code: str = ""
    parameter: str = ""
    status: int | None = None


def _error(parsed: object) -> _Said | None:
    if isinstance(parsed, list):  # the form of Google's endpoint
        parsed = parsed[0] if parsed else None
    if not isinstance(parsed, dict):
        return None
    error = parsed.get("error")
    if not error and not any(name in parsed for name in ("detail", "message", "msg")):
        return None
    if isinstance(error, str):
        return _Said(error)
    fields = error if isinstance(error, dict) else parsed
    code, kind, parameter = (fields.get(name) for name in ("code", "type", "param"))
    status = next((int(str(value)) for value in (code, fields.get("status")) if _is_status(value)), None)
    named = " ".join(value for value in (code, kind) if isinstance(value, str))
    return _Said(next(_messages(fields), ""), named, parameter if isinstance(parameter, str) else "", status)


def _is_status(value: object) -> bool:
    return type(value) in (int, str) and re.fullmatch(r"[45][0-9]{2}", str(value)) is not None


def _messages(fields: Mapping[str, object], depth: int = 3) -> Iterator[str]:
    for name in ("message", "detail", "msg", "error"):
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            yield value
        elif isinstance(value, dict) and depth:
            yield from _messages(value, depth - 1)
        elif isinstance(value, list):
            # FastAPI's list of errors; its `input` would be the judged text.
            parts = [part for part in value if isinstance(part, dict) and isinstance(part.get("msg"), str)]
            yield from (f"{_place(part.get('loc'))}{part['msg']}" for part in parts)


def _place(location: object) -> str:
    steps = [str(step) for step in location[:6] if type(step) in (int, str)] if isinstance(location, list) else []
    return f"{'.'.join(steps)}: " if steps else ""


def _status(code: int, error: _Said | None, hidden: Hidden) -> str:
    said = "" if error is None else hidden.shown(error.message or error.code).rstrip(".;:, ")
    return f"status {code}" + (f": {said}" if said else "")


def _declined(code: int, error: _Said | None, rubric: Rubric, hidden: Hidden) -> DeclinedError:
    account = error or _Said()
    words = f"{account.code} {account.message}"
    why = f"the server refused to grade this answer ({_status(code, error, hidden)})"
    # Checked first: a message that names max_tokens may concern only the length of this answer.
    if code == 413 or _OF_ANSWER.search(words):
        return DeclinedError(why, certain=True)
    for name in ("temperature", rubric.token_parameter, "model"):
        named = name != "model" and re.search(rf"(?<!\w){name}(?!\w)", words) and _UNSUPPORTED.search(words)
        if account.parameter == name or named:
            return DeclinedError(
                f"the server rejected the parameter `{name}` ({_status(code, error, hidden)}); {_REMEDIES[name]}",
                parameter=name,
            )
    return DeclinedError(why)


def _address(location: str | None) -> str:
    """Scheme, host and path of a redirect; the rest may hold a secret."""
    try:
        parts = urlsplit(location or "")
        host = parts.hostname or ""
    except ValueError:
        return "an unreadable address"
    shown = one_line(f"{parts.scheme}://{host}{parts.path}" if host else parts.path)
    return shown[:LONGEST_REASON] or "no address"


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _choices(parsed: object) -> list[Mapping[str, object]]:
    choices = parsed.get("choices") if isinstance(parsed, dict) else None
    first = choices[:1] if isinstance(choices, list) else []
    return first if first and isinstance(first[0], dict) and isinstance(first[0].get("message"), dict) else []


def _shape(parsed: object, response: Response) -> str:
    """A description of what came instead of a completion, without quoting it."""
    if isinstance(parsed, dict):
        return "it has no choices" if parsed.get("choices") == [] else "it is JSON in another format"
    if parsed is not None:
        return "it is JSON in another format"
    start = response.content.lstrip()[:15].lower()
    html = start.startswith((b"<!doctype html", b"<html"))
    return (
        "it is a web page; set url to the API, such as https://host/v1"
        if html
        else "it is empty"
        if not response.content.strip()
        else "it is not JSON"
    )


def _reply(choice: Mapping[str, object], rubric: Rubric, hidden: Hidden) -> Completion:
    message, finish = cast("Mapping[str, object]", choice["message"]), choice.get("finish_reason")
    if choice.get("error") and (error := _error(choice)):
        raise FailedError(f"the server reports an error ({_status(error.status or 200, error, hidden)})")
    text, declined = _texts(message.get("content"))
    if isinstance(refusal := message.get("refusal"), str):
        declined = refusal
    if finish == "content_filter":
        raise DeclinedError("the server filtered the judge's reply (finish_reason content_filter)", certain=True)
    if text.strip():
        return Completion(whole(text), finish == "length")
    if declined.strip():
        raise DeclinedError("the judge's model declined to grade this answer", certain=True, raw=whole(declined))
    if finish == "length":
        raise DeclinedError(
            f"the reply reached its limit of {these(rubric.max_new_tokens, 'token', 'tokens')} before it had any "
            "text; raise `max_new_tokens`"
        )
    reasoning = (message.get(name) for name in ("reasoning_content", "reasoning"))
    if any(isinstance(thought, str) and thought.strip() for thought in reasoning):
        raise DeclinedError(
            "the reply has reasoning but no text; raise `max_new_tokens`, or make the server return the answer in "
            "`content`"
        )
    raise FailedError("the reply has no text", passing=False)


def _texts(content: object) -> tuple[str, str]:
    """Text and refusal of a message's content, which is a text or a list of parts."""
    if isinstance(content, str):
        return content, ""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    both = ("".join(part[name] for part in parts if isinstance(part.get(name), str)) for name in ("text", "refusal"))
    text, refusal = both
    return text, refusal


def _usage(parsed: object) -> tuple[int, int] | None:
    usage = parsed.get("usage") if isinstance(parsed, dict) else None
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if type(count) is int and 0 <= count < 2**31 else None for count in counts)
    return None if prompt is None or completion is None else (prompt, completion)


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header; null if it is missing or invalid, or its date is past."""
    try:
        seconds = float(header or "")
    except ValueError:
        try:
            date = parsedate_to_datetime(header or "")
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError, TypeError):
            return None
        return seconds if seconds > 0 else None
    return seconds if seconds >= 0 and math.isfinite(seconds) else None
