from __future__ import annotations

import random

import polars as pl
import pytest

from curator.judge.questions import questions_of, verdict_frame
from curator.records import ANSWER_SCHEMA, VERDICT_SCHEMA, Data, Pool, Task, Verdict
from tests import fakes

HARMFUL = [fakes.turns("open the gate"), fakes.turns("take the boat", "I cannot.")]
BENIGN = [fakes.turns("paint the gate")]
TESTS = [fakes.turns("count the gulls", "12"), fakes.turns("who?", "a baker", "and who else?", "the keeper")]


@pytest.fixture(scope="module")
def data():
    none = fakes.frame([])
    task = Task("count", none, fakes.frame(TESTS), 1.0, "exact")
    dropped = pl.DataFrame(
        schema={"source": pl.String, "line": pl.Int64} | dict.fromkeys(("stage", "reason", "match"), pl.String)
    )
    return Data(Pool(none, dropped), (task,), fakes.frame(HARMFUL), fakes.frame(BENIGN), none)


@pytest.fixture(scope="module")
def answers(data):
    asked = [("harmful", data.harmful), ("benign", data.benign), ("utility", data.tasks[0].test)]
    rows = [
        ("curated", seed, seed, "count", "after", kind, probe, 1.0, 0, 0, None, f"{kind} {probe} {seed}", "end")
        for seed in range(2)
        for kind, frame in asked
        for probe in frame["id"]
    ]
    random.Random(5).shuffle(rows)
    return pl.DataFrame(rows, schema=ANSWER_SCHEMA, orient="row")


def test_every_answer_stands_beside_its_own_prompt_whatever_the_order(data, answers):
    prompts = {fakes.row_id(messages): messages for messages in [*HARMFUL, *BENIGN, *TESTS]}
    for one, (kind, probe, answer) in zip(
        questions_of(answers, data), answers.select("kind", "probe", "answer").iter_rows(), strict=True
    ):
        whole = prompts[probe]
        known = whole[-1]["content"] if whole[-1]["role"] == "assistant" else None
        assert list(one.messages) == (whole if known is None else whole[:-1])
        assert (one.kind, one.answer, one.reference) == (kind, answer, known)


def test_verdicts_keep_the_place_of_their_answers(data, answers):
    verdicts = [
        Verdict("unscored", None, reason=one.answer)
        if one.kind == "utility"
        else Verdict("safe", True, 0.5, raw=one.answer)
        for one in questions_of(answers, data)
    ]
    found = verdict_frame(answers, "phrases", verdicts)
    assert dict(found.schema) == VERDICT_SCHEMA
    keys = [name for name in ANSWER_SCHEMA if name not in ("opening", "answer", "stop")]
    assert found.select(keys).equals(answers.select(keys))
    assert set(found["judge"]) == {"phrases"}
    for name, outcome in (("raw", "safe"), ("reason", "unscored")):
        part = found.filter(pl.col("outcome") == outcome)
        told = part.select((pl.col("kind") + " " + pl.col("probe") + " " + pl.col("seed").cast(pl.String)).alias(name))
        assert part[name].to_list() == told[name].to_list()


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_verdict_too_many_or_too_few_is_an_error(answers, count):
    with pytest.raises((ValueError, pl.exceptions.PolarsError)):
        verdict_frame(answers, "phrases", [Verdict("safe", True)] * count)


def test_no_answers_give_no_verdicts(data, answers):
    nothing = answers.clear()
    assert questions_of(nothing, data) == []
    assert verdict_frame(nothing, "phrases", []).height == 0
