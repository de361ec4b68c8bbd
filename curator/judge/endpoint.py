"""Judging by an OpenAI-compatible endpoint: concurrent requests, retries if they can help, and the cost.

A temporary failure is not a verdict. It leaves its answer open for the next run. Many consecutive failures mean that
the endpoint is down, and end this run.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from curator.errors import JudgeError
from curator.judge.completion import Completion, DeclinedError, FailedError, Hidden, post, read, request_body
from curator.judge.questions import JudgeFunction, Open, UnfinishedError, unanswered_verdict, without_degenerate
from curator.judge.rubric import SCALES, prompt
from curator.recipe.judge import Judge, Rubric
from curator.records import Question, Verdict
from curator.wording import these

if TYPE_CHECKING:
    import httpx2

LONGEST_PAUSE = 60.0  # seconds; the longest wait, even if a server names a longer one
SURE = 3  # this many answers refused for the same parameter before any was graded show a wrong setting


@dataclass
class Cost:
    """What a judge's requests have cost so far: attempts, tokens as counted by the endpoint, and replies without such a
    count. Many threads add to one object.
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


class _Breaker:
    """Stops requests when they are useless: wrong settings, or too many consecutive failures."""

    def __init__(self, most: int) -> None:
        self.most, self.graded = most, False
        self.stopped = threading.Event()
        self.why: str | None = None
        self._row = self._refused = 0
        self._lock = threading.Lock()

    def replied(self, *, graded: bool = False) -> None:
        with self._lock:
            self._row, self.graded = 0, self.graded or graded

    def failed(self, why: str, *, parameter: bool = False) -> None:
        with self._lock:
            self._row += 1
            self._refused += parameter
            if parameter and self._refused >= SURE and not self.graded:
                self._stop(f": {why}.")
            elif self._row >= self.most:
                self._stop(
                    f" gave no verdict on {these(self._row, 'answer', 'answers')} in a row (the last one: {why}), and "
                    f"the run stops after {self.most} (stop_after)."
                )

    def mistaken(self, why: str) -> None:
        with self._lock:
            self._stop(f" {why}.")

    def _stop(self, why: str) -> None:
        self.why = self.why or why
        self.stopped.set()


def rubric_judge(section: Judge, cost: Cost, *, sleep: Callable[[float], object] | None = None) -> JudgeFunction:
    """A judge that grades answers with the model of an endpoint; degenerate answers are not sent.

    An answer that the endpoint refuses to grade (a filter, its length), or whose reply has no verdict, is unscored with
    the reason. An answer without a reply after all tries is left open.

    Args:
        section: The recipe's judge.
        cost: Adds up the cost.
        sleep: Waits this many seconds; null for a wait that ends early if the run stops.

    Raises:
        JudgeError: The environment variable of the key is not set.
        UnfinishedError: The returned judge raises it if answers are left open, also by Ctrl-C, which is its cause then.
    """
    rubric = section.rubric
    assert rubric is not None
    about = f"judges.panel.{section.name}.rubric: {rubric.url}"
    breaker = _Breaker(rubric.stop_after)

    @without_degenerate
    def judge(questions: Sequence[Question]) -> list[Verdict]:
        import httpx2

        key = key_of(rubric)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx2.Limits(max_connections=rubric.concurrency)
        # A proxy of the environment must get nothing that is meant for this machine.
        trust = not rubric.is_here
        with httpx2.Client(headers=headers, timeout=rubric.timeout, limits=limits, trust_env=trust) as client:
            asking = _Asking(client, rubric, key, cost, breaker, sleep or breaker.stopped.wait)
            with ThreadPoolExecutor(rubric.concurrency) as pool:
                futures = [pool.submit(asking.grade, question) for question in questions]
                try:
                    results = [future.result() for future in futures]
                except KeyboardInterrupt as interrupt:
                    breaker.stopped.set()
                    pool.shutdown(wait=True, cancel_futures=True)
                    paid = [Open("interrupted") if future.cancelled() else future.result() for future in futures]
                    raise UnfinishedError(f"{about} was interrupted.", paid, stops=True) from interrupt
                finally:
                    # After Ctrl-C requests that have not started are dropped, and running ones are waited for.
                    if not all(future.done() for future in futures):
                        breaker.stopped.set()
                    pool.shutdown(wait=True, cancel_futures=True)
        if breaker.why is not None:
            raise UnfinishedError(f"{about}{breaker.why}", results, stops=True)
        if breaker.graded:
            results = [
                unanswered_verdict(result) if isinstance(result, Open) and not result.passing else result
                for result in results
            ]
        left = [result for result in results if isinstance(result, Open)]
        if left:
            raise UnfinishedError(
                f"{about} gave no verdict on some answers (the last one: {left[-1].reason}).", results, stops=False
            )
        return [result for result in results if isinstance(result, Verdict)]

    return judge


def key_of(rubric: Rubric) -> str | None:
    """The endpoint's key; null if it needs none.

    Raises:
        JudgeError: The environment variable is not set, or holds something else.
    """
    if rubric.key_env is None:
        return None
    key = os.environ.get(rubric.key_env, "").strip()
    where = f"judges.panel.rubric.key_env: the environment variable {rubric.key_env}"
    if not key:
        raise JudgeError(f"{where} is not set; export it with the key")
    if not (key.isascii() and key.isprintable()):
        raise JudgeError(f"{where} contains characters that a key cannot have; export it with the key alone")
    return key


@dataclass(frozen=True)
class _Asking:
    """A client for the questions of one call."""

    client: httpx2.Client
    rubric: Rubric
    key: str | None
    cost: Cost
    breaker: _Breaker
    sleep: Callable[[float], object]
    jitter: random.Random = field(default_factory=lambda: random.Random(0))

    def grade(self, question: Question) -> Verdict | Open:
        """The verdict on one answer, or why there is none yet."""
        hidden = Hidden(self.key, [*(turn["content"] for turn in question.messages), question.answer])
        try:
            completion = self._tried(prompt(self.rubric.scale, question), hidden)
        except DeclinedError as declined:
            if declined.certain:
                self.breaker.replied()
                return replace(unanswered_verdict(Open(str(declined))), raw=declined.raw)
            self.breaker.failed(str(declined), parameter=declined.parameter is not None)
            return Open(str(declined), passing=False)
        except FailedError as failed:
            if not self.breaker.stopped.is_set():
                self.breaker.failed(str(failed))
            return Open(str(failed), passing=failed.passing)
        except JudgeError as mistake:
            self.breaker.mistaken(str(mistake))
            return Open(str(mistake))
        self.breaker.replied(graded=True)
        verdict = SCALES[self.rubric.scale].read(completion.text)
        if verdict.outcome == "unscored" and completion.cut:
            cut = f"{verdict.reason}, which was cut off at max_new_tokens ({self.rubric.max_new_tokens:,})"
            return replace(verdict, reason=cut)
        return verdict

    def _tried(self, text: str, hidden: Hidden) -> Completion:
        body = request_body(self.rubric, text)
        for attempt in range(self.rubric.retries + 1):
            if self.breaker.stopped.is_set():
                raise FailedError("it was not sent, because the run had stopped")
            self.cost.add(requests=1)
            try:
                response = post(self.client, self.rubric, body)
                return read(response, self.rubric, hidden, self._counted)
            except FailedError as failed:
                if attempt == self.rubric.retries:
                    tries = f"{attempt + 1} {'tries' if attempt else 'try'}"
                    raise FailedError(f"no reply in {tries}: {failed}", passing=failed.passing) from None
                self.cost.add(retries=1)
                # Jitter, so that requests that failed together are not repeated together.
                pause = 2.0**attempt * (0.5 + self.jitter.random() / 2) if failed.pause is None else failed.pause
                self.sleep(min(LONGEST_PAUSE, pause))
        raise AssertionError("the last try neither returned nor failed")

    def _counted(self, usage: tuple[int, int] | None) -> None:
        if usage is None:
            self.cost.add(uncounted=1)
        else:
            self.cost.add(prompt_tokens=usage[0], completion_tokens=usage[1])
