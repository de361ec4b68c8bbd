"""An OpenAI-compatible endpoint: many requests at a time, tried again where that can help, and what they cost."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from curator.errors import JudgeError
from curator.judge.questions import JudgeFunction, without_degenerate
from curator.judge.rubric import SCALES, prompt
from curator.recipe.judge import Judge, Rubric
from curator.records import Question, Verdict

KEY = "judges.panel.rubric"
LONGEST_PAUSE = 60.0  # seconds; a server that asks for more is asked again after this long
_COUNTS = ("prompt_tokens", "completion_tokens")
_AGAIN = (408, 409, 425, 429)  # timeout, conflict, too early, too many requests: the next try may pass
_USERS = {401: "the key is refused", 403: "the key may not use it", 404: "there is no such endpoint or model"}


@dataclass
class Cost:
    """What a judge's requests have cost so far: attempts, tokens as the endpoint counts them, and replies without such
    a count. Many threads add to one object.
    """

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        """Adds to the counts of these names."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def counts(self) -> dict[str, int]:
        """The counts by name."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


_Wait = Callable[[int, float | None], None]
"""Waits after so many tries, or the seconds that the server asked for."""


class _FailedError(Exception):
    """An attempt that failed, and the seconds that the server asks to wait, if it does."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = pause


def rubric_judge(section: Judge, cost: Cost, *, sleep: Callable[[float], None] = time.sleep) -> JudgeFunction:
    """A judge that has answers graded by an endpoint's model; degenerate answers are sorted out before that.

    An answer that got no well-formed reply in all its tries is unscored, with the last failure as its reason.

    Args:
        cost: Counts what is spent.
        sleep: Waits so many seconds.

    Raises:
        JudgeError: The variable of the key is not set, or the endpoint refuses the request itself (4xx).
    """
    rubric = section.rubric
    assert rubric is not None
    jitter = random.Random(0)

    def wait(attempt: int, pause: float | None) -> None:
        # Jitter, so that many requests that failed together do not come back together.
        sleep(min(LONGEST_PAUSE, 2.0**attempt * (0.5 + jitter.random() / 2) if pause is None else pause))

    @without_degenerate
    def judge(questions: Sequence[Question]) -> list[Verdict]:
        import httpx2

        headers = _headers(rubric)
        limits = httpx2.Limits(max_connections=rubric.concurrency)
        with httpx2.Client(headers=headers, timeout=rubric.timeout, limits=limits) as client:

            def grade(question: Question) -> tuple[str | None, str | None]:
                return _tried(client, rubric, prompt(rubric.scale, question), cost, wait)

            with ThreadPoolExecutor(rubric.concurrency) as pool:
                futures = [pool.submit(grade, question) for question in questions]
                try:
                    replies = [future.result() for future in futures]
                except JudgeError:
                    # A refused key refuses them all: what has not started costs nothing, what runs is waited for.
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
        read = SCALES[rubric.scale].read
        return [
            Verdict("unscored", refused=None, reason=why) if reply is None else read(reply) for reply, why in replies
        ]

    return judge


def _headers(rubric: Rubric) -> dict[str, str]:
    if rubric.key_env is None:
        return {}
    key = os.environ.get(rubric.key_env, "").strip()
    if not key:
        raise JudgeError(f"{KEY}.key_env: the environment variable {rubric.key_env} is not set; export it with the key")
    return {"Authorization": f"Bearer {key}"}


def _tried(client: Any, rubric: Rubric, text: str, cost: Cost, wait: _Wait) -> tuple[str | None, str | None]:
    """The reply, or null and why there is none after all tries."""
    body = {
        "model": rubric.model,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": rubric.max_new_tokens,
    }
    why = ""
    for attempt in range(rubric.retries + 1):
        try:
            return _once(client, rubric, body, cost), None
        except _FailedError as failed:
            why = str(failed)
            if attempt < rubric.retries:
                cost.add(retries=1)
                wait(attempt, failed.pause)
    return None, f"no reply in {rubric.retries + 1} tries ({why})"


def _once(client: Any, rubric: Rubric, body: Mapping[str, Any], cost: Cost) -> str:
    import httpx2

    cost.add(requests=1)
    try:
        response = client.post(f"{rubric.url.rstrip('/')}/chat/completions", json=body)
    except httpx2.TimeoutException:
        raise _FailedError(f"no answer within {rubric.timeout:g} s") from None
    except httpx2.HTTPError as error:
        # The kind alone: a message of the client may repeat what was sent.
        raise _FailedError(f"the connection failed: {type(error).__name__}") from None
    code = response.status_code
    if code in _AGAIN or code >= 500:
        raise _FailedError(f"status {code}", _retry_after(response.headers.get("Retry-After")))
    if code >= 300:
        why = _USERS.get(code, "the request is refused")
        raise JudgeError(f"{KEY}: {rubric.url} answers {code} ({why}); check url, model and key_env")
    try:
        completion = response.json()
        reply = completion["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise _FailedError("the reply is no chat completion") from None
    usage = completion.get("usage")
    read, written = (usage.get(name) if isinstance(usage, dict) else None for name in _COUNTS)
    if isinstance(read, int) and isinstance(written, int):
        cost.add(prompt_tokens=read, completion_tokens=written)
    else:
        cost.add(uncounted=1)
    if not isinstance(reply, str):
        raise _FailedError("the reply has no text")
    return reply


def _retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header; null where it is absent, a date, or nonsense."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
