"""Whatever a judge or its server says ends in a verdict, an unscored answer with its reason, or another try.

`CURATOR_FUZZ=20000 pytest tests/judge/test_fuzz.py` tries so many inputs for each parser.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curator.errors import JudgeError
from curator.judge.completion import LONGEST_REASON, DeclinedError, FailedError, Hidden, Response, read
from curator.judge.guards import GUARDS
from curator.judge.guards.adapter import Reply
from curator.judge.guards.strongreject import GRADES
from curator.judge.rubric import SCALES
from curator.recipe.judge import Judge, Rubric
from curator.records import Verdict

many = settings(
    max_examples=int(os.environ.get("CURATOR_FUZZ", "150")), deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip

LABELS = ("yes", "no", "safe", "unsafe", *GRADES)
WORDS = (
    "Safety", "Refusal", "Categories", "Harmful response", "Response refusal", "refusal", "convincing", "specific",
    "score", ":", "：", " ", "\n", "\r\n", "\t", "**", "_", "`", "- ", "1. ", "> ", '"', "Safe", "Unsafe",
    "Yes", "no", "N/A", "safe", "unsafe", "S1", "S14", ",", "0", "1", "4", "5", "9", ".", "<think>", "</think>", "\0",
    "Controversial", "\ufffd", "\ud83d", "\u2028", "[/INST]",
)  # fmt: skip
# Any text, and texts of what verdicts are made of, which come near to being one.
texts = st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=30).map("".join))
shares = st.fixed_dictionaries(
    dict.fromkeys(LABELS, st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, float("nan")])))
)

SECRET, JUDGED = "sk-0123456789abcdef", "Mind the lantern in the harbour, and wait until noon."
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), texts,
        st.sampled_from([SECRET, JUDGED, 400, 401, 404, 429, "503", "content_filter", "temperature", "max_tokens",
                         "not supported", "context length", "stop", "length"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "type", "param", "choices", "content", "msg", "loc",
                             "finish_reason", "usage", "refusal", "text", "reasoning_content", "prompt_tokens",
                             "completion_tokens", "status", "other"]),
            inner, max_size=6,
        ),
    ),
    max_leaves=12,
)  # fmt: skip
completions = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"message": values | st.fixed_dictionaries({"content": values})},
                                               optional={"finish_reason": values, "error": values}), max_size=2)},
    optional={"usage": values, "error": values},
)  # fmt: skip
errors = st.fixed_dictionaries({"error": st.fixed_dictionaries({}, optional={
    "message": st.lists(st.sampled_from([*WORDS, SECRET, JUDGED, "temperature", "unsupported", "filter"])).map("".join),
    "code": values, "param": values, "status": values,
})})  # fmt: skip
bodies = st.one_of(
    st.binary(max_size=200),
    st.one_of(values, completions, errors).map(lambda value: json.dumps(value).encode()),
    completions.map(lambda value: json.dumps(value).encode()[:-3]),
)
headers = st.dictionaries(st.sampled_from(["Retry-After", "Location", "Content-Type"]), st.text(max_size=30))


def sound(verdict: Verdict) -> None:
    """A verdict checks itself when it is made; this is what it does not check."""
    assert verdict.outcome in ("harmful", "safe", "unscored")
    assert (verdict.reason is not None) == (verdict.outcome == "unscored")
    assert verdict.refused in (True, False, None)


@pytest.mark.parametrize("convention", [*GUARDS])
@many
@given(text=texts, by_label=shares)
def test_a_guards_reply(convention: str, text: str, by_label: dict[str, float]) -> None:
    reply = Reply(text, by_label)
    found = GUARDS[convention](Judge(name="g", guard="a/b", convention=convention)).read(reply)
    sound(found)
    assert found.raw == text


@pytest.mark.parametrize("scale", [*SCALES])
@many
@given(text=texts)
def test_a_reply_by_a_rubric(scale: str, text: str) -> None:
    found = SCALES[scale].read(text)
    sound(found)
    assert found.raw == text


@many
@given(status=st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 413, 422, 429, 500, 529]), body=bodies,
       with_headers=headers)  # fmt: skip
def test_a_servers_response(status: int, body: bytes, with_headers: dict[str, str]) -> None:
    counted: list[Any] = []
    rubric = Rubric(url="https://host/v1", model="m")
    try:
        completion = read(Response(status, with_headers, body), rubric, Hidden(SECRET, [JUDGED]), counted.append)
    except (FailedError, DeclinedError, JudgeError) as error:
        told = str(error)
        told.encode()  # can be written to a file and a terminal
        assert "\n" not in told
        assert told.isprintable()
        assert len(told) < 2 * LONGEST_REASON + 250
        assert SECRET[:8] not in told
        assert "lantern in the harbour" not in told
    else:
        assert completion.text.strip()
        completion.text.encode()
        assert "\0" not in completion.text
        assert 200 <= status < 300
        sound(SCALES["strongreject"].read(completion.text))
    assert all(count is None or min(count) >= 0 for count in counted)
