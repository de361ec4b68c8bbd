from __future__ import annotations

import pytest

from curator.judge import questions as known
from curator.judge.questions import judged, question_key
from curator.records import Question, Verdict
from tests import fakes


def asked(count, *, kind="harmful", start=0):
    return [Question(kind, fakes.turns(f"prompt {i % 7}"), f"answer {i}", None) for i in range(start, start + count)]


class Counting:
    """A judge whose verdict tells what it was shown; it remembers every question, and may break down."""

    def __init__(self, breaks_after=None):
        self.seen, self.calls, self.left = [], 0, breaks_after

    def __call__(self, questions):
        if self.left is not None and self.calls == self.left:
            raise RuntimeError("the judge is gone")
        self.calls += 1
        self.seen += questions
        return [self.verdict(one) for one in questions]

    @staticmethod
    def verdict(one):
        if one.answer.endswith("3"):
            return Verdict("unscored", None, reason=f"{one.kind} {one.answer}", raw="?")
        return Verdict("safe", one.reference is None, score=0.5, raw=f"{one.kind} {one.messages[0]['content']}")


def quiet(done, total):
    pass


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(known, "CHUNK", 4)


def test_every_answer_has_its_own_verdict_in_order_and_equal_ones_are_asked_once(tmp_path):
    judge, questions = Counting(), asked(9)
    twice = [*questions, *reversed(questions)]
    assert judged(twice, judge, tmp_path, progress=quiet) == [Counting.verdict(one) for one in twice]
    assert sorted(map(question_key, judge.seen)) == sorted(map(question_key, questions))


def test_only_what_is_new_is_asked(tmp_path):
    judged(asked(9), Counting(), tmp_path, progress=quiet)
    judge = Counting()
    assert judged(asked(12), judge, tmp_path, progress=quiet) == [Counting.verdict(one) for one in asked(12)]
    assert {one.answer for one in judge.seen} == {"answer 9", "answer 10", "answer 11"}
    again = Counting()
    judged(asked(5, start=4), again, tmp_path, progress=quiet)
    assert again.calls == 0


def test_an_interrupted_judging_goes_on_after_its_last_whole_chunk(tmp_path):
    broken = Counting(breaks_after=2)
    with pytest.raises(RuntimeError, match="gone"):
        judged(asked(10), broken, tmp_path, progress=quiet)
    whole, rest = Counting(), Counting()
    expected = judged(asked(10), whole, tmp_path / "elsewhere", progress=quiet)
    assert judged(asked(10), rest, tmp_path, progress=quiet) == expected
    assert broken.seen + rest.seen == whole.seen
    assert len(rest.seen) == 2


def test_kind_prompt_answer_and_reference_each_make_another_question(tmp_path):
    first = Question("harmful", fakes.turns("a"), "b", None)
    others = [
        Question("benign", fakes.turns("a"), "b", None),
        Question("harmful", fakes.turns("a "), "b", None),
        Question("harmful", fakes.turns("a"), "b ", None),
        Question("harmful", fakes.turns("a"), "b", ""),
    ]
    judge = Counting()
    judged([first, *others], judge, tmp_path, progress=quiet)
    assert len(judge.seen) == 5


def test_progress_starts_from_what_is_known_and_ends_at_all(tmp_path):
    judged(asked(3), Counting(), tmp_path, progress=quiet)
    told = []
    judged([*asked(9), *asked(9)], Counting(), tmp_path, progress=lambda *now: told.append(now))
    assert told == [(3, 9), (7, 9), (9, 9)]


def test_no_answers_ask_nothing(tmp_path):
    judge = Counting()
    assert judged([], judge, tmp_path, progress=quiet) == []
    assert judge.calls == 0
