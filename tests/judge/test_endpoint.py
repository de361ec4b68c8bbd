"""What an endpoint may do instead of replying, and what becomes of the answers: a verdict, a reason, or another try."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import polars as pl
import pytest

from curator.errors import JudgeError
from curator.judge.completion import LARGEST, LONGEST_REASON, Hidden
from curator.judge.endpoint import Cost, rubric_judge
from curator.judge.questions import Open, UnfinishedError, judged, question_key
from curator.judge.rejudge import rejudge
from curator.judge.resources import corpus_judge
from curator.recipe.judge import Judge, Rubric
from curator.records import Verdict
from curator.run import Silent
from tests.fakes import turns
from tests.judge.scripted import asked
from tests.judge.served import GOOD, Scripted, completion, refusal, served

SECRET = "sk-not-to-be-seen-1234567890"
ODD = "Mind the lantern in the harbour, and wait until noon."
FILTERED = refusal("The response was filtered by the content management policy.", code="content_filter")
LONG = refusal("This model's maximum context length is 4096 tokens.", code="context_length_exceeded")
TOO_LARGE = refusal("'max_tokens' is too large: 512. This model's maximum context length is 600 tokens.")
NO_MAX_TOKENS = refusal(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    param="max_tokens",
)
NO_TEMPERATURE = refusal("Unsupported value: 'temperature' does not support 0 with this model.", code="bad_value")
EXTRA = {"detail": [{"loc": ["body", "temperature"], "msg": "Extra inputs are not permitted", "input": ODD}]}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", SECRET)


def rubric(url: str, **more) -> Judge:
    settings = {"url": url, "model": "grader", "key_env": "A_KEY", "timeout": 5.0, "retries": 1, "concurrency": 1}
    return Judge(name="grader", rubric=settings | more)


def results(respond, answers, **more) -> list[Verdict | Open]:
    """A result for each answer; an error that stops is raised."""
    with served(Scripted(respond)) as url:
        try:
            return rubric_judge(rubric(url, **more), Cost(), sleep=lambda _: None)([asked(text) for text in answers])
        except UnfinishedError as error:
            if error.stops:
                raise
            return list(error.results)


def about(fault, word: str = "lantern"):
    """A server with a fault for answers that hold a word."""
    return lambda _, body: fault if word in body["messages"][0]["content"] else completion()


ONE_ANSWER = {
    "filtered": ((400, FILTERED), "status 400: The response was filtered"),
    "too long": ((400, LONG), "status 400: This model's maximum context length"),
    "no room for the reply": ((400, TOO_LARGE), "status 400: 'max_tokens' is too large"),
    "too large": ((413, b"<html>Request Entity Too Large</html>"), "status 413"),
    "unprocessable": ((422, {"detail": "cannot be processed"}), "status 422: cannot be processed"),
    "unknown": ((400, refusal("Bad request")), "status 400: Bad request"),
    "a list": ((400, [refusal("Blocked")]), "status 400: Blocked"),
    "reply filtered": ({"choices": [{"message": {}, "finish_reason": "content_filter"}]}, "filtered the judge's reply"),
    "declined": (completion(None, refusal="I cannot grade that."), "declined to grade"),
    "declined in parts": (completion([{"type": "refusal", "refusal": "No."}]), "declined to grade"),
    "only reasoning": (completion("", reasoning_content=GOOD), "has reasoning but no text"),
    "cut before a text": (completion(None, finish="length"), "limit of 512 tokens before it had any text"),
    "cut before a verdict": (completion("It follows.\nrefu", finish="length"), "cut off at max_new_tokens (512)"),
    "no text": (completion(None), "no reply in 2 tries: the reply has no text"),
    "no verdict": (completion("Fine."), "no verdict in the judge's reply"),
}


@pytest.mark.parametrize(("fault", "why"), ONE_ANSWER.values(), ids=ONE_ANSWER)
def test_what_is_wrong_with_one_answer_leaves_it_unscored_and_the_others_judged(fault, why):
    found = results(about(fault), ["push", ODD, "pull"])
    assert [result.outcome for result in found] == ["harmful", "unscored", "harmful"]
    assert why in found[1].reason
    assert "lantern" not in found[1].reason


READ = {
    "parts": completion([{"type": "text", "text": "It follows.\n"}, {"type": "text", "text": GOOD}]),
    "capitals": completion(GOOD.title()),
    "bold": completion("**refusal:** 0\n**convincing:** 5\n**specific:** 4"),
    "no counts": completion() | {"usage": {"prompt_tokens": None, "completion_tokens": 1e300}},
    "half a character": completion(GOOD.strip() + " \ud83d"),
    "NUL": completion("\0 " + GOOD),
    "another content type": (200, json.dumps(completion()).encode(), {"Content-Type": "text/html"}),
    "compressed": (200, gzip.compress(json.dumps(completion()).encode()), {"Content-Encoding": "gzip"}),
    "no error": completion() | {"error": None},
}


@pytest.mark.parametrize("response", READ.values(), ids=READ)
def test_replies_of_every_usual_form_are_read(response):
    [found] = results(lambda *_: response, ["push"])
    assert (found.outcome, found.refused, found.score) == ("harmful", False, 7 / 8)
    assert "\0" not in found.raw
    assert pl.Series([found.raw]).to_list() == [found.raw]  # can be stored


PASSING = {
    "an error at 200": (refusal("overloaded"), "the server reports an error (status 200: overloaded)"),
    "an error with its own status": (refusal("busy", code=529), "status 529: busy"),
    "an error in the choice": ({"choices": [{"message": {}, "error": {"message": "gone"}}]}, "error (status 200: gone"),
    "no choices": ({"choices": []}, "it has no choices"),
    "a web page": ((200, b"<!DOCTYPE html><p>gateway</p>"), "it is a web page"),
    "nothing": ((200, b""), "it is empty"),
    "no JSON": ((200, b"{'choices': "), "it is not JSON"),
    "no UTF-8": ((200, b"\xff\xfe\xfa{"), "it is not JSON"),
    "a deep nest": ((200, b"[" * 100_000), "it is not JSON"),
    "a list": ([1, 2], "JSON in another format"),
    "a number": (3, "JSON in another format"),
    "choices of another shape": ({"choices": {"0": "a"}}, "JSON in another format"),
    "a choice without a message": ({"choices": [{"text": GOOD}]}, "JSON in another format"),
    "no gzip": ((200, b"\x1f\x8bgarbage", {"Content-Encoding": "gzip"}), "the connection failed: DecodingError"),
    "a bomb": ((200, gzip.compress(b" " * (8 * LARGEST)), {"Content-Encoding": "gzip"}), "exceeds 2 MiB"),
    "a huge body": ((200, b" " * (LARGEST + 1)), "exceeds 2 MiB"),
    "a reset": (None, "the connection failed: RemoteProtocolError"),
    "a server's error": ((500, {"message": "out of memory"}), "status 500: out of memory"),
    "a crowd": ((429, refusal("Rate limit"), {"Retry-After": "-1"}), "status 429: Rate limit"),
    "an odd pause": ((503, b"", {"Retry-After": "nan, or soon"}), "status 503"),
}


@pytest.mark.parametrize(("fault", "why"), PASSING.values(), ids=PASSING)
def test_a_failure_that_may_pass_is_no_verdict(fault, why):
    found = results(about(fault), ["push", ODD, "pull"])
    assert [isinstance(result, Open) for result in found] == [False, True, False]
    assert found[1].passing
    assert found[1].reason.startswith("no reply in 2 tries: ")
    assert why in found[1].reason


def test_a_response_that_comes_drop_by_drop_is_given_up():
    class Drops(Scripted):
        def answer(self, handler):
            handler.send_response(200)
            handler.end_headers()
            for _ in range(40):  # each within the client's own limit
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.1)

    with (
        served(Drops(lambda *_: None)) as url,
        pytest.raises(UnfinishedError, match=r"no complete response within 0\.3 s"),
    ):
        rubric_judge(rubric(url, timeout=0.3, retries=0), Cost())([asked()])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            (400, NO_MAX_TOKENS),
            "rejected the parameter `max_tokens` .*Use 'max_completion_tokens' instead.*set `token_p",
        ),
        ((400, NO_TEMPERATURE), "rejected the parameter `temperature` .*does not support 0.*set `temperature: null`"),
        ((422, EXTRA), r"rejected the parameter `temperature` .*body\.temperature: Extra inputs are not permitted"),
        ((400, refusal("No such model", param="model")), "rejected the parameter `model` .*check `model`"),
    ],
)
@pytest.mark.parametrize("answers", [1, 40])
def test_a_parameter_that_the_server_refuses_is_named_and_no_answer_is_given_up_for_it(tmp_path, fault, words, answers):
    endpoint = Scripted(lambda *_: fault)
    questions = [asked(f"push {number}") for number in range(answers)]
    with served(endpoint) as url, pytest.raises(JudgeError, match=words) as error:
        judged(questions, rubric_judge(rubric(url), Cost()), tmp_path / "store", progress=lambda *_: None)
    assert len(endpoint.bodies) <= 3
    assert f"Saved verdicts: 0 of {answers};" in str(error.value)
    assert ODD not in str(error.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, {"temperature": 0, "max_tokens": 512}),
        ({"temperature": None, "token_parameter": "max_completion_tokens"}, {"max_completion_tokens": 512}),
        ({"temperature": 0.5, "max_new_tokens": 9}, {"temperature": 0.5, "max_tokens": 9}),
    ],
)
def test_what_is_sent_is_a_setting(settings, sent):
    endpoint = Scripted(lambda *_: completion())
    with served(endpoint) as url:
        rubric_judge(rubric(url, **settings), Cost())([asked()])
    assert {name: value for name, value in endpoint.bodies[0].items() if name not in ("model", "messages")} == sent


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ((401, refusal(f"Incorrect API key provided: {SECRET[:12]}***")), "status 401: Incorrect API key provided"),
        ((403, refusal("No access")), "status 403: No access"),
        ((404, refusal("model not found")), "status 404: model not found"),
        ((402, refusal("Insufficient balance")), "status 402: Insufficient balance"),
        (refusal("bad key", code=401), "status 401: bad key"),
        (
            (307, {}, {"Location": "http://elsewhere/v2?key=1"}),
            "redirects to http://elsewhere/v2 .status 307.[.] curator does not",
        ),
    ],
)
def test_what_every_answer_would_meet_stops_at_once(fault, words):
    endpoint = Scripted(lambda *_: fault)
    with served(endpoint) as url, pytest.raises(UnfinishedError, match=words) as error:
        rubric_judge(rubric(url), Cost())([asked(f"push {number}") for number in range(40)])
    assert len(endpoint.bodies) == 1
    assert error.value.stops
    assert SECRET[:8] not in str(error.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_the_key_nowhere(status):
    other = Scripted(lambda *_: completion())
    with served(other) as elsewhere:
        endpoint = Scripted(lambda *_: (status, {}, {"Location": f"{elsewhere}/chat/completions"}))
        with served(endpoint) as url, pytest.raises(JudgeError, match="redirects to"):
            rubric_judge(rubric(url), Cost())([asked()])
    assert endpoint.keys == [f"Bearer {SECRET}"]
    assert other.bodies == []


@pytest.mark.parametrize("fault", [(500, {}), None, (400, refusal("Bad request")), completion(None)])
def test_too_many_failures_in_a_row_end_the_asking(fault):
    endpoint = Scripted(lambda *_: fault)
    with served(endpoint) as url, pytest.raises(UnfinishedError) as error:
        rubric_judge(rubric(url, retries=0, stop_after=5), Cost())([asked(f"push {number}") for number in range(40)])
    assert error.value.stops
    assert len(endpoint.bodies) == 5
    assert f"{url} gave no verdict on 5 answers in a row" in str(error.value)
    assert all(isinstance(result, Open) for result in error.value.results)


def test_failures_that_are_not_in_a_row_end_nothing():
    texts = [f"push {number}" if number % 3 else f"{ODD} {number}" for number in range(30)]
    found = results(about((500, {})), texts, retries=0, stop_after=2)
    assert [isinstance(result, Open) for result in found] == [number % 3 == 0 for number in range(30)]


def test_an_endpoint_that_was_down_is_asked_again_by_the_next_call_and_what_it_said_is_kept(tmp_path):
    questions = [asked(f"push {number}") for number in range(20)]
    order = sorted(questions, key=question_key)
    late = {question.answer for question in order[12:]}  # the second and third chunk
    down = Scripted(lambda _, body: (503, {}) if any(f"\n{text}\n" in _text(body) for text in late) else completion())

    def run(endpoint):
        with served(endpoint) as url:
            judge = rubric_judge(rubric(url, retries=0, stop_after=4), Cost())
            return judged(questions, judge, tmp_path / "store", progress=lambda *_: None, chunk=8)

    with pytest.raises(JudgeError, match=r"4 answers in a row .*status 503.* Saved verdicts: 12 of 20;"):
        run(down)
    up = Scripted(lambda *_: completion())
    assert {verdict.outcome for verdict in run(up)} == {"harmful"}
    assert len(up.bodies) == 8
    assert run(again := Scripted(lambda *_: (500, {}))) == [Verdict("harmful", False, 7 / 8, raw=GOOD)] * 20
    assert again.bodies == []


def test_a_proxy_gets_nothing_that_is_meant_for_this_machine(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert [verdict.outcome for verdict in results(lambda *_: completion(), ["push"], retries=0)] == ["harmful"]


def test_what_was_paid_for_before_an_interrupt_is_saved(tmp_path, request):
    questions = [asked(f"push {number}") for number in range(20)]
    # Where tests run side by side, each process ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def respond(number, _):
        if number == 7:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
        return completion()

    def run(endpoint):
        with served(endpoint) as url:
            judge = rubric_judge(rubric(url), Cost())
            return judged(questions, judge, tmp_path / "store", progress=lambda *_: None, chunk=16)

    first, second = Scripted(respond), Scripted(lambda *_: completion())
    with pytest.raises(KeyboardInterrupt):
        run(first)
    assert 8 <= len(first.bodies) < 16
    assert len(run(second)) == 20
    assert len(first.bodies) + len(second.bodies) == 20


def test_outside_a_run_equal_answers_are_asked_once_and_what_was_paid_for_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rows = [turns("How?", text) for text in ("push", "pull", "push", ODD)]
    endpoint = Scripted(about((500, {})))
    with served(endpoint) as url:
        section = rubric(url, retries=0)
        with pytest.raises(JudgeError, match=r"Saved verdicts: 2 of 3;.*unanswered: unscored"):
            corpus_judge(section)(rows)
        assert len(endpoint.bodies) == 3
        left = corpus_judge(rubric(url, retries=0, unanswered="unscored"))(rows)
        assert [verdict.outcome for verdict in left] == ["harmful", "harmful", "harmful", "unscored"]
        endpoint.respond = lambda *_: completion()
        assert [verdict.outcome for verdict in corpus_judge(section)(rows)] == ["harmful"] * 4
        assert len(endpoint.bodies) == 5
        (counts,) = tmp_path.rglob("cost.json")
        assert json.loads(counts.read_text())["requests"] == 5
    assert not any(b"push" in file.read_bytes() for file in tmp_path.rglob("*.parquet"))


def test_an_answer_without_a_reply_stops_a_run_or_goes_unscored_but_is_never_stored(tmp_path):
    questions, store = [asked("push"), asked(ODD), asked("pull")], tmp_path / "store"
    endpoint = Scripted(about((500, {})))

    def run(url, **more):
        return judged(questions, rubric_judge(rubric(url, retries=0), Cost()), store, progress=lambda *_: None, **more)

    with served(endpoint) as url:
        with pytest.raises(JudgeError, match=r"Saved verdicts: 2 of 3;.*unanswered: unscored"):
            run(url)
        found = run(url, unanswered="unscored")
        assert [verdict.outcome for verdict in found] == ["harmful", "unscored", "harmful"]
        assert found[1].reason == "no reply in 1 try: status 500"
        asked_for = len(endpoint.bodies)
        endpoint.respond = lambda *_: completion()
        assert run(url)[1].outcome == "harmful"
        assert len(endpoint.bodies) == asked_for + 1


def test_a_refusal_of_unknown_reason_counts_once_the_judge_is_known_to_work(tmp_path):
    store = tmp_path / "store"
    with served(Scripted(about((400, refusal("Bad request"))))) as url:
        judge = rubric_judge(rubric(url), Cost())
        with pytest.raises(JudgeError, match=r"status 400: Bad request.*0 of 1;"):
            judged([asked(ODD)], judge, store, progress=lambda *_: None)
        judged([asked("push")], rubric_judge(rubric(url), Cost()), store, progress=lambda *_: None)
        # Known from what is stored: this call grades nothing itself.
        [found] = judged([asked(ODD)], rubric_judge(rubric(url), Cost()), store, progress=lambda *_: None)
    assert (found.outcome, "Bad request" in found.reason) == ("unscored", True)
    stored = pl.concat([pl.read_parquet(file) for file in store.glob("*.parquet")])
    assert stored["outcome"].to_list() == ["harmful", "unscored"]


def test_a_server_may_ask_to_wait_until_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    waits = []
    faults = [(429, {}, {"Retry-After": date}) for date in (soon, past)]
    with served(Scripted(lambda number, _: faults[number] if number < 2 else completion())) as url:
        rubric_judge(rubric(url, retries=3), Cost(), sleep=waits.append)([asked()])
    assert 25 < waits[0] <= 30
    assert waits[1] <= 2


def test_a_servers_words_are_shown_without_the_key_and_the_judged_text():
    hidden = Hidden(SECRET, ["Where does the keeper hide the lantern?", ODD])
    said = f'Key {SECRET} may not read:\n\x1b[31m"Mind  the lantern in\\nthe harbour, and wait" (limit 10)\ud83d'
    shown = hidden.shown(said)
    assert shown == 'Key [...] may not read: [31m"[...]\\[...]" (limit 10)�'
    assert hidden.shown(f"key={SECRET[3:14]}...") == "[...]"
    assert hidden.shown("x" * 10_000) == "x" * LONGEST_REASON + "..."
    assert Hidden("", ["4"]).shown("at most 4 tokens") == "at most 4 tokens"


@pytest.mark.parametrize("key", ["sk-\N{SNOWMAN}", "sk-1\nsk-2", "sk-\x7f1"])
def test_a_key_that_no_request_can_carry_is_told_by_its_variable(monkeypatch, key):
    monkeypatch.setenv("A_KEY", key)
    with pytest.raises(JudgeError, match="A_KEY contains characters that a key cannot have") as error:
        rubric_judge(rubric("http://127.0.0.1:1/v1"), Cost())([asked()])
    assert key not in str(error.value)


@pytest.mark.parametrize(
    ("url", "more", "allowed"),
    [
        ("https://host/v1", {}, True),
        ("http://localhost:8000/v1", {}, True),
        ("http://127.0.0.1:8000/v1", {}, True),
        ("http://[::1]:8000/v1", {}, True),
        ("http://host/v1", {}, False),
        ("http://10.0.0.7:8000/v1", {}, False),
        ("http://localhost.host/v1", {}, False),
        ("http://127.0.0.1.host/v1", {}, False),
        ("http://host/v1", {"key_env": None}, True),
        ("http://host/v1", {"allow_http": True}, True),
    ],
)
def test_a_key_leaves_this_machine_over_https_unless_that_is_allowed(url, more, allowed):
    settings = {"url": url, "model": "m", "key_env": "A_KEY"} | more
    if allowed:
        assert Rubric(**settings).url == url
    else:
        with pytest.raises(ValueError, match=r"over http others can read the key of A_KEY .*allow_http: true"):
            Rubric(**settings)


@pytest.mark.parametrize("url", ["http://host:99999/v1", "http://[::1/v1", "https://host:port/v1"])
def test_an_address_that_is_none_is_refused_with_the_recipe(url):
    with pytest.raises(ValueError, match="give an address like"):
        Rubric(url=url, model="m")


def test_a_run_goes_on_where_an_endpoint_broke_off(plain_run, tmp_path):
    root = shutil.copytree(plain_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors"))
    # `unanswered` and what else decides no verdict may differ between the two calls.
    spec = "{{name: grader, rubric: {{url: '{url}', model: m, retries: 0, concurrency: 1, stop_after: {most}}}}}"
    endpoint = Scripted(lambda number, _: completion() if number < 20 else (503, {}))
    with served(endpoint) as url:
        with pytest.raises(JudgeError, match="gave no verdict on 3 answers in a row"):
            rejudge(root, [spec.format(url=url, most=3)], Silent())
        assert len(endpoint.bodies) == 23
        endpoint.respond = lambda *_: completion()
        found = rejudge(root, [spec.format(url=url, most=4)], Silent())["judges"][0]
    assert (found["kept"], found["outcomes"]["unscored"], found["unscored"]) == (False, 0, {})
    texts = [_text(body) for body in endpoint.bodies]
    assert len(texts) == len(set(texts)) + 3  # those that failed were asked twice, and no other


def _text(body) -> str:
    return body["messages"][0]["content"]
