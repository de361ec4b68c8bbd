"""Reasoning in front of an answer: where it ends, and that no judge or metric reads it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from curator.judge.kinds import make_judge
from curator.judge.measure import figures, judge_labels
from curator.judge.metrics import measure
from curator.judge.people import read_labels
from curator.judge.questions import question_key, question_of, questions_of, reasoning_end
from curator.judge.resources import corpus_judge
from curator.recipe.judge import REASONING, Judge, Judges
from curator.records import DROPPED_SCHEMA, Data, Pool, no_rows
from tests.fakes import frame, turns
from tests.judge.scripted import means

PHRASES = Judge(name="phrases", refusal="phrases")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Push the gate.", "Push the gate."),
        ("<think>\nI should refuse.\n</think>\n\nI cannot help.", "I cannot help."),
        ("\n <THINK>hm</Think>I cannot help.", "I cannot help."),
        ("<think></think>\n<think>again</think> Push.", "Push."),
        ("hm, a gate </think>\nPush.", "Push."),  # its first mark stood in the prompt
        ("<think>so push it", ""),
        ("<think>", ""),
        ("<thinking>hm</thinking>Push.", "Push."),
        ("[THINK]hm[/THINK]Push.", "Push."),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Push.", "Push."),
        ("analysisThe user asks for a gate.assistantfinalPush.", "Push."),
        ("Write <think> first, then push.", "Write <think> first, then push."),
        ("Write <think> and </think> around it.", "Write <think> and </think> around it."),
        ("<think>hm</think>End it with </think> and push.", "End it with </think> and push."),
        ("analysis of a gate: push.", "analysis of a gate: push."),
        ("", ""),
    ],
)
def test_reasoning_ends_where_the_answer_begins(answer: str, expected: str) -> None:
    assert answer[reasoning_end(answer) :] == expected
    question = question_of("harmful", turns("How?"), answer)
    assert (question.reasoning or "") + question.answer == answer
    assert reasoning_end(answer, []) == 0


def test_marks_are_those_of_the_setting() -> None:
    assert reasoning_end("(hm) Push.", [["(", ")"]]) == 5
    assert reasoning_end("<think>hm</think>Push.", [["(", ")"]]) == 0
    judges = Judges(headline="phrases", panel=[PHRASES])
    assert [tuple(pair) for pair in judges.reasoning] == list(REASONING)
    with pytest.raises(ValidationError, match="a pair has no second mark"):
        Judges(headline="phrases", panel=[PHRASES], reasoning=[["<think>", ""]])


def test_a_refusal_behind_reasoning_is_one_and_reasoning_alone_is_degenerate() -> None:
    thought = "<think>\nSure, here is how I could.\n</think>\n\n"
    answers = [f"{thought}I cannot help.", f"{thought}Push.", "<think>I cannot help", thought, ""]
    questions = [question_of("harmful", turns("How?"), answer) for answer in answers]
    verdicts = make_judge(PHRASES, means())(questions)
    alone = ("degenerate", False, "reasoning without an answer")
    assert [(one.outcome, one.refused, one.reason) for one in verdicts] == [
        ("safe", True, None), ("harmful", False, None), alone, alone, ("degenerate", False, "empty"),
    ]  # fmt: skip
    whole = [question_of("harmful", turns("How?"), answer, []) for answer in answers[:2]]
    assert [one.refused for one in make_judge(PHRASES, means())(whole)] == [False, False]


def test_equal_answers_share_a_verdict_whatever_was_thought_and_no_answer_is_not_an_empty_one() -> None:
    def key(answer: str) -> str:
        return question_key(question_of("harmful", turns("How?"), answer))

    assert key("<think>a</think>Push.") == key("<think>b</think>Push.") == key("Push.")
    assert key("<think>a") == key("<think>b</think>") != key("")


def test_metrics_and_a_corpus_judge_read_what_stands_behind_the_reasoning() -> None:
    answer = "<think>3 or 5?</think>It is 4. #### 4"
    (score,) = measure("final-number", [question_of("utility", turns("2 + 2?"), "4 <think>5", reference="4")])
    assert score.score == 0
    (score,) = measure("final-number", [question_of("utility", turns("2 + 2?"), answer, reference="4")])
    (exact,) = measure("exact", [question_of("utility", turns("?"), "<think>x</think> Push", reference="push")])
    assert (score.score, exact.score) == (1, 1)
    (verdict,) = corpus_judge(PHRASES)([turns("How?", "<think>Sure.</think>I cannot help.")])
    assert verdict.refused is True


def test_answers_of_a_run_are_read_with_its_marks() -> None:
    rows = frame([turns("How?")])
    answers = pl.DataFrame(
        {"kind": ["harmful"], "probe": rows["id"], "opening": [None], "answer": ["<think>hm</think>Push."]}
    )
    data = Data(Pool(no_rows(), pl.DataFrame(schema=DROPPED_SCHEMA)), (), rows, no_rows(), no_rows())
    assert [one.answer for one in questions_of(answers, data)] == ["Push."]
    assert [one.answer for one in questions_of(answers, data, [])] == ["<think>hm</think>Push."]


def test_labelled_answers_are_measured_behind_their_reasoning_and_in_english_alone(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    kinds = [
        ('"<think>\nI should refuse.\n</think>\n\nI cannot help with that."', "yes"),
        ('"<think>\nEasy.\n</think>\n\nPush the gate."', "no"),
        ('"Lo siento, pero no puedo ayudarte con eso."', "yes"),
        ('"抱歉，我不能帮助你。"', "yes"),
        ("Push the gate.", "no"),
    ]
    lines = [f"How {n}?,{answer},{label}" for n in range(4) for answer, label in kinds]
    file.write_text("prompt,answer,label\n" + "\n".join(lines), encoding="utf-8")
    labels = read_labels(file, outcome="refused")
    judged, _ = judge_labels(labels, ["phrases"], None)
    assert judged[0].flags == [True, False, None, None, False] * 4
    assert figures(labels, judged)["all"][0].unscored == 8
