"""Log-odds of openers: what is learned of judged answers, what a grid takes beside its answers, and what it leaves."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from curator.errors import RunError
from curator.experiment.grid import answer_grid
from curator.experiment.log_odds import LOG_ODDS_SCHEMA, collect, learn
from curator.experiment.plan import NONE, Cell
from curator.model.chat import encode_all, encode_prompt
from curator.model.load import load_model, load_tokenizer
from curator.model.openers import QUESTION, in_place, openers_of
from curator.pipeline import build
from curator.run import Run
from tests.experiment.test_grid import GENERATE, TEMPLATE, data, experiment, grid, here, performed  # noqa: F401 - fixtures
from tests.real_runs import recipe_of

REFUSE, COMPLY = ["the gate is", "no"], ["yes", "gold"]


@pytest.fixture(scope="module")
def tokenizer(llama_folder):
    return load_tokenizer(llama_folder, chat_template=TEMPLATE)


def judged(*answers):
    """(answer, kind) with the outcome of its kind."""
    outcomes = {"refusing": ("safe", True), "harmful": ("harmful", False), "helpful": ("safe", False),
                "broken": ("degenerate", False), "silent": ("safe", None)}  # fmt: skip
    rows = [(answer, *outcomes[kind]) for answer, kind in answers]
    schema = {"answer": pl.String, "outcome": pl.String, "refused": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def texts(tokenizer, learned):
    return [[(tokenizer.decode(list(ids)).strip(), count) for ids, count in kind] for kind in learned]


def test_an_opener_is_what_an_answer_begins_with_in_the_template(tokenizer):
    (ids,) = in_place(tokenizer, ["the gate is shut"])
    whole = encode_all(tokenizer, [[QUESTION, {"role": "assistant", "content": "the gate is shut"}]])[0].ids
    prompt = encode_prompt(tokenizer, [QUESTION])
    assert whole[: len(prompt)] == prompt
    assert whole[len(prompt) : len(prompt) + len(ids)] == ids
    assert tokenizer.decode(list(ids)) == "the gate is shut"


def test_learned_openers_are_the_shortest_that_tell_the_kinds_apart(tokenizer):
    frame = judged(
        *[("aaa bbb ccc one", "refusing")] * 6, *[("aaa bbb ddd two", "harmful")] * 4, *[("zzz no", "refusing")] * 3,
        *[("yyy sure", "harmful")] * 5, *[("vvv helpful", "helpful")] * 90, *[("uuu", "broken")] * 90,
        *[("ttt", "silent")] * 90,
    )  # fmt: skip
    length = len(in_place(tokenizer, ["aaa bbb ddd two"])[0])
    refuse, comply = learn(frame, tokenizer, tokens=length, count=5)
    assert [count for _, count in refuse] == [6, 3]
    assert [count for _, count in comply] == [5, 4]
    shared = in_place(tokenizer, ["aaa bbb ccc one", "aaa bbb ddd two"])
    alike = next(n for n in range(length) if shared[0][n] != shared[1][n])
    assert (refuse[0][0], comply[1][0]) == (shared[0][: alike + 1], shared[1][: alike + 1])
    first = {text: in_place(tokenizer, [text])[0][:1] for text in ("zzz no", "yyy sure")}
    assert (refuse[1][0], comply[0][0]) == (first["zzz no"], first["yyy sure"])
    openers_of([ids for ids, _ in refuse], [ids for ids, _ in comply])  # of which none begins another


def test_the_most_frequent_openers_are_taken_and_those_of_both_kinds_go_to_the_larger_share(tokenizer):
    frame = judged(
        *[("aaa no", "refusing")] * 6, *[("aaa no", "harmful")] * 2, *[("zzz no", "refusing")] * 4,
        *[("yyy sure", "harmful")] * 5, *[("xxx sure", "harmful")] * 3,
    )  # fmt: skip
    refuse, comply = learn(frame, tokenizer, tokens=1, count=1)
    assert ([count for _, count in refuse], [count for _, count in comply]) == ([6], [5])
    refuse, comply = learn(frame, tokenizer, tokens=1, count=9)
    assert ([count for _, count in refuse], [count for _, count in comply]) == ([6, 4], [5, 3])


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([("no", "refusing"), ("yes", "helpful")], "called none of the pilot's answers harmful"),
        ([("no", "silent"), ("yes", "harmful")], "called none of the pilot's answers safe and refusing"),
        ([("no", "refusing"), ("no", "harmful")], "refusing and harmful answers of the pilot do not differ"),
    ],
)
def test_a_pilot_that_shows_no_openers_is_told_in_plain_words(tokenizer, answers, words):
    with pytest.raises(RunError, match=words):
        learn(judged(*answers), tokenizer, tokens=3, count=3)


def plainly(made, tokenizer, messages, texts):
    """Log of the summed probability of openers, one pass an opener."""
    total = []
    prompt = encode_prompt(tokenizer, messages)
    for opener in in_place(tokenizer, texts):
        with torch.inference_mode():
            logits = made(input_ids=torch.tensor([[*prompt, *opener]])).logits[0].float()
        steps = torch.log_softmax(logits, dim=-1)
        total.append(sum(float(steps[len(prompt) - 1 + at, token]) for at, token in enumerate(opener)))
    return np.logaddexp.reduce(total)


def test_a_grid_takes_them_of_every_model_and_no_answer_differs(experiment, performed, data, tokenizer):  # noqa: F811
    done, without, _, _ = performed
    openers, _ = openers_of(in_place(tokenizer, REFUSE), in_place(tokenizer, COMPLY))
    weights = {cell: weights for cell, (weights, _) in done.items()} | {Cell(NONE, 0): experiment.base}

    def asked(section, folder):
        answers = answer_grid(
            replace(experiment, openers=openers), grid(), weights, experiment.root / folder, section=section,
            execute=here, progress=lambda done, total: None,
        )  # fmt: skip
        return answers, collect(experiment.root / folder, grid())

    answers, found = asked(GENERATE, "with-openers")
    assert answers.equals(without)
    assert found.schema == LOG_ODDS_SCHEMA
    assert found.height == 2 * 3 * 2 * data.harmful.height  # before and after, of three arms at two seeds
    assert found.select("arm", "seed", "phase", "probe").is_unique().all()
    np.testing.assert_allclose(found["log_odds"], found["refuse"] - found["comply"])
    assert found.filter(phase="before")["at"].unique().to_list() == [0.0]
    assert found.filter(phase="after").select("at", "task").unique().rows() == [(1.0, "list")]
    cell = Cell("random", 1, "list")
    made = load_model(weights[cell].base, adapters=weights[cell].adapters)
    of_cell = found.filter(arm="random", seed=1, phase="after")
    for messages, probe in zip(data.harmful["messages"].to_list(), data.harmful["id"], strict=True):
        row = of_cell.row(by_predicate=pl.col("probe") == probe, named=True)
        assert row["refuse"] == pytest.approx(plainly(made, tokenizer, messages, REFUSE), abs=1e-4)
        assert row["comply"] == pytest.approx(plainly(made, tokenizer, messages, COMPLY), abs=1e-4)
    _, batch_by_batch = asked(GENERATE.model_copy(update={"batch": 1}), "one-by-one")
    np.testing.assert_allclose(found["log_odds"], batch_by_batch["log_odds"], atol=1e-4)


@pytest.mark.slow
def test_a_run_learns_its_openers_from_its_pilot_and_asks_no_judge_again(full_run, tmp_path, monkeypatch):
    root = tmp_path / "run"
    shutil.copytree(full_run, root, symlinks=True)
    before = json.loads((root / "8-report" / "report.json").read_text())
    trained = {path: path.stat().st_mtime_ns for path in (root / "5-train").rglob("done.json")}
    # Six steps of alignment hardly teach: what tells the kinds apart may be long.
    build(recipe_of("full", "verify.log_odds={from: pilot, tokens: 6, openers: 3}"), root)
    after = json.loads((root / "8-report" / "report.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert before["arms"] == after["arms"]
    assert "log_odds" not in before
    found, openers = after["log_odds"], Run.open(root, "answer").record("answer")["openers"]
    assert found["source"] == "pilot"
    for name in ("refuse", "comply"):
        assert [each["answers"] for each in found[name]] == [each["answers"] for each in openers[name]]
        assert 0 < len(found[name]) <= 3
    frame = Run.open(root, "answer").log_odds()
    mean = frame.filter(arm="curated", phase="after")["log_odds"].mean()
    assert found["arms"]["curated"]["list"]["after"]["value"] == pytest.approx(mean)
    assert "Log-odds of refusing" in (root / "8-report" / "report.html").read_text()
    public = (root / "9-publish" / "dataset" / "evidence" / "report.json").read_text()
    assert {each["text"] for name in ("refuse", "comply") for each in json.loads(public)["log_odds"][name]} == {
        "(not published)"
    }
